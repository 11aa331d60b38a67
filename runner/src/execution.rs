//! One run of one task: what is known of it, for everybody who asks.
//!
//! The engine's thread writes, handlers read. Both meet in one `watch` channel, whose value is the
//! state and whose changes wake the readers: the engine never waits for a client, and a client never
//! misses a change.

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

use cloister_api::{Outcome, Reason, Status, Timestamp};
use cloister_sandbox::{Observer, Resume, Room, Stats, Stream};
use tokio::{sync::watch, time::Instant};

use crate::{
    cells::Cell,
    log::{Entry, Log},
    metrics::Metrics,
    slots::Slot,
    spool::{Output, Spool},
};

#[derive(Debug, Default)]
struct State {
    started: Option<Timestamp>,
    /// Only where somebody may want to read it.
    log: Option<Log>,
    /// Who asked for its end, if anybody did.
    why: Option<Why>,
    /// Without outputs: they are beside it.
    outcome: Option<Arc<Outcome>>,
}

/// Why an execution is to end before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Whoever owns it asked for it.
    Asked,
    /// Whoever owns it, and no one else could come for its result, closed the connection.
    CallerGone,
    /// Its coordinator was not heard of in time.
    LeaseOver,
    /// The runner was stopped, and the grace time is over.
    Stopped,
    /// The runner was stopped a second time, within the grace time.
    Killed,
}

impl Why {
    /// Tells a cancelled cell's end as what it was. Only an owner cancels: to the owner of a job
    /// that the runner killed for a reason of its own, the runner was lost, and another can have it.
    fn tell(self, outcome: &mut Outcome) {
        let (lost, message) = match self {
            Self::Asked => return,
            Self::CallerGone => (false, "its caller closed the connection"),
            Self::LeaseOver => (
                true,
                "its coordinator did not renew the lease in time, and the job was killed before it had ended",
            ),
            Self::Stopped => {
                (true, "the runner was stopped, and the job was killed before it had ended")
            }
            Self::Killed => (
                true,
                "it was killed at shutdown: the service was told to end at once before the job had ended",
            ),
        };
        outcome.message = Some(message.into());
        if lost {
            outcome.status = Status::Failed;
            outcome.reason = Some(Reason::RunnerLost);
        }
    }
}

/// A running or ended execution.
pub(crate) struct Execution {
    state: watch::Sender<State>,
    cell: OnceLock<Box<dyn Cell>>,
    stdout: Arc<Output>,
    stderr: Arc<Output>,
}

impl Execution {
    /// One that has not started; with a log if it may be streamed.
    pub(crate) fn new(logged: bool, spool: &Spool) -> Arc<Self> {
        let state = State { log: logged.then(Log::default), ..State::default() };
        Arc::new(Self {
            state: watch::Sender::new(state),
            cell: OnceLock::new(),
            stdout: spool.output(),
            stderr: spool.output(),
        })
    }

    /// What it runs in. Called once, before anybody else knows the execution.
    pub(crate) fn runs(&self, cell: Box<dyn Cell>) {
        let _ = self.cell.set(cell);
    }

    /// Asks for its end. The first word on why is what its result will say.
    pub(crate) fn cancel(&self, why: Why) {
        self.state.send_if_modified(|state| {
            state.why.get_or_insert(why);
            false
        });
        if let Some(cell) = self.cell.get() {
            cell.cancel();
        }
    }

    /// What it uses now and used so far, while it runs. Blocks for as long as reading some files takes.
    pub(crate) fn stats(&self) -> Option<Stats> {
        self.started()?;
        let stats = self.cell.get()?.stats();
        // Of a cell that was taken away meanwhile only a part was read.
        self.outcome().is_none().then_some(stats)
    }

    /// When its command was executed.
    pub(crate) fn started(&self) -> Option<Timestamp> {
        self.state.borrow().started
    }

    /// What it has written to one of its streams.
    pub(crate) fn output(&self, stream: Stream) -> &Arc<Output> {
        match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        }
    }

    /// How it ended, if it has. Its outputs are not in there.
    pub(crate) fn outcome(&self) -> Option<Arc<Outcome>> {
        self.state.borrow().outcome.clone()
    }

    /// How it ended, when it has.
    pub(crate) async fn ended(&self) -> Arc<Outcome> {
        let mut changes = self.state.subscribe();
        loop {
            if let Some(outcome) = changes.borrow_and_update().outcome.clone() {
                return outcome;
            }
            // The sender lives as long as `self`.
            let _ = changes.changed().await;
        }
    }

    /// The event of this number, when there is one; none after the result. Without a log the result
    /// is the only one.
    pub(crate) async fn event(&self, seq: u64) -> Option<Happened> {
        let mut changes = self.state.subscribe();
        loop {
            changes.mark_unchanged();
            let mut next = Next::Later;
            self.state.send_if_modified(|state| {
                next = state.event(seq);
                false
            });
            match next {
                Next::Event(event) => return Some(event),
                Next::Never => return None,
                // The sender lives as long as `self`.
                Next::Later => drop(changes.changed().await),
            }
        }
    }

    /// The same without what it writes: its start, if there is one, and its end.
    pub(crate) async fn without_outputs(&self, seq: u64) -> Happened {
        if seq == 0 {
            let mut changes = self.state.subscribe();
            // The sender lives as long as `self`.
            let known = |state: &State| state.started.is_some() || state.outcome.is_some();
            let started = changes.wait_for(known).await.ok().and_then(|state| state.started);
            if let Some(at) = started {
                return Happened::Started(at);
            }
        }
        Happened::Ended(self.ended().await)
    }

    /// The bytes of memory that its log holds, about.
    pub(crate) fn size(&self) -> usize {
        self.state.borrow().log.as_ref().map_or(0, Log::size)
    }
}

impl std::fmt::Debug for Execution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Execution").field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}

/// Something that happened to an execution.
pub(crate) enum Happened {
    Started(Timestamp),
    /// It wrote these bytes of that stream.
    Output {
        stream: Stream,
        range: Range<u64>,
    },
    Ended(Arc<Outcome>),
}

/// What a reader finds at a place in the stream.
enum Next {
    Event(Happened),
    Later,
    Never,
}

impl State {
    fn event(&mut self, seq: u64) -> Next {
        match self.log.as_mut().and_then(|log| log.read(seq)) {
            Some(Entry::Started(at)) => return Next::Event(Happened::Started(at)),
            Some(Entry::Output { stream, range }) => {
                return Next::Event(Happened::Output { stream, range });
            }
            None => {}
        }
        let last = self.log.as_ref().map_or(0, Log::len);
        match &self.outcome {
            None => Next::Later,
            Some(_) if seq > last => Next::Never,
            Some(outcome) => Next::Event(Happened::Ended(Arc::clone(outcome))),
        }
    }
}

/// Tells the execution, the slots and the metrics what the engine sees.
pub(crate) struct Witness {
    pub(crate) execution: Arc<Execution>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) accepted: Instant,
    /// Taken when it has ended.
    pub(crate) slot: Option<Slot>,
}

impl Witness {
    fn end(&mut self, mut outcome: Outcome) {
        let Some(slot) = self.slot.take() else { return };
        // What ended it otherwise, before the cell was told to, is what ended it.
        let why = self.execution.state.borrow().why;
        if let (Status::Cancelled, Some(why)) = (outcome.status, why) {
            why.tell(&mut outcome);
            if why == Why::LeaseOver {
                self.metrics.lease_expired();
            }
        }
        self.tell_cuts(&mut outcome);
        self.metrics.ended(&outcome);
        // Whoever reads the result may send the next job at once, and must find room.
        drop(slot);
        self.execution.state.send_modify(|state| {
            if let Some(log) = &mut state.log {
                log.end();
            }
            state.outcome = Some(Arc::new(outcome));
        });
    }
}

impl Witness {
    /// Where the spool had no room for what the job's own limit allows, its result says so. The verdict
    /// stays.
    fn tell_cuts(&self, outcome: &mut Outcome) {
        let truncated = [outcome.stdout_truncated, outcome.stderr_truncated];
        let outputs = [&self.execution.stdout, &self.execution.stderr];
        for (output, truncated) in outputs.into_iter().zip(truncated) {
            let (Some(true), Some(cut)) = (truncated, output.cut()) else { continue };
            self.metrics.truncated(cut);
            let message = outcome.message.get_or_insert_default();
            if !message.contains(cut.message()) {
                if !message.is_empty() {
                    message.push_str("; ");
                }
                message.push_str(cut.message());
            }
        }
    }
}

impl Observer for Witness {
    fn started(&mut self, at: Timestamp) {
        self.metrics.launched(self.accepted.elapsed());
        self.execution.state.send_if_modified(|state| {
            state.started = Some(at);
            // Without a log nobody waits for this, and nobody is woken.
            state.log.as_mut().map(|log| log.started(at)).is_some()
        });
    }

    fn room(&mut self, stream: Stream, resume: Option<&Resume>) -> Room {
        self.execution.output(stream).room(resume)
    }

    fn output(&mut self, stream: Stream, bytes: &[u8]) {
        self.execution.output(stream).append(bytes);
        self.execution.state.send_if_modified(|state| {
            let Some(log) = &mut state.log else {
                return false;
            };
            log.output(stream, bytes);
            true
        });
    }

    fn ended(mut self: Box<Self>, outcome: Outcome) {
        self.end(outcome);
    }
}

impl Drop for Witness {
    /// An engine that goes away without a word must not leave anybody waiting.
    fn drop(&mut self) {
        let started = self.execution.started().is_some();
        let reason = if started { Reason::RunnerLost } else { Reason::SandboxError };
        let message = "the runner stopped before the job had ended";
        self.end(Outcome::never_ran(Status::Failed, Some(reason), message));
    }
}
