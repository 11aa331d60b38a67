//! How much may wait: jobs, and bytes of them in the store. A place is promised before a job is
//! committed, so that jobs that are being committed at the same time count.

use uuid::Uuid;

use super::{
    Scheduler,
    job::{Entry, Facts, Stage},
};

/// What may wait for a runner at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueBounds {
    /// Jobs.
    pub(crate) jobs: usize,
    /// Bytes that they take in the store.
    pub(crate) size: u64,
}

impl QueueBounds {
    /// Whether one more of this size has room beside what waits.
    pub(crate) fn check(self, waiting: Waiting, size: u64) -> Result<(), NoRoom> {
        if waiting.jobs >= self.jobs {
            Err(NoRoom::Jobs)
        } else if waiting.size.saturating_add(size) > self.size {
            Err(NoRoom::Size)
        } else {
            Ok(())
        }
    }
}

/// What waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Jobs.
    pub(crate) jobs: usize,
    /// Bytes that they take in the store.
    pub(crate) size: u64,
}

impl Waiting {
    /// One more of this size.
    pub(crate) fn add(&mut self, size: u64) {
        self.jobs += 1;
        self.size = self.size.saturating_add(size);
    }

    /// What was added since it was `before`.
    pub(crate) fn without(self, before: Self) -> Self {
        Self {
            jobs: self.jobs.saturating_sub(before.jobs),
            size: self.size.saturating_sub(before.size),
        }
    }

    /// One of this size less.
    pub(crate) fn take(&mut self, size: u64) {
        self.jobs = self.jobs.saturating_sub(1);
        self.size = self.size.saturating_sub(size);
    }
}

impl std::ops::Add for Waiting {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { jobs: self.jobs + other.jobs, size: self.size.saturating_add(other.size) }
    }
}

/// Why a job gets no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// This process does not lead, or shuts down.
    Closed,
    /// As many jobs wait as may.
    Jobs,
    /// It is larger than what is left.
    Size,
}

impl Scheduler {
    /// Promises a place in the queue to a job that is about to be committed. The promise ends with the
    /// job's `Submitted`, or by [`release`](Self::release).
    pub(crate) fn reserve(&mut self, facts: &Facts) -> Result<(), NoRoom> {
        if !self.leading || self.draining {
            return Err(NoRoom::Closed);
        }
        self.bounds.check(self.waiting() + self.storing, facts.size)?;
        self.storing.add(facts.size);
        let entry = Entry { facts: facts.clone(), stage: Stage::Storing, cancel: false };
        self.jobs.insert(facts.id, entry);
        Ok(())
    }

    /// The job of a [`reserve`](Self::reserve) was not committed.
    pub(crate) fn release(&mut self, job: Uuid) {
        if let Some(entry) = self.jobs.remove(&job) {
            if matches!(entry.stage, Stage::Storing) {
                self.storing.take(entry.facts.size);
            } else {
                self.jobs.insert(job, entry);
            }
        }
    }

    /// Jobs that wait for a runner or back off.
    pub(crate) fn waiting(&self) -> Waiting {
        self.queue.waiting() + Waiting { jobs: self.delayed.len(), size: self.delayed_size }
    }

    /// What an attempt left behind is with the job from now on, which is being recorded or out.
    pub(super) fn resized(&mut self, job: Uuid, size: u64) {
        if let Some(entry) = self.jobs.get_mut(&job)
            && matches!(entry.stage, Stage::Recording { .. } | Stage::Out(_))
        {
            entry.facts.size = size;
        }
    }
}
