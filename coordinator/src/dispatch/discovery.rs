//! Which runners there are: the operator's URLs, and what the names in them resolve to.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

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
    },
}

impl Source {
    /// Reads a runner's URL.
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let wrong = |reason| Error::RunnerUrl { url: url.into(), reason };
        let uri: Uri = url.trim().parse().map_err(|_| wrong("is not a URL"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(wrong("asks for TLS, which runners do not speak")),
            _ => return Err(wrong("does not start with http://")),
        }
        let authority = uri.authority().ok_or_else(|| wrong("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("holds credentials; they come from the token's file"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("has a path, and runners have none"));
        }
        let (host, port) = (authority.host(), authority.port_u16().unwrap_or(80));
        let bare = host.trim_matches(['[', ']']);
        if bare.is_empty() {
            return Err(wrong("names no host"));
        }
        // The addresses of `localhost` are one machine, and usually one runner on one of them.
        if bare.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost") {
            return Ok(Self::Fixed(format!("http://{host}:{port}").into()));
        }
        // An address in brackets may be within what is else no name.
        if !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
            return Err(wrong("names a host that is neither a name nor an address"));
        }
        let host = host.into();
        Ok(Self::Name { host, port })
    }
}

/// Lists the runners of a source, and for a name goes on to do so as its addresses change.
pub(crate) async fn discover(engine: Arc<Engine>, source: Source) {
    match source {
        Source::Fixed(runner) => list(&engine, &runner),
        Source::Name { host, port } => {
            let mut listed = BTreeSet::new();
            loop {
                resolve(&engine, &host, port, &mut listed).await;
                sleep(AGAIN).await;
            }
        }
    }
}

fn list(engine: &Arc<Engine>, runner: &RunnerName) {
    engine.apply(Event::Listed(runner.clone()));
    watch(engine, runner);
}

async fn resolve(engine: &Arc<Engine>, host: &str, port: u16, listed: &mut BTreeSet<RunnerName>) {
    let found: BTreeSet<RunnerName> = match lookup_host((host, port)).await {
        Ok(addresses) => {
            addresses.map(|address| RunnerName::from(format!("http://{address}"))).collect()
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
        let (host, port) = ("runner".to_owned(), 8080);
        assert_eq!(read("http://runner:8080"), Ok(Source::Name { host, port }));
        for wrong in [
            "",
            "runner:8080",
            "https://a",
            "http://",
            "http://a/execute",
            "http://a?b",
            "http://user:pass@a",
            "ftp://a",
            "http://127.[::1]:80",
            "http://[a]",
            "http://a%20b",
        ] {
            let error = Source::parse(wrong).unwrap_err().to_string();
            assert!(error.contains("http://HOST:PORT"), "{wrong}: {error}");
        }
    }
}
