//! L11: what a platform costs that nobody uses.

use std::{
    thread,
    time::{Duration, Instant},
};

use cloister_tests::{Service, finished};
use serde_json::json;

use crate::{
    Options, procs,
    report::{Goal, Report, round},
    stats::{Spread, large},
};

/// In which what a first job began comes to an end.
const SETTLED: Duration = Duration::from_secs(2);
/// Several of them, by which the spread is told.
const PART: Duration = Duration::from_secs(2);

/// Measures it.
pub(crate) fn measure(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let up = Service::up(&[]);
    finished(up.client(), &json!({ "command": "true" }));
    thread::sleep(SETTLED);
    let processes = procs::tree(up.pid());
    let (mut rates, mut all, began) = (Vec::new(), 0, Instant::now());
    for _ in 0..options.rounds().max(5) {
        let (start, before) = (Instant::now(), procs::switches(&processes)?);
        thread::sleep(PART);
        let after = procs::switches(&processes)?;
        // A thread that is new began at 0; one that is gone is not counted.
        let woken = after
            .iter()
            .map(|(thread, count)| count.saturating_sub(before.get(thread).copied().unwrap_or(0)));
        let woken = woken.sum();
        all += woken;
        rates.push(large(woken) / start.elapsed().as_secs_f64());
    }
    // Over all of the time: what happens now and then would be in no median.
    let rate = Spread { median: large(all) / began.elapsed().as_secs_f64(), ..Spread::of(&rates) };
    let mut memory = 0.0;
    let mut parts = Vec::new();
    for pid in &processes {
        let mib = large(procs::pss_kib(*pid)?) / 1024.0;
        memory += mib;
        parts.push(format!("{} {}", procs::name(*pid)?, round(mib)));
    }
    let same = Spread { median: memory, low: memory, high: memory };
    let what = "`cloister up`, idle: memory (PSS) of all its processes";
    report.row("L11", what, " MiB", Ok(same), Some(Goal::AtMost(40.0)));
    let what = "`cloister up`, idle: wake-ups a second of all its threads";
    report.row("L11", what, "/s", Ok(rate), Some(Goal::AtMost(2.0)));
    report.note(format!("Idle, in MiB: {}.", parts.join(", ")));
    report.number("idle.wakeups_per_s", json!(rates));
    report.number("idle.pss_mib", memory);
    Ok(())
}
