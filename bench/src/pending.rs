//! L10: whether a million waiting jobs are in anybody's way.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context;
use cloister_tests::Service;
use serde_json::json;

use crate::{
    Options,
    http::request,
    load::{Until, repeat},
    queue::{BATCH, batch, submit, takes_batches},
    report::{Goal, Report},
    services::{address, end},
    stats::{Spread, p50},
    stub::{Keeper, Stub},
};

/// With so few nothing could be in the way.
const FEW: usize = 1000;
/// Parts of a measurement, by which its spread is told.
const PARTS: usize = 5;
/// Submissions and hand-overs of a part.
const EACH: usize = 60;
const AT_ONCE: usize = 16;

/// Medians of parts, in milliseconds.
struct Medians {
    submit: Vec<f64>,
    dispatch: Vec<f64>,
}

/// Measures it.
pub(crate) fn measure(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let many = options.pending;
    let (stub, keeper) = Stub::held()?;
    let bound = (many + 100_000).to_string();
    let coordinator = Service::coordinator(&stub.url(), &["--max-queue", &bound]);
    let to = address(coordinator.client())?;
    submit(to, AT_ONCE, Until::Done(FEW))?;
    // The one that the stub holds: while it does, all others wait.
    keeper.next()?;
    // Once for nothing: first times are slower.
    medians(to, &keeper)?;
    let few = medians(to, &keeper)?;
    let start = Instant::now();
    fill(to, many.saturating_sub(FEW))?;
    let filled = start.elapsed();
    let full = medians(to, &keeper)?;
    end(coordinator);
    for (what, before, after) in
        [("submit", &few.submit, &full.submit), ("dispatch", &few.dispatch, &full.dispatch)]
    {
        let usual = Spread::of(before).median;
        let ratios: Vec<f64> = after.iter().map(|part| part / usual).collect();
        let text = format!("{what} p50 with {many} jobs pending over that with {FEW}");
        report.ratio("L10", text, &ratios, Some(Goal::AtMost(1.5)));
        let number = json!({ "few_ms": before, "many_ms": after });
        report.number(format!("pending.{what}"), number);
    }
    report.note(format!(
        "Pending jobs: submit {:.2} ms, dispatch {:.2} ms with {FEW}; {:.2} and {:.2} ms with {many}, \
         which took {:.0} s to submit.",
        Spread::of(&few.submit).median,
        Spread::of(&few.dispatch).median,
        Spread::of(&full.submit).median,
        Spread::of(&full.dispatch).median,
        filled.as_secs_f64()
    ));
    Ok(())
}

fn fill(to: SocketAddr, jobs: usize) -> anyhow::Result<()> {
    if takes_batches(to)? {
        let batches = request("POST", "/jobs/batch", to, &batch());
        repeat(AT_ONCE, Until::Done(jobs / BATCH), to, &batches, 201)?;
    } else {
        submit(to, 64, Until::Done(jobs))?;
    }
    Ok(())
}

/// As many jobs are submitted as are then handed over.
fn medians(to: SocketAddr, keeper: &Keeper) -> anyhow::Result<Medians> {
    let mut medians = Medians { submit: Vec::new(), dispatch: Vec::new() };
    for _ in 0..PARTS {
        medians.submit.push(p50(&submit(to, 1, Until::Done(EACH))?.times));
        let mut times: Vec<Duration> = Vec::new();
        for _ in 0..EACH {
            let start = Instant::now();
            keeper.let_go()?;
            let came = keeper.next().context("no further job was handed over")?;
            times.push(came.saturating_duration_since(start));
        }
        medians.dispatch.push(p50(&times));
    }
    Ok(medians)
}
