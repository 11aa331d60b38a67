//! What a runner tells of itself: whether it lives, and whether it takes work.

use cloister_api::{ByteSize, CANCELS, Enforcement, LEASES, RunnerHealth, RunnerState, Timestamp};
use cloister_sandbox::Host;
use serde_json::json;
use uuid::Uuid;

use super::bench::{Bench, host, task, task_with};
use crate::{Config, ResultLimits};

#[tokio::test]
async fn health_tells_what_there_is_and_what_is_wrong() {
    let part = |name: &str, enforced| Enforcement {
        name: name.into(),
        enforced,
        detail: "no controller".into(),
        remedy: Some("delegate it".into()),
        optional: false,
    };
    let host = Host { enforcement: vec![part("seccomp", true), part("memory", false)], ..host() };
    let mut bench = Bench::with(&Config { slots: Some(3), ..Config::default() }, host);
    let call = bench.execute(&task());
    let job = bench.job().await;
    let asked = Timestamp::now();
    let answer = bench.get("/health").await;
    assert_eq!(answer.status, 200);
    let health: RunnerHealth = serde_json::from_str(&answer.text).unwrap();
    assert_eq!(health.status, RunnerState::Degraded);
    assert_eq!(health.boot_id, bench.runner.boot_id);
    assert!((asked..=Timestamp::now()).contains(&health.time.unwrap()));
    assert_eq!((health.slots.total, health.slots.used), (3, 1));
    assert_eq!((health.memory, health.open_files), (ByteSize::mib(1024), 512));
    assert_eq!(health.problems, ["memory is not enforced: no controller; delegate it"]);
    assert_eq!(health.enforcement.len(), 2);
    assert_eq!(health.features, [LEASES, CANCELS]);
    assert!(health.load.is_some_and(|load| load >= 0.0));
    let ready = bench.get("/ready").await;
    assert_eq!((ready.status, ready.json()), (200, json!({"status": "ready"})));
    for path in ["/health", "/ready", "/metrics"] {
        assert_eq!(bench.get(&format!("{path}?verbose=1")).await.status, 400, "{path}");
    }

    bench.runner.lost.tell();
    let answer = bench.get("/health").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["status"], "failed");
    assert_eq!(answer.json()["problems"][0], "the process that makes cells has ended");
    let ready = bench.get("/ready").await;
    assert_eq!((ready.status, ready.retry_after), (503, true));
    assert!(ready.text.contains("can make no cells"), "{}", ready.text);
    assert_eq!(bench.answered(&task()).await.status, 503);
    job.complete();
    call.await.unwrap();
}

#[tokio::test]
async fn a_runner_that_drains_lives_and_is_not_ready() {
    let mut bench = Bench::new(2);
    let call = bench.execute(&task_with(Uuid::new_v4()));
    bench.job().await.complete();
    call.await.unwrap();
    let _call = bench.execute(&task_with(Uuid::new_v4()));
    let _job = bench.job().await;
    bench.runner.shutdown.drain();
    let health = bench.get("/health").await;
    assert_eq!((health.status, &health.json()["status"]), (200, &json!("draining")));
    assert_eq!(
        health.json()["problems"],
        json!([
            "it drains, and takes no new work: 1 jobs run, and 2 executions are yet to be acknowledged"
        ])
    );
    let ready = bench.get("/ready").await;
    assert_eq!((ready.status, ready.retry_after), (503, true));
    assert!(ready.text.contains("draining"), "{}", ready.text);
}

#[tokio::test]
async fn a_runner_without_room_for_results_lives_and_is_not_ready() {
    let results = ResultLimits { count: 1, ..ResultLimits::default() };
    let config = Config { slots: Some(1), results, ..Config::default() };
    let mut bench = Bench::with(&config, host());
    // Slots are free again in a moment.
    let call = bench.execute(&task());
    let job = bench.job().await;
    assert_eq!(bench.get("/ready").await.status, 200);
    job.complete();
    call.await.unwrap();
    let id = Uuid::new_v4();
    let call = bench.execute(&task_with(id));
    bench.job().await.complete();
    call.await.unwrap();
    let health = bench.get("/health").await;
    assert_eq!((health.status, &health.json()["status"]), (200, &json!("ok")));
    assert!(health.text.contains("1 executions wait to be acknowledged"), "{}", health.text);
    let ready = bench.get("/ready").await;
    assert_eq!((ready.status, ready.retry_after), (503, true));
    assert!(ready.text.contains("too many results wait"), "{}", ready.text);
    bench.call("DELETE", &format!("/executions/{id}"), "").await;
    assert_eq!(bench.get("/ready").await.status, 200);
}
