//! `faults run`: load and faults together, and then all checks.

use std::{sync::atomic::AtomicBool, thread, time::Duration};

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::{
    check,
    inject::{Complaints, inject},
    load::submit,
    plan::{Kind, plan},
    process::{End, Role},
    report::Report,
    stage::{
        conclude, drain_under_load, end_all, keep_evidence, load, settle, submissions, watched,
    },
    tables,
    world::{Plan, Shape, Store, World},
};

/// Runners.
pub(super) const RUNNERS: usize = 3;
/// Jobs at once, of each.
pub(super) const SLOTS: usize = 4;
/// Jobs that are submitted while everything is asked to end.
const EXTRA: usize = 60;
/// A client that is to be acknowledged at last asks for so long.
const BUDGET: Duration = Duration::from_secs(120);

/// How many of what.
#[derive(Args, Clone, Debug)]
pub struct Run {
    /// Which store, and so how many coordinators
    #[arg(long, value_enum, default_value_t = Store::Sqlite)]
    pub store: Store,
    /// Decides on jobs and faults; the same again gives the same
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Jobs, spread over the time of the faults
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub jobs: usize,
    /// Faults of each kind
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub faults_each: usize,
    /// Seconds from one fault to the next, in the mean
    #[arg(long, value_name = "SECONDS", default_value_t = 4.0)]
    pub pace: f64,
    /// Seconds that a fault lasts at most
    #[arg(long, value_name = "SECONDS", default_value_t = 8.0)]
    pub longest: f64,
    /// Seconds of load, where there are no faults to tell
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    pub seconds: f64,
    /// Seconds that a runner goes on with a job without hearing of a coordinator
    #[arg(long, value_name = "SECONDS", default_value_t = 6.0)]
    pub lease: f64,
    /// Only faults of this kind; may be given again
    #[arg(long, value_enum, value_name = "KIND")]
    pub only: Vec<Kind>,
}

/// Does it.
pub fn run(options: &Run) -> Result<Report> {
    let mut report = Report::default();
    let mut kinds = Kind::all(options.store);
    kinds.retain(|kind| options.only.is_empty() || options.only.contains(kind));
    let seed = options.seed;
    let (pace, longest) =
        (Duration::from_secs_f64(options.pace), Duration::from_secs_f64(options.longest));
    let plan = plan(seed, &kinds, options.faults_each, pace, longest);
    let length = plan.last().map_or(Duration::from_secs_f64(options.seconds), |last| last.at);
    report.say(&format!(
        "store {}, seed {seed}: {} jobs and {} faults of {} kinds in {:.0} s or more",
        options.store.name(),
        options.jobs,
        plan.len(),
        kinds.len(),
        length.as_secs_f64()
    ));
    let shape = Shape::Apart(options.store, RUNNERS);
    let lease = Duration::from_secs_f64(options.lease);
    let world = World::new(&Plan { shape, seed, slots: SLOTS, jobs: options.jobs + EXTRA, lease })?;
    let complaints = Complaints::default();
    let (submitted, settled) = watched(&world, seed, || {
        let over = AtomicBool::new(false);
        let main = load(0..options.jobs, length, BUDGET);
        let submitted = thread::scope(|scope| {
            scope.spawn(|| inject(&world, &plan, &complaints, &over));
            submit(&world, seed, &main)
        });
        (submitted, settle(&world))
    });
    report.must("all that was acknowledged ends soon after the faults", settled, || {
        "jobs wait or run for minutes".into()
    });
    submissions(&submitted, &mut report);

    let extra = options.jobs..options.jobs + EXTRA;
    let extra = load(extra, Duration::from_secs(6), Duration::from_secs(2));
    drain_under_load(&world, seed, &extra, &mut report);
    world.start_all()?;
    let settled = watched(&world, seed, || settle(&world));
    report.must("what was acknowledged while all ended ends as well", settled, || {
        "jobs wait or run for minutes".into()
    });
    let last = conclude(&world, &mut report);
    check::finished_in_time(&world.jobs, options.jobs..options.jobs + EXTRA, &last, &mut report);
    end_all(&world, &mut report);

    recovered(&world, &complaints, &mut report);
    tables::faults(&world, &mut report);
    tables::lives(&world, &mut report);
    tables::jobs(&world, &last, &mut report);
    tables::clients(&world, &submitted, &mut report);
    report.put("store", json!(options.store.name()));
    report.put("seed", json!(seed));
    let name = format!("faults-{}-{seed}", options.store.name());
    keep_evidence(&world, &name, &mut report);
    Ok(report)
}

/// Each fault was survived, and no service ended without one.
fn recovered(world: &World, complaints: &Complaints, report: &mut Report) {
    let complaints = complaints.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let whole = world.history.episodes().len().saturating_sub(complaints.len());
    for _ in 0..whole {
        report.must("services recover from each fault", true, String::new);
    }
    for complaint in complaints.iter() {
        report.must("services recover from each fault", false, || complaint.clone());
    }
    for process in world.processes.iter().filter(|process| process.role != Role::Postgres) {
        for (number, life) in process.lives().iter().enumerate() {
            // One that could not start, since its store was away, is started again by its supervisor.
            let by_itself = life.answered && matches!(life.how, Some(End::Itself(_)));
            report.must("no service ends by itself", !by_itself, || {
                let how = life.how.map(|how| how.to_string()).unwrap_or_default();
                format!("{}, life {}: {how}, at {:.3?}", process.name, number + 1, life.ended)
            });
        }
    }
}
