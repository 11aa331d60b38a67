//! What happens to all jobs at once: another leads, a new leader hears of them, and everything ends.

use cloister_api::Timestamp;
use uuid::Uuid;

use super::{
    super::Event,
    Step, facts, name,
    world::{ModelJob, Place, World},
};

impl World {
    pub(super) fn depose(&mut self) {
        self.leading = false;
        let mut late = Vec::new();
        for job in self.jobs.values_mut() {
            if job.place != Place::Over {
                job.place = Place::Over;
                late.push(job.facts.clone());
            }
        }
        for runner in self.runners.values_mut() {
            runner.trial = None;
            if !runner.listed {
                runner.forget();
            }
        }
        // A place in the queue that was promised is as good as none.
        let promised = facts(u128::MAX);
        let _ = self.scheduler.reserve(&promised);
        self.apply(Event::Depose);
        assert_eq!((self.scheduler.len(), self.scheduler.out()), (0, 0));
        self.scheduler.release(promised.id);
        for facts in late.into_iter().chain([promised]) {
            let (job, attempt, now) = (facts.id, facts.attempt, self.now);
            for event in [
                Event::Started { job, attempt, at: now },
                Event::Returned { job, attempt },
                Event::Ended { job, attempt, reason: None, jitter: 0.5 },
                Event::Recorded { job },
                Event::Cancel { job },
            ] {
                assert_eq!(self.scheduler.apply(event, now), []);
            }
        }
        self.check();
    }

    /// A new leader hears of a job that a runner has, before it leads, or later.
    pub(super) fn resume(&mut self, at: usize) {
        let facts = facts(self.jobs.len() as u128 + 1);
        let runner = name(at);
        let place = Place::Out(runner.clone());
        let job = ModelJob { facts: facts.clone(), place, cancelled: false };
        self.jobs.insert(facts.id, job);
        self.apply(Event::Resumed { facts, runner, started_at: None, cancel: false });
    }

    /// It hears of one that it knows.
    pub(super) fn repeat(&mut self, job: Uuid) {
        let mut facts = self.jobs[&job].facts.clone();
        facts.not_before = Some(Timestamp(self.now.0 + 1_000));
        self.apply(Event::Submitted(facts.clone()));
        let started_at = Some(self.now);
        self.apply(Event::Resumed { facts, runner: name(3), started_at, cancel: true });
    }

    fn complete(&mut self, job: Uuid) {
        let attempt = self.jobs[&job].facts.attempt;
        self.apply(Event::Started { job, attempt, at: self.now });
        self.leave(job, false);
        self.end(job, None);
    }

    /// With runners that hold everything, everything ends.
    pub(super) fn settle(&mut self) {
        self.step(Step::Lead(true));
        self.step(Step::StoreFails(false));
        self.step(Step::Pause(false));
        for at in 0..4 {
            self.step(Step::List(at));
            self.step(Step::Drain(at, false));
            let (life, slots, cpus, network, draining) = (0, 4, 8, true, false);
            self.step(Step::Up { runner: at, life, slots, cpus, network, draining });
        }
        while let Some(job) = self.jobs.values().find(|job| job.place != Place::Over).cloned() {
            match job.place {
                Place::Out(_) => self.complete(job.facts.id),
                Place::Recording(_) => self.record(job.facts.id),
                Place::Delayed(due) => self.pass(due.0 - self.now.0),
                Place::Queued => {
                    let out = |job: &&ModelJob| matches!(job.place, Place::Out(_));
                    let busy = self.jobs.values().find(out).map(|job| job.facts.id);
                    match (busy, self.scheduler.next_due()) {
                        (Some(busy), _) => self.complete(busy),
                        // All runners rest.
                        (None, Some(due)) => self.pass(due.0 - self.now.0),
                        (None, None) => panic!("a job waits although nothing runs"),
                    }
                }
                Place::Over => unreachable!("filtered"),
            }
        }
        assert_eq!(self.scheduler.len(), 0);
        assert_eq!(self.scheduler.out(), 0);
    }
}
