//! Executions with an id: joined, leased, kept, acknowledged.

use std::time::Duration;

use cloister_api::{ByteSize, Reason};
use cloister_sandbox::Stream;
use serde_json::json;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::bench::{Bench, completed, failed, host, task, task_with};
use crate::{Config, ResultLimits};

fn path(id: Uuid) -> String {
    format!("/executions/{id}")
}

#[tokio::test]
async fn a_second_call_joins_the_first() {
    let mut bench = Bench::new(1);
    let id = Uuid::new_v4();
    let first = bench.stream(&task_with(id));
    let mut job = bench.job().await;
    job.start();
    job.write(Stream::Stdout, "early");
    // All slots are taken, and still nothing new is needed.
    let second = bench.execute(&task_with(id));
    let third = bench.stream(&task_with(id));
    job.write(Stream::Stdout, "late");
    job.end(completed("earlylate"));
    let (first, third) = (first.await.unwrap().events(), third.await.unwrap().events());
    assert_eq!(second.await.unwrap().json()["stdout"], "earlylate");
    // Whoever comes later sees the same events under the same numbers.
    assert_eq!(first, third);
    assert!(bench.no_job());
    let again = bench.stream(&task_with(id)).await.unwrap().events();
    assert_eq!(first, again);
}

#[tokio::test]
async fn a_closed_connection_kills_nothing_and_the_result_is_kept() {
    let mut bench = Bench::new(1);
    let id = Uuid::new_v4();
    let call = bench.execute(&task_with(id));
    let mut job = bench.job().await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    let running = bench.get(&path(id)).await;
    assert_eq!((running.status, &running.json()["status"]), (200, &json!("running")));
    assert_eq!(running.json().get("started_at"), None);
    job.start();
    assert_eq!(bench.get(&path(id)).await.json()["started_at"], "1970-01-01T00:00:01.000Z");
    assert!(!job.is_cancelled());
    job.complete();
    for _ in 0..2 {
        assert_eq!(bench.get(&path(id)).await.json()["stdout"], "out");
    }
    let acknowledged = bench.call("DELETE", &path(id), "").await;
    assert_eq!((acknowledged.status, &acknowledged.json()["status"]), (200, &json!("completed")));
    assert_eq!(bench.get(&path(id)).await.status, 404);
    assert_eq!(bench.call("DELETE", &path(id), "").await.status, 404);
    assert_eq!(bench.get("/executions/nonsense").await.status, 404);
}

#[tokio::test]
async fn waiting_for_a_result_ends_with_it() {
    let mut bench = Bench::new(1);
    let id = Uuid::new_v4();
    let _call = bench.execute(&task_with(id));
    let job = bench.job().await;
    let now = bench.get(&format!("{}?wait=0", path(id))).await;
    assert_eq!(now.json()["status"], "running");
    let wait = bench.send("GET", &format!("{}?wait=60", path(id)), "", &[]);
    job.complete();
    assert_eq!(wait.await.unwrap().json()["status"], "completed");
    assert_eq!(bench.get(&format!("{}?wiat=1", path(id))).await.status, 400);
}

#[tokio::test]
async fn deleting_cancels_what_runs() {
    let mut bench = Bench::new(1);
    let id = Uuid::new_v4();
    let call = bench.execute(&task_with(id));
    let job = bench.job().await;
    assert_eq!(bench.call("DELETE", &path(id), "").await.status, 202);
    job.cancelled().await;
    job.give_in();
    assert_eq!(call.await.unwrap().json()["status"], "cancelled");
    assert_eq!(bench.get(&path(id)).await.json()["status"], "cancelled");
    assert_eq!(bench.call("DELETE", &path(id), "").await.status, 200);
    assert_eq!(bench.get(&path(id)).await.status, 404);
}

#[tokio::test]
async fn who_only_cancels_takes_no_result_away() {
    let mut bench = Bench::new(1);
    let id = Uuid::new_v4();
    let cancel = format!("{}?acknowledge=false", path(id));
    let call = bench.execute(&task_with(id));
    bench.job().await.complete();
    assert_eq!(call.await.unwrap().status, 200);
    let late = bench.call("DELETE", &cancel, "").await;
    assert_eq!((late.status, &late.json()["status"]), (200, &json!("completed")));
    assert_eq!(bench.get(&path(id)).await.json()["stdout"], "out");

    let id = Uuid::new_v4();
    let cancel = format!("{}?acknowledge=false", path(id));
    let call = bench.execute(&task_with(id));
    let job = bench.job().await;
    assert_eq!(bench.call("DELETE", &cancel, "").await.status, 202);
    job.cancelled().await;
    job.give_in();
    assert_eq!(call.await.unwrap().json()["status"], "cancelled");

    let unheard = Uuid::new_v4();
    let cancel = format!("{}?acknowledge=false", path(unheard));
    assert_eq!(bench.call("DELETE", &cancel, "").await.status, 404);
    assert_eq!(bench.answered(&task_with(unheard)).await.status, 422, "it comes too late");
    let unclear = format!("{}?acknowledge=no", path(unheard));
    assert_eq!(bench.call("DELETE", &unclear, "").await.status, 400);
}

#[tokio::test]
async fn an_id_means_one_thing() {
    let mut bench = Bench::new(2);
    let id = Uuid::new_v4();
    let call = bench.execute(&task_with(id));
    let job = bench.job().await;
    for other in [
        json!({"command": "false", "execution_id": id, "attempt": 1}),
        json!({"command": "true", "execution_id": id, "attempt": 2}),
    ] {
        assert_eq!(bench.answered(&other).await.status, 422, "{other}");
    }
    // Defaults that are written out, a new lease and a new epoch mean the same.
    let same = json!({"command": "true", "execution_id": id, "attempt": 1, "timeout": "30s", "lease": 5, "epoch": 1});
    let same = bench.execute(&same);
    job.complete();
    assert_eq!(same.await.unwrap().status, 200);
    assert_eq!(call.await.unwrap().status, 200);
    assert!(bench.no_job());
}

#[tokio::test]
async fn a_leader_that_was_replaced_is_refused() {
    let mut bench = Bench::new(2);
    let with =
        |epoch: u64, id: Uuid| json!({"command": "true", "execution_id": id, "epoch": epoch});
    let id = Uuid::new_v4();
    let call = bench.execute(&with(7, id));
    let job = bench.job().await;
    let stale = bench.answered(&with(6, Uuid::new_v4())).await;
    assert_eq!(stale.status, 409);
    assert!(stale.json()["detail"].as_str().unwrap().contains("epoch 7"), "{}", stale.text);
    // It can't join or renew either; who leads now can.
    assert_eq!(bench.answered(&with(6, id)).await.status, 409);
    let joined = bench.execute(&with(8, id));
    job.complete();
    assert_eq!(joined.await.unwrap().status, 200);
    assert_eq!(call.await.unwrap().status, 200);
    assert_eq!(bench.answered(&with(7, id)).await.status, 409);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_not_renewed_ends_the_job() {
    let mut bench = Bench::new(1);
    let id = Uuid::new_v4();
    let body = json!({"command": "true", "execution_id": id, "lease": 10});
    let call = bench.execute(&body);
    let mut job = bench.job().await;
    job.start();
    let start = Instant::now();
    sleep(Duration::from_secs(8)).await;
    let renewed = bench.execute(&body);
    sleep(Duration::from_secs(8)).await;
    assert!(!job.is_cancelled());
    job.cancelled().await;
    assert_eq!(start.elapsed().as_secs(), 18);
    job.be_killed();
    for call in [call, renewed] {
        let result = call.await.unwrap().json();
        assert_eq!(
            (&result["status"], &result["reason"]),
            (&json!("failed"), &json!("runner_lost"))
        );
        assert_eq!((&result["exit_code"], &result["signal"]), (&json!(137), &json!(9)));
        assert!(result["message"].as_str().unwrap().contains("lease"), "{result}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_with_its_job_and_a_late_one_begins() {
    let mut bench = Bench::new(1);
    let id = Uuid::new_v4();
    let call = bench.execute(&task_with(id));
    let job = bench.job().await;
    // Without a lease it runs for as long as it likes.
    sleep(Duration::from_secs(10_000)).await;
    assert!(!job.is_cancelled());
    let leased = json!({"command": "true", "execution_id": id, "attempt": 1, "lease": "500ms"});
    let leased = bench.execute(&leased);
    job.cancelled().await;
    job.end(failed(Reason::Timeout));
    // What ended it first is what it is called.
    assert_eq!(leased.await.unwrap().json()["reason"], "timeout");
    assert_eq!(call.await.unwrap().json()["message"], "failed");
}

#[tokio::test(start_paused = true)]
async fn a_result_that_nobody_fetches_is_dropped_after_its_time() {
    let results = ResultLimits { keep: Duration::from_secs(100), ..ResultLimits::default() };
    let mut bench = Bench::with(&Config { results, ..Config::default() }, host());
    let id = Uuid::new_v4();
    let call = bench.execute(&task_with(id));
    bench.job().await.complete();
    call.await.unwrap();
    sleep(Duration::from_secs(99)).await;
    assert_eq!(bench.get(&path(id)).await.status, 200);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.get(&path(id)).await.status, 404);
    assert_eq!(bench.runner.kept.count(), 0);
}

#[tokio::test]
async fn results_are_never_pushed_out() {
    let results = ResultLimits { count: 2, ..ResultLimits::default() };
    let mut bench = Bench::with(&Config { slots: Some(4), results, ..Config::default() }, host());
    let ids = [Uuid::new_v4(), Uuid::new_v4()];
    for id in ids {
        let call = bench.execute(&task_with(id));
        bench.job().await.complete();
        call.await.unwrap();
    }
    let refused = bench.answered(&task_with(Uuid::new_v4())).await;
    assert_eq!(refused.status, 503);
    assert!(refused.retry_after);
    assert!(bench.get("/health").await.text.contains("wait to be acknowledged"));
    assert!(bench.get("/metrics").await.text.contains("cloister_runner_executions_kept 2\n"));
    // Joining needs no room, and neither does a call without an id.
    assert_eq!(bench.answered(&task_with(ids[0])).await.json()["stdout"], "out");
    let call = bench.execute(&task());
    bench.job().await.complete();
    assert_eq!(call.await.unwrap().status, 200);
    bench.call("DELETE", &path(ids[0]), "").await;
    let call = bench.execute(&task_with(Uuid::new_v4()));
    bench.job().await.complete();
    assert_eq!(call.await.unwrap().status, 200);
}

#[tokio::test]
async fn the_outputs_of_results_are_bounded_together() {
    let results = ResultLimits { memory: ByteSize(1000), ..ResultLimits::default() };
    let mut bench = Bench::with(&Config { results, ..Config::default() }, host());
    let id = Uuid::new_v4();
    let call = bench.execute(&task_with(id));
    bench.job().await.end(completed(&"x".repeat(1000)));
    call.await.unwrap();
    assert_eq!(bench.answered(&task_with(Uuid::new_v4())).await.status, 503);
    bench.call("DELETE", &path(id), "").await;
    let call = bench.execute(&task_with(Uuid::new_v4()));
    bench.job().await.complete();
    assert_eq!(call.await.unwrap().status, 200);
}

#[tokio::test]
async fn an_id_that_was_refused_is_not_known() {
    let mut bench = Bench::new(1);
    let call = bench.execute(&task());
    let job = bench.job().await;
    let id = Uuid::new_v4();
    assert_eq!(bench.answered(&task_with(id)).await.status, 503);
    assert_eq!(bench.get(&path(id)).await.status, 404);
    job.complete();
    call.await.unwrap();
}
