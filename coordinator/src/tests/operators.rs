//! What an operator and a scraper see.

use http::Method;
use serde_json::json;

use super::{Coordinator, FakeRunner, client::Client};

#[tokio::test]
async fn the_metrics_have_the_names_of_the_contract() {
    let runner = FakeRunner::new(2).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    let client = &coordinator.client;
    for command in ["echo a", "exit 2", "exit 3"] {
        client.post("/jobs?wait=20", &json!({"command": command})).await.expect(201);
    }
    let hold = client.submit("hold").await;
    client.until_running(&hold).await;
    client.delete(&format!("/jobs/{hold}")).await.expect(202);
    client.end(&hold).await;
    let text = client.get("/metrics").await.expect(200).text;
    for line in [
        "jobs_total 4",
        "jobs_completed_total 1",
        "jobs_failed_total 2",
        "job_runtime_seconds_count 4",
        "cloister_job_duration_seconds_count 4",
        "cloister_job_duration_seconds_bucket{le=\"60\"} 4",
        "cloister_queue_depth 0",
        "cloister_queue_size_bytes 0",
        "cloister_store_up 1",
        "cloister_job_ends_total{end=\"completed\"} 1",
        "cloister_job_ends_total{end=\"exit_code\"} 2",
        "cloister_job_ends_total{end=\"cancelled\"} 1",
        "cloister_job_ends_total{end=\"runner_out_of_memory\"} 0",
        "cloister_attempts_repeated_total{reason=\"runner_lost\"} 0",
        "# TYPE cloister_runner_failed_cells_total counter",
        &format!("cloister_runner_failed_cells_total{{runner=\"{}\"}} 0", runner.url()),
        &format!("cloister_runner_up{{runner=\"{}\"}} 1", runner.url()),
        &format!("cloister_runner_breaker_state{{runner=\"{}\"}} 0", runner.url()),
        &format!("cloister_runner_drained{{runner=\"{}\"}} 0", runner.url()),
        "cloister_leader 1",
        "cloister_leader_changes_total 1",
        "cloister_epoch 1",
        "cloister_paused 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    assert!(!text.contains("=\"\""), "a label without a value: {text}");
    let own = |line: &&str| !line.starts_with('#') && !line.starts_with("cloister_");
    for line in text.lines().filter(own) {
        assert!(line.starts_with("job"), "{line}");
    }
}

#[tokio::test]
async fn health_and_runners_tell_what_is_wrong() {
    let (up, down) = (FakeRunner::new(2).await, FakeRunner::down(1));
    let coordinator = Coordinator::with(&[&up, &down]).await;
    let client = &coordinator.client;
    let told = |body: &serde_json::Value| {
        body["runners"] == json!({"known": 2, "up": 1})
            && body["problems"][0].as_str().is_some_and(|p| p.contains("refused"))
    };
    let health = client.until("/health", |_, health| told(health)).await;
    assert_eq!(health["status"], "degraded");
    assert!(health["problems"][0].as_str().unwrap().starts_with(&down.url()));
    let runners = client.get("/runners").await.expect(200).body;
    let of = |url: String| {
        let found = runners["runners"].as_array().unwrap().iter();
        found.clone().find(|runner| runner["url"] == url).unwrap().clone()
    };
    assert_eq!(of(up.url())["health"]["slots"]["total"], 2);
    assert_eq!(of(down.url())["up"], false);
    client.get("/ready").await.expect(200);
    let alone = Coordinator::with(&[]).await;
    let told = |health: &serde_json::Value| health["problems"] == json!(["no runner is known"]);
    alone.client.until("/health", |_, health| told(health)).await;
}

/// The value of a gauge or counter.
async fn metric(client: &Client, name: &str) -> f64 {
    let text = client.get("/metrics").await.expect(200).text;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

#[tokio::test]
async fn the_size_of_the_store_is_told() {
    let coordinator = Coordinator::with(&[]).await;
    // It is looked at every now and then.
    let told = async {
        while metric(&coordinator.client, "cloister_store_size_bytes").await < 1.0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(super::SOON, told).await.expect("a size in time");
}

#[tokio::test]
async fn an_operator_drains_a_runner_and_takes_it_back() {
    let (kept, drained) = (FakeRunner::new(4).await, FakeRunner::new(4).await);
    let coordinator = Coordinator::with(&[&kept, &drained]).await;
    let client = &coordinator.client;
    let order = json!({"runner": drained.url()});
    let answer = client.post("/runners/drain", &order).await.expect(200).body;
    assert_eq!((&answer["url"], &answer["drained"]), (&drained.url().into(), &true.into()));
    assert!(answer["trouble"].as_str().unwrap().contains("drained by an operator"), "{answer}");
    for _ in 0..4 {
        let id = client.submit("hold").await;
        assert_eq!(client.until_running(&id).await["runner"], kept.url());
    }
    let waits = client.submit("hold").await;
    let job = client.get(&format!("/jobs/{waits}")).await.expect(200).body;
    let why = job["pending_reason"].as_str().unwrap();
    assert_eq!(why, "waits for a free slot: 4 of 4 taken on 1 runner");
    let name = format!("cloister_runner_drained{{runner=\"{}\"}}", drained.url());
    assert!((metric(client, &name).await - 1.0).abs() < 0.1);

    // It outlives the process.
    let coordinator = coordinator.crash_and_restart().await.ready().await;
    let client = &coordinator.client;
    let of = |list: &serde_json::Value| {
        let found = list["runners"].as_array().unwrap().iter();
        found.clone().find(|runner| runner["url"] == drained.url()).cloned().unwrap()
    };
    let list = client.until("/runners", |_, list| of(list)["drained"] == true).await;
    assert_eq!((&of(&list)["breaker"], &of(&list)["up"]), (&"closed".into(), &true.into()));

    let answer = client.post("/runners/resume", &order).await.expect(200).body;
    assert_eq!((&answer["drained"], answer.get("trouble")), (&false.into(), None));
    assert_eq!(client.until_running(&waits).await["runner"], drained.url());
}

#[tokio::test]
async fn what_names_no_runner_is_refused_unless_it_is_drained() {
    let runner = FakeRunner::new(1).await;
    let mut coordinator = Coordinator::with(&[&runner]).await;
    let client = &coordinator.client;
    for path in ["/runners/drain", "/runners/resume"] {
        let answer = client.post(path, &json!({"runner": "http://nobody:1"})).await.expect(404);
        assert!(answer.body["detail"].as_str().unwrap().contains("http://nobody:1"));
        client.post(path, &json!({"runer": runner.url()})).await.expect(400);
        client.post(path, &json!({})).await.expect(400);
        client.send(Method::POST, path, "").await.expect(400);
        let plain = client.with("content-type", "text/plain");
        plain.post(path, &json!({"runner": runner.url()})).await.expect(415);
        client.get(path).await.expect(405);
        client.post(&format!("{path}?x=1"), &json!({})).await.expect(400);
    }
    // A runner that is drained and gone can be resumed, and is nobody then.
    let gone = json!({"runner": runner.url()});
    client.post("/runners/drain", &gone).await.expect(200);
    coordinator.config.runner_urls.clear();
    let coordinator = coordinator.crash_and_restart().await;
    let client = &coordinator.client;
    let listed = |list: &serde_json::Value| list["runners"][0]["drained"] == true;
    let list = client.until("/runners", |_, list| listed(list)).await;
    assert_eq!(list["runners"][0]["listed"], false);
    let answer = client.post("/runners/resume", &gone).await.expect(200).body;
    assert_eq!(answer["drained"], false);
    client.post("/runners/resume", &gone).await.expect(404);
    assert_eq!(client.get("/runners").await.body["runners"], json!([]));
}

#[tokio::test]
async fn an_operator_trusts_the_clock() {
    let coordinator = Coordinator::with(&[]).await;
    let client = &coordinator.client;
    let answer = client.send(Method::POST, "/retention/resume", "").await.expect(200).body;
    assert_eq!(answer, json!({"held": false}));
    client.post("/retention/resume", &json!({"held": true})).await.expect(400);
    client.post("/retention/resume?x=1", &json!({})).await.expect(400);
    client.get("/retention/resume").await.expect(405);
}

#[tokio::test]
async fn an_operator_pauses_everything_and_goes_on() {
    let runner = FakeRunner::new(2).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    let client = &coordinator.client;
    client.post("/pause", &json!({"why": "x"})).await.expect(400);
    client.post("/resume", &json!({"reason": "x"})).await.expect(400);
    let answer = client.post("/pause", &json!({"reason": "new disks"})).await.expect(200).body;
    assert_eq!(answer, json!({"paused": true, "reason": "new disks"}));
    let id = client.submit("hold").await;
    let job = client.get(&format!("/jobs/{id}")).await.expect(200).body;
    let why = job["pending_reason"].as_str().unwrap();
    assert_eq!(why, "nothing is dispatched: new disks; `cloister resume` ends that");
    assert!((metric(client, "cloister_paused").await - 1.0).abs() < 0.1);
    assert_eq!(client.get("/health").await.body["paused"], "new disks");

    // Without a body, as by curl, and without its type.
    let bare = client.with("content-type", "text/plain");
    let answer = bare.send(Method::POST, "/pause", "").await.expect(200).body;
    assert_eq!(answer, json!({"paused": true, "reason": "an operator paused it"}));
    let answer = bare.send(Method::POST, "/resume", "").await.expect(200).body;
    assert_eq!(answer, json!({"paused": false}));
    client.until_running(&id).await;
}
