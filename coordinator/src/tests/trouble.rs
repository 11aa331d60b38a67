//! A store that fails for a while, or takes its time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cloister_api::ByteSize;
use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::{sync::watch, task::yield_now, time::timeout};

use super::{Coordinator, FakeRunner, config, runner::exited};
use crate::store::{
    Store, StoreError,
    gated::{Gate, Gated},
    tests::Folder,
};

/// A disk that is full when the test says so.
pub(super) struct Disk(pub(super) Arc<AtomicBool>);

impl Gate for Disk {
    fn before(&self, writes: bool) -> BoxFuture<'_, Result<(), StoreError>> {
        let full = writes && self.0.load(Ordering::SeqCst);
        Box::pin(async move {
            if !full {
                return Ok(());
            }
            let path = "store.db".into();
            let message = Some("database or disk is full".to_owned());
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
            let cause = Arc::new(rusqlite::Error::SqliteFailure(code, message));
            Err(StoreError::Sqlite { doing: "writing", path, cause })
        })
    }

    fn after(&self, _writes: bool) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn a_store_that_fails_is_told_loses_nothing_and_recovers() {
    let runner = FakeRunner::new(1).await;
    let full = Arc::new(AtomicBool::new(false));
    let wrap = |inner| -> Arc<dyn Store> { Arc::new(Gated { inner, gate: Disk(full.clone()) }) };
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

/// For whom a disk hangs.
#[derive(Clone, Copy, PartialEq)]
enum Hangs {
    Nobody,
    /// Whoever writes.
    All,
    /// The same, and who comes from now on is not one of the first.
    AllAndLater,
    /// Those who came first.
    First,
}

/// A disk that hangs while the test says so: whoever writes waits.
struct Hanging(watch::Sender<Hangs>);

impl Gate for Hanging {
    fn before(&self, writes: bool) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut hangs = self.0.subscribe();
        let first = *hangs.borrow() == Hangs::All;
        Box::pin(async move {
            if writes {
                let goes_on = |hangs: &Hangs| match hangs {
                    Hangs::Nobody => true,
                    Hangs::First => !first,
                    Hangs::All | Hangs::AllAndLater => false,
                };
                let _ = hangs.wait_for(goes_on).await;
            }
            Ok(())
        })
    }

    fn after(&self, _writes: bool) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}

/// Clients that give up do not free the memory of what a store that hangs has yet to write.
#[tokio::test]
async fn what_a_store_that_hangs_has_yet_to_write_is_bounded() {
    let hangs = watch::Sender::new(Hangs::Nobody);
    let wrap =
        |inner| -> Arc<dyn Store> { Arc::new(Gated { inner, gate: Hanging(hangs.clone()) }) };
    let mut config = config(&[]);
    (config.max_body, config.body_memory) = (ByteSize(64 << 10), ByteSize(100 << 10));
    config.late_write = Duration::from_millis(100);
    let coordinator = Coordinator::start_in(config, Arc::new(Folder::new()), wrap).await;
    let client = &coordinator.client;
    client.get("/ready").await.expect(200);
    let large = json!({"command": "true", "stdin": "x".repeat(60_000)});
    hangs.send_replace(Hangs::All);
    let waiting = hangs.receiver_count();
    let asking = {
        let (client, large) = (client.clone(), large.clone());
        tokio::spawn(async move { client.post("/jobs", &large).await })
    };
    while hangs.receiver_count() == waiting {
        yield_now().await;
    }
    // The client hangs up while its job waits for the disk.
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    let refused = client.post("/jobs", &large).await.expect(503);
    assert!(refused.headers.contains_key("retry-after"));
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(detail.contains("as its memory allows"), "{detail}");

    // A write that is late shows, and nothing more is taken in.
    let unready = client.until("/ready", |status, _| status == 503).await;
    assert!(unready["detail"].as_str().unwrap().contains("busy with a write"), "{unready}");
    let health = client.get("/health").await.expect(200).body;
    assert_eq!((&health["status"], &health["store"]), (&json!("degraded"), &json!("slow")));
    let metrics = client.get("/metrics").await.text;
    assert!(metrics.contains("\ncloister_store_up 0\n"), "{metrics}");
    let refused = client.post("/jobs", &json!({"command": "true"})).await.expect(503);
    assert!(refused.headers.contains_key("retry-after"));
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(detail.contains("busy with a write"), "{detail}");

    hangs.send_replace(Hangs::Nobody);
    client.until("/ready", |status, _| status == 200).await;
    client.until("/health", |_, health| health["queue"]["pending"] == 1).await;
    client.post("/jobs", &large).await.expect(201);
}

#[tokio::test]
async fn nobody_is_told_that_a_job_will_end_before_that_is_written() {
    let runner = FakeRunner::new(1).await;
    let hangs = watch::Sender::new(Hangs::Nobody);
    let wrap =
        |inner| -> Arc<dyn Store> { Arc::new(Gated { inner, gate: Hanging(hangs.clone()) }) };
    let folder = Arc::new(Folder::new());
    let coordinator = Coordinator::start_in(config(&[&runner]), folder, wrap).await;
    let client = coordinator.client.clone();
    client.until_running(&client.submit("hold").await).await;
    let waits = client.submit("echo never").await;
    hangs.send_replace(Hangs::All);
    let path = format!("/jobs/{waits}");
    let asking = client.delete(&path);
    tokio::pin!(asking);
    // The end is on its way to the disk; then, longer than it is waited for that, the wish.
    assert!(timeout(Duration::from_secs(1), &mut asking).await.is_err());
    hangs.send_replace(Hangs::AllAndLater);
    assert!(timeout(Duration::from_secs(2), &mut asking).await.is_err(), "a crash would undo it");
    // The wish is written first: its end is about to be told all the same.
    hangs.send_replace(Hangs::First);
    assert!(timeout(Duration::from_millis(500), &mut asking).await.is_err(), "it waited: 200");
    hangs.send_replace(Hangs::Nobody);
    assert_eq!(asking.await.expect(200).body["status"], "cancelled");
}
