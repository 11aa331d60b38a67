//! Many jobs in one request: all of them or none.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use cloister_tests::Lines;
use http::Method;
use serde_json::{Value, json};

use super::{Coordinator, FakeRunner, client::Client, config, runner::exited, trouble::Disk};
use crate::store::{Store, gated::Gated, tests::Folder};

fn of(commands: &[&str]) -> Value {
    let jobs: Vec<_> = commands.iter().map(|command| json!({ "command": command })).collect();
    json!({ "jobs": jobs })
}

fn many(count: usize) -> Value {
    of(&vec!["echo x"; count])
}

fn ids(answer: &Value) -> Vec<String> {
    let jobs = answer["jobs"].as_array().unwrap().iter();
    jobs.map(|job| job["job_id"].as_str().unwrap().into()).collect()
}

async fn count(client: &Client) -> usize {
    client.get("/jobs").await.expect(200).body["jobs"].as_array().unwrap().len()
}

#[tokio::test]
async fn all_are_answered_in_their_order_and_run() {
    let runner = FakeRunner::new(1).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    let client = &coordinator.client;
    let first = client.submit("hold").await;
    client.until_running(&first).await;
    let body = json!({"jobs": [
        {"command": "echo a", "labels": {"k": "v"}, "stdin": "in"},
        {"command": "echo b", "priority": 5, "timeout": "5s"},
        {"command": "echo c", "limits": {"pids": 9}},
    ]});
    let answer = client.post("/jobs/batch", &body).await.expect(201).body;
    assert_eq!(answer.get("next"), None);
    let jobs = answer["jobs"].as_array().unwrap();
    assert_eq!(jobs.len(), 3);
    let asked = |at: usize, pointer: &str| jobs[at].pointer(pointer).unwrap();
    assert_eq!(asked(0, "/command"), "echo a");
    assert_eq!((asked(0, "/labels/k"), asked(0, "/stdin")), (&json!("v"), &json!("in")));
    assert_eq!((asked(1, "/priority"), asked(1, "/timeout")), (&json!(5), &json!(5)));
    assert_eq!((asked(2, "/limits/pids"), asked(2, "/timeout")), (&json!(9), &json!(30)));
    for job in jobs {
        assert_eq!(job["status"], "pending", "{job}");
        assert!(job["pending_reason"].is_string(), "{job}");
        let id = job["job_id"].as_str().unwrap();
        assert_eq!(&client.get(&format!("/jobs/{id}")).await.expect(200).body, job);
    }
    assert!(ids(&answer).is_sorted(), "the first is the oldest");
    runner.end("hold", exited(0, ""));
    for (id, printed) in ids(&answer).iter().zip(["a\n", "b\n", "c\n"]) {
        assert_eq!(client.end(id).await["stdout"], printed);
    }
    let order: Vec<_> = runner.lock().taken.iter().map(|(_, c)| c.clone()).collect();
    assert_eq!(order[..3], ["hold", "echo b", "echo a"]);
    runner.until_empty().await;
}

#[tokio::test]
async fn one_that_is_invalid_refuses_all_and_is_named() {
    let coordinator = Coordinator::with(&[]).await;
    let client = &coordinator.client;
    for (body, pointer) in [
        (r#"{"jobs": [{"command": "a"}, {"command": "b", "timeout": -1}]}"#, "/jobs/1/timeout"),
        (r#"{"jobs": [{"command": "a"}, {"command": "b"}, {}]}"#, "/jobs/2/command"),
        (r#"{"jobs": [{"command": "a", "tiemout": 1}]}"#, "/jobs/0/tiemout"),
        (r#"{"jobs": [{"command": "a"}], "dry": true}"#, "/dry"),
        (r#"{"jobs": []}"#, "/jobs"),
        (&many(1001).to_string(), "/jobs"),
        (r#"{"command": "a"}"#, "/jobs"),
        (r#"[{"command": "a"}]"#, ""),
        ("", ""),
    ] {
        let answer = client.send(Method::POST, "/jobs/batch", body.to_owned()).await.expect(400);
        let pointers = answer.body["errors"].as_array().unwrap().iter().map(|e| &e["pointer"]);
        assert!(pointers.clone().any(|found| found == pointer), "{body}: {}", answer.text);
    }
    let large = json!({"jobs": [{"command": "a", "stdin": "x".repeat(17 << 20)}]});
    client.post("/jobs/batch", &large).await.expect(413);
    client.with("content-type", "text/plain").post("/jobs/batch", &many(1)).await.expect(415);
    client.post("/jobs/batch?wait=1", &many(1)).await.expect(400);
    client.get("/jobs/batch").await.expect(405);
    assert_eq!(count(client).await, 0);
}

#[tokio::test]
async fn one_that_no_runner_could_ever_hold_refuses_all() {
    let runner = FakeRunner::new(1).await;
    let coordinator = Coordinator::with(&[&runner]).await.ready().await;
    let client = &coordinator.client;
    let body = json!({"jobs": [
        {"command": "hold"}, {"command": "true", "limits": {"memory": "1TiB"}}, {"command": "true"},
    ]});
    let refused = client.post("/jobs/batch", &body).await.expect(400);
    assert_eq!(refused.body["errors"][0]["pointer"], "/jobs/1/limits/memory", "{}", refused.text);
    assert_eq!(count(client).await, 0);
}

#[tokio::test]
async fn all_have_a_place_in_the_queue_or_none() {
    let mut config = config(&[]);
    config.max_queue = 4;
    let coordinator = Coordinator::start(config).await;
    let client = &coordinator.client;
    let known = client.with("idempotency-key", "k");
    let made = known.post("/jobs/batch", &many(2)).await.expect(201).body;
    let full = client.post("/jobs/batch", &many(3)).await.expect(503);
    assert_eq!(full.headers["retry-after"], "5");
    assert!(full.text.contains("2 jobs wait"), "{}", full.text);
    // What was promised to those that fitted is free again.
    client.post("/jobs/batch", &many(2)).await.expect(201);
    client.post("/jobs", &json!({"command": "true"})).await.expect(503);
    // What is known already is answered all the same.
    assert_eq!(ids(&known.post("/jobs/batch", &many(2)).await.expect(200).body), ids(&made));
    let never = client.post("/jobs/batch", &many(5)).await.expect(400);
    assert!(never.text.contains("--max-queue"), "{}", never.text);
    client.delete(&format!("/jobs/{}", ids(&made)[0])).await.expect(200);
    client.post("/jobs/batch", &many(1)).await.expect(201);
    assert_eq!(count(client).await, 5);
}

#[tokio::test]
async fn a_restart_finds_all_of_them() {
    let coordinator = Coordinator::with(&[]).await;
    let key = |c: &Coordinator| c.client.with("idempotency-key", "k-1");
    let made = key(&coordinator).post("/jobs/batch", &many(1000)).await.expect(201).body;
    assert_eq!(ids(&made).len(), 1000);
    let runner = FakeRunner::new(4).await;
    let mut coordinator = coordinator;
    coordinator.config.runner_urls = vec![runner.url()];
    let coordinator = coordinator.crash_and_restart().await;
    let client = &coordinator.client;
    let again = key(&coordinator).post("/jobs/batch", &many(1000)).await.expect(200).body;
    assert_eq!(ids(&again), ids(&made));
    for id in ids(&made) {
        assert_eq!(client.end(&id).await["status"], "completed");
    }
    assert_eq!(runner.lock().taken.len(), 1000, "each exactly once");
    // Nor are they made again by another request, together or alone.
    key(&coordinator).post("/jobs/batch", &many(999)).await.expect(422);
    key(&coordinator).post("/jobs", &json!({"command": "true"})).await.expect(422);
    let again = key(&coordinator).post("/jobs/batch", &many(1000)).await.expect(200).body;
    let last = &again["jobs"][999];
    assert_eq!((&last["status"], last.get("stdout")), (&json!("completed"), None));
}

#[tokio::test]
async fn what_the_store_does_not_take_leaves_nothing_behind() {
    let mut config = config(&[]);
    config.max_queue = 3;
    let full = Arc::new(AtomicBool::new(false));
    let wrap = |inner| -> Arc<dyn Store> { Arc::new(Gated { inner, gate: Disk(full.clone()) }) };
    let coordinator = Coordinator::start_in(config, Arc::new(Folder::new()), wrap).await;
    let client = &coordinator.client;
    full.store(true, Ordering::SeqCst);
    let refused = client.post("/jobs/batch", &many(3)).await.expect(503);
    assert!(refused.headers.contains_key("retry-after"));
    assert!(refused.text.contains("disk is full"), "{}", refused.text);
    full.store(false, Ordering::SeqCst);
    client.until("/ready", |status, _| status == 200).await;
    assert_eq!(count(client).await, 0);
    client.post("/jobs/batch", &many(3)).await.expect(201);
}

#[tokio::test]
async fn each_is_counted_and_recorded() {
    let (lines, _guard) = Lines::listen();
    let coordinator = Coordinator::with(&[]).await;
    let client = &coordinator.client;
    client.post("/jobs/batch", &json!({"jobs": [{}]})).await.expect(400);
    let answer = client.post("/jobs/batch", &of(&["true", "false"])).await.expect(201).body;
    let audited: Vec<_> = lines
        .all("audit")
        .iter()
        .map(|line| (line["action"].clone(), line["status"].clone(), line.get("job_id").cloned()))
        .collect();
    let line = |status: &str, job: Option<&String>| ("submit".into(), status.into(), job.cloned());
    let made = ids(&answer);
    let expected = [line("400", None), line("201", made.first()), line("201", made.get(1))];
    assert_eq!(audited, expected);
    let accepted: Vec<_> =
        lines.all("job accepted").iter().map(|line| line["job_id"].clone()).collect();
    assert_eq!(accepted, made);
    let metrics = client.get("/metrics").await.expect(200).text;
    assert!(metrics.lines().any(|line| line == "jobs_total 2"), "{metrics}");
}
