//! What every store must do: each case is run on each kind of store. Another kind is one more
//! [`Place`].

mod batch;
mod cases;
mod damaged;
mod fencing;
mod inbox;
mod keeping;
mod lease;
mod scale;
mod texts;

use std::path::PathBuf;

use cloister_api::{JobRequest, Outcome, Output, Program, Task};
use cloister_tests::Postgres;

use super::*;

/// A folder of its own, removed at the end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("cloister-{}", Uuid::new_v4()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn url(&self) -> String {
        format!("sqlite:{}", self.0.join("new/store.db").display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Where a store is, that is empty at first.
pub(crate) struct Place {
    url: String,
    /// Whether several processes may have it open.
    shared: bool,
    _folder: Option<Folder>,
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        let folder = Folder::new();
        Self { url: folder.url(), shared: false, _folder: Some(folder) }
    }

    pub(crate) fn postgres() -> Self {
        Self { url: Postgres::shared().database(), shared: true, _folder: None }
    }

    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        open(&self.url, None, None).await.unwrap()
    }

    /// How a job's id is written in SQL.
    pub(crate) fn id(&self, job: Uuid) -> String {
        if self.shared { format!("'{job}'") } else { format!("x'{}'", job.simple()) }
    }

    /// Does something behind the store's back.
    pub(crate) fn run(&self, sql: &str) {
        if self.shared {
            let name = self.url.rsplit('/').next().unwrap();
            Postgres::shared().admin(name, &format!("SET search_path = cloister; {sql}"));
        } else {
            let path = self.url.strip_prefix("sqlite:").unwrap();
            let database = rusqlite::Connection::open(path).unwrap();
            database.busy_timeout(Duration::from_secs(5)).unwrap();
            database.execute_batch(sql).unwrap();
        }
    }

    /// Puts these bytes into a column of text.
    pub(crate) fn set(&self, job: Uuid, table: &str, column: &str, bytes: &[u8]) {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>();
        let hex = hex(bytes).concat();
        let value =
            if self.shared { format!("'\\x{hex}'") } else { format!("CAST(x'{hex}' AS TEXT)") };
        let id = self.id(job);
        self.run(&format!("UPDATE {table} SET {column} = {value} WHERE job_id = {id}"));
    }

    /// As another coordinator has it: the same, where there can be only one process.
    pub(crate) async fn open_beside(&self, open: &Arc<dyn Store>) -> Arc<dyn Store> {
        if self.shared { self.open().await } else { Arc::clone(open) }
    }
}

/// Makes a test of each case for each kind of store.
macro_rules! on_each_store {
    ($($case:ident)*) => {
        mod on_sqlite {
            $(#[tokio::test] async fn $case() {
                super::$case(crate::store::tests::Place::sqlite()).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test] async fn $case() {
                super::$case(crate::store::tests::Place::postgres()).await;
            })*
        }
    };
}
use on_each_store;

fn request(command: &str) -> JobRequest {
    JobRequest::new(Task::new(Program::Command(command.into())))
}

fn job(command: &str) -> Job {
    Job::new(Uuid::now_v7(), Timestamp(1_000), request(command))
}

fn ended(mut job: Job, at: i64) -> Job {
    let mut outcome = Outcome::never_ran(Status::Completed, None, "done");
    outcome.started_at = Some(Timestamp(at));
    outcome.finished_at = Timestamp(at);
    let outcome =
        outcome.with_output(Output::new(b"out\xff".into(), false), Output::new(vec![], true));
    job.runner = Some("http://a".into());
    job.finish(outcome);
    job
}

fn claim(attempt: u32) -> Claim {
    Claim {
        attempt,
        execution_id: Uuid::from_u128(5),
        runner: "http://a".into(),
        boot_id: Some(Uuid::from_u128(6)),
    }
}

fn key(name: &str, digest: u8) -> Key {
    Key { tenant: String::new(), name: name.into(), digest: [digest; 32] }
}

fn candidate(name: &str) -> Candidate {
    Candidate { id: Uuid::new_v4(), name: name.into() }
}

/// A term of somebody's, that does not end by itself while a test lasts.
async fn term(store: &dyn Store) -> Epoch {
    let me = candidate("test");
    let led = store.lead(me.clone(), Duration::from_secs(600)).await.unwrap();
    assert_eq!(led.leader, me);
    led.epoch
}

/// The next one's.
async fn next_term(store: &dyn Store, epoch: Epoch) -> Epoch {
    store.resign(epoch).await.unwrap();
    term(store).await
}

async fn list(store: &dyn Store, query: Query) -> (Vec<Uuid>, bool) {
    let page = store.list(query).await.unwrap();
    (page.jobs.iter().map(|job| job.job_id).collect(), page.more)
}

/// Submits as one that does not lead.
async fn submit(store: &dyn Store, job: &Job) {
    let made = store.submit(job.clone(), None, None).await.unwrap();
    assert_eq!(made, Submitted::New { taken: false });
}
