//! Looks at all that was seen in a run, and says what should not be so.

mod executions;
mod metrics;
mod results;
mod states;

use std::time::Duration;

use serde_json::Value;

use super::{
    history::{Episode, Record, What},
    jobs::Kind,
    report::Report,
    world::World,
};

pub(super) use self::metrics::metrics;

/// One job, and all that is known of it.
struct Case<'a> {
    world: &'a World,
    index: usize,
    kind: Kind,
    record: Record,
    /// As a coordinator showed it in the end; why not, where none did.
    last: &'a Result<Value, String>,
    episodes: &'a [Episode],
}

/// An execution, as it reported itself.
#[derive(Clone, Debug)]
struct Execution {
    nonce: String,
    runner: String,
    began: Duration,
    /// When it reported its end, and the exit code.
    ended: Option<(Duration, i64)>,
    /// When nothing of it lived any more.
    gone: Option<Duration>,
}

impl Case<'_> {
    fn executions(&self) -> Vec<Execution> {
        let mut all: Vec<Execution> = Vec::new();
        for (at, what) in &self.record.events {
            match what {
                What::Began { nonce, runner } => all.push(Execution {
                    nonce: nonce.clone(),
                    runner: runner.clone(),
                    began: *at,
                    ended: None,
                    gone: None,
                }),
                What::Ended { nonce, code } => {
                    if let Some(one) = all.iter_mut().find(|one| one.nonce == *nonce) {
                        one.ended = Some((*at, *code));
                    }
                }
                What::Gone { nonce } => {
                    if let Some(one) = all.iter_mut().find(|one| one.nonce == *nonce) {
                        one.gone = Some(*at);
                    }
                }
                _ => {}
            }
        }
        all
    }

    fn cancelled(&self) -> bool {
        self.record.events.iter().any(|(_, what)| matches!(what, What::Cancelled { .. }))
    }
}

/// Checks all jobs. `last` has what each was in the end, by its number; `None` where it was never
/// acknowledged.
pub(super) fn jobs(world: &World, last: &[Option<Result<Value, String>>], report: &mut Report) {
    let episodes = world.history.episodes();
    for (index, last) in last.iter().enumerate() {
        let record = world.history.job(index).clone();
        let kind = world.jobs.kind(index);
        // Also of one that was never acknowledged: it may have been taken all the same.
        executions::check(index, kind, &record, report);
        states::check(index, &record, report);
        let Some(last) = last else {
            continue;
        };
        let case = Case { world, index, kind, record, last, episodes: &episodes };
        results::check(&case, report);
    }
    report.must(
        "the recorder heard only of this run's jobs",
        world.recorder().strange() == 0,
        || format!("{} lines that nobody of this run sends", world.recorder().strange()),
    );
}
