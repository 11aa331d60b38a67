//! The platform on one machine, as `cloister up` starts it, used over HTTP.

use std::{thread, time::Duration};

use cloister_tests::{COMPLETED, Client, Service, census, finished, until, verdict};
use serde_json::{Value, json};

#[test]
fn hello_world() {
    let up = Service::up(&[]);
    let client = up.client();
    let posted = client.post("/jobs", &json!({ "command": "echo hello world" }));
    assert_eq!(posted.status, 201);
    let id = posted.json()["job_id"].as_str().unwrap().to_owned();
    assert_eq!(posted.header("location"), format!("/jobs/{id}"));
    assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 7);
    let job = client.get(&format!("/jobs/{id}?wait=10")).json();
    assert_eq!((verdict(&job), &job["stdout"]), (COMPLETED, &json!("hello world\n")));
    assert!(job["runtime_ms"].as_f64().unwrap() > 0.0, "{job}");
    assert!(job["usage"]["cpu_ms"].as_f64().unwrap() > 0.0, "{job}");
    assert!(job["usage"]["memory_peak_bytes"].as_u64().unwrap() > 0, "{job}");
    // Absent, never null.
    assert!(!serde_json::to_string(&job).unwrap().contains("null"), "{job}");
    for field in ["created_at", "started_at", "finished_at"] {
        let text = job[field].as_str().unwrap();
        assert!(text.len() == 24 && text.ends_with('Z'), "{field}: {text}");
    }
}

#[test]
fn every_kind_of_end_comes_through() {
    let up = Service::up(&["--slots", "4"]);
    let client = up.client();
    for (request, status, reason) in [
        (json!({ "command": "exit 3" }), "failed", Some("exit_code")),
        (json!({ "command": "kill -SEGV $$" }), "failed", Some("signal")),
        (json!({ "command": "sleep 60", "timeout": "300ms" }), "failed", Some("timeout")),
        (
            json!({ "argv": ["/usr/bin/python3", "-c", "x = bytearray(1 << 28)"], "limits": { "memory": "32MiB" } }),
            "failed",
            Some("out_of_memory"),
        ),
        (
            json!({ "command": "while :; do :; done", "limits": { "cpu_time": 0.2 } }),
            "failed",
            Some("cpu_time"),
        ),
        (json!({ "command": "true" }), "completed", None),
    ] {
        let job = finished(client, &request);
        assert_eq!(
            (job["status"].as_str(), job["reason"].as_str()),
            (Some(status), reason),
            "{job}"
        );
    }
    let metrics = client.get("/metrics").text();
    for line in [
        "jobs_total 6",
        "jobs_completed_total 1",
        "jobs_failed_total 5",
        "job_runtime_seconds_count 6",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} in {metrics}");
    }
    let metrics = up.runner_client().get("/metrics").text();
    for line in ["executions_total 6", "executions_success_total 1", "executions_failed_total 5"] {
        assert!(metrics.lines().any(|l| l == line), "{line} in {metrics}");
    }
}

#[test]
fn cancelling_says_what_it_did() {
    let up = Service::up(&["--slots", "1"]);
    let client = up.client();
    let submit = |command: &str| {
        let job = client.post("/jobs", &json!({ "command": command, "timeout": 300 })).json();
        job["job_id"].as_str().unwrap().to_owned()
    };
    let running = submit("sleep 98767");
    let pending = submit("true");
    until(client, &running, |job| job["status"] == "running");
    let waits = client.get(&format!("/jobs/{pending}")).json();
    assert_eq!(waits["status"], "pending");
    assert!(waits["pending_reason"].as_str().unwrap().contains("slot"), "{waits}");
    assert_eq!(client.delete(&format!("/jobs/{pending}")).status, 200);
    assert_eq!(client.delete(&format!("/jobs/{running}")).status, 202);
    let job = until(client, &running, |job| job["status"] == "cancelled");
    assert_eq!(client.get(&format!("/jobs/{pending}")).json()["status"], "cancelled");
    assert!(census::gone("sleep 98767", Duration::from_secs(2)));
    // What has ended stays as it is.
    let again = client.delete(&format!("/jobs/{running}"));
    assert_eq!((again.status, again.json()), (200, job));
    assert_eq!(client.delete("/jobs/00000000-0000-7000-8000-000000000000").status, 404);
    let metrics = client.get("/metrics").text();
    assert!(
        metrics.contains("jobs_failed_total 0"),
        "cancelled is neither failed nor completed: {metrics}"
    );
}

#[test]
fn the_same_key_is_the_same_job() {
    let up = Service::up(&[]);
    let headers = [("content-type", "application/json"), ("idempotency-key", "k1")];
    let post = |client: &Client, body: &str| client.post_with("/jobs", &headers, body.as_bytes());
    let first = post(up.client(), r#"{"command": "echo once", "timeout": 30}"#);
    assert_eq!(first.status, 201);
    let id = first.json()["job_id"].clone();
    let second = post(up.client(), r#"{"timeout": 30, "command": "echo once"}"#);
    assert_eq!((second.status, &second.json()["job_id"]), (200, &id));
    assert_eq!(post(up.client(), r#"{"command": "echo twice"}"#).status, 422);
}

#[test]
fn jobs_take_turns_by_priority_and_age() {
    let up = Service::up(&["--slots", "1"]);
    let client = up.client();
    let submit = |command: &str, priority: i32| {
        let job = client.post("/jobs", &json!({ "command": command, "priority": priority })).json();
        job["job_id"].as_str().unwrap().to_owned()
    };
    let first = submit("sleep 0.7", 0);
    until(client, &first, |job| job["status"] == "running");
    let expected = [submit("true", 5), submit("true", 5), submit("true", 0)];
    let late = [submit("true", -1), submit("true", 9)];
    let order = [&late[1], &expected[0], &expected[1], &expected[2], &late[0]];
    let started: Vec<String> = order
        .into_iter()
        .map(|id| {
            until(client, id, |job| job["status"] == "completed")["started_at"]
                .as_str()
                .unwrap()
                .into()
        })
        .collect();
    assert!(started.is_sorted(), "{started:?}");
}

#[test]
fn lists_go_page_by_page() {
    let up = Service::up(&["--slots", "4"]);
    let client = up.client();
    let mut ids: Vec<String> = (0..7)
        .map(|i| {
            finished(client, &json!({ "command": format!("exit {}", i % 2) }))["job_id"]
                .as_str()
                .unwrap()
                .into()
        })
        .collect();
    ids.reverse();
    let mut seen = Vec::new();
    let mut path = "/jobs?limit=3".to_owned();
    loop {
        let page = client.get(&path).json();
        for job in page["jobs"].as_array().unwrap() {
            assert!(job.get("stdout").is_none(), "{job}");
            seen.push(job["job_id"].as_str().unwrap().to_owned());
        }
        match page["next"].as_str() {
            Some(next) => path = format!("/jobs?limit=3&next={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ids);
    let failed = client.get("/jobs?status=failed").json();
    assert_eq!(failed["jobs"].as_array().unwrap().len(), 3);
    for path in ["/jobs?limit=0", "/jobs?limit=101", "/jobs?next=nonsense", "/jobs?stauts=failed"] {
        assert_eq!(client.get(path).status, 400, "{path}");
    }
}

#[test]
fn many_jobs_all_come_out_right() {
    const JOBS: usize = 300;
    let up = Service::up(&["--slots", "8"]);
    thread::scope(|scope| {
        for worker in 0..16 {
            let client = up.client().clone();
            scope.spawn(move || {
                for i in (worker..JOBS).step_by(16) {
                    let job = finished(
                        &client,
                        &json!({ "command": format!("echo {i}; exit {}", i % 5) }),
                    );
                    assert_eq!(
                        (&job["stdout"], &job["exit_code"]),
                        (&json!(format!("{i}\n")), &json!(i % 5)),
                        "{job}"
                    );
                }
            });
        }
    });
}

#[test]
fn a_batch_is_taken_as_a_whole_and_each_of_it_comes_out_right() {
    const JOBS: usize = 100;
    let up = Service::up(&["--slots", "4"]);
    let client = up.client();
    let request = |i: usize| json!({ "command": format!("echo {i}; exit {}", i % 5) });
    let mut jobs: Vec<_> = (0..JOBS).map(request).collect();
    jobs[7]["timeout"] = json!("soon");
    let refused = client.post("/jobs/batch", &json!({ "jobs": jobs }));
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["errors"][0]["pointer"], "/jobs/7/timeout");
    assert_eq!(client.get("/jobs").json()["jobs"], json!([]));

    jobs[7] = request(7);
    let taken = client.post("/jobs/batch", &json!({ "jobs": jobs }));
    assert_eq!(taken.status, 201);
    let taken = taken.json();
    let taken = taken["jobs"].as_array().unwrap();
    assert_eq!(taken.len(), JOBS);
    for (i, job) in taken.iter().enumerate() {
        assert_eq!(job["command"], request(i)["command"]);
        let id = job["job_id"].as_str().unwrap();
        let job = client.get(&format!("/jobs/{id}?wait=60")).json();
        assert_eq!(
            (&job["stdout"], &job["exit_code"]),
            (&json!(format!("{i}\n")), &json!(i % 5)),
            "{job}"
        );
    }
    let metrics = client.get("/metrics").text();
    assert!(metrics.lines().any(|line| line == "jobs_total 100"), "{metrics}");
}

#[test]
fn a_stream_begins_with_the_start() {
    let runner = Service::runner(&["--slots", "2"]);
    let runner = runner.client();
    let headers = [("content-type", "application/json"), ("accept", "application/x-ndjson")];
    for _ in 0..30 {
        let answer =
            runner.post_with("/execute", &headers, br#"{"command": "echo a; echo b >&2; exit 1"}"#);
        let events: Vec<Value> =
            answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events[0]["event"], "started", "{events:?}");
        assert_eq!(events.last().unwrap()["event"], "result", "{events:?}");
        assert!(events.iter().enumerate().all(|(i, event)| event["seq"] == i), "{events:?}");
        assert_eq!(events.len(), 4, "{events:?}");
    }
}
