//! Runners that never report an end, however alive they are: their jobs end all the same, once nothing
//! of them can run any more.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use cloister_api::{Job, JobRequest, Program, Reason, Seconds, Status, Task};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::{
    net::{Cut, Party},
    plan::{Bug, Plan},
    run::{LEASE, Sim, within},
};
use crate::engine::Engine;

const TIMEOUT: Duration = Duration::from_secs(20);
/// What a runner has beyond a timeout or a cancellation: the lease, a quarter of it for the end and one
/// for clocks, and two seconds for the result.
const MORE: Duration = Duration::from_secs(10 + 5 + 2);
/// Messages, and the pace at which runners are asked.
const SLACK: Duration = Duration::from_secs(3);

const ONE: Plan = Plan { nodes: 1, runners: 1, slots: 1, jobs: 0, faults: 0 };

fn request(millis: u64) -> JobRequest {
    let argv = ["run", "job", &millis.to_string(), "0"].map(String::from);
    let mut task = Task::new(Program::Argv(argv.into()));
    task.timeout = Seconds(TIMEOUT);
    JobRequest::new(task)
}

/// One coordinator, and one runner that reports no end.
fn mute() -> Arc<Sim> {
    let sim = Sim::new(1, Bug::None, &ONE);
    sim.runners[0].mute.store(100, Relaxed);
    sim.start(0);
    sim
}

async fn submit(engine: &Arc<Engine>, request: JobRequest) -> Uuid {
    loop {
        if let Ok(made) = engine.submit(request.clone(), None).await {
            return made.job.job_id;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// The job when it has this status, or has ended.
async fn until(engine: &Engine, id: Uuid, status: Status) -> Job {
    let looking = async {
        loop {
            let job = engine.view(id).await.unwrap().unwrap();
            if job.status == status || job.status.ended() {
                return job;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(3600), looking).await.expect("it ends within an hour")
}

fn is_lost(job: &Job, of: &str) {
    assert_eq!((job.status, job.reason), (Status::Failed, Some(Reason::RunnerLost)), "{job:?}");
    let message = job.message.as_deref().unwrap_or_default();
    assert!(message.contains(&format!("of {of}, although it answers")), "{message}");
}

#[test]
fn a_job_whose_runner_never_reports_its_end_is_lost_after_its_timeout() {
    within(1, async {
        let sim = mute();
        let engine = sim.engine(0).unwrap();
        let id = submit(&engine, request(1_000)).await;
        until(&engine, id, Status::Running).await;
        let began = Instant::now();
        let job = until(&engine, id, Status::Failed).await;
        let took = began.elapsed();
        is_lost(&job, "its timeout");
        assert!(took > TIMEOUT + LEASE && took < TIMEOUT + MORE + SLACK, "{took:?}");
        // The runner is told to forget it, and then has a slot for the next one.
        sim.runners[0].mute.store(0, Relaxed);
        let next = submit(&engine, request(1_000)).await;
        assert_eq!(until(&engine, next, Status::Completed).await.status, Status::Completed);
        sim.crash(0);
    });
}

#[test]
fn a_cancelled_job_whose_runner_never_reports_its_end_is_lost_soon() {
    within(1, async {
        let sim = mute();
        let engine = sim.engine(0).unwrap();
        let mut request = request(3_600_000);
        request.task.timeout = Seconds(Duration::from_secs(3_600));
        request.retries = 3;
        let id = submit(&engine, request).await;
        until(&engine, id, Status::Running).await;
        let began = Instant::now();
        assert!(engine.cancel(id).await.unwrap().unwrap().ran);
        let job = until(&engine, id, Status::Failed).await;
        let took = began.elapsed();
        is_lost(&job, "its cancellation");
        assert_eq!(job.attempt, 1, "what was cancelled is not tried again");
        assert!(took > LEASE && took < MORE + SLACK, "{took:?}");
        sim.crash(0);
    });
}

#[test]
fn a_coordinator_that_takes_such_a_job_up_gives_it_as_long() {
    within(1, async {
        let sim = mute();
        let engine = sim.engine(0).unwrap();
        let id = submit(&engine, request(1_000)).await;
        until(&engine, id, Status::Running).await;
        drop(engine);
        sim.crash(0);
        sim.start(0);
        let engine = sim.engine(0).unwrap();
        let began = Instant::now();
        let job = until(&engine, id, Status::Failed).await;
        let took = began.elapsed();
        is_lost(&job, "its timeout");
        assert!(took > TIMEOUT + LEASE && took < TIMEOUT + MORE + 2 * SLACK, "{took:?}");
        sim.crash(0);
    });
}

/// Nothing runs any more when a job is told as lost: its lease was left to run out.
#[test]
fn a_job_that_outlasts_its_timeout_ends_with_its_lease() {
    within(1, async {
        let sim = mute();
        sim.runners[0].mute.store(0, Relaxed);
        let engine = sim.engine(0).unwrap();
        // These runners keep no timeout.
        let id = submit(&engine, request(3_600_000)).await;
        until(&engine, id, Status::Running).await;
        let began = Instant::now();
        let job = until(&engine, id, Status::Failed).await;
        let took = began.elapsed();
        assert_eq!(job.reason, Some(Reason::RunnerLost));
        assert_eq!(job.message.as_deref(), Some("it ended"), "the runner said so itself");
        assert!(took > TIMEOUT + LEASE && took < TIMEOUT + LEASE + LEASE / 2, "{took:?}");
        let runs = sim.runs.lock().unwrap();
        assert!(runs.iter().all(|run| run.ended.is_some() && !run.finished), "{runs:?}");
        drop(runs);
        sim.crash(0);
    });
}

/// It has been overdue for a while when the runner hears of it, and is cancelled all the same.
#[test]
fn a_cancellation_reaches_a_runner_that_was_cut_off() {
    within(1, async {
        let sim = mute();
        sim.runners[0].mute.store(0, Relaxed);
        let engine = sim.engine(0).unwrap();
        let mut request = request(3_600_000);
        request.task.timeout = Seconds(Duration::from_secs(3_600));
        let id = submit(&engine, request).await;
        until(&engine, id, Status::Running).await;
        sim.net.cut(0, Party::Runner(0), Cut { there: true, back: true });
        assert!(engine.cancel(id).await.unwrap().unwrap().ran);
        sleep(LEASE / 2).await;
        sim.net.cut(0, Party::Runner(0), Cut::default());
        assert_eq!(until(&engine, id, Status::Cancelled).await.status, Status::Cancelled);
        sim.crash(0);
    });
}
