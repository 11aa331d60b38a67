//! A record that cannot be read stops nothing, and is told of.

use std::sync::Arc;

use serde_json::json;

use super::{Coordinator, FakeRunner, config};
use crate::store::tests::{Folder, Place};

/// Damages a waiting and an ended job's record, and starts a coordinator on what there is.
async fn is_left_out(place: Place) {
    let runner = FakeRunner::new(1).await;
    let store = place.open().await;
    let inner = Arc::clone(&store);
    let start = Coordinator::start_in(config(&[&runner]), Arc::new(Folder::new()), |_| inner);
    let coordinator = start.await;
    let client = coordinator.client.clone();
    let over = client.submit("echo over").await;
    client.end(&over).await;
    client.post("/pause", &json!({})).await.expect(200);
    let (bad, good) = (client.submit("echo bad").await, client.submit("echo good").await);
    coordinator.shutdown.end();
    coordinator.task.await.unwrap().unwrap();
    for id in [&over, &bad] {
        place.set(id.parse().unwrap(), "jobs", "record", b"{");
    }

    let start = Coordinator::start_in(config(&[&runner]), Arc::new(Folder::new()), |_| store);
    let coordinator = start.await;
    let client = &coordinator.client;
    client.post("/resume", &json!({})).await.expect(200);
    assert_eq!(client.end(&good).await["stdout"], "good\n");
    let list = client.get("/jobs").await.expect(200).body;
    assert_eq!(list["unreadable"], json!([bad, over]));
    assert_eq!(list["jobs"].as_array().unwrap().len(), 1);
    // With what asks for one of them it is told, and the store is none the worse.
    for id in [&over, &bad] {
        let told = client.get(&format!("/jobs/{id}")).await.expect(500).body;
        assert!(told["detail"].as_str().unwrap().contains(id.as_str()), "{told}");
        client.delete(&format!("/jobs/{id}")).await.expect(500);
    }
    let health = client.get("/health").await.expect(200).body;
    assert_eq!((&health["status"], &health["store"]), (&json!("degraded"), &json!("ok")));
    let problem = health["problems"][0].as_str().unwrap();
    assert!(problem.starts_with("the records of 2 jobs can't be read"), "{problem}");
    assert!(problem.contains(&over) && problem.contains(&bad), "{problem}");
    client.get("/ready").await.expect(200);
    let metrics = client.get("/metrics").await.expect(200).text;
    assert!(metrics.contains("\ncloister_unreadable_records 2\n"), "{metrics}");
}

#[tokio::test]
async fn an_unreadable_record_is_left_out_on_sqlite() {
    is_left_out(Place::sqlite()).await;
}

#[tokio::test]
async fn an_unreadable_record_is_left_out_on_postgres() {
    is_left_out(Place::postgres()).await;
}

#[tokio::test]
async fn a_job_whose_input_is_unreadable_holds_up_no_other() {
    let runner = FakeRunner::new(1).await;
    let place = Place::sqlite();
    let store = place.open().await;
    let start = Coordinator::start_in(config(&[&runner]), Arc::new(Folder::new()), |_| store);
    let coordinator = start.await;
    let client = &coordinator.client;
    client.post("/pause", &json!({})).await.expect(200);
    let body = json!({"command": "cat", "stdin": "in"});
    let bad = client.post("/jobs", &body).await.expect(201).id();
    let good = client.submit("echo good").await;
    place.set(bad.parse().unwrap(), "inputs", "stdin", b"{");
    client.post("/resume", &json!({})).await.expect(200);
    assert_eq!(client.end(&good).await["stdout"], "good\n");
    client.get(&format!("/jobs/{bad}")).await.expect(500);
    let health = client.get("/health").await.expect(200).body;
    assert!(health["problems"][0].as_str().unwrap().contains(&bad), "{health}");
    let metrics = client.get("/metrics").await.expect(200).text;
    assert!(metrics.contains("\ncloister_jobs_running 0\n"), "{metrics}");
    assert_eq!(runner.lock().taken.len(), 1);
}
