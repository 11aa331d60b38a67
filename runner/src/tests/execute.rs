//! `POST /execute` without an id.

use cloister_api::{Bounds, ByteSize, Reason};
use cloister_sandbox::{Host, Stream};
use serde_json::json;

use super::bench::{Bench, completed, failed, host, task};
use crate::Config;

#[tokio::test]
async fn it_answers_when_the_job_has_ended() {
    let mut bench = Bench::new(1);
    let body = json!({"command": "cat", "stdin": "in", "limits": {"memory": "64MiB"}, "lease": 5, "epoch": 3, "attempt": 2});
    let call = bench.execute(&body);
    let job = bench.job().await;
    assert_eq!(job.task.program.argv(), ["/bin/sh", "-c", "cat"]);
    assert_eq!(job.task.stdin.bytes(), b"in");
    assert_eq!(job.task.limits.memory, ByteSize::mib(64));
    assert!(!call.is_finished());
    job.complete();
    let answer = call.await.unwrap();
    assert_eq!(answer.status, 200);
    let result = answer.json();
    assert_eq!(result["status"], "completed");
    assert_eq!(result["stdout"], "out");
    assert_eq!(result["exit_code"], 0);
    assert_eq!(result["runtime_ms"], 12.5);
    assert_eq!(result["usage"]["cpu_ms"], 500.0);
}

#[tokio::test]
async fn it_streams_what_happens_with_numbers_and_the_result_last() {
    let mut bench = Bench::new(1);
    let call = bench.stream(&task());
    let mut job = bench.job().await;
    job.start();
    job.write(Stream::Stdout, "one");
    job.write(Stream::Stderr, "two");
    job.write(Stream::Stdout, "three");
    job.end(completed("onethree"));
    let events = call.await.unwrap().events();
    let kinds: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["started", "stdout", "stderr", "stdout", "result"]);
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], number);
    }
    assert_eq!(events[1]["data"], "one");
    assert_eq!(events[4]["stdout"], "onethree");
    assert_eq!(events[4]["status"], "completed");
}

#[tokio::test]
async fn a_cell_that_was_never_made_streams_its_result_alone() {
    let mut bench = Bench::new(1);
    let call = bench.stream(&task());
    bench.job().await.end(failed(Reason::SandboxError));
    let events = call.await.unwrap().events();
    assert_eq!(events.len(), 1);
    assert_eq!((&events[0]["event"], &events[0]["seq"]), (&json!("result"), &json!(0)));
    assert_eq!(events[0]["reason"], "sandbox_error");
    assert_eq!((events[0].get("stdout"), events[0].get("usage")), (None, None));
}

#[tokio::test]
async fn there_are_never_more_jobs_than_slots() {
    let mut bench = Bench::new(2);
    let calls = [bench.execute(&task()), bench.execute(&task())];
    let jobs = [bench.job().await, bench.job().await];
    let refused = bench.answered(&task()).await;
    assert_eq!(refused.status, 503);
    assert!(refused.retry_after);
    assert!(refused.json()["detail"].as_str().unwrap().contains("all 2 slots"), "{}", refused.text);
    assert!(bench.no_job());
    for job in jobs {
        job.complete();
    }
    for call in calls {
        assert_eq!(call.await.unwrap().status, 200);
        // Whoever has an answer finds the slot free.
        let next = bench.execute(&task());
        bench.job().await.complete();
        assert_eq!(next.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_closed_connection_cancels_the_job() {
    let mut bench = Bench::new(1);
    let call = bench.execute(&task());
    let job = bench.job().await;
    call.abort();
    job.cancelled().await;
    assert_eq!(bench.runner.slots.used(), 1, "the slot is free when the cell is gone");
    job.give_in();
    assert_eq!(bench.runner.slots.used(), 0);
    let call = bench.stream(&task());
    let mut job = bench.job().await;
    job.start();
    call.abort();
    job.cancelled().await;
    job.be_killed();
    assert_eq!(bench.runner.slots.used(), 0);
    let text = bench.get("/metrics").await.text;
    let line = "cloister_executions_ended_total{reason=\"cancelled\"} 2\n";
    assert!(text.contains(line), "a caller that went away cancelled its job: {text}");
}

#[tokio::test]
async fn a_job_that_has_ended_is_not_cancelled() {
    let mut bench = Bench::new(1);
    let call = bench.execute(&task());
    let job = bench.job().await;
    let cancelled = job.watch();
    job.complete();
    call.await.unwrap();
    assert!(!*cancelled.borrow());
}

#[tokio::test]
async fn an_engine_that_goes_away_leaves_nobody_waiting() {
    let mut bench = Bench::new(1);
    let call = bench.execute(&task());
    drop(bench.job().await);
    let result = call.await.unwrap().json();
    assert_eq!((&result["status"], &result["reason"]), (&json!("failed"), &json!("sandbox_error")));
    assert_eq!(bench.runner.slots.used(), 0);
}

#[tokio::test]
async fn what_the_machine_cannot_give_is_refused() {
    let config = Config { bounds: Bounds { pids: 100, ..Bounds::default() }, ..Config::default() };
    let mut bench = Bench::with(&config, host());
    for (body, pointer) in [
        (json!({"command": "a", "limits": {"cpus": 2.5}}), "/limits/cpus"),
        (json!({"command": "a", "limits": {"memory": "2GiB"}}), "/limits/memory"),
        (json!({"command": "a", "limits": {"open_files": 513}}), "/limits/open_files"),
        (json!({"command": "a", "limits": {"pids": 101}}), "/limits/pids"),
        (json!({"command": "a", "network": "host"}), "/network"),
        (json!({"command": "a", "priority": 1}), "/priority"),
        (json!({"command": "a", "argv": ["a"]}), "/argv"),
    ] {
        let answer = bench.answered(&body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{}", answer.text);
    }
    // The machine's own is less than what its operator would allow.
    let answer = Bench::new(1).answered(&json!({"command": "a", "limits": {"pids": 1001}})).await;
    assert_eq!(
        (answer.status, answer.json()["errors"][0]["pointer"].as_str()),
        (400, Some("/limits/pids"))
    );
    assert_eq!(bench.call("POST", "/execute?wait=1", &task().to_string()).await.status, 400);
    assert!(bench.no_job());
    // A default is not asked for, and is cut to what there is and what is allowed.
    let call = bench.execute(&task());
    let job = bench.job().await;
    assert_eq!((job.task.limits.open_files, job.task.limits.pids), (512, 100));
    job.complete();
    assert_eq!(call.await.unwrap().status, 200);
}

#[tokio::test]
async fn the_hosts_network_is_there_where_an_operator_allowed_it() {
    let mut bench = Bench::with(&Config::default(), Host { network_host: true, ..host() });
    let call = bench.execute(&json!({"command": "a", "network": "host"}));
    bench.job().await.complete();
    assert_eq!(call.await.unwrap().status, 200);
}

#[tokio::test]
async fn an_earlier_lifes_work_is_refused() {
    let mut bench = Bench::new(1);
    let with =
        |tag: String| bench.send("POST", "/execute", &task().to_string(), &[("if-match", &tag)]);
    let refused = with("\"0190163d-8694-739b-aea5-966c26f8ad91\"".into()).await.unwrap();
    assert_eq!(refused.status, 412);
    let call = with(format!("\"{}\"", bench.runner.boot_id));
    bench.job().await.complete();
    assert_eq!(call.await.unwrap().status, 200);
}

#[tokio::test]
async fn metrics_count_what_ended_and_what_it_used() {
    let mut bench = Bench::new(1);
    for end in ["completed", "timeout", "cancelled"] {
        let call = bench.execute(&task());
        let job = bench.job().await;
        match end {
            "completed" => job.complete(),
            "timeout" => job.end(failed(Reason::Timeout)),
            _ => job.give_in(),
        }
        call.await.unwrap();
    }
    let call = bench.execute(&task());
    let job = bench.job().await;
    bench.answered(&task()).await;
    let text = bench.get("/metrics").await.text;
    for line in [
        "executions_total 4",
        "executions_success_total 1",
        "executions_failed_total 1",
        "cloister_executions_ended_total{reason=\"completed\"} 1",
        "cloister_executions_ended_total{reason=\"timeout\"} 1",
        "cloister_executions_ended_total{reason=\"cancelled\"} 1",
        "cloister_executions_ended_total{reason=\"out_of_memory\"} 0",
        "cloister_executions_refused_total{reason=\"slots\"} 1",
        "cloister_runner_slots 1",
        "cloister_runner_slots_used 1",
        "cloister_jobs_cpu_seconds_total 0.5",
        "cloister_jobs_throttled_seconds_total 0.25",
        "cloister_jobs_oom_kills_total 0",
        "cloister_job_memory_peak_bytes_bucket{le=\"4194304\"} 1",
        "cloister_job_cpu_seconds_count 1",
        "cloister_launch_latency_seconds_count 1",
        "cloister_execution_runtime_seconds_sum 0.0125",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(text.contains("cloister_build_info{version="), "{text}");
    job.complete();
    call.await.unwrap();
}
