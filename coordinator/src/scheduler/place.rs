//! Which job goes to which runner now.

use std::collections::BTreeSet;

use cloister_api::{RunnerHealth, Timestamp};
use uuid::Uuid;

use super::{
    Action, RunnerName, Scheduler,
    breaker::{Breaker, Failure},
    job::{Out, Stage},
    queue::Class,
    runner::{Link, Runner},
};

impl Scheduler {
    pub(super) fn up(&mut self, name: &RunnerName, health: Box<RunnerHealth>) {
        let Some(runner) = self.runners.get_mut(name) else {
            return;
        };
        let free = health.slots.used < health.slots.total;
        runner.full_until = runner.full_until.filter(|_| !free);
        if runner.boot_id() == Some(health.boot_id) {
            runner.breaker.answered();
        } else {
            runner.breaker = Breaker::default();
        }
        runner.link = Link::Up;
        runner.health = Some(health);
        self.runners_changed();
    }

    pub(super) fn down(&mut self, name: &RunnerName, why: String, now: Timestamp) {
        if let Some(runner) = self.runners.get_mut(name) {
            // In full: health checks are not made at the same time, so these ends do not meet.
            runner.breaker.failed(Failure::Silence, &why, 1.0, now);
            runner.link = Link::Down(why);
            self.runners_changed();
        }
    }

    /// Finds out anew which runners are the same one under two addresses, and which capacities
    /// there are.
    pub(super) fn runners_changed(&mut self) {
        let mut boots = BTreeSet::new();
        for runner in self.runners.values_mut() {
            let boot = runner.boot_id().filter(|_| runner.listed && runner.is_up());
            runner.twin = boot.is_some_and(|boot| !boots.insert(boot));
        }
        self.judge_clocks();
        let listed = self.runners.values().filter(|runner| runner.listed);
        if self.queue.reshape(listed.filter_map(Runner::capacity)) {
            let queued = self.jobs.values().filter(|e| matches!(e.stage, Stage::Queued));
            self.queue.regroup(queued.map(|entry| &entry.facts));
        }
    }

    /// Gives out jobs while there is a job and a runner with room for it.
    pub(super) fn dispatch(&mut self, actions: &mut Vec<Action>) {
        let stopped = self.draining || self.paused.is_some() || self.store_failure.is_some();
        if !self.leading || stopped {
            return;
        }
        while self.queue.len() > 0
            && let Some((job, name)) = self.next_placement()
        {
            let (Some(entry), Some(runner)) =
                (self.jobs.get_mut(&job), self.runners.get_mut(&name))
            else {
                return;
            };
            self.queue.remove(&entry.facts);
            self.turns += 1;
            runner.turn = self.turns;
            runner.out += 1;
            runner.breaker.given(job);
            entry.stage = Stage::Out(Out { runner: name.clone(), started_at: None });
            actions.push(Action::Dispatch { job, attempt: entry.facts.attempt, runner: name });
        }
    }

    /// The first job, in order, that some runner with room could hold, and the runner in turn.
    fn next_placement(&self) -> Option<(Uuid, RunnerName)> {
        let mut free: Vec<(&RunnerName, &Runner)> =
            self.runners.iter().filter(|(_, runner)| runner.has_room()).collect();
        if free.is_empty() {
            return None;
        }
        free.sort_unstable_by_key(|(_, runner)| runner.turn);
        self.queue
            .heads()
            .filter_map(|(class, rank)| {
                let (name, _) = free.iter().find(|(name, r)| self.suits(class, name, r))?;
                Some((rank, *name))
            })
            .min_by_key(|(rank, _)| *rank)
            .map(|(rank, name)| (rank.id, name.clone()))
    }

    /// Whether this runner may have the jobs of this class: it could hold them, and it is not one to
    /// avoid while another that could hold them takes work.
    fn suits(&self, class: &Class, name: &RunnerName, runner: &Runner) -> bool {
        let could = |r: &Runner| r.capacity().is_some_and(|c| self.queue.fits(class, &c));
        could(runner)
            && (!class.avoid.contains(name)
                || !self
                    .runners
                    .iter()
                    .any(|(other, r)| !class.avoid.contains(other) && r.takes_work() && could(r)))
    }
}
