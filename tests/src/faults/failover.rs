//! `faults failover`: the leader is ended or stopped again and again, and what users notice of it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Args;
use nix::sys::signal::Signal;
use serde_json::json;

use super::{
    history::{Episode, What},
    load::submit,
    plan::Kind,
    process::Process,
    report::Report,
    rng::Rng,
    run::{RUNNERS, SLOTS},
    stage::{conclude, end_all, keep_evidence, load, settle, submissions, watched},
    tables,
    world::{Plan, Shape, Store, World},
};

/// A client that retries has failed after this time.
const BUDGET: Duration = Duration::from_secs(30);

/// For how long, and how often.
#[derive(Args, Clone, Debug)]
pub struct Failover {
    /// Which store, and so how many coordinators
    #[arg(long, value_enum, default_value_t = Store::Postgres)]
    pub store: Store,
    /// Decides on jobs and on how the leader goes
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Seconds of load
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub seconds: u64,
    /// Seconds from one leader's end to the next
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    pub every: u64,
    /// Jobs a second
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub rate: usize,
    /// Seconds that a stopped leader stays stopped
    #[arg(long, value_name = "SECONDS", default_value_t = 8.0)]
    pub stopped: f64,
}

/// Does it.
pub fn failover(options: &Failover) -> Result<Report> {
    let mut report = Report::default();
    let seed = options.seed;
    let length = Duration::from_secs(options.seconds);
    let jobs = options.rate * usize::try_from(options.seconds).unwrap_or(usize::MAX);
    report.say(&format!(
        "store {}, seed {seed}: {jobs} jobs in {} s; the leader goes every {} s",
        options.store.name(),
        options.seconds,
        options.every
    ));
    let shape = Shape::Apart(options.store, RUNNERS);
    let lease = Duration::from_secs(20);
    let world = World::new(&Plan { shape, seed, slots: SLOTS, jobs, lease })?;
    let (submitted, settled) = watched(&world, seed, || {
        let over = AtomicBool::new(false);
        let submitted = thread::scope(|scope| {
            scope.spawn(|| depose(&world, options, &over));
            let submitted = submit(&world, seed, &load(0..jobs, length, BUDGET));
            over.store(true, Ordering::Relaxed);
            submitted
        });
        (submitted, settle(&world))
    });
    report.must("all that was acknowledged ends soon after", settled, || {
        "jobs wait or run for minutes".into()
    });
    submissions(&submitted, &mut report);
    let last = conclude(&world, &mut report);
    end_all(&world, &mut report);
    tables::faults(&world, &mut report);
    tables::lives(&world, &mut report);
    tables::jobs(&world, &last, &mut report);
    tables::clients(&world, &submitted, &mut report);
    gap(&world, &mut report);
    let failed = submitted.given_up.len();
    report.say(&format!("client requests that failed after retries: {failed}"));
    report.put("failed_requests", json!(failed));
    keep_evidence(&world, &format!("failover-{seed}"), &mut report);
    Ok(report)
}

/// Ends or stops whoever leads, again and again.
fn depose(world: &World, options: &Failover, over: &AtomicBool) {
    let mut rng = Rng::new(options.seed, "leaders");
    let began = Instant::now();
    for nth in 1.. {
        let due = began + Duration::from_secs(options.every) * nth;
        while Instant::now() < due {
            if over.load(Ordering::Relaxed) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        let Some(leader) = leader(world) else {
            world.history.note("nobody leads when somebody should be ended");
            continue;
        };
        // Taken in turn, so that a short run has both.
        if nth % 2 == 1 {
            let pause = rng.millis(0, 3000);
            let kind = Kind::KillCoordinator;
            episode(world, leader, kind, "(SIGKILL to the leader)".into(), || {
                let _hands = leader.hands();
                leader.kill(|| world.history.now());
                thread::sleep(pause);
                world.start(leader);
            });
        } else {
            let detail = format!("(the leader stopped for {} s)", options.stopped);
            episode(world, leader, Kind::StopCoordinator, detail, || {
                let _hands = leader.hands();
                leader.signal(Signal::SIGSTOP);
                thread::sleep(Duration::from_secs_f64(options.stopped));
                leader.signal(Signal::SIGCONT);
            });
        }
    }
}

fn episode(world: &World, whom: &Process, kind: Kind, detail: String, work: impl FnOnce()) {
    let (hit, links) = (vec![whom.name.clone()], Vec::new());
    let from = world.history.now();
    let number = world.history.open(Episode { kind, hit, links, detail, from, to: None });
    work();
    world.comes_back(whom, Duration::from_secs(30));
    world.history.close(number);
}

/// Who says that it leads, of those that answer.
fn leader(world: &World) -> Option<&Process> {
    world.at_clients(|| {
        let http = world.client(Duration::from_secs(1));
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            let leads = |process: &&&Process| {
                let metrics = http.metrics(&process.base).unwrap_or_default();
                metrics.get("cloister_leader").is_some_and(|leads| *leads > 0.5)
            };
            if let Some(found) = world.coordinators().iter().find(leads) {
                return Some(*found);
            }
            thread::sleep(Duration::from_millis(50));
        }
        None
    })
}

/// The longest time in which no execution began, from the first to the last.
fn gap(world: &World, report: &mut Report) {
    let mut starts: Vec<Duration> = Vec::new();
    for index in 0..world.history.len() {
        let record = world.history.job(index);
        let began = record.events.iter().filter(|(_, what)| matches!(what, What::Began { .. }));
        starts.extend(began.map(|(at, _)| *at));
    }
    starts.sort_unstable();
    let gaps = starts.windows(2).map(|pair| (pair[1].saturating_sub(pair[0]), pair[0]));
    let (longest, at) = gaps.max().unwrap_or_default();
    report.say(&format!(
        "\nlongest gap without a dispatch: {:.2} s, from {:.1} s after the start",
        longest.as_secs_f64(),
        at.as_secs_f64()
    ));
    report.put("longest_gap_seconds", json!(longest.as_secs_f64()));
}
