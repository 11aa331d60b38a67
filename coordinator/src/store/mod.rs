//! The durable record: what was acknowledged is here, and survives whatever happens to the process.
//!
//! [`Store`] is the whole interface: an embedded database stands behind it (`sqlite`), one that
//! several coordinators share (`postgres`), and in simulations one in memory. Both databases pass the
//! same tests (`tests`); the one in memory does what a simulation needs. Every call that writes returns
//! after the commit. Reads see what was committed before they began.
//!
//! Several coordinators may use one store. Each takes jobs in and answers for them; one of them holds
//! the *leader's lease*, a row with an expiry in the database's own time, and schedules. Each term has
//! an [`Epoch`], higher than all before, and whatever only a leader may write carries it: in the same
//! transaction it is compared with the row, and refused as [`StoreError::Stale`] once another leads.
//! So a leader that was stopped and goes on later can change nothing.
//!
//! What others than the leader take in (jobs, wishes for an end) it finds in the *inbox*, a row for
//! each, which it takes out when it has it in memory. A leader that is replaced needs no inbox: the
//! next one reads all jobs that have not ended.
//!
//! A row's `status` moves here as it does on the wire; between a claim and its start a job is still
//! `pending`, with the claim beside it, because a runner may refuse it. What a job prints and reads
//! is kept apart from the row that is listed.

mod calls;
mod error;
mod news;
pub(crate) mod output;
mod postgres;
mod record;
mod sqlite;
mod tally;
pub(crate) mod timed;

#[cfg(test)]
pub(crate) mod gated;
#[cfg(test)]
pub(crate) mod memory;
#[cfg(test)]
pub(crate) mod tests;

use std::{iter, path::Path, sync::Arc, time::Duration};

use cloister_api::{Job, Reason, Status, Timestamp};
use cloister_web::ClientTls;
use futures_util::future::BoxFuture;
use uuid::Uuid;

pub(crate) use self::{
    output::{Piece, Stream},
    record::size_of,
};

pub use self::error::StoreError;

/// The answer of a call to the store.
pub(crate) type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// The number of a term: of the time for which one coordinator leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Epoch(pub(crate) u64);

/// Jobs, durably.
pub(crate) trait Store: Send + Sync {
    /// The leader's lease: takes it where nobody holds it (any more), in a new term; renews it where
    /// `me` holds it, in the same one. It lasts for `ttl` from the database's present on.
    fn lead(&self, me: Candidate, ttl: Duration) -> Answer<'_, Leadership>;

    /// Gives the lease back, if it is still of this term: the next one need not wait for its end.
    fn resign(&self, epoch: Epoch) -> Answer<'_, ()>;

    /// Records a new job, or finds the one that the same key and digest made before. `epoch` is the
    /// caller's term, if it leads: it has the job then, as [`Submitted::New`] tells, and else the
    /// leader finds it in the inbox.
    fn submit(&self, job: Job, key: Option<Key>, epoch: Option<Epoch>) -> Answer<'_, Submitted>;

    /// The same of several jobs, all of them or none, in one commit: in their order, which is that of
    /// their ids too. The key makes them together.
    fn submit_all(
        &self,
        jobs: Vec<Job>,
        key: Option<Key>,
        epoch: Option<Epoch>,
    ) -> Answer<'_, Submitted<Vec<Uuid>>>;

    /// Records that somebody asked for the job's end. Without an `epoch`, or with one that is over, the
    /// leader finds that in the inbox. Answers whether the caller leads.
    fn request_cancel(&self, job: Uuid, epoch: Option<Epoch>) -> Answer<'_, bool>;

    /// Takes messages out of the inbox, the oldest first; fewer than `limit` are all that there were.
    /// What a call that failed or was given up would have answered, the next one answers: the rows are
    /// removed when the leader asks again, and so has them. Only for a leader.
    fn inbox(&self, epoch: Epoch, limit: usize) -> Answer<'_, Vec<Message>>;

    /// Returns when something may have come to the inbox, or an order, since the last call, or after
    /// `at_most`.
    fn news(&self, at_most: Duration) -> BoxFuture<'_, ()>;

    /// Records that a runner is about to be given the present attempt, and answers the job with its
    /// input; `None` when the job does not wait any more. Only for a leader.
    fn claim(&self, epoch: Epoch, job: Uuid, claim: Claim) -> Answer<'_, Option<Job>>;

    /// Records that no runner has the job after all. Only for a leader.
    fn unclaim(&self, epoch: Epoch, job: Uuid) -> Answer<'_, ()>;

    /// Records that the command of the present attempt was executed. Only for a leader.
    fn started(&self, epoch: Epoch, job: Uuid, attempt: u32, at: Timestamp) -> Answer<'_, ()>;

    /// Records a part of what an attempt prints that has not been recorded as ended. Doing it twice
    /// changes nothing. Only for a leader.
    fn put_output(&self, epoch: Epoch, piece: Piece) -> Answer<'_, ()>;

    /// Records a job as it ended, with what its attempts printed where that is in it, at `stored_at` by the leader's clock: its age counts from then,
    /// whatever its runner's clock said. Doing it twice changes nothing. Only for a leader.
    fn finish(&self, epoch: Epoch, job: Job, stored_at: Timestamp) -> Answer<'_, ()>;

    /// Records a job whose next attempt may start at `not_before`. Answers how many bytes the job takes
    /// now, with what was printed; `None` where nothing was to be changed. Only for a leader.
    fn retry(&self, epoch: Epoch, job: Job, not_before: Timestamp) -> Answer<'_, Option<u64>>;

    /// Jobs that have not ended, oldest first, those after `after`.
    fn unfinished(&self, after: Option<Uuid>, limit: usize) -> Answer<'_, Backlog>;

    /// One row of what an attempt printed; `None` where there is none. See [`output`].
    fn output(
        &self,
        job: Uuid,
        attempt: u32,
        stream: Stream,
        row: u32,
    ) -> Answer<'_, Option<Vec<u8>>>;

    /// One job, with its input, and with what its attempts printed or, where that is much, how much it
    /// is.
    fn get(&self, job: Uuid) -> Answer<'_, Option<Job>>;

    /// The job that a key made, with the digest of its request.
    fn find_key(&self, tenant: String, key: String) -> Answer<'_, Option<(Uuid, Digest)>>;

    /// A page of jobs, newest first, without outputs.
    fn list(&self, query: Query) -> Answer<'_, Page>;

    /// Those of these jobs that have ended, or are not there.
    fn ended(&self, jobs: Vec<Uuid>) -> Answer<'_, Vec<Uuid>>;

    /// When the store was last looked through for what is kept no longer.
    fn clock(&self) -> Answer<'_, StoreClock>;

    /// Records that it was. Only for a leader.
    fn set_clock(&self, epoch: Epoch, clock: StoreClock) -> Answer<'_, ()>;

    /// Removes ended jobs beyond what is kept, a batch of them; answers how many. By age those that
    /// were stored too long before `now`; by number and size those that ended first. Only for a leader.
    fn expire(&self, epoch: Epoch, keep: Keep, now: Timestamp) -> Answer<'_, usize>;

    /// How full it is.
    fn figures(&self) -> Answer<'_, Figures>;

    /// Records what an operator decided.
    fn order(&self, order: Order) -> Answer<'_, ()>;

    /// What operators have decided.
    fn orders(&self) -> Answer<'_, Orders>;

    /// Whether it takes writes.
    fn probe(&self) -> Answer<'_, ()>;

    /// Whether other processes may use it: then not all that happens in it happens here.
    fn is_shared(&self) -> bool;
}

/// Opens the store that a URL names, and brings it up to date. `tls` is for one that
/// [`is_encrypted`]; `accepted` is the damage of its log with which it is used, by its id.
pub(crate) async fn open(
    url: &str,
    tls: Option<&ClientTls>,
    accepted: Option<&str>,
) -> Result<Arc<dyn Store>, StoreError> {
    match url.split_once(':') {
        Some(("sqlite", path)) if !path.is_empty() => {
            Ok(Arc::new(sqlite::Sqlite::open(path.as_ref(), accepted)?))
        }
        Some(("postgres" | "postgresql", _)) => {
            Ok(Arc::new(postgres::Postgres::open(url, tls).await?))
        }
        _ => Err(StoreError::Url { url: error::without_secrets(url) }),
    }
}

/// Whether the way to the store that a URL names is to be encrypted.
pub fn is_encrypted(url: &str) -> bool {
    postgres::is_encrypted(url)
}

/// Copies a store that a coordinator may be using to a new file, as it was at one moment. Opened as a
/// store the copy is another cluster's, and paused: what had not ended then may have ended since.
/// Answers when that moment was. It takes as long as reading and writing all of it takes.
pub fn backup(store: &str, file: &Path) -> Result<Timestamp, StoreError> {
    match store.split_once(':') {
        Some(("sqlite", path)) if !path.is_empty() => sqlite::backup(path.as_ref(), file),
        Some(("postgres" | "postgresql", _)) => Err(StoreError::Unfit {
            store: error::without_secrets(store),
            why: "PostgreSQL copies its databases itself: use pg_dump; what pg_restore makes of that is \
                  recognised as a copy, and starts paused"
                .into(),
        }),
        _ => Err(StoreError::Url { url: error::without_secrets(store) }),
    }
}

/// A coordinator that could lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Made anew at each start.
    pub(crate) id: Uuid,
    /// For a person: where it is reached.
    pub(crate) name: String,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leadership {
    /// The coordinators that share this store, by an id that a restored copy has not.
    pub(crate) cluster: Uuid,
    /// The present term.
    pub(crate) epoch: Epoch,
    /// Whose it is.
    pub(crate) leader: Candidate,
    /// Other coordinators that were here lately, and could lead.
    pub(crate) others: usize,
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

impl Key {
    /// As what it stands in the store where it made so many jobs: a name for each, so that each can
    /// be forgotten with its job. No header carries a newline, so none is a key that a client sent.
    fn names(&self, jobs: usize) -> Vec<String> {
        let further = (1..jobs).map(|at| format!("{}\n{at}", self.name));
        iter::once(self.name.clone()).chain(further).collect()
    }
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Submitted<Made = Uuid> {
    /// It is a new job. `taken` tells that it is the caller's to schedule, who leads; else the leader
    /// has it from the inbox.
    New {
        /// See above.
        taken: bool,
    },
    /// The key made this before, by the same request. Of several jobs those that are still kept.
    Same(Made),
    /// The key made a job before, by another request.
    Other,
}

/// What another coordinator took in.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// A job.
    Submitted(Box<Unfinished>),
    /// A wish for a job's end.
    Cancel(Uuid),
    /// A job whose record cannot be read.
    Unreadable(Unreadable),
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

/// A job that has not ended, as a new leader finds it.
#[derive(Clone, Debug)]
pub(crate) struct Unfinished {
    /// Without its input.
    pub(crate) job: Job,
    /// Bytes that it takes, with its input and what earlier attempts printed.
    pub(crate) size: u64,
    pub(crate) claim: Option<Claim>,
    pub(crate) cancel: bool,
    pub(crate) not_before: Option<Timestamp>,
}

/// A record that cannot be read. It is left as it is, for an operator to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) job: Uuid,
    /// Why, for a person.
    pub(crate) why: String,
}

/// A page of the jobs that have not ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backlog {
    pub(crate) jobs: Vec<Unfinished>,
    pub(crate) unreadable: Vec<Unreadable>,
    /// The last record of the page, readable or not; `None` at the end.
    pub(crate) last: Option<Uuid>,
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
    /// Records of the page that cannot be read.
    pub(crate) unreadable: Vec<Unreadable>,
    /// The last record of the page, readable or not.
    pub(crate) last: Option<Uuid>,
    /// Whether older ones follow.
    pub(crate) more: bool,
}

/// How long, how many and how much of ended jobs is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    pub(crate) time: Duration,
    pub(crate) number: usize,
    /// Bytes: what they were asked, read and printed, as it is stored.
    pub(crate) size: u64,
}

/// The clock by which the age of ended jobs is told: see `engine::retention`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoreClock {
    /// What the clock of the leader showed when it last looked; `None` before the first time.
    pub(crate) seen_at: Option<Timestamp>,
    /// By how many milliseconds that clock is ahead of the time that has passed.
    pub(crate) ahead: i64,
    /// When that is over, by the time that has passed.
    pub(crate) until: Timestamp,
}

impl Default for StoreClock {
    fn default() -> Self {
        Self { seen_at: None, ahead: 0, until: Timestamp(0) }
    }
}

/// How full a store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Jobs that wait, and that nobody was given.
    pub(crate) pending: usize,
    /// Bytes that those take.
    pub(crate) pending_size: u64,
    /// Jobs that were given to a runner.
    pub(crate) out: usize,
    /// Bytes that the store takes.
    pub(crate) size: u64,
}

/// Something that an operator decides, and that outlives whoever leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Give this runner nothing new, or do so again.
    DrainRunner {
        /// Its name.
        runner: String,
        /// Whether it drains.
        drained: bool,
    },
    /// Give nobody anything, for this reason; or do so again.
    Pause(Option<String>),
    /// The clock is right, although it went forward: ended jobs are as old as it says.
    TrustClock,
}

/// What operators have decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    /// Runners that get nothing new, by name, in order.
    pub(crate) drained: Vec<String>,
    /// Why nothing is dispatched at all. A restored copy starts so.
    pub(crate) paused: Option<String>,
}
