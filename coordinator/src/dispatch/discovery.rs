//! Which runners there are: the operator's URLs, and what the names in them resolve to.
//!
//! A runner at one of the addresses of a name is `http://ADDRESS:PORT`, and by TLS
//! `https://NAME@ADDRESS:PORT`: its certificate is for the name (see [`cloister_web::Connector`]).
//! That whole string is what attempts are recorded with, so that a coordinator that starts anew can
//! ask such a runner before, and also without, finding it by its name again.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use cloister_web::{Tokens, can_be_certified};
use http::Uri;
use tokio::{net::lookup_host, time::sleep};

use super::health::watch;
use crate::{
    Error,
    engine::Engine,
    scheduler::{Event, RunnerName},
};

/// How often a name is resolved again.
const AGAIN: Duration = Duration::from_secs(3);

/// Where runners are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Exactly one.
    Fixed(RunnerName),
    /// One for each address of a name.
    Name {
        /// The name.
        host: String,
        /// The port, the same at each address.
        port: u16,
        /// Whether they speak TLS, and show a certificate for the name.
        tls: bool,
    },
}

impl Source {
    /// Reads a runner's URL.
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let wrong = |reason| Error::RunnerUrl { url: url.into(), reason };
        let uri: Uri = url.trim().parse().map_err(|_| wrong("is not a URL"))?;
        let (tls, scheme, usual_port) = match uri.scheme_str() {
            Some("http") => (false, "http", 80),
            Some("https") => (true, "https", 443),
            _ => return Err(wrong("does not start with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("holds credentials; they come from the token's file"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("has a path, and runners have none"));
        }
        let (host, port) = (authority.host(), authority.port_u16().unwrap_or(usual_port));
        // Only a whole pair stands around an address: what else has brackets is no host.
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let bare = bracketed.unwrap_or(host);
        if bare.is_empty() {
            return Err(wrong("names no host"));
        }
        // The addresses of `localhost` are one machine, and usually one runner on one of them.
        if bare.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost") {
            return Ok(Self::Fixed(format!("{scheme}://{host}:{port}").into()));
        }
        // An address in brackets may be within what is else no name.
        if !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
            return Err(wrong("names a host that is neither a name nor an address"));
        }
        if tls && !can_be_certified(host) {
            return Err(wrong("names a host that no certificate can be for"));
        }
        let host = host.into();
        Ok(Self::Name { host, port, tls })
    }

    /// Whether what is said to them can be read on the way.
    fn in_clear(&self) -> bool {
        match self {
            Self::Fixed(runner) => {
                let authority = runner.strip_prefix("http://").unwrap_or_default();
                let host = authority.rsplit_once(':').map_or("", |(host, _)| host);
                let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
                !host.is_empty()
                    && !host.eq_ignore_ascii_case("localhost")
                    && !address.is_ok_and(|address| address.to_canonical().is_loopback())
            }
            Self::Name { tls, .. } => !tls,
        }
    }
}

/// Warns, once at the start, of a token that whoever sees the network can read.
pub(crate) fn warn_of_clear_tokens(sources: &[Source], tokens: &Tokens) {
    for source in sources.iter().filter(|source| source.in_clear() && !tokens.is_empty()) {
        let runner = match source {
            Source::Fixed(runner) => runner.to_string(),
            Source::Name { host, port, .. } => format!("http://{host}:{port}"),
        };
        tracing::warn!(
            runner,
            "the runners' token travels to {runner} in clear: whoever sees the network can read and \
             use it; an https:// URL encrypts (--tls-cert and --tls-key at the runner)"
        );
    }
}

/// Lists the runners of a source, and for a name goes on to do so as its addresses change.
pub(crate) async fn discover(engine: Arc<Engine>, source: Source) {
    match source {
        Source::Fixed(runner) => list(&engine, &runner),
        Source::Name { host, port, tls } => {
            let mut listed = BTreeSet::new();
            loop {
                resolve(&engine, &host, port, tls, &mut listed).await;
                sleep(AGAIN).await;
            }
        }
    }
}

fn list(engine: &Arc<Engine>, runner: &RunnerName) {
    engine.apply(Event::Listed(runner.clone()));
    watch(engine, runner);
}

async fn resolve(
    engine: &Arc<Engine>,
    host: &str,
    port: u16,
    tls: bool,
    listed: &mut BTreeSet<RunnerName>,
) {
    let at = if tls { format!("https://{host}@") } else { "http://".to_owned() };
    let found: BTreeSet<RunnerName> = match lookup_host((host, port)).await {
        Ok(addresses) => {
            addresses.map(|address| RunnerName::from(format!("{at}{address}"))).collect()
        }
        Err(error) => {
            // The name server's trouble is not the runners': those that are known stay.
            let why = format!("the runners' name {host} can't be resolved: {error}");
            engine.name_failed(host, Some(why));
            return;
        }
    };
    engine.name_failed(host, None);
    for runner in found.difference(listed) {
        tracing::info!(%runner, name = host, "runner found");
        list(engine, runner);
    }
    for runner in listed.difference(&found) {
        tracing::info!(%runner, name = host, "runner left its name; it finishes what it has");
        engine.apply(Event::Unlisted(runner.clone()));
    }
    *listed = found;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_strictly() {
        let fixed = |url| Ok::<_, ()>(Source::Fixed(RunnerName::from(url)));
        let read = |url: &str| Source::parse(url).map_err(drop);
        assert_eq!(read("http://127.0.0.1:8080"), fixed("http://127.0.0.1:8080"));
        assert_eq!(read("http://[::1]:8080/"), fixed("http://[::1]:8080"));
        assert_eq!(read(" http://localhost"), fixed("http://localhost:80"));
        assert_eq!(read("https://10.1.2.3"), fixed("https://10.1.2.3:443"));
        for (url, tls) in [("http://runner:8080", false), ("https://runner:8080", true)] {
            let (host, port) = ("runner".to_owned(), 8080);
            assert_eq!(read(url), Ok(Source::Name { host, port, tls }));
        }
        for wrong in [
            "",
            "runner:8080",
            "https://a..b",
            "https://name@a",
            "http://",
            "http://a/execute",
            "http://a?b",
            "http://user:pass@a",
            "ftp://a",
            "http://127.[::1]:80",
            "http://127.0.0.1[::1]",
            "http://[a]",
            "http://a%20b",
        ] {
            let error = Source::parse(wrong).unwrap_err().to_string();
            assert!(error.contains("http://HOST:PORT"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_token_in_clear_is_noticed_beyond_loopback_alone() {
        for (url, clear) in [
            ("http://runner:8080", true),
            ("http://10.1.2.3:8080", true),
            ("http://[2001:db8::1]:8080", true),
            ("http://127.0.0.1:8080", false),
            ("http://[::1]:8080", false),
            ("http://localhost:8080", false),
            ("https://runner:8080", false),
            ("https://10.1.2.3:8080", false),
        ] {
            assert_eq!(Source::parse(url).unwrap().in_clear(), clear, "{url}");
        }
    }
}
