//! What attempts print, as rows of bytes.
//!
//! Each stream of each attempt is a series of rows, each of [`ROW`] bytes but the last: a row is found
//! by its offset, none is too large for a database, and a reader holds one at a time. The record of the
//! job tells how many bytes there are. A leader writes the rows of a large output before it records
//! the end; rows that no record tells of are not shown, and go with the job.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use cloister_api::{Job, Outcome, Output, OutputBytes};
use uuid::Uuid;

/// Bytes in a row.
pub(crate) const ROW: usize = 64 << 10;

/// What all attempts of a job may have printed together to be read with its record, in bytes.
pub(crate) const INLINE: u32 = 64 << 10;

/// Which stream of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub(crate) const BOTH: [Self; 2] = [Self::Stdout, Self::Stderr];

    /// As a file descriptor, and as it is stored.
    pub(super) const fn number(self) -> i16 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }

    /// The word on the wire.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// How much of it there is.
    pub(crate) const fn of(self, bytes: OutputBytes) -> u64 {
        match self {
            Self::Stdout => bytes.stdout,
            Self::Stderr => bytes.stderr,
        }
    }
}

/// A part of a stream: whole rows, but for the last one of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) job: Uuid,
    pub(crate) attempt: u32,
    pub(crate) stream: Stream,
    /// The row that it begins with.
    pub(crate) row: u32,
    pub(crate) bytes: Bytes,
}

impl Piece {
    /// Its rows, by their numbers.
    pub(super) fn rows(&self) -> impl Iterator<Item = (u32, &[u8])> {
        (self.row..).zip(self.bytes.chunks(ROW))
    }
}

/// Takes what the attempts of a job printed out of it, where it is in it; the job tells afterwards how
/// much that was.
pub(super) fn take(job: &mut Job) -> Vec<Piece> {
    let (id, attempt) = (job.job_id, job.attempt);
    let mut pieces = Vec::new();
    for past in &mut job.attempts {
        let taken = take_printed(&mut past.outcome);
        keep(&mut pieces, (id, past.attempt), taken, &mut past.outcome.output_bytes);
    }
    let stdout = bytes_of(job.stdout.take(), job.stdout_base64.take());
    let stderr = bytes_of(job.stderr.take(), job.stderr_base64.take());
    keep(&mut pieces, (id, attempt), [stdout, stderr], &mut job.output_bytes);
    pieces
}

/// What both streams held, where it is in the outcome.
pub(crate) fn take_printed(outcome: &mut Outcome) -> [Option<Vec<u8>>; 2] {
    [
        bytes_of(outcome.stdout.take(), outcome.stdout_base64.take()),
        bytes_of(outcome.stderr.take(), outcome.stderr_base64.take()),
    ]
}

/// The bytes that a text stands for: those beside it, where it is not them itself.
fn bytes_of(text: Option<String>, base64: Option<String>) -> Option<Vec<u8>> {
    let exact = base64.and_then(|base64| BASE64_STANDARD.decode(base64).ok());
    exact.or_else(|| text.map(String::into_bytes))
}

fn keep(
    pieces: &mut Vec<Piece>,
    (job, attempt): (Uuid, u32),
    taken: [Option<Vec<u8>>; 2],
    told: &mut Option<OutputBytes>,
) {
    if taken.iter().all(Option::is_none) {
        return;
    }
    let length = |at: usize| taken[at].as_ref().map_or(0, |bytes| bytes.len() as u64);
    *told = Some(OutputBytes { stdout: length(0), stderr: length(1) });
    for (stream, bytes) in Stream::BOTH.into_iter().zip(taken) {
        if let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) {
            pieces.push(Piece { job, attempt, stream, row: 0, bytes: bytes.into() });
        }
    }
}

/// Puts what was printed back into the job, if it is little: `pieces` are all rows then, in order. Else
/// the job tells only how much it is.
pub(super) fn put_back(job: &mut Job, pieces: &[Piece]) -> Result<(), String> {
    let past = job.attempts.iter().map(|past| (past.attempt, past.outcome.output_bytes));
    let told: Vec<_> = past
        .chain([(job.attempt, job.output_bytes)])
        .filter_map(|(attempt, bytes)| Some((attempt, bytes?)))
        .collect();
    let all = told.iter().fold(0_u64, |all, (_, bytes)| {
        all.saturating_add(bytes.stdout).saturating_add(bytes.stderr)
    });
    if all > u64::from(INLINE) {
        return Ok(());
    }
    for (attempt, bytes) in told {
        let printed = |stream: Stream, truncated: Option<bool>| {
            let wanted = stream.of(bytes);
            if !was_kept(wanted, truncated) {
                return Ok((None, None));
            }
            let of = |piece: &&Piece| (piece.attempt, piece.stream) == (attempt, stream);
            let found: Vec<u8> =
                pieces.iter().filter(of).flat_map(|piece| piece.bytes.iter().copied()).collect();
            if found.len() as u64 != wanted {
                let (name, found) = (stream.as_str(), found.len());
                return Err(format!("{name} of attempt {attempt}: {found} bytes and not {wanted}"));
            }
            let output = Output::new(found, false);
            Ok((Some(output.text), output.base64))
        };
        if attempt == job.attempt {
            (job.stdout, job.stdout_base64) = printed(Stream::Stdout, job.stdout_truncated)?;
            (job.stderr, job.stderr_base64) = printed(Stream::Stderr, job.stderr_truncated)?;
            job.output_bytes = None;
        } else if let Some(past) = job.attempts.iter_mut().find(|past| past.attempt == attempt) {
            let outcome = &mut past.outcome;
            (outcome.stdout, outcome.stdout_base64) =
                printed(Stream::Stdout, outcome.stdout_truncated)?;
            (outcome.stderr, outcome.stderr_base64) =
                printed(Stream::Stderr, outcome.stderr_truncated)?;
            outcome.output_bytes = None;
        }
    }
    Ok(())
}

/// Whether a stream was captured, even if it is empty. `bytes` of it are stored.
pub(crate) const fn was_kept(bytes: u64, truncated: Option<bool>) -> bool {
    bytes > 0 || truncated.is_some()
}
