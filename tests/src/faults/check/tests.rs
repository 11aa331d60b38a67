//! Each condition can be broken: histories that should not be, made by hand.

use std::{net::SocketAddr, time::Duration};

use cloister_api::Timestamp;
use serde_json::{Value, json};

use super::{
    super::{
        history::{Episode, Record, Span, Step, What},
        jobs::{Jobs, Kind},
        plan::Kind as Fault,
        report::Report,
    },
    Context, one,
};

const RUNNER: &str = "http://10.111.0.2:8080";

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn jobs() -> Jobs {
    Jobs::new(7, SocketAddr::from(([10, 111, 0, 9], 7000)))
}

/// The first job that is so.
fn index(wanted: impl Fn(Kind) -> bool) -> usize {
    let jobs = jobs();
    (0..1000).find(|index| wanted(jobs.kind(*index))).expect("every kind is often")
}

fn quick() -> usize {
    index(|kind| kind == Kind::Quick)
}

fn accepted(id: &str) -> What {
    What::Accepted { by: "coordinator-1".into(), life: Some(0), status: 201, id: id.into() }
}

fn began(nonce: &str) -> What {
    What::Began { nonce: nonce.into(), runner: "runner-1".into() }
}

fn ended(nonce: &str, code: i64) -> What {
    What::Ended { nonce: nonce.into(), code }
}

fn gone(nonce: &str) -> What {
    What::Gone { nonce: nonce.into() }
}

fn span(attempt: u64, step: Step, known: u64, asked: u64) -> Span {
    let by = "coordinator-1".into();
    Span { by, stand: (attempt, step), known: at(known), asked: at(asked) }
}

/// A job that went as it should.
fn good(index: usize) -> (Record, Value) {
    let jobs = jobs();
    let events = vec![
        (at(10), accepted("a")),
        (at(20), began("n")),
        (at(30), ended("n", 0)),
        (at(31), gone("n")),
    ];
    let spans = vec![span(1, Step::Pending, 12, 11), span(1, Step::Completed, 42, 90)];
    let (stdout, truncated) = jobs.stdout(index);
    let last = json!({
        "job_id": "a", "status": "completed", "exit_code": 0, "attempt": 1, "runner": RUNNER,
        "stdout": stdout, "stdout_truncated": truncated, "stderr": jobs.stderr(index),
        "finished_at": "1970-01-01T00:00:00.035Z",
    });
    (Record { id: Some("a".into()), events, spans, last: None }, last)
}

fn lost(index: usize) -> (Record, Value) {
    let (mut record, _) = good(index);
    record.events.retain(|(_, what)| !matches!(what, What::Ended { .. }));
    record.spans.truncate(1);
    let last = json!({
        "job_id": "a", "status": "failed", "reason": "runner_lost", "attempt": 1, "runner": RUNNER,
        "finished_at": "1970-01-01T00:00:09.000Z",
    });
    (record, last)
}

fn fault(kind: Fault, hit: &str, from: u64, to: u64) -> Episode {
    let (hit, links) = (vec![hit.to_owned()], Vec::new());
    Episode { kind, hit, links, detail: String::new(), from: at(from), to: Some(at(to)) }
}

/// The names of the conditions that are broken.
fn broken_with(
    index: usize,
    record: &Record,
    last: &Result<Value, String>,
    episodes: &[Episode],
) -> Vec<String> {
    let jobs = jobs();
    let runner = |url: &str| (url == RUNNER).then(|| "runner-1".to_owned());
    let (episodes, lease) = (episodes.to_vec(), Duration::from_secs(6));
    let context = Context { jobs: &jobs, episodes, lease, runner: &runner, began: Timestamp(0) };
    let mut report = Report::default();
    one(&context, index, record, Some(last), &mut report);
    let names = report.broken();
    names
        .iter()
        .map(|text| text.rsplit_once(": job").map_or(&**text, |(name, _)| name).into())
        .collect()
}

fn broken(index: usize, record: &Record, last: &Value) -> Vec<String> {
    broken_with(index, record, &Ok(last.clone()), &[])
}

#[test]
fn what_is_right_breaks_nothing() {
    let (record, last) = good(quick());
    assert_eq!(broken(quick(), &record, &last), Vec::<String>::new());
}

#[test]
fn a_second_execution_is_found() {
    let (mut record, last) = good(quick());
    record.events.extend([(at(50), began("m")), (at(60), gone("m"))]);
    let names = broken(quick(), &record, &last);
    assert_eq!(
        names,
        ["without retries: executed at most once", "no more executions than attempts"]
    );
}

#[test]
fn two_executions_at_once_are_found() {
    let index = index(Kind::may_run_again);
    let (mut record, mut last) = good(index);
    last["attempt"] = 2.into();
    last["attempts"] = json!([{
        "attempt": 1, "status": "failed", "reason": "runner_lost", "runner": RUNNER,
        "finished_at": "1970-01-01T00:00:00.300Z",
    }]);
    record.spans.clear();
    record.events.extend([(at(400), began("m")), (at(900), ended("m", 0))]);
    let kill = [fault(Fault::KillRunner, "runner-1", 25, 500)];
    assert_eq!(broken_with(index, &record, &Ok(last.clone()), &kill), Vec::<String>::new());
    // The same, but the first one goes on beside the second.
    record.events[2].0 = at(700);
    record.events[3].0 = at(701);
    let names = broken_with(index, &record, &Ok(last), &kill);
    assert_eq!(names, ["with retries: never twice at once"]);
}

#[test]
fn a_lost_job_is_found() {
    let (record, mut last) = good(quick());
    let names = broken_with(quick(), &record, &Err("404".into()), &[]);
    assert_eq!(names, ["what was acknowledged is found"]);
    last["status"] = "running".into();
    assert_eq!(broken(quick(), &record, &last), ["what was acknowledged has ended"]);
}

#[test]
fn a_key_with_two_jobs_is_found() {
    let (mut record, last) = good(quick());
    record.events.push((at(70), accepted("b")));
    assert_eq!(broken(quick(), &record, &last), ["one key, one job"]);
}

#[test]
fn a_step_back_is_found() {
    let (mut record, last) = good(quick());
    record.spans.push(span(1, Step::Running, 60, 50));
    let names = broken(quick(), &record, &last);
    let both = ["states only move forward, attempts never go down", "an end never changes"];
    assert_eq!(names, both);
    // Asked before the end was known: it may have been the older answer.
    record.spans[2].asked = at(40);
    assert_eq!(broken(quick(), &record, &last), Vec::<String>::new());
    record.spans[1].asked = at(41);
    record.spans[2] = span(1, Step::Failed, 60, 50);
    assert_eq!(broken(quick(), &record, &last), ["an end never changes"]);
}

#[test]
fn a_result_that_nobody_wrote_is_found() {
    let index = quick();
    let (record, good_end) = good(index);
    for (field, value, name) in [
        ("stdout", json!("out of nowhere\n"), "output is what the job wrote"),
        ("stderr", json!(""), "output is what the job wrote"),
        ("exit_code", json!(1), "completed: exit code 0"),
        ("runner", json!("http://10.111.0.3:8080"), "a told end was witnessed"),
        ("status", json!("cancelled"), "cancelled only if asked"),
    ] {
        let mut last = good_end.clone();
        last[field] = value;
        assert_eq!(broken(index, &record, &last), [name], "{field}");
    }
    let mut unwitnessed = record.clone();
    unwitnessed.events.truncate(2);
    assert_eq!(broken(index, &unwitnessed, &good_end), ["a told end was witnessed"]);
}

#[test]
fn a_loss_needs_a_fault_of_its_runner() {
    let (record, last) = lost(quick());
    let with = |episodes: &[Episode]| broken_with(quick(), &record, &Ok(last.clone()), episodes);
    let unexplained = ["a lost attempt is explained by a fault"];
    assert_eq!(with(&[]), unexplained);
    assert_eq!(with(&[fault(Fault::KillRunner, "runner-1", 25, 500)]), Vec::<String>::new());
    // Another runner, another time, or a fault that loses nothing.
    assert_eq!(with(&[fault(Fault::KillRunner, "runner-2", 25, 500)]), unexplained);
    assert_eq!(with(&[fault(Fault::KillRunner, "runner-1", 9500, 9900)]), unexplained);
    assert_eq!(with(&[fault(Fault::Delay, "runner-1", 25, 500)]), unexplained);
    // Coordinators that are away for a moment lose nothing either; for as long as a lease, they may.
    assert_eq!(with(&[fault(Fault::StopCoordinator, "coordinator-1", 25, 2000)]), unexplained);
    let long = [
        fault(Fault::StopCoordinator, "coordinator-1", 25, 2000),
        fault(Fault::DiskHangs, "coordinator-1", 2500, 4500),
    ];
    assert_eq!(with(&long), Vec::<String>::new());
}

#[test]
fn a_reason_that_nothing_gives_is_found() {
    let (record, mut last) = lost(quick());
    last["reason"] = "out_of_memory".into();
    let kill = [fault(Fault::KillRunner, "runner-1", 25, 500)];
    let names = broken_with(quick(), &record, &Ok(last.clone()), &kill);
    assert_eq!(names, ["failed only for reasons that faults have"]);
    last["reason"] = "exit_code".into();
    last["exit_code"] = 97.into();
    let names = broken_with(quick(), &record, &Ok(last), &kill);
    let expected = [
        "failed with the job's own exit code",
        "a told end was witnessed",
        "output is what the job wrote",
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_wish_that_was_forgotten_is_found() {
    let index = index(|kind| matches!(kind, Kind::Cancel(_)));
    let (mut record, last) = good(index);
    record.events.insert(2, (at(25), What::Cancelled { by: "coordinator-1".into(), status: 202 }));
    // It was about to end.
    assert_eq!(broken(index, &record, &last), Vec::<String>::new());
    record.events[3].0 = at(9000);
    assert_eq!(broken(index, &record, &last), ["what was cancelled does not complete"]);
    let away = [fault(Fault::StopCoordinator, "coordinator-1", 20, 8000)];
    assert_eq!(broken_with(index, &record, &Ok(last), &away), Vec::<String>::new());
}

#[test]
fn an_attempt_too_many_is_found() {
    let (record, mut last) = good(quick());
    last["attempt"] = 2.into();
    assert_eq!(broken(quick(), &record, &last), ["every attempt is told"]);
    last["attempts"] = json!([{
        "attempt": 1, "status": "failed", "reason": "runner_lost", "runner": RUNNER,
        "finished_at": "1970-01-01T00:00:00.025Z",
    }]);
    let kill = [fault(Fault::KillRunner, "runner-1", 15, 500)];
    let names = broken_with(quick(), &record, &Ok(last), &kill);
    assert_eq!(names, ["repeated only for a reason that allows it"]);
}
