//! What an attempt printed goes from its runner into the store, piece by piece, before its end is
//! recorded. However much it is, little of it is in memory.
//!
//! The verdict does not wait for it for ever: what a runner does not hand over in time, or has lost, and
//! what the store refuses, is missing from the result, which says so.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cloister_api::{Outcome, OutputBytes};
use tokio::time::{Instant, sleep, timeout};

use super::{super::link::CallError, Attempt, backoff::Backoff};
use crate::store::{
    Piece, Stream,
    output::{INLINE, ROW, take_printed},
};

/// Bytes that are written to the store at once.
const PIECE: usize = 4 * ROW;
/// Nothing comes for so long: the connection is given up, and the rest is asked for anew.
const SILENCE: Duration = Duration::from_secs(10);
/// The least that a runner is expected to hand over in a second, in bytes.
const RATE: u64 = 1 << 20;

/// Why a stream was not stored to its end.
enum Trouble {
    /// Another try may succeed.
    Broken(String),
    /// None can.
    Gone(String),
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        Self::Broken(error.to_string())
    }
}

/// How far one stream got.
struct Copy {
    stream: Stream,
    /// How many bytes there are, and how many of them are in the store.
    total: u64,
    stored: u64,
    /// How long the runner was waited for.
    waited: Duration,
}

impl Attempt {
    /// Writes what an attempt printed to the store, unless it is little: that goes with its record.
    /// Answers the outcome as it is to be recorded.
    pub(super) async fn store_output(&self, mut outcome: Outcome) -> Outcome {
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let inline = length(&outcome.stdout) + length(&outcome.stderr);
        let stored = if let Some(bytes) = outcome.output_bytes {
            self.fetch_both(bytes).await
        } else if inline > INLINE as usize {
            // A runner of an earlier version.
            let taken =
                take_printed(&mut outcome).map(|bytes| Bytes::from(bytes.unwrap_or_default()));
            self.put_both(taken).await
        } else {
            return outcome;
        };
        let length = |copy: &Copy| copy.stored;
        let [stdout, stderr] = &stored.0;
        outcome.output_bytes = Some(OutputBytes { stdout: length(stdout), stderr: length(stderr) });
        for (copy, truncated) in
            stored.0.iter().zip([&mut outcome.stdout_truncated, &mut outcome.stderr_truncated])
        {
            *truncated = Some(truncated.unwrap_or_default() || copy.stored < copy.total);
        }
        if let Some(why) = stored.1 {
            outcome.message = Some(with_loss(outcome.message.take(), &why));
        }
        outcome
    }

    /// Both streams, from the runner; and why not all of them, if so.
    async fn fetch_both(&self, bytes: OutputBytes) -> ([Copy; 2], Option<String>) {
        // The semaphore is never closed.
        let _turn = self.engine.copies.acquire().await;
        let mut copies = Stream::BOTH.map(|stream| Copy::of(stream, stream.of(bytes)));
        let mut lost = None;
        for copy in &mut copies {
            if let Err(why) = self.fetch(copy).await {
                lost = Some(why);
            }
        }
        (copies, lost)
    }

    /// Fetches one stream, over as many connections as it takes.
    async fn fetch(&self, copy: &mut Copy) -> Result<(), String> {
        let mut backoff = Backoff::new(self.engine.lease);
        let most = self.patience() + Duration::from_secs(copy.total / RATE);
        while copy.stored < copy.total {
            let before = copy.waited;
            match self.fetch_on(copy).await {
                Ok(()) => {}
                Err(Trouble::Gone(why)) => return Err(why),
                Err(Trouble::Broken(why)) => {
                    if copy.waited >= most {
                        let (runner, seconds) = (&self.runner, most.as_secs());
                        return Err(format!(
                            "runner {runner} did not hand it over within {seconds} s: {why}"
                        ));
                    }
                    tracing::debug!(job_id = %self.job.job_id, runner = %self.runner, why,
                        "fetching output was interrupted; asking again");
                    let jitter = self.engine.world.fraction();
                    let pause = backoff.pause(copy.waited.saturating_sub(before), jitter);
                    sleep(pause).await;
                    copy.waited += pause;
                }
            }
        }
        Ok(())
    }

    /// Fetches what is missing over one connection.
    async fn fetch_on(&self, copy: &mut Copy) -> Result<(), Trouble> {
        let (runner, execution) = (&self.runner, self.claim.execution_id);
        let asked = Instant::now();
        let answer = self.engine.runners.output(runner, execution, copy.stream, copy.stored).await;
        copy.waited += asked.elapsed();
        let Some(mut chunks) = answer? else {
            return Err(Trouble::Gone(format!("runner {runner} does not have it any more")));
        };
        let silence = SILENCE.min(self.patience());
        let mut pending = BytesMut::new();
        loop {
            let asked = Instant::now();
            let next = timeout(silence, chunks.next()).await;
            copy.waited += asked.elapsed();
            let ended = match next {
                Err(_) => return Err(CallError::Late(silence).into()),
                Ok(Err(error)) => return Err(error.into()),
                Ok(Ok(Some(bytes))) => {
                    pending.extend_from_slice(&bytes);
                    false
                }
                Ok(Ok(None)) => true,
            };
            // What is beyond what it told of it does not have.
            let left = usize::try_from(copy.total - copy.stored).unwrap_or(usize::MAX);
            pending.truncate(left);
            while pending.len() >= PIECE || (pending.len() == left && !pending.is_empty()) {
                let piece = pending.split_to(pending.len().min(PIECE)).freeze();
                self.put(copy, piece).await.map_err(Trouble::Gone)?;
                if copy.stored == copy.total {
                    return Ok(());
                }
            }
            if ended {
                let (stored, total) = (copy.stored, copy.total);
                return Err(Trouble::Broken(format!("it ended before {total} bytes, at {stored}")));
            }
        }
    }

    /// Both streams, as they are here; and why not all of them, if so.
    async fn put_both(&self, both: [Bytes; 2]) -> ([Copy; 2], Option<String>) {
        let mut lost = None;
        let [stdout, stderr] = &both;
        let mut copies = [
            Copy::of(Stream::Stdout, stdout.len() as u64),
            Copy::of(Stream::Stderr, stderr.len() as u64),
        ];
        for (copy, mut bytes) in copies.iter_mut().zip(both) {
            while !bytes.is_empty() {
                let piece = bytes.split_to(bytes.len().min(PIECE));
                if let Err(why) = self.put(copy, piece).await {
                    lost = Some(why);
                    break;
                }
            }
        }
        (copies, lost)
    }

    /// Writes what comes next of a stream: whole rows, or its end.
    async fn put(&self, copy: &mut Copy, bytes: Bytes) -> Result<(), String> {
        let (job, attempt) = (self.job.job_id, self.claim.attempt);
        let row = u32::try_from(copy.stored / ROW as u64).unwrap_or(u32::MAX);
        let piece = Piece { job, attempt, stream: copy.stream, row, bytes };
        let (engine, term) = (&self.engine, self.term);
        let put = || engine.store.put_output(term.epoch, piece.clone());
        engine.persist_unless_refused(term, put).await.map_err(|error| error.to_string())?;
        copy.stored += piece.bytes.len() as u64;
        Ok(())
    }
}

impl Copy {
    const fn of(stream: Stream, total: u64) -> Self {
        Self { stream, total, stored: 0, waited: Duration::ZERO }
    }
}

/// A message that tells also that output is missing.
pub(super) fn with_loss(message: Option<String>, why: &str) -> String {
    let before = message.map(|message| message + "; ").unwrap_or_default();
    format!("{before}a part of its output is missing: {why}")
}
