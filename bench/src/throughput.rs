//! L5: as many jobs as a runner runs in a second.

use std::time::Duration;

use serde_json::json;

use crate::{
    Options,
    child::{Handle, Limit, Order},
    load::Until,
    report::{Goal, Report},
    services::{self, address, execute},
    stats::{Spread, count},
};

const AT_ONCE: usize = 16;
const TURN: Duration = Duration::from_secs(2);

/// Measures it.
pub(crate) fn measure(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let runner = services::runner(AT_ONCE, None);
    let address = address(runner.client())?;
    let mut spawning = [Handle::spawn()?, Handle::spawn()?];
    let mut unshared = [Handle::namespaces()?, Handle::namespaces()?];
    execute(AT_ONCE, Until::Done(100), address)?;
    let (mut ratios, mut floor) = (Vec::new(), Vec::new());
    let (mut ours, mut base) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds() {
        let load = execute(AT_ONCE, Until::Passed(TURN), address)?;
        let spawned = both(&mut spawning)?;
        floor.push(both(&mut unshared)? / spawned);
        ours.push(load.rate());
        base.push(spawned);
        ratios.push(load.rate() / spawned);
    }
    let what = "runner, 16 at once: jobs/s over `posix_spawn` by two processes";
    report.ratio("L5", what, &ratios, Some(Goal::AtLeast(0.4)));
    let what = "new namespaces alone, by two processes: launches/s over `posix_spawn` by two";
    report.ratio("L5", what, &floor, None);
    let (jobs, spawned) = (Spread::of(&ours), Spread::of(&base));
    report.note(format!(
        "16 at once: {:.0} jobs/s; `posix_spawn` by two processes: {:.0}/s.",
        jobs.median, spawned.median
    ));
    report.number("runner_16.jobs_per_s", json!(jobs));
    report.number("posix_spawn_2.per_s", json!(spawned));
    Ok(())
}

/// Launches a second of two processes together.
fn both(spawning: &mut [Handle; 2]) -> anyhow::Result<f64> {
    let order = Order { until: Limit::Time(TURN), ..Order::of(&["/bin/true"], 0) };
    for child in &mut *spawning {
        child.order(&order)?;
    }
    let mut sum = 0.0;
    for child in spawning {
        let launched = child.answer()?;
        sum += count(launched.times.len()) / launched.elapsed.as_secs_f64();
    }
    Ok(sum)
}
