//! Lets a runner forget an execution: one whose result is recorded, or one that was given up.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{
    engine::{Engine, ToTell},
    scheduler::RunnerName,
};

/// A runner that does not answer for so long will have to forget by itself.
const AT_MOST: Duration = Duration::from_secs(600);
const BETWEEN: Duration = Duration::from_secs(1);

/// The result is recorded: the runner need not keep it.
///
/// A drain waits for the first try, `to_tell`, and not for a runner that does not answer.
pub(super) async fn acknowledge(
    engine: Arc<Engine>,
    runner: RunnerName,
    execution: Uuid,
    to_tell: ToTell,
) {
    let give_up = Instant::now() + AT_MOST;
    let mut to_tell = Some(to_tell);
    while let Err(error) = engine.client.delete(&runner, execution).await {
        drop(to_tell.take());
        if Instant::now() >= give_up {
            tracing::debug!(%runner, execution_id = %execution, %error, "a result stays unacknowledged");
            return;
        }
        sleep(BETWEEN).await;
    }
}

/// The attempt was given up: should the runner come back with it, it is to end, and be forgotten.
pub(super) async fn abandon(engine: Arc<Engine>, runner: RunnerName, execution: Uuid) {
    let give_up = Instant::now() + AT_MOST;
    while !matches!(engine.client.delete(&runner, execution).await, Ok(false)) {
        if Instant::now() >= give_up {
            return;
        }
        sleep(BETWEEN).await;
    }
}
