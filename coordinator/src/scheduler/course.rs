//! What becomes of a job: from its commit through its attempts to its end.

use cloister_api::{Reason, Timestamp};
use uuid::Uuid;

use super::{
    Action, Facts, RunnerName, Scheduler,
    breaker::Failure,
    clock,
    job::{Entry, Out, Stage},
    retry,
};

impl Scheduler {
    pub(super) fn submitted(&mut self, facts: Facts, now: Timestamp) -> Option<Action> {
        let job = facts.id;
        let cancel = self.enter(job)?;
        let stage = if cancel {
            Stage::Recording { out: None, again: None }
        } else {
            self.line_up(&facts, now)
        };
        let entry = Entry { facts, stage, cancel };
        self.jobs.insert(job, entry);
        cancel.then_some(Action::Withdraw { job })
    }

    pub(super) fn resumed(&mut self, facts: Facts, out: Out, cancel: bool) {
        let job = facts.id;
        if let Some(asked) = self.enter(job) {
            self.runner_mut(out.runner.clone()).out += 1;
            let cancel = cancel || asked;
            self.jobs.insert(job, Entry { facts, stage: Stage::Out(out), cancel });
        }
    }

    /// Whether a job that is told of is to be taken in, and then whether its end was asked for while
    /// it was being stored.
    fn enter(&mut self, job: Uuid) -> Option<bool> {
        match self.jobs.get(&job) {
            None => Some(false),
            Some(Entry { stage: Stage::Storing, cancel, facts }) => {
                self.storing.take(facts.size);
                Some(*cancel)
            }
            Some(_) => None,
        }
    }

    /// Puts a job in the queue, or aside while it backs off.
    fn line_up(&mut self, facts: &Facts, now: Timestamp) -> Stage {
        match facts.not_before {
            Some(due) if due > now => {
                let due = clock::bounded(due, now);
                self.delayed.insert((due, facts.id));
                self.delayed_size = self.delayed_size.saturating_add(facts.size);
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

    pub(super) fn started(&mut self, job: Uuid, attempt: u32, at: Timestamp) {
        let Some(out) = self.out_mut(job, attempt) else {
            return;
        };
        let first = out.started_at.is_none();
        out.started_at.get_or_insert(at);
        let runner = out.runner.clone();
        if first && let Some(runner) = self.runners.get_mut(&runner) {
            runner.made_cell();
        }
    }

    pub(super) fn returned(&mut self, job: Uuid, attempt: u32, actions: &mut Vec<Action>) {
        let Some(runner) = self.out_mut(job, attempt).map(|out| out.runner.clone()) else {
            return;
        };
        self.free_slot(&runner, job);
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

    pub(super) fn ended(
        &mut self,
        job: Uuid,
        attempt: u32,
        reason: Option<Reason>,
        jitter: f64,
        now: Timestamp,
    ) -> Option<Action> {
        let out = self.out_mut(job, attempt)?.clone();
        self.took_its_course(&out, reason, jitter, now);
        self.free_slot(&out.runner, job);
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

    /// An attempt has left its runner: counts what it tells of that, and lets a full one have the slot
    /// that is free there now, whoever has the others.
    fn took_its_course(&mut self, out: &Out, reason: Option<Reason>, jitter: f64, now: Timestamp) {
        let Some(runner) = self.runners.get_mut(&out.runner) else {
            return;
        };
        runner.full_until = None;
        match reason {
            Some(Reason::SandboxError) => {
                runner.failed_cells += 1;
                runner.failed_in_a_row += 1;
                runner.breaker.failed(Failure::Cell, "a cell could not be made", jitter, now);
            }
            // The first says nothing of cells. What failed otherwise had one, which `Started` has told
            // unless it was missed.
            Some(Reason::RunnerLost) | None => {}
            Some(_) if out.started_at.is_some() => {}
            Some(_) => runner.made_cell(),
        }
    }

    fn free_slot(&mut self, name: &RunnerName, job: Uuid) {
        if let Some(runner) = self.runners.get_mut(name) {
            runner.out = runner.out.saturating_sub(1);
            runner.breaker.left(job);
            self.forget_if_idle(name);
        }
    }

    pub(super) fn recorded(&mut self, job: Uuid, now: Timestamp, actions: &mut Vec<Action>) {
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

    pub(super) fn cancel(&mut self, job: Uuid) -> Option<Action> {
        let entry = self.jobs.get_mut(&job)?;
        let asked_before = std::mem::replace(&mut entry.cancel, true);
        match entry.stage {
            Stage::Queued => self.queue.remove(&entry.facts),
            Stage::Delayed(due) => {
                self.delayed.remove(&(due, job));
                self.delayed_size = self.delayed_size.saturating_sub(entry.facts.size);
            }
            Stage::Out(_) => return (!asked_before).then_some(Action::Stop { job }),
            Stage::Storing | Stage::Recording { .. } => return None,
        }
        entry.stage = Stage::Recording { out: None, again: None };
        Some(Action::Withdraw { job })
    }
}
