//! The one thread that writes, and its group commit.
//!
//! A commit costs a wait for the disk, whatever is in it. So the writes that came in during that
//! wait go into the next transaction together, and each caller is answered after the commit. When a
//! write of a batch fails, the batch is rolled back and each is done on its own, so that one bad
//! write spoils nobody else's.

use std::{
    io,
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::{super::StoreError, lock::Lock};

/// Writes that may wait for the thread; beyond it callers wait for room.
const QUEUE: usize = 1024;
/// Writes in one transaction; one that is of many jobs counts as so many, and may go beyond it. So
/// nobody waits for more than about a thousand.
const BATCH: usize = 256;

/// The thread's end of a call: does its work, possibly twice, and answers its caller.
trait Write: Send {
    fn run(&mut self, db: &Connection) -> rusqlite::Result<()>;
    fn weight(&self) -> usize;
    fn answer(self: Box<Self>, result: Result<(), StoreError>);
}

struct Call<T, F> {
    work: F,
    weight: usize,
    done: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send, F> Write for Call<T, F>
where
    F: FnMut(&Connection) -> rusqlite::Result<T> + Send,
{
    fn run(&mut self, db: &Connection) -> rusqlite::Result<()> {
        self.done = Some((self.work)(db)?);
        Ok(())
    }

    fn weight(&self) -> usize {
        self.weight
    }

    fn answer(self: Box<Self>, result: Result<(), StoreError>) {
        let answer = match (result, self.done) {
            (Ok(()), Some(done)) => Ok(done),
            (Err(error), _) => Err(error),
            // Answered with success only after `run` succeeded.
            (Ok(()), None) => return,
        };
        // A caller that has gone away does not undo what it asked for.
        let _ = self.reply.send(answer);
    }
}

/// The handle on the thread. Dropping it waits until everything that was asked for is done.
pub(super) struct Writer {
    path: Arc<Path>,
    queue: Option<mpsc::Sender<Box<dyn Write>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// `lock` is given up after the connection.
    pub(super) fn start(
        connection: Connection,
        path: Arc<Path>,
        lock: Arc<Lock>,
    ) -> io::Result<Self> {
        let (queue, calls) = mpsc::channel(QUEUE);
        let of = path.clone();
        let thread = thread::Builder::new()
            .name("store".into())
            .spawn(move || work(connection, calls, &of, &lock))?;
        Ok(Self { path, queue: Some(queue), thread: Some(thread) })
    }

    /// Calls that wait for the thread.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        let queue = self.queue.as_ref();
        queue.map_or(0, |queue| queue.max_capacity() - queue.capacity())
    }

    /// Has `work` done within a transaction and answers after the commit. It may be run again when
    /// another write of its batch failed.
    pub(super) async fn call<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.call_for(1, work).await
    }

    /// The same for `work` that is as much as so many writes.
    pub(super) async fn call_for<T, F>(&self, weight: usize, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let closed = || StoreError::Closed { store: self.path.display().to_string() };
        let (reply, answer) = oneshot::channel();
        let done = None;
        let call = Box::new(Call { work, weight, done, reply });
        let queue = self.queue.as_ref().ok_or_else(closed)?;
        queue.send(call).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(mut db: Connection, mut calls: mpsc::Receiver<Box<dyn Write>>, path: &Path, lock: &Lock) {
    while let Some(first) = calls.blocking_recv() {
        let mut weight = first.weight();
        let mut batch = vec![first];
        while weight < BATCH
            && let Ok(next) = calls.try_recv()
        {
            weight += next.weight();
            batch.push(next);
        }
        let result = commit(&mut db, &mut batch);
        if result.is_err() && batch.len() > 1 {
            for call in batch {
                let mut alone = [call];
                let result = commit(&mut db, &mut alone);
                answer(alone, &stored(result, path, lock));
            }
        } else {
            answer(batch, &stored(result, path, lock));
        }
    }
    // Leaves one file instead of three. The log is read at the next start if this fails.
    let _ = db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
}

fn commit(db: &mut Connection, batch: &mut [Box<dyn Write>]) -> rusqlite::Result<()> {
    // Dropped without a commit it rolls back.
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for call in batch {
        call.run(&transaction)?;
    }
    transaction.commit()
}

/// Whether what was committed is in the files that the next start will read. Asked after the commit:
/// before it, they could be replaced in between.
fn stored(result: rusqlite::Result<()>, path: &Path, lock: &Lock) -> Result<(), StoreError> {
    result.map_err(|error| failure(error, path))?;
    lock.check()
}

fn failure(error: rusqlite::Error, path: &Path) -> StoreError {
    // What it says of the data, and not of the disk, the memory or a lock.
    let of_data = [
        ErrorCode::TooBig,
        ErrorCode::ConstraintViolation,
        ErrorCode::TypeMismatch,
        ErrorCode::ParameterOutOfRange,
    ];
    let doing = "writing";
    if error.sqlite_error_code().is_some_and(|code| of_data.contains(&code)) {
        let store = path.display().to_string();
        return StoreError::Refused { doing, store, cause: error.to_string() };
    }
    StoreError::Sqlite { doing, path: path.into(), cause: Arc::new(error) }
}

fn answer(batch: impl IntoIterator<Item = Box<dyn Write>>, result: &Result<(), StoreError>) {
    for call in batch {
        call.answer(result.clone());
    }
}
