//! Errors on the wire: `application/problem+json` (RFC 9457).

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of problem: the `type` of the document (a stable URN that programs may compare), its
/// title and its HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The body or the query is malformed or out of range.
    Invalid,
    /// No credentials, or wrong ones.
    Unauthorized,
    /// A page of a stranger's site, or a name that is not ours (`Host`, `Origin`).
    Forbidden,
    /// Nothing under that address.
    NotFound,
    /// The address exists, the method does not.
    MethodNotAllowed,
    /// It comes from a term that is over.
    Conflict,
    /// It was meant for an earlier life of this service.
    OtherBoot,
    /// The client was too slow with its body.
    SlowBody,
    /// The body is larger than allowed.
    TooLarge,
    /// The body is not JSON by its `Content-Type`.
    MediaType,
    /// The same `Idempotency-Key` or `execution_id` with another body.
    KeyReused,
    /// A quota or a rate is used up.
    TooMany,
    /// Our own fault.
    Internal,
    /// Draining, no room in the queue, or no free slot: come again.
    Unavailable,
}

impl Kind {
    const fn parts(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::Invalid => (400, "invalid-request", "The request is not valid"),
            Self::Unauthorized => (401, "unauthorized", "Credentials are missing or wrong"),
            Self::Forbidden => (403, "forbidden", "This origin may not call this service"),
            Self::NotFound => (404, "not-found", "There is nothing here"),
            Self::MethodNotAllowed => {
                (405, "method-not-allowed", "This method is not offered here")
            }
            Self::Conflict => (409, "conflict", "The request comes from a term that is over"),
            Self::SlowBody => (408, "slow-body", "The body took too long to arrive"),
            Self::OtherBoot => (412, "other-boot", "This service was restarted"),
            Self::TooLarge => (413, "too-large", "The body is too large"),
            Self::MediaType => (415, "media-type", "The body must be application/json"),
            Self::KeyReused => (422, "key-reused", "The key was used with another body"),
            Self::TooMany => (429, "too-many", "Too many requests"),
            Self::Internal => (500, "internal", "The service failed"),
            Self::Unavailable => (503, "unavailable", "The service cannot take this now"),
        }
    }
}

/// One fault of a body: where (a JSON pointer, RFC 6901) and what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldProblem {
    /// Such as `/limits/memory`; empty for the body as a whole.
    pub pointer: String,
    /// What is wrong with it and what to write instead.
    pub detail: String,
}

/// A problem document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:cloister:problem:` and the kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time and what to do.
    pub detail: String,
    /// Each fault of a bad request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
    /// Seconds after which trying again makes sense; sent as `Retry-After`.
    #[serde(skip)]
    pub retry_after: Option<u64>,
}

impl Problem {
    /// A problem of this kind.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let (status, name, title) = kind.parts();
        Self {
            kind: format!("urn:cloister:problem:{name}"),
            title: title.into(),
            status,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
        }
    }

    /// A bad request with all its faults; the detail repeats them for people who read only that.
    pub fn invalid(errors: Vec<FieldProblem>) -> Self {
        let detail = errors
            .iter()
            .map(|e| match e.pointer.as_str() {
                "" => e.detail.clone(),
                pointer => format!("{pointer} {}", e.detail),
            })
            .collect::<Vec<_>>()
            .join("; ");
        Self { errors, ..Self::new(Kind::Invalid, detail) }
    }

    /// The same with a `Retry-After` of so many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.title, self.status, self.detail)
    }
}

impl std::error::Error for Problem {}
