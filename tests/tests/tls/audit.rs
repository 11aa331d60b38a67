//! The audit log: who asked for what, and what came of it.

use std::{collections::BTreeSet, fs, time::Duration};

use cloister_tests::Service;
use serde_json::{Value, json};

use crate::{office::Office, reload::logged};

const ALICE: &str = "the-token-of-alice-0123456789";
const BOB: &str = "the-token-of-bob-0123456789";

/// The lines with target `audit`.
fn lines(service: &Service) -> Vec<Value> {
    let log = service.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["target"] == "audit").collect()
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[test]
fn who_submitted_and_cancelled_what() {
    let office = Office::new("Audit");
    let file = office.put("tokens", &format!("{ALICE}\n{BOB}\n"));
    let coordinator = Service::coordinator("http://127.0.0.1:9", &["--token-file", &file]);
    let client = coordinator.client();
    let json_type = ("content-type", "application/json");
    let (alice, bob) = (bearer(ALICE), bearer(BOB));
    let body = br#"{"command": "echo a-secret-command", "env": {"A": "a-secret-value"}}"#;
    let job = client.post_with("/jobs", &[json_type, ("authorization", &alice)], body);
    assert_eq!(job.status, 201);
    let id = job.json()["job_id"].as_str().unwrap().to_owned();
    let bad = br#"{"command": "a-secret-command", "timeout": -1}"#;
    assert_eq!(client.post_with("/jobs", &[json_type, ("authorization", &bob)], bad).status, 400);
    let cancel = |id: &str, authorization: &str| {
        client.delete_with(&format!("/jobs/{id}"), &[("authorization", authorization)]).status
    };
    assert_eq!(cancel(&id, &bob), 200);
    assert_eq!(cancel("00000000-0000-0000-0000-000000000000", &alice), 404);
    let order = |path: &str, body: &str| {
        let headers = [json_type, ("authorization", bob.as_str())];
        client.post_with(path, &headers, body.as_bytes()).status
    };
    let runner = "http://127.0.0.1:9";
    assert_eq!(order("/runners/drain", &json!({ "runner": runner }).to_string()), 200);
    assert_eq!(order("/runners/resume", r#"{"runner": "http://nobody:1"}"#), 404);
    assert_eq!(order("/pause", r#"{"reason": "a-secret-reason"}"#), 200);
    assert_eq!(order("/resume", "{"), 400);
    // Looking changes nothing.
    assert_eq!(client.get_with("/jobs", &[("authorization", &alice)]).status, 200);

    let lines = lines(&coordinator);
    let facts: Vec<_> = lines
        .iter()
        .map(|line| (line["action"].as_str().unwrap(), line["status"].as_u64().unwrap()))
        .collect();
    let expected = [
        ("submit", 201),
        ("submit", 400),
        ("cancel", 200),
        ("cancel", 404),
        ("drain_runner", 200),
        ("resume_runner", 404),
        ("pause", 200),
        ("resume", 400),
    ];
    assert_eq!(facts, expected, "{lines:#?}");
    assert_eq!((&lines[0]["job_id"], &lines[2]["job_id"]), (&json!(id), &json!(id)));
    assert_eq!(lines[1]["job_id"], Value::Null);
    assert_eq!(
        (&lines[4]["runner"], &lines[5]["runner"]),
        (&json!(runner), &json!("http://nobody:1"))
    );
    for line in &lines {
        assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    }
    // `printf cloister-audit:TOKEN | sha256sum | head -c 8`
    let tokens: Vec<_> = lines.iter().map(|line| line["token"].as_str().unwrap()).collect();
    let prints = [fingerprint(ALICE), fingerprint(BOB)];
    let [alice, bob] = &prints;
    assert_eq!(tokens, [alice, bob, bob, alice, bob, bob, bob, bob]);
    let log = coordinator.log();
    for secret in [ALICE, BOB, "a-secret-command", "a-secret-value"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
    let told: Vec<_> = lines.iter().map(ToString::to_string).collect();
    assert!(!told.concat().contains("a-secret-reason"));
}

fn fingerprint(token: &str) -> String {
    let line = format!("printf cloister-audit:{token} | sha256sum | head -c 8");
    let output = std::process::Command::new("/bin/sh").args(["-c", &line]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn without_tokens_it_is_none() {
    let coordinator = Service::coordinator("http://127.0.0.1:9", &[]);
    coordinator.client().post("/jobs", &json!({ "command": "true" }));
    let lines = lines(&coordinator);
    assert_eq!((lines.len(), &lines[0]["token"]), (1, &json!("none")), "{lines:#?}");
}

#[test]
fn refused_credentials_are_counted_and_do_not_fill_the_log() {
    const TRIES: u64 = 500;
    let office = Office::new("Refused");
    let file = office.put("tokens", ALICE);
    let runner = Service::runner(&["--token-file", &file]);
    let began = std::time::Instant::now();
    for at in 0..TRIES {
        let guess = bearer(&format!("a-guess-that-is-wrong-{at}"));
        let refused = runner.client().get_with("/executions/x", &[("authorization", &guess)]);
        assert_eq!(refused.status, 401);
    }
    let told = || lines(&runner).iter().map(|line| line["count"].as_u64().unwrap()).sum::<u64>();
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while told() < TRIES {
        assert!(std::time::Instant::now() < end, "{} of {TRIES}", told());
        std::thread::sleep(Duration::from_millis(20));
    }
    let lines = lines(&runner);
    assert_eq!(told(), TRIES);
    let seconds = began.elapsed().as_secs();
    assert!(lines.len() as u64 <= seconds + 2, "{} lines in {seconds} s", lines.len());
    for line in &lines {
        assert_eq!((&line["status"], &line["token"]), (&json!(401), &json!("none")));
    }
    assert!(!runner.log().contains("a-guess-that-is-wrong"));
}

#[test]
fn fewer_messages_are_not_less_of_an_audit() {
    let office = Office::new("Quiet");
    let file = office.put("tokens", &format!("{ALICE}\n"));
    let data = office.path("data");
    let mut quiet = std::process::Command::new("/usr/bin/env");
    quiet.arg("CLOISTER_LOG=error");
    let args = ["--runner-url", "http://127.0.0.1:9", "--token-file", &file];
    let coordinator = Service::by(quiet, "coordinator", &data, &args);
    let alice = bearer(ALICE);
    let headers = [("content-type", "application/json"), ("authorization", alice.as_str())];
    coordinator.client().post_with("/jobs", &headers, br#"{"command": "true"}"#);
    logged(&coordinator, "\"action\":\"submit\"");
    let log = coordinator.log();
    let targets: BTreeSet<_> = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .map(|line| line["target"].to_string())
        .collect();
    assert_eq!(targets.len(), 1, "{log}");
    let _ = fs::remove_dir_all(data);
}
