//! Clocks that are wrong.

use cloister_api::Outcome;
use cloister_tests::Lines;
use serde_json::json;

use super::{Coordinator, FakeRunner, runner::exited};

const DAY: i64 = 86_400_000;

#[tokio::test]
async fn the_skew_of_each_runner_is_told_and_an_extreme_one_is_refused() {
    let (lines, _guard) = Lines::listen();
    let (right, wrong) = (FakeRunner::new(1).await, FakeRunner::new(4).await);
    wrong.set(|inner| inner.skew = -8 * DAY);
    let coordinator = Coordinator::with(&[&right, &wrong]).await.ready().await;
    let client = &coordinator.client;
    let of = |list: &serde_json::Value, runner: &FakeRunner| {
        let found = list["runners"].as_array().unwrap().iter();
        found.clone().find(|found| found["url"] == runner.url()).cloned().unwrap()
    };
    let list = client.get("/runners").await.expect(200).body;
    let (good, bad) = (of(&list, &right), of(&list, &wrong));
    for (runner, skew) in [(&good, 0), (&bad, -8 * DAY)] {
        let uncertainty = runner["clock_uncertainty_ms"].as_i64().unwrap();
        let off = runner["clock_skew_ms"].as_i64().unwrap() - skew;
        assert!((0..20_000).contains(&uncertainty) && off.abs() <= uncertainty + 1, "{runner}");
    }
    assert_eq!(good.get("trouble"), None);
    let trouble = bad["trouble"].as_str().unwrap();
    assert!(trouble.contains("behind the coordinator's, by more than 15 min"), "{trouble}");
    let line = lines.line("a runner's clock is off: it gets nothing");
    assert_eq!((&line["runner"], line["why"].as_str()), (&wrong.url(), trouble));
    let health = client.get("/health").await.expect(200).body;
    assert!(health["problems"].as_array().unwrap().contains(&json!(trouble)), "{health}");
    let metrics = client.get("/metrics").await.expect(200).text;
    let name = format!("cloister_runner_clock_skew_seconds{{runner=\"{}\"}} -", wrong.url());
    assert!(metrics.contains(&name), "{metrics}");

    let first = client.submit("hold 1").await;
    client.until_running(&first).await;
    let waits = client.submit("hold 2").await;
    client.until_pending(&waits, "1 of 1 taken on 1 runner").await;
    assert!(wrong.lock().taken.is_empty());
    wrong.set(|inner| inner.skew = 60_000);
    assert_eq!(client.until_running(&waits).await["runner"], wrong.url());
    lines.line("a runner's clock is right again");
}

#[tokio::test]
async fn a_clock_that_differs_from_all_runners_is_the_coordinators() {
    let runners = [FakeRunner::new(1).await, FakeRunner::new(1).await];
    for runner in &runners {
        runner.set(|inner| inner.skew = 8 * DAY);
    }
    let coordinator = Coordinator::with(&[&runners[0], &runners[1]]).await.ready().await;
    let client = &coordinator.client;
    client.end(&client.submit("echo x").await).await;
    let health = client.get("/health").await.expect(200).body;
    let problem = health["problems"][0].as_str().unwrap();
    assert!(problem.contains("behind those of all its runners"), "{problem}");
}

#[tokio::test]
async fn a_runners_clock_does_not_count_how_long_a_job_took() {
    let runner = FakeRunner::new(1).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    let client = &coordinator.client;
    let id = client.submit("hold").await;
    client.until_running(&id).await;
    let mut outcome: Outcome = exited(0, "");
    outcome.finished_at.0 += 8 * DAY;
    runner.end("hold", outcome);
    client.end(&id).await;
    let metrics = client.get("/metrics").await.expect(200).text;
    let line = "cloister_job_duration_seconds_bucket{le=\"60\"} 1";
    assert!(metrics.lines().any(|found| found == line), "{metrics}");
}
