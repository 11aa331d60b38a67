//! Every execution that a runner may have, as the leader knows them: which leases are to be renewed,
//! and what is nobody's any more.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use cloister_api::KnownExecution;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{Engine, Term};
use crate::scheduler::RunnerName;

/// All of a term, by runner.
pub(super) type Claims = HashMap<RunnerName, HashMap<Uuid, Arc<Claimed>>>;

/// An execution that a runner may have.
#[derive(Debug, Default)]
pub(super) struct Claimed {
    /// The runner said so: its lease is to be renewed.
    taken: AtomicBool,
    /// It should have ended: its lease is not renewed any more.
    lapsed: AtomicBool,
    /// Told when the runner said that it knows nothing of it.
    unknown: Notify,
}

impl Claimed {
    fn is_to_be_renewed(&self) -> bool {
        self.taken.load(Relaxed) && !self.lapsed.load(Relaxed)
    }
}

impl Engine {
    /// A runner is about to be given an execution, or may have it already. To be kept for as long as
    /// that may be so.
    pub(crate) fn hold(self: &Arc<Self>, term: Term, runner: &RunnerName, execution: Uuid) -> Hold {
        let claimed = Arc::new(Claimed::default());
        if let Some(held) = self.state().held.as_mut().filter(|held| held.term == term) {
            let of = held.claims.entry(runner.clone()).or_default();
            of.insert(execution, Arc::clone(&claimed));
        }
        let (engine, runner) = (Arc::clone(self), runner.clone());
        Hold { engine, term, runner, execution, claimed }
    }

    fn claims<T>(&self, term: Term, look: impl FnOnce(&Claims) -> T) -> Option<T> {
        let state = self.state();
        let held = state.held.as_ref().filter(|held| held.term == term);
        held.map(|held| look(&held.claims))
    }

    /// Returns when each runner that was sent an execution in this term has said whether it takes it.
    pub(super) async fn all_answered(&self, term: Term) {
        let mut changes = self.answered.subscribe();
        let open = |claims: &Claims| {
            claims.values().flat_map(HashMap::values).any(|claimed| !claimed.taken.load(Relaxed))
        };
        while self.claims(term, open) == Some(true) {
            // The sender is the engine's own, and lives as long.
            let _ = changes.changed().await;
        }
    }

    /// The executions of a runner whose leases are to be renewed.
    pub(crate) fn to_renew(&self, term: Term, runner: &RunnerName) -> Vec<Uuid> {
        let taken = |of: &HashMap<Uuid, Arc<Claimed>>| {
            let taken = of.iter().filter(|(_, claimed)| claimed.is_to_be_renewed());
            taken.map(|(execution, _)| *execution).collect()
        };
        let of = self.claims(term, |claims| claims.get(runner).map(taken));
        of.flatten().unwrap_or_default()
    }

    /// A runner knows nothing of these: whoever follows them should ask it.
    pub(crate) fn unknown_at(&self, term: Term, runner: &RunnerName, executions: &[Uuid]) {
        self.claims(term, |claims| {
            let of = claims.get(runner);
            for found in executions.iter().filter_map(|execution| of?.get(execution)) {
                found.unknown.notify_one();
            }
        });
    }

    /// Those of these executions that are nobody's any more: of attempts that were given up, or whose
    /// end was recorded by a leader that could not say so to the runner. To be asked of executions
    /// that a runner told of *before*; none while a leader still reads what there is.
    pub(crate) fn orphans(&self, term: Term, executions: &[KnownExecution]) -> Vec<Uuid> {
        if self.read(|scheduler| !scheduler.leads()) {
            return Vec::new();
        }
        let orphans = self.claims(term, |claims| {
            let ids = executions.iter().map(|execution| execution.execution_id);
            ids.filter(|id| !claims.values().any(|of| of.contains_key(id))).collect()
        });
        orphans.unwrap_or_default()
    }
}

/// Keeps an execution known as one that its runner may have.
pub(crate) struct Hold {
    engine: Arc<Engine>,
    term: Term,
    runner: RunnerName,
    execution: Uuid,
    claimed: Arc<Claimed>,
}

impl Hold {
    /// The runner said that it has it: its lease is renewed from now on.
    pub(crate) fn taken(&self) {
        self.claimed.taken.store(true, Relaxed);
        self.engine.answered.send_replace(());
    }

    /// It should have ended: its lease is not renewed from now on. It stays known as one that its
    /// runner may have.
    pub(crate) fn lapse(&self) {
        self.claimed.lapsed.store(true, Relaxed);
    }

    /// Returns when the runner has said that it knows nothing of it.
    pub(crate) async fn unknown(&self) {
        self.claimed.unknown.notified().await;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.engine.state();
        let held = state.held.as_mut().filter(|held| held.term == self.term);
        let Some(held) = held else { return };
        if let Some(of) = held.claims.get_mut(&self.runner) {
            of.remove(&self.execution);
            if of.is_empty() {
                held.claims.remove(&self.runner);
            }
        }
        self.engine.answered.send_replace(());
    }
}
