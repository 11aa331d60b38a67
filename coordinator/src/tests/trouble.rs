//! A store that fails for a while.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use cloister_api::{Job, Timestamp};
use serde_json::json;
use uuid::Uuid;

use super::{Coordinator, FakeRunner, config, runner::exited};
use crate::store::{
    Answer, Claim, Digest, Keep, Key, Page, Query, Store, StoreError, Submitted, Unfinished,
    tests::Folder,
};

/// A store whose disk is full when the test says so.
struct Faulty {
    inner: Arc<dyn Store>,
    full: Arc<AtomicBool>,
}

impl Faulty {
    fn write<'a, T: Send + 'a>(&self, done: Answer<'a, T>) -> Answer<'a, T> {
        if !self.full.load(Ordering::SeqCst) {
            return done;
        }
        let path = "store.db".into();
        let message = Some("database or disk is full".to_owned());
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
        let cause = Arc::new(rusqlite::Error::SqliteFailure(code, message));
        let doing = "writing";
        Box::pin(async move { Err(StoreError::Sqlite { doing, path, cause }) })
    }
}

impl Store for Faulty {
    fn submit(&self, job: Job, key: Option<Key>) -> Answer<'_, Submitted> {
        self.write(self.inner.submit(job, key))
    }
    fn claim(&self, job: Uuid, claim: Claim) -> Answer<'_, Option<Job>> {
        self.write(self.inner.claim(job, claim))
    }
    fn unclaim(&self, job: Uuid) -> Answer<'_, ()> {
        self.write(self.inner.unclaim(job))
    }
    fn started(&self, job: Uuid, attempt: u32, at: Timestamp) -> Answer<'_, ()> {
        self.write(self.inner.started(job, attempt, at))
    }
    fn request_cancel(&self, job: Uuid) -> Answer<'_, ()> {
        self.write(self.inner.request_cancel(job))
    }
    fn finish(&self, job: Job) -> Answer<'_, ()> {
        self.write(self.inner.finish(job))
    }
    fn retry(&self, job: Job, not_before: Timestamp) -> Answer<'_, ()> {
        self.write(self.inner.retry(job, not_before))
    }
    fn get(&self, job: Uuid) -> Answer<'_, Option<Job>> {
        self.inner.get(job)
    }
    fn find_key(&self, tenant: String, key: String) -> Answer<'_, Option<(Uuid, Digest)>> {
        self.inner.find_key(tenant, key)
    }
    fn list(&self, query: Query) -> Answer<'_, Page> {
        self.inner.list(query)
    }
    fn unfinished(&self, after: Option<Uuid>, limit: usize) -> Answer<'_, Vec<Unfinished>> {
        self.inner.unfinished(after, limit)
    }
    fn expire(&self, keep: Keep, now: Timestamp) -> Answer<'_, usize> {
        self.inner.expire(keep, now)
    }
    fn probe(&self) -> Answer<'_, ()> {
        self.write(self.inner.probe())
    }
}

#[tokio::test]
async fn a_store_that_fails_is_told_loses_nothing_and_recovers() {
    let runner = FakeRunner::new(1).await;
    let full = Arc::new(AtomicBool::new(false));
    let wrap = |inner| -> Arc<dyn Store> {
        let full = full.clone();
        Arc::new(Faulty { inner, full })
    };
    let folder = Arc::new(Folder::new());
    let coordinator = Coordinator::start_in(config(&[&runner]), folder, wrap).await;
    let client = &coordinator.client;
    let running = client.submit("hold").await;
    client.until_running(&running).await;
    let pending = client.submit("echo later").await;

    full.store(true, Ordering::SeqCst);
    let refused = client.post("/jobs", &json!({"command": "true"})).await.expect(503);
    assert!(refused.headers.contains_key("retry-after"));
    assert!(refused.body["detail"].as_str().unwrap().contains("disk is full"));
    client.get("/ready").await.expect(503);
    let health = client.get("/health").await.expect(200).body;
    assert_eq!((&health["status"], &health["store"]), (&json!("degraded"), &json!("failed")));
    assert!(health["problems"][0].as_str().unwrap().contains("disk is full"));
    client.delete(&format!("/jobs/{running}")).await.expect(503);

    // A result that can't be recorded is neither told nor acknowledged, and nothing follows it.
    runner.end("hold", exited(0, "kept"));
    client.until_pending(&pending, "the store takes no writes").await;
    let job = client.get(&format!("/jobs/{running}")).await.body;
    assert_eq!(job["status"], "running");
    assert_eq!(runner.lock().taken.len(), 1);

    full.store(false, Ordering::SeqCst);
    assert_eq!(client.end(&running).await["stdout"], "kept");
    assert_eq!(client.end(&pending).await["stdout"], "later\n");
    client.until("/ready", |status, _| status == 200).await;
    client.submit("echo again").await;
    runner.until_empty().await;
}
