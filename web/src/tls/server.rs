//! What a server shows: its certificate, and the proof that it has the key.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, pem, pem::PemObject},
};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::{HTTP_1_1, certificates, provider, read, unusable};
use crate::{Error, Reload};

const CERTIFICATE: &str = "TLS certificate";
const KEY: &str = "TLS key";

/// A certificate with its key, known to all clones, and read again from their files when told to.
#[derive(Clone, Debug)]
pub struct ServerTls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    certificate: PathBuf,
    key: PathBuf,
    config: watch::Sender<Arc<ServerConfig>>,
}

impl ServerTls {
    /// Of a file with the certificate and those between it and its authority, and a file with the
    /// key, both in PEM. A key that belongs to another certificate is refused.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let (config, _) = load(certificate, key)?;
        Ok(Self(Arc::new(Inner {
            certificate: certificate.into(),
            key: key.into(),
            config: watch::Sender::new(config),
        })))
    }

    /// For a connection that begins now.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0.config.borrow()))
    }
}

impl Reload for ServerTls {
    fn files(&self) -> Vec<&Path> {
        vec![&self.0.certificate, &self.0.key]
    }

    fn reload(&self) -> Result<bool, Error> {
        let (config, sha256) = load(&self.0.certificate, &self.0.key)?;
        self.0.config.send_replace(config);
        let path = self.0.certificate.display();
        tracing::info!(%path, sha256, "the TLS certificate and its key were read again");
        Ok(true)
    }
}

/// A configuration, and the certificate's SHA-256 as `openssl x509 -fingerprint -sha256` has it, without colons.
fn load(certificate: &Path, key_file: &Path) -> Result<(Arc<ServerConfig>, String), Error> {
    let chain = certificates(certificate, CERTIFICATE)?;
    let sha256 = format!("{:x}", Bytes::copy_from_slice(&Sha256::digest(&chain[0])));
    let key = PrivateKeyDer::from_pem_slice(&read(key_file, KEY)?).map_err(|error| {
        unusable(
            key_file,
            KEY,
            match error {
                pem::Error::NoItemsFound => {
                    "it holds no key in PEM that is not encrypted (-----BEGIN PRIVATE KEY-----)"
                        .into()
                }
                // Not its own words: some quote what they could not read.
                _ => "it is not PEM".to_owned(),
            },
        )
    })?;
    if fs::metadata(key_file).is_ok_and(|file| file.permissions().mode() & 0o004 != 0) {
        tracing::warn!(
            path = %key_file.display(),
            "everybody on this machine can read the TLS key; `chmod 600` mends it"
        );
    }
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
    let mut config = config.map_err(|error| {
        let reason = match error {
            rustls::Error::InconsistentKeys(_) => format!(
                "the key in {} belongs to another certificate; a reload finds both in place only \
                 after both were replaced",
                key_file.display()
            ),
            other => other.to_string(),
        };
        unusable(certificate, CERTIFICATE, reason)
    })?;
    config.alpn_protocols = vec![HTTP_1_1.into()];
    Ok((Arc::new(config), sha256))
}
