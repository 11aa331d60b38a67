//! Runners that fail in each way that runners do.

use std::time::Duration;

use cloister_api::{Outcome, Reason, RunnerState};
use cloister_web::Secret;
use serde_json::json;

use super::{
    Coordinator, FakeRunner, config,
    runner::{Mood, exited},
};

#[tokio::test]
async fn no_runner_gets_more_than_its_slots() {
    let runners = [FakeRunner::new(2).await, FakeRunner::new(3).await];
    let coordinator = Coordinator::with(&[&runners[0], &runners[1]]).await.ready().await;
    let client = &coordinator.client;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(client.submit("hold").await);
    }
    for _ in 0..60 {
        ids.push(client.submit("echo x").await);
    }
    runners[0].until_taken(2).await;
    runners[1].until_taken(3).await;
    for (runner, slots) in runners.iter().zip([2, 3]) {
        assert_eq!(runner.lock().taken.len(), slots);
        for _ in 0..slots {
            runner.end("hold", exited(0, ""));
        }
    }
    for id in &ids {
        assert_eq!(client.end(id).await["status"], "completed");
    }
    let given: usize = runners.iter().map(|runner| runner.lock().taken.len()).sum();
    assert_eq!(given, ids.len(), "each exactly once");
    assert!(runners[0].lock().most <= 2 && runners[1].lock().most <= 3);
}

#[tokio::test]
async fn a_connection_that_breaks_loses_nothing() {
    let runner = FakeRunner::new(1).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    let client = &coordinator.client;
    runner.mood(Mood::Cuts);
    let over = client.submit("echo done").await;
    let job = client.end(&over).await;
    assert_eq!((&job["stdout"], &job["attempt"]), (&json!("done\n"), &json!(1)));

    let held = client.submit("hold").await;
    client.until_running(&held).await;
    runner.mood(Mood::Good);
    runner.end("hold", exited(0, "later"));
    assert_eq!(client.end(&held).await["stdout"], "later");
    assert_eq!(runner.lock().taken.len(), 2, "neither ran twice");
    runner.until_empty().await;
}

#[tokio::test]
async fn a_runner_that_was_restarted_has_lost_its_jobs() {
    let runner = FakeRunner::new(1).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    let client = &coordinator.client;
    let id = client.submit("hold").await;
    client.until_running(&id).await;
    runner.restart().await;
    let job = client.end(&id).await;
    assert_eq!((&job["status"], &job["reason"]), (&json!("failed"), &json!("runner_lost")));
    assert!(job["message"].as_str().unwrap().contains("was restarted"), "{job}");
    assert!(job["started_at"].is_string());
    assert_eq!(runner.lock().taken.len(), 1, "it is not run again unasked");
    client.end(&client.submit("echo next").await).await;
}

#[tokio::test]
async fn a_lost_attempt_is_followed_by_another_where_the_user_said_so() {
    let runner = FakeRunner::new(1).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    let client = &coordinator.client;
    let body = json!({"command": "hold", "retries": 1});
    let id = client.post("/jobs", &body).await.expect(201).id();
    client.until_running(&id).await;
    runner.restart().await;
    let waits = client.until_pending(&id, "after attempt 1 failed").await;
    assert_eq!(waits["attempt"], 2);
    assert_eq!(waits["attempts"][0]["reason"], "runner_lost");
    runner.until_taken(2).await;
    runner.end("hold", exited(0, "second"));
    let job = client.end(&id).await;
    assert_eq!((&job["status"], &job["attempt"]), (&json!("completed"), &json!(2)));
    assert_eq!(job["attempts"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_runner_that_stays_silent_has_lost_its_jobs_after_the_grace_time() {
    let runner = FakeRunner::new(1).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    let client = &coordinator.client;
    let id = client.submit("hold").await;
    client.until_running(&id).await;
    runner.go_down().await;
    let job = client.end(&id).await;
    assert_eq!(job["reason"], "runner_lost");
    let message = job["message"].as_str().unwrap();
    assert!(message.contains("did not come back within 1.08 s"), "{message}");
    // It comes back with the job still running: that is ended, and nobody is told otherwise.
    runner.up();
    runner.until_empty().await;
    assert_eq!(client.get(&format!("/jobs/{id}")).await.body, job);
}

#[tokio::test]
async fn a_runner_that_comes_back_in_time_still_has_its_jobs() {
    let runner = FakeRunner::new(1).await;
    let mut config = config(&[&runner]);
    config.lease = Duration::from_secs(30);
    let coordinator = Coordinator::start(config).await;
    let client = &coordinator.client;
    let id = client.submit("hold").await;
    client.until_running(&id).await;
    runner.go_down().await;
    client.until("/health", |_, health| health["runners"]["up"] == 0).await;
    assert_eq!(client.get(&format!("/jobs/{id}")).await.body["status"], "running");
    runner.end("hold", exited(0, "meanwhile"));
    runner.up();
    assert_eq!(client.end(&id).await["stdout"], "meanwhile");
}

#[tokio::test]
async fn a_runner_that_streams_for_ever_loses_the_job() {
    let runner = FakeRunner::new(1).await;
    runner.mood(Mood::Endless);
    let mut config = config(&[&runner]);
    config.lease = Duration::from_millis(120);
    let coordinator = Coordinator::start(config).await;
    let client = &coordinator.client;
    let mut body = json!({"command": "hold", "limits": {"output": "1KiB"}});
    let id = client.post("/jobs", &body).await.expect(201).id();
    runner.until_taken(1).await;
    client.delete(&format!("/jobs/{id}")).await;
    let job = client.end(&id).await;
    assert_eq!((&job["status"], &job["reason"]), (&json!("failed"), &json!("runner_lost")));
    let message = job["message"].as_str().unwrap();
    assert!(message.contains("of its cancellation, although it answers"), "{message}");

    body["timeout"] = json!("50ms");
    let id = client.post("/jobs", &body).await.expect(201).id();
    let job = client.end(&id).await;
    let message = job["message"].as_str().unwrap();
    assert!(message.contains("of its timeout, although it answers"), "{message}");
    assert_eq!(runner.lock().taken.len(), 2, "neither was run again");
}

#[tokio::test]
async fn a_job_waits_for_a_runner_that_is_down_and_says_so() {
    let runner = FakeRunner::down(1);
    let coordinator = Coordinator::with(&[&runner]).await;
    let client = &coordinator.client;
    let id = client.submit("echo late").await;
    let job = client.until_pending(&id, "no runner answers").await;
    let why = job["pending_reason"].as_str().unwrap();
    assert!(why.contains(&runner.url()) || why.contains("not reached yet"), "{why}");
    client.until_pending(&id, "refused").await;
    runner.up();
    assert_eq!(client.end(&id).await["stdout"], "late\n");
    runner.go_down().await;
    let id = client.submit("echo later").await;
    client.until_pending(&id, "refused").await;
    runner.up();
    assert_eq!(client.end(&id).await["attempt"], 1);
}

#[tokio::test]
async fn a_full_runner_is_no_attempt() {
    let runner = FakeRunner::new(1).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    let client = &coordinator.client;
    runner.set(|inner| {
        inner.mood = Mood::Full;
        inner.health.slots.used = 1;
    });
    let id = client.submit("echo x").await;
    client.until_pending(&id, "waits for a free slot: 1 of 1 taken on 1 runner").await;
    runner.set(|inner| {
        inner.mood = Mood::Good;
        inner.health.slots.used = 0;
    });
    let job = client.end(&id).await;
    assert_eq!((&job["status"], &job["attempt"]), (&json!("completed"), &json!(1)));
    assert_eq!(job.get("attempts"), None);
}

#[tokio::test]
async fn a_refusal_and_a_failed_cell_are_tried_three_times() {
    for (mood, message) in
        [(Mood::Refuses, "refused the job: beyond my bounds"), (Mood::FailsCells, "no cell")]
    {
        let runner = FakeRunner::new(1).await;
        let coordinator = Coordinator::with(&[&runner]).await;
        runner.mood(mood);
        let id = coordinator.client.submit("echo x").await;
        let job = coordinator.client.end(&id).await;
        assert_eq!(job["reason"], "sandbox_error", "{job}");
        assert!(job["message"].as_str().unwrap().contains(message), "{job}");
        assert_eq!((&job["attempt"], job.get("exit_code")), (&json!(3), None));
        assert_eq!(job["attempts"].as_array().unwrap().len(), 2);
        let runners = coordinator.client.get("/runners").await.body;
        assert_eq!(runners["runners"][0]["failed_cells"], 3);
        let line = format!("cloister_runner_failed_cells_total{{runner=\"{}\"}} 3\n", runner.url());
        for scrape in 0..2 {
            let text = coordinator.client.get("/metrics").await.expect(200).text;
            assert!(text.contains(&line), "scrape {scrape}: {text}");
        }
    }
}

#[tokio::test]
async fn a_failed_cell_is_made_by_another_runner() {
    let (bad, good) = (FakeRunner::new(1).await, FakeRunner::new(1).await);
    bad.mood(Mood::FailsCells);
    let coordinator = Coordinator::with(&[&bad, &good]).await.ready().await;
    let client = &coordinator.client;
    for _ in 0..4 {
        let job = client.end(&client.submit("echo x").await).await;
        assert_eq!((&job["status"], &job["runner"]), (&json!("completed"), &json!(good.url())));
    }
    assert!(!bad.lock().taken.is_empty());
}

#[tokio::test]
async fn a_runner_that_knows_no_token_gets_nothing_and_says_why() {
    let runner = FakeRunner::new(1).await;
    let mut config = config(&[&runner]);
    config.runner_tokens =
        vec![Secret::new("the-runners-own-token", "of the test").unwrap()].into();
    let coordinator = Coordinator::start(config).await;
    let client = &coordinator.client;
    runner.mood(Mood::Locked);
    let id = client.submit("echo x").await;
    client.until_pending(&id, "answers 401").await;
    let health = client.get("/health").await.body;
    assert!(health["problems"][0].as_str().unwrap().contains("401"), "{health}");
    assert_eq!(runner.lock().tokens[0], "Bearer the-runners-own-token");
    runner.mood(Mood::Good);
    assert_eq!(client.end(&id).await["attempt"], 1);
}

#[tokio::test]
async fn nonsense_from_a_runner_ends_in_time() {
    let runner = FakeRunner::new(1).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    runner.mood(Mood::Babbles);
    let id = coordinator.client.submit("hold").await;
    let job = coordinator.client.end(&id).await;
    assert_eq!(job["reason"], "runner_lost");
    assert!(job["message"].as_str().unwrap().contains("unexpected answer"), "{job}");
}

#[tokio::test]
async fn an_outcome_that_can_not_be_true_is_not_recorded_and_counts_against_its_runner() {
    let runner = FakeRunner::new(5).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    let client = &coordinator.client;
    let mut ids = Vec::new();
    for at in 0..5 {
        let id = client.submit(&format!("hold {at}")).await;
        client.until_running(&id).await;
        ids.push(id);
    }
    for at in 0..5 {
        let odd = Outcome { reason: Some(Reason::Timeout), ..exited(0, "odd") };
        runner.end(&format!("hold {at}"), odd);
    }
    let breaks = |list: &serde_json::Value| list["runners"][0]["breaker"] == "open";
    let list = client.until("/runners", |_, list| breaks(list)).await;
    let trouble = list["runners"][0]["trouble"].as_str().unwrap();
    assert!(trouble.contains("completed, with the reason timeout"), "{trouble}");
    for id in &ids {
        let job = client.end(id).await;
        assert_eq!((&job["status"], &job["reason"]), (&json!("failed"), &json!("runner_lost")));
        let message = job["message"].as_str().unwrap();
        assert!(message.contains("gave no result that makes sense"), "{message}");
        assert!(message.contains("completed, with the reason timeout"), "{message}");
        assert_eq!(job.get("stdout"), None);
    }
}

#[tokio::test]
async fn the_result_of_another_execution_is_not_taken() {
    let runner = FakeRunner::new(1).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    runner.mood(Mood::Swaps);
    let job = coordinator.client.end(&coordinator.client.submit("echo x").await).await;
    assert_eq!(job["reason"], "runner_lost", "{job}");
    let message = job["message"].as_str().unwrap();
    assert!(message.contains("it is of execution 00000000-"), "{message}");
}

#[tokio::test]
async fn a_message_that_is_too_long_is_cut() {
    let runner = FakeRunner::new(1).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    let client = &coordinator.client;
    let id = client.submit("hold").await;
    client.until_running(&id).await;
    // With the rest of the line less than a line may have.
    runner.end("hold", exited(0, "x").with_message(Some("m".repeat(10 << 20))));
    let job = client.end(&id).await;
    assert_eq!((&job["status"], &job["stdout"]), (&json!("completed"), &json!("x")));
    assert_eq!(job["message"].as_str().unwrap().chars().count(), 4096 - 2);
}

#[tokio::test]
async fn a_request_that_never_arrived_is_sent_again_under_its_id() {
    let runner = FakeRunner::new(1).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    let client = &coordinator.client;
    runner.mood(Mood::Deaf);
    let id = client.submit("hold").await;
    runner.until_taken(1).await;
    // Same life, and it knows nothing: it never began.
    runner.mood(Mood::Good);
    runner.until_taken(2).await;
    runner.end("hold", exited(0, "once"));
    assert_eq!(client.end(&id).await["stdout"], "once");
    let taken = &runner.lock().taken;
    assert_eq!(taken[0].0, taken[1].0, "under the same id, so that it can't run twice");
}

#[tokio::test]
async fn what_a_draining_runner_does_not_know_goes_to_another() {
    let (drains, other) = (FakeRunner::new(1).await, FakeRunner::down(1));
    let coordinator = Coordinator::with(&[&drains, &other]).await;
    let client = &coordinator.client;
    drains.mood(Mood::Deaf);
    let id = client.submit("echo moved").await;
    drains.until_taken(1).await;
    drains.set(|inner| inner.health.status = RunnerState::Draining);
    other.up();
    // It takes nothing more in this life: nobody need wait until its lease is over.
    let job = client.end(&id).await;
    assert_eq!((&job["stdout"], &job["runner"]), (&json!("moved\n"), &json!(other.url())), "{job}");
    assert_eq!(job["attempt"], 1);
}

#[tokio::test]
async fn a_runner_that_forgot_what_it_had_is_not_given_it_again() {
    let runner = FakeRunner::new(1).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    let client = &coordinator.client;
    let id = client.submit("hold").await;
    client.until_running(&id).await;
    runner.go_down().await;
    runner.forget_all();
    runner.up();
    let job = client.end(&id).await;
    assert_eq!(job["reason"], "runner_lost");
    assert!(job["message"].as_str().unwrap().contains("does not know the job any more"), "{job}");
    assert_eq!(runner.lock().taken.len(), 1);
}
