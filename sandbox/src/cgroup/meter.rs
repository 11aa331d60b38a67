//! Reads what a job used, and why it was killed, from its cgroup: by the folders' descriptors, with
//! no right but to read.

use std::os::fd::OwnedFd;

use cloister_api::Usage;

use super::{Role, Version, files};

/// Memory is charged in batches of 64 pages of 4 KiB (`MEMCG_CHARGE_BATCH`): a cgroup whose peak is
/// nearer to its limit than that has met it.
const V1_CHARGE: u64 = 64 * 4096;

/// A job's cgroup as the engine sees it.
pub(crate) struct Meter {
    folders: [Option<(Version, OwnedFd)>; 4],
}

/// Whose memory ran out, by the kernel's own count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// Nobody was killed for want of memory.
    None,
    /// The job hit its own limit.
    Own,
    /// A process of the job was killed although its limit was not hit: the runner's or the host's
    /// memory had run out.
    Foreign,
}

impl Meter {
    /// The folders in the order of [`Role::ALL`].
    pub(crate) fn new(folders: [Option<(Version, OwnedFd)>; 4]) -> Self {
        Self { folders }
    }

    fn folder(&self, role: Role) -> Option<(Version, &OwnedFd)> {
        self.folders[role as usize].as_ref().map(|(version, folder)| (*version, folder))
    }

    fn read(&self, role: Role, file: &str) -> Option<String> {
        files::read(self.folder(role)?.1, file).ok()
    }

    fn number(&self, role: Role, file: &str) -> Option<u64> {
        files::read_number(self.folder(role)?.1, file)
    }

    /// CPU time used so far, microseconds. The v2 core counts it also where the cpu controller is
    /// on v1.
    pub(crate) fn cpu_us(&self) -> Option<u64> {
        files::keyed(&self.read(Role::Core, "cpu.stat")?, "usage_usec")
    }

    /// How many processes the kernel killed for want of memory, and whose fault it was.
    ///
    /// On v2 `oom` counts how often this cgroup's own limit was hit without a way out, and `oom_kill`
    /// the kills whosever limit it was. On v1 `failcnt` should count how often an allocation met this
    /// cgroup's limit, and stays 0 on Linux 6.18: there the peak tells, which then stands at the
    /// limit.
    pub(crate) fn shortage(&self) -> (Shortage, Option<u64>) {
        let Some((version, folder)) = self.folder(Role::Memory) else {
            return (Shortage::None, None);
        };
        let (kills, own) = match version {
            Version::V2 => {
                let events = files::read(folder, "memory.events").unwrap_or_default();
                let own = files::keyed(&events, "oom").is_some_and(|count| count > 0);
                (files::keyed(&events, "oom_kill"), own)
            }
            Version::V1 => {
                let control = files::read(folder, "memory.oom_control").unwrap_or_default();
                let own = ["memory", "memory.memsw"].into_iter().any(|kind| {
                    let number = |what: &str| files::read_number(folder, &format!("{kind}.{what}"));
                    let peak = number("max_usage_in_bytes").unwrap_or(0);
                    let limit = number("limit_in_bytes").unwrap_or(u64::MAX);
                    number("failcnt").unwrap_or(0) > 0 || peak.saturating_add(V1_CHARGE) >= limit
                });
                (files::keyed(&control, "oom_kill"), own)
            }
        };
        let shortage = match (kills, own) {
            (None | Some(0), _) => Shortage::None,
            (Some(_), true) => Shortage::Own,
            (Some(_), false) => Shortage::Foreign,
        };
        (shortage, kills)
    }

    /// All that the contract's `usage` names and this host counts.
    pub(crate) fn usage(&self) -> Usage {
        let cpu = self.read(Role::Core, "cpu.stat").unwrap_or_default();
        let ms = |key| files::keyed(&cpu, key).map(milliseconds);
        let (peak, io) = match self.folder(Role::Memory) {
            Some((Version::V1, _)) => (
                self.number(Role::Memory, "memory.memsw.max_usage_in_bytes")
                    .or_else(|| self.number(Role::Memory, "memory.max_usage_in_bytes")),
                None,
            ),
            _ => (self.number(Role::Memory, "memory.peak"), self.read(Role::Core, "io.stat")),
        };
        let io_sum = |key: &str| io.as_deref().map(|text| sum_of(text, key));
        Usage {
            cpu_ms: ms("usage_usec"),
            user_ms: ms("user_usec"),
            system_ms: ms("system_usec"),
            throttled_ms: self.throttled_us().map(milliseconds),
            memory_peak_bytes: peak,
            // PID 1 of the cell is ours.
            pids_peak: self.number(Role::Pids, "pids.peak").map(|peak| peak.saturating_sub(1)),
            oom_kills: self.shortage().1,
            io_read_bytes: io_sum("rbytes"),
            io_write_bytes: io_sum("wbytes"),
        }
    }

    fn throttled_us(&self) -> Option<u64> {
        let (version, folder) = self.folder(Role::Cpu)?;
        let stat = files::read(folder, "cpu.stat").ok()?;
        match version {
            Version::V2 => files::keyed(&stat, "throttled_usec"),
            Version::V1 => files::keyed(&stat, "throttled_time").map(|ns| ns / 1000),
        }
    }
}

/// Microseconds as milliseconds with their fraction.
#[expect(clippy::cast_precision_loss, reason = "exact up to 285 years of CPU time")]
fn milliseconds(us: u64) -> f64 {
    us as f64 / 1000.0
}

/// The sum of `key=N` over all devices of an `io.stat`.
fn sum_of(text: &str, key: &str) -> u64 {
    text.split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_is_summed_over_devices() {
        let text = "8:0 rbytes=10 wbytes=1 rios=2\n8:16 rbytes=5 wbytes=0 rios=1\n";
        assert_eq!((sum_of(text, "rbytes"), sum_of(text, "wbytes")), (15, 1));
    }
}
