//! Which job runs where and when: a state machine in memory, without I/O and without a clock.
//!
//! Goals: every decision can be driven and checked by a property test; an event costs the same with
//! a million pending jobs as with ten (the logarithm aside); and whoever asks is told exactly why a
//! job waits.
//!
//! [`Scheduler::apply`] takes an [`Event`] with the time and answers [`Action`]s, which the engine
//! around it carries out and whose ends it reports as further events. What is durable is the store's
//! business: the scheduler decides, the engine records, and only what was recorded comes back as
//! `Submitted` or `Recorded`.
//!
//! Order: the highest priority first, then the oldest; a job that no free runner could hold does not
//! hold up those behind it (see [`queue`]). Among the runners with room that could hold the job, the
//! one that was given something the longest time ago is next: round robin that does not mind
//! runners coming and going. A runner whose slots are taken by others says so with `503`; it is then
//! left alone until its health shows a free one. One that fails again and again rests (see
//! [`breaker`]).
//!
//! Of several coordinators one leads. Only then does a scheduler dispatch and know jobs; what
//! it knows of the runners it keeps up all the same, so that a new leader starts warm. See [`term`].
//!
//! Time is the wall clock's, since it is told to others and outlives the process; so it may be set
//! back. See [`clock`].
//!
//! Seams: leases and epochs belong to the engine's record of an attempt; fair share between tenants
//! goes between priority and age, into the order of the [`queue`].

mod breaker;
mod clock;
mod course;
mod drained;
mod event;
mod job;
mod place;
mod queue;
mod retry;
mod room;
mod runner;
mod skew;
mod term;
mod why;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cloister_api::Timestamp;
use uuid::Uuid;

pub(crate) use self::{
    breaker::BreakerState,
    event::{Action, Event},
    job::{Facts, Needs, RunnerName},
    room::{NoRoom, QueueBounds, Waiting},
    skew::Skew,
    why::{Live, RunnerView},
};
use self::{
    breaker::Failure,
    drained::Drained,
    job::{Entry, Out},
    queue::Queue,
    runner::Runner,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Scheduler {
    leading: bool,
    bounds: QueueBounds,
    /// Jobs that are being committed.
    storing: Waiting,
    jobs: HashMap<Uuid, Entry>,
    queue: Queue,
    delayed: BTreeSet<(Timestamp, Uuid)>,
    /// Bytes of those that are delayed.
    delayed_size: u64,
    runners: BTreeMap<RunnerName, Runner>,
    turns: u64,
    /// Runners that an operator drains, listed or not.
    drained: Drained,
    store_failure: Option<String>,
    /// Why an operator wants nothing to be dispatched, if so.
    paused: Option<String>,
    draining: bool,
    /// By how much all runners' clocks are ahead of this one's, where that is too much.
    own_skew: Option<i64>,
    /// When the last event came.
    last: Option<Timestamp>,
}

impl Scheduler {
    /// Nothing is known yet, and it does not lead; no more than `bounds` may wait.
    pub(crate) fn new(bounds: QueueBounds) -> Self {
        Self {
            leading: false,
            bounds,
            storing: Waiting::default(),
            jobs: HashMap::new(),
            queue: Queue::default(),
            delayed: BTreeSet::new(),
            delayed_size: 0,
            runners: BTreeMap::new(),
            turns: 0,
            drained: Drained::default(),
            store_failure: None,
            paused: None,
            draining: false,
            own_skew: None,
            last: None,
        }
    }

    /// Jobs that wait for a runner or back off.
    pub(crate) fn pending(&self) -> usize {
        self.waiting().jobs
    }

    /// Attempts that runners have.
    pub(crate) fn out(&self) -> usize {
        self.runners.values().map(|runner| runner.out).sum()
    }

    /// Whether it leads.
    pub(crate) const fn leads(&self) -> bool {
        self.leading
    }

    /// Whether this process is shutting down.
    pub(crate) const fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether a runner is listed, or has an attempt.
    pub(crate) fn knows(&self, runner: &RunnerName) -> bool {
        self.runners.contains_key(runner)
    }

    /// Jobs that are not over.
    pub(crate) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// When `Tick` is wanted next.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let runners = self.runners.values();
        let runners = runners.flat_map(|r| [r.full_until, r.breaker.opens_until()]).flatten();
        let delayed = self.delayed.first().map(|(due, _)| *due);
        runners.chain(delayed).min()
    }

    /// Takes in what happened and answers what is to be done. Events about jobs, attempts or runners
    /// that are not known (any more) are late, and ignored.
    pub(crate) fn apply(&mut self, event: Event, now: Timestamp) -> Vec<Action> {
        self.pass_to(now);
        let mut actions = Vec::new();
        match event {
            Event::Lead => self.leading = true,
            Event::Depose => self.depose(),
            Event::Submitted(facts) => actions.extend(self.submitted(facts, now)),
            Event::Resumed { facts, runner, started_at, cancel } => {
                self.resumed(facts, Out { runner, started_at }, cancel);
            }
            Event::Listed(runner) => {
                self.runner_mut(runner).listed = true;
                self.runners_changed();
            }
            Event::Unlisted(name) => {
                if let Some(runner) = self.runners.get_mut(&name) {
                    runner.listed = false;
                    self.forget_if_idle(&name);
                    self.runners_changed();
                }
            }
            Event::Clock { runner, skew } => {
                if let Some(runner) = self.runners.get_mut(&runner) {
                    runner.skew = skew;
                    self.judge_clocks();
                }
            }
            Event::Up { runner, health } => self.up(&runner, health),
            Event::Down { runner, why } => self.down(&runner, why, now),
            Event::Failed { runner, why, jitter } => {
                if let Some(runner) = self.runners.get_mut(&runner) {
                    runner.breaker.failed(Failure::Talk, &why, jitter, now);
                }
            }
            Event::Held { runner, until } => {
                if let Some(runner) = self.runners.get_mut(&runner) {
                    runner.full_until = Some(clock::bounded(until, now));
                }
            }
            Event::Drained { runner, drained } => self.drain(runner, drained),
            Event::Paused(why) => self.paused = why,
            Event::Started { job, attempt, at } => self.started(job, attempt, at),
            Event::Returned { job, attempt } => self.returned(job, attempt, &mut actions),
            Event::Ended { job, attempt, reason, jitter } => {
                actions.extend(self.ended(job, attempt, reason, jitter, now));
            }
            Event::Resized { job, size } => self.resized(job, size),
            Event::Recorded { job } => self.recorded(job, now, &mut actions),
            Event::Cancel { job } => actions.extend(self.cancel(job)),
            Event::Tick => self.tick(now),
            Event::StoreFailed(why) => self.store_failure = Some(why),
            Event::StoreBack => self.store_failure = None,
            Event::Drain => self.draining = true,
        }
        self.dispatch(&mut actions);
        actions
    }

    /// A runner, known from now on at the latest.
    fn runner_mut(&mut self, name: RunnerName) -> &mut Runner {
        let drained = self.drained.contains(&name);
        self.runners.entry(name).or_insert_with(|| Runner::new(drained))
    }

    fn drain(&mut self, name: RunnerName, drained: bool) {
        if let Some(runner) = self.runners.get_mut(&name) {
            runner.drained = drained;
        }
        if drained {
            self.drained.insert(name, |name| self.runners.contains_key(name));
        } else {
            self.drained.remove(&name);
        }
    }

    fn forget_if_idle(&mut self, name: &RunnerName) {
        if self.runners.get(name).is_some_and(|r| !r.listed && r.out == 0) {
            self.runners.remove(name);
        }
    }
}
