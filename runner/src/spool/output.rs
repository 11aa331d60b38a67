//! The output of one stream of one job: appended by the engine, written by the spool's thread, and read
//! by anybody, from any place.

use std::{
    fs::File,
    io, mem,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use bytes::Bytes;
use cloister_sandbox::{Resume, Room};
use tokio::task::spawn_blocking;

use super::{IN_MEMORY, QUEUE, QUEUE_OF_ONE, Shared, Work};

/// Why no more of an output is kept, although the job's own limit allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The spool's quota is used up.
    Full,
    /// Its file could not be made or written.
    Failed,
}

impl Cut {
    pub(crate) const ALL: [Self; 2] = [Self::Full, Self::Failed];

    /// The word in metrics and in the log.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Failed => "failed",
        }
    }

    /// What is said to a person.
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::Full => "the runner's spool is full, and the rest of the output was dropped",
            Self::Failed => {
                "the runner could not write to its spool, and the rest of the output was dropped"
            }
        }
    }
}

/// One output. The bytes are in the file, then in `writing`, then in `tail`.
#[derive(Default)]
struct State {
    file: Option<Arc<File>>,
    /// How many bytes are in the file.
    written: u64,
    /// What is being written; what could not be.
    writing: Bytes,
    /// What has gathered since.
    tail: Vec<u8>,
    /// Whether it is too long for memory.
    is_long: bool,
    /// What of it the queue counts.
    queued: usize,
    /// Whether the thread has it to do.
    is_queued: bool,
    cut: Option<Cut>,
}

pub(crate) struct Output {
    spool: Arc<Shared>,
    state: Mutex<State>,
}

/// Where some bytes are.
enum Place {
    Memory(Bytes),
    File(Arc<File>, usize),
}

impl Output {
    pub(super) fn new(spool: Arc<Shared>) -> Self {
        Self { spool, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held, and nothing waits for a disk.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many bytes may be appended next. To be called by whoever appends.
    pub(crate) fn room(&self, resume: Option<&Resume>) -> Room {
        let mut state = self.lock();
        let left = self.spool.quota.saturating_sub(self.spool.held.load(Ordering::Relaxed));
        if left == 0 && state.cut.is_none() {
            state.cut = Some(Cut::Full);
        }
        if state.cut.is_some() {
            return Room::Never;
        }
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let Some(resume) = resume.filter(|_| self.spool.folder.is_some()) else {
            return Room::Now(left);
        };
        let short = if state.is_long { 0 } else { IN_MEMORY.saturating_sub(state.tail.len()) };
        if short > 0 {
            return Room::Now(left.min(short));
        }
        // Locked within the other lock, so that no write comes between the look and the wait.
        let mut queue = self.spool.queue();
        if queue.bytes >= QUEUE || state.queued >= QUEUE_OF_ONE {
            queue.waiting.push_back(resume.clone());
            return Room::Later;
        }
        Room::Now(left)
    }

    /// Takes what comes next.
    pub(crate) fn append(self: &Arc<Self>, bytes: &[u8]) {
        self.spool.held.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.spool.in_memory.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let mut state = self.lock();
        state.tail.extend_from_slice(bytes);
        let queued = if state.is_long {
            bytes.len()
        } else if state.tail.len() > IN_MEMORY && self.spool.folder.is_some() {
            state.is_long = true;
            state.tail.len()
        } else {
            return;
        };
        if state.cut == Some(Cut::Failed) {
            // It stays where it is.
            return;
        }
        state.queued += queued;
        let work =
            (!mem::replace(&mut state.is_queued, true)).then(|| Work::Write(Arc::downgrade(self)));
        // Locked within the other lock: else these bytes could be written before the queue counts them.
        self.spool.enqueue(queued, work);
        drop(state);
    }

    /// Writes what has gathered. For the spool's thread.
    pub(super) fn write(self: &Arc<Self>) {
        let (known, at, bytes) = {
            let mut state = self.lock();
            state.writing = mem::take(&mut state.tail).into();
            (state.file.clone(), state.written, state.writing.clone())
        };
        let file = known.map_or_else(|| self.spool.file().map(Arc::new), Ok);
        let (done, failed) = match &file {
            Ok(file) => write_at(file, &bytes, at),
            Err(error) => (0, Some(io::Error::from(error.kind()))),
        };
        if let Some(error) = failed.as_ref().or(file.as_ref().err()) {
            tracing::warn!(
                path = %self.spool.folder.as_ref().map(ToString::to_string).unwrap_or_default(),
                %error,
                "the spool cannot be written: the rest of an output is dropped"
            );
        }
        let mut state = self.lock();
        state.file = file.ok();
        state.written += done as u64;
        state.writing = bytes.slice(done..);
        self.spool.in_memory.fetch_sub(done as u64, Ordering::Relaxed);
        let released = if failed.is_some() {
            state.cut = Some(Cut::Failed);
            state.is_queued = false;
            mem::take(&mut state.queued)
        } else {
            state.queued -= done;
            state.is_queued = !state.tail.is_empty();
            done
        };
        let again = state.is_queued.then(|| Work::Write(Arc::downgrade(self)));
        drop(state);
        self.spool.dequeue(released, again);
    }

    /// How many bytes there are.
    pub(crate) fn len(&self) -> u64 {
        let state = self.lock();
        state.written + (state.writing.len() + state.tail.len()) as u64
    }

    /// Why it ends where it does, if not by itself.
    pub(crate) fn cut(&self) -> Option<Cut> {
        self.lock().cut
    }

    /// All of it, if it is short.
    pub(crate) fn short(&self) -> Option<Vec<u8>> {
        let state = self.lock();
        (!state.is_long && state.tail.len() <= IN_MEMORY).then(|| state.tail.clone())
    }

    /// Some of the bytes from there on, at most so many; none at the end.
    pub(crate) async fn read(&self, offset: u64, most: usize) -> io::Result<Bytes> {
        let (file, length) = match self.place(offset, most) {
            Place::Memory(bytes) => return Ok(bytes),
            Place::File(file, length) => (file, length),
        };
        let read = move || {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, offset).map(|()| bytes.into())
        };
        spawn_blocking(read).await.map_err(io::Error::other)?
    }

    fn place(&self, offset: u64, most: usize) -> Place {
        let state = self.lock();
        let Some(behind) = offset.checked_sub(state.written) else {
            let left = usize::try_from(state.written - offset).unwrap_or(usize::MAX);
            let file = state.file.clone().expect("what was written is in a file");
            return Place::File(file, left.min(most));
        };
        let behind = usize::try_from(behind).unwrap_or(usize::MAX);
        let (writing, tail) = (&state.writing, &state.tail);
        if behind < writing.len() {
            return Place::Memory(writing.slice(behind..writing.len().min(behind + most)));
        }
        let behind = (behind - writing.len()).min(tail.len());
        let end = tail.len().min(behind.saturating_add(most));
        Place::Memory(Bytes::copy_from_slice(&tail[behind..end]))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let in_memory = (state.writing.len() + state.tail.len()) as u64;
        self.spool.in_memory.fetch_sub(in_memory, Ordering::Relaxed);
        self.spool.held.fetch_sub(state.written + in_memory, Ordering::Relaxed);
        if state.is_long {
            self.spool.dequeue(state.queued, state.file.take().map(Work::Close));
        }
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("bytes", &self.len()).finish_non_exhaustive()
    }
}

/// Writes all of it there, or as much as can be.
fn write_at(file: &File, bytes: &[u8], at: u64) -> (usize, Option<io::Error>) {
    let mut done = 0;
    while done < bytes.len() {
        match file.write_at(&bytes[done..], at + done as u64) {
            Ok(0) => return (done, Some(io::ErrorKind::WriteZero.into())),
            Ok(length) => done += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (done, Some(error)),
        }
    }
    (done, None)
}
