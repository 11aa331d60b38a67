//! What strangers and mistakes get: bad requests, missing tokens, folders of somebody else.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};

use cloister_tests::{COMPLETED, Client, Scratch, Service, finished, verdict};
use serde_json::json;

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
    let folder = Scratch::new("tokens");
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
}

/// Another user of the machine reaches the port of an `up`'s runner, perhaps with a client's token.
#[test]
fn the_runner_of_an_up_is_closed_to_all_but_its_coordinator() {
    const CLIENTS: &str = "a-token-of-the-clients-0123456789";
    const RUNNERS: &str = "a-token-of-the-runners-0123456789";
    const EXECUTION: &str = "/executions/0197a4a1-0000-7000-8000-000000000000";
    let folder = Scratch::new("own-token");
    let (clients, runners) = (folder.join("clients"), folder.join("runners"));
    fs::write(&clients, CLIENTS).unwrap();
    fs::write(&runners, RUNNERS).unwrap();
    let [clients, runners] = [&clients, &runners].map(|path| path.to_str().unwrap());
    let (by_client, by_runner) = (format!("Bearer {CLIENTS}"), format!("Bearer {RUNNERS}"));
    let json_type = ("content-type", "application/json");
    let body = br#"{"command": "echo in"}"#;
    for args in [&["--token-file", clients][..], &[], &["--insecure-no-auth"]] {
        let up = Service::up(args);
        // Its coordinator has the token.
        let headers = [json_type, ("authorization", &*by_client)];
        let job = up.client().post_with("/jobs?wait=30", &headers[..args.len().max(1)], body);
        assert_eq!((job.status, &job.json()["stdout"]), (201, &json!("in\n")));
        let runner = up.runner_client();
        for shown in [None, Some(&*by_client), Some("Bearer "), Some("Basic Og==")] {
            let mut headers = vec![json_type];
            headers.extend(shown.map(|shown| ("authorization", shown)));
            // Each by a connection of its own: one whose body was not read is closed.
            for refused in [
                runner.anew().post_with("/execute", &headers, body),
                runner.anew().post_with("/leases", &headers, br#"{"executions": []}"#),
                runner.anew().get_with("/executions", &headers),
                runner.anew().get_with(EXECUTION, &headers),
                runner.anew().delete_with(EXECUTION, &headers),
            ] {
                assert_eq!(refused.status, 401, "{shown:?}");
                let says = refused.json()["detail"].as_str().unwrap().to_owned();
                assert!(
                    says.contains("--runner-token-file") && says.contains("POST /jobs"),
                    "{says}"
                );
            }
        }
        let open = ["/health", "/ready", "/metrics"].map(|path| runner.get(path).status);
        assert_eq!(open, [200; 3]);
        let end = Instant::now() + Duration::from_secs(20);
        while !up.log().contains(r#""action":"authenticate","status":401"#) {
            assert!(Instant::now() < end, "nothing of it is in the audit log\n{}", up.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let up = Service::up(&["--token-file", clients, "--runner-token-file", runners]);
    for (shown, status) in [(&by_client, 401), (&by_runner, 200)] {
        let headers = [json_type, ("authorization", &**shown)];
        let answer = up.runner_client().post_with("/execute", &headers, body);
        assert_eq!(answer.status, status);
        assert!(!answer.text().contains("--runner-token-file"), "it has one");
    }
}

/// The kernel's own word on each thread: of what serves, and of the launcher, which keeps its rights.
#[test]
fn every_thread_that_serves_is_confined() {
    let (up, runner) = (Service::up(&[]), Service::runner(&[]));
    let coordinator = Service::coordinator("http://127.0.0.1:9", &[]);
    for (of, client, path) in
        [(&up, up.runner_client(), "/jobs?wait=30"), (&runner, runner.client(), "/execute")]
    {
        let job = of.client().post(path, &json!({ "command": "echo in" })).json();
        assert_eq!(job["stdout"], "in\n");
        let health = client.get("/health").json();
        for name in ["service_seccomp", "service_landlock"] {
            let lines = health["enforcement"].as_array().unwrap();
            let line = lines.iter().find(|line| line["name"] == name);
            assert_eq!(line.unwrap()["enforced"], true, "{health}");
        }
    }
    let fields = |path: &std::path::Path| {
        let text = fs::read_to_string(path.join("status")).unwrap();
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":"));
            line.unwrap_or_else(|| panic!("{name}: {text}")).trim().to_owned()
        };
        ["Seccomp", "Seccomp_filters", "NoNewPrivs", "CapEff", "CapBnd"].map(field)
    };
    for (service, least) in [(&up, 4), (&runner, 3), (&coordinator, 3)] {
        let threads = fs::read_dir(format!("/proc/{}/task", service.pid())).unwrap();
        let threads: Vec<_> = threads.map(|thread| thread.unwrap().path()).collect();
        assert!(threads.len() >= least, "{threads:?}");
        for thread in threads {
            let none = "0000000000000000";
            assert_eq!(fields(&thread), ["2", "1", "1", none, none], "{}", thread.display());
        }
    }
    for service in [&up, &runner] {
        let launcher = fields(std::path::Path::new(&format!("/proc/{}", service.launcher())));
        assert_eq!(launcher[..3], ["0", "0", "0"]);
        assert_ne!(launcher[3], "0000000000000000");
    }
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
fn a_folder_of_somebody_else_is_not_taken() {
    let folder = Scratch::new("foreign");
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
    assert_eq!(fs::metadata(folder.join("mine")).unwrap().uid(), 0);
    assert_eq!(fs::metadata(&*folder).unwrap().uid(), 0);
}
