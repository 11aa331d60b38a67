//! The model: what must be true of every job and runner, kept beside the scheduler and compared
//! after each event.

use std::collections::BTreeMap;

use cloister_api::{Network, Reason, RunnerHealth, RunnerState, Timestamp};
use proptest::prelude::*;
use uuid::Uuid;

use super::{
    super::{
        Action, BreakerState, Event, Facts, Needs, RunnerName, Scheduler, Waiting, queue::Rank,
    },
    jobs, name,
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
    pub(super) drained: bool,
    /// How its breaker stands, as it is told; what that makes of it is checked here.
    pub(super) breaker: Option<BreakerState>,
    /// The job by which it is tried.
    pub(super) trial: Option<Uuid>,
}

impl ModelRunner {
    /// Only what an operator said of it is remembered.
    pub(super) fn forget(&mut self) {
        *self = Self { drained: self.drained, ..Self::default() };
    }
}

pub(super) struct World {
    pub(super) scheduler: Scheduler,
    pub(super) jobs: BTreeMap<Uuid, ModelJob>,
    pub(super) runners: BTreeMap<RunnerName, ModelRunner>,
    pub(super) now: Timestamp,
    pub(super) store_failed: bool,
    pub(super) paused: bool,
    pub(super) leading: bool,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            scheduler: Scheduler::new(jobs(1_000)),
            jobs: BTreeMap::new(),
            runners: (0..4).map(|at| (name(at), ModelRunner::default())).collect(),
            now: Timestamp(0),
            store_failed: false,
            paused: false,
            leading: false,
        }
    }

    fn dispatches(&self) -> bool {
        self.leading && !self.paused && !self.store_failed
    }

    pub(super) fn out_at(&self, runner: &RunnerName) -> usize {
        let there = |job: &&ModelJob| matches!(&job.place, Place::Out(r) if r == runner);
        self.jobs.values().filter(there).count()
    }

    pub(super) fn takes_work(&self, runner: &RunnerName) -> bool {
        let r = &self.runners[runner];
        let able = r.health.as_ref().is_some_and(|h| h.status == RunnerState::Ok);
        let rests = r.breaker == Some(BreakerState::Open);
        r.listed && r.up && able && !r.drained && !rests
    }

    pub(super) fn has_room(&self, runner: &RunnerName) -> bool {
        let r = &self.runners[runner];
        let slots = r.health.as_ref().map_or(0, |h| h.slots.total);
        let tried = r.breaker == Some(BreakerState::HalfOpen) && r.trial.is_some();
        self.takes_work(runner) && !tried && r.held.is_none() && self.out_at(runner) < slots
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
        let views = self.scheduler.runners();
        for (name, model) in &mut self.runners {
            model.breaker = views.iter().find(|view| view.name == *name).map(|view| view.breaker);
            if model.breaker != Some(BreakerState::HalfOpen) {
                model.trial = None;
            }
        }
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
                assert!(!model.cancelled && self.dispatches());
                assert!(self.could(model, &runner), "{runner} can't have {job}");
                let before = Rank::of(&model.facts);
                for other in self.jobs.values().filter(|j| j.place == Place::Queued) {
                    let could = self.runners.keys().any(|r| self.could(other, r));
                    assert!(Rank::of(&other.facts) >= before || !could, "out of order");
                }
                let there = self.runners.get_mut(&runner).unwrap();
                if there.breaker == Some(BreakerState::HalfOpen) {
                    assert_eq!(there.trial.replace(job), None, "tried twice at once");
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
        let waiting = self.jobs.values().filter(|job| waits(&job.place));
        let size = waiting.map(|job| job.facts.size).sum();
        assert_eq!(self.scheduler.waiting(), Waiting { jobs: count(waits), size });
        assert_eq!(self.scheduler.out(), count(|p| matches!(p, Place::Out(_))));
        assert_eq!(self.scheduler.len(), count(|p| *p != Place::Over));
        assert_eq!(self.scheduler.leads(), self.leading);
        for view in self.scheduler.runners() {
            let model = &self.runners[&view.name];
            assert_eq!(view.out, self.out_at(&view.name));
            assert_eq!((view.listed, view.drained), (model.listed, model.drained));
            assert!(view.listed || view.out > 0 || view.drained, "{} is kept", view.name);
            assert_eq!(view.opens_until.is_some(), view.breaker == BreakerState::Open);
        }
        // Whatever the clock did, nothing is put off for longer than anything may be.
        let longest = Timestamp(self.now.0 + 60_000);
        assert!(self.scheduler.next_due().is_none_or(|due| due <= longest));
        for job in self.jobs.values() {
            let live = self.scheduler.live(job.facts.id);
            assert_eq!(live.is_none(), job.place == Place::Over);
            if let Some(live) = live {
                assert_eq!(live.waits, waits(&job.place));
                assert!(live.pending_reason.is_some() || live.out.is_some());
                assert!(!live.pending_reason.is_some_and(|why| why.is_empty()));
            }
            if job.place == Place::Queued && self.dispatches() {
                let idle = self.runners.keys().find(|r| self.could(job, r));
                assert_eq!(idle, None, "{job:?} waits beside a free slot");
            }
        }
    }

    pub(super) fn record(&mut self, job: Uuid) {
        let model = self.jobs.get_mut(&job).unwrap();
        if matches!(model.place, Place::Recording(Some(_))) {
            model.facts.size += 77;
            let size = model.facts.size;
            self.apply(Event::Resized { job, size });
        }
        let model = self.jobs.get_mut(&job).unwrap();
        match model.place {
            Place::Recording(Some(due)) if !model.cancelled => {
                model.facts.attempt += 1;
                let bounded = due.min(Timestamp(self.now.0 + 60_000));
                model.place = if due > self.now { Place::Delayed(bounded) } else { Place::Queued };
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
        assert!(self.scheduler.next_due().is_none_or(|due| due > now), "would tick for ever");
    }

    pub(super) fn set_back(&mut self, millis: i64) {
        self.now.0 -= millis;
        for job in self.jobs.values_mut() {
            if let Place::Delayed(due) = &mut job.place {
                due.0 -= millis;
            }
        }
        for runner in self.runners.values_mut() {
            runner.held = runner.held.map(|until| Timestamp(until.0 - millis));
        }
        self.apply(Event::Tick);
    }

    pub(super) fn submit(&mut self, facts: Facts) {
        // What is told before it leads was in the store.
        assert_eq!(self.scheduler.reserve(&facts).is_ok(), self.leading);
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
        model.trial = model.trial.filter(|trial| *trial != job);
        if !model.listed && last {
            model.forget();
        }
    }
}
