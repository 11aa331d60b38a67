//! Large outputs: the same answers, made piece by piece.

use std::os::unix::fs::MetadataExt;

use base64::{Engine, prelude::BASE64_STANDARD};
use cloister_api::{ByteSize, Outcome};
use cloister_sandbox::Stream;
use cloister_tests::Scratch;
use serde_json::{Value, json};
use uuid::Uuid;

use super::bench::{Answer, Bench, Job, completed, host, task, task_with};
use crate::{Config, SpoolFolder};

/// A bench whose spool is on a disk.
fn bench(scratch: &Scratch) -> Bench {
    bench_with(scratch, 1 << 30)
}

fn bench_with(scratch: &Scratch, size: u64) -> Bench {
    let user = std::fs::metadata("/proc/self").unwrap().uid();
    let spool = SpoolFolder::open(&scratch.join("spool"), user.max(1)).unwrap();
    let config = Config {
        slots: Some(2),
        spool: Some(spool),
        spool_size: ByteSize(size),
        ..Config::default()
    };
    Bench::with(&config, host())
}

/// More than stays in memory, with all that JSON escapes and characters of each length.
fn text(length: usize) -> String {
    "é\"\\\n\u{1}€😀x".chars().cycle().take(length).collect()
}

fn complete(mut job: Job, stdout: &[u8], stderr: &[u8]) {
    job.start();
    for (stream, bytes) in [(Stream::Stdout, stdout), (Stream::Stderr, stderr)] {
        for chunk in bytes.chunks(7777) {
            job.write_bytes(stream, chunk);
        }
    }
    job.end(completed(""));
}

fn accept(kind: &str) -> [(&str, &str); 1] {
    [("accept", kind)]
}

async fn get(bench: &Bench, path: &str, accepted: &str) -> Answer {
    bench.send("GET", path, "", &accept(accepted)).await.unwrap()
}

#[tokio::test]
async fn a_large_result_is_the_same_whoever_asks() {
    let scratch = Scratch::new("outputs");
    let mut bench = bench(&scratch);
    let id = Uuid::new_v4();
    let (call, stream) = (bench.execute(&task_with(id)), bench.stream(&task_with(id)));
    let (stdout, stderr) =
        (text(300_000), [text(30_000).as_bytes(), b"\xe2\x82"].concat().repeat(3));
    complete(bench.job().await, stdout.as_bytes(), &stderr);
    let result = call.await.unwrap().json();
    assert_eq!((&result["status"], &result["exit_code"]), (&json!("completed"), &json!(0)));
    assert!(result["stdout"] == stdout, "it is another text");
    assert_eq!((result.get("stdout_base64"), &result["stdout_truncated"]), (None, &json!(false)));
    assert!(result["stderr"] == *String::from_utf8_lossy(&stderr), "it is another text");
    assert!(result["stderr_base64"] == BASE64_STANDARD.encode(&stderr), "they are other bytes");
    let events = stream.await.unwrap().events();
    let mut last = events.last().unwrap().clone();
    assert_eq!((&last["event"], &last["seq"]), (&json!("result"), &json!(events.len() - 1)));
    for name in ["event", "seq"] {
        last.as_object_mut().unwrap().remove(name);
    }
    assert!(last == result, "the stream's result is another one");
    let of = |name: &str| -> String {
        events.iter().filter(|e| e["event"] == name).filter_map(|e| e["data"].as_str()).collect()
    };
    assert!(of("stdout") == stdout, "the events are other text");
    let again = bench.get(&format!("/executions/{id}")).await.json();
    assert!(again == result, "it changed");
    let joined = bench.answered(&task_with(id)).await.json();
    assert!(joined == result, "it changed");
}

#[tokio::test]
async fn large_outputs_can_be_read_apart_from_any_place() {
    let scratch = Scratch::new("outputs");
    let mut bench = bench(&scratch);
    let id = Uuid::new_v4();
    let path = format!("/executions/{id}");
    let kind = accept("application/x-ndjson; output=apart");
    let call = bench.send("POST", "/execute", &task_with(id).to_string(), &kind);
    let mut job = bench.job().await;
    job.start();
    job.write(Stream::Stderr, "early");
    let output = |query: &str| {
        let path = format!("{path}/output?{query}");
        let bench = &bench;
        async move { bench.get(&path).await }
    };
    let early = output("stream=stderr&offset=1").await;
    assert_eq!((early.status, early.text.as_str()), (200, "arly"));
    let stdout = text(200_000);
    for chunk in stdout.as_bytes().chunks(5000) {
        job.write_bytes(Stream::Stdout, chunk);
    }
    job.end(completed(""));
    let events = call.await.unwrap().events();
    let kinds: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["started", "result"]);
    assert_eq!((&events[0]["seq"], &events[1]["seq"]), (&json!(0), &json!(1)));
    let get = get(&bench, &path, "text/plain, application/json;q=0.5;output=apart").await.json();
    for result in [&events[1], &get] {
        let sizes = json!({"stdout": stdout.len(), "stderr": 5});
        assert_eq!(result["output_bytes"], sizes);
        assert_eq!((&result["stdout_truncated"], &result["exit_code"]), (&json!(false), &json!(0)));
        for absent in ["stdout", "stderr", "stdout_base64", "stderr_base64"] {
            assert_eq!(result.get(absent), None);
        }
    }
    assert!(output("stream=stdout").await.text == stdout, "it is another text");
    let half = stdout.floor_char_boundary(stdout.len() / 2);
    let rest = output(&format!("stream=stdout&offset={half}")).await;
    assert!(rest.text == stdout[half..], "it is another text");
    for beyond in [stdout.len() as u64, u64::MAX] {
        let none = output(&format!("stream=stdout&offset={beyond}")).await;
        assert_eq!((none.status, none.text.as_str()), (200, ""));
    }
    for bad in ["", "stream=stdin", "stream=stdout&offset=-1", "stream=stdout&x=1"] {
        assert_eq!(output(bad).await.status, 400, "{bad}");
    }
    let unknown = format!("/executions/{}/output?stream=stdout", Uuid::new_v4());
    assert_eq!(bench.get(&unknown).await.status, 404);
    bench.call("DELETE", &path, "").await;
    assert_eq!(output("stream=stdout").await.status, 404);
}

#[tokio::test]
async fn what_is_small_or_has_no_id_is_not_told_apart() {
    let scratch = Scratch::new("outputs");
    let mut bench = bench(&scratch);
    let apart = accept("application/x-ndjson;output=apart");
    let (half, id) = ("x".repeat(32 << 10), Uuid::new_v4());
    let call = bench.send("POST", "/execute", &task_with(id).to_string(), &apart);
    complete(bench.job().await, half.as_bytes(), half.as_bytes());
    let events = call.await.unwrap().events();
    let kinds: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["started", "result"]);
    assert_eq!((events[1].get("output_bytes"), events[1]["stderr"].as_str()), (None, Some(&*half)));
    let failed = Uuid::new_v4();
    let call = bench.send("POST", "/execute", &task_with(failed).to_string(), &apart);
    bench.job().await.give_in();
    let events = call.await.unwrap().events();
    assert_eq!(
        (events.len(), &events[0]["event"], &events[0]["seq"]),
        (1, &json!("result"), &json!(0))
    );
    // Nobody could come for these.
    let call = bench.send("POST", "/execute", &task().to_string(), &apart);
    let long = text(100_000);
    complete(bench.job().await, long.as_bytes(), b"");
    let events = call.await.unwrap().events();
    let result: &Value = events.last().unwrap();
    assert!(result["stdout"] == long && result.get("output_bytes").is_none(), "it is apart");
}

#[tokio::test]
async fn a_full_spool_cuts_outputs_says_so_and_takes_nothing_new() {
    let scratch = Scratch::new("outputs");
    let mut bench = bench_with(&scratch, 100_000);
    let id = Uuid::new_v4();
    let call = bench.execute(&task_with(id));
    let mut job = bench.job().await;
    job.start();
    let taken = job.offer(Stream::Stdout, &text(100_000));
    assert_eq!(taken, 100_000);
    assert_eq!(job.offer(Stream::Stderr, "more"), 0);
    let cut = Some(true);
    job.end(Outcome { stdout_truncated: cut, stderr_truncated: cut, ..completed("") });
    let result = call.await.unwrap().json();
    assert_eq!((&result["status"], &result["exit_code"]), (&json!("completed"), &json!(0)));
    assert_eq!((&result["stdout_truncated"], &result["stderr"]), (&json!(true), &json!("")));
    assert!(result["message"].as_str().unwrap().contains("spool is full"), "{}", result["message"]);
    for task in [task(), task_with(Uuid::new_v4())] {
        let refused = bench.answered(&task).await;
        assert_eq!((refused.status, refused.retry_after), (503, true));
        assert!(refused.text.contains("--spool-size"), "{}", refused.text);
    }
    assert_eq!(bench.get("/ready").await.status, 503);
    assert!(bench.get("/health").await.text.contains("spool is full"));
    let metrics = bench.get("/metrics").await.text;
    for line in [
        "cloister_runner_spool_bytes 100000",
        "cloister_runner_spool_size_bytes 100000",
        "cloister_runner_outputs_truncated_total{reason=\"full\"} 2",
        "cloister_runner_outputs_truncated_total{reason=\"failed\"} 0",
        "cloister_executions_refused_total{reason=\"spool\"} 2",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    bench.call("DELETE", &format!("/executions/{id}"), "").await;
    let call = bench.execute(&task());
    bench.job().await.complete();
    assert_eq!(call.await.unwrap().status, 200);
}
