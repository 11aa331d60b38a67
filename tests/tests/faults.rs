//! Short runs of what the program `faults` does at length.

use cloister_tests::{
    census::alone,
    faults::{self, Drain, Report, Restart, Run, Store},
};

#[track_caller]
fn holds(report: &Report) {
    assert!(report.broken().is_empty(), "{}", report.text());
}

/// Two faults of each kind, close after each other, under a light load.
fn short(store: Store) -> Report {
    faults::sweep();
    let run = Run {
        store,
        seed: 1,
        jobs: 300,
        faults_each: 2,
        pace: 1.6,
        longest: 3.0,
        seconds: 0.0,
        lease: 6.0,
        only: Vec::new(),
    };
    faults::run(&run).expect("faults can be made here")
}

#[test]
fn nothing_is_lost_and_nothing_runs_twice_on_sqlite() {
    let _alone = alone();
    holds(&short(Store::Sqlite));
}

#[test]
fn nothing_is_lost_and_nothing_runs_twice_on_postgresql() {
    let _alone = alone();
    holds(&short(Store::Postgres));
}

#[test]
fn what_was_accepted_ends_after_a_kill_in_the_middle() {
    let _alone = alone();
    let restart = Restart { jobs: 150, seed: 1, slots: 8 };
    holds(&faults::restart(&restart).expect("it can be started"));
}

#[test]
fn everything_ends_in_time_when_it_is_asked() {
    let _alone = alone();
    let drain = Drain { store: Store::Sqlite, seed: 1, jobs: 100 };
    holds(&faults::drain(&drain).expect("it can be started"));
}
