//! An authority with its files, and what it signs.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::PathBuf,
};

use cloister_tests::Scratch;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// The user that a service becomes by itself.
pub(crate) const SERVICE: u32 = 61_840;

pub(crate) struct Office {
    folder: Scratch,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Office {
    pub(crate) fn new(name: &str) -> Self {
        let folder = Scratch::new("office");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
        Self { folder, authority }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The path as an argument.
    pub(crate) fn arg(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().into()
    }

    /// A new certificate for these names, with a new key, in place of those before; the options that
    /// name both.
    pub(crate) fn sign(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Vec<String> {
        let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        self.put("cert.pem", &certificate.pem());
        self.put("key.pem", &key.serialize_pem());
        ["--tls-cert", &self.arg("cert.pem"), "--tls-key", &self.arg("key.pem")]
            .map(String::from)
            .into()
    }

    /// Puts a file in the place of another in one step, as the docs say; the service's own user may
    /// read it, and nobody else.
    pub(crate) fn put(&self, name: &str, text: &str) -> String {
        let new = self.path("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&new, Some(SERVICE), None).unwrap();
        fs::rename(new, self.path(name)).unwrap();
        self.arg(name)
    }

    /// A file that everybody may read.
    pub(crate) fn put_public(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).unwrap();
        self.arg(name)
    }
}
