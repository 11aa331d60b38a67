//! What processes counted, against what they logged and what the harness saw of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use serde_json::Value;

use super::super::{
    history::What,
    process::{Life, Process, Role},
    report::Report,
    world::World,
};

const COUNTED: &str = "a process counts what it did";

/// Checks all lives. Nothing may be under way, and those that live must just have been scraped.
pub(in super::super) fn metrics(
    world: &World,
    last: &[Option<Result<Value, String>>],
    report: &mut Report,
) {
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
    for process in world.coordinators() {
        for (number, life) in process.lives().iter().enumerate() {
            coordinator(world, process, number, life, report, &mut ends);
            for name in ["jobs_completed_total", "jobs_failed_total"] {
                *sums.entry(name).or_default() += value(life, name);
            }
        }
    }
    for (job, count) in &ends {
        report.must("the end of a job is counted once", *count == 1, || {
            format!("job {job} ended {count} times, by the logs")
        });
    }
    let with = |status: &str| {
        let jobs = last.iter().flatten().flatten();
        jobs.filter(|job| job["status"] == status).count()
    };
    for (name, status) in [("jobs_completed_total", "completed"), ("jobs_failed_total", "failed")] {
        let (sum, jobs) = (sums.get(name).copied().unwrap_or_default(), with(status));
        // Jobs that were taken and never acknowledged are not among those that are known.
        let strangers = last.iter().filter(|last| last.is_none()).count();
        report.must(
            "all lives together count no more ends than there were",
            at_most(sum, jobs + strangers),
            || format!("{name}: {sum} in all lives, and {jobs} jobs are {status}"),
        );
    }
    for process in world.of(Role::Runner) {
        for (number, life) in process.lives().iter().enumerate() {
            runner(world, process, number, life, report);
        }
    }
}

fn coordinator(
    world: &World,
    process: &Process,
    number: usize,
    life: &Life,
    report: &mut Report,
    ends: &mut BTreeMap<String, usize>,
) {
    let log = fs::read_to_string(&life.log).unwrap_or_default();
    let lines: Vec<Value> =
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let said = |message: &str| {
        let message = message.to_owned();
        lines.iter().filter(move |line| line["message"] == message.as_str())
    };
    for line in said("job ended") {
        *ends.entry(line["job_id"].as_str().unwrap_or_default().into()).or_default() += 1;
    }
    let Some((asked, _)) = &life.metrics else {
        return;
    };
    let who = format!("{}, life {}", process.name, number + 1);
    let logged = |status: &str| said("job ended").filter(|line| line["status"] == status).count();
    let pairs = [
        ("jobs_completed_total", logged("completed")),
        ("jobs_failed_total", logged("failed")),
        ("jobs_total", said("job accepted").count()),
    ];
    for (name, count) in pairs {
        let counted = value(life, name);
        // One that lives was scraped last, when nothing was under way; one that ended may have done
        // more since.
        let alive = life.ended.is_none();
        let right = if alive { equal(counted, count) } else { at_most(counted, count) };
        report.must(COUNTED, right, || format!("{who}: {name} is {counted}, it logged {count}"));
    }
    let accepted = (0..world.history.len()).filter(|index| {
        world.history.job(*index).events.iter().any(|(at, what)| {
            matches!(what, What::Accepted { by, life: Some(life), status: 201, .. }
                if *by == process.name && *life == number && at < asked)
        })
    });
    let (accepted, counted) = (accepted.count(), value(life, "jobs_total"));
    report.must(COUNTED, at_least(counted, accepted), || {
        format!("{who}: jobs_total is {counted}, and {accepted} were acknowledged by it")
    });
}

fn runner(world: &World, process: &Process, number: usize, life: &Life, report: &mut Report) {
    let Some((asked, metrics)) = &life.metrics else {
        return;
    };
    let who = format!("{}, life {}", process.name, number + 1);
    let within = |at| at >= life.began && life.ended.is_none_or(|end| at <= end);
    let (mut began, mut well) = (0, 0);
    for index in 0..world.history.len() {
        let mut here = BTreeSet::new();
        for (at, what) in &world.history.job(index).events {
            match what {
                What::Began { runner, nonce } if *runner == process.name && within(*at) => {
                    here.insert(nonce.clone());
                    began += usize::from(at < asked);
                }
                What::Ended { nonce, code: 0 } if here.contains(nonce) => well += 1,
                _ => {}
            }
        }
    }
    let total = value(life, "executions_total");
    report.must(COUNTED, at_least(total, began), || {
        format!("{who}: executions_total is {total}, and {began} reported their start")
    });
    let success = value(life, "executions_success_total");
    report.must(COUNTED, at_most(success, well), || {
        format!("{who}: executions_success_total is {success}, and {well} reported a good end")
    });
    if life.ended.is_none() {
        let ended =
            metrics.iter().filter(|(name, _)| name.starts_with("cloister_executions_ended_total"));
        let ended: f64 = ended.map(|(_, value)| value).sum();
        report.must(COUNTED, (ended - total).abs() < 0.5, || {
            format!("{who}: executions_total is {total}, and {ended} ended")
        });
    }
}

fn value(life: &Life, name: &str) -> f64 {
    life.metrics.as_ref().and_then(|(_, metrics)| metrics.get(name)).copied().unwrap_or_default()
}

// Counters are whole numbers far below 2^53.

#[expect(clippy::cast_precision_loss, reason = "see above")]
fn at_most(counted: f64, count: usize) -> bool {
    counted < count as f64 + 0.5
}

#[expect(clippy::cast_precision_loss, reason = "see above")]
fn at_least(counted: f64, count: usize) -> bool {
    counted > count as f64 - 0.5
}

fn equal(counted: f64, count: usize) -> bool {
    at_most(counted, count) && at_least(counted, count)
}
