//! A job as the coordinator answers it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{JobRequest, Outcome, OutputBytes, Reason, Status, Timestamp, Usage};

/// An attempt that came before the present one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Past {
    /// Which, from 1.
    pub attempt: u32,
    /// Where it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<String>,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// A job: what was asked, where it stands, and how it ended. Absent rather than null where nothing
/// is known yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// UUID version 7: sorts by the time of submission.
    pub job_id: Uuid,
    /// Where it stands.
    pub status: Status,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// One sentence for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Why it still waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_reason: Option<String>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When its command was executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it had ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// 128+N when signal N ended the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// What was kept of standard output, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
    /// The exact bytes, where they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_base64: Option<String>,
    /// Whether more was written than kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_truncated: Option<bool>,
    /// What was kept of standard error, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
    /// The exact bytes, where they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr_base64: Option<String>,
    /// Whether more was written than kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr_truncated: Option<bool>,
    /// How much both streams hold, where they are not in here. Only within a coordinator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<OutputBytes>,
    /// From exec to exit, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_ms: Option<f64>,
    /// From acceptance to exec, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_ms: Option<i64>,
    /// The present attempt, from 1.
    pub attempt: u32,
    /// The earlier ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Past>,
    /// Where it runs or ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<String>,
    /// What its cgroup counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What its host did not enforce.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_enforced: Vec<String>,
    /// What was asked.
    #[serde(flatten)]
    pub request: JobRequest,
}

impl Job {
    /// A job that was just accepted.
    pub fn new(job_id: Uuid, created_at: Timestamp, request: JobRequest) -> Self {
        Self {
            job_id,
            status: Status::Pending,
            reason: None,
            message: None,
            pending_reason: None,
            created_at,
            started_at: None,
            finished_at: None,
            exit_code: None,
            signal: None,
            stdout: None,
            stdout_base64: None,
            stdout_truncated: None,
            stderr: None,
            stderr_base64: None,
            stderr_truncated: None,
            output_bytes: None,
            runtime_ms: None,
            queue_ms: None,
            attempt: 1,
            attempts: Vec::new(),
            runner: None,
            usage: None,
            not_enforced: Vec::new(),
            request,
        }
    }

    /// The job as it is after its present attempt ended so.
    pub fn finish(&mut self, outcome: Outcome) {
        self.status = outcome.status;
        self.reason = outcome.reason;
        self.message = outcome.message;
        self.pending_reason = None;
        self.exit_code = outcome.exit_code;
        self.signal = outcome.signal;
        self.started_at = outcome.started_at.or(self.started_at);
        self.queue_ms = self.started_at.map(|t| t.since_ms(self.created_at).max(0));
        self.finished_at = Some(outcome.finished_at);
        self.runtime_ms = outcome.runtime_ms;
        self.not_enforced = outcome.not_enforced;
        self.usage = outcome.usage;
        self.stdout = outcome.stdout;
        self.stdout_base64 = outcome.stdout_base64;
        self.stdout_truncated = outcome.stdout_truncated;
        self.stderr = outcome.stderr;
        self.stderr_base64 = outcome.stderr_base64;
        self.stderr_truncated = outcome.stderr_truncated;
        self.output_bytes = outcome.output_bytes;
    }

    /// The job without what may be large, as it stands in a list.
    #[must_use]
    pub fn without_outputs(mut self) -> Self {
        (self.stdout, self.stdout_base64) = (None, None);
        (self.stderr, self.stderr_base64) = (None, None);
        self.request.task.stdin = crate::Stdin::default();
        for past in &mut self.attempts {
            past.outcome = past.outcome.clone().without_output();
        }
        self
    }
}

/// One page of `GET /jobs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobList {
    /// Newest first, without outputs.
    pub jobs: Vec<Job>,
    /// Jobs that belong on this page, and whose records the store cannot read; absent where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<Uuid>,
    /// Where the next page starts; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Output, Program, Task};

    #[test]
    fn a_job_shows_what_its_attempt_showed() {
        let request = JobRequest::new(Task::new(Program::Argv(vec!["nosuch".into()])));
        let mut job = Job::new(Uuid::from_u128(1), Timestamp(0), request);
        // A program that is not there was tried, and was never started.
        let outcome = Outcome {
            exit_code: Some(127),
            usage: Some(Usage::default()),
            ..Outcome::never_ran(Status::Failed, Some(Reason::ExitCode), "not found")
        };
        let outcome = outcome.with_output(Output::default(), Output::default());
        job.finish(outcome.clone());
        let (job, outcome) = (serde_json::to_value(&job), serde_json::to_value(&outcome));
        let (job, outcome) = (job.unwrap(), outcome.unwrap());
        for (name, value) in outcome.as_object().unwrap() {
            assert_eq!(&job[name], value, "{name}");
        }
        assert_eq!((&job["stdout"], &job["usage"]), (&"".into(), &serde_json::json!({})));
    }
}
