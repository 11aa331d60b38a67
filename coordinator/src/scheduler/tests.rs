//! A model of the world drives the scheduler with whatever comes, and holds it to its promises:
//! never more on a runner than its slots; no job at two places; priority and age among those that
//! could run; no free slot beside a job that it could hold; states that only move forward; and
//! nothing lost.

mod cases;

use std::collections::BTreeMap;

use cloister_api::{ByteSize, Network, Reason, RunnerHealth, RunnerState, Slots, Timestamp};
use proptest::prelude::*;
use uuid::Uuid;

use super::{Action, Event, Facts, Needs, RunnerName, Scheduler, job::Reasons, queue::Rank};

pub(super) fn facts(id: u128) -> Facts {
    Facts {
        id: Uuid::from_u128(id),
        priority: 0,
        needs: Needs {
            cpus: 1.0,
            memory: ByteSize::mib(64),
            open_files: 64,
            network: Network::None,
        },
        attempt: 1,
        retries: 0,
        retry_on: Reasons::default(),
        failed_cells: 0,
        charged: 0,
        avoid: Vec::new(),
        not_before: None,
    }
}

pub(super) fn health(boot: u128, slots: usize) -> RunnerHealth {
    RunnerHealth {
        status: RunnerState::Ok,
        boot_id: Uuid::from_u128(boot),
        version: "0".into(),
        slots: Slots {
            total: slots,
            used: 0,
        },
        cpus: 2.0,
        memory: ByteSize::mib(1024),
        open_files: 1024,
        network_host: false,
        problems: Vec::new(),
        enforcement: Vec::new(),
    }
}

fn name(at: usize) -> RunnerName {
    format!("http://r{at}").into()
}

#[derive(Clone, Debug)]
enum Step {
    Submit {
        priority: i32,
        cpus: u8,
        retries: u32,
        network: bool,
    },
    List(usize),
    Unlist(usize),
    Up {
        runner: usize,
        slots: usize,
        cpus: u8,
        network: bool,
        draining: bool,
    },
    Down(usize),
    Held(usize),
    Start(prop::sample::Index),
    Return(prop::sample::Index),
    End(prop::sample::Index, Option<Reason>),
    Record(prop::sample::Index),
    Cancel(prop::sample::Index),
    Pass(i64),
    StoreFails(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let which = any::<prop::sample::Index>;
    let runner = 0..4_usize;
    let reason = prop::option::of(prop::sample::select(Reason::ALL.to_vec()));
    prop_oneof![
        6 => (-2..3_i32, 1..4_u8, 0..3_u32, prop::bool::weighted(0.2)).prop_map(
            |(priority, cpus, retries, network)| Step::Submit { priority, cpus, retries, network }),
        2 => runner.clone().prop_map(Step::List),
        1 => runner.clone().prop_map(Step::Unlist),
        4 => (runner.clone(), 0..4_usize, 1..4_u8, any::<bool>(), prop::bool::weighted(0.1)).prop_map(
            |(runner, slots, cpus, network, draining)|
                Step::Up { runner, slots, cpus, network, draining }),
        1 => runner.clone().prop_map(Step::Down),
        1 => runner.prop_map(Step::Held),
        2 => which().prop_map(Step::Start),
        1 => which().prop_map(Step::Return),
        5 => (which(), reason).prop_map(|(at, reason)| Step::End(at, reason)),
        6 => which().prop_map(Step::Record),
        1 => which().prop_map(Step::Cancel),
        2 => (0..5_000_i64).prop_map(Step::Pass),
        1 => prop::bool::weighted(0.3).prop_map(Step::StoreFails),
    ]
}

#[derive(Clone, Debug, PartialEq)]
enum Place {
    Queued,
    Delayed(Timestamp),
    Out(RunnerName),
    Recording(Option<Timestamp>),
    Over,
}

#[derive(Clone, Debug)]
struct ModelJob {
    facts: Facts,
    place: Place,
    cancelled: bool,
}

#[derive(Clone, Debug, Default)]
struct ModelRunner {
    listed: bool,
    up: bool,
    held: Option<Timestamp>,
    health: Option<RunnerHealth>,
}

struct World {
    scheduler: Scheduler,
    jobs: BTreeMap<Uuid, ModelJob>,
    runners: BTreeMap<RunnerName, ModelRunner>,
    now: Timestamp,
    store_failed: bool,
}

impl World {
    fn new() -> Self {
        Self {
            scheduler: Scheduler::new(1_000),
            jobs: BTreeMap::new(),
            runners: (0..4)
                .map(|at| (name(at), ModelRunner::default()))
                .collect(),
            now: Timestamp(0),
            store_failed: false,
        }
    }

    fn out_at(&self, runner: &RunnerName) -> usize {
        let there = |job: &&ModelJob| matches!(&job.place, Place::Out(r) if r == runner);
        self.jobs.values().filter(there).count()
    }

    fn takes_work(&self, runner: &RunnerName) -> bool {
        let r = &self.runners[runner];
        r.listed
            && r.up
            && r.health
                .as_ref()
                .is_some_and(|h| h.status == RunnerState::Ok)
    }

    fn has_room(&self, runner: &RunnerName) -> bool {
        let r = &self.runners[runner];
        let slots = r.health.as_ref().map_or(0, |h| h.slots.total);
        self.takes_work(runner) && r.held.is_none() && self.out_at(runner) < slots
    }

    fn holds(&self, runner: &RunnerName, needs: &Needs) -> bool {
        self.runners[runner].health.as_ref().is_some_and(|h| {
            needs.cpus <= h.cpus && (needs.network == Network::None || h.network_host)
        })
    }

    /// Whether this job could be given to this runner now.
    fn could(&self, job: &ModelJob, runner: &RunnerName) -> bool {
        let facts = &job.facts;
        let usable = |r: &RunnerName| self.takes_work(r) && self.holds(r, &facts.needs);
        let elsewhere = || {
            self.runners
                .keys()
                .any(|r| !facts.avoid.contains(r) && usable(r))
        };
        self.has_room(runner)
            && self.holds(runner, &facts.needs)
            && (!facts.avoid.contains(runner) || !elsewhere())
    }

    fn pick(&self, at: prop::sample::Index, wanted: fn(&Place) -> bool) -> Option<Uuid> {
        let ids: Vec<Uuid> = self
            .jobs
            .values()
            .filter(|job| wanted(&job.place))
            .map(|job| job.facts.id)
            .collect();
        (!ids.is_empty()).then(|| ids[at.index(ids.len())])
    }

    fn apply(&mut self, event: Event) {
        let actions = self.scheduler.apply(event, self.now);
        for action in actions {
            self.obey(action);
        }
        self.check();
    }

    fn obey(&mut self, action: Action) {
        match action {
            Action::Dispatch {
                job,
                attempt,
                runner,
            } => {
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
            Action::Retry {
                job,
                attempt,
                not_before,
            } => {
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

    fn check(&self) {
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

    fn record(&mut self, job: Uuid) {
        let model = self.jobs.get_mut(&job).unwrap();
        match model.place {
            Place::Recording(Some(due)) if !model.cancelled => {
                model.facts.attempt += 1;
                model.place = if due > self.now {
                    Place::Delayed(due)
                } else {
                    Place::Queued
                };
            }
            Place::Recording(Some(_)) => model.facts.attempt += 1,
            _ => model.place = Place::Over,
        }
        self.apply(Event::Recorded { job });
    }

    fn end(&mut self, job: Uuid, reason: Option<Reason>) {
        let model = self.jobs.get_mut(&job).unwrap();
        let Place::Out(runner) = model.place.clone() else {
            unreachable!()
        };
        let attempt = model.facts.attempt;
        let before = model.facts.clone();
        // Where it stands while the actions of this event come: the slot is free already.
        model.place = Place::Recording(None);
        self.apply(Event::Ended {
            job,
            attempt,
            reason,
            jitter: 0.5,
        });
        let model = self.jobs.get_mut(&job).unwrap();
        if matches!(model.place, Place::Recording(Some(_))) {
            model.facts.count(reason, Some(runner));
            assert!(model.facts.charged <= model.facts.retries);
        } else if reason == Some(Reason::SandboxError) && !model.cancelled {
            assert!(before.failed_cells >= 2, "a cell is tried three times");
        }
    }

    fn pass(&mut self, millis: i64) {
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

    fn submit(&mut self, facts: Facts) {
        assert!(self.scheduler.reserve());
        self.scheduler.release();
        let job = ModelJob {
            facts: facts.clone(),
            place: Place::Queued,
            cancelled: false,
        };
        self.jobs.insert(facts.id, job);
        self.apply(Event::Submitted(facts));
    }

    fn up(&mut self, at: usize, health: RunnerHealth) {
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
        self.apply(Event::Up {
            runner,
            health: Box::new(health),
        });
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Submit {
                priority,
                cpus,
                retries,
                network,
            } => {
                let mut facts = facts(self.jobs.len() as u128 + 1);
                facts.priority = priority;
                facts.needs.cpus = f64::from(cpus);
                facts.needs.network = if network {
                    Network::Host
                } else {
                    Network::None
                };
                facts.retries = retries;
                facts.retry_on = [Reason::RunnerLost, Reason::SandboxError]
                    .into_iter()
                    .collect();
                self.submit(facts);
            }
            Step::List(at) => {
                self.runners.get_mut(&name(at)).unwrap().listed = true;
                self.apply(Event::Listed(name(at)));
            }
            Step::Unlist(at) => {
                let idle = self.out_at(&name(at)) == 0;
                let model = self.runners.get_mut(&name(at)).unwrap();
                model.listed = false;
                if idle {
                    *model = ModelRunner::default();
                }
                self.apply(Event::Unlisted(name(at)));
            }
            Step::Up {
                runner,
                slots,
                cpus,
                network,
                draining,
            } => {
                let mut health = health(runner as u128 + 1, slots);
                health.cpus = f64::from(cpus);
                health.network_host = network;
                if draining {
                    health.status = RunnerState::Draining;
                }
                self.up(runner, health);
            }
            Step::Down(at) => {
                self.runners.get_mut(&name(at)).unwrap().up = false;
                self.apply(Event::Down {
                    runner: name(at),
                    why: "refused".into(),
                });
            }
            Step::Held(at) => {
                let until = Timestamp(self.now.0 + 1_000);
                let model = self.runners.get_mut(&name(at)).unwrap();
                if model.listed {
                    model.held = Some(until);
                    let (runner, why) = (name(at), "is full".into());
                    self.apply(Event::Held {
                        runner,
                        until,
                        busy: true,
                        why,
                    });
                }
            }
            Step::Pass(millis) => self.pass(millis),
            Step::StoreFails(fails) => {
                self.store_failed = fails;
                let event = if fails {
                    Event::StoreFailed("full".into())
                } else {
                    Event::StoreBack
                };
                self.apply(event);
            }
            step => self.step_of_a_job(step),
        }
    }

    fn step_of_a_job(&mut self, step: Step) {
        let out = |place: &Place| matches!(place, Place::Out(_));
        match step {
            Step::Start(at) => {
                if let Some(job) = self.pick(at, out) {
                    let attempt = self.jobs[&job].facts.attempt;
                    self.apply(Event::Started {
                        job,
                        attempt,
                        at: self.now,
                    });
                    assert_eq!(self.scheduler.live(job).unwrap().pending_reason, None);
                }
            }
            Step::Return(at) => {
                if let Some(job) = self.pick(at, out) {
                    self.leave(job, true);
                    let model = self.jobs.get_mut(&job).unwrap();
                    model.place = if model.cancelled {
                        Place::Recording(None)
                    } else {
                        Place::Queued
                    };
                    let attempt = model.facts.attempt;
                    self.apply(Event::Returned { job, attempt });
                }
            }
            Step::End(at, reason) => {
                if let Some(job) = self.pick(at, out) {
                    self.leave(job, false);
                    self.end(job, reason);
                }
            }
            Step::Record(at) => {
                if let Some(job) = self.pick(at, |place| matches!(place, Place::Recording(_))) {
                    self.record(job);
                }
            }
            Step::Cancel(at) => {
                if let Some(job) = self.pick(at, |place| *place != Place::Over) {
                    let model = self.jobs.get_mut(&job).unwrap();
                    model.cancelled = true;
                    if matches!(model.place, Place::Queued | Place::Delayed(_)) {
                        model.place = Place::Recording(None);
                    }
                    self.apply(Event::Cancel { job });
                }
            }
            _ => unreachable!("the others are steps of the world"),
        }
    }

    /// What the end of an attempt does to the model of its runner.
    fn leave(&mut self, job: Uuid, untaken: bool) {
        let Place::Out(runner) = self.jobs[&job].place.clone() else {
            unreachable!()
        };
        let last = self.out_at(&runner) == 1;
        let model = self.runners.get_mut(&runner).unwrap();
        model.held = model.held.filter(|_| untaken);
        if !model.listed && last {
            *model = ModelRunner::default();
        }
    }

    /// With runners that hold everything, everything ends.
    fn settle(&mut self) {
        self.step(Step::StoreFails(false));
        for at in 0..4 {
            self.step(Step::List(at));
            let (slots, cpus, network, draining) = (4, 8, true, false);
            self.step(Step::Up {
                runner: at,
                slots,
                cpus,
                network,
                draining,
            });
        }
        while let Some(job) = self
            .jobs
            .values()
            .find(|job| job.place != Place::Over)
            .cloned()
        {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn keeps_its_promises_whatever_comes(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.settle();
    }
}
