//! The platform on one machine, as `cloister up` starts it, used over HTTP.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use cloister_tests::{COMPLETED, Client, Service, census, scratch_dir, verdict};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// Submits a job and comes back with it when it has ended.
fn finished(client: &Client, request: &Value) -> Value {
    let response = client.post("/jobs?wait=60", request);
    assert_eq!(response.status, 201, "{}", response.text());
    let mut job = response.json();
    let until = Instant::now() + Duration::from_secs(120);
    while matches!(job["status"].as_str(), Some("pending" | "running")) {
        assert!(Instant::now() < until, "{job}");
        job = client.get(&format!("/jobs/{}?wait=60", job["job_id"].as_str().unwrap())).json();
    }
    job
}

/// Waits until a job is as it should be.
fn until(client: &Client, id: &str, good: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let job = client.get(&format!("/jobs/{id}")).json();
        if good(&job) {
            return job;
        }
        assert!(Instant::now() < end, "{job}");
        thread::sleep(Duration::from_millis(20));
    }
}

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
fn what_was_accepted_outlives_the_service() {
    let kept = scratch_dir("kept");
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
    let up = Service::up_again(&data, &["--slots", "1", "--runner-grace", "2s"]);
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
    drop(up);
    fs::remove_dir_all(kept).unwrap();
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

/// Sends raw bytes, and comes back with what is answered until the connection closes or nothing
/// more comes for a while.
fn raw(client: &Client, bytes: &[u8], patience: Duration) -> String {
    let mut socket = TcpStream::connect(client.base().trim_start_matches("http://")).unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    let _ = socket.write_all(bytes);
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(length @ 1..) = socket.read(&mut piece) {
        answer.extend_from_slice(&piece[..length]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn bad_requests_are_told_what_is_wrong_and_the_service_goes_on() {
    let up = Service::up(&[]);
    let client = up.client();
    for (body, pointer) in [
        (r#"{"command": "a", "tiemout": 1}"#, "/tiemout"),
        (r#"{"command": "a", "argv": ["a"]}"#, "/argv"),
        (r"{}", "/command"),
        (r#"{"command": ""}"#, "/command"),
        (r#"{"command": "a\u0000b"}"#, "/command"),
        (r#"{"command": "a", "timeout": -1}"#, "/timeout"),
        (r#"{"command": "a", "timeout": 0}"#, "/timeout"),
        (r#"{"command": "a", "timeout": 1e18}"#, "/timeout"),
        (r#"{"command": "a", "timeout": "NaN"}"#, "/timeout"),
        (r#"{"command": "a", "timeout": 1e400}"#, ""),
        (r#"{"command": "a", "limits": {"memory": "64M"}}"#, "/limits/memory"),
        (r#"{"command": "a", "limits": {"memory": 12}}"#, "/limits/memory"),
        (r#"{"command": "a", "limits": {"cpus": 4096}}"#, "/limits/cpus"),
        (r#"{"command": "a", "limits": {"memory": "8TiB"}}"#, "/limits/memory"),
        (r#"{"command": "a", "network": "host"}"#, "/network"),
        (r#"{"command": "a", "env": {"A=B": "c"}}"#, "/env/A=B"),
        (r#"{"command": "#, ""),
    ] {
        let response =
            client.post_with("/jobs", &[("content-type", "application/json")], body.as_bytes());
        assert_eq!(response.status, 400, "{body}: {}", response.text());
        assert_eq!(response.header("content-type"), "application/problem+json");
        let problem = response.json();
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}: {problem}");
    }
    let deep = format!("{{\"command\": {}", "[".repeat(10_000));
    assert_eq!(
        client.post_with("/jobs", &[("content-type", "application/json")], deep.as_bytes()).status,
        400
    );
    assert_eq!(client.post_with("/jobs", &[("content-type", "text/plain")], b"{}").status, 415);
    let host = client.base().trim_start_matches("http://").to_owned();
    let head = format!("POST /jobs HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n");
    let huge = raw(
        client,
        format!("{head}Content-Length: 17825792\r\n\r\n").as_bytes(),
        Duration::from_secs(20),
    );
    assert!(huge.starts_with("HTTP/1.1 413"), "{huge}");
    let foreign = format!(
        "{head}Origin: http://evil.example\r\nContent-Length: 21\r\n\r\n{{\"command\": \"echo a\"}}"
    );
    assert!(raw(client, foreign.as_bytes(), Duration::from_secs(5)).starts_with("HTTP/1.1 403"));
    let rebound = "GET /jobs HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert!(raw(client, rebound.as_bytes(), Duration::from_secs(5)).starts_with("HTTP/1.1 403"));
    // A body that never comes is given up.
    let slow = raw(
        client,
        format!("{head}Content-Length: 30\r\n\r\n{{").as_bytes(),
        Duration::from_secs(40),
    );
    assert!(slow.starts_with("HTTP/1.1 408"), "{slow}");
    assert_eq!(verdict(&finished(client, &json!({ "command": "true" }))), COMPLETED);
    assert_eq!(client.get("/no/such/page").status, 404);
    assert_eq!(client.get("/openapi.json").status, 404);
}

#[test]
fn tokens_open_what_they_should() {
    let folder = scratch_dir("tokens");
    let (clients, runners) = (folder.join("clients"), folder.join("runners"));
    fs::write(&clients, "a-token-of-the-clients-0123456789\n").unwrap();
    fs::write(&runners, "a-token-of-the-runners-0123456789\n").unwrap();
    let up = Service::up(&[
        "--token-file",
        clients.to_str().unwrap(),
        "--runner-token-file",
        runners.to_str().unwrap(),
    ]);
    let client = up.client();
    let json_type = ("content-type", "application/json");
    let body = br#"{"command": "echo in"}"#;
    let refused = client.post_with("/jobs", &[json_type], body);
    assert_eq!((refused.status, refused.header("www-authenticate").is_empty()), (401, false));
    let bearer = |token: &str| format!("Bearer {token}");
    let runners_token = bearer("a-token-of-the-runners-0123456789");
    let clients_token = bearer("a-token-of-the-clients-0123456789");
    assert_eq!(
        client.post_with("/jobs", &[json_type, ("authorization", &runners_token)], body).status,
        401
    );
    let job =
        client.post_with("/jobs?wait=30", &[json_type, ("authorization", &clients_token)], body);
    assert_eq!((job.status, &job.json()["stdout"]), (201, &json!("in\n")));
    let runner = up.runner_client();
    assert_eq!(
        runner.post_with("/execute", &[json_type, ("authorization", &clients_token)], body).status,
        401
    );
    assert_eq!(
        runner.post_with("/execute", &[json_type, ("authorization", &runners_token)], body).status,
        200
    );
    assert_eq!(
        (client.get("/health").status, client.get("/ready").status, client.get("/metrics").status),
        (200, 200, 200)
    );
    drop(up);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn beyond_loopback_it_wants_a_token() {
    let output =
        cloister_tests::run(&["up", "--listen", "0.0.0.0:0", "--data", "/var/tmp/cloister-never"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("--token-file") && said.contains("--insecure-no-auth"), "{said}");
    assert!(!std::path::Path::new("/var/tmp/cloister-never").exists());
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
fn a_second_signal_ends_it_at_once() {
    let mut up = Service::up(&["--slots", "1"]);
    let job =
        up.client().post("/jobs", &json!({ "command": "sleep 98768", "timeout": 600 })).json();
    until(up.client(), job["job_id"].as_str().unwrap(), |job| job["status"] == "running");
    up.signal(Signal::SIGINT);
    let end = Instant::now() + Duration::from_secs(5);
    while up.client().get("/ready").status != 503 {
        assert!(Instant::now() < end, "it does not say that it drains");
    }
    up.signal(Signal::SIGINT);
    up.wait(Duration::from_secs(5));
    assert!(census::gone("sleep 98768", Duration::from_secs(1)));
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
fn a_folder_of_somebody_else_is_not_taken() {
    let folder = scratch_dir("foreign");
    fs::write(folder.join("mine"), "x").unwrap();
    let store = format!("sqlite:{}/a.db", folder.display());
    let output = cloister_tests::run(&[
        "coordinator",
        "--listen",
        "127.0.0.1:0",
        "--store",
        &store,
        "--runner-url",
        "http://127.0.0.1:1",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("holds other files"), "{said}");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(folder.join("mine")).unwrap()), 0);
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(&folder).unwrap()), 0);
    fs::remove_dir_all(folder).unwrap();
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

#[test]
fn a_stream_begins_with_the_start() {
    let up = Service::up(&["--slots", "2"]);
    let runner = up.runner_client();
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
