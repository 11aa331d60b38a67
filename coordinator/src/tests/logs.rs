//! What an operator finds in the log of a job: by whom, where and as what it was run.

use cloister_tests::Lines;

use super::{Coordinator, FakeRunner};

#[tokio::test]
async fn the_lines_of_a_job_name_its_runner_and_its_execution() {
    let (lines, _guard) = Lines::listen();
    let runner = FakeRunner::new(1).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    let client = &coordinator.client;
    let id = client.submit("echo x").await;
    client.end(&id).await;
    let execution = runner.lock().taken[0].0.to_string();
    for message in ["job is handed to a runner", "job ended"] {
        let line = lines.line(message);
        assert_eq!((&line["job_id"], &line["attempt"]), (&id, &"1".into()), "{line:?}");
        assert_eq!((&line["runner"], &line["execution_id"]), (&runner.url(), &execution));
        assert!(!line.contains_key("reason") && line.values().all(|v| !v.is_empty()), "{line:?}");
    }
}

#[tokio::test]
async fn a_job_that_no_runner_had_names_none() {
    let (lines, _guard) = Lines::listen();
    let coordinator = Coordinator::with(&[]).await;
    let client = &coordinator.client;
    let id = client.submit("true").await;
    client.delete(&format!("/jobs/{id}")).await.expect(200);
    let line = lines.line("job ended");
    assert_eq!(line["status"], "cancelled");
    for absent in ["runner", "execution_id", "reason", "runtime_ms"] {
        assert!(!line.contains_key(absent), "{line:?}");
    }
}

/// However many of its attempts ask for it, and however often.
#[tokio::test]
async fn a_runner_that_is_gone_is_warned_of_once() {
    let (lines, _guard) = Lines::listen();
    let runner = FakeRunner::new(3).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    let client = &coordinator.client;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(client.submit("hold").await);
    }
    for id in &ids {
        client.until_running(id).await;
    }
    runner.go_down().await;
    for id in &ids {
        assert_eq!(client.end(id).await["reason"], "runner_lost");
    }
    let warned = lines.all("lost touch with the attempts of a runner; asking it");
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert_eq!(warned[0]["runner"], runner.url());
    assert!(lines.all("lost touch with an attempt; asking its runner").len() > 3);

    // The next time is another one.
    runner.up();
    let id = client.submit("hold").await;
    client.until_running(&id).await;
    runner.go_down().await;
    client.end(&id).await;
    assert_eq!(lines.all("lost touch with the attempts of a runner; asking it").len(), 2);
}
