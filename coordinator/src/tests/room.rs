//! How much may wait: bytes in the queue, requests that wait, bodies in memory.

use cloister_api::{ByteSize, Job, JobRequest, Program, Task, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{runner::exited, *};
use crate::{
    dispatch::RunnerClient,
    engine::{Engine, Parts},
    store::{Candidate, memory::Memory},
    world::Real,
};

fn reading(bytes: usize) -> Value {
    json!({"command": "true", "stdin": "x".repeat(bytes)})
}

async fn queue(coordinator: &Coordinator) -> Value {
    coordinator.client.get("/health").await.expect(200).body["queue"].clone()
}

#[tokio::test]
async fn what_waits_is_bounded_in_bytes_to_the_byte_and_across_a_restart() {
    let mut config = config(&[]);
    config.max_queue_size = ByteSize(64 << 10);
    let coordinator = Coordinator::start(config).await;
    let client = &coordinator.client;
    let first = client.post("/jobs", &reading(40_000)).await.expect(201).id();
    let one = queue(&coordinator).await["size"].as_u64().unwrap();
    assert!((40_000..42_000).contains(&one), "{one}");

    let refused = client.post("/jobs", &reading(40_000)).await.expect(503);
    assert!(refused.headers.contains_key("retry-after"));
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(
        detail.contains("the 1 jobs that wait take") && detail.contains("too large"),
        "{detail}"
    );
    // The first would have room, and both of them have none: none is taken.
    let batch = json!({"jobs": [reading(20_000), reading(20_000)]});
    client.post("/jobs/batch", &batch).await.expect(503);
    assert_eq!(queue(&coordinator).await["size"], one);
    // What would never have room is not told to come again.
    let detail = client.post("/jobs", &reading(65_536)).await.expect(413).body["detail"].clone();
    assert!(detail.as_str().unwrap().contains("--max-queue-size"), "{detail}");

    client.post("/jobs", &reading(20_000)).await.expect(201);
    let before = queue(&coordinator).await;
    assert_eq!((&before["pending"], &before["max_size"]), (&json!(2), &json!(64 << 10)));
    let coordinator = coordinator.crash_and_restart().await;
    let client = &coordinator.client;
    assert_eq!(queue(&coordinator).await, before);
    let size = before["size"].as_u64().unwrap();
    let metrics = client.get("/metrics").await.text;
    assert!(metrics.contains(&format!("\ncloister_queue_size_bytes {size}\n")), "{metrics}");
    client.post("/jobs", &reading(20_000)).await.expect(503);
    client.delete(&format!("/jobs/{first}")).await.expect(200);
    assert_eq!(queue(&coordinator).await["size"], size - one);
    client.post("/jobs", &reading(40_000)).await.expect(201);
}

#[tokio::test]
async fn requests_that_wait_leave_room_for_others() {
    let runner = FakeRunner::new(1).await;
    let mut config = config(&[&runner]);
    config.max_waiters = 1;
    let coordinator = Coordinator::start(config).await;
    let client = &coordinator.client;
    let id = client.submit("hold").await;
    client.until_running(&id).await;
    let path = format!("/jobs/{id}?wait=20");
    let waits = {
        let (client, path) = (client.clone(), path.clone());
        // The other one below may be first.
        tokio::spawn(async move { client.until(&path, |status, _| status == 200).await })
    };
    // As soon as the one waits, another may not; and asking without waiting is as ever.
    let refused = client.until(&format!("/jobs/{id}?wait=0.001"), |status, _| status == 503).await;
    assert!(refused["detail"].as_str().unwrap().contains("without waiting"), "{refused}");
    client.get(&format!("/jobs/{id}")).await.expect(200);
    client.get(&format!("/jobs/{id}?wait=0")).await.expect(200);
    // A job is taken all the same, and told as it is.
    let taken = client.post("/jobs?wait=20", &json!({"command": "echo later"})).await.expect(201);
    assert_eq!(taken.body["status"], "pending");
    runner.end("hold", exited(0, ""));
    assert_eq!(waits.await.unwrap()["status"], "completed");
    client.get(&path).await.expect(200);
}

/// One that does not lead asks the store what waits only now and then, and counts what it takes in
/// between.
#[tokio::test]
async fn a_coordinator_that_does_not_lead_keeps_to_the_bound_as_well() {
    let mut config = config(&[]);
    config.max_queue_size = ByteSize(64 << 10);
    let store: Arc<dyn Store> = Arc::new(Memory::new(Uuid::new_v4(), true));
    let other = Candidate { id: Uuid::new_v4(), name: "other".into() };
    store.lead(other, SOON * 10).await.unwrap();
    let request = |bytes: usize| {
        let mut task = Task::new(Program::Command("true".into()));
        task.stdin.stdin = Some("x".repeat(bytes));
        JobRequest::new(task)
    };
    // Taken in by another one, before this one begins.
    let waits = Job::new(Uuid::now_v7(), Timestamp::now(), request(20_000));
    store.submit(waits, None, None).await.unwrap();
    let parts = Parts {
        store: Arc::clone(&store),
        runners: Arc::new(RunnerClient::new(&config)),
        world: Arc::new(Real),
        name: "this".into(),
    };
    let engine = Engine::new(&config, parts).unwrap();
    engine.start();
    assert!(engine.submit(request(60_000 - 20_000), None).await.is_ok());
    for refused in [
        engine.submit(request(10_000), None).await.map(drop),
        engine.submit_all(vec![request(3_000), request(3_000)], None).await.map(drop),
    ] {
        let problem = refused.unwrap_err();
        assert_eq!((problem.status, problem.retry_after), (503, Some(5)), "{}", problem.detail);
    }
    assert!(engine.submit(request(2_000), None).await.is_ok());
    assert_eq!(store.figures().await.unwrap().pending, 3);
    engine.close().await;
}
