//! What the scheduler knows of a job: enough to order and place it, and nothing of its body, so
//! that a million pending jobs fit in memory.

use std::sync::Arc;

use cloister_api::{ByteSize, Job, JobRequest, Network, Reason, Timestamp};
use uuid::Uuid;

/// How many times a cell is tried before the job ends with `sandbox_error`.
pub(crate) const CELL_TRIES: u32 = 3;

/// A runner by its base URL, such as `http://10.0.0.7:8080`: stable across restarts of this
/// process, so that the store can refer to it.
pub(crate) type RunnerName = Arc<str>;

/// What a runner must have to hold a job at all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Needs {
    pub(crate) cpus: f64,
    pub(crate) memory: ByteSize,
    pub(crate) pids: u64,
    pub(crate) open_files: u64,
    pub(crate) network: Network,
}

impl Needs {
    pub(crate) fn of(request: &JobRequest) -> Self {
        let limits = &request.task.limits;
        Self {
            cpus: limits.cpus,
            memory: limits.memory,
            pids: limits.pids,
            open_files: limits.open_files,
            network: request.task.network,
        }
    }
}

/// A set of reasons in two bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reasons(u16);

impl Reasons {
    pub(crate) fn contains(self, reason: Reason) -> bool {
        self.0 & Self::bit(reason) != 0
    }

    fn bit(reason: Reason) -> u16 {
        Reason::ALL.iter().position(|r| *r == reason).map_or(0, |at| 1 << at)
    }
}

impl FromIterator<Reason> for Reasons {
    fn from_iter<I: IntoIterator<Item = Reason>>(reasons: I) -> Self {
        Self(reasons.into_iter().fold(0, |set, r| set | Self::bit(r)))
    }
}

/// A job as it enters the scheduler, new or read back from the store.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) id: Uuid,
    pub(crate) priority: i32,
    pub(crate) needs: Needs,
    /// Bytes that it takes in the store.
    pub(crate) size: u64,
    /// The present attempt, from 1.
    pub(crate) attempt: u32,
    /// Further attempts that the user granted.
    pub(crate) retries: u32,
    pub(crate) retry_on: Reasons,
    /// Attempts so far whose cell could not be made.
    pub(crate) failed_cells: u32,
    /// Attempts so far that cost one of `retries`.
    pub(crate) charged: u32,
    /// Runners that could not make its cell: others come first.
    pub(crate) avoid: Vec<RunnerName>,
    /// Back-off ends then.
    pub(crate) not_before: Option<Timestamp>,
}

impl Facts {
    /// From the job as the store has it, where it takes `size` bytes. Its counts follow from the earlier
    /// attempts, so that a restart forgets none of them.
    pub(crate) fn of(job: &Job, size: u64, not_before: Option<Timestamp>) -> Self {
        let mut facts = Self {
            id: job.job_id,
            priority: job.request.priority,
            needs: Needs::of(&job.request),
            size,
            attempt: job.attempt,
            retries: job.request.retries,
            retry_on: job.request.retry_on.iter().copied().collect(),
            failed_cells: 0,
            charged: 0,
            avoid: Vec::new(),
            not_before,
        };
        for past in &job.attempts {
            let runner = past.runner.as_deref().map(RunnerName::from);
            facts.count(past.outcome.reason, runner);
        }
        facts
    }

    /// Counts an attempt that ended so and is followed by another.
    pub(super) fn count(&mut self, reason: Option<Reason>, runner: Option<RunnerName>) {
        if reason != Some(Reason::SandboxError) {
            self.charged += 1;
            return;
        }
        self.failed_cells += 1;
        if self.failed_cells >= CELL_TRIES {
            self.charged += 1;
        }
        if let Some(runner) = runner
            && !self.avoid.contains(&runner)
        {
            self.avoid.push(runner);
            self.avoid.sort_unstable();
        }
    }
}

/// Where a job stands.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// It is being committed for the first time.
    Storing,
    /// In the queue.
    Queued,
    /// Backs off.
    Delayed(Timestamp),
    /// A runner has it, or is just being given it.
    Out(Out),
    /// What became of it is being recorded; then it is forgotten, or queued anew.
    Recording { out: Option<Out>, again: Option<Timestamp> },
}

/// An attempt that a runner has.
#[derive(Clone, Debug)]
pub(super) struct Out {
    pub(super) runner: RunnerName,
    pub(super) started_at: Option<Timestamp>,
}

/// A job and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) facts: Facts,
    pub(super) stage: Stage,
    /// Somebody asked for its end: it is never queued again.
    pub(super) cancel: bool,
}

#[cfg(test)]
mod tests {
    use cloister_api::{Outcome, Past, Program, Status, Task};

    use super::*;

    #[test]
    fn what_a_restart_reads_back_counts_the_same() {
        let request = JobRequest::new(Task::new(Program::Command("true".into())));
        let mut job = Job::new(Uuid::from_u128(1), Timestamp(0), request);
        let past = |attempt, runner: &str, reason| Past {
            attempt,
            runner: Some(runner.into()),
            outcome: Outcome::never_ran(Status::Failed, Some(reason), "x"),
        };
        let mut live = Facts::of(&job, 0, None);
        for (attempt, (runner, reason)) in (1..).zip([
            ("a", Reason::SandboxError),
            ("b", Reason::RunnerLost),
            ("a", Reason::SandboxError),
            ("c", Reason::SandboxError),
        ]) {
            job.attempts.push(past(attempt, runner, reason));
            live.count(Some(reason), Some(runner.into()));
        }
        let read = Facts::of(&job, 0, None);
        assert_eq!((read.failed_cells, read.charged), (3, 2));
        assert_eq!(
            (live.failed_cells, live.charged, live.avoid),
            (read.failed_cells, read.charged, read.avoid)
        );
    }
}
