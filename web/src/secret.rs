//! A token: read once, never shown, compared in constant time.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use axum::http::HeaderValue;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::Error;

/// Below this a token can be guessed.
const MIN_LENGTH: usize = 16;
/// A file longer than this is not a token, whatever it is.
const MAX_LENGTH: usize = 4096;

/// A bearer token.
#[derive(Clone)]
pub struct Secret {
    text: String,
    /// Comparing digests keeps even the token's length out of the time that a comparison takes.
    digest: [u8; 32],
}

impl Secret {
    /// A token with the white space around it removed. `origin` says where it came from, for the
    /// error, such as `in CLOISTER_TOKEN`.
    pub fn new(text: impl AsRef<str>, origin: &str) -> Result<Self, Error> {
        let text = text.as_ref().trim();
        let reason = if text.is_empty() {
            "is empty".into()
        } else if text.len() < MIN_LENGTH {
            format!("is shorter than {MIN_LENGTH} characters")
        } else if text.len() > MAX_LENGTH {
            format!("is longer than {MAX_LENGTH} characters")
        } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            "holds characters other than visible ASCII, which no Authorization header can carry"
                .into()
        } else {
            return Ok(Self { digest: Sha256::digest(text).into(), text: text.into() });
        };
        Err(Error::WeakToken { origin: origin.into(), reason })
    }

    /// Reads a token from a file that holds nothing else. A file that everybody on the machine can
    /// read is a warning in the log: in a container that may be as intended.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let failed = |cause| Error::TokenFile { path: path.into(), cause };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        let mode = metadata.permissions().mode();
        if mode & 0o004 != 0 {
            tracing::warn!(
                path = %path.display(),
                "everybody on this machine can read the token file; `chmod 600` mends it"
            );
        }
        let mut text = String::new();
        // One byte more than allowed tells "too long" from "just fits".
        file.take(MAX_LENGTH as u64 + 2).read_to_string(&mut text).map_err(failed)?;
        Self::new(text, &format!("in {}", path.display()))
    }

    /// Whether `presented` is this token. The time it takes tells nothing of either.
    pub fn matches(&self, presented: &[u8]) -> bool {
        let presented: [u8; 32] = Sha256::digest(presented).into();
        self.digest.ct_eq(&presented).into()
    }

    /// The header that shows this token to another service, marked so that it is not logged.
    pub fn authorization(&self) -> HeaderValue {
        let mut value = HeaderValue::try_from(format!("Bearer {}", self.text))
            .expect("visible ASCII is a header's value");
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs};

    use super::*;

    const TOKEN: &str = "correct-horse-battery-staple";

    #[test]
    fn it_matches_itself_alone_and_shows_nothing() {
        let secret = Secret::new(format!(" {TOKEN}\n"), "of the test").unwrap();
        assert!(secret.matches(TOKEN.as_bytes()));
        for other in
            ["", "correct", "correct-horse-battery-staplE", "correct-horse-battery-staple "]
        {
            assert!(!secret.matches(other.as_bytes()), "{other}");
        }
        let header = secret.authorization();
        assert_eq!(header.to_str().unwrap(), format!("Bearer {TOKEN}"));
        for shown in [format!("{secret:?}"), format!("{header:?}")] {
            assert!(!shown.contains("horse"), "{shown}");
        }
    }

    #[test]
    fn what_protects_nothing_is_refused_without_being_repeated() {
        for (text, reason) in [
            ("", "empty"),
            (" \n", "empty"),
            ("hunter2hunter2", "shorter"),
            ("a token with some spaces", "visible ASCII"),
            ("schlüssel-schlüssel", "visible ASCII"),
        ] {
            let error = Secret::new(text, "in CLOISTER_TOKEN").unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("CLOISTER_TOKEN"), "{error}");
            assert!(text.trim().is_empty() || !error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_file_is_read_up_to_a_bound() {
        let folder = env::temp_dir().join(format!("cloister-secret-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder).unwrap();
        let path = folder.join("token");
        let missing = Secret::from_file(&path).unwrap_err().to_string();
        assert!(missing.contains("token") && missing.contains("No such file"), "{missing}");
        // Whoever prints the causes too does not say it twice.
        assert!(std::error::Error::source(&Secret::from_file(&path).unwrap_err()).is_none());
        assert!(matches!(Secret::from_file(&folder), Err(Error::TokenFile { .. })));
        fs::write(&path, format!("{TOKEN}\n")).unwrap();
        assert!(Secret::from_file(&path).unwrap().matches(TOKEN.as_bytes()));
        fs::write(&path, "a".repeat(1 << 20)).unwrap();
        assert!(Secret::from_file(&path).unwrap_err().to_string().contains("longer"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
