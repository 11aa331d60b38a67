//! What earlier versions wrote.

use cloister_api::{Outcome, Past, Reason, Status, Usage};
use sha2::{Digest as _, Sha256};

use super::*;

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

/// A database of an earlier schema, as its program left it.
fn of_schema(path: &Path, version: i64, rows: &str) {
    let db = Connection::open(path).unwrap();
    db.pragma_update(None, "journal_mode", "WAL").unwrap();
    for (_, sql) in (0..version).zip([schema::FIRST, schema::SECOND]) {
        db.execute_batch(sql).unwrap();
    }
    db.execute_batch(rows).unwrap();
    db.pragma_update(None, "application_id", schema::APPLICATION_ID).unwrap();
    db.pragma_update(None, "user_version", version).unwrap();
}

#[tokio::test]
async fn a_store_of_the_first_schema_is_brought_up_to_date() {
    let folder = Folder::new();
    let [waits, runs, over] = [job(), job(), job()];
    let mut end = over.clone();
    end.finish(Outcome::never_ran(Status::Failed, Some(Reason::RunnerLost), "gone"));
    end.finished_at = Some(Timestamp(5_000));
    let hex = |job: &Job| job.job_id.simple().to_string();
    let json = |job: &Job| serde_json::to_string(job).unwrap().replace('\'', "''");
    let rows = format!(
        "INSERT INTO jobs (job_id, status, attempt, record) VALUES (x'{}', 'pending', 1, '{}');
         INSERT INTO inputs VALUES (x'{}', '{{\"stdin\":\"in\"}}');
         INSERT INTO jobs (job_id, status, attempt, started_at, runner, execution_id, cancel, record)
         VALUES (x'{}', 'running', 1, 7, 'http://a', zeroblob(16), 1, '{}');
         INSERT INTO jobs (job_id, status, reason, attempt, finished_at, record)
         VALUES (x'{}', 'failed', 'runner_lost', 1, 5000, '{}');
         INSERT INTO outputs VALUES (x'{}', '{{\"last\":{{\"stdout\":\"{}\"}}}}');
         INSERT INTO keys VALUES ('', 'k', zeroblob(32), x'{}');
         INSERT INTO labels VALUES ('n', 'v', x'{}');",
        hex(&waits), json(&waits), hex(&waits),
        hex(&runs), json(&runs),
        hex(&over), json(&end), hex(&over), "o".repeat(10_000),
        hex(&over), hex(&over),
    );
    of_schema(&folder.0.join("store.db"), 1, &rows);

    let store = open(&folder);
    let read = store.get(waits.job_id).await.unwrap().unwrap();
    assert_eq!(read.request.task.stdin.stdin.as_deref(), Some("in"));
    let read = store.get(over.job_id).await.unwrap().unwrap();
    assert_eq!((read.status, read.stdout.map(|out| out.len())), (Status::Failed, Some(10_000)));
    let found = store.unfinished(None, 10).await.unwrap().jobs;
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].job.job_id, &found[0].claim), (waits.job_id, &None));
    assert_eq!(found[1].claim.as_ref().unwrap().execution_id, Uuid::nil());
    assert!(found[1].cancel);
    let key = store.find_key(String::new(), "k".into()).await.unwrap();
    assert_eq!(key, Some((over.job_id, [0; 32])));
    let labels = vec![("n".to_owned(), "v".to_owned())];
    let page = store.list(Query { labels, limit: 10, ..Query::default() }).await.unwrap();
    assert_eq!(page.jobs.len(), 1);
    let figures = store.figures().await.unwrap();
    assert_eq!((figures.pending, figures.out), (1, 1));
    assert_eq!(store.orders().await.unwrap(), Orders::default());

    let epoch = lead(&store, "me", LONG).await.unwrap().epoch;
    assert_eq!(epoch, Epoch(1));
    assert!(store.inbox(epoch, 10).await.unwrap().is_empty());
    let keep = |size| Keep { time: LONG, number: 10, size };
    assert_eq!(store.expire(epoch, keep(20_000), Timestamp(6_000)).await.unwrap(), 0);
    assert_eq!(
        store.expire(epoch, keep(10_000), Timestamp(6_000)).await.unwrap(),
        1,
        "it has a size"
    );
}

/// What had ended is as old as it was, and goes in the order in which it ended.
#[tokio::test]
async fn a_store_of_the_second_schema_keeps_what_it_kept() {
    let folder = Folder::new();
    let jobs = [job(), job(), job(), job()];
    let hex = |job: &Job| job.job_id.simple().to_string();
    // A record that cannot be read stops no upgrade.
    let mut rows =
        "INSERT INTO leadership (id, cluster, epoch) VALUES (0, zeroblob(16), 3);".to_owned();
    for (job, end) in jobs.iter().zip([3_000, 1_000, 2_000]) {
        rows.extend([format!(
            "INSERT INTO jobs (job_id, status, attempt, finished_at, record, size)
             VALUES (x'{}', 'completed', 1, {end}, '{{', 1);",
            hex(job),
        )]);
    }
    rows.extend([format!(
        "INSERT INTO jobs (job_id, status, attempt, record) VALUES (x'{}', 'pending', 1, '{{');",
        hex(&jobs[3])
    )]);
    of_schema(&folder.0.join("store.db"), 2, &rows);

    let store = open(&folder);
    let epoch = lead(&store, "me", LONG).await.unwrap().epoch;
    assert_eq!(epoch, Epoch(4));
    assert_eq!(store.clock().await.unwrap(), StoreClock::default());
    let keep = |number| Keep { time: Duration::from_secs(1), number, size: u64::MAX };
    let left = async || {
        let page = store.list(Query { limit: 10, ..Query::default() }).await.unwrap();
        page.unreadable.iter().map(|found| found.job).collect::<Vec<_>>()
    };
    assert_eq!(store.expire(epoch, keep(9), Timestamp(2_001)).await.unwrap(), 1);
    assert_eq!(left().await, [&jobs[3], &jobs[2], &jobs[0]].map(|job| job.job_id));
    // What ends from now on comes after them.
    let next = job();
    store.submit(next.clone(), None, None).await.unwrap();
    let mut end = next.clone();
    end.finish(Outcome::never_ran(Status::Cancelled, None, "x"));
    store.finish(epoch, end, Timestamp(2_000)).await.unwrap();
    assert_eq!(store.expire(epoch, keep(2), Timestamp(2_000)).await.unwrap(), 1);
    assert_eq!(left().await, [&jobs[3], &jobs[0]].map(|job| job.job_id));
    assert!(store.get(next.job_id).await.unwrap().is_some());
}

/// A database that was made by it must be one that the next ones expect.
#[test]
fn what_was_released_is_not_changed() {
    let digest = Sha256::digest(schema::FIRST);
    let first = u128::from_be_bytes(digest[..16].try_into().unwrap());
    assert_eq!(first, 0xe111_2c4f_1fa0_617a_60ae_3c4b_abf0_ebd9);
}
