//! The model: what must be true of every job and runner, kept beside the scheduler and compared
//! after each event.

use std::collections::BTreeMap;

use cloister_api::{Network, Reason, RunnerHealth, RunnerState, Timestamp};
use proptest::prelude::*;
use uuid::Uuid;

use super::{
    super::{Action, Event, Facts, Needs, RunnerName, Scheduler, queue::Rank},
    Step, name,
};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    Queued,
    Delayed(Timestamp),
    Out(RunnerName),
    Recording(Option<Timestamp>),
    Over,
}

#[derive(Clone, Debug)]
pub(super) struct ModelJob {
    pub(super) facts: Facts,
    pub(super) place: Place,
    pub(super) cancelled: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct ModelRunner {
    pub(super) listed: bool,
    pub(super) up: bool,
    pub(super) held: Option<Timestamp>,
    pub(super) health: Option<RunnerHealth>,
}

pub(super) struct World {
    pub(super) scheduler: Scheduler,
    pub(super) jobs: BTreeMap<Uuid, ModelJob>,
    pub(super) runners: BTreeMap<RunnerName, ModelRunner>,
    pub(super) now: Timestamp,
    pub(super) store_failed: bool,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            scheduler: Scheduler::new(1_000),
            jobs: BTreeMap::new(),
            runners: (0..4).map(|at| (name(at), ModelRunner::default())).collect(),
            now: Timestamp(0),
            store_failed: false,
        }
    }

    pub(super) fn out_at(&self, runner: &RunnerName) -> usize {
        let there = |job: &&ModelJob| matches!(&job.place, Place::Out(r) if r == runner);
        self.jobs.values().filter(there).count()
    }

    pub(super) fn takes_work(&self, runner: &RunnerName) -> bool {
        let r = &self.runners[runner];
        r.listed && r.up && r.health.as_ref().is_some_and(|h| h.status == RunnerState::Ok)
    }

    pub(super) fn has_room(&self, runner: &RunnerName) -> bool {
        let r = &self.runners[runner];
        let slots = r.health.as_ref().map_or(0, |h| h.slots.total);
        self.takes_work(runner) && r.held.is_none() && self.out_at(runner) < slots
    }

    pub(super) fn holds(&self, runner: &RunnerName, needs: &Needs) -> bool {
        self.runners[runner].health.as_ref().is_some_and(|h| {
            needs.cpus <= h.cpus && (needs.network == Network::None || h.network_host)
        })
    }

    /// Whether this job could be given to this runner now.
    pub(super) fn could(&self, job: &ModelJob, runner: &RunnerName) -> bool {
        let facts = &job.facts;
        let usable = |r: &RunnerName| self.takes_work(r) && self.holds(r, &facts.needs);
        let elsewhere = || self.runners.keys().any(|r| !facts.avoid.contains(r) && usable(r));
        self.has_room(runner)
            && self.holds(runner, &facts.needs)
            && (!facts.avoid.contains(runner) || !elsewhere())
    }

    pub(super) fn pick(&self, at: prop::sample::Index, wanted: fn(&Place) -> bool) -> Option<Uuid> {
        let ids: Vec<Uuid> =
            self.jobs.values().filter(|job| wanted(&job.place)).map(|job| job.facts.id).collect();
        (!ids.is_empty()).then(|| ids[at.index(ids.len())])
    }

    pub(super) fn apply(&mut self, event: Event) {
        let actions = self.scheduler.apply(event, self.now);
        for action in actions {
            self.obey(action);
        }
        self.check();
    }

    pub(super) fn obey(&mut self, action: Action) {
        match action {
            Action::Dispatch { job, attempt, runner } => {
                let model = &self.jobs[&job];
                assert_eq!(model.place, Place::Queued, "dispatched twice or too early");
                assert_eq!(model.facts.attempt, attempt);
                assert!(!model.cancelled && !self.store_failed);
                assert!(self.could(model, &runner), "{runner} can't have {job}");
                let before = Rank::of(&model.facts);
                for other in self.jobs.values().filter(|j| j.place == Place::Queued) {
                    let could = self.runners.keys().any(|r| self.could(other, r));
                    assert!(Rank::of(&other.facts) >= before || !could, "out of order");
                }
                self.jobs.get_mut(&job).unwrap().place = Place::Out(runner);
            }
            Action::Finish { job } | Action::Withdraw { job } => {
                self.jobs.get_mut(&job).unwrap().place = Place::Recording(None);
            }
            Action::Retry { job, attempt, not_before } => {
                let model = self.jobs.get_mut(&job).unwrap();
                assert!(!model.cancelled, "a cancelled job goes on");
                assert_eq!(attempt, model.facts.attempt + 1);
                model.place = Place::Recording(Some(not_before));
            }
            Action::Stop { job } => {
                assert!(matches!(self.jobs[&job].place, Place::Out(_)));
            }
        }
    }

    pub(super) fn check(&self) {
        let count = |wanted: fn(&Place) -> bool| {
            self.jobs.values().filter(|job| wanted(&job.place)).count()
        };
        let waits = |p: &Place| matches!(p, Place::Queued | Place::Delayed(_));
        assert_eq!(self.scheduler.pending(), count(waits));
        assert_eq!(self.scheduler.out(), count(|p| matches!(p, Place::Out(_))));
        assert_eq!(self.scheduler.len(), count(|p| *p != Place::Over));
        for job in self.jobs.values() {
            let live = self.scheduler.live(job.facts.id);
            assert_eq!(live.is_none(), job.place == Place::Over);
            if let Some(live) = live {
                assert_eq!(live.waits, waits(&job.place));
                assert!(live.pending_reason.is_some() || live.out.is_some());
                assert!(!live.pending_reason.is_some_and(|why| why.is_empty()));
            }
            if job.place == Place::Queued && !self.store_failed {
                let idle = self.runners.keys().find(|r| self.could(job, r));
                assert_eq!(idle, None, "{job:?} waits beside a free slot");
            }
        }
    }

    pub(super) fn record(&mut self, job: Uuid) {
        let model = self.jobs.get_mut(&job).unwrap();
        match model.place {
            Place::Recording(Some(due)) if !model.cancelled => {
                model.facts.attempt += 1;
                model.place = if due > self.now { Place::Delayed(due) } else { Place::Queued };
            }
            Place::Recording(Some(_)) => model.facts.attempt += 1,
            _ => model.place = Place::Over,
        }
        self.apply(Event::Recorded { job });
    }

    pub(super) fn end(&mut self, job: Uuid, reason: Option<Reason>) {
        let model = self.jobs.get_mut(&job).unwrap();
        let Place::Out(runner) = model.place.clone() else { unreachable!() };
        let attempt = model.facts.attempt;
        let before = model.facts.clone();
        // Where it stands while the actions of this event come: the slot is free already.
        model.place = Place::Recording(None);
        self.apply(Event::Ended { job, attempt, reason, jitter: 0.5 });
        let model = self.jobs.get_mut(&job).unwrap();
        if matches!(model.place, Place::Recording(Some(_))) {
            model.facts.count(reason, Some(runner));
            assert!(model.facts.charged <= model.facts.retries);
        } else if reason == Some(Reason::SandboxError) && !model.cancelled {
            assert!(before.failed_cells >= 2, "a cell is tried three times");
        }
    }

    pub(super) fn pass(&mut self, millis: i64) {
        self.now.0 += millis;
        let now = self.now;
        for job in self.jobs.values_mut() {
            if matches!(job.place, Place::Delayed(due) if due <= now) {
                job.place = Place::Queued;
            }
        }
        for runner in self.runners.values_mut() {
            runner.held = runner.held.filter(|until| *until > now);
        }
        self.apply(Event::Tick);
    }

    pub(super) fn submit(&mut self, facts: Facts) {
        assert!(self.scheduler.reserve(&facts));
        let job = ModelJob { facts: facts.clone(), place: Place::Queued, cancelled: false };
        self.jobs.insert(facts.id, job);
        self.apply(Event::Submitted(facts));
    }

    pub(super) fn up(&mut self, at: usize, health: RunnerHealth) {
        let runner = name(at);
        // One that was never listed, or that was forgotten, is not asked for its health.
        if !self.runners[&runner].listed {
            return;
        }
        let model = self.runners.get_mut(&runner).unwrap();
        model.up = true;
        if health.slots.total > 0 {
            model.held = None;
        }
        model.health = Some(health.clone());
        self.apply(Event::Up { runner, health: Box::new(health) });
    }

    /// What the end of an attempt does to the model of its runner.
    pub(super) fn leave(&mut self, job: Uuid, untaken: bool) {
        let Place::Out(runner) = self.jobs[&job].place.clone() else { unreachable!() };
        let last = self.out_at(&runner) == 1;
        let model = self.runners.get_mut(&runner).unwrap();
        model.held = model.held.filter(|_| untaken);
        if !model.listed && last {
            *model = ModelRunner::default();
        }
    }

    /// With runners that hold everything, everything ends.
    pub(super) fn settle(&mut self) {
        self.step(Step::StoreFails(false));
        for at in 0..4 {
            self.step(Step::List(at));
            let (slots, cpus, network, draining) = (4, 8, true, false);
            self.step(Step::Up { runner: at, slots, cpus, network, draining });
        }
        while let Some(job) = self.jobs.values().find(|job| job.place != Place::Over).cloned() {
            match job.place {
                Place::Out(_) => {
                    self.leave(job.facts.id, false);
                    self.end(job.facts.id, None);
                }
                Place::Recording(_) => self.record(job.facts.id),
                Place::Delayed(due) => self.pass(due.0 - self.now.0),
                Place::Queued => {
                    let out = |job: &&ModelJob| matches!(job.place, Place::Out(_));
                    let busy = self.jobs.values().find(out).map(|job| job.facts.id);
                    let busy = busy.expect("a job waits although nothing runs");
                    self.leave(busy, false);
                    self.end(busy, None);
                }
                Place::Over => unreachable!("filtered"),
            }
        }
        assert_eq!(self.scheduler.len(), 0);
        assert_eq!(self.scheduler.out(), 0);
    }
}
