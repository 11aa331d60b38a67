//! Jobs as rows, the same in every database: a record that is listed, what the job reads, and what it
//! printed, apart.

use std::{io, mem, sync::Arc};

use cloister_api::{Job, Status, Stdin, Timestamp};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    Claim, StoreError, Unfinished, Unreadable,
    output::{self, Piece},
};

/// What one attempt printed, as it was stored up to version 3 of SQLite's schema and version 2 of
/// PostgreSQL's: rows of those versions are read, and none is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Streams {
    stdout: Option<String>,
    stdout_base64: Option<String>,
    stdout_truncated: Option<bool>,
    stderr: Option<String>,
    stderr_base64: Option<String>,
    stderr_truncated: Option<bool>,
}

/// What all attempts of a job printed, in that form.
#[derive(Debug, Deserialize)]
struct Outputs {
    last: Streams,
    #[serde(default)]
    attempts: Vec<Streams>,
}

impl Outputs {
    fn put_into(self, job: &mut Job) {
        if self.last.stdout.is_some() || self.last.stderr.is_some() {
            (job.stdout, job.stdout_base64) = (self.last.stdout, self.last.stdout_base64);
            (job.stderr, job.stderr_base64) = (self.last.stderr, self.last.stderr_base64);
        }
        for (past, old) in job.attempts.iter_mut().zip(self.attempts) {
            let outcome = &mut past.outcome;
            if outcome.output_bytes.is_none() {
                (outcome.stdout, outcome.stdout_base64) = (old.stdout, old.stdout_base64);
                (outcome.stderr, outcome.stderr_base64) = (old.stderr, old.stderr_base64);
                outcome.stdout_truncated = old.stdout_truncated;
                outcome.stderr_truncated = old.stderr_truncated;
            }
        }
    }
}

/// A new job, ready to be written.
pub(super) struct New {
    pub(super) id: Uuid,
    pub(super) attempt: u32,
    pub(super) labels: Vec<(String, String)>,
    pub(super) stdin: Option<String>,
    pub(super) record: String,
}

impl New {
    /// Bytes that it takes.
    pub(super) fn size(&self) -> i64 {
        bytes(&[&self.record, self.stdin.as_deref().unwrap_or_default()])
    }

    /// The row of a job that was just accepted.
    pub(super) fn of(job: Job) -> Result<Self, StoreError> {
        let id = job.job_id;
        Self::encode(job).map_err(|error| unwritable(id, error))
    }

    fn encode(job: Job) -> serde_json::Result<Self> {
        let stdin = &job.request.task.stdin;
        let empty = *stdin == Stdin::default();
        Ok(Self {
            id: job.job_id,
            attempt: job.attempt,
            labels: job.request.labels.clone().into_iter().collect(),
            stdin: (!empty).then(|| serde_json::to_string(stdin)).transpose()?,
            record: serde_json::to_string(&job.without_outputs())?,
        })
    }
}

/// Bytes that a new job will take, as [`New::size`] tells when it is written. The job is as before
/// when this returns: what it reads may be too much to be copied for this.
pub(crate) fn size_of(job: &mut Job) -> serde_json::Result<u64> {
    let stdin = mem::take(&mut job.request.task.stdin);
    let counted = (|| {
        let mut count = Count(0);
        serde_json::to_writer(&mut count, job)?;
        if stdin != Stdin::default() {
            serde_json::to_writer(&mut count, &stdin)?;
        }
        Ok(count.0)
    })();
    job.request.task.stdin = stdin;
    counted
}

/// Counts what is written.
struct Count(u64);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A job that changed, ready to be written.
pub(super) struct Changed {
    pub(super) id: Uuid,
    pub(super) attempt: u32,
    pub(super) status: &'static str,
    pub(super) reason: Option<&'static str>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) finished_at: Option<Timestamp>,
    pub(super) runner: Option<String>,
    pub(super) record: String,
    /// What its attempts printed that is written with it. What is not here was written before.
    pub(super) printed: Vec<Piece>,
}

impl Changed {
    /// Bytes that its record takes.
    pub(super) fn size(&self) -> i64 {
        bytes(&[&self.record])
    }

    /// The row of a job that has ended, or whose next attempt waits.
    pub(super) fn of(job: Job) -> Result<Self, StoreError> {
        let id = job.job_id;
        Self::encode(job).map_err(|error| unwritable(id, error))
    }

    fn encode(mut job: Job) -> serde_json::Result<Self> {
        let printed = output::take(&mut job);
        Ok(Self {
            id: job.job_id,
            attempt: job.attempt,
            status: job.status.as_str(),
            reason: job.reason.map(cloister_api::Reason::as_str),
            started_at: job.started_at,
            finished_at: job.finished_at,
            runner: job.runner.clone(),
            printed,
            record: serde_json::to_string(&job.without_outputs())?,
        })
    }
}

fn unwritable(job: Uuid, error: serde_json::Error) -> StoreError {
    StoreError::Encode { job, cause: Arc::new(error) }
}

fn bytes(texts: &[&str]) -> i64 {
    i64::try_from(texts.iter().map(|text| text.len()).sum::<usize>()).unwrap_or(i64::MAX)
}

/// A row as it was found: whose it is, and its columns or why they cannot be read. One damaged row is
/// an error of that row, and never of the query that met it.
pub(super) struct Found {
    pub(super) id: Uuid,
    pub(super) row: Result<Row, String>,
}

/// The columns of a job.
pub(super) struct Row {
    pub(super) status: String,
    pub(super) attempt: u32,
    pub(super) started_at: Option<i64>,
    pub(super) not_before: Option<i64>,
    pub(super) cancel: bool,
    pub(super) runner: Option<String>,
    pub(super) boot_id: Option<Uuid>,
    pub(super) execution_id: Option<Uuid>,
    pub(super) record: String,
    pub(super) stdin: Option<String>,
    /// In the form of earlier versions.
    pub(super) outputs: Option<String>,
    /// All rows that its attempts printed, if they are few.
    pub(super) printed: Vec<Piece>,
    pub(super) size: i64,
}

impl Found {
    /// How much of memory it takes.
    pub(super) fn size(&self) -> usize {
        self.row.as_ref().map_or(0, |row| row.record.len())
    }

    /// The job.
    pub(super) fn into_job(self) -> Result<Job, Unreadable> {
        let id = self.id;
        self.row.and_then(|row| row.into_job(id)).map_err(|why| Unreadable { job: id, why })
    }

    /// The job as it is listed: nothing tells of what it printed.
    pub(super) fn into_listed(self) -> Result<Job, Unreadable> {
        let mut job = self.into_job()?;
        job.output_bytes = None;
        job.attempts.iter_mut().for_each(|past| past.outcome.output_bytes = None);
        Ok(job)
    }

    /// The job with all that its attempts printed, or with how much that is where it is much.
    pub(super) fn into_whole(mut self) -> Result<Job, Unreadable> {
        let id = self.id;
        let printed =
            self.row.as_mut().map_or_else(|_| Vec::new(), |row| mem::take(&mut row.printed));
        let mut job = self.into_job()?;
        output::put_back(&mut job, &printed)
            .map_err(|why| Unreadable { job: id, why: format!("output: {why}") })?;
        Ok(job)
    }

    /// The job with what a new leader must know.
    pub(super) fn into_unfinished(self) -> Result<Unfinished, Unreadable> {
        let id = self.id;
        self.row.and_then(|row| row.into_unfinished(id)).map_err(|why| Unreadable { job: id, why })
    }
}

/// Keeps apart what can be read and what cannot.
pub(super) fn apart<T>(
    read: impl Iterator<Item = Result<T, Unreadable>>,
) -> (Vec<T>, Vec<Unreadable>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for one in read {
        match one {
            Ok(one) => good.push(one),
            Err(one) => bad.push(one),
        }
    }
    (good, bad)
}

impl Row {
    /// The job. While a runner has it only the columns are written, so they come before the record.
    fn into_job(self, id: Uuid) -> Result<Job, String> {
        let part = |name: &'static str| move |error: serde_json::Error| format!("{name}: {error}");
        let mut job: Job = serde_json::from_str(&self.record).map_err(part("record"))?;
        if job.job_id != id {
            return Err(format!("record: it is the one of job {}", job.job_id));
        }
        if self.status == Status::Running.as_str() {
            job.status = Status::Running;
            job.runner = self.runner;
            job.started_at = self.started_at.map(Timestamp);
            job.queue_ms = job.started_at.map(|t| t.since_ms(job.created_at).max(0));
        }
        if let Some(stdin) = self.stdin {
            job.request.task.stdin = serde_json::from_str(&stdin).map_err(part("stdin"))?;
        }
        if let Some(outputs) = self.outputs {
            let outputs: Outputs = serde_json::from_str(&outputs).map_err(part("outputs"))?;
            outputs.put_into(&mut job);
        }
        Ok(job)
    }

    fn into_unfinished(self, id: Uuid) -> Result<Unfinished, String> {
        let claim = match (&self.runner, self.execution_id) {
            (Some(runner), Some(execution_id)) => Some(Claim {
                attempt: self.attempt,
                execution_id,
                runner: runner.clone(),
                boot_id: self.boot_id,
            }),
            _ => None,
        };
        Ok(Unfinished {
            size: self.size.unsigned_abs(),
            claim,
            cancel: self.cancel,
            not_before: self.not_before.map(Timestamp),
            job: self.into_job(id)?,
        })
    }
}
