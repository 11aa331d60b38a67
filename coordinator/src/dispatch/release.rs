//! Lets a runner end an execution, or forget it: one whose result is recorded, or one that was given up.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    health::watch,
    link::{CallError, Deleted},
};
use crate::{
    engine::{Engine, Term, ToTell},
    scheduler::RunnerName,
};

/// A runner that does not answer for so long will have to forget by itself.
const AT_MOST: Duration = Duration::from_secs(600);
const BETWEEN: Duration = Duration::from_secs(1);

/// Asks a runner to end an execution. If it has ended already, its result stays, where the runner
/// knows how to do that: it may be on its way, and get lost.
pub(super) async fn cancel(
    engine: &Arc<Engine>,
    term: Term,
    runner: &RunnerName,
    execution: Uuid,
) -> Result<Deleted, CallError> {
    let contact = watch(engine, runner).contact();
    let term = contact.leases.then_some(term);
    engine.runners.delete(runner, execution, term, !contact.cancels).await
}

/// Asks a runner to forget an execution, or to end it, in a term where it knows of those.
async fn delete(
    engine: &Arc<Engine>,
    term: Term,
    runner: &RunnerName,
    execution: Uuid,
) -> Result<Deleted, CallError> {
    let term = watch(engine, runner).contact().leases.then_some(term);
    engine.runners.delete(runner, execution, term, true).await
}

/// The result is recorded: the runner need not keep it.
///
/// A drain waits for the first try, `to_tell`, and not for a runner that does not answer.
pub(super) async fn acknowledge(
    engine: Arc<Engine>,
    term: Term,
    runner: RunnerName,
    execution: Uuid,
    to_tell: ToTell,
) {
    let give_up = Instant::now() + AT_MOST;
    let mut to_tell = Some(to_tell);
    while let Err(error) = delete(&engine, term, &runner, execution).await {
        drop(to_tell.take());
        if Instant::now() >= give_up {
            tracing::debug!(%runner, execution_id = %execution, %error, "a result stays unacknowledged");
            return;
        }
        sleep(BETWEEN).await;
    }
}

/// The attempt was given up: should the runner come back with it, it is to end, and be forgotten.
pub(super) async fn abandon(engine: Arc<Engine>, term: Term, runner: RunnerName, execution: Uuid) {
    let give_up = Instant::now() + AT_MOST;
    while !matches!(
        delete(&engine, term, &runner, execution).await,
        Ok(Deleted::Unknown | Deleted::Stale)
    ) {
        if Instant::now() >= give_up {
            return;
        }
        sleep(BETWEEN).await;
    }
}
