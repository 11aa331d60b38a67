//! A deterministic simulation: the coordinator's own code (engine, scheduler, election, attempts)
//! over simulated time, with several coordinators on one store, runners, and a network between them
//! that loses, delays and reorders, in as many variants as there are seeds. What goes wrong with a
//! seed goes wrong again with it.
//!
//! What is simulated are the store (`store::memory`), the runners as the coordinator sees them
//! ([`fleet`]: leases, epochs, lives, results that are kept), and everything in between ([`link`],
//! [`net`]). What goes wrong is in [`faults`].
//! What is checked is what is promised, see [`check`]: nothing that was acknowledged is lost, no
//! command that may run once is executed twice, no two attempts of a job run at the same time, and a
//! job only moves forward, and no end is counted twice.
//!
//! `tests/simulation` builds it so that the runtime's own chance follows from the seed too (in which
//! order those are woken who wait for the same thing), and tries as many seeds as it is told. Built
//! without that, as by `cargo test`, a seed is tried all the same, and may do something else next time.

mod check;
mod endless;
mod execution;
mod faults;
mod fleet;
mod link;
mod nature;
mod net;
mod plan;
mod run;

use std::{env, fmt, sync::OnceLock};

use tokio::time::Instant;
use tracing_subscriber::fmt::{format::Writer, time::FormatTime};

use self::{
    plan::{Bug, Plan, Summary},
    run::simulate,
};

/// Seeds that showed an error once. What a seed does changes with the simulation: by now they may show
/// another thing, and are tried for whatever that is.
///
/// - 261: a request was late, sent again, and refused for want of a slot; then it came.
/// - 706: a new leader had what it had just taken up ended, as if it were nobody's.
/// - 271: what a new leader had read of its inbox ended before it was looked at, and was ended again.
/// - 6093: a runner said that it runs a job, the leader waited to be confirmed, the runner was started
///   anew, and was then asked to join what it had run.
/// - 852: a job was cancelled before its request had come, and one had just ended when it was cancelled,
///   so that its runner forgot how.
const ONCE_BAD: [u64; 5] = [261, 706, 271, 6093, 852];
/// How many are tried where nobody says how many.
const FEW: u64 = 100;

fn try_seed(seed: u64, bug: Bug, plan: &Plan) -> Result<Summary, String> {
    simulate(seed, bug, plan).map_err(|violations| {
        format!("seed {seed}: {} broken\n  {}", violations.len(), violations.join("\n  "))
    })
}

/// The seconds of a simulation, for what is logged in it.
#[derive(Default)]
struct Simulated(OnceLock<Instant>);

impl FormatTime for Simulated {
    fn format_time(&self, to: &mut Writer<'_>) -> fmt::Result {
        let now = Instant::now();
        write!(to, "{:9.3}", now.duration_since(*self.0.get_or_init(|| now)).as_secs_f64())
    }
}

fn asked(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn many_seeds_break_no_promise() {
    if let Some(seed) = asked("CLOISTER_SIM_SEED") {
        tracing_subscriber::fmt().with_timer(Simulated::default()).with_target(false).init();
        println!(
            "{:#?}",
            try_seed(seed, Bug::None, &Plan::of(seed)).unwrap_or_else(|e| panic!("{e}"))
        );
        return;
    }
    let seeds = asked("CLOISTER_SIM_SEEDS").unwrap_or(FEW);
    let mut sum = Summary::default();
    for seed in ONCE_BAD.into_iter().chain(1..=seeds) {
        sum += try_seed(seed, Bug::None, &Plan::of(seed)).unwrap_or_else(|error| panic!("{error}"));
    }
    println!("{seeds} seeds: {sum:#?}");
    assert!(sum.terms > seeds && sum.lost_runners > 0 && sum.repeated > 0, "too quiet: {sum:?}");
}

/// Too much for a build that is not optimised.
#[cfg(tokio_unstable)]
#[test]
fn a_thousand_runners_break_no_promise() {
    let seeds = asked("CLOISTER_SIM_LARGE").unwrap_or(1);
    for seed in 1..=seeds {
        let sum = try_seed(seed, Bug::None, &Plan::large(seed)).unwrap_or_else(|e| panic!("{e}"));
        println!("{sum:#?}");
        assert_eq!(sum.runners, 1000);
    }
}

/// The same seed does the same, or what it finds could not be looked into.
#[cfg(tokio_unstable)]
#[test]
fn a_seed_repeats_itself() {
    for seed in 1..=3 {
        let once = try_seed(seed, Bug::None, &Plan::of(seed)).unwrap();
        assert_eq!(once, try_seed(seed, Bug::None, &Plan::of(seed)).unwrap());
    }
}

/// What it is for: bugs that are put in are found.
#[test]
fn a_job_that_is_acknowledged_before_it_is_written_is_missed() {
    let bug = Bug::AcknowledgeFirst;
    let found = (1..=50).find_map(|seed| try_seed(seed, bug, &Plan::of(seed)).err());
    let found = found.expect("it is found");
    assert!(found.contains("was acknowledged and is lost"), "{found}");
}

#[test]
fn a_store_that_takes_anything_from_a_leader_that_was_replaced_is_noticed() {
    let found = (1..=1000).find_map(|seed| try_seed(seed, Bug::NoEpochs, &Plan::of(seed)).err());
    println!("{}", found.expect("it is noticed"));
}
