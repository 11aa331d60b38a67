//! What only the embedded store promises: group commit, and recovery from a full disk.

use cloister_api::{Job, JobRequest, Program, Task, Timestamp};
use futures_util::future::join_all;
use rusqlite::Connection;

use super::{super::tests::Folder, *};

fn job() -> Job {
    let request = JobRequest::new(Task::new(Program::Command("true".into())));
    Job::new(Uuid::now_v7(), Timestamp(0), request)
}

fn open(folder: &Folder) -> Sqlite {
    Sqlite::open(&folder.0.join("store.db")).unwrap()
}

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
        let good = join_all((0..20).map(|_| store.submit(job(), None)));
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
async fn a_full_disk_is_told_and_passes() {
    let folder = Folder::new();
    let store = open(&folder);
    store.submit(job(), None).await.unwrap();
    let limit = |db: &Connection, pages: i64| {
        db.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get::<_, i64>(0))
    };
    store.writer.call(move |db| limit(db, 1)).await.unwrap();
    let mut large = job();
    large.request.task.env.insert("A".into(), "x".repeat(1 << 20));
    let full = store.submit(large.clone(), None).await.unwrap_err();
    assert!(full.to_string().contains("full"), "{full}");
    assert_eq!(store.get(large.job_id).await.unwrap(), None);
    store.writer.call(move |db| limit(db, 1 << 30)).await.unwrap();
    store.probe().await.unwrap();
    store.submit(large.clone(), None).await.unwrap();
    assert!(store.get(large.job_id).await.unwrap().is_some());
}
