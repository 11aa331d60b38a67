//! How large a simulation is and how bad, and what happened in it.

use std::ops::AddAssign;

use super::nature::Chance;

/// An error that is put in, to see whether it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    None,
    /// A job is acknowledged before it is written.
    AcknowledgeFirst,
    /// The store takes what a leader writes whose term is over.
    NoEpochs,
}

/// How large, and how bad.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) nodes: usize,
    pub(super) runners: usize,
    pub(super) slots: usize,
    pub(super) jobs: u64,
    pub(super) faults: u64,
}

impl Plan {
    /// Small, so that there can be many.
    pub(super) fn of(seed: u64) -> Self {
        let chance = Chance::new(seed ^ 0x9e37_79b9);
        let pick = |from: u64, to: u64| from + chance.below(to - from + 1);
        Self {
            nodes: usize::try_from(pick(1, 3)).unwrap_or(1),
            runners: usize::try_from(pick(1, 5)).unwrap_or(1),
            slots: usize::try_from(pick(1, 4)).unwrap_or(1),
            jobs: pick(10, 40),
            faults: pick(3, 20),
        }
    }

    /// As large as a fleet gets.
    #[cfg(tokio_unstable)]
    pub(super) fn large(seed: u64) -> Self {
        Self { nodes: 3, runners: 1000, slots: 2, jobs: 3000, faults: 20 + seed % 20 }
    }
}

/// What happened in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) runners: u64,
    pub(super) jobs: u64,
    pub(super) executions: u64,
    /// Jobs by how they ended.
    pub(super) completed: u64,
    pub(super) failed: u64,
    pub(super) cancelled: u64,
    pub(super) lost_runners: u64,
    /// Attempts that followed others.
    pub(super) repeated: u64,
    pub(super) faults: u64,
    pub(super) terms: u64,
    pub(super) looks: u64,
    /// Simulated.
    pub(super) seconds: u64,
}

impl AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        self.runners += other.runners;
        self.jobs += other.jobs;
        self.executions += other.executions;
        self.completed += other.completed;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
        self.lost_runners += other.lost_runners;
        self.repeated += other.repeated;
        self.faults += other.faults;
        self.terms += other.terms;
        self.looks += other.looks;
        self.seconds += other.seconds;
    }
}
