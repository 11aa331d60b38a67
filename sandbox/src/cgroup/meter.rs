//! Reads what a job used, and why it was killed, from its cgroup's own counters.
//!
//! The launcher opens the files when it makes the cgroup, and hands them over: reading them takes no
//! right, no path, and no further descriptor, so that a verdict does not depend on whether the
//! service can open anything at the moment at which it is due.

use std::os::fd::OwnedFd;

use cloister_api::Usage;

use super::{Record, files::keyed};

/// Memory is charged in batches of 64 pages of 4 KiB (`MEMCG_CHARGE_BATCH`): a cgroup whose peak is
/// nearer to its limit than that has met it.
const V1_CHARGE: u64 = 64 * 4096;

/// What a cell may hold whose job is called ended, bytes: a job that is let in meanwhile finds all
/// memory but this. An empty cell holds about a fifth of it.
const NEXT_TO_NOTHING: u64 = 2 << 20;

/// A job's records.
pub(crate) struct Meter {
    records: Vec<(Record, OwnedFd)>,
    /// The job's memory limit, bytes.
    limit: u64,
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
    pub(crate) fn new(records: Vec<(Record, OwnedFd)>, limit: u64) -> Self {
        Self { records, limit }
    }

    fn text(&self, record: Record) -> Option<String> {
        // More than any of them holds, but io.stat with dozens of devices, which then ends early.
        let mut buffer = [0; 4096];
        let (_, file) = self.records.iter().find(|(kind, _)| *kind == record)?;
        let length = rustix::io::pread(file, &mut buffer, 0).ok()?;
        String::from_utf8(buffer[..length].into()).ok()
    }

    /// CPU time used so far, microseconds.
    pub(crate) fn cpu_us(&self) -> Option<u64> {
        keyed(&self.text(Record::CpuV2)?, "usage_usec")
    }

    /// Whether CPU time is counted here at all.
    pub(crate) fn counts_cpu(&self) -> bool {
        self.records.iter().any(|(kind, _)| *kind == Record::CpuV2)
    }

    /// Whether somebody was killed for want of memory, and whose limit it was.
    ///
    /// On v2 `oom` counts how often this cgroup's own limit was hit without a way out, and `oom_kill`
    /// the kills whosever limit it was. v1 has no such count (`failcnt` also counts what was met by
    /// giving cache back, and stays 0 on Linux 6.18). There it was the job's own limit if the kernel
    /// `announced` a shortage in this cgroup or one above it, and the peak stands at the limit.
    pub(crate) fn shortage(&self, announced: bool) -> Shortage {
        let text = |record| self.text(record);
        let own = || {
            if let Some(events) = text(Record::MemoryEventsV2) {
                return keyed(&events, "oom").is_some_and(|count| count > 0);
            }
            let peaks = [Record::MemoryPeakV1, Record::MemoryAndSwapPeakV1];
            let at_limit = |peak: u64| peak.saturating_add(V1_CHARGE) >= self.limit;
            announced && peaks.into_iter().filter_map(|peak| number(&text, &[peak])).any(at_limit)
        };
        match oom_kills(&text) {
            None | Some(0) => Shortage::None,
            Some(_) if own() => Shortage::Own,
            Some(_) => Shortage::Foreign,
        }
    }

    /// Whether its PID 1 is all that is left of it, and what it still holds is next to nothing. Where the
    /// kernel does not count one of these, that can't be told.
    pub(crate) fn is_spent(&self) -> bool {
        let text = |record| self.text(record);
        let memory = [Record::MemoryV2, Record::MemoryV1];
        number(&text, &[Record::Pids]) == Some(1)
            && number(&text, &memory).is_some_and(|held| held <= NEXT_TO_NOTHING)
    }

    /// All that the contract's `usage` names and this host counts.
    pub(crate) fn usage(&self) -> Usage {
        usage(&|record| self.text(record))
    }
}

/// What a record says, where it can be read.
pub(super) type Text<'a> = &'a dyn Fn(Record) -> Option<String>;

/// How many processes the kernel killed for want of memory.
fn oom_kills(text: Text<'_>) -> Option<u64> {
    let text = text(Record::MemoryEventsV2).or_else(|| text(Record::OomControlV1))?;
    keyed(&text, "oom_kill")
}

/// The number that is all of the first of these records that can be read.
pub(super) fn number(text: Text<'_>, records: &[Record]) -> Option<u64> {
    records.iter().find_map(|record| text(*record)?.trim().parse().ok())
}

/// A `usage` from these records.
pub(super) fn usage(text: Text<'_>) -> Usage {
    let cpu = text(Record::CpuV2).unwrap_or_default();
    let ms = |key| keyed(&cpu, key).map(milliseconds);
    let throttled_us = text(Record::ThrottlingV2)
        .and_then(|text| keyed(&text, "throttled_usec"))
        .or_else(|| keyed(&text(Record::ThrottlingV1)?, "throttled_time").map(|ns| ns / 1000));
    let io = text(Record::IoV2);
    let io_sum = |key: &str| io.as_deref().map(|text| sum_of(text, key));
    Usage {
        cpu_ms: ms("usage_usec"),
        user_ms: ms("user_usec"),
        system_ms: ms("system_usec"),
        throttled_ms: throttled_us.map(milliseconds),
        memory_peak_bytes: number(
            text,
            &[Record::MemoryPeakV2, Record::MemoryAndSwapPeakV1, Record::MemoryPeakV1],
        ),
        // PID 1 of the cell is ours.
        pids_peak: number(text, &[Record::PidsPeak]).map(|peak| peak.saturating_sub(1)),
        oom_kills: oom_kills(text),
        io_read_bytes: io_sum("rbytes"),
        io_write_bytes: io_sum("wbytes"),
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
    use std::io::Write;

    use super::*;

    /// A meter over files that say this.
    fn meter(records: &[(Record, &str)], limit: u64) -> Meter {
        let records = records.iter().map(|(record, text)| {
            let memory =
                nix::sys::memfd::memfd_create(c"record", nix::sys::memfd::MFdFlags::empty());
            let mut file = std::fs::File::from(memory.unwrap());
            file.write_all(text.as_bytes()).unwrap();
            (*record, file.into())
        });
        Meter::new(records.collect(), limit)
    }

    #[test]
    fn io_is_summed_over_devices() {
        let text = "8:0 rbytes=10 wbytes=1 rios=2\n8:16 rbytes=5 wbytes=0 rios=1\n";
        let usage = meter(&[(Record::IoV2, text)], 0).usage();
        assert_eq!((usage.io_read_bytes, usage.io_write_bytes), (Some(15), Some(1)));
        assert_eq!(usage.cpu_ms, None);
    }

    #[test]
    fn on_v2_the_kernel_says_whose_limit_it_was() {
        let of = |text| meter(&[(Record::MemoryEventsV2, text)], 0).shortage(false);
        assert_eq!(of("low 0\nmax 3\noom 1\noom_kill 2\n"), Shortage::Own);
        assert_eq!(of("max 0\noom 0\noom_kill 1\n"), Shortage::Foreign);
        assert_eq!(of("max 9\noom 1\noom_kill 0\n"), Shortage::None);
    }

    #[test]
    fn on_v1_it_was_announced_and_the_peak_stands_at_the_limit() {
        let of = |peak, announced| {
            let control = "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n";
            let records = [(Record::OomControlV1, control), (Record::MemoryPeakV1, peak)];
            meter(&records, 64 << 20).shortage(announced)
        };
        assert_eq!(of("67108864\n", true), Shortage::Own);
        assert_eq!(of("67108864\n", false), Shortage::Foreign);
        assert_eq!(of("1048576\n", true), Shortage::Foreign);
    }
}
