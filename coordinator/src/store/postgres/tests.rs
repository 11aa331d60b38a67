//! What only the shared store promises: that a write and a takeover exclude each other, that a server
//! which is gone is told of in seconds, that copies are recognised.

mod copies;
mod earlier;
mod encrypted;
mod pooler;
mod server;

use std::time::Instant;

use cloister_api::{JobRequest, Program, Task};
use cloister_tests::Postgres as Server;
use deadpool::managed::Manager as _;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::*;

const LONG: Duration = Duration::from_secs(600);

fn job() -> Job {
    let request = JobRequest::new(Task::new(Program::Command("true".into())));
    Job::new(Uuid::now_v7(), Timestamp(0), request)
}

fn claim() -> Claim {
    Claim { attempt: 1, execution_id: Uuid::nil(), runner: "a".into(), boot_id: None }
}

fn candidate(name: &str) -> Candidate {
    Candidate { id: Uuid::new_v4(), name: name.into() }
}

/// A connection of its own, set up as those of a store.
async fn session(url: &str) -> Session {
    let manager = Manager::of(&Address::parse(url).unwrap(), None).unwrap();
    manager.create().await.unwrap()
}

/// Returns when somebody waits for a lock in this database.
async fn somebody_waits(watch: &Session) {
    let sql = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let waits = async {
        while watch.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(3), waits).await.expect("nobody waits for a lock");
}

#[tokio::test]
async fn a_takeover_waits_for_a_write_in_flight() {
    let url = Server::shared().database();
    let store = Arc::new(Postgres::open(&url, None).await.unwrap());
    let (me, other) = (candidate("me"), candidate("other"));
    let old = store.lead(me, Duration::from_millis(1)).await.unwrap().epoch;
    let job = job();
    store.submit(job.clone(), None, Some(old)).await.unwrap();
    let (writer, watch) = (session(&url).await, session(&url).await);
    writer.batch_execute("BEGIN").await.ok().unwrap();
    let claimed = write::claim(&writer, old, job.job_id, &claim()).await.ok().unwrap();
    assert!(claimed.unwrap().is_some());
    let takes = {
        let (store, other) = (Arc::clone(&store), other.clone());
        tokio::spawn(async move { store.lead(other, LONG).await })
    };
    somebody_waits(&watch).await;
    assert!(!takes.is_finished());
    writer.batch_execute("COMMIT").await.ok().unwrap();
    let led = takes.await.unwrap().unwrap();
    assert_eq!(led.leader, other);
    assert!(led.epoch > old);
    assert!(store.unfinished(None, 10).await.unwrap().jobs[0].claim.is_some());
}

#[tokio::test]
async fn a_write_waits_for_a_takeover_and_is_refused() {
    let url = Server::shared().database();
    let store = Arc::new(Postgres::open(&url, None).await.unwrap());
    let old = store.lead(candidate("me"), Duration::from_millis(1)).await.unwrap().epoch;
    let job = job();
    store.submit(job.clone(), None, Some(old)).await.unwrap();
    let (taker, watch) = (session(&url).await, session(&url).await);
    taker.batch_execute("BEGIN").await.ok().unwrap();
    let take = taker.prepare(store.terms.take()).await.unwrap();
    let (id, name, seconds) = (Uuid::new_v4(), b"other".as_slice(), 600.0_f64);
    let row = taker.query_one(&take, &[&id, &name, &seconds]).await.unwrap();
    assert_eq!(row.get::<_, i64>(1), lease::number(old) + 1);
    let writes = {
        let (store, job) = (Arc::clone(&store), job.job_id);
        tokio::spawn(async move { store.claim(old, job, claim()).await })
    };
    somebody_waits(&watch).await;
    assert!(!writes.is_finished());
    taker.batch_execute("COMMIT").await.ok().unwrap();
    let refused = writes.await.unwrap();
    let Err(StoreError::Stale { epoch, newest, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!((epoch, newest), (old.0, old.0 + 1));
    assert!(store.unfinished(None, 10).await.unwrap().jobs[0].claim.is_none());
}

#[tokio::test]
async fn a_renewal_waits_for_no_write() {
    let url = Server::shared().database();
    let store = Postgres::open(&url, None).await.unwrap();
    let me = candidate("me");
    let epoch = store.lead(me.clone(), LONG).await.unwrap().epoch;
    let job = job();
    store.submit(job.clone(), None, Some(epoch)).await.unwrap();
    let writer = session(&url).await;
    writer.batch_execute("BEGIN").await.ok().unwrap();
    write::claim(&writer, epoch, job.job_id, &claim()).await.ok().unwrap().unwrap();
    let renewed = timeout(Duration::from_secs(3), store.lead(me, LONG)).await;
    assert_eq!(renewed.expect("it waits").unwrap().epoch, epoch);
}

/// A lease of before would last for as long as the clock was set back by.
#[tokio::test]
async fn a_clock_that_is_set_back_holds_nobody_up() {
    let url = Server::shared().database();
    let store = Postgres::open(&url, None).await.unwrap();
    let (me, other) = (candidate("me"), candidate("other"));
    let set_back = async || {
        let sql = "UPDATE leadership SET expires_at = expires_at + interval '1 hour'";
        session(&url).await.batch_execute(sql).await.unwrap();
    };
    let first = store.lead(me.clone(), LONG).await.unwrap();
    set_back().await;
    // A leader that is there goes on.
    assert_eq!(store.lead(me.clone(), LONG).await.unwrap().epoch, first.epoch);
    assert_eq!(store.lead(other.clone(), LONG).await.unwrap().leader, me);
    set_back().await;
    let next = store.lead(other.clone(), LONG).await.unwrap();
    assert_eq!((next.leader, next.epoch), (other, Epoch(first.epoch.0 + 1)));
}

#[tokio::test]
async fn coordinators_that_start_at_once_find_one_schema() {
    let url = Server::shared().database();
    let opened = futures_util::future::join_all((0..6).map(|_| Postgres::open(&url, None))).await;
    let mut clusters = Vec::new();
    for store in opened {
        clusters.push(store.unwrap().lead(candidate("x"), LONG).await.unwrap().cluster);
    }
    assert!(clusters.iter().all(|cluster| *cluster == clusters[0]));
}

#[tokio::test]
async fn a_newer_schema_and_another_programs_are_left_alone() {
    let url = Server::shared().database();
    drop(Postgres::open(&url, None).await.unwrap());
    let admin = session(&url).await;
    let refused = async |sql: &str| {
        admin.batch_execute(sql).await.unwrap();
        let error = Postgres::open(&url, None).await.err().expect("it must not be opened");
        assert!(error.to_string().contains("127.0.0.1"), "{error}");
        error
    };
    let newer = refused("UPDATE version SET version = 99").await;
    assert!(matches!(newer, StoreError::Newer { found: 99, known: 3, .. }), "{newer}");
    for sql in [
        "DELETE FROM version",
        "DROP TABLE version; CREATE TABLE version (name text)",
        "DROP TABLE version",
    ] {
        let foreign = refused(sql).await;
        assert!(matches!(foreign, StoreError::Foreign { .. }), "{sql}: {foreign}");
    }
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'cloister'";
    let left: i64 = admin.query_one(tables, &[]).await.unwrap().get(0);
    assert_eq!(left, 12, "nothing was made or removed");
}

#[tokio::test]
async fn a_store_of_the_first_schema_is_brought_up_to_date() {
    let url = Server::shared().database();
    let admin = session(&url).await;
    let job = job();
    let record = serde_json::to_string(&job).unwrap();
    let sql = format!(
        "CREATE SCHEMA cloister;
         CREATE TABLE version (version bigint NOT NULL);
         INSERT INTO version VALUES (1);
         {}
         INSERT INTO jobs (job_id, status, attempt, record, size)
         VALUES ('{}', 'pending', 1, convert_to('{record}', 'UTF8'), 1234);",
        schema::MIGRATIONS[0],
        job.job_id,
    );
    admin.batch_execute(&sql).await.unwrap();
    let store = Postgres::open(&url, None).await.unwrap();
    let figures = store.figures().await.unwrap();
    assert_eq!((figures.pending, figures.pending_size), (1, 1234));
    let found = store.unfinished(None, 10).await.unwrap().jobs;
    assert_eq!((found[0].job.job_id, found[0].size), (job.job_id, 1234));
}

/// A user who may not make schemas, in one that was made for it.
#[tokio::test]
async fn a_schema_that_was_made_for_us_will_do() {
    let url = Server::shared().database();
    let owner = session(&url).await;
    let name: String = owner.query_one("SELECT current_user::text", &[]).await.unwrap().get(0);
    let database = name.replace("user", "jobs");
    let server = Server::shared();
    server.admin(&database, &format!("CREATE SCHEMA cloister AUTHORIZATION {name}"));
    server.admin(&database, &format!("ALTER DATABASE {database} OWNER TO admin"));
    let store = Postgres::open(&url, None).await.unwrap();
    store.probe().await.unwrap();
}

#[tokio::test]
async fn an_answer_promises_the_disk_whatever_the_database_is_set_to() {
    let url = Server::shared().database();
    let owner = session(&url).await;
    let database: String =
        owner.query_one("SELECT current_database()::text", &[]).await.unwrap().get(0);
    let settings = format!(
        "ALTER DATABASE {database} SET synchronous_commit = off;
         ALTER DATABASE {database} SET default_transaction_isolation = serializable"
    );
    owner.batch_execute(&settings).await.unwrap();
    let store = Postgres::open(&url, None).await.unwrap();
    for name in ["synchronous_commit", "default_transaction_isolation"] {
        let set = store.link.call(READING, move |session| {
            Box::pin(async move {
                let sql = "SELECT current_setting($1)";
                Ok(session.query_one(sql, &[&name]).await?.try_get::<_, String>(0)?)
            })
        });
        let set = set.await.unwrap();
        assert!(set == "on" || set == "read committed", "{name} is {set}");
    }
}

/// A database that was made by it must be one that the next ones expect.
#[test]
fn what_was_released_is_not_changed() {
    let digest = Sha256::digest(schema::MIGRATIONS[0]);
    let first = u128::from_be_bytes(digest[..16].try_into().unwrap());
    assert_eq!(first, 0x8006_b87c_6849_b061_3763_ada9_8894_d0a6);
}
