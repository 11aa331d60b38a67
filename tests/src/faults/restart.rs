//! `faults restart`: `cloister up` gets SIGKILL in the middle of many jobs, and is started again.
//! `faults drain`: everything is asked to end under load.

use std::{collections::BTreeMap, fs, thread, time::Duration};

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::{
    check,
    history::{Episode, What},
    load::submit,
    plan::Kind,
    report::Report,
    run::{RUNNERS, SLOTS},
    stage::{
        conclude, drain_under_load, end_all, keep_evidence, load, settle, submissions, watched,
    },
    tables,
    world::{Plan, Shape, Store, World},
};

const BUDGET: Duration = Duration::from_secs(60);

/// How many jobs.
#[derive(Args, Clone, Debug)]
pub struct Restart {
    /// Jobs in all; SIGKILL comes when half of them have been executed
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub jobs: usize,
    /// Decides on the jobs
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Jobs at once
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub slots: usize,
}

/// Does it.
pub fn restart(options: &Restart) -> Result<Report> {
    let mut report = Report::default();
    let Restart { jobs, seed, slots } = *options;
    report
        .say(&format!("cloister up, seed {seed}: {jobs} jobs, and SIGKILL in the middle of them"));
    let lease = Duration::from_secs(6);
    let world = World::new(&Plan { shape: Shape::Up, seed, slots, jobs, lease })?;
    let (submitted, settled) = watched(&world, seed, || {
        let submitted = thread::scope(|scope| {
            scope.spawn(|| kill_in_the_middle(&world, jobs));
            submit(&world, seed, &load(0..jobs, Duration::from_secs(20), BUDGET))
        });
        (submitted, settle(&world))
    });
    report.must("every job reaches an end", settled, || "jobs wait or run for minutes".into());
    submissions(&submitted, &mut report);
    let last = conclude(&world, &mut report);
    end_all(&world, &mut report);
    tables::lives(&world, &mut report);
    tables::jobs(&world, &last, &mut report);
    tables::clients(&world, &submitted, &mut report);
    let second = world.keeper().lives().get(1).cloned();
    report.must("it was started again", second.is_some(), String::new);
    if let Some(life) = second {
        said(&fs::read_to_string(&life.log).unwrap_or_default(), &mut report);
    }
    keep_evidence(&world, &format!("restart-{seed}"), &mut report);
    Ok(report)
}

fn kill_in_the_middle(world: &World, jobs: usize) {
    let executed = || {
        let began = |index: &usize| {
            let record = world.history.job(*index);
            record.events.iter().any(|(_, what)| matches!(what, What::Began { .. }))
        };
        (0..jobs).filter(began).count()
    };
    while executed() < jobs / 2 {
        thread::sleep(Duration::from_millis(20));
    }
    let up = world.keeper();
    let _hands = up.hands();
    let episode = world.history.open(Episode {
        kind: Kind::KillRunner,
        hit: vec![up.name.clone()],
        links: Vec::new(),
        detail: "(SIGKILL to cloister up)".into(),
        from: world.history.now(),
        to: None,
    });
    up.kill(|| world.history.now());
    world.start(up);
    world.comes_back(up, Duration::from_secs(60));
    world.history.close(episode);
}

/// What the log of the second life says: each message once, with how often it came.
fn said(log: &str, report: &mut Report) {
    let mut order: Vec<String> = Vec::new();
    let mut found: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for line in log.lines() {
        let record: Value = serde_json::from_str(line).unwrap_or_default();
        let message = record["message"].as_str().unwrap_or(line).to_owned();
        let reason = record["reason"].as_str().unwrap_or_default();
        let key = format!("{message} {reason}");
        let known = found.entry(key.clone()).or_insert_with(|| {
            order.push(key);
            (0, line.to_owned())
        });
        known.0 += 1;
    }
    report.say("\nwhat the log says after the start: how often, and the first such line");
    for key in &order {
        let (count, line) = &found[key];
        report.say(&format!("{count:>6} × {line}"));
    }
}

/// How many jobs.
#[derive(Args, Clone, Debug)]
pub struct Drain {
    /// Which store, and so how many coordinators
    #[arg(long, value_enum, default_value_t = Store::Sqlite)]
    pub store: Store,
    /// Decides on the jobs
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Jobs in all; SIGTERM comes when a third of them is in
    #[arg(long, value_name = "N", default_value_t = 300)]
    pub jobs: usize,
}

/// Does it.
pub fn drain(options: &Drain) -> Result<Report> {
    let mut report = Report::default();
    let Drain { store, seed, jobs } = *options;
    report.say(&format!("store {}, seed {seed}: SIGTERM of everything under load", store.name()));
    let shape = Shape::Apart(store, RUNNERS);
    let lease = Duration::from_secs(20);
    let world = World::new(&Plan { shape, seed, slots: SLOTS, jobs, lease })?;
    let load = load(0..jobs, Duration::from_secs(20), Duration::from_secs(2));
    drain_under_load(&world, seed, &load, &mut report);
    world.start_all()?;
    let settled = watched(&world, seed, || settle(&world));
    report.must("what was acknowledged ends after a new start", settled, || {
        "jobs wait or run for minutes".into()
    });
    let last = conclude(&world, &mut report);
    end_all(&world, &mut report);
    check::finished_in_time(&world.jobs, 0..jobs, &last, &mut report);
    tables::lives(&world, &mut report);
    tables::jobs(&world, &last, &mut report);
    report.put("store", json!(store.name()));
    keep_evidence(&world, &format!("drain-{}-{seed}", store.name()), &mut report);
    Ok(report)
}
