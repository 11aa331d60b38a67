//! Output that is too large for a message: fetched from its runner, stored and read piece by piece.

use std::{io, sync::Arc};

use axum::{
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use cloister_api::{Outcome, Output, OutputBytes};
use futures_util::{StreamExt, stream};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Coordinator, FakeRunner, config, runner::exited};
use crate::store::{
    output::ROW,
    tests::{Folder, Place},
};

/// How a runner hands over what was printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handing {
    /// As it should.
    Whole,
    /// Over connections that break.
    Breaks,
    /// It has it no more.
    Forgot,
    /// Nothing comes after the first bytes.
    Hangs,
}

/// The query of a request for output.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    stream: String,
    offset: usize,
}

/// A command that printed so much on standard output, and half of it on standard error.
pub(super) fn outcome(bytes: u64) -> Outcome {
    let mut outcome = exited(0, "").without_output();
    outcome.output_bytes = Some(OutputBytes { stdout: bytes, stderr: bytes / 2 });
    outcome
}

/// Text of several bytes a character, and what is none.
fn bytes_of(stream: &str, length: u64) -> Vec<u8> {
    let part = if stream == "stdout" { "aé€😀\"\n".as_bytes() } else { b"e\xff\xe2\x82 " };
    part.iter().copied().cycle().take(usize::try_from(length).unwrap()).collect()
}

/// The runner's answer.
pub(super) fn hand_over(bytes: OutputBytes, asked: &Asked, handing: Handing) -> Response {
    let length = if asked.stream == "stdout" { bytes.stdout } else { bytes.stderr };
    let rest = bytes_of(&asked.stream, length).split_off(asked.offset);
    let first = Bytes::from(rest[..rest.len().min(300 << 10)].to_vec());
    match handing {
        Handing::Whole => rest.into_response(),
        Handing::Forgot => StatusCode::NOT_FOUND.into_response(),
        Handing::Breaks if first.len() == rest.len() => rest.into_response(),
        Handing::Breaks => {
            let pieces = [Ok(first), Err(io::Error::other("cut"))];
            Body::from_stream(stream::iter(pieces)).into_response()
        }
        Handing::Hangs => {
            let first = stream::iter([Ok::<_, io::Error>(first)]);
            Body::from_stream(first.chain(stream::pending())).into_response()
        }
    }
}

/// Whether a job shows what was printed, as it shows what is little.
#[track_caller]
fn shows(job: &Value, bytes: u64) {
    let stdout = Output::new(bytes_of("stdout", bytes), false);
    let stderr = Output::new(bytes_of("stderr", bytes / 2), false);
    let told = job["stdout"].as_str().unwrap_or_else(|| panic!("{job}"));
    assert!(told == stdout.text, "{told:.40} and not {:.40}", stdout.text);
    assert!(job.get("stdout_base64").and_then(Value::as_str) == stdout.base64.as_deref());
    assert!(job["stderr"] == stderr.text, "another standard error");
    assert!(job["stderr_base64"] == json!(stderr.base64), "other bytes of standard error");
    assert_eq!(
        (&job["stdout_truncated"], &job["stderr_truncated"]),
        (&json!(false), &json!(false))
    );
    assert_eq!((job.get("output_bytes"), &job["message"]), (None, &json!("it ended")));
}

async fn come_back(place: Place) {
    let runner = FakeRunner::new(4).await;
    let store = place.open().await;
    let start = Coordinator::start_in(config(&[&runner]), Arc::new(Folder::new()), |_| store);
    let coordinator = start.await;
    let client = &coordinator.client;
    // Little, whole rows, and as many as take several writes; cut within a character.
    for bytes in [1, 16, ROW as u64, 2 * ROW as u64, 1_000_001] {
        let id = client.submit(&format!("print {bytes}")).await;
        shows(&client.end(&id).await, bytes);
    }
    runner.set(|inner| inner.handing = Handing::Breaks);
    let body = json!({"command": "print 2000000", "limits": {"output": "2MiB"}});
    let id = client.post("/jobs", &body).await.expect(201).id();
    shows(&client.end(&id).await, 2_000_000);
    runner.until_empty().await;
    let list = client.get("/jobs").await.expect(200);
    assert_eq!(list.body["jobs"].as_array().unwrap().len(), 6);
    assert!(list.text.len() < 10_000 && !list.text.contains("output_bytes"), "{}", list.text);
}

#[tokio::test]
async fn large_outputs_come_back_on_sqlite() {
    come_back(Place::sqlite()).await;
}

#[tokio::test]
async fn large_outputs_come_back_on_postgres() {
    come_back(Place::postgres()).await;
}

/// The verdict is known, whatever became of the rest.
#[tokio::test]
async fn output_that_a_runner_does_not_hand_over_is_told_as_missing() {
    let runner = FakeRunner::new(4).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    let client = &coordinator.client;
    for (handing, why) in [
        (Handing::Forgot, "does not have it any more"),
        (Handing::Hangs, "did not hand it over within"),
    ] {
        runner.set(|inner| inner.handing = handing);
        let id = client.submit("print 1000000").await;
        let job = client.end(&id).await;
        assert_eq!((&job["status"], &job["exit_code"]), (&json!("completed"), &json!(0)), "{job}");
        assert_eq!(job["stdout_truncated"], true);
        let message = job["message"].as_str().unwrap();
        assert!(message.starts_with("it ended; a part of its output is missing: "), "{message}");
        assert!(message.contains(why), "{message}");
        let whole = bytes_of("stdout", 1_000_000);
        let part = job["stdout_base64"].as_str().map_or_else(
            || job["stdout"].as_str().unwrap().as_bytes().to_vec(),
            |base64| BASE64_STANDARD.decode(base64).unwrap(),
        );
        assert!(part.len() < whole.len() && whole.starts_with(&part), "no part of what it printed");
    }
    runner.until_empty().await;
}

/// What the database refuses is the end of that job's output, or of its record, and nothing else's.
async fn is_one_jobs(place: Place, refuse_output: &str, refuse_record: &str) {
    let runner = FakeRunner::new(4).await;
    let store = place.open().await;
    place.run(refuse_output);
    place.run(refuse_record);
    let start = Coordinator::start_in(config(&[&runner]), Arc::new(Folder::new()), |_| store);
    let coordinator = start.await;
    let client = &coordinator.client;
    let cursed = client.submit("echo cursed").await;
    for (command, status) in [("echo bad", "completed"), ("print 1000000", "completed")] {
        let id = client.submit(command).await;
        let job = client.end(&id).await;
        assert_eq!((&job["status"], &job["stdout_truncated"]), (&json!(status), &json!(true)));
        assert_eq!((&job["stdout"], &job["stderr"]), (&json!(""), &json!("")));
        let message = job["message"].as_str().unwrap();
        assert!(message.contains("a part of its output is missing: "), "{message}");
        assert!(message.contains("it refuses the data"), "{message}");
    }
    let good = client.submit("echo good").await;
    assert_eq!(client.end(&good).await["stdout"], "good\n");
    runner.until_empty().await;
    // Whose record is refused stays as it was, and is told of.
    let health = client.get("/health").await.expect(200).body;
    assert_eq!(
        (&health["status"], &health["store"]),
        (&json!("degraded"), &json!("ok")),
        "{health}"
    );
    assert!(health["problems"].to_string().contains(&cursed), "{health}");
}

#[tokio::test]
async fn what_the_store_refuses_ends_one_job_on_sqlite() {
    let refuse = |table: &str, when: &str| {
        let event = if table == "jobs" { "UPDATE" } else { "INSERT" };
        format!(
            "CREATE TRIGGER refuse_{table} BEFORE {event} ON {table} WHEN {when}
             BEGIN SELECT RAISE(ABORT, 'too much'); END"
        )
    };
    let output = refuse(
        "printed",
        "substr(NEW.bytes, 1, 3) = x'626164' OR NEW.attempt = 1 AND \
        length(NEW.bytes) > 1000",
    );
    let record = refuse("jobs", "NEW.finished_at IS NOT NULL AND NEW.record LIKE '%cursed%'");
    is_one_jobs(Place::sqlite(), &output, &record).await;
}

#[tokio::test]
async fn what_the_store_refuses_ends_one_job_on_postgres() {
    let output = "ALTER TABLE printed
        ADD CHECK (substr(bytes, 1, 3) <> 'bad' AND octet_length(bytes) <= 1000)";
    let record = "ALTER TABLE jobs
        ADD CHECK (finished_at IS NULL OR position('cursed'::bytea IN record) = 0)";
    is_one_jobs(Place::postgres(), output, record).await;
}
