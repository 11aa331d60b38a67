//! What an operator and a scraper see.

use serde_json::json;

use super::{Coordinator, FakeRunner};

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
        "cloister_queue_depth 0",
        "cloister_store_up 1",
        "cloister_job_ends_total{end=\"completed\"} 1",
        "cloister_job_ends_total{end=\"exit_code\"} 2",
        "cloister_job_ends_total{end=\"cancelled\"} 1",
        "cloister_job_ends_total{end=\"runner_out_of_memory\"} 0",
        "cloister_attempts_repeated_total{reason=\"runner_lost\"} 0",
        "# TYPE cloister_runner_failed_cells_total counter",
        &format!("cloister_runner_failed_cells_total{{runner=\"{}\"}} 0", runner.url()),
        &format!("cloister_runner_up{{runner=\"{}\"}} 1", runner.url()),
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
    assert_eq!(
        Coordinator::with(&[]).await.client.get("/health").await.body["problems"][0],
        "no runner is known"
    );
}
