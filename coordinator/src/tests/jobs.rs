//! What a user does with jobs.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};

use super::{
    Coordinator, FakeRunner, config,
    runner::{Mood, exited},
};

#[tokio::test]
async fn a_command_goes_in_and_its_result_comes_out() {
    let runner = FakeRunner::new(1).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    let client = &coordinator.client;
    let body = json!({"command": "echo hello", "labels": {"k": "v"}, "env": {"A": "b"}});
    let submitted = client.post("/jobs?wait=20", &body).await.expect(201);
    let id = submitted.id();
    assert_eq!(submitted.headers["location"], format!("/jobs/{id}"));
    let job = &submitted.body;
    assert_eq!(job["status"], "completed", "{job}");
    assert_eq!(job["stdout"], "hello\n");
    assert_eq!(job["exit_code"], 0);
    assert_eq!(job["runtime_ms"], 1.5);
    assert_eq!(job["usage"]["cpu_ms"], 1.0);
    assert_eq!(job["attempt"], 1);
    assert_eq!(job["runner"], runner.url());
    assert_eq!(job["labels"]["k"], "v");
    assert_eq!(job["timeout"], 30);
    assert!(job["queue_ms"].is_number() && job["started_at"].is_string());
    for absent in ["pending_reason", "reason", "signal", "attempts", "not_enforced"] {
        assert_eq!(job.get(absent), None, "{job}");
    }
    let again = client.get(&format!("/jobs/{id}")).await.expect(200);
    assert_eq!(&again.body, job);

    let id = client.submit("exit 3").await;
    let job = client.end(&id).await;
    assert_eq!((&job["status"], &job["reason"]), (&json!("failed"), &json!("exit_code")));
    runner.until_empty().await;
}

#[tokio::test]
async fn waiting_is_told_of_the_end_and_no_sooner() {
    let runner = FakeRunner::new(1).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    let client = coordinator.client.clone();
    let id = client.submit("hold").await;
    client.until_running(&id).await;
    let short = client.get(&format!("/jobs/{id}?wait=0.05")).await.expect(200);
    assert_eq!(short.body["status"], "running");

    let start = Instant::now();
    let waits: Vec<_> = (0..10)
        .map(|_| {
            let (client, path) = (client.clone(), format!("/jobs/{id}?wait=20"));
            tokio::spawn(async move { client.get(&path).await.body })
        })
        .collect();
    runner.end("hold", exited(0, "done"));
    for wait in waits {
        assert_eq!(wait.await.unwrap()["stdout"], "done");
    }
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_key_makes_one_job_also_across_a_restart() {
    let coordinator = Coordinator::with(&[]).await;
    let key = |c: &Coordinator| c.client.with("idempotency-key", "k-1");
    let body = json!({"command": "true"});
    let id = key(&coordinator).post("/jobs", &body).await.expect(201).id();
    // The same request, written otherwise.
    let same = r#"{ "timeout": "30s", "command": "true" }"#;
    let again = key(&coordinator).send(Method::POST, "/jobs", same).await.expect(200);
    assert_eq!(again.id(), id);
    let other = json!({"command": "false"});
    key(&coordinator).post("/jobs", &other).await.expect(422);

    let coordinator = coordinator.crash_and_restart().await;
    let again = key(&coordinator).post("/jobs", &body).await.expect(200);
    assert_eq!(again.id(), id);
    key(&coordinator).post("/jobs", &other).await.expect(422);
    let client = &coordinator.client;
    for bad in ["", &"x".repeat(256)] {
        client.with("idempotency-key", bad).post("/jobs", &body).await.expect(400);
    }
}

#[tokio::test]
async fn a_pending_job_is_cancelled_at_once_and_a_running_one_by_its_runner() {
    let runner = FakeRunner::new(1).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    let client = &coordinator.client;
    let running = client.submit("hold").await;
    client.until_running(&running).await;
    let pending = client.submit("later").await;
    client.until_pending(&pending, "waits for a free slot: 1 of 1 taken on 1 runner").await;

    let cancelled = client.delete(&format!("/jobs/{pending}")).await.expect(200).body;
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(cancelled.get("reason"), None);
    let again = client.delete(&format!("/jobs/{pending}")).await.expect(200).body;
    assert_eq!(again, cancelled);

    let asked = client.delete(&format!("/jobs/{running}")).await.expect(202).body;
    assert!(asked["status"] == "running" || asked["status"] == "cancelled");
    let job = client.end(&running).await;
    assert_eq!((&job["status"], &job["stdout"]), (&json!("cancelled"), &json!("half\n")));
    assert_eq!(runner.lock().taken.len(), 1);
    runner.until_empty().await;
    client.delete("/jobs/00000000-0000-7000-8000-000000000000").await.expect(404);
}

#[tokio::test]
async fn priority_comes_before_age() {
    let runner = FakeRunner::new(1).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    let client = &coordinator.client;
    let first = client.submit("hold").await;
    client.until_running(&first).await;
    let mut ids = Vec::new();
    for (command, priority) in [("echo a", 0), ("echo b", -5), ("echo c", 10), ("echo d", 0)] {
        let body = json!({"command": command, "priority": priority});
        ids.push(client.post("/jobs", &body).await.expect(201).id());
    }
    runner.end("hold", exited(0, ""));
    for id in &ids {
        client.end(id).await;
    }
    let order: Vec<_> = runner.lock().taken.iter().map(|(_, c)| c.clone()).collect();
    assert_eq!(order, ["hold", "echo c", "echo a", "echo d", "echo b"]);
}

#[tokio::test]
async fn lists_page_by_page_and_by_what_is_asked() {
    let runner = FakeRunner::new(4).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    let client = &coordinator.client;
    let mut ids = Vec::new();
    for n in 0..5 {
        let command = if n == 0 { "exit 1" } else { "echo x" };
        let body = json!({"command": command, "labels": {"n": n.to_string()}, "stdin": "in"});
        ids.push(client.post("/jobs?wait=20", &body).await.expect(201).id());
    }
    ids.push(client.submit("hold").await);
    client.until_running(&ids[5]).await;
    ids.reverse();

    let found = |body: &Value| -> Vec<String> {
        let jobs = body["jobs"].as_array().unwrap().iter();
        jobs.map(|job| job["job_id"].as_str().unwrap().into()).collect()
    };
    let all = client.get("/jobs").await.expect(200).body;
    assert_eq!(found(&all), ids);
    assert_eq!(all.get("next"), None);
    for job in all["jobs"].as_array().unwrap() {
        assert_eq!((job.get("stdout"), job.get("stdin")), (None, None), "{job}");
    }
    let (mut seen, mut path) = (Vec::new(), "/jobs?limit=4".to_owned());
    loop {
        let page = client.get(&path).await.expect(200).body;
        seen.extend(found(&page));
        let Some(next) = page["next"].as_str() else {
            break;
        };
        path = format!("/jobs?limit=4&next={next}");
        client.end(&client.submit("echo later").await).await;
    }
    assert_eq!(seen, ids);
    for (query, expected) in [
        ("status=running", vec![ids[0].clone()]),
        ("status=failed&reason=exit_code", vec![ids[5].clone()]),
        ("label=n:3", vec![ids[2].clone()]),
        ("label=n:3&status=pending", vec![]),
    ] {
        let body = client.get(&format!("/jobs?{query}")).await.expect(200).body;
        assert_eq!(found(&body), expected, "{query}");
    }
}

#[tokio::test]
async fn the_queue_is_bounded() {
    let mut config = config(&[]);
    config.max_queue = 2;
    let coordinator = Coordinator::start(config).await;
    let client = &coordinator.client;
    let body = json!({"command": "true"});
    client.with("idempotency-key", "k").post("/jobs", &body).await.expect(201);
    let id = client.submit("true").await;
    let full = client.post("/jobs", &body).await.expect(503);
    assert_eq!(full.headers["retry-after"], "5");
    // What is known already is answered all the same.
    client.with("idempotency-key", "k").post("/jobs", &body).await.expect(200);
    client.delete(&format!("/jobs/{id}")).await.expect(200);
    client.post("/jobs", &body).await.expect(201);
}

#[tokio::test]
async fn what_no_runner_could_ever_hold_is_refused() {
    let runner = FakeRunner::down(1);
    let coordinator = Coordinator::with(&[&runner]).await;
    let client = &coordinator.client;
    let large = json!({"command": "true", "limits": {"cpus": 64, "memory": "1TiB"}});
    // Nobody knows yet what there is.
    client.post("/jobs", &large).await.expect(201);
    runner.up();
    let coordinator = coordinator.ready().await;
    let client = &coordinator.client;
    let problem = client.post("/jobs", &large).await.expect(400).body;
    let pointers: Vec<_> =
        problem["errors"].as_array().unwrap().iter().map(|e| &e["pointer"]).collect();
    assert_eq!(pointers, ["/limits/cpus", "/limits/memory"]);
    let host = json!({"command": "true", "network": "host"});
    let problem = client.post("/jobs", &host).await.expect(400).body;
    assert_eq!(problem["errors"][0]["pointer"], "/network");
    assert_eq!(runner.lock().mood, Mood::Good);
}

#[tokio::test]
async fn a_job_that_is_cancelled_in_its_back_off_says_that_it_ran_before() {
    let runner = FakeRunner::new(1).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    let client = &coordinator.client;
    let body = json!({"command": "exit 3", "retries": 5, "retry_on": ["exit_code"]});
    let id = client.post("/jobs", &body).await.expect(201).id();
    client.until_pending(&id, "to try again").await;
    let job = client.delete(&format!("/jobs/{id}")).await.expect(200).body;
    let (before, now) = (job["attempts"].as_array().unwrap().len(), &job["attempt"]);
    assert_eq!((&job["status"], now), (&json!("cancelled"), &json!(before + 1)));
    let message = job["message"].as_str().unwrap();
    assert!(
        message.ends_with(&format!("before attempt {now} started; attempt {before} ran before")),
        "{message}"
    );
    assert_eq!((job.get("stdout"), job.get("usage")), (None, None));
}
