//! What the coordinator asks of a runner, and what it may be told: the seam between the life of an
//! attempt and the network. `client` is what stands behind it; a simulation puts runners of its own.

use std::time::Duration;

use bytes::Bytes;
use cloister_api::{
    ExecuteRequest, KnownExecutions, LeaseRequest, Outcome, RunnerHealth, Timestamp,
};
use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::{engine::Term, store::Stream};

/// The answer of a call to a runner.
pub(crate) type Reply<'a, T> = BoxFuture<'a, Result<T, CallError>>;

/// Runners, by their names.
pub(crate) trait RunnerLink: Send + Sync {
    /// How it is. While it drains it may say so with another status than 200.
    fn health<'a>(&'a self, runner: &'a str) -> Reply<'a, RunnerHealth>;

    /// Gives it an execution, or joins the one it has under that id. `boot` is its life when it was
    /// chosen: a runner that minds `If-Match` takes nothing in another one. No line of the answer is
    /// longer than `max_line` bytes.
    fn execute<'a>(
        &'a self,
        runner: &'a str,
        request: &'a ExecuteRequest,
        boot: Option<Uuid>,
        max_line: usize,
    ) -> Reply<'a, Taken>;

    /// What it knows of an execution.
    fn look<'a>(&'a self, runner: &'a str, execution: Uuid, max_body: usize) -> Reply<'a, Known>;

    /// What was kept of a stream of an execution that has ended, from `offset` on; `None` where it knows
    /// nothing of it.
    fn output<'a>(
        &'a self,
        runner: &'a str,
        execution: Uuid,
        stream: Stream,
        offset: u64,
    ) -> Reply<'a, Option<Box<dyn Chunks>>>;

    /// Renews leases, and asks what it knows of those executions.
    fn renew<'a>(&'a self, runner: &'a str, request: &'a LeaseRequest) -> Reply<'a, Renewed>;

    /// All executions with an id that it knows of a cluster.
    fn known<'a>(&'a self, runner: &'a str, cluster: Uuid) -> Reply<'a, KnownExecutions>;

    /// Ends an execution that runs, or lets it forget one that has ended, if that is acknowledged; in a
    /// term, where it knows of terms.
    fn delete<'a>(
        &'a self,
        runner: &'a str,
        execution: Uuid,
        term: Option<Term>,
        acknowledge: bool,
    ) -> Reply<'a, Deleted>;
}

/// Why a request to a runner got no answer that makes sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// It was never sent.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// It may have been read.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// It may have been read.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// An answer that is not this protocol's.
    #[error("unexpected answer: {0}")]
    Nonsense(String),
}

/// What a runner said to an execution.
pub(crate) enum Taken {
    /// It has it. What happens comes line by line.
    Yes(Box<dyn Lines>),
    /// All of its slots are taken, or it drains.
    Busy(String),
    /// It was restarted since it was chosen.
    OtherBoot,
    /// It has heard of a later term.
    Stale(String),
    /// It will not have this job: beyond its bounds, say.
    Refused(String),
    /// It will have none of us: a wrong token, or no runner at all.
    Stranger(String),
}

/// What happens at an execution, line by line.
pub(crate) trait Lines: Send {
    /// The next line; `None` at the end. Nothing is lost when the future is dropped.
    fn next(&mut self) -> Reply<'_, Option<Line>>;
}

/// The bytes of a stream, piece by piece.
pub(crate) trait Chunks: Send {
    /// The next ones; `None` at the end. Nothing is lost when the future is dropped.
    fn next(&mut self) -> Reply<'_, Option<Bytes>>;
}

/// What a line said. Others than these are for live readers, and there are none yet.
#[derive(Debug)]
pub(crate) enum Line {
    Started(Timestamp),
    Result(Box<Outcome>),
    Other,
}

/// What a runner knows of an execution.
pub(crate) enum Known {
    /// It runs, or is about to.
    Running,
    /// It has ended so.
    Ended(Box<Outcome>),
    /// Nothing.
    Nothing,
}

/// What a runner said to a renewal.
pub(crate) enum Renewed {
    /// How those that it knows stand.
    Yes(KnownExecutions),
    /// It has heard of a later term.
    Stale(String),
}

/// What a runner said to the end of an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deleted {
    /// It ends it, or forgot it, or keeps what has ended.
    Yes,
    /// It knew nothing of it.
    Unknown,
    /// It has heard of a later term, whose matter that is.
    Stale,
}
