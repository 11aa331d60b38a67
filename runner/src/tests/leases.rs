//! Leases: renewed together or one by one, and never revived.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    task::{JoinHandle, yield_now},
    time::{Instant, sleep},
};
use uuid::Uuid;

use super::bench::{Answer, Bench, Job};

const CLUSTER: Uuid = Uuid::from_u128(1);

/// `true` under an id, with 10 s to be silent.
fn leased(id: Uuid) -> Value {
    json!({"command": "true", "execution_id": id, "attempt": 2, "cluster": CLUSTER, "epoch": 1, "lease": 10})
}

async fn renew(bench: &Bench, lease: u64, ids: &[Uuid]) -> Answer {
    let body = json!({"cluster": CLUSTER, "epoch": 1, "lease": lease, "executions": ids});
    bench.call("POST", "/leases", &body.to_string()).await
}

/// One that runs, with 10 s to be silent.
async fn started(bench: &mut Bench, id: Uuid) -> (JoinHandle<Answer>, Job) {
    let call = bench.execute(&leased(id));
    let mut job = bench.job().await;
    job.start();
    (call, job)
}

async fn expired(bench: &Bench, count: u64) -> bool {
    let line = format!("\ncloister_leases_expired_total {count}\n");
    bench.get("/metrics").await.text.contains(&line)
}

#[tokio::test(start_paused = true)]
async fn leases_are_renewed_together() {
    let mut bench = Bench::new(3);
    let [running, made, ended, unknown] = [1, 2, 3, 4].map(Uuid::from_u128);
    let (call, job) = started(&mut bench, running).await;
    let _made = bench.execute(&leased(made));
    let second = bench.job().await;
    let third = bench.execute(&leased(ended));
    bench.job().await.complete();
    third.await.unwrap();
    let start = Instant::now();
    sleep(Duration::from_secs(8)).await;
    let answer = renew(&bench, 10, &[running, unknown, ended, made]).await;
    let started_at = "1970-01-01T00:00:01.000Z";
    let known = json!([
        {"execution_id": running, "attempt": 2, "status": "running", "started_at": started_at},
        {"execution_id": ended, "attempt": 2, "status": "completed", "started_at": started_at},
        {"execution_id": made, "attempt": 2, "status": "running"},
    ]);
    let boot_id = bench.runner.boot_id;
    assert_eq!(
        answer.json(),
        json!({"boot_id": boot_id, "executions": known, "unknown": [unknown]})
    );
    sleep(Duration::from_secs(8)).await;
    assert!(!job.is_cancelled() && !second.is_cancelled());
    job.cancelled().await;
    second.cancelled().await;
    assert_eq!(start.elapsed().as_secs(), 18);
    job.be_killed();
    second.give_in();
    let result = call.await.unwrap().json();
    assert_eq!((&result["status"], &result["reason"]), (&json!("failed"), &json!("runner_lost")));
    assert!(expired(&bench, 2).await);
    // It is known until it is acknowledged, however long its lease is over.
    let answer = renew(&bench, 10, &[ended, running]).await.json();
    let statuses: Vec<_> = (0..2).map(|i| answer["executions"][i]["status"].clone()).collect();
    assert_eq!(statuses, ["completed", "failed"]);
    assert_eq!(answer.get("unknown"), None);
    bench.call("DELETE", &format!("/executions/{ended}"), "").await;
    assert_eq!(renew(&bench, 10, &[ended]).await.json()["unknown"], json!([ended]));
}

/// A runner that was stopped goes on, and what came for it meanwhile is heard before the alarm: the
/// coordinator counts on the execution being over, and may have given it to another runner.
#[tokio::test(start_paused = true)]
async fn a_renewal_that_comes_too_late_revives_nothing() {
    for late in ["leases", "execute"] {
        let mut bench = Bench::new(1);
        let id = Uuid::new_v4();
        let (call, job) = started(&mut bench, id).await;
        bench.clock.sleep(Duration::from_secs(10));
        let joined = if late == "leases" {
            let answer = renew(&bench, 3600, &[id]).await.json();
            assert_eq!(answer["executions"][0]["status"], "running", "until it is killed");
            None
        } else {
            let call = bench.execute(&leased(id));
            yield_now().await;
            Some(call)
        };
        assert!(job.is_cancelled(), "{late}");
        // Nor do further ones, while it is being killed.
        renew(&bench, 3600, &[id]).await;
        job.be_killed();
        for call in [Some(call), joined].into_iter().flatten() {
            let result = call.await.unwrap().json();
            assert_eq!(result["reason"], "runner_lost", "{late}");
            assert!(result["message"].as_str().unwrap().contains("lease"), "{result}");
        }
        assert!(expired(&bench, 1).await);
    }
}

/// A coordinator that heard of a runner at some time and not since gives the execution up a lease
/// later. What it sent may lie in the buffers of a machine that stands still, and be read after that.
#[tokio::test(start_paused = true)]
async fn what_is_read_when_its_lease_is_over_begins_nothing() {
    let mut bench = Bench::new(1);
    let heard = bench.get("/health").await.json()["clock_ms"].as_u64().unwrap();
    let mut body = leased(Uuid::new_v4());
    body["as_of"] = json!(heard);
    bench.clock.sleep(Duration::from_secs(10));
    let late = bench.answered(&body).await;
    assert_eq!((late.status, late.retry_after), (503, true));
    assert!(late.text.contains("so long on its way"), "{}", late.text);
    let refusals = "\ncloister_executions_refused_total{reason=\"late\"} 1\n";
    let metrics = bench.get("/metrics").await.text;
    assert!(metrics.contains(refusals), "{metrics}");
    assert_eq!(bench.get("/executions").await.json()["executions"], json!([]));
    // What is left of it is what it gets, also by a clock that was never this machine's.
    for (as_of, left) in [(heard + 1, 1), (u64::MAX >> 1, 10_000)] {
        let mut body = leased(Uuid::new_v4());
        body["as_of"] = json!(as_of);
        let start = Instant::now();
        let _call = bench.execute(&body);
        let job = bench.job().await;
        job.cancelled().await;
        assert_eq!(start.elapsed().as_millis(), left);
        job.be_killed();
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_was_long_on_its_way_takes_nothing_back_and_gives_no_more() {
    let mut bench = Bench::new(1);
    let id = Uuid::new_v4();
    let sent = bench.get("/health").await.json()["clock_ms"].as_u64().unwrap();
    let (_call, job) = started(&mut bench, id).await;
    let start = Instant::now();
    sleep(Duration::from_secs(6)).await;
    renew(&bench, 10, &[id]).await;
    for lease in [1, 10, 12] {
        let body = json!({"cluster": CLUSTER, "epoch": 1, "lease": lease, "as_of": sent, "executions": [id]});
        assert_eq!(bench.call("POST", "/leases", &body.to_string()).await.status, 200);
        assert!(!job.is_cancelled());
    }
    job.cancelled().await;
    assert_eq!(start.elapsed().as_secs(), 16);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_in_the_last_moment_counts() {
    let mut bench = Bench::new(1);
    let id = Uuid::new_v4();
    let (_call, job) = started(&mut bench, id).await;
    let start = Instant::now();
    bench.clock.sleep(Duration::from_millis(9_999));
    renew(&bench, 10, &[id]).await;
    assert!(!job.is_cancelled());
    job.cancelled().await;
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_slept_through_a_lease_ends_the_job_as_it_wakes() {
    let mut bench = Bench::new(1);
    let (_call, job) = started(&mut bench, Uuid::new_v4()).await;
    let start = Instant::now();
    bench.clock.sleep(Duration::from_secs(3600));
    bench.clock.wake();
    job.cancelled().await;
    assert_eq!(start.elapsed().as_secs(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_earliest_lease_rings_whatever_the_order() {
    let mut bench = Bench::new(3);
    let [long, short, cut] = [1, 2, 3].map(Uuid::from_u128);
    let (_long, long_job) = started(&mut bench, long).await;
    let (_cut, cut_job) = started(&mut bench, cut).await;
    let mut body = leased(short);
    body["lease"] = json!(5);
    let _short = bench.execute(&body);
    let short_job = bench.job().await;
    let start = Instant::now();
    renew(&bench, 2, &[cut]).await;
    for (job, seconds) in [(&cut_job, 2), (&short_job, 5), (&long_job, 10)] {
        job.cancelled().await;
        assert_eq!(start.elapsed().as_secs(), seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn what_ended_it_first_is_what_it_is_called() {
    let mut bench = Bench::new(2);
    let [done, asked] = [1, 2].map(Uuid::from_u128);
    let (call, job) = started(&mut bench, done).await;
    job.complete();
    call.await.unwrap();
    let (call, job) = started(&mut bench, asked).await;
    bench.call("DELETE", &format!("/executions/{asked}"), "").await;
    sleep(Duration::from_secs(3600)).await;
    job.be_killed();
    assert_eq!(call.await.unwrap().json()["status"], "cancelled");
    assert_eq!(bench.get(&format!("/executions/{done}")).await.json()["status"], "completed");
    assert!(expired(&bench, 0).await);
}

#[tokio::test]
async fn a_malformed_renewal_is_refused() {
    let bench = Bench::new(1);
    let answer = bench.call("POST", "/leases", r#"{"epoch": 1, "leese": 5}"#).await;
    assert_eq!(answer.status, 400);
    for fault in ["/cluster", "/lease", "/executions", "did you mean \\\"lease\\\""] {
        assert!(answer.text.contains(fault), "{fault}: {}", answer.text);
    }
    let body = json!({"cluster": CLUSTER, "epoch": 1, "lease": 5, "executions": []}).to_string();
    assert_eq!(bench.call("POST", "/leases?wait=1", &body).await.status, 400);
    assert_eq!(bench.call("POST", "/leases", &body).await.status, 200);
    assert_eq!(bench.get("/leases").await.status, 405);
}
