//! A runner on a bench: its routes without a socket, and the jobs that it hands to its cells.

use std::{
    future::pending,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, http::Request};
use cloister_api::{ByteSize, Outcome, Output, Reason, Status, Task, Timestamp, Usage};
use cloister_sandbox::{Host, Observer, Room, Stats, Stream};
use cloister_web::{Access, Guard, Shutdown};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tower::ServiceExt;
use uuid::Uuid;

use crate::{
    Config, Lost,
    cells::{Cell, Cells},
    clock::{Clock, Moment},
    http::routes,
    runner::Runner,
};

/// Far beyond what anything here takes, and below every default that a broken wait would fall back
/// on: reaching it is the failure.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Cells that hand every job to the test.
pub(super) struct Fake {
    host: Host,
    jobs: mpsc::UnboundedSender<Job>,
    pub(super) stopped: AtomicBool,
    counts: Arc<Counts>,
}

/// What cgroups count, as the test has it.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) all: Mutex<Stats>,
    pub(super) each: Mutex<Stats>,
    /// Happens once, while those of one cell are read.
    pub(super) meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Cells for Fake {
    fn host(&self) -> &Host {
        &self.host
    }

    fn run(&self, task: Task, observer: Box<dyn Observer>) -> Box<dyn Cell> {
        let cancelled = Arc::new(watch::Sender::new(false));
        let job =
            Job { task, observer, cancelled: Arc::clone(&cancelled), written: Default::default() };
        // A test that has ended wants no more jobs.
        drop(self.jobs.send(job));
        Box::new(FakeCell { cancelled, counts: Arc::clone(&self.counts) })
    }

    fn stats(&self) -> Stats {
        self.counts.all.lock().unwrap().clone()
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }
}

struct FakeCell {
    cancelled: Arc<watch::Sender<bool>>,
    counts: Arc<Counts>,
}

impl Cell for FakeCell {
    fn cancel(&self) {
        self.cancelled.send_replace(true);
    }

    fn stats(&self) -> Stats {
        if let Some(happen) = self.counts.meanwhile.lock().unwrap().take() {
            happen();
        }
        self.counts.each.lock().unwrap().clone()
    }
}

/// One job in the hands of the test.
pub(super) struct Job {
    pub(super) task: Task,
    observer: Box<dyn Observer>,
    cancelled: Arc<watch::Sender<bool>>,
    /// What it wrote as text.
    written: [String; 2],
}

impl Job {
    pub(super) fn start(&mut self) {
        self.observer.started(Timestamp(1000));
    }

    pub(super) fn write(&mut self, stream: Stream, text: &str) {
        self.observer.output(stream, text.as_bytes());
        self.written[stream as usize].push_str(text);
    }

    pub(super) fn write_bytes(&mut self, stream: Stream, bytes: &[u8]) {
        self.observer.output(stream, bytes);
    }

    /// Writes as much of this as the runner has room for, as the engine does; how much that was.
    pub(super) fn offer(&mut self, stream: Stream, text: &str) -> usize {
        let mut rest = text.as_bytes();
        while !rest.is_empty()
            && let Room::Now(room) = self.observer.room(stream, None)
        {
            let (taken, left) = rest.split_at(rest.len().min(room).min(64 << 10));
            self.observer.output(stream, taken);
            rest = left;
        }
        text.len() - rest.len()
    }

    /// Ends so. What it was to write and has not written yet, it writes first.
    pub(super) fn end(mut self, outcome: Outcome) {
        for (stream, text) in [(Stream::Stdout, &outcome.stdout), (Stream::Stderr, &outcome.stderr)]
        {
            let written = &self.written[stream as usize];
            let text = text.as_deref().unwrap_or_default();
            if let Some(rest) = text.strip_prefix(written.as_str()).filter(|rest| !rest.is_empty())
            {
                let rest = rest.to_owned();
                self.write(stream, &rest);
            }
        }
        self.observer.ended(outcome.without_output());
    }

    /// Starts, writes `out` and exits with 0.
    pub(super) fn complete(mut self) {
        self.start();
        self.write(Stream::Stdout, "out");
        self.end(completed("out"));
    }

    /// Whether the runner wants it to end, also after it has.
    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.cancelled.subscribe()
    }

    pub(super) fn is_cancelled(&self) -> bool {
        *self.cancelled.borrow()
    }

    /// Returns when the runner wants it to end.
    pub(super) async fn cancelled(&self) {
        let mut cancelled = self.cancelled.subscribe();
        timeout(PATIENCE, cancelled.wait_for(|yes| *yes))
            .await
            .expect("cancelled in time")
            .unwrap();
    }

    /// Ends as the engine has a cancelled job end that never started.
    pub(super) fn give_in(self) {
        self.end(Outcome::never_ran(Status::Cancelled, None, "cancelled"));
    }

    /// Ends as the engine has a cancelled job end that runs.
    pub(super) fn be_killed(self) {
        let outcome = Outcome {
            exit_code: Some(137),
            signal: Some(9),
            started_at: Some(Timestamp(1000)),
            ..Outcome::never_ran(Status::Cancelled, None, "cancelled")
        };
        self.end(outcome.with_output(Output::new("half".into(), false), Output::default()));
    }
}

pub(super) fn completed(stdout: &str) -> Outcome {
    Outcome {
        message: None,
        exit_code: Some(0),
        started_at: Some(Timestamp(1000)),
        runtime_ms: Some(12.5),
        usage: Some(Usage {
            cpu_ms: Some(500.0),
            throttled_ms: Some(250.0),
            memory_peak_bytes: Some(2 << 20),
            oom_kills: Some(0),
            ..Usage::default()
        }),
        ..Outcome::never_ran(Status::Completed, None, "")
    }
    .with_output(Output::new(stdout.into(), false), Output::default())
}

pub(super) fn failed(reason: Reason) -> Outcome {
    Outcome::never_ran(Status::Failed, Some(reason), "failed")
}

pub(super) fn host() -> Host {
    Host {
        cores: 2,
        memory: ByteSize::mib(1024),
        pids: 1000,
        open_files: 512,
        network_host: false,
        enforcement: Vec::new(),
    }
}

pub(super) fn fake() -> (Arc<Fake>, mpsc::UnboundedReceiver<Job>) {
    fake_on(host())
}

pub(super) fn fake_on(host: Host) -> (Arc<Fake>, mpsc::UnboundedReceiver<Job>) {
    let (jobs, inbox) = mpsc::unbounded_channel();
    let fake = Fake { host, jobs, stopped: AtomicBool::new(false), counts: Arc::default() };
    (Arc::new(fake), inbox)
}

/// A clock that goes with tokio's, paused or not, and that can be put forward as if the machine had
/// slept. The alarm does not notice that by itself: who comes first is for the test to decide.
#[derive(Debug)]
pub(super) struct TestClock {
    start: Instant,
    slept: Mutex<Duration>,
    alarm: watch::Sender<Option<Moment>>,
}

impl TestClock {
    fn new() -> Self {
        Self { start: Instant::now(), slept: Mutex::default(), alarm: watch::Sender::default() }
    }

    /// Time passes in which this process does nothing.
    pub(super) fn sleep(&self, time: Duration) {
        *self.slept.lock().unwrap() += time;
    }

    /// Has the alarm notice.
    pub(super) fn wake(&self) {
        self.alarm.send_modify(|_| ());
    }
}

impl Clock for TestClock {
    fn now(&self) -> Moment {
        Moment(self.start.elapsed() + *self.slept.lock().unwrap())
    }

    fn set(&self, at: Option<Moment>) {
        self.alarm.send_replace(at);
    }

    fn rung(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            let mut changes = self.alarm.subscribe();
            loop {
                let left = changes.borrow_and_update().map(|at| at.0.saturating_sub(self.now().0));
                let rings = async {
                    match left {
                        Some(left) => sleep(left).await,
                        None => pending().await,
                    }
                };
                tokio::select! {
                    _ = changes.changed() => {}
                    () = rings => break,
                }
            }
            self.alarm.send_replace(None);
        })
    }
}

/// A runner whose routes are called directly.
pub(super) struct Bench {
    router: Router,
    pub(super) runner: Arc<Runner>,
    pub(super) clock: Arc<TestClock>,
    pub(super) counts: Arc<Counts>,
    jobs: mpsc::UnboundedReceiver<Job>,
}

impl Bench {
    /// With so many slots.
    pub(super) fn new(slots: usize) -> Self {
        Self::with(&Config { slots: Some(slots), ..Config::default() }, host())
    }

    pub(super) fn with(config: &Config, host: Host) -> Self {
        let (cells, jobs) = fake_on(host);
        let clock = Arc::new(TestClock::new());
        let counts = Arc::clone(&cells.counts);
        let runner =
            Runner::new(config, cells, clock.clone(), Lost::new(), Shutdown::new()).unwrap();
        let runner = Arc::new(runner);
        let guard = Guard::new(Access::Open, false);
        Self { router: routes(Arc::clone(&runner), guard), runner, clock, counts, jobs }
    }

    /// The next job that the runner gives to its cells.
    pub(super) async fn job(&mut self) -> Job {
        timeout(PATIENCE, self.jobs.recv()).await.expect("a job in time").unwrap()
    }

    pub(super) fn no_job(&mut self) -> bool {
        self.jobs.try_recv().is_err()
    }

    pub(super) async fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        self.send(method, path, body, &[]).await.unwrap()
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "").await
    }

    /// Sends a request of its own task; aborting that is a connection that closes.
    pub(super) fn send(
        &self,
        method: &str,
        path: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> JoinHandle<Answer> {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header("host", "localhost").header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let router = self.router.clone();
        tokio::spawn(async move {
            let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
            let bytes = body.collect().await.unwrap().to_bytes();
            Answer {
                status: parts.status.as_u16(),
                retry_after: parts.headers.get("retry-after").is_some(),
                text: String::from_utf8(bytes.to_vec()).unwrap(),
            }
        })
    }

    pub(super) fn execute(&self, body: &Value) -> JoinHandle<Answer> {
        self.send("POST", "/execute", &body.to_string(), &[])
    }

    /// The answer to a call that is answered without a job's doing.
    pub(super) async fn answered(&self, body: &Value) -> Answer {
        timeout(PATIENCE, self.execute(body)).await.expect("an answer in time").unwrap()
    }

    pub(super) fn stream(&self, body: &Value) -> JoinHandle<Answer> {
        let accept = [("accept", "text/html, application/x-ndjson;q=0.9")];
        self.send("POST", "/execute", &body.to_string(), &accept)
    }
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: bool,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(super) fn events(&self) -> Vec<Value> {
        self.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// `true`, without an id.
pub(super) fn task() -> Value {
    json!({"command": "true"})
}

/// `true` under an id.
pub(super) fn task_with(id: Uuid) -> Value {
    json!({"command": "true", "execution_id": id, "attempt": 1})
}
