//! The breaker against a model that remembers everything and works it out anew each time.

use cloister_api::Timestamp;
use proptest::prelude::*;
use uuid::Uuid;

use super::super::{
    BreakerState,
    breaker::{Breaker, Failure},
};

#[derive(Clone, Copy, Debug)]
enum Step {
    Fail(Failure),
    MakeCell,
    Answer,
    Pass(i64),
    /// It is given an attempt, if it may have one.
    Give,
    /// The attempt that it was given last comes to nothing.
    Leave,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Fail(Failure::Cell)),
        2 => Just(Step::Fail(Failure::Talk)),
        2 => Just(Step::Fail(Failure::Silence)),
        4 => Just(Step::MakeCell),
        1 => Just(Step::Answer),
        2 => (0..3_000_i64).prop_map(Step::Pass),
        1 => Just(Step::Pass(60_000)),
        2 => Just(Step::Give),
        1 => Just(Step::Leave),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stand {
    Closed,
    Open(Timestamp, Failure),
    HalfOpen(Option<Uuid>),
}

/// All that happened since it was closed, in order.
struct Model {
    past: Vec<Step>,
    stand: Stand,
    openings: u32,
    now: Timestamp,
}

impl Model {
    fn in_a_row(&self) -> usize {
        let back = || self.past.iter().rev();
        let others = back()
            .take_while(|step| !matches!(step, Step::MakeCell))
            .filter(|step| matches!(step, Step::Fail(Failure::Cell | Failure::Talk)));
        let silences = back()
            .take_while(|step| !matches!(step, Step::Answer))
            .filter(|step| matches!(step, Step::Fail(Failure::Silence)));
        others.count() + silences.count()
    }

    fn half_fail(&self) -> bool {
        let cell = |step: &&Step| matches!(step, Step::MakeCell | Step::Fail(Failure::Cell));
        let last: Vec<_> = self.past.iter().rev().filter(cell).take(20).collect();
        let failed = last.iter().filter(|step| matches!(step, Step::Fail(_))).count();
        last.len() == 20 && failed >= 10
    }

    fn step(&mut self, step: Step) {
        let silent = self
            .past
            .iter()
            .rev()
            .take_while(|step| !matches!(step, Step::Answer))
            .any(|step| matches!(step, Step::Fail(Failure::Silence)));
        self.past.push(step);
        match (step, self.stand) {
            (Step::Fail(failure), Stand::Closed) if self.in_a_row() >= 5 || self.half_fail() => {
                self.open(failure);
            }
            (Step::Fail(failure), Stand::HalfOpen(_)) => self.open(failure),
            (Step::MakeCell, Stand::HalfOpen(_)) => {
                *self = Self { now: self.now, ..Self::new() };
            }
            (Step::Answer, Stand::Open(_, Failure::Talk | Failure::Silence)) if silent => {
                self.stand = Stand::HalfOpen(None);
            }
            (Step::Pass(millis), stand) => {
                self.now.0 += millis;
                if matches!(stand, Stand::Open(until, _) if until <= self.now) {
                    self.stand = Stand::HalfOpen(None);
                }
            }
            (Step::Give, Stand::HalfOpen(trial)) => {
                assert_eq!(trial, None);
                self.stand = Stand::HalfOpen(Some(Uuid::from_u128(1)));
            }
            (Step::Leave, Stand::HalfOpen(_)) => self.stand = Stand::HalfOpen(None),
            _ => {}
        }
    }

    fn open(&mut self, by: Failure) {
        let rest = [1, 2, 4, 8, 16, 32].get(self.openings as usize).map_or(60_000, |s| s * 1_000);
        // With a jitter of a half.
        self.stand = Stand::Open(Timestamp(self.now.0 + rest * 3 / 4), by);
        self.openings += 1;
    }

    fn new() -> Self {
        Self { past: Vec::new(), stand: Stand::Closed, openings: 0, now: Timestamp(0) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn stands_as_its_past_demands(steps in prop::collection::vec(step(), 1..150)) {
        let (mut breaker, mut model) = (Breaker::default(), Model::new());
        for step in steps {
            if matches!(step, Step::Give) && !breaker.admits() {
                continue;
            }
            model.step(step);
            let job = Uuid::from_u128(1);
            match step {
                Step::Fail(failure) => breaker.failed(failure, "why", 0.5, model.now),
                Step::MakeCell => breaker.made_cell(),
                Step::Answer => breaker.answered(),
                Step::Pass(_) => breaker.tick(model.now),
                Step::Give => breaker.given(job),
                Step::Leave => {
                    breaker.left(Uuid::from_u128(2));
                    breaker.left(job);
                }
            }
            let until = breaker.opens_until();
            match model.stand {
                Stand::Closed => {
                    prop_assert_eq!(breaker.state(), BreakerState::Closed);
                    prop_assert!(breaker.admits() && breaker.trouble().is_none());
                }
                Stand::Open(due, _) => {
                    prop_assert_eq!((breaker.state(), until), (BreakerState::Open, Some(due)));
                    prop_assert!(!breaker.admits() && breaker.trouble().is_some());
                }
                Stand::HalfOpen(trial) => {
                    prop_assert_eq!((breaker.state(), until), (BreakerState::HalfOpen, None));
                    prop_assert_eq!(breaker.admits(), trial.is_none());
                    prop_assert_eq!(breaker.is_trying(), trial.is_some());
                    prop_assert_eq!(breaker.trouble().is_some(), trial.is_some());
                }
            }
        }
    }
}
