//! The passing of time, by a clock that may be set back.
//!
//! Set forward, it ends what is put off earlier, by no more than the jump. Set back by an hour, it
//! would stretch half a second of back-off to an hour and half a second; so all that is put off is
//! moved with it: what was left when the last event came is left still. Points in time that come from
//! elsewhere (from the store, hence from another coordinator's clock, perhaps a fast one) are bounded
//! by the longest that anything is put off for.

use cloister_api::Timestamp;

use super::{Scheduler, job::Stage, retry::MAX_DELAY};

/// A point in time until which something is put off, by a clock that may be another's.
pub(super) fn bounded(due: Timestamp, now: Timestamp) -> Timestamp {
    let most = i64::try_from(MAX_DELAY.as_millis()).unwrap_or(i64::MAX);
    due.min(Timestamp(now.0.saturating_add(most)))
}

impl Scheduler {
    /// Takes note of the time, and of a clock that was set back.
    pub(super) fn pass_to(&mut self, now: Timestamp) {
        if let Some(last) = self.last.replace(now)
            && now < last
        {
            self.set_back(last.since_ms(now));
        }
    }

    fn set_back(&mut self, by: i64) {
        for runner in self.runners.values_mut() {
            if let Some(until) = &mut runner.full_until {
                until.0 = until.0.saturating_sub(by);
            }
            runner.breaker.set_back(by);
        }
        let delayed = std::mem::take(&mut self.delayed);
        for (due, job) in delayed {
            let due = Timestamp(due.0.saturating_sub(by));
            if let Some(entry) = self.jobs.get_mut(&job) {
                entry.stage = Stage::Delayed(due);
                self.delayed.insert((due, job));
            }
        }
    }

    /// Ends what was put off until now.
    pub(super) fn tick(&mut self, now: Timestamp) {
        for runner in self.runners.values_mut() {
            runner.full_until = runner.full_until.filter(|until| *until > now);
            runner.breaker.tick(now);
        }
        while let Some((due, job)) = self.delayed.first().copied()
            && due <= now
        {
            self.delayed.pop_first();
            if let Some(entry) = self.jobs.get_mut(&job) {
                self.delayed_size = self.delayed_size.saturating_sub(entry.facts.size);
                entry.stage = Stage::Queued;
                self.queue.push(&entry.facts);
            }
        }
    }
}
