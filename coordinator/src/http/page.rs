//! The token by which the next page of a list is asked for: opaque to clients, with a version, so
//! that what is in it can change.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use cloister_api::{Kind, Problem};
use uuid::Uuid;

/// Followed by the last job of the page before.
const VERSION: u8 = 1;

/// The token of the page after this job.
pub(crate) fn token(last: Uuid) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(last.as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The job after which the page starts.
pub(crate) fn read(token: &str) -> Result<Uuid, Problem> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok();
    bytes
        .as_deref()
        .and_then(|bytes| bytes.strip_prefix(&[VERSION]))
        .and_then(|id| Uuid::from_slice(id).ok())
        .ok_or_else(|| {
            let detail = "the query parameter \"next\" is not a token that a list answered";
            Problem::new(Kind::Invalid, detail)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_nothing_else_does() {
        let id = Uuid::from_u128(u128::MAX / 3);
        assert_eq!(read(&token(id)), Ok(id));
        let other_version = BASE64_URL_SAFE_NO_PAD.encode([2; 17]);
        for bad in ["", "x", "AQ", &id.to_string(), &other_version, &(token(id) + "AA")] {
            assert_eq!(read(bad).unwrap_err().status, 400, "{bad}");
        }
    }
}
