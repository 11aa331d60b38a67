//! Looks at all that was seen in a run, and says what should not be so.

mod executions;
mod metrics;
mod results;
mod states;
#[cfg(test)]
mod tests;

use std::time::Duration;

use cloister_api::Timestamp;
use serde_json::Value;

use self::executions::Execution;
use super::{
    history::{Episode, Record, What},
    jobs::{Jobs, Kind},
    report::Report,
    world::World,
};

pub(super) use self::{metrics::metrics, results::finished_in_time};

/// Services tell whole milliseconds, rounded down: it may have been so much later.
const ROUNDED: Duration = Duration::from_millis(5);

/// What all jobs have in common.
struct Context<'a> {
    jobs: &'a Jobs,
    episodes: Vec<Episode>,
    /// How long a runner goes on without hearing of a coordinator.
    lease: Duration,
    /// The name of the service at a runner's URL.
    runner: &'a dyn Fn(&str) -> Option<String>,
    /// When the run began, by the clock that services tell.
    began: Timestamp,
}

/// One job, and all that is known of it.
struct Case<'a> {
    context: &'a Context<'a>,
    index: usize,
    kind: Kind,
    record: &'a Record,
    executions: Vec<Execution>,
    /// As a coordinator showed it in the end; why not, where none did.
    last: &'a Result<Value, String>,
}

impl Case<'_> {
    fn cancelled(&self) -> bool {
        self.record.events.iter().any(|(_, what)| matches!(what, What::Cancelled { .. }))
    }
}

impl Context<'_> {
    /// A time that a service told, by the harness's clock: both are of one machine.
    fn time(&self, told: &Value) -> Option<Duration> {
        let at: Timestamp = serde_json::from_value(told.clone()).ok()?;
        Some(Duration::from_millis(at.since_ms(self.began).max(0).unsigned_abs()) + ROUNDED)
    }
}

/// Checks all jobs. `last` has what each was in the end, by its number; `None` where it was never
/// acknowledged.
pub(super) fn jobs(world: &World, last: &[Option<Result<Value, String>>], report: &mut Report) {
    let runner = |url: &str| world.at(url).map(|process| process.name.clone());
    let context = Context {
        jobs: &world.jobs,
        episodes: world.history.episodes(),
        lease: world.lease,
        runner: &runner,
        began: world.history.began(),
    };
    for (index, last) in last.iter().enumerate() {
        let record = world.history.job(index).clone();
        one(&context, index, &record, last.as_ref(), report);
    }
    report.must(
        "the recorder heard only of this run's jobs",
        world.recorder().strange() == 0,
        || format!("{} lines that nobody of this run sends", world.recorder().strange()),
    );
}

fn one(
    context: &Context<'_>,
    index: usize,
    record: &Record,
    last: Option<&Result<Value, String>>,
    report: &mut Report,
) {
    let kind = context.jobs.kind(index);
    let executions = executions::of(record);
    // Also of one that was never acknowledged: it may have been taken all the same.
    executions::check(index, kind, &executions, report);
    states::check(index, record, report);
    if let Some(last) = last {
        results::check(&Case { context, index, kind, record, executions, last }, report);
    }
}
