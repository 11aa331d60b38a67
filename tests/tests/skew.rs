//! A coordinator and a runner of two versions, each way round. `CLOISTER_BEFORE` names the program of
//! the version before; `tests/skew` builds it and runs this.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use cloister_tests::{
    COMPLETED, Client, Scratch, Service, census, cloister, finished, until, verdict,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// Shorter than a job that is to outlive it.
const LEASE: &str = "5s";

fn before() -> PathBuf {
    env::var_os("CLOISTER_BEFORE").expect("CLOISTER_BEFORE, as tests/skew sets it").into()
}

/// Options that one of both does not know are given by the environment.
fn start(program: &Path, kind: &str, data: &Path, args: &[&str]) -> Service {
    let mut command = Command::new(program);
    command.env("CLOISTER_LEASE", LEASE);
    Service::of(command, kind, data, args)
}

fn submit(client: &Client, command: &str) -> String {
    let job = client.post("/jobs", &json!({ "command": command, "timeout": 300 })).json();
    job["job_id"].as_str().expect("it is taken").to_owned()
}

fn ended(job: &Value) -> bool {
    !matches!(job["status"].as_str(), Some("pending" | "running"))
}

fn work_together(coordinator: &Path, runner: &Path, mark: &str) {
    let scratch = Scratch::new("skew");
    let runner = start(runner, "runner", &scratch, &["--slots", "4"]);
    let url = ["--runner-url", runner.client().base()];
    let first = start(coordinator, "coordinator", &scratch, &url);
    let client = first.client();

    let job = finished(client, &json!({ "command": "cat; echo to >&2", "stdin": "in" }));
    assert_eq!(
        (verdict(&job), &job["stdout"], &job["stderr"]),
        (COMPLETED, &json!("in"), &json!("to\n"))
    );
    for (command, reason) in
        [("exit 3", "exit_code"), ("kill -SEGV $$", "signal"), ("sleep 60", "timeout")]
    {
        let job = finished(client, &json!({ "command": command, "timeout": "500ms" }));
        assert_eq!((&job["status"], &job["reason"]), (&json!("failed"), &json!(reason)), "{job}");
    }
    let cancelled = submit(client, &format!("sleep {mark}1"));
    until(client, &cancelled, |job| job["status"] == "running");
    client.delete(&format!("/jobs/{cancelled}"));
    assert_eq!(until(client, &cancelled, ended)["status"], "cancelled");
    assert!(census::gone(&format!("sleep {mark}1"), Duration::from_secs(5)));

    // It goes on under leases, if both know them; while its coordinator is away; and is taken up again.
    let long = submit(client, "sleep 8; echo done");
    let lost = submit(client, &format!("sleep {mark}2"));
    until(client, &long, |job| job["status"] == "running");
    until(client, &lost, |job| job["status"] == "running");
    first.signal(Signal::SIGKILL);
    drop(first);
    let second = start(coordinator, "coordinator", &scratch, &url);
    let client = second.client();
    let job = until(client, &long, ended);
    assert_eq!(
        (verdict(&job), &job["stdout"], &job["attempt"]),
        (COMPLETED, &json!("done\n"), &json!(1))
    );
    assert_eq!(client.get(&format!("/jobs/{lost}")).json()["status"], "running");

    // A runner that is gone is told as that, however it keeps leases.
    runner.signal(Signal::SIGKILL);
    drop(runner);
    let job = until(client, &lost, ended);
    assert_eq!(
        (&job["status"], &job["reason"]),
        (&json!("failed"), &json!("runner_lost")),
        "{job}"
    );
    assert!(census::gone(&format!("sleep {mark}2"), Duration::from_secs(5)));
}

#[test]
fn a_runner_of_the_version_before_works_for_this_coordinator() {
    work_together(&cloister(), &before(), "98790");
}

#[test]
fn a_runner_of_this_version_works_for_the_coordinator_before() {
    work_together(&before(), &cloister(), "98791");
}
