//! What only the embedded store promises: group commit, recovery from a disk's trouble, copies.

mod copies;
mod earlier;
mod lock;
mod log;
mod space;
mod trouble;

use cloister_api::{Job, JobRequest, Program, Task, Timestamp};
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use rusqlite::Connection;

use super::{super::tests::Folder, *};

fn job() -> Job {
    let request = JobRequest::new(Task::new(Program::Command("true".into())));
    Job::new(Uuid::now_v7(), Timestamp(0), request)
}

fn open(folder: &Folder) -> Sqlite {
    Sqlite::open(&folder.0.join("store.db"), None).unwrap()
}

async fn lead(store: &Sqlite, name: &str, ttl: Duration) -> Result<Leadership, StoreError> {
    store.lead(Candidate { id: Uuid::new_v4(), name: name.into() }, ttl).await
}

const LONG: Duration = Duration::from_secs(600);

#[tokio::test]
async fn writes_that_wait_share_a_commit_and_a_bad_one_spoils_nobody() {
    let folder = Folder::new();
    let store = open(&folder);
    // Holds the thread until all the others are queued.
    let (entered, is_held) = tokio::sync::oneshot::channel();
    let mut entered = Some(entered);
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let held = store.writer.call(move |_| {
        entered.take().map(|entered| entered.send(()));
        Ok(wait.recv().is_ok())
    });
    let others = async {
        is_held.await.unwrap();
        let good = join_all((0..20).map(|_| store.submit(job(), None, None)));
        let bad = store.writer.call(|db| db.execute_batch("INSERT INTO nowhere VALUES (1)"));
        let release = async {
            while store.writer.waiting() < 21 {
                tokio::task::yield_now().await;
            }
            go.send(()).unwrap();
        };
        tokio::join!(good, bad, release)
    };
    let (held, (good, bad, ())) = tokio::join!(held, others);
    assert!(held.unwrap());
    assert!(good.iter().all(Result::is_ok), "{good:?}");
    assert!(bad.unwrap_err().to_string().contains("nowhere"));
    assert_eq!(store.list(Query { limit: 100, ..Query::default() }).await.unwrap().jobs.len(), 20);
}

#[tokio::test]
async fn what_connections_keep_in_memory_is_bounded() {
    let folder = Folder::new();
    let store = open(&folder);
    let size = |db: &Connection| db.query_row("PRAGMA cache_size", [], |row| row.get::<_, i64>(0));
    assert_eq!(store.writer.call(move |db| size(db)).await.unwrap(), -schema::WRITER_CACHE);
    assert_eq!(store.readers.call(move |db| size(db)).await.unwrap(), -schema::READER_CACHE);
}

/// A refusal is an answer: the others of its commit are not done again.
#[tokio::test]
async fn a_stale_write_spoils_nobody_elses() {
    let folder = Folder::new();
    let store = open(&folder);
    let epoch = lead(&store, "a", LONG).await.unwrap().epoch;
    let (entered, is_held) = tokio::sync::oneshot::channel();
    let mut entered = Some(entered);
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let held = store.writer.call(move |_| {
        entered.take().map(|entered| entered.send(()));
        Ok(wait.recv().is_ok())
    });
    let runs = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&runs);
    let others = async {
        is_held.await.unwrap();
        let good = join_all((0..10).map(|_| store.submit(job(), None, Some(epoch))));
        let counted = store.writer.call(move |_| Ok(count.fetch_add(1, Ordering::Relaxed)));
        let stale = store.claim(
            Epoch(epoch.0 + 1),
            Uuid::nil(),
            Claim { attempt: 1, execution_id: Uuid::nil(), runner: "a".into(), boot_id: None },
        );
        let more = join_all((0..10).map(|_| store.submit(job(), None, Some(epoch))));
        let release = async {
            while store.writer.waiting() < 22 {
                tokio::task::yield_now().await;
            }
            go.send(()).unwrap();
        };
        tokio::join!(good, counted, stale, more, release)
    };
    let (held, (good, counted, stale, more, ())) = tokio::join!(held, others);
    assert!(held.unwrap() && counted.is_ok());
    assert!(matches!(stale, Err(StoreError::Stale { .. })), "{stale:?}");
    assert!(
        good.iter()
            .chain(&more)
            .all(|made| *made.as_ref().unwrap() == Submitted::New { taken: true })
    );
    assert_eq!(runs.load(Ordering::Relaxed), 1);
}

/// A caller that gives up does not end its query.
#[tokio::test]
async fn reads_that_were_given_up_take_their_places_until_they_end() {
    let folder = Folder::new();
    let store = open(&folder);
    let mut held = Vec::new();
    for _ in 0..read::READERS {
        let (entered, is_held) = tokio::sync::oneshot::channel();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let slow = store.readers.call(move |_| {
            entered.send(()).unwrap();
            wait.recv().unwrap();
            Ok(())
        });
        let given_up = async {
            tokio::select! { _ = slow => false, _ = is_held => true }
        };
        assert!(given_up.await);
        held.push(go);
    }
    let mut next = Box::pin(store.readers.call(|_| Ok(())));
    let early = tokio::time::timeout(Duration::from_millis(50), &mut next).await;
    assert!(early.is_err(), "{} queries run at once", read::READERS + 1);
    held.pop().unwrap().send(()).unwrap();
    next.await.unwrap();
    for go in held {
        go.send(()).unwrap();
    }
}
