//! What a runner tells of itself at `/health`.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{ByteSize, Timestamp, limits::MAX_PIDS};

const fn widest_pids() -> u64 {
    MAX_PIDS
}

/// How many jobs at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    /// In all.
    pub total: usize,
    /// Taken now.
    pub used: usize,
}

/// Whether a runner takes work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunnerState {
    /// It does.
    Ok,
    /// It does, without everything that it should enforce.
    Degraded,
    /// It finishes what runs and takes nothing more.
    Draining,
    /// It can't make cells.
    Failed,
}

/// One protection or limit and how this host gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforcement {
    /// Such as `memory` or `seccomp`.
    pub name: String,
    /// Whether it holds.
    pub enforced: bool,
    /// By what (`cgroup v1`, `landlock ABI 6`), or why not.
    pub detail: String,
    /// What an operator can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Whether it is one on top, which no promise rests on: its lack is told, and refuses nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

impl Enforcement {
    /// Whether something that jobs were promised does not hold.
    pub fn lacking(&self) -> bool {
        !self.enforced && !self.optional
    }
}

/// The answer of a runner's `/health`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunnerHealth {
    /// Whether it takes work.
    pub status: RunnerState,
    /// Made anew at each start: another id means that everything it ran is gone.
    pub boot_id: Uuid,
    /// Of the program.
    pub version: String,
    /// What it can do that ones before it could not, such as [`LEASES`](crate::LEASES). A coordinator
    /// uses nothing that is not named here.
    #[serde(default)]
    pub features: Vec<String>,
    /// Its clock: milliseconds since its machine was booted, those for which it slept with them. What
    /// is sent to it with `as_of` is counted from there; absent where it is too old to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ms: Option<u64>,
    /// What its wall clock showed when it answered; absent where it is too old to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// How many jobs at once.
    pub slots: Slots,
    /// The machine's load average of the last minute; absent where it can't be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
    /// Cores of this machine, the most that one job can ask for.
    pub cpus: f64,
    /// Memory that jobs can have, together and each.
    pub memory: ByteSize,
    /// The most that `limits.pids` can be; older runners omit it, and the default refuses nothing.
    #[serde(default = "widest_pids")]
    pub pids: u64,
    /// The most that `limits.open_files` can be.
    pub open_files: u64,
    /// Whether jobs may ask for `network: host`.
    pub network_host: bool,
    /// What is wrong, for a person.
    #[serde(default)]
    pub problems: Vec<String>,
    /// What is enforced and by what.
    #[serde(default)]
    pub enforcement: Vec<Enforcement>,
}
