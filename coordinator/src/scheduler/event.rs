//! What comes into the scheduler and what it answers: its whole interface for changes.

use cloister_api::{Reason, RunnerHealth, Timestamp};
use uuid::Uuid;

use super::{
    job::{Facts, RunnerName},
    skew::Skew,
};

/// Something happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// This process leads, and knows all jobs that have not ended: it dispatches from now on. It is told
    /// of those jobs before, so that the slots of runners are known and the first one is the first.
    Lead,
    /// It leads no more: all jobs are another's. What is known of the runners stays. Nothing that the
    /// store said in a term that is over may come as `Submitted` or `Resumed` later.
    Depose,
    /// A job was committed to the store (for the first time, or read back by a new leader); it
    /// takes the place that was reserved for it, if any. Ignored where the job is known already: a new
    /// leader may hear of it twice.
    Submitted(Facts),
    /// For a new leader: a runner was given this attempt, and may have it still. Ignored as
    /// `Submitted` is.
    Resumed {
        /// The job.
        facts: Facts,
        /// Which runner.
        runner: RunnerName,
        /// Since when its command runs, if that was known.
        started_at: Option<Timestamp>,
        /// Whether its end was asked for.
        cancel: bool,
    },
    /// An operator's configuration or a name server lists this runner.
    Listed(RunnerName),
    /// It is listed no more: it finishes what it has and gets nothing new.
    Unlisted(RunnerName),
    /// It is about to be `Up`, and its clock shows this much more or less than ours; `None` where it
    /// does not tell.
    Clock {
        /// Which.
        runner: RunnerName,
        /// How much.
        skew: Option<Skew>,
    },
    /// It answered for its health.
    Up {
        /// Which.
        runner: RunnerName,
        /// What it said.
        health: Box<RunnerHealth>,
    },
    /// It did not answer for its health, or could not be reached by somebody who would give it an
    /// attempt: nothing is given to it until it is `Up`.
    Down {
        /// Which.
        runner: RunnerName,
        /// Why, for a person.
        why: String,
    },
    /// It answers, but failed somebody who would give it an attempt: it made no sense, or will have
    /// none of us. It counts for its breaker; the attempt itself is told of by `Returned` or `Ended`.
    Failed {
        /// Which.
        runner: RunnerName,
        /// Why, for a person.
        why: String,
        /// Between 0 and 1, for how long it rests.
        jitter: f64,
    },
    /// It said that its slots are taken, although it seemed to have room.
    Held {
        /// Which.
        runner: RunnerName,
        /// It gets nothing until then at most: a report of a free slot, or the end of an attempt
        /// there, ends it earlier.
        until: Timestamp,
    },
    /// An operator drains it: it finishes what it has and gets nothing new, also where it is listed
    /// only later; or it is to get work again.
    Drained {
        /// Which.
        runner: RunnerName,
        /// Whether it drains.
        drained: bool,
    },
    /// An operator wants nothing to be dispatched, for this reason; or wants it again.
    Paused(Option<String>),
    /// The command of the present attempt was executed.
    Started {
        /// Which job.
        job: Uuid,
        /// Which attempt of it.
        attempt: u32,
        /// When.
        at: Timestamp,
    },
    /// The runner did not take the attempt, which is sure not to have run and counts as none.
    Returned {
        /// Which job.
        job: Uuid,
        /// Which attempt of it.
        attempt: u32,
    },
    /// The attempt has ended.
    Ended {
        /// Which job.
        job: Uuid,
        /// Which attempt of it.
        attempt: u32,
        /// Why it failed, if it did.
        reason: Option<Reason>,
        /// Between 0 and 1, for the back-off, and for how long its runner rests.
        jitter: f64,
    },
    /// What a job takes in the store has changed by what its last attempt printed. Comes before its
    /// `Recorded`.
    Resized {
        /// Which job.
        job: Uuid,
        /// Bytes.
        size: u64,
    },
    /// What an action told to record is durable now.
    Recorded {
        /// Which job.
        job: Uuid,
    },
    /// Somebody asked for a job's end.
    Cancel {
        /// Which job.
        job: Uuid,
    },
    /// Time has passed; see [`next_due`](super::Scheduler::next_due).
    Tick,
    /// The store takes no writes, for this reason: nothing can be dispatched.
    StoreFailed(String),
    /// It does again.
    StoreBack,
    /// Nothing more is to be dispatched by this process.
    Drain,
}

/// Something is to be done, outside of the scheduler.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Give this attempt to this runner. Answered by `Started`, and by `Returned` or `Ended`.
    Dispatch {
        /// Which job.
        job: Uuid,
        /// Which attempt of it.
        attempt: u32,
        /// To whom.
        runner: RunnerName,
    },
    /// Record how the attempt ended, as the job's own end. Answered by `Recorded`.
    Finish {
        /// Which job.
        job: Uuid,
    },
    /// Record how the attempt ended, and that another follows. Answered by `Recorded`.
    Retry {
        /// Which job.
        job: Uuid,
        /// The attempt that follows.
        attempt: u32,
        /// Not earlier than then.
        not_before: Timestamp,
    },
    /// Record a job that no runner has as cancelled. Answered by `Recorded`.
    Withdraw {
        /// Which job.
        job: Uuid,
    },
    /// Tell the runner that has the attempt to end it.
    Stop {
        /// Which job.
        job: Uuid,
    },
}
