//! `cloister submit`.

use std::{
    io::Write,
    process::{Output, Stdio},
};

use cloister_api::{Kind, Problem};
use serde_json::json;
use uuid::Uuid;

use crate::fake::{Fake, Reply, pending, text, with_jobs};

#[test]
fn the_id_stands_alone_on_stdout_and_the_request_is_what_was_said() {
    let job = pending("true");
    let id = job.job_id;
    let fake = with_jobs(vec![job]);
    let mut command = fake.client(&[
        "submit",
        "--timeout",
        "5s",
        "--memory",
        "64MiB",
        "--env",
        "A=b=c",
        "--priority",
        "-7",
        "--retries",
        "2",
        "--label",
        "team=blue",
        "--label",
        "empty=",
        "--",
        "echo",
        "--wait",
        "a b",
    ]);
    let output = command.env("CLOISTER_TOKEN", "correct-horse-battery-staple").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), format!("{id}\n"));
    assert_eq!(text(&output.stderr), "");

    let seen = fake.seen();
    assert_eq!(fake.calls(), ["POST /jobs"]);
    let body = seen[0].json();
    assert_eq!(body["argv"], json!(["echo", "--wait", "a b"]));
    assert_eq!(body.get("command"), None);
    assert_eq!(body["timeout"], 5);
    assert_eq!(body["limits"]["memory"], 64 << 20);
    assert_eq!(body["env"], json!({"A": "b=c"}));
    assert_eq!(body["priority"], -7);
    assert_eq!(body["retries"], 2);
    assert_eq!(body["labels"], json!({"team": "blue", "empty": ""}));
    assert_eq!(body.get("stdin"), None);
    assert_eq!(seen[0].header("content-type"), "application/json");
    assert_eq!(seen[0].header("authorization"), "Bearer correct-horse-battery-staple");
    seen[0].header("idempotency-key").parse::<Uuid>().unwrap();
}

#[test]
fn what_is_sent_is_what_a_coordinator_takes() {
    let fake = with_jobs(vec![pending("true")]);
    fake.run(&[
        "submit",
        "--cpu-time",
        "500ms",
        "--retry-on",
        "timeout,signal",
        "--command",
        "a | b",
    ]);
    let body = fake.seen()[0].body.clone();
    let read = cloister_api::JobRequest::parse(&body, &cloister_api::Bounds::default()).unwrap();
    assert_eq!(read.retry_on.len(), 2);
    assert_eq!(read.task.program, cloister_api::Program::Command("a | b".into()));
}

#[test]
fn what_was_not_given_is_the_coordinators_to_fill_in() {
    let fake = with_jobs(vec![pending("true")]);
    fake.run(&["submit", "--pids", "8", "--output", "64KiB", "--", "true"]);
    let body = fake.seen()[0].json();
    assert_eq!(body["limits"], json!({"pids": 8, "output": 65_536}));
    assert_eq!((body.get("timeout"), body.get("cwd"), body.get("env")), (None, None, None));
    // Where an operator allows less than the defaults, it is a job of the most that it may be.
    let max = cloister_api::Bounds {
        timeout: cloister_api::Seconds::new(5),
        memory: cloister_api::ByteSize::mib(64),
        ..cloister_api::Bounds::default()
    };
    let task = cloister_api::JobRequest::parse(&fake.seen()[0].body, &max).unwrap().task;
    assert_eq!((task.timeout, task.limits.memory), (max.timeout, max.memory));
}

fn with_stdin(fake: &Fake, input: &[u8]) -> Output {
    let mut command = fake.client(&["submit", "--stdin", "--", "cat"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn standard_input_is_text_where_it_can_be_and_base64_where_not() {
    let fake = with_jobs(vec![pending("true")]);
    assert!(with_stdin(&fake, "grüße\n".as_bytes()).status.success());
    assert!(with_stdin(&fake, b"\xff\x00").status.success());
    let bodies: Vec<_> = fake.seen().iter().map(super::fake::Seen::json).collect();
    assert_eq!(bodies[0]["stdin"], "grüße\n");
    assert_eq!(bodies[0].get("stdin_base64"), None);
    assert_eq!(bodies[1]["stdin_base64"], "/wA=");
    assert_eq!(bodies[1].get("stdin"), None);
}

fn busy(retry_after: Option<u64>) -> Reply {
    let problem = Problem::new(Kind::Unavailable, "the queue is full");
    Reply::problem(&Problem { retry_after, ..problem })
}

#[test]
fn a_busy_coordinator_is_asked_again_when_it_said_with_the_same_key_and_body() {
    let job = pending("true");
    let id = job.job_id;
    let fake = Fake::start(move |_, number| match number {
        0 => busy(Some(1)),
        _ => Reply::json(201, &job),
    });
    let output = fake.run(&["submit", "--", "true"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), format!("{id}\n"));
    assert_eq!(text(&output.stderr), "", "progress is for terminals");
    let seen = fake.seen();
    assert_eq!(seen.len(), 2);
    assert!((seen[1].at - seen[0].at).as_secs_f64() >= 1.0);
    assert_eq!(seen[0].header("idempotency-key"), seen[1].header("idempotency-key"));
    assert_eq!(seen[0].body, seen[1].body);
}

#[test]
fn a_connection_that_broke_is_made_again_with_the_key_that_was_given() {
    let job = pending("true");
    let fake = Fake::start_after_drops(2, move |_, _| Reply::json(201, &job));
    let output = fake.run(&["submit", "--idempotency-key", "order-17", "--", "true"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(fake.seen().len(), 1);
    assert_eq!(fake.seen()[0].header("idempotency-key"), "order-17");
}

#[test]
fn submissions_have_keys_of_their_own() {
    let fake = with_jobs(vec![pending("true")]);
    fake.run(&["submit", "--", "true"]);
    fake.run(&["submit", "--", "true"]);
    let seen = fake.seen();
    assert_ne!(seen[0].header("idempotency-key"), seen[1].header("idempotency-key"));
}

#[test]
fn patience_has_bounds() {
    let never = Fake::start(|_, _| busy(Some(0)));
    let output = never.run(&["submit", "--", "true"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr), "cloister: the queue is full\n");
    assert_eq!(never.seen().len(), 5);

    for reply in [busy(None), busy(Some(86_400))] {
        let once = Fake::start(move |_, _| reply.clone());
        assert_eq!(once.run(&["submit", "--", "true"]).status.code(), Some(1));
        assert_eq!(once.seen().len(), 1);
    }
}

#[test]
fn a_label_has_one_value() {
    let fake = with_jobs(vec![pending("true")]);
    let output = fake.run(&["submit", "--label", "a=1", "--label", "a=2", "--", "true"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("\"a\""), "{}", text(&output.stderr));
    assert!(fake.seen().is_empty());
}

#[test]
fn usage_errors_are_clap_s() {
    for (args, reason) in [
        (&["submit"][..], "--command"),
        (&["submit", "--command", "a", "--", "b"], "cannot be used with"),
        (&["submit", "--memory", "64M", "--", "b"], "64MiB"),
        (&["submit", "--priority", "101", "--", "b"], "100"),
        (&["submit", "--retry-on", "boredom", "--", "b"], "runner_lost"),
        (&["submit", "--label", "a", "--", "b"], "NAME=VALUE"),
        (&["submit", "--idempotency-key", "", "--", "b"], "255"),
        (&["submit", "--server", "https://user@example.org", "--", "b"], "CLOISTER_TOKEN"),
        (&["get", "17"], "17"),
        (&["wait"], "<ID>"),
        (&["list", "--limit", "0"], "1.."),
        (&["list", "--status", "done"], "completed"),
    ] {
        let output = crate::fake::client(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(text(&output.stdout), "", "{args:?}");
        assert!(text(&output.stderr).contains(reason), "{args:?}: {}", text(&output.stderr));
    }
}
