//! Where the database is.

use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};

use super::super::{StoreError, error::without_secrets};

/// The ways of libpq to ask for an encrypted connection, that it insists on.
const ENCRYPTED: [&str; 3] = ["require", "verify-ca", "verify-full"];

/// A database by its URL.
pub(super) struct Address {
    pub(super) config: Config,
    /// Host and database, without user and password.
    pub(super) store: String,
}

impl Address {
    /// Reads `postgres://USER:PASSWORD@HOST:PORT/DATABASE?OPTION=VALUE`, as libpq does.
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        let unfit = |why: String| StoreError::Unfit { store: without_secrets(url), why };
        let options = url.split_once('?').map_or("", |(_, options)| options);
        let asks =
            |option: &str| option.strip_prefix("sslmode=").is_some_and(|m| ENCRYPTED.contains(&m));
        let encrypted = || {
            "sslmode asks for an encrypted connection, which this program does not make to a \
             database yet; let the network between them be trusted and say sslmode=disable"
        };
        if options.split('&').any(asks) {
            return Err(unfit(encrypted().into()));
        }
        let config: Config = url.parse().map_err(|e| unfit(super::connect::words(&e)))?;
        if config.get_ssl_mode() == SslMode::Require {
            return Err(unfit(encrypted().into()));
        }
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(unfit("it names no host; write postgres://USER@HOST/DATABASE".into()));
        }
        Ok(Self { store: name(&config), config })
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
    fn what_cannot_be_used_is_told_without_the_password() {
        for (url, why) in [
            ("postgres://me:secret@db/jobs?sslmode=require", "encrypted"),
            ("postgres://me:secret@db/jobs?a=b&sslmode=verify-full", "encrypted"),
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
