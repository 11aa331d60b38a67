//! Plain HTTP and HTTPS, every status an answer.

use std::{collections::BTreeMap, fs, io::Read, path::Path, sync::Arc, time::Duration};

use serde_json::Value;
use ureq::{
    Agent, http,
    tls::{Certificate, RootCerts, TlsConfig, TlsProvider},
};

/// Speaks to one service.
#[derive(Clone)]
pub struct Client {
    base: String,
    agent: Agent,
}

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: http::HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// What `/metrics` says, by name with labels.
    pub fn samples(&self) -> BTreeMap<String, f64> {
        samples(&self.text())
    }

    /// A header, or the empty string.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Client {
    /// Of the service at `http://HOST:PORT`.
    pub fn new(base: impl Into<String>) -> Self {
        Self::with(base, TlsConfig::default())
    }

    /// Of the service at `https://HOST:PORT`, whose certificate the authority in this file signed.
    pub fn trusting(base: impl Into<String>, authority: &Path) -> Self {
        let authority = fs::read(authority).expect("the authority's file can be read");
        let authority = Certificate::from_pem(&authority).expect("it holds a certificate");
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(RootCerts::new_with_certs(&[authority]));
        Self::with(base, tls.build())
    }

    fn with(base: impl Into<String>, tls: TlsConfig) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(120)))
            .tls_config(tls)
            .build();
        Self { base: base.into(), agent: config.into() }
    }

    /// The same service, over connections of its own.
    #[must_use]
    pub fn anew(&self) -> Self {
        Self { base: self.base.clone(), agent: self.agent.config().clone().into() }
    }

    /// Its address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// GET.
    pub fn get(&self, path: &str) -> Response {
        self.try_get(path).expect("the service answers")
    }

    /// GET, where nobody may be there.
    pub fn try_get(&self, path: &str) -> Result<Response, ureq::Error> {
        read(self.agent.get(format!("{}{path}", self.base)).call())
    }

    /// GET with these headers.
    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        let request = self.agent.get(format!("{}{path}", self.base));
        let request = headers.iter().fold(request, |r, (name, value)| r.header(*name, *value));
        read(request.call()).expect("the service answers")
    }

    /// DELETE.
    pub fn delete(&self, path: &str) -> Response {
        read(self.agent.delete(format!("{}{path}", self.base)).call()).expect("the service answers")
    }

    /// DELETE with these headers.
    pub fn delete_with(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        let request = self.agent.delete(format!("{}{path}", self.base));
        let request = headers.iter().fold(request, |r, (name, value)| r.header(*name, *value));
        read(request.call()).expect("the service answers")
    }

    /// POST with a JSON body.
    pub fn post(&self, path: &str, body: &Value) -> Response {
        self.post_with(path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }

    /// POST with these headers and this body.
    pub fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.try_post(path, headers, body).expect("the service answers")
    }

    /// POST, where nobody may be there.
    pub fn try_post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response, ureq::Error> {
        let request = self.agent.post(format!("{}{path}", self.base));
        let request = headers.iter().fold(request, |r, (name, value)| r.header(*name, *value));
        read(request.send(body))
    }
}

/// The samples in Prometheus' text format, by name with labels.
pub(crate) fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.rsplit_once(' '));
    pairs.filter_map(|(name, value)| Some((name.into(), value.parse().ok()?))).collect()
}

fn read(result: Result<http::Response<ureq::Body>, ureq::Error>) -> Result<Response, ureq::Error> {
    let (parts, body) = result?.into_parts();
    let mut bytes = Vec::new();
    body.into_reader().read_to_end(&mut bytes)?;
    Ok(Response { status: parts.status.as_u16(), headers: parts.headers, body: bytes })
}
