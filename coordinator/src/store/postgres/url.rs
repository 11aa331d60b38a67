//! Where the database is.

use std::net::IpAddr;

use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};

use super::super::{StoreError, error::without_secrets};

/// The ways of libpq to insist on an encrypted connection. Here all of them have the server show a
/// certificate that is trusted and for its host: without that, whoever is in between reads along.
const ENCRYPTED: [&str; 3] = ["require", "verify-ca", "verify-full"];

/// A database by its URL.
pub(super) struct Address {
    pub(super) config: Config,
    /// Host and database, without user and password.
    pub(super) store: String,
    /// Whether it is reached by TLS, and not at all otherwise.
    pub(super) encrypted: bool,
}

impl Address {
    /// Reads `postgres://USER:PASSWORD@HOST:PORT/DATABASE?OPTION=VALUE`, as libpq does.
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        let unfit = |why: String| StoreError::Unfit { store: without_secrets(url), why };
        let (place, options) = url.split_once('?').unwrap_or((url, ""));
        let mode = |option: &&str| option.starts_with("sslmode=");
        let (modes, others): (Vec<_>, Vec<_>) = options.split('&').partition(mode);
        let encrypted = modes.iter().any(|mode| ENCRYPTED.contains(&&mode["sslmode=".len()..]));
        // The driver knows fewer ways than libpq, and those that do not insist are in clear here.
        let mut known = others;
        if !encrypted {
            known.extend(modes);
        }
        let parsed: Result<Config, _> = format!("{place}?{}", known.join("&")).parse();
        let mut config = parsed.map_err(|e| unfit(super::connect::words(&e)))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(unfit("it names no host; write postgres://USER@HOST/DATABASE".into()));
        }
        config.ssl_mode(if encrypted { SslMode::Require } else { SslMode::Disable });
        Ok(Self { store: name(&config), config, encrypted })
    }

    /// Whether others than this machine may read along.
    pub(super) fn is_exposed(&self) -> bool {
        let local = |name: &String| {
            name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
        };
        let far = |host: &Host| matches!(host, Host::Tcp(name) if !local(name));
        let addresses = self.config.get_hostaddrs();
        let far = self.config.get_hosts().iter().any(far) && addresses.is_empty()
            || addresses.iter().any(|address| !address.is_loopback());
        far && !self.encrypted
    }
}

fn name(config: &Config) -> String {
    let ports = config.get_ports();
    let host = |(at, host): (usize, &Host)| {
        let host = match host {
            Host::Tcp(name) if name.contains(':') => format!("[{name}]"),
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        };
        // One port is for all hosts.
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        format!("{host}:{port}")
    };
    let mut hosts: Vec<_> = config.get_hosts().iter().enumerate().map(host).collect();
    if hosts.is_empty() {
        hosts.extend(config.get_hostaddrs().iter().map(ToString::to_string));
    }
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("postgres://{}/{database}", hosts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_named_by_host_and_database() {
        for (url, store) in [
            ("postgres://me:secret@db:5433/jobs", "postgres://db:5433/jobs"),
            ("postgresql://me:secret@db", "postgres://db:5432/me"),
            (
                "postgres://me@a:1,b:2/jobs?target_session_attrs=read-write",
                "postgres://a:1,b:2/jobs",
            ),
            ("postgres://me@%2Frun%2Fpg/jobs?password=secret", "postgres:///run/pg:5432/jobs"),
            ("postgres://me@[::1]/jobs?sslmode=prefer", "postgres://[::1]:5432/jobs"),
        ] {
            assert_eq!(Address::parse(url).unwrap().store, store);
        }
    }

    #[test]
    fn who_insists_on_encryption_gets_it_or_nothing() {
        for (options, encrypted) in [
            ("", false),
            ("?sslmode=disable", false),
            ("?sslmode=prefer", false),
            ("?sslmode=require", true),
            ("?application_name=a&sslmode=verify-full&connect_timeout=3", true),
            ("?sslmode=verify-ca", true),
        ] {
            let url = format!("postgres://me:secret@db/jobs{options}");
            let address = Address::parse(&url).unwrap();
            assert_eq!(address.encrypted, encrypted, "{options}");
            let mode = if encrypted { SslMode::Require } else { SslMode::Disable };
            assert_eq!(address.config.get_ssl_mode(), mode, "{options}");
            assert_eq!(address.is_exposed(), !encrypted, "{options}");
        }
        for local in ["localhost", "127.0.0.1", "[::1]", "%2Frun%2Fpg", "db?hostaddr=127.0.0.1"] {
            let separator = if local.contains('?') { "&dbname=jobs" } else { "/jobs" };
            let url = format!("postgres://me@{local}{separator}");
            assert!(!Address::parse(&url).unwrap().is_exposed(), "{url}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_told_without_the_password() {
        for (url, why) in [
            ("postgres://me:secret@db/jobs?sslmode=verify", "sslmode"),
            ("postgres://me:secret@db:port/jobs", "port"),
            ("postgres://me:secret@db/jobs?nosuch=1", "nosuch"),
            ("postgres:///jobs?user=me&password=secret", "no host"),
        ] {
            let error = Address::parse(url).err().unwrap().to_string();
            assert!(error.contains(why), "{error}");
            assert!(!error.contains("secret") && error.contains("postgres:"), "{error}");
        }
    }
}
