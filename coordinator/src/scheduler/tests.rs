//! A model of the world drives the scheduler with whatever comes, and holds it to its promises:
//! never more on a runner than its slots; no job at two places; priority and age among those that
//! could run; no free slot beside a job that it could hold; states that only move forward; nothing
//! from one that does not lead or is paused, nothing to a runner that rests or is drained, and one
//! attempt to one that is tried; a clock that may be set back; and nothing lost.

mod breaker;
mod cases;
mod steps;
mod terms;
mod troubles;
mod world;

use cloister_api::{ByteSize, Network, Reason, RunnerHealth, RunnerState, Slots};
use proptest::prelude::*;
use uuid::Uuid;

use self::world::World;
use super::{
    Action, BreakerState, Event, Facts, Needs, NoRoom, QueueBounds, RunnerName, Scheduler, Waiting,
    job::Reasons,
};

pub(super) fn facts(id: u128) -> Facts {
    Facts {
        id: Uuid::from_u128(id),
        priority: 0,
        needs: Needs {
            cpus: 1.0,
            memory: ByteSize::mib(64),
            pids: 256,
            open_files: 64,
            network: Network::None,
        },
        // Each another one, so that a mix-up shows.
        size: 1_000 + u64::try_from(id % 1_000).unwrap(),
        attempt: 1,
        retries: 0,
        retry_on: Reasons::default(),
        failed_cells: 0,
        charged: 0,
        avoid: Vec::new(),
        not_before: None,
    }
}

/// A queue that is bounded in jobs alone.
pub(super) const fn jobs(jobs: usize) -> QueueBounds {
    QueueBounds { jobs, size: u64::MAX }
}

/// A runner that is well.
pub(crate) fn health(boot: u128, slots: usize) -> RunnerHealth {
    RunnerHealth {
        status: RunnerState::Ok,
        boot_id: Uuid::from_u128(boot),
        version: "0".into(),
        features: Vec::new(),
        slots: Slots { total: slots, used: 0 },
        time: None,
        clock_ms: None,
        load: None,
        cpus: 2.0,
        memory: ByteSize::mib(1024),
        pids: 30_000,
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
        life: u128,
        slots: usize,
        cpus: u8,
        network: bool,
        draining: bool,
    },
    Down(usize),
    /// So many times.
    Fail(usize, u32),
    Drain(usize, bool),
    Pause(bool),
    Lead(bool),
    Resume(usize),
    Repeat(prop::sample::Index),
    Held(usize),
    Start(prop::sample::Index),
    Return(prop::sample::Index),
    End(prop::sample::Index, Option<Reason>),
    Record(prop::sample::Index),
    Cancel(prop::sample::Index),
    Pass(i64),
    SetBack(i64),
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
                Step::Up { runner, life: 0, slots, cpus, network, draining }),
        1 => (runner.clone(), 0..2_u128).prop_map(|(runner, life)|
            Step::Up { runner, life, slots: 4, cpus: 3, network: true, draining: false }),
        2 => runner.clone().prop_map(Step::Down),
        2 => (runner.clone(), 1..7_u32).prop_map(|(at, times)| Step::Fail(at, times)),
        1 => (runner.clone(), prop::bool::weighted(0.3)).prop_map(|(at, on)| Step::Drain(at, on)),
        1 => prop::bool::weighted(0.2).prop_map(Step::Pause),
        1 => prop::bool::weighted(0.8).prop_map(Step::Lead),
        1 => runner.clone().prop_map(Step::Resume),
        1 => which().prop_map(Step::Repeat),
        1 => runner.prop_map(Step::Held),
        2 => which().prop_map(Step::Start),
        1 => which().prop_map(Step::Return),
        5 => (which(), reason).prop_map(|(at, reason)| Step::End(at, reason)),
        6 => which().prop_map(Step::Record),
        1 => which().prop_map(Step::Cancel),
        2 => (0..5_000_i64).prop_map(Step::Pass),
        1 => (0..3_600_000_i64).prop_map(Step::SetBack),
        1 => prop::bool::weighted(0.3).prop_map(Step::StoreFails),
    ]
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
