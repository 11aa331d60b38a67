//! Short runs of what the program `endurance` does at length.

use cloister_tests::{
    census::alone,
    endurance::{self, Jobs, Neighbours, Report, Target},
};

#[track_caller]
fn holds(report: &Report) {
    assert!(report.broken().is_empty(), "{:#?}", report.broken());
}

#[test]
fn a_thousand_jobs_leave_nothing_of_a_runner() {
    let _alone = alone();
    let target = Target::Runner;
    holds(&endurance::jobs(&Jobs { count: 1000, first: 600, at_once: 16, target }));
}

#[test]
fn jobs_leave_nothing_of_a_coordinator_and_its_runner() {
    let _alone = alone();
    // More at first than after it: memory still fills what it keeps.
    holds(&endurance::jobs(&Jobs { count: 400, first: 250, at_once: 8, target: Target::Up }));
}

#[test]
fn neighbours_of_a_bomb_are_answered_right() {
    let _alone = alone();
    let only = ["fork", "memory", "spin"].map(String::from).into();
    holds(&endurance::neighbours(&Neighbours { seconds: 1.0, rounds: 1, cpus: 1.0, only }));
}
