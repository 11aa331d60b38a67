//! What this host gives to cells: measured by the launcher while it sets itself up, never guessed.

use cloister_api::{Bounds, ByteSize, Enforcement};
use serde::{Deserialize, Serialize};

/// What a launcher found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory that jobs can have together, and each at most.
    pub memory: ByteSize,
    /// Processes and threads, the most that a job can ask for.
    pub pids: u64,
    /// The hard limit of descriptors, the most that a job can ask for.
    pub open_files: u64,
    /// Whether jobs may ask for the runner's own network.
    pub network_host: bool,
    /// Each protection and limit, and by what it holds.
    pub enforcement: Vec<Enforcement>,
}

impl Host {
    /// An operator's maxima, narrowed to what this machine has.
    pub fn bounds(&self, max: &Bounds) -> Bounds {
        #[expect(clippy::cast_precision_loss, reason = "no host has 2^52 cores")]
        let cores = self.cores as f64;
        Bounds {
            cpus: max.cpus.min(cores),
            memory: max.memory.min(self.memory),
            pids: max.pids.min(self.pids),
            open_files: max.open_files.min(self.open_files),
            ..max.clone()
        }
    }

    /// Whether this holds.
    pub(crate) fn enforces(&self, name: &str) -> bool {
        self.enforcement.iter().any(|line| line.enforced && line.name == name)
    }

    /// The names of what was promised and does not hold.
    pub fn not_enforced(&self) -> Vec<String> {
        self.enforcement.iter().filter(|e| e.lacking()).map(|e| e.name.clone()).collect()
    }
}

/// It holds, by this.
pub(crate) fn holds(name: &str, by: impl Into<String>) -> Enforcement {
    Enforcement {
        name: name.into(),
        enforced: true,
        detail: by.into(),
        remedy: None,
        optional: false,
    }
}

/// It does not, because of this, and this mends it.
pub(crate) fn lacks(
    name: &str,
    because: impl Into<String>,
    remedy: impl Into<String>,
) -> Enforcement {
    Enforcement {
        name: name.into(),
        enforced: false,
        detail: because.into(),
        remedy: Some(remedy.into()),
        optional: false,
    }
}

/// One on top that does not hold, because of this, and this mends it.
pub(crate) fn optional(
    name: &str,
    because: impl Into<String>,
    remedy: impl Into<String>,
) -> Enforcement {
    Enforcement { optional: true, ..lacks(name, because, remedy) }
}
