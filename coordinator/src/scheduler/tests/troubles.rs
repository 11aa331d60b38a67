//! Runners that fail, operators that step in, and clocks that jump: cases worth reading on their own.

use cloister_api::{Reason, Timestamp};
use uuid::Uuid;

use super::{
    Action, BreakerState, Event, RunnerName, Scheduler,
    cases::{Bench, given},
    facts, health, jobs,
};

impl Bench {
    fn breaker(&self, name: &str) -> BreakerState {
        let views = self.0.runners();
        views.into_iter().find(|view| &*view.name == name).unwrap().breaker
    }

    fn down(&mut self, name: &str) {
        self.apply(Event::Down { runner: name.into(), why: "connection refused".into() });
    }

    fn failed(&mut self, name: &str, jitter: f64) -> Vec<Action> {
        self.apply(Event::Failed { runner: name.into(), why: "it is a stranger".into(), jitter })
    }

    /// The cell of an attempt can't be made.
    fn no_cell(&mut self, id: u128) {
        let (job, reason) = (Uuid::from_u128(id), Some(Reason::SandboxError));
        self.apply(Event::Ended { job, attempt: 1, reason, jitter: 1.0 });
    }
}

#[test]
fn a_runner_that_fails_rests_and_is_tried_with_one_job() {
    let mut bench = Bench::new();
    bench.runner("a", health(1, 8));
    for id in 1..=5 {
        bench.apply(Event::Submitted(facts(id)));
    }
    for id in 1..=4 {
        bench.no_cell(id);
    }
    assert_eq!(bench.breaker("a"), BreakerState::Closed);
    bench.no_cell(5);
    assert_eq!(bench.breaker("a"), BreakerState::Open);
    assert_eq!(given(&bench.apply(Event::Submitted(facts(6)))), []);
    assert_eq!(given(&bench.apply(Event::Submitted(facts(7)))), []);
    let rests = "runner a rests until 1970-01-01T00:00:01.000Z after 5 failures in a row: \
                 a cell could not be made";
    assert_eq!(bench.why(6), rests);
    // It answers for its health all the time, which says nothing of its cells.
    assert_eq!(bench.runner("a", health(1, 8)), []);

    assert_eq!(bench.0.next_due(), Some(Timestamp(1_000)));
    assert_eq!(given(&bench.0.apply(Event::Tick, Timestamp(1_000))), [(6, "a")]);
    assert_eq!(bench.breaker("a"), BreakerState::HalfOpen);
    let tried =
        "runner a is tried with one job after 5 failures in a row: a cell could not be made";
    assert_eq!(bench.why(7), tried);

    // What tells nothing of its cells ends the trial, and another one follows.
    let job = Uuid::from_u128(6);
    let cancelled = Event::Ended { job, attempt: 1, reason: None, jitter: 1.0 };
    assert_eq!(given(&bench.0.apply(cancelled, Timestamp(1_000))), [(7, "a")]);
    assert_eq!(bench.breaker("a"), BreakerState::HalfOpen);
    bench.0.apply(Event::Submitted(facts(10)), Timestamp(1_000));
    let job = Uuid::from_u128(7);
    let lost = Event::Ended { job, attempt: 1, reason: Some(Reason::RunnerLost), jitter: 1.0 };
    assert_eq!(given(&bench.0.apply(lost, Timestamp(1_000))), [(10, "a")]);
    // That fails, and the rest is twice as long.
    let (job, reason) = (Uuid::from_u128(10), Some(Reason::SandboxError));
    let failed = Event::Ended { job, attempt: 1, reason, jitter: 1.0 };
    bench.0.apply(failed, Timestamp(1_000));
    let view = bench.0.runners().remove(0);
    assert_eq!((view.breaker, view.opens_until), (BreakerState::Open, Some(Timestamp(3_000))));

    // A cell that is made closes it, long before its job ends.
    for id in [8, 9] {
        bench.0.apply(Event::Submitted(facts(id)), Timestamp(1_000));
    }
    assert_eq!(given(&bench.0.apply(Event::Tick, Timestamp(3_000))), [(8, "a")]);
    let (job, at) = (Uuid::from_u128(8), Timestamp(3_000));
    let started = bench.0.apply(Event::Started { job, attempt: 1, at }, at);
    assert_eq!(given(&started), [(9, "a")]);
    assert_eq!(bench.breaker("a"), BreakerState::Closed);
}

#[test]
fn jobs_go_elsewhere_while_a_runner_rests() {
    let mut bench = Bench::new();
    bench.runner("a", health(1, 8));
    bench.runner("b", health(2, 8));
    for _ in 0..5 {
        bench.failed("a", 0.0);
    }
    for id in 1..=4 {
        assert_eq!(given(&bench.apply(Event::Submitted(facts(id)))), [(id, "b")]);
    }
    for _ in 0..5 {
        bench.failed("b", 1.0);
    }
    bench.apply(Event::Submitted(facts(5)));
    let both = "runner a rests until 1970-01-01T00:00:00.500Z after 5 failures in a row: it is a \
                stranger; runner b rests until 1970-01-01T00:00:01.000Z after 5 failures in a row: it \
                is a stranger";
    assert_eq!(bench.why(5), both);
}

#[test]
fn a_job_that_avoids_a_runner_does_not_wait_for_one_that_rests() {
    let mut bench = Bench::new();
    bench.runner("a", health(1, 1));
    bench.runner("b", health(2, 1));
    for _ in 0..5 {
        bench.failed("b", 1.0);
    }
    let mut avoiding = facts(1);
    avoiding.avoid = vec!["a".into()];
    assert_eq!(given(&bench.apply(Event::Submitted(avoiding))), [(1, "a")]);
}

#[test]
fn a_runner_that_comes_back_is_not_kept_out() {
    let mut bench = Bench::new();
    bench.runner("a", health(1, 8));
    for _ in 0..9 {
        bench.down("a");
    }
    assert_eq!(bench.breaker("a"), BreakerState::Open);
    for id in 1..=2 {
        bench.apply(Event::Submitted(facts(id)));
    }
    // In the life that it had, it is tried at once; in another one nothing is held against it.
    assert_eq!(given(&bench.runner("a", health(1, 8))), [(1, "a")]);
    assert_eq!(bench.breaker("a"), BreakerState::HalfOpen);
    assert_eq!(given(&bench.runner("a", health(9, 8))), [(2, "a")]);
    assert_eq!(bench.breaker("a"), BreakerState::Closed);

    // Nor do checks that failed now and then add up.
    for _ in 0..3 {
        for _ in 0..4 {
            bench.down("a");
        }
        bench.runner("a", health(9, 8));
    }
    assert_eq!(bench.breaker("a"), BreakerState::Closed);
}

#[test]
fn half_of_the_cells_are_too_many() {
    let mut bench = Bench::new();
    bench.runner("a", health(1, 100));
    for id in 1..=20 {
        bench.0.apply(Event::Submitted(facts(id)), Timestamp(0));
        if id % 2 == 1 {
            let job = Uuid::from_u128(id);
            let reason = Some(Reason::ExitCode);
            bench.apply(Event::Ended { job, attempt: 1, reason, jitter: 1.0 });
        } else {
            assert_eq!(bench.breaker("a"), BreakerState::Closed, "{id}");
            bench.no_cell(id);
        }
        let job = Uuid::from_u128(id);
        bench.apply(Event::Recorded { job });
    }
    assert_eq!(bench.breaker("a"), BreakerState::Open);
    bench.apply(Event::Submitted(facts(21)));
    assert!(bench.why(21).contains("after 10 of its last 20 cells could not be made: "));
}

#[test]
fn what_fails_by_itself_or_is_lost_is_not_held_against_a_runner() {
    let mut bench = Bench::new();
    bench.runner("a", health(1, 1));
    for id in 1..=30 {
        bench.apply(Event::Submitted(facts(id)));
        let job = Uuid::from_u128(id);
        let reason = if id % 2 == 0 { Reason::RunnerLost } else { Reason::Timeout };
        bench.apply(Event::Ended { job, attempt: 1, reason: Some(reason), jitter: 1.0 });
        bench.apply(Event::Recorded { job });
        bench.apply(Event::Held { runner: "a".into(), until: Timestamp(5_000) });
        bench.runner("a", health(1, 1));
        assert_eq!(bench.breaker("a"), BreakerState::Closed);
    }
}

#[test]
fn an_operator_drains_a_runner_also_before_it_is_listed() {
    let mut bench = Bench::new();
    let runner = RunnerName::from("http://a:1");
    bench.apply(Event::Drained { runner: runner.clone(), drained: true });
    let view = bench.0.runners().remove(0);
    assert!(view.drained && !view.listed);
    bench.runner("http://a:1", health(1, 1));
    assert_eq!(given(&bench.apply(Event::Submitted(facts(1)))), []);
    let drained = "runner http://a:1 is drained by an operator; \
                   `cloister runners resume http://a:1` ends that";
    assert_eq!(bench.why(1), drained);
    // What it has goes on, and it comes back as it left.
    let resumed = bench.apply(Event::Drained { runner: runner.clone(), drained: false });
    assert_eq!(given(&resumed), [(1, "http://a:1")]);
    bench.apply(Event::Drained { runner: runner.clone(), drained: true });
    assert!(bench.0.live(Uuid::from_u128(1)).unwrap().out.is_some());
    let job = Uuid::from_u128(1);
    bench.apply(Event::Ended { job, attempt: 1, reason: None, jitter: 0.0 });
    bench.apply(Event::Unlisted(runner));
    bench.runner("http://a:1", health(1, 1));
    assert_eq!(given(&bench.apply(Event::Submitted(facts(2)))), []);
}

#[test]
fn an_operator_pauses_everything() {
    let mut bench = Bench::new();
    bench.runner("a", health(1, 1));
    bench.apply(Event::Paused(Some("restored from a backup".into())));
    assert!(bench.0.reserve(&facts(1)).is_ok(), "jobs are taken in all the same");
    assert_eq!(given(&bench.apply(Event::Submitted(facts(1)))), []);
    let why = "nothing is dispatched: restored from a backup; `cloister resume` ends that";
    assert_eq!(bench.why(1), why);
    assert_eq!(given(&bench.apply(Event::Paused(None))), [(1, "a")]);
}

#[test]
fn a_new_leader_starts_warm_and_an_old_one_forgets() {
    let now = Timestamp(0);
    let mut scheduler = Scheduler::new(jobs(10));
    let (runner, boxed) = (RunnerName::from("a"), Box::new(health(1, 2)));
    scheduler.apply(Event::Listed(runner.clone()), now);
    scheduler.apply(Event::Up { runner: runner.clone(), health: boxed }, now);
    // It is told of all jobs before it gives out any: the slots are known, and the first is the first.
    let resumed =
        |facts| Event::Resumed { facts, runner: "a".into(), started_at: None, cancel: false };
    let mut urgent = facts(9);
    urgent.priority = 1;
    for event in [resumed(facts(1)), resumed(facts(1)), Event::Submitted(facts(2))] {
        assert_eq!(scheduler.apply(event, now), []);
    }
    assert_eq!(scheduler.apply(Event::Submitted(urgent), now), []);
    assert_eq!((scheduler.out(), scheduler.pending()), (1, 2));
    let why = scheduler.live(Uuid::from_u128(2)).unwrap().pending_reason.unwrap();
    assert_eq!(why, "the coordinator takes up the jobs of its store, and dispatches then");
    assert!(scheduler.reserve(&facts(3)).is_err(), "it does not lead yet");
    assert_eq!(given(&scheduler.apply(Event::Lead, now)), [(9, "a")]);
    // From the inbox, what the list had.
    assert_eq!(scheduler.apply(Event::Submitted(facts(2)), now), []);
    assert!(scheduler.reserve(&facts(3)).is_ok());

    scheduler.apply(Event::Depose, now);
    assert_eq!((scheduler.len(), scheduler.out(), scheduler.pending()), (0, 0, 0));
    assert!(scheduler.reserve(&facts(4)).is_err());
    // Nor is it tried by a job of which nobody tells any more.
    let fail = || Event::Failed { runner: runner.clone(), why: "x".into(), jitter: 1.0 };
    for _ in 0..5 {
        scheduler.apply(fail(), now);
    }
    scheduler.apply(Event::Lead, now);
    scheduler.apply(Event::Submitted(facts(3)), now);
    let now = Timestamp(1_000);
    assert_eq!(given(&scheduler.apply(Event::Tick, now)), [(3, "a")]);
    scheduler.apply(Event::Depose, now);
    scheduler.apply(Event::Lead, now);
    assert_eq!(given(&scheduler.apply(Event::Submitted(facts(4)), now)), [(4, "a")]);
    // Nothing is left of the promise to the third.
    for id in 5..=15 {
        assert!(scheduler.reserve(&facts(id)).is_ok() == (id < 15), "{id}");
    }
}

#[test]
fn a_clock_that_is_set_back_delays_nothing_for_long() {
    const HOUR: i64 = 3_600_000;
    let now = Timestamp(10 * HOUR);
    let mut scheduler = Scheduler::new(jobs(10));
    scheduler.apply(Event::Lead, now);
    let mut delayed = facts(1);
    delayed.not_before = Some(Timestamp(now.0 + 700));
    scheduler.apply(Event::Submitted(delayed), now);
    // By a fast clock of another coordinator.
    let mut far = facts(2);
    far.not_before = Some(Timestamp(now.0 + HOUR));
    scheduler.apply(Event::Submitted(far), now);
    assert_eq!(scheduler.next_due(), Some(Timestamp(now.0 + 700)));

    let back = Timestamp(now.0 - HOUR);
    scheduler.apply(Event::Tick, back);
    assert_eq!(scheduler.next_due(), Some(Timestamp(back.0 + 700)));
    scheduler.apply(Event::Tick, Timestamp(back.0 + 700));
    assert_eq!(scheduler.next_due(), Some(Timestamp(back.0 + 60_000)));
    scheduler.apply(Event::Tick, Timestamp(back.0 + 60_000));
    assert_eq!((scheduler.next_due(), scheduler.pending()), (None, 2));
}
