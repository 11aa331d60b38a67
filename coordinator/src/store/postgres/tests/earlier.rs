//! What earlier versions wrote.

use cloister_api::{Outcome, Status};

use super::*;

/// What had ended is as old as it was, and goes in the order in which it ended.
#[tokio::test]
async fn a_store_of_the_first_schema_keeps_what_it_kept() {
    let url = Server::shared().database();
    let jobs = [job(), job(), job(), job()];
    let admin = session(&url).await;
    let mut rows = format!(
        "CREATE SCHEMA cloister; CREATE TABLE version (version bigint NOT NULL);
         INSERT INTO version VALUES (1); {}",
        schema::MIGRATIONS[0]
    );
    // A record that cannot be read stops no upgrade.
    for (job, end) in jobs.iter().zip([3_000, 1_000, 2_000]) {
        rows.extend([format!(
            "INSERT INTO jobs (job_id, status, attempt, finished_at, record, size)
             VALUES ('{}', 'completed', 1, {end}, '{{', 1);",
            job.job_id
        )]);
    }
    rows.extend([format!(
        "INSERT INTO jobs (job_id, status, attempt, record, size) VALUES ('{}', 'pending', 1, '{{', 1);",
        jobs[3].job_id
    )]);
    admin.batch_execute(&rows).await.unwrap();

    let store = Postgres::open(&url, None).await.unwrap();
    let epoch = store.lead(candidate("me"), LONG).await.unwrap().epoch;
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

/// One that nothing had ended in yet.
#[tokio::test]
async fn an_empty_store_of_the_first_schema_is_brought_up_to_date() {
    let url = Server::shared().database();
    let admin = session(&url).await;
    let first = format!(
        "CREATE SCHEMA cloister; CREATE TABLE version (version bigint NOT NULL);
         INSERT INTO version VALUES (1); {}",
        schema::MIGRATIONS[0]
    );
    admin.batch_execute(&first).await.unwrap();
    let store = Postgres::open(&url, None).await.unwrap();
    let epoch = store.lead(candidate("me"), LONG).await.unwrap().epoch;
    let mut end = job();
    store.submit(end.clone(), None, None).await.unwrap();
    end.finish(Outcome::never_ran(Status::Cancelled, None, "x"));
    store.finish(epoch, end, Timestamp(2_000)).await.unwrap();
    let keep = Keep { time: LONG, number: 0, size: u64::MAX };
    assert_eq!(store.expire(epoch, keep, Timestamp(2_000)).await.unwrap(), 1);
}
