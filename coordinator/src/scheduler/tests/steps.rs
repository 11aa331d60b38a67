//! What each step does to the model and to the scheduler.

use cloister_api::{Network, Reason, RunnerState, Timestamp};

use super::{
    super::Event,
    Step, facts, health, name,
    world::{Place, World},
};

impl World {
    pub(super) fn step(&mut self, step: Step) {
        match step {
            Step::Submit { priority, cpus, retries, network } => {
                let mut facts = facts(self.jobs.len() as u128 + 1);
                facts.priority = priority;
                facts.needs.cpus = f64::from(cpus);
                facts.needs.network = if network { Network::Host } else { Network::None };
                facts.retries = retries;
                facts.retry_on = [Reason::RunnerLost, Reason::SandboxError].into_iter().collect();
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
                    model.forget();
                }
                self.apply(Event::Unlisted(name(at)));
            }
            Step::Up { runner, life, slots, cpus, network, draining } => {
                let mut health = health(runner as u128 * 10 + life, slots);
                health.cpus = f64::from(cpus);
                health.network_host = network;
                if draining {
                    health.status = RunnerState::Draining;
                }
                self.up(runner, health);
            }
            Step::Down(at) => {
                self.runners.get_mut(&name(at)).unwrap().up = false;
                self.apply(Event::Down { runner: name(at), why: "refused".into() });
            }
            Step::Held(at) => {
                let until = Timestamp(self.now.0 + 1_000);
                let model = self.runners.get_mut(&name(at)).unwrap();
                if model.listed {
                    model.held = Some(until);
                    self.apply(Event::Held { runner: name(at), until });
                }
            }
            Step::Fail(at, times) => {
                for _ in 0..times {
                    let why = "what it said makes no sense".into();
                    self.apply(Event::Failed { runner: name(at), why, jitter: 0.5 });
                }
            }
            Step::Drain(at, drained) => {
                self.runners.get_mut(&name(at)).unwrap().drained = drained;
                self.apply(Event::Drained { runner: name(at), drained });
            }
            Step::Pause(paused) => {
                self.paused = paused;
                self.apply(Event::Paused(paused.then(|| "maintenance".into())));
            }
            Step::Lead(true) => {
                self.leading = true;
                self.apply(Event::Lead);
            }
            Step::Lead(false) => self.depose(),
            Step::Resume(at) => self.resume(at),
            Step::SetBack(millis) => self.set_back(millis),
            Step::Pass(millis) => self.pass(millis),
            Step::StoreFails(fails) => {
                self.store_failed = fails;
                let event =
                    if fails { Event::StoreFailed("full".into()) } else { Event::StoreBack };
                self.apply(event);
            }
            step => self.step_of_a_job(&step),
        }
    }

    fn step_of_a_job(&mut self, step: &Step) {
        let out = |place: &Place| matches!(place, Place::Out(_));
        match step {
            Step::Start(at) => {
                if let Some(job) = self.pick(*at, out) {
                    let attempt = self.jobs[&job].facts.attempt;
                    self.apply(Event::Started { job, attempt, at: self.now });
                    assert_eq!(self.scheduler.live(job).unwrap().pending_reason, None);
                }
            }
            Step::Return(at) => {
                if let Some(job) = self.pick(*at, out) {
                    self.leave(job, true);
                    let model = self.jobs.get_mut(&job).unwrap();
                    model.place =
                        if model.cancelled { Place::Recording(None) } else { Place::Queued };
                    let attempt = model.facts.attempt;
                    self.apply(Event::Returned { job, attempt });
                }
            }
            Step::End(at, reason) => {
                if let Some(job) = self.pick(*at, out) {
                    self.leave(job, false);
                    self.end(job, *reason);
                }
            }
            Step::Record(at) => {
                if let Some(job) = self.pick(*at, |place| matches!(place, Place::Recording(_))) {
                    self.record(job);
                }
            }
            Step::Repeat(at) => {
                if let Some(job) = self.pick(*at, |place| *place != Place::Over) {
                    self.repeat(job);
                }
            }
            Step::Cancel(at) => {
                if let Some(job) = self.pick(*at, |place| *place != Place::Over) {
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
}
