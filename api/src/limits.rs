//! What a job may use: the ranges of the contract, and an operator's maxima.

use std::fmt::Display;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    ByteSize, Seconds,
    fields::{Fields, NOT_WHOLE},
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
    /// `--max-pids`; no machine lets jobs have all of its process ids.
    pub pids: u64,
    /// `--max-disk`
    pub disk: ByteSize,
    /// `--max-output`
    pub output: ByteSize,
    /// `--max-cpu-time`; without one, a job that names no limit has none.
    pub cpu_time: Option<Seconds>,
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
            pids: MAX_PIDS,
            disk: ByteSize(1 << 44),
            output: ByteSize::mib(64),
            cpu_time: None,
            open_files: 1 << 20,
        }
    }
}

/// The least memory with which a process can be started at all.
const MIN_MEMORY: ByteSize = ByteSize::mib(1);
/// A tmpfs counts in pages, and reads a size of 0 as "no limit".
const MIN_DISK: ByteSize = ByteSize(4096);
const MIN_CPUS: f64 = 0.01;
/// The kernel's `PID_MAX_LIMIT` less one: a cgroup takes no more as its limit.
pub(crate) const MAX_PIDS: u64 = (1 << 22) - 1;
/// A century: any number below it can be added to any time without a thought.
const LONGEST: Seconds = Seconds::new(100 * 365 * 24 * 3600);
/// Standard input, output and error.
const MIN_OPEN_FILES: u64 = 3;

impl Limits {
    /// The defaults, as far as an operator's maxima let them: what a job gets that asks for nothing.
    pub fn within(max: &Bounds) -> Self {
        let default = Self::default();
        Self {
            cpus: default.cpus.min(max.cpus),
            memory: default.memory.min(max.memory),
            pids: default.pids.min(max.pids),
            disk: default.disk.min(max.disk),
            output: default.output.min(max.output),
            cpu_time: max.cpu_time,
            open_files: default.open_files.min(max.open_files),
        }
    }

    /// Reads the object `limits`, noting every fault.
    pub(crate) fn read(fields: &mut Fields<'_>, max: &Bounds) -> Self {
        let default = Self::within(max);
        let memory = Range { min: MIN_MEMORY, max: max.memory, option: MAX_MEMORY };
        let pids = Range { min: 1, max: max.pids, option: MAX_PIDS_OPTION };
        let disk = Range { min: MIN_DISK, max: max.disk, option: "--max-disk" };
        let output = Range { min: ByteSize(0), max: max.output, option: "--max-output" };
        let open_files = Range { min: MIN_OPEN_FILES, max: max.open_files, option: MAX_OPEN_FILES };
        let cpu_time = max.cpu_time.unwrap_or(LONGEST);
        Self {
            cpus: fields.read("cpus", |v| cpus(v, max.cpus)).unwrap_or(default.cpus),
            memory: fields.read("memory", |v| size(v, memory)).unwrap_or(default.memory),
            pids: fields.read("pids", |v| count(v, pids)).unwrap_or(default.pids),
            disk: fields.read("disk", |v| size(v, disk)).unwrap_or(default.disk),
            output: fields.read("output", |v| size(v, output)).unwrap_or(default.output),
            cpu_time: fields
                .read("cpu_time", |v| positive_duration(v, cpu_time, "--max-cpu-time"))
                .or(default.cpu_time),
            open_files: fields
                .read("open_files", |v| count(v, open_files))
                .unwrap_or(default.open_files),
        }
    }
}

/// What a limit may be, and the option by which an operator says how much at most.
#[derive(Clone, Copy)]
struct Range<T> {
    min: T,
    max: T,
    option: &'static str,
}

// A machine has so much, whatever its operator would allow.
const MAX_CPUS: &str = "--max-cpus, or the machine's own";
const MAX_MEMORY: &str = "--max-memory, or the machine's own";
const MAX_PIDS_OPTION: &str = "--max-pids, or the machine's own";
const MAX_OPEN_FILES: &str = "--max-open-files, or the machine's own";

impl<T: PartialOrd + Display> Range<T> {
    fn take(self, value: T) -> Result<T, String> {
        if value < self.min {
            Err(format!("must be at least {}", self.min))
        } else if value > self.max {
            Err(above(self.max, self.option))
        } else {
            Ok(value)
        }
    }
}

fn above(max: impl Display, option: &str) -> String {
    match option {
        "" => format!("is above the maximum of {max}"),
        option => format!("is above the maximum of {max} ({option})"),
    }
}

/// A duration above zero and at most `max`, which an operator sets by `option` if it is not empty.
pub(crate) fn positive_duration(
    value: &Value,
    max: Seconds,
    option: &str,
) -> Result<Seconds, String> {
    let duration = Seconds::from_json(value)?;
    if duration.0.is_zero() {
        Err("must be more than zero".into())
    } else if duration > max {
        Err(above(max, option))
    } else {
        Ok(duration)
    }
}

fn cpus(value: &Value, max: f64) -> Result<f64, String> {
    let cpus = value.as_f64().ok_or("must be a number of cores, such as 0.5")?;
    Range { min: MIN_CPUS, max, option: MAX_CPUS }.take(cpus)
}

fn size(value: &Value, range: Range<ByteSize>) -> Result<ByteSize, String> {
    range.take(ByteSize::from_json(value)?)
}

fn count(value: &Value, range: Range<u64>) -> Result<u64, String> {
    if value.is_f64() {
        return Err(NOT_WHOLE.into());
    }
    let count = value.as_u64();
    range.take(count.ok_or_else(|| format!("must be a whole number of at least {}", range.min))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ExecuteRequest, JobRequest};

    fn narrow() -> Bounds {
        Bounds {
            timeout: Seconds::new(10),
            cpus: 0.5,
            memory: ByteSize::mib(64),
            pids: 16,
            disk: ByteSize::mib(8),
            output: ByteSize(4096),
            cpu_time: Some(Seconds::new(5)),
            open_files: 64,
        }
    }

    #[test]
    fn what_is_left_out_is_within_the_maxima_also_without_limits() {
        let max = narrow();
        for body in [r#"{"command": "a"}"#, r#"{"command": "a", "limits": {}}"#] {
            let job = JobRequest::parse(body.as_bytes(), &max).unwrap().task;
            let limits = Limits {
                cpus: max.cpus,
                memory: max.memory,
                pids: max.pids,
                disk: max.disk,
                output: max.output,
                cpu_time: max.cpu_time,
                open_files: max.open_files,
            };
            assert_eq!((job.timeout, &job.limits), (max.timeout, &limits), "{body}");
            // What is echoed is what holds, and comes back as it is.
            let again = serde_json::to_vec(&job).unwrap();
            assert_eq!(ExecuteRequest::parse(&again, &max).unwrap().task, job);
        }
        let wide = JobRequest::parse(br#"{"command": "a"}"#, &Bounds::default()).unwrap().task;
        assert_eq!((wide.timeout, wide.limits), (Seconds::new(30), Limits::default()));
    }

    #[test]
    fn a_maximum_is_named_with_its_option() {
        let fault = |body: &str, max: &Bounds| {
            let body = format!("{{\"command\": \"a\", {body}}}");
            JobRequest::parse(body.as_bytes(), max).unwrap_err().errors.remove(0).detail
        };
        let widest = Bounds::default();
        assert_eq!(
            fault(r#""timeout": 3601"#, &widest),
            "is above the maximum of 1h (--max-timeout)"
        );
        for (limit, words) in [
            (r#""cpus": 1"#, "0.5 (--max-cpus"),
            (r#""memory": "65MiB""#, "64MiB (--max-memory"),
            (r#""pids": 17"#, "16 (--max-pids"),
            (r#""disk": "9MiB""#, "8MiB (--max-disk)"),
            (r#""output": "5KiB""#, "4KiB (--max-output)"),
            (r#""cpu_time": 6"#, "5s (--max-cpu-time)"),
            (r#""open_files": 65"#, "64 (--max-open-files"),
        ] {
            let detail = fault(&format!(r#""limits": {{{limit}}}"#), &narrow());
            assert!(detail.contains(words), "{limit}: {detail}");
        }
    }

    #[test]
    fn counts_are_whole_and_within_what_the_kernel_takes() {
        let pids = |json: &str| {
            let value = serde_json::from_str(json).unwrap();
            count(&value, Range { min: 1, max: Bounds::default().pids, option: "--max-pids" })
        };
        assert_eq!(pids("4194303"), Ok(4_194_303));
        for (json, words) in [
            ("4194304", "maximum of 4194303"),
            ("18446744073709551615", "maximum of 4194303"),
            ("32.0", "without a fraction"),
            ("1e3", "without an exponent"),
            ("0", "at least 1"),
            ("-1", "at least 1"),
            ("true", "whole number"),
        ] {
            let detail = pids(json).unwrap_err();
            assert!(detail.contains(words), "{json}: {detail}");
        }
    }

    #[test]
    fn cpu_time_without_a_maximum_may_be_any_that_can_be_kept() {
        let read = |time: f64| {
            let body = serde_json::json!({"command": "a", "limits": {"cpu_time": time}});
            JobRequest::parse(body.to_string().as_bytes(), &Bounds::default())
        };
        assert!(read(1e9).is_ok());
        assert_eq!(read(1e19).unwrap_err().errors[0].pointer, "/limits/cpu_time");
    }
}
