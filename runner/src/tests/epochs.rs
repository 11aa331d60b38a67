//! Who may do what: coordinators that lead, that did, and those of other clusters.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use uuid::Uuid;

use super::bench::{Answer, Bench, Job, task_with};

const OURS: Uuid = Uuid::from_u128(1);
const OTHERS: Uuid = Uuid::from_u128(2);

fn execution(id: Uuid, cluster: Uuid, epoch: u64) -> Value {
    json!({"command": "true", "execution_id": id, "cluster": cluster, "epoch": epoch, "lease": 10})
}

async fn started(
    bench: &mut Bench,
    id: Uuid,
    cluster: Uuid,
    epoch: u64,
) -> (JoinHandle<Answer>, Job) {
    let call = bench.execute(&execution(id, cluster, epoch));
    (call, bench.job().await)
}

async fn renew(bench: &Bench, cluster: Uuid, epoch: u64, id: Uuid) -> Answer {
    let body = json!({"cluster": cluster, "epoch": epoch, "lease": 3600, "executions": [id]});
    bench.call("POST", "/leases", &body.to_string()).await
}

async fn delete(bench: &Bench, id: Uuid, query: &str) -> Answer {
    bench.call("DELETE", &format!("/executions/{id}{query}"), "").await
}

fn by(cluster: Uuid, epoch: u64) -> String {
    format!("?epoch={epoch}&cluster={cluster}")
}

async fn stale(bench: &Bench) -> u64 {
    let text = bench.get("/metrics").await.text;
    let line = text.lines().find_map(|line| line.strip_prefix("cloister_stale_requests_total "));
    line.unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_was_replaced_renews_nothing() {
    let mut bench = Bench::new(1);
    let id = Uuid::new_v4();
    let (_call, job) = started(&mut bench, id, OURS, 7).await;
    let start = Instant::now();
    sleep(Duration::from_secs(5)).await;
    let refused = renew(&bench, OURS, 6, id).await;
    assert_eq!(refused.status, 409);
    assert!(refused.text.contains("epoch 7"), "{}", refused.text);
    job.cancelled().await;
    assert_eq!(start.elapsed().as_secs(), 10);
    assert_eq!(stale(&bench).await, 1);
}

#[tokio::test]
async fn a_leader_that_was_replaced_cancels_and_forgets_nothing() {
    let mut bench = Bench::new(1);
    let id = Uuid::new_v4();
    let (call, job) = started(&mut bench, id, OURS, 7).await;
    assert_eq!(delete(&bench, id, &by(OURS, 6)).await.status, 409);
    assert!(!job.is_cancelled());
    job.complete();
    call.await.unwrap();
    assert_eq!(delete(&bench, id, &by(OURS, 6)).await.status, 409);
    let kept = bench.get(&format!("/executions/{id}")).await;
    assert_eq!(kept.json()["stdout"], "out");
    // Nor does it keep what it does not know from running.
    let next = Uuid::new_v4();
    assert_eq!(delete(&bench, next, &by(OURS, 6)).await.status, 409);
    let (call, job) = started(&mut bench, next, OURS, 7).await;
    job.complete();
    assert_eq!(call.await.unwrap().status, 200);
    assert_eq!(delete(&bench, id, &by(OURS, 7)).await.status, 200);
    assert_eq!(delete(&bench, next, "").await.status, 200);
    assert_eq!(stale(&bench).await, 3);
}

/// Whatever a leader asks first, those before it are refused from then on, also where it was itself
/// refused for another reason.
#[tokio::test]
async fn whatever_a_new_leader_asks_replaces_the_one_before() {
    for first in ["execute", "full", "leases", "delete"] {
        let mut bench = Bench::new(1);
        let id = Uuid::new_v4();
        let (_call, job) = started(&mut bench, id, OURS, 7).await;
        let other = Uuid::new_v4();
        match first {
            // A new leader takes up again what the one before it had.
            "execute" => {
                let joined = bench.execute(&execution(id, OURS, 8));
                tokio::task::yield_now().await;
                assert!(!joined.is_finished());
            }
            "full" => assert_eq!(bench.answered(&execution(other, OURS, 8)).await.status, 503),
            "leases" => assert_eq!(renew(&bench, OURS, 8, id).await.status, 200),
            _ => assert_eq!(delete(&bench, other, &by(OURS, 8)).await.status, 404),
        }
        // Before it is looked at whether there is room: there is none.
        assert_eq!(bench.answered(&execution(other, OURS, 7)).await.status, 409, "{first}");
        assert_eq!(renew(&bench, OURS, 7, id).await.status, 409, "{first}");
        assert_eq!(delete(&bench, id, &by(OURS, 7)).await.status, 409, "{first}");
        assert!(!job.is_cancelled(), "{first}");
        // It goes on itself, under the same number.
        assert_eq!(delete(&bench, id, &by(OURS, 8)).await.status, 202, "{first}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_execution_is_its_own_clusters() {
    let mut bench = Bench::new(2);
    let id = Uuid::new_v4();
    let (call, job) = started(&mut bench, id, OURS, 7).await;
    let start = Instant::now();
    // The other one's terms are counted by themselves: nothing of this is for an epoch.
    for body in [execution(id, OTHERS, 1), task_with(id)] {
        let refused = bench.answered(&body).await;
        assert_eq!(refused.status, 422, "{body}");
        assert!(refused.text.contains("another cluster"), "{}", refused.text);
    }
    assert_eq!(renew(&bench, OTHERS, 1, id).await.json()["unknown"], json!([id]));
    assert_eq!(delete(&bench, id, &by(OTHERS, 1)).await.status, 404);
    assert_eq!(delete(&bench, id, &format!("?cluster={OTHERS}")).await.status, 404);
    let listed = async |query: String| {
        let answer = bench.get(&format!("/executions{query}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["executions"].as_array().unwrap().len()
    };
    assert_eq!(listed(String::new()).await, 1);
    assert_eq!(listed(format!("?cluster={OURS}")).await, 1);
    assert_eq!(listed(format!("?cluster={OTHERS}")).await, 0);
    assert_eq!(bench.get(&format!("/executions/{id}")).await.status, 200);
    job.cancelled().await;
    assert_eq!(start.elapsed().as_secs(), 10, "nothing of it renewed the lease");
    job.be_killed();
    assert_eq!(call.await.unwrap().json()["reason"], "runner_lost", "nor cancelled it");
    assert_eq!(delete(&bench, id, &by(OTHERS, 1)).await.status, 404, "nor forgot it");
    assert_eq!(delete(&bench, id, &by(OURS, 7)).await.status, 200);
    assert_eq!(stale(&bench).await, 0);
}

/// A coordinator of the version before named no cluster. What it started is taken up by the one that
/// it became.
#[tokio::test]
async fn an_execution_of_no_cluster_becomes_the_first_ones() {
    for first in ["execute", "leases"] {
        let mut bench = Bench::new(1);
        let id = Uuid::new_v4();
        let body = json!({"command": "true", "execution_id": id});
        let call = bench.execute(&body);
        let job = bench.job().await;
        // It is none of its business yet: it may be another one's.
        assert_eq!(delete(&bench, id, &by(OURS, 1)).await.status, 404, "{first}");
        let listed = bench.get(&format!("/executions?cluster={OURS}")).await.json();
        assert_eq!(listed["executions"], json!([]), "{first}");
        if first == "execute" {
            drop(bench.execute(&execution(id, OURS, 1)));
            tokio::task::yield_now().await;
        } else {
            let answer = renew(&bench, OURS, 1, id).await.json();
            assert_eq!(answer["executions"][0]["execution_id"], json!(id));
        }
        assert_eq!(renew(&bench, OTHERS, 1, id).await.json()["unknown"], json!([id]), "{first}");
        assert_eq!(delete(&bench, id, &by(OTHERS, 1)).await.status, 404, "{first}");
        assert_eq!(bench.answered(&body).await.status, 422, "{first}");
        assert!(!job.is_cancelled(), "{first}");
        job.complete();
        call.await.unwrap();
        assert_eq!(delete(&bench, id, &by(OURS, 1)).await.status, 200, "{first}");
    }
}

#[tokio::test]
async fn a_cluster_too_many_is_refused_and_disturbs_nobody() {
    let mut bench = Bench::new(1);
    let id = Uuid::new_v4();
    let (_call, job) = started(&mut bench, id, OURS, 7).await;
    let mut refused = None;
    for cluster in 2..2000 {
        let answer = renew(&bench, Uuid::from_u128(cluster), 1, id).await;
        if answer.status != 200 {
            refused = Some((cluster, answer));
            break;
        }
    }
    let (cluster, answer) = refused.unwrap();
    assert_eq!((cluster, answer.status, answer.retry_after), (1025, 503, true));
    let stranger = Uuid::from_u128(cluster);
    assert_eq!(bench.answered(&execution(Uuid::new_v4(), stranger, 1)).await.status, 503);
    let line = "cloister_executions_refused_total{reason=\"clusters\"} 1\n";
    assert!(bench.get("/metrics").await.text.contains(line));
    // Nobody's terms were forgotten for it.
    assert_eq!(renew(&bench, OURS, 6, id).await.status, 409);
    assert_eq!(renew(&bench, OURS, 7, id).await.status, 200);
    assert!(!job.is_cancelled());
}

#[tokio::test]
async fn what_is_over_is_not_run_again() {
    let mut bench = Bench::new(1);
    let [done, never] = [1, 2].map(Uuid::from_u128);
    let (call, job) = started(&mut bench, done, OURS, 1).await;
    job.complete();
    call.await.unwrap();
    delete(&bench, done, &by(OURS, 1)).await;
    // Cancelled before it came, as far as the runner is concerned.
    assert_eq!(delete(&bench, never, &by(OURS, 1)).await.status, 404);
    for id in [done, never] {
        let refused = bench.answered(&execution(id, OURS, 1)).await;
        assert_eq!(refused.status, 422, "{}", refused.text);
        assert!(refused.text.contains("that is over"), "{}", refused.text);
        assert_eq!(bench.get(&format!("/executions/{id}")).await.status, 404);
    }
    assert!(bench.no_job());
}

#[tokio::test]
async fn what_is_known_is_listed_in_the_order_of_ids() {
    let mut bench = Bench::new(2);
    let [first, second] = [1, 2].map(Uuid::from_u128);
    let (_call, _job) = started(&mut bench, second, OURS, 1).await;
    let (call, job) = started(&mut bench, first, OURS, 1).await;
    job.complete();
    call.await.unwrap();
    let listed = bench.get("/executions").await.json();
    let expected = json!({"boot_id": bench.runner.boot_id, "executions": [
        {"execution_id": first, "status": "completed", "started_at": "1970-01-01T00:00:01.000Z"},
        {"execution_id": second, "status": "running"},
    ]});
    assert_eq!(listed, expected);
    for query in ["?cluster=x", "?clutser=1"] {
        assert_eq!(bench.get(&format!("/executions{query}")).await.status, 400, "{query}");
    }
    for query in ["?epoch=-1", "?epoch=9223372036854775808", "?epoch=x", "?cluster=1", "?apoch=1"] {
        assert_eq!(delete(&bench, first, query).await.status, 400, "{query}");
    }
    assert_eq!(delete(&bench, first, "?epoch=9223372036854775807").await.status, 200);
}
