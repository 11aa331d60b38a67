//! The durable record: what was acknowledged is here, and survives whatever happens to the process.
//!
//! [`Store`] is the whole interface, so that a database shared by several coordinators can stand
//! behind it as well as the embedded one, and a test can let it fail. Every call that writes returns
//! after the commit. Reads see what was committed before they began.
//!
//! A row's `status` moves here as it does on the wire; between a claim and its start a job is still
//! `pending`, with the claim beside it, because a runner may refuse it. What a job prints and reads
//! is kept apart from the row that is listed.

mod error;
mod sqlite;

#[cfg(test)]
pub(crate) mod tests;

use std::{sync::Arc, time::Duration};

use cloister_api::{Job, Reason, Status, Timestamp};
use futures_util::future::BoxFuture;
use uuid::Uuid;

pub use self::error::StoreError;

/// The answer of a call to the store.
pub(crate) type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Jobs, durably.
pub(crate) trait Store: Send + Sync {
    /// Records a new job, or finds the one that the same key and digest made before.
    fn submit(&self, job: Job, key: Option<Key>) -> Answer<'_, Submitted>;

    /// Records that a runner is about to be given the present attempt, and answers the job with its
    /// input; `None` when the job does not wait any more.
    fn claim(&self, job: Uuid, claim: Claim) -> Answer<'_, Option<Job>>;

    /// Records that no runner has the job after all.
    fn unclaim(&self, job: Uuid) -> Answer<'_, ()>;

    /// Records that the command of the present attempt was executed.
    fn started(&self, job: Uuid, attempt: u32, at: Timestamp) -> Answer<'_, ()>;

    /// Records that somebody asked for the job's end.
    fn request_cancel(&self, job: Uuid) -> Answer<'_, ()>;

    /// Records a job as it ended. Doing it twice changes nothing.
    fn finish(&self, job: Job) -> Answer<'_, ()>;

    /// Records a job whose next attempt may start at `not_before`.
    fn retry(&self, job: Job, not_before: Timestamp) -> Answer<'_, ()>;

    /// One job, with its input and outputs.
    fn get(&self, job: Uuid) -> Answer<'_, Option<Job>>;

    /// The job that a key made, with the digest of its request.
    fn find_key(&self, tenant: String, key: String) -> Answer<'_, Option<(Uuid, Digest)>>;

    /// A page of jobs, newest first, without outputs.
    fn list(&self, query: Query) -> Answer<'_, Page>;

    /// Jobs that have not ended, oldest first, those after `after`.
    fn unfinished(&self, after: Option<Uuid>, limit: usize) -> Answer<'_, Vec<Unfinished>>;

    /// Removes ended jobs beyond what is kept, a batch of them; answers how many.
    fn expire(&self, keep: Keep, now: Timestamp) -> Answer<'_, usize>;

    /// Whether it takes writes.
    fn probe(&self) -> Answer<'_, ()>;
}

/// Opens the store that a URL names, and brings it up to date.
pub(crate) fn open(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    match url.strip_prefix("sqlite:") {
        Some(path) if !path.is_empty() => Ok(Arc::new(sqlite::Sqlite::open(path.as_ref())?)),
        _ => Err(StoreError::Url { url: url.into() }),
    }
}

/// The SHA-256 of a request as it was understood.
pub(crate) type Digest = [u8; 32];

/// What makes a submission idempotent.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) tenant: String,
    /// As the client sent it.
    pub(crate) name: String,
    pub(crate) digest: Digest,
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Submitted {
    /// It is a new job.
    New,
    /// The key made this job before, by the same request.
    Same(Uuid),
    /// The key made a job before, by another request.
    Other,
}

/// Which runner is about to be given an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) attempt: u32,
    /// By which the runner knows it.
    pub(crate) execution_id: Uuid,
    pub(crate) runner: String,
    /// The runner's life when it was chosen: with another one, what it had is gone.
    pub(crate) boot_id: Option<Uuid>,
}

/// A job that has not ended, as a restart finds it.
#[derive(Clone, Debug)]
pub(crate) struct Unfinished {
    /// Without its input.
    pub(crate) job: Job,
    pub(crate) claim: Option<Claim>,
    pub(crate) cancel: bool,
    pub(crate) not_before: Option<Timestamp>,
}

/// Which jobs to list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub(crate) status: Option<Status>,
    pub(crate) reason: Option<Reason>,
    /// Jobs that carry all of these.
    pub(crate) labels: Vec<(String, String)>,
    /// Only jobs older than this one.
    pub(crate) before: Option<Uuid>,
    pub(crate) limit: usize,
}

/// A page of jobs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    pub(crate) jobs: Vec<Job>,
    /// Whether older ones follow.
    pub(crate) more: bool,
}

/// How long and how many ended jobs are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    pub(crate) time: Duration,
    pub(crate) number: usize,
}
