//! Leases with real cells and a real clock.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use cloister_tests::{Service, census, killed, verdict};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const ID: &str = "0190b0a0-0000-7000-8000-000000000002";
const CLUSTER: &str = "0190b0a0-0000-7000-8000-000000000001";
const LEASE: Duration = Duration::from_secs(2);

/// What the runner knows of the one execution, when `is` holds of it.
fn known(runner: &Service, is: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let known = runner.client().get("/executions").json()["executions"][0].clone();
        if is(&known) {
            return known;
        }
        assert!(Instant::now() < until, "{known}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A stopped runner can kill nothing. When it goes on, renewals that were sent meanwhile lie in its
/// sockets, and revive nothing: its coordinator counts on the job being over.
/// Whether every thread is stopped (the state `T` of proc_pid_stat(5)).
fn stands_still(runner: &Service) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", runner.pid())).expect("it lives");
    tasks.flatten().all(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
    })
}

#[test]
fn a_runner_that_was_stopped_beyond_a_lease_ends_the_job_as_it_goes_on() {
    let runner = Service::runner(&["--slots", "1"]);
    let client = runner.client();
    let renewal = json!({ "cluster": CLUSTER, "epoch": 1, "lease": 3600, "executions": [ID] });
    let task = json!({
        "command": "echo begun; sleep 98781", "timeout": 20,
        "execution_id": ID, "attempt": 1, "cluster": CLUSTER, "epoch": 1, "lease": LEASE.as_secs(),
    });
    thread::scope(|scope| {
        let result = scope.spawn(|| client.post("/execute", &task).json());
        known(&runner, |known| known["started_at"].is_string());
        runner.signal(Signal::SIGSTOP);
        // The signal was sent, and each thread stops when it gets there.
        while !stands_still(&runner) {
            thread::sleep(Duration::from_millis(1));
        }
        let renewals = [(); 8].map(|()| scope.spawn(|| client.post("/leases", &renewal)));
        // Time has to pass: nothing else ends a lease.
        thread::sleep(LEASE + Duration::from_millis(500));
        runner.signal(Signal::SIGCONT);
        assert!(census::gone("sleep 98781", Duration::from_secs(1)));
        let result = result.join().expect("an answer");
        assert_eq!(verdict(&result), killed("runner_lost"), "{result}");
        assert!(result["message"].as_str().is_some_and(|why| why.contains("lease")), "{result}");
        assert_eq!(result["stdout"], "begun\n");
        for renewal in renewals {
            assert_eq!(renewal.join().expect("an answer").status, 200);
        }
    });
    assert!(client.get("/metrics").text().contains("\ncloister_leases_expired_total 1\n"));
    // It is known until it is acknowledged, and then nobody runs it again.
    assert_eq!(known(&runner, Value::is_object)["status"], "failed");
    let path = format!("/executions/{ID}?epoch=1&cluster={CLUSTER}");
    assert_eq!(client.delete(&path).status, 200);
    assert_eq!(client.post("/execute", &task).status, 422);
}

#[test]
fn a_renewed_lease_lets_a_job_finish() {
    let runner = Service::runner(&["--slots", "1"]);
    let client = runner.client();
    let renewal = json!({ "cluster": CLUSTER, "epoch": 2, "lease": 3600, "executions": [ID] });
    let task = json!({
        "command": "sleep 2; echo done",
        "execution_id": ID, "attempt": 1, "cluster": CLUSTER, "epoch": 1, "lease": 1,
    });
    thread::scope(|scope| {
        let result = scope.spawn(|| client.post("/execute", &task).json());
        known(&runner, |known| known["status"] == "running");
        // By the next leader, which finds it there.
        let answer = client.post("/leases", &renewal).json();
        assert_eq!(answer["executions"][0]["status"], "running", "{answer}");
        assert_eq!(result.join().expect("an answer")["stdout"], "done\n");
    });
    // Who led before may not take it away.
    let by = |epoch: u64| format!("/executions/{ID}?epoch={epoch}&cluster={CLUSTER}");
    assert_eq!(client.delete(&by(1)).status, 409);
    assert_eq!(client.delete(&by(2)).status, 200);
}
