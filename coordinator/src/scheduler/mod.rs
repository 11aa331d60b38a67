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
//! left alone until its health shows a free one.
//!
//! Seams: leases and epochs belong to the engine's record of an attempt; fair share between tenants
//! goes between priority and age, into the order of the [`queue`]; a breaker is one more reason for
//! which a [`runner`] takes no work.

mod event;
mod job;
mod place;
mod queue;
mod retry;
mod runner;
mod why;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cloister_api::{Reason, Timestamp};
use uuid::Uuid;

pub(crate) use self::{
    event::{Action, Event},
    job::{Facts, Needs, RunnerName},
    why::{Live, RunnerView},
};
use self::{
    job::{Entry, Out, Stage},
    queue::Queue,
    runner::{Hold, Link, Runner},
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Scheduler {
    max_queue: usize,
    /// Jobs that are being committed.
    storing: usize,
    jobs: HashMap<Uuid, Entry>,
    queue: Queue,
    delayed: BTreeSet<(Timestamp, Uuid)>,
    runners: BTreeMap<RunnerName, Runner>,
    turns: u64,
    store_failure: Option<String>,
    draining: bool,
}

impl Scheduler {
    /// Nothing is known yet; at most `max_queue` jobs may wait.
    pub(crate) fn new(max_queue: usize) -> Self {
        Self {
            max_queue,
            storing: 0,
            jobs: HashMap::new(),
            queue: Queue::default(),
            delayed: BTreeSet::new(),
            runners: BTreeMap::new(),
            turns: 0,
            store_failure: None,
            draining: false,
        }
    }

    /// Promises a place in the queue to a job that is about to be committed; false when there is
    /// none. The promise ends with the job's `Submitted`, or by [`release`](Self::release).
    pub(crate) fn reserve(&mut self, facts: &Facts) -> bool {
        let room = !self.draining && self.pending() + self.storing < self.max_queue;
        if room {
            self.storing += 1;
            let entry = Entry { facts: facts.clone(), stage: Stage::Storing, cancel: false };
            self.jobs.insert(facts.id, entry);
        }
        room
    }

    /// The job of a [`reserve`](Self::reserve) was not committed.
    pub(crate) fn release(&mut self, job: Uuid) {
        if let Some(entry) = self.jobs.remove(&job) {
            if matches!(entry.stage, Stage::Storing) {
                self.storing -= 1;
            } else {
                self.jobs.insert(job, entry);
            }
        }
    }

    /// Jobs that wait for a runner or back off.
    pub(crate) fn pending(&self) -> usize {
        self.queue.len() + self.delayed.len()
    }

    /// Attempts that runners have.
    pub(crate) fn out(&self) -> usize {
        self.runners.values().map(|runner| runner.out).sum()
    }

    /// Whether nothing more is dispatched.
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
        let holds = self.runners.values().filter_map(|r| Some(r.hold.as_ref()?.until));
        let delayed = self.delayed.first().map(|(due, _)| *due);
        holds.chain(delayed).min()
    }

    /// Takes in what happened and answers what is to be done. Events about jobs, attempts or runners
    /// that are not known (any more) are late, and ignored.
    pub(crate) fn apply(&mut self, event: Event, now: Timestamp) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Submitted(facts) => actions.extend(self.submitted(facts, now)),
            Event::Resumed { facts, runner, started_at, cancel } => {
                self.runners.entry(runner.clone()).or_insert_with(Runner::new).out += 1;
                let stage = Stage::Out(Out { runner, started_at });
                self.jobs.insert(facts.id, Entry { facts, stage, cancel });
            }
            Event::Listed(runner) => {
                self.runners.entry(runner).or_insert_with(Runner::new).listed = true;
                self.runners_changed();
            }
            Event::Unlisted(name) => {
                if let Some(runner) = self.runners.get_mut(&name) {
                    runner.listed = false;
                    self.forget_if_idle(&name);
                    self.runners_changed();
                }
            }
            Event::Up { runner, health } => self.up(&runner, health),
            Event::Down { runner, why } => {
                if let Some(runner) = self.runners.get_mut(&runner) {
                    runner.link = Link::Down(why);
                    self.runners_changed();
                }
            }
            Event::Held { runner, until, busy, why } => {
                if let Some(runner) = self.runners.get_mut(&runner) {
                    runner.hold = Some(Hold { until, busy, why });
                }
            }
            Event::Started { job, attempt, at } => {
                if let Some(out) = self.out_mut(job, attempt) {
                    out.started_at.get_or_insert(at);
                }
            }
            Event::Returned { job, attempt } => self.returned(job, attempt, &mut actions),
            Event::Ended { job, attempt, reason, jitter } => {
                actions.extend(self.ended(job, attempt, reason, jitter, now));
            }
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

    fn submitted(&mut self, facts: Facts, now: Timestamp) -> Option<Action> {
        let job = facts.id;
        let promised = self.jobs.remove(&job);
        self.storing -= usize::from(promised.is_some());
        let cancel = promised.is_some_and(|entry| entry.cancel);
        let stage = if cancel {
            Stage::Recording { out: None, again: None }
        } else {
            self.line_up(&facts, now)
        };
        let entry = Entry { facts, stage, cancel };
        self.jobs.insert(job, entry);
        cancel.then_some(Action::Withdraw { job })
    }

    /// Puts a job in the queue, or aside while it backs off.
    fn line_up(&mut self, facts: &Facts, now: Timestamp) -> Stage {
        match facts.not_before {
            Some(due) if due > now => {
                self.delayed.insert((due, facts.id));
                Stage::Delayed(due)
            }
            _ => {
                self.queue.push(facts);
                Stage::Queued
            }
        }
    }

    fn out_mut(&mut self, job: Uuid, attempt: u32) -> Option<&mut Out> {
        let entry = self.jobs.get_mut(&job)?;
        match &mut entry.stage {
            Stage::Out(out) if entry.facts.attempt == attempt => Some(out),
            _ => None,
        }
    }

    fn returned(&mut self, job: Uuid, attempt: u32, actions: &mut Vec<Action>) {
        let Some(runner) = self.out_mut(job, attempt).map(|out| out.runner.clone()) else {
            return;
        };
        self.free_slot(&runner);
        let Some(entry) = self.jobs.get_mut(&job) else {
            return;
        };
        if entry.cancel {
            entry.stage = Stage::Recording { out: None, again: None };
            actions.push(Action::Withdraw { job });
        } else {
            entry.stage = Stage::Queued;
            self.queue.push(&entry.facts);
        }
    }

    fn ended(
        &mut self,
        job: Uuid,
        attempt: u32,
        reason: Option<Reason>,
        jitter: f64,
        now: Timestamp,
    ) -> Option<Action> {
        let out = self.out_mut(job, attempt)?.clone();
        self.took_its_course(&out.runner, reason);
        self.free_slot(&out.runner);
        let entry = self.jobs.get_mut(&job)?;
        let again = retry::again(&entry.facts, reason, jitter, now).filter(|_| !entry.cancel);
        if again.is_some() {
            entry.facts.count(reason, Some(out.runner.clone()));
        }
        entry.stage = Stage::Recording { out: Some(out), again };
        Some(match again {
            None => Action::Finish { job },
            Some(not_before) => {
                Action::Retry { job, attempt: attempt.saturating_add(1), not_before }
            }
        })
    }

    /// An attempt has left its runner: counts a cell that could not be made against it, and lets a
    /// full one have the slot that is free there now, whoever has the others.
    fn took_its_course(&mut self, name: &RunnerName, reason: Option<Reason>) {
        let Some(runner) = self.runners.get_mut(name) else {
            return;
        };
        runner.hold = runner.hold.take().filter(|hold| !hold.busy);
        match reason {
            Some(Reason::SandboxError) => {
                runner.failed_cells += 1;
                runner.failed_in_a_row += 1;
            }
            Some(Reason::RunnerLost) => {}
            _ => runner.failed_in_a_row = 0,
        }
    }

    fn free_slot(&mut self, name: &RunnerName) {
        if let Some(runner) = self.runners.get_mut(name) {
            runner.out = runner.out.saturating_sub(1);
            self.forget_if_idle(name);
        }
    }

    fn forget_if_idle(&mut self, name: &RunnerName) {
        if self.runners.get(name).is_some_and(|r| !r.listed && r.out == 0) {
            self.runners.remove(name);
        }
    }

    fn recorded(&mut self, job: Uuid, now: Timestamp, actions: &mut Vec<Action>) {
        let Some(mut entry) = self.jobs.remove(&job) else {
            return;
        };
        match entry.stage {
            Stage::Recording { again: None, .. } => return,
            Stage::Recording { again: Some(due), .. } => {
                entry.facts.attempt = entry.facts.attempt.saturating_add(1);
                entry.facts.not_before = Some(due);
                entry.stage = if entry.cancel {
                    actions.push(Action::Withdraw { job });
                    Stage::Recording { out: None, again: None }
                } else {
                    self.line_up(&entry.facts, now)
                };
            }
            // Late, as all that is not known: the job stands elsewhere by now.
            _ => {}
        }
        self.jobs.insert(job, entry);
    }

    fn cancel(&mut self, job: Uuid) -> Option<Action> {
        let entry = self.jobs.get_mut(&job)?;
        let asked_before = std::mem::replace(&mut entry.cancel, true);
        match entry.stage {
            Stage::Queued => self.queue.remove(&entry.facts),
            Stage::Delayed(due) => {
                self.delayed.remove(&(due, job));
            }
            Stage::Out(_) => return (!asked_before).then_some(Action::Stop { job }),
            Stage::Storing | Stage::Recording { .. } => return None,
        }
        entry.stage = Stage::Recording { out: None, again: None };
        Some(Action::Withdraw { job })
    }

    fn tick(&mut self, now: Timestamp) {
        for runner in self.runners.values_mut() {
            runner.hold = runner.hold.take().filter(|hold| hold.until > now);
        }
        while let Some((due, job)) = self.delayed.first().copied()
            && due <= now
        {
            self.delayed.pop_first();
            if let Some(entry) = self.jobs.get_mut(&job) {
                entry.stage = Stage::Queued;
                self.queue.push(&entry.facts);
            }
        }
    }
}
