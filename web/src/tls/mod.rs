//! TLS on both sides: what a server shows (`server`), whom a client trusts (`client`), and the
//! connections that clients make (`connect`).
//!
//! rustls with ring: no C library's configuration decides what is negotiated. TLS 1.2 and 1.3 with
//! rustls's own choice of suites, and no switch to weaken it. HTTP/1.1 is all that is spoken, and so
//! all that ALPN offers. Each configuration is made as a whole, and exchanged as a whole when its files
//! are read again: connections keep the one that they began with, and no session of an old one is
//! resumed under a new one.

mod client;
mod connect;
mod server;

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    sync::Arc,
};

use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, pem, pem::PemObject},
};

pub use self::{
    client::ClientTls,
    connect::{Connector, Stream, Untrusted},
    server::ServerTls,
};
use crate::Error;

/// A bundle of every authority that the web knows is a quarter of this.
const MAX_FILE: u64 = 1 << 20;
const HTTP_1_1: &[u8] = b"http/1.1";

/// Whether a certificate can be for this host: a name or an address.
pub fn can_be_certified(host: &str) -> bool {
    ServerName::try_from(host).is_ok()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Reads a file of PEM.
fn read(path: &Path, what: &'static str) -> Result<Vec<u8>, Error> {
    let failed = |cause: io::Error| unusable(path, what, cause.to_string());
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(unusable(path, what, format!("it is longer than {MAX_FILE} bytes")));
    }
    Ok(bytes)
}

/// The certificates in a file, at least one.
fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bytes = read(path, what)?;
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| unusable(path, what, error.to_string()))?;
    if found.is_empty() {
        let reason = "it holds no certificate in PEM (-----BEGIN CERTIFICATE-----)";
        return Err(unusable(path, what, reason));
    }
    Ok(found)
}

fn unusable(path: &Path, what: &'static str, reason: impl Into<String>) -> Error {
    Error::TlsFile { what, path: path.into(), reason: reason.into() }
}
