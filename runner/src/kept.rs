//! Executions with an id: joined rather than run twice, ended when their lease runs out, and kept
//! until their result is acknowledged.
//!
//! The coordinator chooses the id before it sends the work, so that after a lost connection or a
//! crash of its own it can ask what became of it. Three rules keep that from leaking:
//!
//! - a lease that is not renewed (by a further call with the same id) ends the job;
//! - a result that nobody acknowledges is dropped after a day;
//! - running executions and results are bounded together, and beyond that nothing new is taken.
//!
//! Each id has one task, its keeper, which waits for what comes next: the lease's end, the job's
//! end, or the day's end. Removing the id ends its keeper.

use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cloister_api::{ExecuteRequest, Reason, Seconds};
use sha2::{Digest, Sha256};
use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{Instant, sleep, sleep_until},
};
use uuid::Uuid;

use crate::{
    config::ResultLimits,
    execution::{Execution, Why},
};

/// The SHA-256 of what was asked under an id, so that the id cannot come to mean something else.
type Fingerprint = [u8; 32];

/// On what terms an execution with an id is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) id: Uuid,
    attempt: Option<u32>,
    lease: Option<Seconds>,
    fingerprint: Fingerprint,
}

impl Terms {
    /// Those of a request that has an id. Reads all of it, which may be megabytes: not to be done
    /// under a lock.
    pub(crate) fn of(request: &ExecuteRequest) -> Option<Self> {
        let id = request.execution_id?;
        // Maps are sorted and every default is written out: the same request is the same text.
        // Lease and epoch may change from call to call.
        let text = serde_json::to_vec(&(&request.task, request.attempt)).unwrap_or_default();
        let fingerprint = Sha256::digest(text).into();
        Some(Self { id, attempt: request.attempt, lease: request.lease, fingerprint })
    }
}

/// An execution that others may come back to.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) execution: Arc<Execution>,
    pub(crate) attempt: Option<u32>,
    fingerprint: Fingerprint,
    lease: watch::Sender<Option<Instant>>,
    keeper: AbortHandle,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Kept {
    limits: ResultLimits,
    table: Mutex<Table>,
    count: watch::Sender<usize>,
}

/// The table, locked: whether an id is known and what then happens must be one step.
#[derive(Debug, Default)]
pub(crate) struct Table {
    entries: HashMap<Uuid, Arc<Entry>>,
    /// The highest term that was heard of.
    epoch: u64,
}

impl Kept {
    pub(crate) fn new(limits: ResultLimits) -> Arc<Self> {
        Arc::new(Self { limits, table: Mutex::default(), count: watch::Sender::new(0) })
    }

    /// The lock is never held across an await: the guard can't be sent to another thread.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while it is held.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, id: Uuid) -> Option<Arc<Entry>> {
        self.lock().entries.get(&id).cloned()
    }

    /// Forgets an execution, and with it its result.
    pub(crate) fn remove(&self, id: Uuid) {
        let removed = self.lock().entries.remove(&id);
        if let Some(entry) = removed {
            entry.keeper.abort();
            self.count.send_modify(|count| *count -= 1);
        }
    }

    pub(crate) fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Returns when nothing waits to be acknowledged.
    pub(crate) async fn empty(&self) {
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Whether one more execution can be kept.
    pub(crate) fn has_room(&self, table: &Table) -> bool {
        let size: usize = table.entries.values().map(|entry| entry.execution.size()).sum();
        table.entries.len() < self.limits.count && (size as u64) < self.limits.size.0
    }

    /// Keeps a new execution. Must be called within a runtime.
    pub(crate) fn insert(
        self: &Arc<Self>,
        table: &mut Table,
        terms: &Terms,
        execution: &Arc<Execution>,
    ) {
        let lease = watch::Sender::new(terms.lease.map(deadline));
        let keep = keep(Arc::clone(self), *terms, Arc::clone(execution), lease.subscribe());
        let entry = Entry {
            execution: Arc::clone(execution),
            fingerprint: terms.fingerprint,
            attempt: terms.attempt,
            lease,
            keeper: tokio::spawn(keep).abort_handle(),
        };
        table.entries.insert(terms.id, Arc::new(entry));
        self.count.send_modify(|count| *count += 1);
    }
}

impl Table {
    pub(crate) fn find(&self, id: Uuid) -> Option<&Entry> {
        self.entries.get(&id).map(Arc::as_ref)
    }

    /// Hears of a term. An older one than the newest is refused, with that one's number: whoever
    /// sends it does not lead any more.
    pub(crate) fn hear(&mut self, epoch: Option<u64>) -> Result<(), u64> {
        match epoch {
            Some(epoch) if epoch < self.epoch => Err(self.epoch),
            Some(epoch) => {
                self.epoch = epoch;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Entry {
    /// Whether it is what was asked for now.
    pub(crate) fn means(&self, terms: &Terms) -> bool {
        self.fingerprint == terms.fingerprint
    }

    /// Its owner was heard of, and may be silent for as long as it says again.
    pub(crate) fn renew(&self, terms: &Terms) {
        if let Some(lease) = terms.lease {
            self.lease.send_replace(Some(deadline(lease)));
        }
    }
}

fn deadline(lease: Seconds) -> Instant {
    Instant::now() + lease.0
}

/// The life of one kept execution.
async fn keep(
    kept: Arc<Kept>,
    Terms { id, attempt, .. }: Terms,
    execution: Arc<Execution>,
    mut lease: watch::Receiver<Option<Instant>>,
) {
    let outcome = tokio::select! {
        outcome = execution.ended() => outcome,
        () = lease_over(&mut lease) => {
            tracing::warn!(execution_id = %id, attempt, "ending a job whose lease was not renewed");
            execution.cancel(Why::LeaseOver);
            execution.ended().await
        }
    };
    tracing::info!(
        execution_id = %id,
        attempt,
        status = outcome.status.as_str(),
        reason = outcome.reason.map(Reason::as_str),
        runtime_ms = outcome.runtime_ms,
        "an execution ended"
    );
    sleep(kept.limits.keep).await;
    tracing::warn!(execution_id = %id, attempt, "dropping a result that nobody acknowledged");
    kept.remove(id);
}

/// Returns when the time that was last set is over.
async fn lease_over(lease: &mut watch::Receiver<Option<Instant>>) {
    loop {
        let deadline = *lease.borrow_and_update();
        let over = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            Ok(()) = lease.changed() => {}
            () = over => return,
        }
    }
}
