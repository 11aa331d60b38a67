//! What only the embedded store promises: group commit, and recovery from a full disk.

use cloister_api::{
    Job, JobRequest, Outcome, Past, Program, Reason, Status, Task, Timestamp, Usage,
};
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

#[tokio::test]
async fn a_full_disk_is_told_and_passes() {
    let folder = Folder::new();
    let store = open(&folder);
    store.submit(job(), None, None).await.unwrap();
    let limit = |db: &Connection, pages: i64| {
        db.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get::<_, i64>(0))
    };
    store.writer.call(move |db| limit(db, 1)).await.unwrap();
    let mut large = job();
    large.request.task.env.insert("A".into(), "x".repeat(1 << 20));
    let full = store.submit(large.clone(), None, None).await.unwrap_err();
    assert!(full.to_string().contains("full"), "{full}");
    assert_eq!(store.get(large.job_id).await.unwrap(), None);
    store.writer.call(move |db| limit(db, 1 << 30)).await.unwrap();
    store.probe().await.unwrap();
    store.submit(large.clone(), None, None).await.unwrap();
    assert!(store.get(large.job_id).await.unwrap().is_some());
}

/// Before streams and usage could be absent they were always written, empty where nothing was known.
#[tokio::test]
async fn records_of_an_earlier_version_are_read() {
    let folder = Folder::new();
    let store = open(&folder);
    let mut job = job();
    let outcome = Outcome::never_ran(Status::Failed, Some(Reason::RunnerLost), "gone");
    job.attempts.push(Past { attempt: 1, runner: None, outcome });
    job.attempt = 2;
    store.submit(job.clone(), None, None).await.unwrap();
    let mut record = serde_json::to_value(&job).unwrap();
    let past = &mut record["attempts"][0];
    for (name, empty) in [("stdout", "".into()), ("stdout_truncated", false.into())] {
        past[name] = empty;
    }
    past["usage"] = serde_json::json!({"cpu_ms": 1.0});
    let outputs = serde_json::json!({
        "last": {"stdout_truncated": false, "stderr_truncated": false},
        "attempts": [{"stdout": "half", "stdout_truncated": true, "stderr": "", "stderr_truncated": false}],
    });
    let (record, outputs) = (record.to_string(), outputs.to_string());
    let id = job.job_id;
    let written = store.writer.call(move |db| {
        db.execute("UPDATE jobs SET record = ?", [record.clone()])?;
        db.execute("INSERT INTO outputs VALUES (?, ?)", (id.as_bytes(), outputs.clone()))
    });
    written.await.unwrap();
    let read = store.get(id).await.unwrap().unwrap();
    let past = &read.attempts[0].outcome;
    assert_eq!((past.stdout.as_deref(), past.stdout_truncated), (Some("half"), Some(true)));
    assert_eq!((past.stderr.as_deref(), past.stderr_truncated), (Some(""), Some(false)));
    assert_eq!(past.usage, Some(Usage { cpu_ms: Some(1.0), ..Usage::default() }));
    assert_eq!((read.stdout, read.stdout_truncated), (None, None));
}
