//! A token: read once, never shown, compared in constant time.

use std::fmt;

use axum::http::HeaderValue;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::Error;

/// Which token it was, for a log: too short to tell the token by, and not of the token's own digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 4]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

/// What is compared in place of the token that was presented.
pub(crate) fn digest(presented: &[u8]) -> [u8; 32] {
    Sha256::digest(presented).into()
}

/// Below this a token can be guessed.
const MIN_LENGTH: usize = 16;
/// Beyond this it is not a token, whatever it is.
pub(crate) const MAX_LENGTH: usize = 4096;

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
            return Ok(Self { digest: digest(text.as_bytes()), text: text.into() });
        };
        Err(Error::WeakToken { origin: origin.into(), reason })
    }

    /// Whether `presented` is this token. The time it takes tells nothing of either.
    pub fn matches(&self, presented: &[u8]) -> bool {
        self.has_digest(&digest(presented))
    }

    /// The same for the [`digest`] of what was presented, where it is compared with many.
    pub(crate) fn has_digest(&self, presented: &[u8; 32]) -> bool {
        self.digest.ct_eq(presented).into()
    }

    /// By what this token is called in the log.
    pub fn fingerprint(&self) -> Fingerprint {
        let hash = Sha256::new().chain_update(b"cloister-audit:").chain_update(&self.text);
        let mut short = [0; 4];
        short.copy_from_slice(&hash.finalize()[..4]);
        Fingerprint(short)
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
    fn a_fingerprint_is_short_and_of_this_use_alone() {
        let print = Secret::new(TOKEN, "of the test").unwrap().fingerprint().to_string();
        // `printf cloister-audit:correct-horse-battery-staple | sha256sum | head -c 8`
        assert_eq!(print, "bfdc3ad1");
        let other = Secret::new(format!("{TOKEN}-2"), "of the test").unwrap();
        assert_ne!(print, other.fingerprint().to_string());
    }
}
