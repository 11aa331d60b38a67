//! How a runner ends: drained, hurried, or because its launcher is gone.

use std::{
    net::TcpListener,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use cloister_web::Shutdown;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout},
};
use uuid::Uuid;

use super::{
    bench::{Fake, Job, PATIENCE, fake, task, task_with},
    sockets::Client,
};
use crate::{Config, Error, Lost, ResultLimits, serve::run};

struct Service {
    client: Client,
    jobs: mpsc::UnboundedReceiver<Job>,
    cells: Arc<Fake>,
    shutdown: Shutdown,
    lost: Lost,
    task: JoinHandle<Result<(), Error>>,
}

fn start(config: Config) -> Service {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::new(listener.local_addr().unwrap());
    let (cells, jobs) = fake();
    let (shutdown, lost) = (Shutdown::new(), Lost::new());
    let task = tokio::spawn(run(config, cells.clone(), lost.clone(), listener, shutdown.clone()));
    Service { client, jobs, cells, shutdown, lost, task }
}

impl Service {
    async fn job(&mut self) -> Job {
        timeout(PATIENCE, self.jobs.recv()).await.expect("a job in time").unwrap()
    }

    async fn ends(self) -> Result<(), Error> {
        let result = timeout(PATIENCE, self.task).await.expect("an end in time").unwrap();
        assert!(self.cells.stopped.load(Ordering::SeqCst), "the engine is stopped at the end");
        assert!(self.client.refused().await, "nobody listens any more");
        result
    }
}

#[tokio::test]
async fn a_drain_lets_running_jobs_finish() {
    let mut service = start(Config::default());
    let call = service.client.post(&task());
    let job = service.job().await;
    service.shutdown.drain();
    let refused = service.client.post(&task()).await.unwrap();
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(service.client.get("/health").await.contains("\"draining\""));
    let ready = service.client.get("/ready").await.to_ascii_lowercase();
    assert!(
        ready.starts_with("http/1.1 503 ") && ready.contains("\r\nretry-after: 5\r\n"),
        "{ready}"
    );
    assert!(ready.contains("application/problem+json"), "{ready}");
    assert!(!job.is_cancelled());
    job.complete();
    assert!(call.await.unwrap().contains("\"stdout\":\"out\""));
    service.ends().await.unwrap();
}

#[tokio::test]
async fn a_drain_without_work_ends_at_once() {
    let service = start(Config::default());
    service.shutdown.drain();
    service.ends().await.unwrap();
}

/// Not as cancelled, which nobody asked for: another runner is to have them.
#[tokio::test]
async fn jobs_that_outlast_the_grace_are_killed_and_told_as_lost() {
    let mut service = start(Config { grace: Duration::from_millis(50), ..Config::default() });
    let call = service.client.post(&task());
    let mut job = service.job().await;
    job.start();
    service.shutdown.drain();
    job.cancelled().await;
    job.be_killed();
    let answer = call.await.unwrap();
    let result: Value = serde_json::from_str(answer.lines().last().unwrap()).unwrap();
    assert_eq!((&result["status"], &result["reason"]), (&json!("failed"), &json!("runner_lost")));
    assert_eq!((&result["exit_code"], &result["signal"]), (&json!(137), &json!(9)));
    assert_eq!(
        result["message"],
        "the runner was stopped, and the job was killed before it had ended"
    );
    assert_eq!(result["stdout"], "half");
    service.ends().await.unwrap();
}

#[tokio::test]
async fn a_job_whose_owner_asked_first_is_cancelled_also_in_a_drain() {
    let mut service = start(Config { grace: Duration::from_millis(50), ..Config::default() });
    let id = Uuid::new_v4();
    let call = service.client.post(&task_with(id));
    let job = service.job().await;
    assert!(service.client.delete(&format!("/executions/{id}")).await.starts_with("HTTP/1.1 202 "));
    service.shutdown.drain();
    // Longer than the grace: the runner asks for its end too.
    tokio::time::sleep(Duration::from_millis(200)).await;
    job.be_killed();
    assert!(call.await.unwrap().contains("\"status\":\"cancelled\""));
    service.client.delete(&format!("/executions/{id}")).await;
    service.ends().await.unwrap();
}

#[tokio::test]
async fn the_last_results_can_still_be_fetched() {
    let results = ResultLimits { linger: Duration::from_secs(3600), ..ResultLimits::default() };
    let mut service = start(Config { results, ..Config::default() });
    let id = Uuid::new_v4();
    let call = service.client.post(&task_with(id));
    service.job().await.complete();
    call.await.unwrap();
    service.shutdown.drain();
    assert!(service.client.get(&format!("/executions/{id}")).await.contains("\"out\""));
    assert!(service.client.delete(&format!("/executions/{id}")).await.starts_with("HTTP/1.1 200 "));
    service.ends().await.unwrap();
}

#[tokio::test]
async fn results_that_nobody_fetches_do_not_hold_up_the_end() {
    let results = ResultLimits { linger: Duration::from_millis(50), ..ResultLimits::default() };
    let mut service = start(Config { results, ..Config::default() });
    let call = service.client.post(&task_with(Uuid::new_v4()));
    service.job().await.complete();
    call.await.unwrap();
    service.shutdown.drain();
    service.ends().await.unwrap();
}

/// Its coordinator is on its way back, and would tell the job as lost if it found nothing.
#[tokio::test]
async fn a_coordinators_results_wait_as_long_as_jobs_may_run() {
    for term in [json!({"epoch": 1}), json!({"lease": 3600})] {
        let results = ResultLimits { linger: Duration::from_millis(50), ..ResultLimits::default() };
        let grace = Duration::from_secs(3600);
        let mut service = start(Config { grace, results, ..Config::default() });
        let id = Uuid::new_v4();
        let mut body = task_with(id);
        body.as_object_mut().unwrap().extend(term.as_object().unwrap().clone());
        let call = service.client.post(&body);
        service.job().await.complete();
        call.await.unwrap();
        service.shutdown.drain();
        // Longer than others linger.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let path = format!("/executions/{id}");
        assert!(service.client.get(&path).await.contains("\"out\""), "{term}");
        assert!(service.client.delete(&path).await.starts_with("HTTP/1.1 200 "), "{term}");
        service.ends().await.unwrap();
    }
}

#[tokio::test]
async fn a_coordinator_that_does_not_come_back_holds_up_nothing_beyond_the_grace() {
    let grace = Duration::from_millis(400);
    // Whichever is later, and each counted from its own beginning.
    for (linger, at_least) in [(50, 400), (600, 600)] {
        let results =
            ResultLimits { linger: Duration::from_millis(linger), ..ResultLimits::default() };
        let mut service = start(Config { grace, results, ..Config::default() });
        let id = Uuid::new_v4();
        let body = json!({"command": "true", "execution_id": id, "epoch": 1});
        let call = service.client.post(&body);
        service.job().await.complete();
        call.await.unwrap();
        let begin = Instant::now();
        service.shutdown.drain();
        service.ends().await.unwrap();
        assert!(begin.elapsed() >= Duration::from_millis(at_least), "{:?}", begin.elapsed());
    }
}

/// By the clock of the kernel, and not the bench's.
#[tokio::test]
async fn leases_run_out_also_while_it_drains() {
    let mut service = start(Config::default());
    let body = json!({"command": "true", "execution_id": Uuid::new_v4(), "lease": "300ms"});
    let call = service.client.post(&body);
    let job = service.job().await;
    service.shutdown.drain();
    job.cancelled().await;
    job.be_killed();
    assert!(call.await.unwrap().contains("\"runner_lost\""));
    service.shutdown.end();
    service.ends().await.unwrap();
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let mut service = start(Config::default());
    let _call = service.client.post(&task());
    let _job = service.job().await;
    service.shutdown.advance();
    service.shutdown.advance();
    service.ends().await.unwrap();
}

/// Its coordinator is told before it ends, and does not have to guess.
#[tokio::test]
async fn jobs_that_are_killed_at_shutdown_are_reported_as_that() {
    let mut service = start(Config { grace: Duration::from_secs(3600), ..Config::default() });
    let id = Uuid::new_v4();
    let body = json!({"command": "true", "execution_id": id, "epoch": 1});
    let call = service.client.post(&body);
    let mut job = service.job().await;
    job.start();
    service.shutdown.drain();
    service.shutdown.kill();
    job.cancelled().await;
    job.be_killed();
    let answer = call.await.unwrap();
    let result: Value = serde_json::from_str(answer.lines().last().unwrap()).unwrap();
    assert_eq!((&result["status"], &result["reason"]), (&json!("failed"), &json!("runner_lost")));
    let message = result["message"].as_str().unwrap();
    assert!(message.starts_with("it was killed at shutdown: "), "{message}");
    // It ends as soon as that is acknowledged, and has hours otherwise.
    let path = format!("/executions/{id}");
    assert!(service.client.delete(&path).await.starts_with("HTTP/1.1 200 "));
    service.ends().await.unwrap();
}

#[tokio::test]
async fn a_kill_ends_the_wait_for_a_coordinator_too() {
    let results = ResultLimits { linger: Duration::from_millis(50), ..ResultLimits::default() };
    let grace = Duration::from_secs(3600);
    let mut service = start(Config { grace, results, ..Config::default() });
    let body = json!({"command": "true", "execution_id": Uuid::new_v4(), "epoch": 1});
    let call = service.client.post(&body);
    service.job().await.complete();
    call.await.unwrap();
    service.shutdown.drain();
    service.shutdown.kill();
    service.ends().await.unwrap();
}

#[tokio::test]
async fn a_lost_launcher_is_an_error() {
    let mut service = start(Config::default());
    let call = service.client.post(&task());
    // The engine drops what it can't watch any more, and says so.
    drop(service.job().await);
    service.lost.tell();
    assert!(call.await.unwrap().contains("\"failed\""));
    let error = service.ends().await.unwrap_err();
    assert!(matches!(error, Error::LauncherLost), "{error}");
}

#[tokio::test]
async fn it_refuses_to_be_reachable_without_a_token() {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let (cells, _jobs) = fake();
    let error =
        run(Config::default(), cells, Lost::new(), listener, Shutdown::new()).await.unwrap_err();
    assert!(error.to_string().contains("--token-file"), "{error}");
}
