//! A coordinator that goes away and comes back: nothing that was acknowledged is lost, and nothing
//! runs twice.

use std::time::Duration;

use serde_json::json;

use super::{
    Coordinator, FakeRunner,
    runner::{Mood, exited},
};

#[tokio::test]
async fn a_crash_loses_nothing() {
    let runner = FakeRunner::new(2).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    let client = &coordinator.client;
    let over = client.end(&client.submit("echo before").await).await;
    let (ends, runs) = (client.submit("ends").await, client.submit("runs").await);
    client.until_running(&ends).await;
    let started = client.until_running(&runs).await["started_at"].clone();
    let waits = client.submit("echo after").await;
    client.until_pending(&waits, "2 of 2 taken").await;

    coordinator.shutdown.end();
    runner.end("ends", exited(0, "meanwhile"));
    let coordinator = coordinator.crash_and_restart().await;
    let client = &coordinator.client;
    let id = over["job_id"].as_str().unwrap();
    assert_eq!(client.get(&format!("/jobs/{id}")).await.body, over);
    assert_eq!(client.end(&ends).await["stdout"], "meanwhile");
    let job = client.get(&format!("/jobs/{runs}")).await.body;
    assert_eq!((&job["status"], &job["started_at"]), (&json!("running"), &started));
    assert_eq!(client.end(&waits).await["stdout"], "after\n");
    runner.end("runs", exited(0, "still"));
    assert_eq!(client.end(&runs).await["stdout"], "still");
    assert_eq!(runner.lock().taken.len(), 4, "each exactly once");
    runner.until_empty().await;
}

#[tokio::test]
async fn a_runner_that_was_restarted_too_has_lost_its_jobs() {
    let runner = FakeRunner::new(1).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    let id = coordinator.client.submit("hold").await;
    coordinator.client.until_running(&id).await;
    coordinator.shutdown.end();
    runner.restart().await;
    let coordinator = coordinator.crash_and_restart().await;
    assert_eq!(coordinator.client.end(&id).await["reason"], "runner_lost");
}

#[tokio::test]
async fn a_claim_that_never_reached_its_runner_runs() {
    let runner = FakeRunner::new(1).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    runner.mood(Mood::Deaf);
    let id = coordinator.client.submit("hold").await;
    runner.until_taken(1).await;
    coordinator.shutdown.end();
    runner.mood(Mood::Good);
    let coordinator = coordinator.crash_and_restart().await;
    runner.until_taken(2).await;
    runner.end("hold", exited(0, "ran"));
    assert_eq!(coordinator.client.end(&id).await["stdout"], "ran");
}

#[tokio::test]
async fn a_runner_that_is_listed_no_more_is_still_asked() {
    let (old, new) = (FakeRunner::new(1).await, FakeRunner::new(1).await);
    let mut coordinator = Coordinator::with(&[&old]).await;
    let id = coordinator.client.submit("hold").await;
    coordinator.client.until_running(&id).await;
    coordinator.config.runner_urls = vec![new.url()];
    let coordinator = coordinator.crash_and_restart().await;
    let client = &coordinator.client;
    assert_eq!(client.end(&client.submit("echo x").await).await["runner"], new.url());
    old.end("hold", exited(0, "there"));
    assert_eq!(client.end(&id).await["stdout"], "there");
    client.until("/runners", |_, body| body["runners"].as_array().unwrap().len() == 1).await;
}

#[tokio::test]
async fn a_cancellation_that_was_promised_is_kept() {
    let runner = FakeRunner::new(1).await;
    let mut config = super::config(&[&runner]);
    config.lease = Duration::from_secs(30);
    let coordinator = Coordinator::start(config).await;
    let id = coordinator.client.submit("hold").await;
    coordinator.client.until_running(&id).await;
    // The runner can't be told.
    runner.go_down().await;
    coordinator.client.delete(&format!("/jobs/{id}")).await.expect(202);
    let coordinator = coordinator.crash_and_restart().await;
    runner.up();
    assert_eq!(coordinator.client.end(&id).await["status"], "cancelled");
}

#[tokio::test]
async fn draining_lets_running_jobs_finish_and_keeps_the_others() {
    let runner = FakeRunner::new(1).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    let client = coordinator.client.clone();
    let running = client.submit("hold").await;
    client.until_running(&running).await;
    let pending = client.submit("echo later").await;
    coordinator.shutdown.drain();
    client.until("/ready", |status, _| status == 503).await;
    let refused = client.post("/jobs", &json!({"command": "true"})).await.expect(503);
    assert!(refused.headers.contains_key("retry-after"));
    client.until_pending(&pending, "shutting down").await;
    assert_eq!(client.get("/health").await.expect(200).body["draining"], true);
    let waits = tokio::spawn(async move { client.end(&running).await });
    runner.until(|inner| inner.mood == Mood::Good).await;
    runner.end("hold", exited(0, "finished"));
    assert_eq!(waits.await.unwrap()["stdout"], "finished");
    // It returns by itself, since nothing runs any more.
    coordinator.task.await.unwrap().unwrap();
    assert_eq!(runner.lock().taken.len(), 1);

    let (config, folder) = (coordinator.config, coordinator.folder);
    let coordinator = Coordinator::start_in(config, folder, |store| store).await;
    assert_eq!(coordinator.client.end(&pending).await["stdout"], "later\n");
}
