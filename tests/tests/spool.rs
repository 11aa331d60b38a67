//! Large outputs: the runner holds them on disk, and a disk that is full costs output and nothing else.

use std::{fs, path::Path, process::Command, thread, time::Duration};

use cloister_tests::{COMPLETED, Client, Scratch, Service, execute, verdict};
use nix::unistd::Pid;
use serde_json::{Value, json};
use uuid::Uuid;

const MIB: usize = 1 << 20;
const APART: [(&str, &str); 2] =
    [("accept", "application/x-ndjson; output=apart"), ("content-type", "application/json")];

/// The memory of a process, its share of what it has in common with others included, in MiB.
fn pss(pid: Pid) -> usize {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1024
}

fn job(line: &str, output: usize) -> Value {
    json!({"command": line, "timeout": 60, "limits": {"output": output}})
}

fn output(client: &Client, id: Uuid, stream: &str, offset: usize) -> Vec<u8> {
    let path = format!("/executions/{id}/output?stream={stream}&offset={offset}");
    let response = client.get(&path);
    assert_eq!(response.status, 200, "{}", response.text());
    response.body
}

/// The bytes in the spool.
fn held(runner: &Service) -> String {
    let text = runner.client().get("/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix("cloister_runner_spool_bytes "));
    line.unwrap().to_owned()
}

#[test]
fn memory_does_not_grow_with_output() {
    const JOBS: usize = 2;
    const SIZE: usize = 64 * MIB;
    let runner = Service::runner(&["--slots", "2", "--max-output", "64MiB"]);
    let before = pss(runner.pid());
    let line = format!("yes | head -c {SIZE} >&2 & yes no | head -c {SIZE}; wait");
    let ids = [(); JOBS].map(|()| Uuid::new_v4());
    let mut most = before;
    thread::scope(|scope| {
        let calls = ids.map(|id| {
            let mut body = job(&line, SIZE);
            body["execution_id"] = json!(id);
            let client = runner.client().anew();
            scope.spawn(move || client.post_with("/execute", &APART, body.to_string().as_bytes()))
        });
        while calls.iter().any(|call| !call.is_finished()) {
            most = most.max(pss(runner.pid()));
            thread::sleep(Duration::from_millis(10));
        }
        for call in calls {
            let text = call.join().unwrap().text();
            let result: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
            assert_eq!(result["output_bytes"], json!({"stdout": SIZE, "stderr": SIZE}), "{result}");
            assert_eq!(result["stdout_truncated"], false);
        }
    });
    assert_eq!(held(&runner), (2 * JOBS * SIZE).to_string());
    let tail = output(runner.client(), ids[0], "stdout", SIZE - 10);
    assert_eq!(String::from_utf8(tail).unwrap(), "no\nno\nno\nn");
    println!("PSS: {before} MiB before, {most} MiB at most");
    // Far less than one output, and than the 200 MiB that a runner may take with 64 such jobs.
    assert!(most < before + 48, "{before} MiB before, {most} MiB at most");
    for id in ids {
        assert_eq!(runner.client().delete(&format!("/executions/{id}")).status, 200);
    }
    assert_eq!(held(&runner), "0");
}

/// What a job prints beyond what the spool takes costs the rest of its output. `reason` is why.
fn cut(runner: &Service, reason: &str, words: &str) -> usize {
    let id = Uuid::new_v4();
    let mut body = job("yes | head -c 4000000; echo well >&2; exit 3", 4 * MIB);
    body["execution_id"] = json!(id);
    let result = execute(runner, &body);
    assert_eq!((&result["reason"], &result["exit_code"]), (&json!("exit_code"), &json!(3)));
    assert_eq!(result["stdout_truncated"], true, "{}", result["message"]);
    let message = result["message"].as_str().unwrap();
    assert!(message.contains("exit code 3") && message.contains(words), "{message}");
    let stdout = result["stdout"].as_str().unwrap();
    assert!("y\n".repeat(2_000_000).starts_with(stdout), "what was kept is the beginning");
    let name = format!("cloister_runner_outputs_truncated_total{{reason=\"{reason}\"}}");
    assert!(runner.client().get("/metrics").samples()[&name] >= 1.0);
    let kept = stdout.len();
    let refused = runner.client().get("/ready").status == 503;
    assert_eq!(refused, reason == "full", "a spool that is full takes no work");
    assert_eq!(runner.client().delete(&format!("/executions/{id}")).status, 200);
    let next = execute(runner, &job("yes | head -c 100000", MIB));
    assert_eq!((verdict(&next), &next["stdout_truncated"]), (COMPLETED, &json!(false)), "{next}");
    kept
}

#[test]
fn a_full_spool_costs_output_and_no_verdict() {
    let runner = Service::runner(&["--slots", "1", "--spool-size", "1MiB"]);
    assert_eq!(cut(&runner, "full", "spool is full"), MIB);
}

#[test]
fn a_full_disk_costs_output_and_no_verdict() {
    let scratch = Scratch::new("disk");
    let folder = scratch.join("tiny");
    fs::create_dir(&folder).unwrap();
    let mut command = Command::new("unshare");
    let line = format!(
        "mount -t tmpfs -o size=1m tmpfs {0} && exec \"$0\" \"$@\"",
        Path::display(&folder)
    );
    // The mount goes with the service.
    command.args(["--mount", "sh", "-c", &line]);
    let spool = ["--slots", "1", "--spool", folder.to_str().unwrap()];
    let runner = Service::by(command, "runner", &scratch, &spool);
    let kept = cut(&runner, "failed", "could not write to its spool");
    assert!(kept > MIB, "what the disk did not take is not lost: {kept}");
    let line = "the spool cannot be written";
    assert!(
        runner.log().contains(line) && runner.log().contains("No space left"),
        "{}",
        runner.log()
    );
}
