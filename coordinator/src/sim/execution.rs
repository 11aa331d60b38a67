//! What a runner of the simulation runs.

use std::sync::{Arc, Mutex};

use cloister_api::{KnownExecution, Outcome, Status, Timestamp};
use tokio::{sync::watch, task::AbortHandle, time::Instant};
use uuid::Uuid;

/// One execution of a job's command.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) key: String,
    pub(super) began: Instant,
    /// When it ended or was killed.
    pub(super) ended: Option<Instant>,
    /// It ended by itself.
    pub(super) finished: bool,
}

/// Every execution that there was.
pub(super) type Runs = Arc<Mutex<Vec<Run>>>;

/// How far an execution is.
#[derive(Clone, Debug, Default)]
pub(super) enum Stage {
    #[default]
    Making,
    Runs(Timestamp),
    Over(Option<Timestamp>, Box<Outcome>),
}

pub(super) struct Execution {
    pub(super) attempt: Option<u32>,
    pub(super) stage: watch::Sender<Stage>,
    pub(super) lease: watch::Sender<Option<Instant>>,
    pub(super) cancel: watch::Sender<bool>,
    pub(super) task: Option<AbortHandle>,
    /// Where it stands in the list of runs, once its command was executed.
    pub(super) run: Arc<Mutex<Option<usize>>>,
    /// Its end is never reported.
    pub(super) mute: bool,
}

impl Execution {
    pub(super) fn is_over(&self) -> bool {
        matches!(*self.stage.borrow(), Stage::Over(..))
    }

    /// Whether nothing of it goes on, whatever its runner says.
    pub(super) fn is_finished(&self) -> bool {
        self.task.as_ref().is_some_and(AbortHandle::is_finished)
    }

    /// A lease that has run out is not renewed.
    pub(super) fn renew(&self, lease: Option<Instant>) {
        let before = *self.lease.borrow();
        if before.is_none_or(|until| until > Instant::now()) {
            self.lease.send_replace(lease.max(before));
        }
    }

    pub(super) fn known(&self, execution_id: Uuid) -> KnownExecution {
        let (status, started_at) = match &*self.stage.borrow() {
            Stage::Making => (Status::Running, None),
            Stage::Runs(at) => (Status::Running, Some(*at)),
            Stage::Over(at, outcome) => (outcome.status, *at),
        };
        KnownExecution { execution_id, attempt: self.attempt, status, started_at }
    }
}
