//! Jobs when services end: on purpose, at once, or without a word.

use std::time::{Duration, Instant};

use cloister_tests::{COMPLETED, Scratch, Service, census, finished, killed, until, verdict};
use nix::sys::signal::Signal;
use serde_json::json;

#[test]
fn what_was_accepted_outlives_the_service() {
    let kept = Scratch::new("kept");
    let data = kept.join("data");
    let (done, blocker, waiting) = {
        let up = Service::up_again(&data, &["--slots", "1"]);
        let client = up.client();
        let done = finished(client, &json!({ "command": "echo kept" }));
        let blocker =
            client.post("/jobs", &json!({ "command": "sleep 300", "timeout": 600 })).json();
        let blocker = blocker["job_id"].as_str().unwrap().to_owned();
        until(client, &blocker, |job| job["status"] == "running");
        let headers = [("content-type", "application/json"), ("idempotency-key", "k2")];
        let waiting = client.post_with("/jobs", &headers, br#"{"command": "echo later"}"#);
        assert_eq!(waiting.status, 201);
        up.signal(Signal::SIGKILL);
        (done, blocker, waiting.json()["job_id"].as_str().unwrap().to_owned())
    };
    let up = Service::up_again(&data, &["--slots", "1", "--lease", "5s"]);
    let client = up.client();
    let id = done["job_id"].as_str().unwrap();
    assert_eq!(client.get(&format!("/jobs/{id}")).json(), done);
    let later = until(client, &waiting, |job| job["status"] == "completed");
    assert_eq!(later["stdout"], "later\n");
    let headers = [("content-type", "application/json"), ("idempotency-key", "k2")];
    let again = client.post_with("/jobs", &headers, br#"{"command": "echo later"}"#);
    assert_eq!((again.status, again.json()["job_id"].as_str()), (200, Some(waiting.as_str())));
    // The one that ran when the machine went dark is told as what it is.
    let lost = until(client, &blocker, |job| job["status"] == "failed");
    assert_eq!(lost["reason"], "runner_lost", "{lost}");
}

#[test]
fn a_runner_that_is_down_is_waited_for() {
    let runner = Service::runner(&["--slots", "2"]);
    let address = runner.client().base().to_owned();
    let coordinator = Service::coordinator(&address, &[]);
    let client = coordinator.client();
    assert_eq!(verdict(&finished(client, &json!({ "command": "true" }))), COMPLETED);
    drop(runner);
    let job = client.post("/jobs", &json!({ "command": "echo back" })).json();
    let id = job["job_id"].as_str().unwrap();
    until(client, id, |job| {
        let why = job["pending_reason"].as_str().unwrap_or_default();
        job["status"] == "pending" && why.contains(&address) && why.contains("refused")
    });
    let health = client.get("/health");
    assert_eq!(health.status, 200);
    assert!(health.text().contains(&address), "{}", health.text());
    let listen = address.trim_start_matches("http://");
    let _again = Service::runner_at(listen, &["--slots", "2"]);
    let job = until(client, id, |job| job["status"] == "completed");
    assert_eq!(job["stdout"], "back\n");
}

#[test]
fn a_drain_finishes_what_runs_and_keeps_what_waits() {
    let mut up = Service::up(&["--slots", "1"]);
    let client = up.client().clone();
    let submit = |command: &str| {
        client.post("/jobs", &json!({ "command": command })).json()["job_id"].clone()
    };
    let running = submit("sleep 1; echo done");
    let waiting = submit("true");
    until(&client, running.as_str().unwrap(), |job| job["status"] == "running");
    up.signal(Signal::SIGINT);
    let end = Instant::now() + Duration::from_secs(5);
    while client.get("/ready").status != 503 {
        assert!(Instant::now() < end, "it does not say that it drains");
    }
    let refused = client.post("/jobs", &json!({ "command": "true" }));
    assert_eq!((refused.status, refused.header("retry-after").is_empty()), (503, false));
    assert_eq!(client.get("/health").status, 200);
    assert!(up.wait(Duration::from_secs(20)).success());
    let kept = up.data().to_owned();
    let again = Service::up_again(&kept, &["--slots", "1"]);
    let client = again.client();
    let job = until(client, running.as_str().unwrap(), |job| job["status"] == "completed");
    assert_eq!(job["stdout"], "done\n");
    until(client, waiting.as_str().unwrap(), |job| job["status"] == "completed");
}

#[test]
fn a_second_signal_ends_it_at_once_and_its_jobs_are_told_as_killed() {
    let mut up = Service::up(&["--slots", "1"]);
    let submit = |command: &str| {
        let job = up.client().post("/jobs", &json!({ "command": command, "timeout": 600 })).json();
        job["job_id"].as_str().unwrap().to_owned()
    };
    let (id, waits) = (submit("echo begun; sleep 98768"), submit("echo later"));
    until(up.client(), &id, |job| job["status"] == "running");
    up.signal(Signal::SIGINT);
    let end = Instant::now() + Duration::from_secs(5);
    while up.client().get("/ready").status != 503 {
        assert!(Instant::now() < end, "it does not say that it drains");
    }
    up.signal(Signal::SIGINT);
    assert!(up.wait(Duration::from_secs(4)).success());
    assert!(census::gone("sleep 98768", Duration::from_secs(1)));
    let again = Service::up_again(up.data(), &["--slots", "1"]);
    let job = again.client().get(&format!("/jobs/{id}")).json();
    assert_eq!(verdict(&job), killed("runner_lost"), "{job}");
    let message = job["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("it was killed at shutdown: "), "{job}");
    assert_eq!(job["stdout"], "begun\n");
    let job = until(again.client(), &waits, |job| job["status"] == "completed");
    assert_eq!(job["stdout"], "later\n", "what waited is run by the next one");
}

#[test]
fn what_outlasts_the_grace_time_is_told_as_that() {
    let mut up = Service::up(&["--slots", "1", "--grace", "500ms"]);
    let job = up
        .client()
        .post("/jobs", &json!({ "command": "echo begun; sleep 98771", "timeout": 600 }))
        .json();
    let id = job["job_id"].as_str().unwrap().to_owned();
    until(up.client(), &id, |job| job["status"] == "running");
    let began = Instant::now();
    up.signal(Signal::SIGTERM);
    assert!(up.wait(Duration::from_secs(5)).success());
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(census::gone("sleep 98771", Duration::from_secs(1)));
    let kept = up.data().to_owned();
    let again = Service::up_again(&kept, &["--slots", "1"]);
    let job = again.client().get(&format!("/jobs/{id}")).json();
    assert_eq!((&job["reason"], &job["exit_code"]), (&json!("runner_lost"), &json!(137)), "{job}");
    assert_eq!(job["stdout"], "begun\n");
}
