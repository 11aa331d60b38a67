//! What a job may use: the ranges of the contract, and an operator's maxima.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    ByteSize, Seconds,
    fields::{Fields, integer},
};

/// Limits of one job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Cores, as cgroup CPU bandwidth: 0.5 is half a core.
    pub cpus: f64,
    /// Memory and swap together, files in memory included.
    pub memory: ByteSize,
    /// Processes and threads.
    pub pids: u64,
    /// All that the job can write anywhere, together.
    pub disk: ByteSize,
    /// Kept of each of stdout and stderr.
    pub output: ByteSize,
    /// CPU time of all processes together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_time: Option<Seconds>,
    /// `RLIMIT_NOFILE`: the highest descriptor plus one, of each process.
    pub open_files: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpus: 1.0,
            memory: ByteSize::mib(512),
            pids: 256,
            disk: ByteSize::mib(256),
            output: ByteSize::mib(1),
            cpu_time: None,
            open_files: 1024,
        }
    }
}

/// An operator's maxima, above which a request is refused with the maximum's name.
#[derive(Clone, Debug, PartialEq)]
pub struct Bounds {
    /// `--max-timeout`
    pub timeout: Seconds,
    /// `--max-cpus`; nothing can use more than the machine's cores.
    pub cpus: f64,
    /// `--max-memory`
    pub memory: ByteSize,
    /// `--max-pids`
    pub pids: u64,
    /// `--max-disk`
    pub disk: ByteSize,
    /// `--max-output`
    pub output: ByteSize,
    /// `--max-cpu-time`
    pub cpu_time: Seconds,
    /// `--max-open-files`; a runner's own hard limit.
    pub open_files: u64,
}

impl Default for Bounds {
    /// The widest: one hour, and what any machine could have. A runner narrows them to its own.
    fn default() -> Self {
        Self {
            timeout: Seconds::new(3600),
            cpus: 8192.0,
            memory: ByteSize(1 << 44),
            pids: 1 << 22,
            disk: ByteSize(1 << 44),
            output: ByteSize::mib(64),
            cpu_time: Seconds::new(8192 * 3600),
            open_files: 1 << 20,
        }
    }
}

/// The least memory with which a process can be started at all.
const MIN_MEMORY: ByteSize = ByteSize::mib(1);
/// A tmpfs counts in pages, and reads a size of 0 as "no limit".
const MIN_DISK: ByteSize = ByteSize(4096);
const MIN_CPUS: f64 = 0.01;
/// Standard input, output and error.
const MIN_OPEN_FILES: u64 = 3;

impl Limits {
    /// Reads the object `limits`, noting every fault.
    pub(crate) fn read(fields: &mut Fields<'_>, max: &Bounds) -> Self {
        let default = Self::default();
        Self {
            cpus: fields.read("cpus", |v| cpus(v, max.cpus)).unwrap_or(default.cpus),
            memory: size(fields, "memory", MIN_MEMORY, max.memory).unwrap_or(default.memory),
            pids: count(fields, "pids", 1, max.pids).unwrap_or(default.pids),
            disk: size(fields, "disk", MIN_DISK, max.disk).unwrap_or(default.disk),
            output: size(fields, "output", ByteSize(0), max.output).unwrap_or(default.output),
            cpu_time: fields.read("cpu_time", |v| positive_duration(v, max.cpu_time)),
            open_files: count(fields, "open_files", MIN_OPEN_FILES, max.open_files)
                .unwrap_or(default.open_files),
        }
    }
}

/// A duration above zero and at most `max`.
pub(crate) fn positive_duration(value: &Value, max: Seconds) -> Result<Seconds, String> {
    let duration = Seconds::from_json(value)?;
    if duration.0.is_zero() {
        Err("must be more than zero".into())
    } else if duration > max {
        Err(format!("is above the maximum of {max}"))
    } else {
        Ok(duration)
    }
}

fn cpus(value: &Value, max: f64) -> Result<f64, String> {
    let cpus = value.as_f64().ok_or("must be a number of cores, such as 0.5")?;
    if cpus < MIN_CPUS {
        Err(format!("must be at least {MIN_CPUS}"))
    } else if cpus > max {
        Err(format!("is above the maximum of {max}"))
    } else {
        Ok(cpus)
    }
}

fn size(
    fields: &mut Fields<'_>,
    name: &'static str,
    min: ByteSize,
    max: ByteSize,
) -> Option<ByteSize> {
    fields.read(name, |value| {
        let size = ByteSize::from_json(value)?;
        if size < min {
            Err(format!("must be at least {min}"))
        } else if size > max {
            Err(format!("is above the maximum of {max}"))
        } else {
            Ok(size)
        }
    })
}

fn count(fields: &mut Fields<'_>, name: &'static str, min: u64, max: u64) -> Option<u64> {
    fields.read(name, |value| {
        let low = i64::try_from(min).unwrap_or(i64::MAX);
        let count = integer(value, low..=i64::MAX)
            .map_err(|_| format!("must be a whole number of at least {min}"))?
            .unsigned_abs();
        if count > max {
            return Err(format!("is above the maximum of {max}"));
        }
        Ok(count)
    })
}
