//! Single cases that are worth reading on their own.

use cloister_api::{ByteSize, Network, Reason, RunnerHealth, RunnerState, Timestamp};
use uuid::Uuid;

use super::{
    Action, Event, Facts, NoRoom, QueueBounds, RunnerName, Scheduler, Waiting, facts, health, jobs,
};

const NOW: Timestamp = Timestamp(0);

pub(super) struct Bench(pub(super) Scheduler);

impl Bench {
    pub(super) fn new() -> Self {
        let mut scheduler = Scheduler::new(jobs(10));
        scheduler.apply(Event::Lead, NOW);
        Self(scheduler)
    }

    pub(super) fn apply(&mut self, event: Event) -> Vec<Action> {
        self.0.apply(event, NOW)
    }

    pub(super) fn runner(&mut self, name: &str, health: RunnerHealth) -> Vec<Action> {
        let runner: RunnerName = name.into();
        self.apply(Event::Listed(runner.clone()));
        self.apply(Event::Up { runner, health: Box::new(health) })
    }

    pub(super) fn why(&self, id: u128) -> String {
        self.0.live(Uuid::from_u128(id)).unwrap().pending_reason.unwrap()
    }
}

pub(super) fn given(actions: &[Action]) -> Vec<(u128, &str)> {
    let given = actions.iter().filter_map(|action| match action {
        Action::Dispatch { job, runner, .. } => Some((job.as_u128(), &**runner)),
        _ => None,
    });
    given.collect()
}

#[test]
fn a_pending_job_says_exactly_why() {
    let mut bench = Bench::new();
    bench.apply(Event::Submitted(facts(1)));
    assert_eq!(bench.why(1), "no runner is known");
    let runner: RunnerName = "http://a:1".into();
    bench.apply(Event::Listed(runner.clone()));
    assert_eq!(bench.why(1), "no runner answers: http://a:1: not reached yet");
    let why = "connection refused".to_owned();
    bench.apply(Event::Down { runner: runner.clone(), why });
    assert_eq!(bench.why(1), "no runner answers: http://a:1: connection refused");

    let mut draining = health(1, 1);
    draining.status = RunnerState::Draining;
    bench.runner("http://a:1", draining);
    assert_eq!(bench.why(1), "runner http://a:1 is draining");

    bench.runner("http://a:1", health(1, 1));
    bench.apply(Event::Submitted(facts(2)));
    assert_eq!(bench.why(1), "is being handed to runner http://a:1");
    assert_eq!(bench.why(2), "waits for a free slot: 1 of 1 taken on 1 runner");

    let mut host = facts(3);
    host.needs.network = Network::Host;
    bench.apply(Event::Submitted(host));
    assert_eq!(bench.why(3), "no runner that answers allows network: host");
    bench.apply(Event::StoreFailed("disk full".into()));
    assert_eq!(bench.why(2), "the store takes no writes: disk full");
    bench.apply(Event::StoreBack);
    bench.apply(Event::Drain);
    assert!(bench.why(2).contains("shutting down"));
}

#[test]
fn a_job_that_fits_nowhere_blocks_nobody() {
    let mut bench = Bench::new();
    let mut host = facts(1);
    host.needs.network = Network::Host;
    host.priority = 100;
    bench.apply(Event::Submitted(host));
    bench.apply(Event::Submitted(facts(2)));
    assert_eq!(given(&bench.runner("a", health(1, 1))), [(2, "a")]);
    let mut open = health(2, 1);
    open.network_host = true;
    assert_eq!(given(&bench.runner("b", open)), [(1, "b")]);
}

#[test]
fn runners_take_turns() {
    let mut bench = Bench::new();
    for (boot, name) in (1..).zip(["a", "b", "c"]) {
        bench.runner(name, health(boot, 2));
    }
    let order: Vec<_> = (1..=6)
        .flat_map(|id| bench.apply(Event::Submitted(facts(id))))
        .map(|action| match action {
            Action::Dispatch { runner, .. } => runner,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(order.iter().map(|r| &**r).collect::<String>(), "abcabc");
}

#[test]
fn a_failed_cell_is_tried_elsewhere_first_at_no_cost() {
    let mut bench = Bench::new();
    bench.runner("a", health(1, 1));
    bench.runner("b", health(2, 1));
    let (job, reason) = (Uuid::from_u128(1), Some(Reason::SandboxError));
    let first = bench.apply(Event::Submitted(facts(1)));
    assert_eq!(given(&first), [(1, "a")]);
    let mut runners = vec!["a".to_owned()];
    for attempt in 1..=2 {
        let jitter = 0.0;
        let actions = bench.apply(Event::Ended { job, attempt, reason, jitter });
        assert!(matches!(actions[..], [Action::Retry { .. }]), "{actions:?}");
        bench.apply(Event::Recorded { job });
        assert!(bench.why(1).contains(&format!("after attempt {attempt} failed")));
        let due = bench.0.next_due().unwrap();
        let actions = bench.0.apply(Event::Tick, due);
        runners.extend(given(&actions).iter().map(|(_, runner)| (*runner).to_owned()));
    }
    assert_eq!(runners[..2], ["a", "b"]);
    assert_eq!(runners.len(), 3);
    let end = Event::Ended { job, attempt: 3, reason, jitter: 0.0 };
    assert_eq!(bench.apply(end), [Action::Finish { job }]);
    let failed: u64 = bench.0.runners().iter().map(|r| r.failed_cells).sum();
    assert_eq!(failed, 3);
}

#[test]
fn a_full_runner_is_left_alone_until_it_shows_a_slot() {
    let mut bench = Bench::new();
    bench.runner("a", health(1, 2));
    bench.apply(Event::Submitted(facts(1)));
    bench.apply(Event::Held { runner: "a".into(), until: Timestamp(5_000) });
    let job = Uuid::from_u128(1);
    // Given out again at once it would go back and forth as fast as the wire.
    assert_eq!(bench.apply(Event::Returned { job, attempt: 1 }), []);
    assert_eq!(bench.why(1), "waits for a free slot: 2 of 2 taken on 1 runner");
    let mut full = health(1, 2);
    full.slots.used = 2;
    assert_eq!(bench.runner("a", full), []);
    assert_eq!(given(&bench.runner("a", health(1, 2))), [(1, "a")]);
}

#[test]
fn one_runner_under_two_addresses_counts_once() {
    let mut bench = Bench::new();
    bench.runner("a", health(7, 1));
    bench.runner("b", health(7, 1));
    assert_eq!(given(&bench.apply(Event::Submitted(facts(1)))), [(1, "a")]);
    assert_eq!(given(&bench.apply(Event::Submitted(facts(2)))), []);
    assert_eq!(bench.why(2), "waits for a free slot: 1 of 1 taken on 1 runner");
    let gone = Event::Down { runner: "a".into(), why: "gone".into() };
    assert_eq!(given(&bench.apply(gone)), [(2, "b")]);
}

#[test]
fn what_no_runner_could_ever_hold_is_known() {
    let mut bench = Bench::new();
    let mut needs = facts(1).needs;
    needs.cpus = 64.0;
    assert_eq!(bench.0.impossible(&needs), []);
    bench.runner("a", health(1, 1));
    let faults = bench.0.impossible(&needs);
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].pointer, "/limits/cpus");
    assert_eq!(faults[0].detail, "is above the 2 cores of the largest runner");

    // Each met by one of the two, both by none.
    let mut large = health(2, 1);
    (large.cpus, large.memory) = (64.0, ByteSize::mib(1));
    bench.runner("b", large);
    let faults = bench.0.impossible(&needs);
    let pointers: Vec<_> = faults.iter().map(|f| f.pointer.as_str()).collect();
    assert_eq!(pointers, ["/limits/cpus", "/limits/memory"]);
    needs.memory = ByteSize::mib(1);
    assert_eq!(bench.0.impossible(&needs), []);
    needs.pids = 100_000;
    let faults = bench.0.impossible(&needs);
    assert_eq!(faults[0].pointer, "/limits/pids");
    assert_eq!(faults[0].detail, "is above the 30000 that the largest runner allows");
}

#[test]
fn the_queue_is_bounded_also_while_jobs_are_committed() {
    let mut scheduler = Scheduler::new(jobs(2));
    assert!(scheduler.reserve(&facts(1)).is_err(), "it does not lead");
    scheduler.apply(Event::Lead, NOW);
    assert!(scheduler.reserve(&facts(1)).is_ok() && scheduler.reserve(&facts(2)).is_ok());
    assert!(scheduler.reserve(&facts(3)).is_err());
    scheduler.apply(Event::Submitted(facts(1)), NOW);
    assert!(scheduler.reserve(&facts(3)).is_err());
    scheduler.release(facts(1).id);
    assert!(scheduler.reserve(&facts(3)).is_err(), "it was committed");
    scheduler.release(facts(2).id);
    assert!(scheduler.reserve(&facts(3)).is_ok());
    scheduler.release(facts(3).id);
    scheduler.apply(Event::Drain, NOW);
    assert!(scheduler.reserve(&facts(3)).is_err());
}

#[test]
fn the_queue_is_bounded_in_bytes_also_while_jobs_are_committed() {
    let sized = |id, size| Facts { size, ..facts(id) };
    let mut scheduler = Scheduler::new(QueueBounds { jobs: 10, size: 100 });
    scheduler.apply(Event::Lead, NOW);
    assert_eq!(scheduler.reserve(&sized(1, 101)), Err(NoRoom::Size));
    assert_eq!(scheduler.reserve(&sized(1, 60)), Ok(()));
    assert_eq!(scheduler.reserve(&sized(2, 41)), Err(NoRoom::Size));
    assert_eq!(scheduler.reserve(&sized(2, 40)), Ok(()));
    scheduler.apply(Event::Submitted(sized(1, 60)), NOW);
    scheduler.release(facts(2).id);
    assert_eq!(scheduler.waiting(), Waiting { jobs: 1, size: 60 });
    assert_eq!(scheduler.reserve(&sized(3, 41)), Err(NoRoom::Size));
    // What a runner has does not wait.
    let (runner, boxed) = (RunnerName::from("a"), Box::new(health(1, 1)));
    scheduler.apply(Event::Listed(runner.clone()), NOW);
    scheduler.apply(Event::Up { runner, health: boxed }, NOW);
    assert_eq!(scheduler.waiting(), Waiting::default());
    assert_eq!(scheduler.reserve(&sized(3, 100)), Ok(()));
}

#[test]
fn what_an_attempt_printed_counts_while_the_next_one_waits() {
    let mut bench = Bench::new();
    bench.runner("a", health(1, 1));
    let job = facts(1).id;
    let first =
        Facts { retries: 1, retry_on: [Reason::RunnerLost].into_iter().collect(), ..facts(1) };
    bench.apply(Event::Submitted(first));
    let ended = Event::Ended { job, attempt: 1, reason: Some(Reason::RunnerLost), jitter: 1.0 };
    assert!(matches!(bench.apply(ended)[..], [Action::Retry { .. }]));
    bench.apply(Event::Resized { job, size: 5_000 });
    bench.apply(Event::Recorded { job });
    assert_eq!(bench.0.waiting(), Waiting { jobs: 1, size: 5_000 });
    bench.apply(Event::Cancel { job });
    assert_eq!(bench.0.waiting(), Waiting::default());
}

#[test]
fn a_job_can_be_cancelled_while_it_is_being_stored() {
    let mut bench = Bench::new();
    bench.runner("a", health(1, 1));
    let job = facts(1).id;
    assert!(bench.0.reserve(&facts(1)).is_ok());
    assert_eq!(bench.why(1), "is being stored");
    assert_eq!(bench.apply(Event::Cancel { job }), []);
    let submitted = bench.apply(Event::Submitted(facts(1)));
    assert_eq!(submitted, [Action::Withdraw { job }]);
}

/// Whatever waits, an event costs about the same: with a linear scan this would take minutes.
#[test]
fn a_million_pending_jobs_are_cheap() {
    let mut scheduler = Scheduler::new(jobs(usize::MAX));
    scheduler.apply(Event::Lead, NOW);
    let boxed = Box::new(health(1, 1));
    scheduler.apply(Event::Listed("a".into()), NOW);
    scheduler.apply(Event::Up { runner: "a".into(), health: boxed }, NOW);
    for id in 0..1_000_000 {
        let mut facts = facts(id);
        facts.priority = i32::try_from(id % 201).unwrap() - 100;
        facts.needs.memory = ByteSize(1_000_000 + u64::try_from(id).unwrap());
        scheduler.apply(Event::Submitted(facts), NOW);
    }
    let mut job = Uuid::from_u128(0);
    for _ in 0..100_000 {
        let ended = Event::Ended { job, attempt: 1, reason: None, jitter: 0.0 };
        let actions = scheduler.apply(ended, NOW);
        scheduler.apply(Event::Recorded { job }, NOW);
        let next = actions.iter().find_map(|action| match action {
            Action::Dispatch { job, .. } => Some(*job),
            _ => None,
        });
        job = next.expect("the next one goes out");
        assert!(scheduler.live(Uuid::from_u128(999_000)).is_some());
    }
    assert_eq!(scheduler.pending(), 1_000_000 - 100_001);
}
