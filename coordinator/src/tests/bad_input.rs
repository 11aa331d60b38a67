//! Bad input: each gets its error, promptly, and the service goes on.

use cloister_api::{Bounds, ByteSize, Seconds};
use cloister_web::Secret;
use http::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Coordinator, config};

#[tokio::test]
async fn bodies_without_sense_are_refused_with_the_place() {
    let coordinator = Coordinator::with(&[]).await;
    let client = &coordinator.client;
    for (body, pointer) in [
        (r"{}", "/command"),
        (r#"{"command": "a", "argv": ["a"]}"#, "/argv"),
        (r#"{"command": ""}"#, "/command"),
        (r#"{"command": "a\u0000b"}"#, "/command"),
        (r#"{"command": "a", "tiemout": 1}"#, "/tiemout"),
        (r#"{"command": "a", "timeout": -1}"#, "/timeout"),
        (r#"{"command": "a", "timeout": 0}"#, "/timeout"),
        (r#"{"command": "a", "timeout": 1e300}"#, "/timeout"),
        (r#"{"command": "a", "timeout": "NaN"}"#, "/timeout"),
        (r#"{"command": "a", "timeout": NaN}"#, ""),
        (r#"{"command": "a", "timeout": 1e400}"#, ""),
        (r#"{"command": "a", "limits": {"memory": "64M"}}"#, "/limits/memory"),
        (r#"{"command": "a", "limits": {"memory": "lots"}}"#, "/limits/memory"),
        (r#"{"command": "a", "env": {"A=B": "c"}}"#, "/env/A=B"),
        (r#"{"command": "#, ""),
        ("", ""),
    ] {
        let answer = client.send(Method::POST, "/jobs", body).await.expect(400);
        assert_eq!(answer.body["errors"][0]["pointer"], pointer, "{body}: {}", answer.text);
    }
    let deep = "[".repeat(10_000);
    client.send(Method::POST, "/jobs", deep).await.expect(400);
    let huge = json!({"command": "a", "stdin": "x".repeat(17 << 20)});
    client.post("/jobs", &huge).await.expect(413);
    let text = client.with("content-type", "text/plain");
    text.post("/jobs", &json!({"command": "a"})).await.expect(415);
    client.submit("still here").await;
    assert_eq!(client.get("/jobs").await.body["jobs"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn maxima_hold_for_what_was_left_out_and_are_echoed() {
    let mut config = config(&[]);
    config.bounds = Bounds {
        timeout: Seconds::new(5),
        memory: ByteSize::mib(64),
        cpu_time: Some(Seconds::new(2)),
        ..Bounds::default()
    };
    let coordinator = Coordinator::start(config).await;
    let job = coordinator.client.post("/jobs", &json!({"command": "a"})).await.expect(201).body;
    assert_eq!((&job["timeout"], &job["limits"]["memory"]), (&json!(5), &json!(64 << 20)));
    assert_eq!(job["limits"]["cpu_time"], 2);
    let beyond = json!({"command": "a", "timeout": "6s"});
    let refused = coordinator.client.post("/jobs", &beyond).await.expect(400);
    assert!(refused.text.contains("maximum of 5s (--max-timeout)"), "{}", refused.text);
}

#[tokio::test]
async fn addresses_and_queries_are_read_as_strictly() {
    let coordinator = Coordinator::with(&[]).await;
    let client = &coordinator.client;
    let id = client.submit("true").await;
    for path in [
        "/jobs?status=done",
        "/jobs?reason=boredom",
        "/jobs?limit=0",
        "/jobs?limit=101",
        "/jobs?limit=x",
        "/jobs?next=%21",
        "/jobs?next=AQ",
        "/jobs?label=x",
        "/jobs?page=2",
        "/jobs?limit=1&limit=2",
        "/health?verbose=1",
        &format!("/jobs/{id}?wait=soon"),
        &format!("/jobs/{id}?wait=-1"),
        &format!("/jobs/{id}?wiat=1"),
    ] {
        let answer = client.get(path).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.text);
    }
    for limit in ["-1", "0", "101", "1.5", "", "x"] {
        let answer = client.get(&format!("/jobs?limit={limit}")).await.expect(400);
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.contains("a whole number from 1 to 100"), "{limit}: {detail}");
    }
    for path in [
        "/",
        "/jobs/",
        "/jobs/7",
        "/jobs/00000000-0000-7000-8000-000000000000",
        &format!("/jobs/{id}/logs"),
        "/openapi.json",
        "/docs",
        "/execute",
    ] {
        client.get(path).await.expect(404);
    }
    let refused = client.send(Method::PUT, "/jobs", "").await.expect(405);
    assert!(refused.headers.contains_key("allow"));
    client.post("/jobs?wait=1&dry=1", &json!({"command": "a"})).await.expect(400);
}

#[tokio::test]
async fn strangers_stay_out() {
    let coordinator = Coordinator::with(&[]).await;
    let client = &coordinator.client;
    let body = json!({"command": "a"});
    client.with("origin", "http://evil.example").post("/jobs", &body).await.expect(403);
    client.with("host", "evil.example").post("/jobs", &body).await.expect(403);

    let token = "correct-horse-battery-staple";
    let mut config = config(&[]);
    config.tokens = vec![Secret::new(token, "of the test").unwrap()].into();
    let coordinator = Coordinator::start(config).await;
    let client = &coordinator.client;
    client.post("/jobs", &body).await.expect(401);
    client.get("/runners").await.expect(401);
    client.with("authorization", "Bearer wrong").post("/jobs", &body).await.expect(401);
    let known = client.with("authorization", &format!("Bearer {token}"));
    known.post("/jobs", &body).await.expect(201);
    for open in ["/health", "/ready", "/metrics"] {
        client.get(open).await.expect(200);
    }
}

#[tokio::test]
async fn a_body_that_stops_in_the_middle_is_refused() {
    let coordinator = Coordinator::with(&[]).await;
    let mut stream = TcpStream::connect(coordinator.address).await.unwrap();
    let head = "POST /jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                content-length: 100\r\n\r\n{\"command\": \"tr";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    // Nobody may be left to be told.
    let _ = stream.read_to_string(&mut answer).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    coordinator.client.submit("still here").await;
}
