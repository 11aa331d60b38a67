//! Which coordinator, and what opens it.

use std::{fmt, path::PathBuf, str::FromStr};

use clap::Args;
use cloister_web::{ClientTls, Secret, Tokens};
use hyper::Uri;

/// The options that every client command has.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Coordinator")]
pub(super) struct Connection {
    /// Where the coordinator is
    #[arg(
        long,
        value_name = "URL",
        env = "CLOISTER_SERVER",
        default_value = "http://127.0.0.1:8000"
    )]
    pub(super) server: Server,
    /// A file with the authorities, in PEM, of which one must have signed the certificate of an https://
    /// coordinator; no other is trusted then [default: those that the system trusts]
    #[arg(long, value_name = "FILE", env = "CLOISTER_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// A file with the token to show, in its first line; CLOISTER_TOKEN may hold the token itself
    #[arg(long, value_name = "FILE", env = "CLOISTER_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// The token itself; other users of the machine can read it on a command line
    #[arg(long, value_name = "TOKEN", env = "CLOISTER_TOKEN", hide = true, hide_env_values = true)]
    token: Option<String>,
}

impl Connection {
    /// The token to show, if any. A file wins, as an option wins over the environment.
    pub(super) fn token(&self) -> Result<Option<Secret>, cloister_web::Error> {
        match (&self.token_file, &self.token) {
            (Some(path), _) => Tokens::read(Some(path), None).map(|tokens| tokens.first()),
            // An empty variable is how many tools say "none".
            (None, Some(token)) if token.is_empty() => Ok(None),
            (None, Some(token)) => Secret::new(token, "in CLOISTER_TOKEN").map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Who is trusted to be the coordinator, if it is reached by TLS.
    pub(super) fn tls(&self) -> Result<Option<ClientTls>, cloister_web::Error> {
        let https = self.server.0.starts_with("https://");
        https.then(|| ClientTls::load(self.ca_file.as_deref())).transpose()
    }
}

/// The address of a coordinator: `http://` or `https://`, a host, and where it is behind a proxy a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server(String);

impl Server {
    /// The address of something that it answers; `path` starts with a slash.
    pub(super) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "write it as http://127.0.0.1:8000";
        let uri: Uri = text.parse().map_err(|error| format!("is not a URL: {error}; {EXAMPLE}"))?;
        match uri.scheme_str() {
            Some("http" | "https") => {}
            Some(other) => return Err(format!("{other} is not a scheme known here; {EXAMPLE}")),
            None => return Err(format!("has no scheme; {EXAMPLE}")),
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err(
                "names a user; show a token instead, by CLOISTER_TOKEN or --token-file".into()
            );
        }
        if uri.host().is_none_or(str::is_empty) || uri.query().is_some() || text.contains('#') {
            return Err(format!("must be a scheme, a host and a port, no more; {EXAMPLE}"));
        }
        Ok(Self(text.trim_end_matches('/').into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_coordinators_are_read() {
        for (text, jobs) in [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000/jobs"),
            ("http://[::1]:8000/", "http://[::1]:8000/jobs"),
            ("http://example.org/cloister/", "http://example.org/cloister/jobs"),
            ("https://example.org", "https://example.org/jobs"),
        ] {
            assert_eq!(text.parse::<Server>().unwrap().at("/jobs"), jobs);
        }
    }

    #[test]
    fn what_is_no_address_of_a_coordinator_says_what_to_write() {
        for (text, reason) in [
            ("https://user@example.org", "CLOISTER_TOKEN"),
            ("127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("localhost", "has no scheme"),
            ("unix:/run/cloister", "http://127.0.0.1:8000"),
            ("ftp://example.org", "ftp is not a scheme"),
            ("http://user:secret@example.org", "CLOISTER_TOKEN"),
            ("http://example.org/?a=b", "no more"),
            ("http://example.org/#a", "no more"),
            ("", "http://127.0.0.1:8000"),
        ] {
            let error = text.parse::<Server>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
