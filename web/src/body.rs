//! Reads a JSON body within a size, a time and a share of memory.
//!
//! Four ways in which a body can hurt, and what is done:
//!
//! - **It is large.** A `Content-Length` above the limit is refused before a byte is read, and a
//!   chunked body as soon as it passes the limit. The server then lets the client finish speaking
//!   (see `connection`), so that it reads the `413` rather than a reset.
//! - **It is slow.** The time for a body is a fixed grace and, beyond it, as long as the bytes that
//!   came would take at a minimum rate. A client that sends a byte a second is told `408` when the
//!   grace is over, a large body over a modest line has the minutes that it needs. A limit on idle
//!   time between two reads was rejected: the byte-a-second client would never meet it.
//! - **There are many.** All bodies of a service share one allowance of memory, taken as bytes
//!   arrive rather than as they are promised, and held until the body is dropped, or what was made of
//!   it ([`RequestBody::into_share`]): beyond it `503`.
//! - **It stops in the middle.** `400`, if anybody is left to be told.

use std::{ops::Deref, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{
        HeaderMap,
        header::{CONTENT_ENCODING, CONTENT_TYPE},
    },
};
use cloister_api::{ByteSize, Kind, Problem};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

/// What memory is counted in: permits are taken by 32-bit counts, and bytes would need few more.
const UNIT: usize = 1024;

/// What a body may cost.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// The largest.
    pub size: ByteSize,
    /// How long any body may take.
    pub grace: Duration,
    /// Beyond that time, the least number of bytes a second.
    pub rate: u64,
    /// All bodies together.
    pub total: ByteSize,
}

impl Default for BodyLimits {
    /// 16 MiB each in 10 s or at 64 KiB a second, and 256 MiB together.
    fn default() -> Self {
        Self {
            size: ByteSize::mib(16),
            grace: Duration::from_secs(10),
            rate: 64 << 10,
            total: ByteSize::mib(256),
        }
    }
}

/// Reads bodies under limits that all its clones share.
#[derive(Clone, Debug)]
pub struct BodyReader {
    limits: BodyLimits,
    memory: Arc<Semaphore>,
}

impl BodyReader {
    /// With these limits.
    pub fn new(limits: BodyLimits) -> Self {
        let units = usize::try_from(limits.total.0).unwrap_or(usize::MAX) / UNIT;
        Self { limits, memory: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))) }
    }

    /// The whole body, if its headers say that it is JSON.
    pub async fn read(&self, headers: &HeaderMap, mut body: Body) -> Result<RequestBody, Problem> {
        check_type(headers)?;
        if body.size_hint().lower() > self.limits.size.0 {
            return Err(self.too_large());
        }
        let start = Instant::now();
        let mut read = RequestBody { bytes: Vec::new(), share: None };
        loop {
            let frame = match timeout_at(start + self.allowed(read.len()), body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return Err(broken(read.len(), &error)),
                Ok(None) => return Ok(read),
                Err(_) => return Err(self.too_slow(read.len(), start.elapsed())),
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if (read.len() + data.len()) as u64 > self.limits.size.0 {
                return Err(self.too_large());
            }
            self.charge(&mut read, data.len())?;
            read.bytes.extend_from_slice(&data);
        }
    }

    /// How long it may have taken until so many bytes have come.
    fn allowed(&self, bytes: usize) -> Duration {
        self.limits.grace
            + Duration::from_secs(1)
                * u32::try_from(bytes as u64 / self.limits.rate.max(1)).unwrap_or(u32::MAX)
    }

    /// Takes from the common memory what `more` bytes need.
    fn charge(&self, read: &mut RequestBody, more: usize) -> Result<(), Problem> {
        let held = read.share.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let needed = (read.len() + more).div_ceil(UNIT).saturating_sub(held);
        let busy = || {
            let detail =
                "the service holds as many request bodies as its memory allows; try again soon";
            Problem::new(Kind::Unavailable, detail).retry_after(1)
        };
        let units = u32::try_from(needed).map_err(|_| busy())?;
        let taken = Arc::clone(&self.memory).try_acquire_many_owned(units).map_err(|_| busy())?;
        match &mut read.share {
            Some(share) => share.merge(taken),
            share => *share = Some(taken),
        }
        Ok(())
    }

    fn too_large(&self) -> Problem {
        Problem::new(
            Kind::TooLarge,
            format!("the body is larger than the {} allowed", self.limits.size),
        )
    }

    fn too_slow(&self, bytes: usize, after: Duration) -> Problem {
        let detail = format!(
            "only {bytes} bytes of the body came within {:.1} s; it may take {} s, \
             and longer only at {} a second or more",
            after.as_secs_f64(),
            self.limits.grace.as_secs_f64(),
            ByteSize(self.limits.rate),
        );
        Problem::new(Kind::SlowBody, detail)
    }
}

impl Default for BodyReader {
    fn default() -> Self {
        Self::new(BodyLimits::default())
    }
}

/// A body, and its share of the memory that bodies may take.
#[derive(Debug)]
pub struct RequestBody {
    bytes: Vec<u8>,
    share: Option<OwnedSemaphorePermit>,
}

impl RequestBody {
    /// Forgets the body, and keeps its share for what was made of it.
    pub fn into_share(self) -> BodyShare {
        BodyShare(self.share)
    }
}

/// The share of a body that was read, given back when this is dropped.
#[derive(Debug)]
pub struct BodyShare(
    #[expect(dead_code, reason = "held to be dropped")] Option<OwnedSemaphorePermit>,
);

impl Deref for RequestBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Demands JSON, in plain UTF-8.
fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let refuse = |detail: String| Err(Problem::new(Kind::MediaType, detail));
    if let Some(coding) =
        headers.get(CONTENT_ENCODING).filter(|c| !c.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return refuse(format!("the body is encoded as {coding:?}; send it as it is"));
    }
    let Some(kind) = headers.get(CONTENT_TYPE) else {
        return refuse(
            "the header Content-Type is missing; send `Content-Type: application/json`".into(),
        );
    };
    let text = kind.to_str().unwrap_or_default();
    let mut parts = text.split(';').map(str::trim);
    let json = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    let utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    if json && utf8 {
        Ok(())
    } else {
        refuse(format!(
            "the Content-Type is {kind:?}; send `Content-Type: application/json`, in UTF-8"
        ))
    }
}

fn broken(bytes: usize, error: &axum::Error) -> Problem {
    Problem::new(Kind::Invalid, format!("the body broke off after {bytes} bytes: {error}"))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn json() -> HeaderMap {
        typed("application/json")
    }

    fn typed(kind: &str) -> HeaderMap {
        [(CONTENT_TYPE, HeaderValue::from_str(kind).unwrap())].into_iter().collect()
    }

    #[test]
    fn json_is_json_with_any_parameter() {
        for kind in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"; v=1",
        ] {
            assert!(check_type(&typed(kind)).is_ok(), "{kind}");
        }
        for kind in ["text/plain", "application/jsonp", "application/json; charset=latin1", ""] {
            assert_eq!(check_type(&typed(kind)).unwrap_err().status, 415, "{kind}");
        }
        assert_eq!(check_type(&HeaderMap::new()).unwrap_err().status, 415);
        let mut packed = json();
        packed.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert_eq!(check_type(&packed).unwrap_err().status, 415);
    }

    #[tokio::test]
    async fn bodies_share_memory_until_they_are_dropped() {
        let limits =
            BodyLimits { size: ByteSize(8192), total: ByteSize(10 << 10), ..BodyLimits::default() };
        let reader = BodyReader::new(limits);
        let read = |len: usize| {
            let reader = reader.clone();
            async move { reader.read(&json(), Body::from(vec![b' '; len])).await }
        };
        let first = read(8192).await.unwrap();
        assert_eq!(first.len(), 8192);
        let refused = read(2049).await.unwrap_err();
        assert_eq!((refused.status, refused.retry_after), (503, Some(1)));
        assert!(read(2048).await.is_ok());
        drop(first);
        assert!(read(8192).await.is_ok());
        assert_eq!(read(8193).await.unwrap_err().status, 413);
    }

    #[test]
    fn the_time_grows_with_what_came() {
        let reader = BodyReader::default();
        assert_eq!(reader.allowed(0), Duration::from_secs(10));
        assert_eq!(reader.allowed(100), Duration::from_secs(10));
        assert_eq!(reader.allowed(16 << 20), Duration::from_secs(266));
    }
}
