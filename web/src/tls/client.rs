//! Whom a client trusts.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{ClientConfig, RootCertStore};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

use super::{HTTP_1_1, certificates, provider, unusable};
use crate::{Error, Reload};

const AUTHORITIES: &str = "file of certificate authorities";

/// The authorities that are trusted, known to all clones, and read again when told to.
#[derive(Clone, Debug)]
pub struct ClientTls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: Option<PathBuf>,
    config: watch::Sender<Arc<ClientConfig>>,
}

impl ClientTls {
    /// Exactly those in the file, in PEM; without one, those that the system trusts
    /// (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others). Not a list that is built into the program:
    /// that would know neither an organisation's own authority nor what became of one since.
    pub fn load(file: Option<&Path>) -> Result<Self, Error> {
        let (config, _) = load(file)?;
        let config = watch::Sender::new(config);
        Ok(Self(Arc::new(Inner { file: file.map(Path::to_owned), config })))
    }

    /// For a connection that begins now.
    pub(super) fn connector(&self) -> TlsConnector {
        TlsConnector::from(Arc::clone(&self.0.config.borrow()))
    }

    /// For a connection that begins now and speaks something else than HTTP.
    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::clone(&self.0.config.borrow());
        config.alpn_protocols.clear();
        config
    }
}

impl Reload for ClientTls {
    fn files(&self) -> Vec<&Path> {
        self.0.file.as_deref().into_iter().collect()
    }

    fn reload(&self) -> Result<bool, Error> {
        let (config, authorities) = load(self.0.file.as_deref())?;
        self.0.config.send_replace(config);
        let path = self.0.file.as_ref().map(|path| path.display().to_string());
        tracing::info!(path, authorities, "the trusted authorities were read again");
        Ok(true)
    }
}

/// A configuration, and how many authorities are in it.
fn load(file: Option<&Path>) -> Result<(Arc<ClientConfig>, usize), Error> {
    let roots = match file {
        Some(path) => of_file(path)?,
        None => of_system()?,
    };
    let count = roots.len();
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Roots(error.to_string()))?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![HTTP_1_1.into()];
    Ok((Arc::new(config), count))
}

fn of_file(path: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for (at, certificate) in certificates(path, AUTHORITIES)?.into_iter().enumerate() {
        roots.add(certificate).map_err(|error| {
            unusable(
                path,
                AUTHORITIES,
                format!("its certificate {} is not usable: {error}", at + 1),
            )
        })?;
    }
    Ok(roots)
}

fn of_system() -> Result<RootCertStore, Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A system's store may hold a few that are older than today's rules; the others still count.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(|| "it has none".into(), ToString::to_string);
        return Err(Error::Roots(why));
    }
    Ok(roots)
}
