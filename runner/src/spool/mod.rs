//! Where the output of jobs is kept: the first bytes in memory, what is more in files.
//!
//! - An output of up to [`IN_MEMORY`] bytes stays in memory. A longer one is written to a file of its own,
//!   which has no name, so that it goes with the process.
//! - The engine's thread never waits for a disk. It appends in memory, and one thread (`writer`) writes
//!   what has gathered. Where that cannot keep up, the engine is told to wait ([`Room::Later`]) and is
//!   resumed when some was written.
//! - What was taken stays readable, whatever the disk does. If a write fails, what was not written stays
//!   in memory, and no more is taken ([`Room::Never`]). The same holds when the quota is used up.
//!
//! `output`: one stream of one job; `writer`: the thread; `folder`: where the files are made.
//!
//! [`Room::Later`]: cloister_sandbox::Room::Later
//! [`Room::Never`]: cloister_sandbox::Room::Never

mod folder;
mod metrics;
mod output;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    collections::VecDeque,
    fs::File,
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use cloister_sandbox::Resume;

pub use self::folder::SpoolFolder;
pub(crate) use self::{
    metrics::Metrics,
    output::{Cut, Output},
};
use crate::Error;

/// A longer output goes to a file.
pub(crate) const IN_MEMORY: usize = 64 << 10;
/// What may wait to be written, of all outputs together.
const QUEUE: usize = 8 << 20;
/// The same of one output, so that none takes it all.
const QUEUE_OF_ONE: usize = 512 << 10;

/// All outputs. When it is dropped, its thread ends.
pub(crate) struct Spool(Arc<Shared>);

struct Shared {
    /// Without one all outputs stay in memory.
    folder: Option<SpoolFolder>,
    quota: u64,
    /// The bytes of all outputs.
    held: AtomicU64,
    /// Of those, what is in memory.
    in_memory: AtomicU64,
    queue: Mutex<Queue>,
    /// Told of new work.
    work: Condvar,
}

#[derive(Default)]
struct Queue {
    work: VecDeque<Work>,
    /// What waits to be written.
    bytes: usize,
    /// Jobs whose streams wait until there is room, oldest first.
    waiting: VecDeque<Resume>,
    closed: bool,
}

enum Work {
    /// Bytes have gathered; nothing is to be done if nobody wants them any more.
    Write(Weak<Output>),
    /// Giving a large file's blocks back takes a while.
    Close(Arc<File>),
}

impl Spool {
    /// One that holds so many bytes at most. Starts its thread.
    pub(crate) fn new(folder: Option<SpoolFolder>, quota: u64) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            folder,
            quota,
            held: AtomicU64::new(0),
            in_memory: AtomicU64::new(0),
            queue: Mutex::default(),
            work: Condvar::new(),
        });
        if shared.folder.is_some() {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name("spool".into());
            thread.spawn(move || writer::run(&shared)).map_err(Error::SpoolThread)?;
        }
        Ok(Self(shared))
    }

    /// A new output.
    pub(crate) fn output(&self) -> Arc<Output> {
        Arc::new(Output::new(Arc::clone(&self.0)))
    }

    /// Whether nothing more can be held.
    pub(crate) fn is_full(&self) -> bool {
        self.held() >= self.0.quota
    }

    /// The bytes of all outputs.
    pub(crate) fn held(&self) -> u64 {
        self.0.held.load(Ordering::Relaxed)
    }

    /// Those that are in memory.
    pub(crate) fn in_memory(&self) -> u64 {
        self.0.in_memory.load(Ordering::Relaxed)
    }

    /// How many bytes it can hold.
    pub(crate) fn quota(&self) -> u64 {
        self.0.quota
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.0.queue().closed = true;
        self.0.work.notify_one();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it is held.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many bytes more wait, of an output that is to be written.
    fn enqueue(&self, bytes: usize, work: Option<Work>) {
        let mut queue = self.queue();
        queue.bytes += bytes;
        if let Some(work) = work {
            queue.work.push_back(work);
            drop(queue);
            self.work.notify_one();
        }
    }

    /// So many bytes wait no more: those that waited for room are resumed, the oldest first.
    fn dequeue(&self, bytes: usize, work: Option<Work>) {
        let mut queue = self.queue();
        queue.bytes -= bytes;
        queue.work.extend(work);
        // With half of it free, all may try: else one that has nothing to say any more could keep the
        // room for which others wait.
        let count = if queue.bytes <= QUEUE / 2 { usize::MAX } else { bytes.div_ceil(IN_MEMORY) };
        let count = count.min(queue.waiting.len());
        let resumed: Vec<_> = queue.waiting.drain(..count).collect();
        drop(queue);
        self.work.notify_one();
        for resume in resumed {
            resume.resume();
        }
    }

    /// A file for one output.
    fn file(&self) -> io::Result<File> {
        self.folder.as_ref().map_or(Err(io::ErrorKind::NotFound.into()), SpoolFolder::file)
    }
}
