//! What can go wrong between the client and a coordinator.

use std::{error::Error as StdError, io, time::Duration};

use cloister_api::Problem;
use cloister_web::Untrusted;
use hyper::StatusCode;

use super::{problem, server::Server, text};

/// Every variant names the coordinator, so that a forgotten `CLOISTER_SERVER` shows.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// No connection came about.
    #[error(
        "no coordinator answers at {server}: {why}; start one with `cloister up`, or name another \
         with --server"
    )]
    Unreachable { server: Server, why: String },
    /// Somebody answers, who does not prove to be the one that was meant.
    #[error("cannot trust who answers at {server}: {why}")]
    Untrusted { server: Server, why: String },
    /// A connection ended in the middle.
    #[error("the coordinator at {server} broke off while it answered {call}: {why}; try again")]
    BrokenOff { server: Server, call: String, why: String },
    /// It has the request and says nothing.
    #[error(
        "the coordinator at {server} has not answered {call} within {} s; its /health may say why",
        .after.as_secs()
    )]
    Silent { server: Server, call: String, after: Duration },
    /// More than a client should keep in memory.
    #[error("the coordinator at {server} answered {call} with more than {limit}; ask it by curl")]
    TooLarge { server: Server, call: String, limit: cloister_api::ByteSize },
    /// Something answers there that speaks another language.
    #[error("{server} answered {call} with {status} and {what}; is it a coordinator?")]
    Stranger {
        server: Server,
        call: String,
        status: StatusCode,
        what: String,
        retry_after: Option<Duration>,
    },
    /// It said no, and why.
    #[error("{}", problem::render(.problem))]
    Refused { problem: Box<Problem>, retry_after: Option<Duration> },
    /// A list that would never end.
    #[error(
        "the coordinator at {server} answered the same page of jobs twice; is it a coordinator?"
    )]
    GoesInCircles { server: Server },
}

impl Error {
    /// Whether the same request may succeed soon, and if the coordinator said when, when.
    pub(super) fn passes(&self) -> Option<Duration> {
        match self {
            Self::Unreachable { .. } | Self::BrokenOff { .. } => Some(Duration::ZERO),
            Self::Refused { problem, retry_after }
                if problem.status == StatusCode::SERVICE_UNAVAILABLE =>
            {
                *retry_after
            }
            Self::Stranger { status: StatusCode::SERVICE_UNAVAILABLE, retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }
}

/// Why the other side is not trusted, if that is what went wrong.
pub(super) fn distrust(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(untrusted) = error.downcast_ref::<Untrusted>() {
            // Names in a certificate are whatever its maker wrote.
            return Some(text::plain(&untrusted.to_string()));
        }
        next = error.source();
    }
    None
}

/// The innermost cause, as a person would say it: what is around it only repeats that a request
/// failed.
pub(super) fn cause(error: &(dyn StdError + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let kind = innermost.downcast_ref::<io::Error>().map(io::Error::kind);
    if kind == Some(io::ErrorKind::TimedOut) {
        return "it accepts no connection in time".into();
    }
    let said = innermost.to_string();
    let words = said.split(" (os error").next().unwrap_or_default();
    let mut chars = words.chars();
    let lower = chars.next().map(|first| first.to_lowercase().chain(chars).collect());
    text::plain(&lower.unwrap_or_else(|| "no reason is known".to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_read_as_a_person_would_say_them() {
        let refused = io::Error::from_raw_os_error(111);
        assert_eq!(cause(&refused), "connection refused");
        let late = io::Error::new(io::ErrorKind::TimedOut, "deadline has elapsed");
        assert_eq!(cause(&late), "it accepts no connection in time");
    }
}
