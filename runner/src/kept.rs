//! Executions with an id: joined rather than run twice, ended when their lease runs out, and kept
//! until their result is acknowledged.
//!
//! The coordinator chooses the id before it sends the work, so that after a lost connection or a
//! crash of its own it can ask what became of it. Four rules keep that from leaking:
//!
//! - a lease that is not renewed (by `/leases`, or a further call with the same id) ends the job;
//! - a result that nobody acknowledges is dropped after a day;
//! - running executions and results are bounded together, and beyond that nothing new is taken;
//! - what is over stays over: its id is not run again ([`gone`](crate::gone)).
//!
//! Whether a lease has run out is decided under the table's lock, by comparing its end with the
//! clock, also by who comes to renew it. A runner that was stopped, or whose machine slept, finds
//! alarm and renewals waiting together when it goes on, and the order in which they are then heard
//! must decide nothing: the coordinator counts on the execution being over.
//!
//! An execution belongs to the cluster that started it. To another one it does not exist. One that
//! was started without a cluster, by a coordinator of the version before, becomes that of the first
//! that joins or renews it. Until then no cluster ends it: whoever clears away what is none of its own
//! would clear away a neighbour's.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cloister_api::{KnownExecution, Outcome, Reason};
use tokio::{sync::watch, time::sleep};
use uuid::Uuid;

use crate::{
    clock::{Clock, Moment},
    config::ResultLimits,
    entry::{Entry, Grant, Known, Terms},
    epochs::{Caller, Epochs, Unheard},
    execution::{Execution, Why},
    gone::Gone,
};

/// All of them.
#[derive(Debug)]
pub(crate) struct Kept {
    limits: ResultLimits,
    clock: Arc<dyn Clock>,
    table: Mutex<Table>,
    count: watch::Sender<Count>,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<Uuid, Entry>,
    epochs: Epochs,
    gone: Gone,
    /// What the alarm is set for.
    alarm: Option<Moment>,
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    all: usize,
    /// Of those, how many a coordinator is going to come back for.
    awaited: usize,
}

impl Kept {
    /// None yet. Must be called within a runtime, which ends them as their leases run out.
    pub(crate) fn new(limits: ResultLimits, clock: Arc<dyn Clock>) -> Arc<Self> {
        let table = Mutex::default();
        let kept = Arc::new(Self { limits, clock, table, count: watch::Sender::default() });
        tokio::spawn(Arc::clone(&kept).enforce());
        kept
    }

    /// The table, locked: whether an id is known and what then happens must be one step. The lock is
    /// never held across an await: the guard can't be sent to another thread.
    pub(crate) fn lock(self: &Arc<Self>) -> Locked<'_> {
        // Nothing panics while it is held.
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { kept: self, table }
    }

    /// The time by which leases run out.
    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    pub(crate) fn count(&self) -> usize {
        self.count.borrow().all
    }

    /// Returns when nothing waits to be acknowledged.
    pub(crate) async fn empty(&self) {
        let _ = self.count.subscribe().wait_for(|count| count.all == 0).await;
    }

    /// Returns when nothing waits that a coordinator is going to come back for.
    pub(crate) async fn all_fetched(&self) {
        let _ = self.count.subscribe().wait_for(|count| count.awaited == 0).await;
    }

    /// Ends executions as their leases run out. Does not return.
    async fn enforce(self: Arc<Self>) {
        loop {
            self.clock.rung().await;
            self.lock().expire();
        }
    }
}

/// The table in the hands of one caller.
pub(crate) struct Locked<'a> {
    kept: &'a Arc<Kept>,
    table: MutexGuard<'a, Table>,
}

/// What came of the wish to end an execution.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It had ended so, and is forgotten now where that was acknowledged.
    Before(Arc<Outcome>),
    /// It runs, and was told to end.
    Cancelled(Known),
}

impl Locked<'_> {
    /// Hears who leads. Comes before anything that a caller who does not lead must not do.
    pub(crate) fn hear(&mut self, caller: Caller) -> Result<(), Unheard> {
        let Table { entries, epochs, .. } = &mut *self.table;
        let busy = || entries.values().filter_map(|entry| entry.cluster).collect();
        epochs.hear(caller, self.kept.now(), busy)
    }

    pub(crate) fn get(&self, id: Uuid) -> Option<Known> {
        self.table.entries.get(&id).map(|entry| entry.known.clone())
    }

    /// All, or those of one cluster, in the order of their ids.
    pub(crate) fn all(&self, cluster: Option<Uuid>) -> Vec<KnownExecution> {
        let entries = self.table.entries.values();
        let asked = entries.filter(|entry| cluster.is_none_or(|cluster| entry.is_of(cluster)));
        let mut all: Vec<_> = asked.map(|entry| entry.known.told()).collect();
        all.sort_unstable_by_key(|known| known.execution_id);
        all
    }

    /// The execution that this id stands for already, whose owner was thereby heard of. An error says
    /// what else the id stands for.
    pub(crate) fn join(&mut self, terms: &Terms) -> Result<Option<Arc<Execution>>, &'static str> {
        let Some(entry) = self.table.entries.get_mut(&terms.id) else {
            if self.table.gone.contains(terms.id) {
                return Err("an execution that is over");
            }
            return Ok(None);
        };
        entry.join(terms)?;
        let execution = Arc::clone(&entry.known.execution);
        if let Some(grant) = terms.lease {
            self.renew_one(terms.id, grant);
        }
        self.recount();
        Ok(Some(execution))
    }

    /// Whether one more execution can be kept, where outputs hold so many bytes of memory.
    pub(crate) fn has_room(&self, outputs: u64) -> bool {
        let entries = &self.table.entries;
        let logs: usize = entries.values().map(|entry| entry.known.execution.size()).sum();
        let memory = outputs.saturating_add(logs as u64);
        entries.len() < self.kept.limits.count && memory < self.kept.limits.memory.0
    }

    /// Keeps a new execution. Must be called within a runtime.
    pub(crate) fn insert(&mut self, terms: &Terms, execution: &Arc<Execution>) {
        let known =
            Known { id: terms.id, attempt: terms.attempt, execution: Arc::clone(execution) };
        let keep = keep(Arc::clone(self.kept), known.clone());
        let entry = Entry::new(known, terms, tokio::spawn(keep).abort_handle());
        self.table.entries.insert(terms.id, entry);
        if let Some(grant) = terms.lease {
            self.renew_one(terms.id, grant);
        }
        self.recount();
    }

    /// The owner of these was heard of. Answers which are known and how they stand, and which are not.
    pub(crate) fn renew(
        &mut self,
        cluster: Uuid,
        grant: Grant,
        ids: Vec<Uuid>,
    ) -> (Vec<KnownExecution>, Vec<Uuid>) {
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for id in ids {
            match self.table.entries.get_mut(&id) {
                Some(entry) if entry.can_be_of(cluster) => {
                    entry.belong(cluster);
                    known.push(entry.known.told());
                    self.renew_one(id, grant);
                }
                _ => unknown.push(id),
            }
        }
        self.recount();
        (known, unknown)
    }

    /// Cancels what runs; forgets what has ended, if that is acknowledged. What is not known is over all the same: should it
    /// still come, it is not run. With a cluster, only what is that cluster's is known.
    pub(crate) fn end(
        &mut self,
        id: Uuid,
        cluster: Option<Uuid>,
        acknowledge: bool,
    ) -> Option<Ended> {
        let Some(entry) = self.table.entries.get(&id) else {
            self.table.gone.insert(id);
            return None;
        };
        if cluster.is_some_and(|cluster| !entry.is_of(cluster)) {
            return None;
        }
        if let Some(outcome) = entry.known.execution.outcome() {
            if acknowledge {
                self.remove(id);
            }
            return Some(Ended::Before(outcome));
        }
        entry.known.execution.cancel(Why::Asked);
        Some(Ended::Cancelled(entry.known.clone()))
    }

    /// Forgets an execution, and with it its result.
    fn remove(&mut self, id: Uuid) {
        if let Some(entry) = self.table.entries.remove(&id) {
            entry.keeper.abort();
            self.table.gone.insert(id);
            self.recount();
        }
    }

    /// Its owner may be silent for so long again, unless it was for too long already.
    fn renew_one(&mut self, id: Uuid, grant: Grant) {
        let now = self.kept.now();
        let Table { entries, alarm, .. } = &mut *self.table;
        let Some(until) = entries.get_mut(&id).and_then(|entry| entry.renew(grant, now)) else {
            return;
        };
        // Later ones are seen when the alarm has rung for an earlier one.
        if alarm.is_none_or(|alarm| until < alarm) {
            *alarm = Some(until);
            self.kept.clock.set(*alarm);
        }
    }

    /// Ends what has run out, and sets the alarm for what does so next.
    fn expire(&mut self) {
        let now = self.kept.now();
        let ends = self.table.entries.values_mut().filter_map(|entry| entry.run_out(now));
        let next = ends.min();
        self.table.alarm = next;
        self.kept.clock.set(next);
    }

    fn recount(&self) {
        let entries = &self.table.entries;
        let awaited = entries.values().filter(|entry| entry.awaited).count();
        let now = Count { all: entries.len(), awaited };
        self.kept.count.send_if_modified(|count| std::mem::replace(count, now) != now);
    }
}

/// The life of one kept execution: its end, and then that of its result.
async fn keep(kept: Arc<Kept>, Known { id, attempt, execution }: Known) {
    let outcome = execution.ended().await;
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
    kept.lock().remove(id);
}
