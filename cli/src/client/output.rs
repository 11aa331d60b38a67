//! A job's own output, and what has to be said of it.

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
};

use anyhow::Context;
use base64::{Engine, prelude::BASE64_STANDARD};
use cloister_api::{Job, Reason, Status};

use super::text;

/// The exact bytes that a stream is made of.
pub(super) fn bytes<'a>(
    text: Option<&'a str>,
    base64: Option<&str>,
) -> anyhow::Result<Cow<'a, [u8]>> {
    match base64 {
        Some(base64) => {
            let bytes = BASE64_STANDARD.decode(base64);
            Ok(bytes.context("the coordinator's answer holds base64 that is none")?.into())
        }
        None => Ok(text.unwrap_or_default().as_bytes().into()),
    }
}

/// Writes the job's streams to ours: every byte as it is to a file or a pipe. A terminal gets
/// lines and colours, and the rest made visible; who wants the bytes there writes `| cat`.
pub(super) fn pass_on(job: &Job) -> anyhow::Result<()> {
    let out = bytes(job.stdout.as_deref(), job.stdout_base64.as_deref())?;
    let err = bytes(job.stderr.as_deref(), job.stderr_base64.as_deref())?;
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let (stdout_acts, stderr_acts) = (stdout.is_terminal(), stderr.is_terminal());
    write(stdout.lock(), &out, stdout_acts).context("stdout cannot be written")?;
    write(stderr.lock(), &err, stderr_acts).context("stderr cannot be written")
}

fn write(mut to: impl Write, bytes: &[u8], acts: bool) -> io::Result<()> {
    if acts {
        to.write_all(text::screen(bytes).as_bytes())?;
    } else {
        to.write_all(bytes)?;
    }
    to.flush()
}

/// What a person should hear of a job whose output was passed on: not how the command itself chose
/// to end, which its exit code tells, but everything that the output does not show.
pub(super) fn remarks(job: &Job) -> Vec<String> {
    let by_itself = job.reason == Some(Reason::ExitCode) && job.started_at.is_some();
    let ending = (job.status != Status::Completed && !by_itself).then(|| ending(job));
    let cut = [("stdout", job.stdout_truncated), ("stderr", job.stderr_truncated)];
    let cut = cut.into_iter().filter(|(_, truncated)| *truncated == Some(true));
    let cut = cut.map(|(name, _)| {
        let limit = job.request.task.limits.output;
        format!("the job wrote more to {name} than the {limit} that are kept")
    });
    let open = (!job.not_enforced.is_empty())
        .then(|| format!("its host did not enforce {}", text::plain(&job.not_enforced.join(", "))));
    ending.into_iter().chain(cut).chain(open).collect()
}

/// How a job ended, in a sentence.
pub(super) fn ending(job: &Job) -> String {
    let reason = job.reason.map(|reason| format!(" ({})", reason.as_str()));
    let sentence = job.message.as_deref().map(|message| format!(": {}", text::plain(message)));
    format!(
        "job {} {}{}{}",
        job.job_id,
        match job.status {
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Cancelled => "was cancelled",
            Status::Pending => "is pending",
            Status::Running => "is running",
        },
        reason.unwrap_or_default(),
        sentence.unwrap_or_default()
    )
}
