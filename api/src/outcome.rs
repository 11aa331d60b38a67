//! How a job ended.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Where a job stands. Within an attempt it only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits for its turn.
    Pending,
    /// A runner has it.
    Running,
    /// Ended with exit code 0.
    Completed,
    /// Ended otherwise; [`Reason`] says how.
    Failed,
    /// Somebody asked for its end.
    Cancelled,
}

impl Status {
    /// Whether nothing will change any more.
    pub const fn ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Why a job failed: the first event decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The command ended by itself, with another code than 0.
    ExitCode,
    /// A signal that the platform did not send.
    Signal,
    /// Its wall-clock timer fired.
    Timeout,
    /// Its CPU timer found the time used up.
    CpuTime,
    /// Its own cgroup hit its own memory limit.
    OutOfMemory,
    /// The cell could not be made; the command never ran.
    SandboxError,
    /// Its runner vanished, and what became of it is not known.
    RunnerLost,
    /// The runner's or the host's memory ran out, not the job's limit.
    RunnerOutOfMemory,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::ExitCode,
        Self::Signal,
        Self::Timeout,
        Self::CpuTime,
        Self::OutOfMemory,
        Self::SandboxError,
        Self::RunnerLost,
        Self::RunnerOutOfMemory,
    ];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ExitCode => "exit_code",
            Self::Signal => "signal",
            Self::Timeout => "timeout",
            Self::CpuTime => "cpu_time",
            Self::OutOfMemory => "out_of_memory",
            Self::SandboxError => "sandbox_error",
            Self::RunnerLost => "runner_lost",
            Self::RunnerOutOfMemory => "runner_out_of_memory",
        }
    }
}

/// What the job's cgroup counted. A number that the host can't tell is absent, never a made-up 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// CPU time in all, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<f64>,
    /// CPU time in user mode, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_ms: Option<f64>,
    /// CPU time in the kernel, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_ms: Option<f64>,
    /// Time for which its CPU limit held it back, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled_ms: Option<f64>,
    /// The most memory held at once, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<u64>,
    /// The most processes and threads at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_peak: Option<u64>,
    /// Processes that the kernel killed for want of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_kills: Option<u64>,
    /// Read from block devices, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_read_bytes: Option<u64>,
    /// Written to block devices, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_write_bytes: Option<u64>,
}

/// What was kept of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// As text, each byte sequence that is not UTF-8 as U+FFFD.
    pub text: String,
    /// The exact bytes, only where `text` is not them.
    pub base64: Option<String>,
    /// Whether more was written than kept.
    pub truncated: bool,
}

impl Output {
    /// From the bytes that were kept.
    pub fn new(bytes: Vec<u8>, truncated: bool) -> Self {
        let (text, base64) = encode(bytes);
        Self { text, base64, truncated }
    }
}

/// How much was kept of each stream, where the bytes are read apart from the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputBytes {
    /// Of standard output.
    pub stdout: u64,
    /// Of standard error.
    pub stderr: u64,
}

/// Text where the bytes are UTF-8, else the nearest text and the exact bytes as base64.
pub(crate) fn encode(bytes: Vec<u8>) -> (String, Option<String>) {
    match String::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(error) => {
            let bytes = error.as_bytes();
            (String::from_utf8_lossy(bytes).into_owned(), Some(BASE64_STANDARD.encode(bytes)))
        }
    }
}

/// The result of one attempt, as `/execute` answers it and as it stands in a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// `completed`, `failed` or `cancelled`.
    pub status: Status,
    /// Only on `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// One sentence for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// 128+N when signal N ended the command; absent when it never ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// When the command was executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it had ended.
    pub finished_at: Timestamp,
    /// From exec to exit, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_ms: Option<f64>,
    /// What was kept of standard output, as text; absent where no command was tried, or where its
    /// streams were passed through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
    /// The exact bytes, where they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_base64: Option<String>,
    /// Whether more was written than kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_truncated: Option<bool>,
    /// What was kept of standard error, as text; absent where no command was tried, or where its
    /// streams were passed through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
    /// The exact bytes, where they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr_base64: Option<String>,
    /// Whether more was written than kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr_truncated: Option<bool>,
    /// Only between a runner and a coordinator that asked for large outputs apart: both streams
    /// are kept by the runner and not in here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<OutputBytes>,
    /// What its cgroup counted; absent where there was no cell, or nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Limits and isolations that this host did not enforce; absent where all held.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_enforced: Vec<String>,
}

impl Outcome {
    /// An attempt that tried no command, or of which nothing more is known.
    pub fn never_ran(status: Status, reason: Option<Reason>, message: impl Into<String>) -> Self {
        Self {
            status,
            reason,
            message: Some(message.into()),
            exit_code: None,
            signal: None,
            started_at: None,
            finished_at: Timestamp::now(),
            runtime_ms: None,
            stdout: None,
            stdout_base64: None,
            stdout_truncated: None,
            stderr: None,
            stderr_base64: None,
            stderr_truncated: None,
            output_bytes: None,
            usage: None,
            not_enforced: Vec::new(),
        }
    }

    /// The same with another message, or none.
    #[must_use]
    pub fn with_message(mut self, message: Option<String>) -> Self {
        self.message = message;
        self
    }

    /// The same with what was kept of both streams.
    #[must_use]
    pub fn with_output(mut self, stdout: Output, stderr: Output) -> Self {
        (self.stdout, self.stdout_base64, self.stdout_truncated) =
            (Some(stdout.text), stdout.base64, Some(stdout.truncated));
        (self.stderr, self.stderr_base64, self.stderr_truncated) =
            (Some(stderr.text), stderr.base64, Some(stderr.truncated));
        self
    }

    /// The same without what may be large.
    #[must_use]
    pub fn without_output(mut self) -> Self {
        (self.stdout, self.stdout_base64) = (None, None);
        (self.stderr, self.stderr_base64) = (None, None);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_absent() {
        let lost = Outcome::never_ran(Status::Failed, Some(Reason::RunnerLost), "gone");
        let json = serde_json::to_value(&lost).unwrap();
        for absent in
            ["stdout", "stderr", "stdout_truncated", "stderr_truncated", "output_bytes", "usage"]
        {
            assert_eq!(json.get(absent), None, "{json}");
        }
        assert_eq!(serde_json::from_value::<Outcome>(json).unwrap(), lost);
        let tried = lost.with_output(Output::default(), Output::new(vec![0xff], true));
        let json = serde_json::to_value(&tried).unwrap();
        assert_eq!((&json["stdout"], &json["stdout_truncated"]), (&"".into(), &false.into()));
        assert_eq!(
            (&json["stderr_base64"], &json["stderr_truncated"]),
            (&"/w==".into(), &true.into())
        );
        let bare = tried.without_output();
        assert_eq!(
            (bare.stderr, bare.stderr_base64, bare.stderr_truncated),
            (None, None, Some(true))
        );
    }
}
