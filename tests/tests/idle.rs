//! What it costs to have the platform stand by.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use cloister_tests::{Service, cleanup, finished};
use nix::unistd::Pid;
use serde_json::json;

/// Over this time wake-ups are counted: a few of what is done every 5 s.
const WINDOW: Duration = Duration::from_secs(12);

/// How often the threads of a process went to sleep. One that is gone meanwhile counts as none.
fn naps(pid: Pid) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let statuses =
        tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
    let count = |status: String| {
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches:"))?;
        line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
    };
    statuses.filter_map(count).sum()
}

#[test]
fn who_has_nothing_to_do_sleeps_and_wakes_at_once() {
    let up = Service::up(&[]);
    let client = up.client();
    finished(client, &json!({ "command": "true" }));
    // What a job has left to be done comes first: letting the cell go that was made ahead for the next
    // one, acknowledging the job, looking how full the store is.
    let until = Instant::now() + Duration::from_secs(60);
    while !cleanup::cells(up.launcher()).is_empty() {
        assert!(Instant::now() < until, "cells go on waiting for jobs");
        thread::sleep(Duration::from_millis(50));
    }
    thread::sleep(Duration::from_secs(4));
    let before = (naps(up.pid()), naps(up.launcher()));
    thread::sleep(WINDOW);
    let service = naps(up.pid()).saturating_sub(before.0);
    assert_eq!(naps(up.launcher()), before.1, "the launcher has nothing to look at");
    // About one a second; with one more thing that is done every second it would be three.
    assert!(service < 3 * WINDOW.as_secs(), "{service} times within {WINDOW:?}");

    let began = Instant::now();
    let job = finished(client, &json!({ "command": "echo awake" }));
    assert_eq!(job["stdout"], "awake\n", "{job}");
    // Sooner than anything is looked at by itself.
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}
