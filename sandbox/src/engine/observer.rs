//! Who hears of a job, and how much of its output it takes.
//!
//! The engine keeps no output. Before it reads a stream it asks the observer for room. An observer that
//! has none leaves the bytes in the pipe, which slows the job as any full pipe does, and resumes the
//! stream later.

use std::{
    mem,
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
};

use cloister_api::{Outcome, Output, Timestamp};
use nix::sys::eventfd::EventFd;

use super::{Command, Place};

/// Which of a job's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How much of a stream an observer takes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// So many bytes at most, more than none.
    Now(usize),
    /// None now. [`Resume`] ends that.
    Later,
    /// No more of this stream: the rest is read and dropped, and told as truncated.
    Never,
}

/// Hears of one job. Called on the engine's thread, which serves every cell (or on the caller's, when
/// that has ended): it must not block.
pub trait Observer: Send {
    /// The command was executed.
    fn started(&mut self, at: Timestamp) {
        let _ = at;
    }

    /// How much of this stream it takes next. [`Room::Later`] is for where there is a [`Resume`], which
    /// is to be kept then. There is none when the job has ended: what is left in its pipes, a few hundred
    /// KiB at most, is taken now or never.
    fn room(&mut self, stream: Stream, resume: Option<&Resume>) -> Room {
        let _ = (stream, resume);
        Room::Now(usize::MAX)
    }

    /// It wrote this, of what is kept: at most `limits.output` bytes of each stream in all.
    fn output(&mut self, stream: Stream, bytes: &[u8]) {
        let _ = (stream, bytes);
    }

    /// It has ended, and nothing of it is left running. Of its outputs the outcome tells only whether
    /// they are truncated, where they were captured and a command was tried.
    fn ended(self: Box<Self>, outcome: Outcome);
}

/// Has the engine read on where an observer had no room.
#[derive(Clone)]
pub struct Resume {
    pub(super) place: Place,
    pub(super) commands: Sender<Command>,
    pub(super) wake: Arc<EventFd>,
}

impl Resume {
    /// Reads the streams of this job again that had to wait. May be called from any thread; does not
    /// block.
    pub fn resume(&self) {
        // After the engine has ended nobody listens, and nothing waits.
        if self.commands.send(Command::Resume(Arc::clone(&self.place))).is_ok() {
            let _ = self.wake.write(1);
        }
    }

    /// One that wakes nobody, for tests of observers.
    pub fn idle() -> Self {
        let wake = EventFd::new().expect("an eventfd can be made");
        Self { place: Place::default(), commands: channel().0, wake: Arc::new(wake) }
    }
}

impl std::fmt::Debug for Resume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resume").field("place", &self.place).finish_non_exhaustive()
    }
}

/// An observer that keeps the outputs in memory and puts them into the outcome.
pub struct Collector<F> {
    outputs: [Vec<u8>; 2],
    ended: F,
}

impl<F: FnOnce(Outcome) + Send> Collector<F> {
    /// One that passes the outcome on.
    pub fn new(ended: F) -> Self {
        Self { outputs: [Vec::new(), Vec::new()], ended }
    }
}

impl<F: FnOnce(Outcome) + Send> Observer for Collector<F> {
    fn output(&mut self, stream: Stream, bytes: &[u8]) {
        self.outputs[stream as usize].extend_from_slice(bytes);
    }

    fn ended(mut self: Box<Self>, outcome: Outcome) {
        let [stdout, stderr] = mem::take(&mut self.outputs);
        let outcome = match (outcome.stdout_truncated, outcome.stderr_truncated) {
            (Some(out), Some(err)) => {
                outcome.with_output(Output::new(stdout, out), Output::new(stderr, err))
            }
            _ => outcome,
        };
        (self.ended)(outcome);
    }
}
