//! The runner's view of the sandbox: narrow enough that a test can stand in for it.
//!
//! Slots, joining, leases and drains are about who asks and when, not about namespaces. A test that
//! decides itself when a job starts, writes and ends can show their every order; real cells can't.

use std::sync::Arc;

use cloister_api::Task;
use cloister_sandbox::{Engine, Host, Observer, Stats, Stdio, Ticket};
use tokio::sync::watch;

/// One job that was handed over.
pub(crate) trait Cell: Send + Sync {
    /// Ends it, if it has not ended.
    fn cancel(&self);

    /// What it uses now and used so far. Blocks for as long as reading some files takes.
    fn stats(&self) -> Stats;
}

/// What makes cells and runs tasks in them.
pub(crate) trait Cells: Send + Sync {
    /// What the host gives to cells.
    fn host(&self) -> &Host;

    /// Runs a task; the observer always hears of its end, or is dropped.
    fn run(&self, task: Task, observer: Box<dyn Observer>) -> Box<dyn Cell>;

    /// What all of them use now and used so far. Blocks as that of one does.
    fn stats(&self) -> Stats;

    /// Ends everything, and comes back when nothing of it is left. Blocks.
    fn stop(&self);
}

impl Cells for Engine {
    fn host(&self) -> &Host {
        Self::host(self)
    }

    fn run(&self, task: Task, observer: Box<dyn Observer>) -> Box<dyn Cell> {
        Box::new(Self::run(self, task, Stdio::Captured, observer))
    }

    fn stats(&self) -> Stats {
        Self::stats(self)
    }

    fn stop(&self) {
        Self::stop(self);
    }
}

impl Cell for Ticket {
    fn cancel(&self) {
        Self::cancel(self);
    }

    fn stats(&self) -> Stats {
        Self::stats(self)
    }
}

/// Whether the process that makes cells is gone. One clone is told by the engine
/// (`Engine::start(launcher, move || lost.tell())`), another one is given to
/// [`serve`](crate::serve()).
#[derive(Clone, Debug)]
pub struct Lost(Arc<watch::Sender<bool>>);

impl Lost {
    /// Not yet.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// It is gone. Does not block.
    pub fn tell(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn is_lost(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when it is gone.
    pub(crate) async fn told(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.subscribe().wait_for(|lost| *lost).await;
    }
}

impl Default for Lost {
    fn default() -> Self {
        Self::new()
    }
}
