//! Ways in for the fuzz targets, which see only what is public; there in fuzzing builds alone. Each
//! takes whatever bytes come, and panics if something does not hold.

use http::{HeaderMap, HeaderValue, Uri};

use crate::{
    dispatch::{Line, Source, read_line},
    http::{idempotency_key, listed, read_token, token},
};

/// The query of `GET /jobs`, and on its own the token of a page.
pub fn query(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match read_token(text) {
        // There is one token for each job, so that nobody can tell it more than once.
        Ok(job) => assert_eq!(token(job), text),
        Err(problem) => assert!(problem.status == 400 && !problem.detail.is_empty()),
    }
    let Ok(uri) = format!("/jobs?{text}").parse::<Uri>() else { return };
    match listed(&uri) {
        Ok(query) => {
            assert!((1..=100).contains(&query.limit), "{query:?}");
            assert!(query.labels.len() <= 1, "{query:?}");
        }
        Err(problem) => assert!(problem.status == 400 && !problem.detail.is_empty()),
    }
}

/// The header `Idempotency-Key`, given once, or twice with a newline between.
pub fn key(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for value in data.splitn(2, |byte| *byte == b'\n') {
        let Ok(value) = HeaderValue::from_bytes(value) else { return };
        headers.append("idempotency-key", value);
    }
    match idempotency_key(&headers) {
        Ok(Some(key)) => {
            assert!(headers.len() == 1 && (1..=255).contains(&key.len()));
            assert_eq!(key.as_bytes(), data);
        }
        Ok(None) => panic!("a key that was given is none"),
        Err(problem) => assert!(problem.status == 400 && !problem.detail.is_empty()),
    }
}

/// A runner's URL, as in `RUNNER_URL`.
pub fn runner_url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Source::parse(text) {
        Ok(Source::Fixed(runner)) => {
            // It is called by this.
            let url = runner.to_string();
            let again = Source::parse(&url);
            assert_eq!(again.ok(), Some(Source::Fixed(runner)), "{text:?} became {url:?}");
        }
        Ok(Source::Name { host, port, tls }) => {
            assert!(!host.is_empty());
            let scheme = if tls { "https" } else { "http" };
            let again = Source::parse(&format!("{scheme}://{host}:{port}"));
            assert_eq!(again.ok(), Some(Source::Name { host, port, tls }), "{text:?}");
        }
        Err(error) => assert!(error.to_string().contains("http://HOST:PORT")),
    }
}

/// A line of a runner's answer.
pub fn line(data: &[u8]) {
    if let Ok(Line::Result(outcome)) = read_line(data) {
        assert!(outcome.status.ended());
    }
}
