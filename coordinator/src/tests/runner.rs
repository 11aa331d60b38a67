//! A runner that runs nothing and does as the test says, over the real protocol.
//!
//! `echo TEXT` ends at once with that output, `exit N` with that code, `print N` with so much output
//! that it is to be fetched apart; any other command runs until the test, or a cancellation, ends it.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use cloister_api::{
    Bounds, ByteSize, Event, ExecuteRequest, Kind, Outcome, Output, Program, Reason, RunnerHealth,
    Status, Timestamp, Usage,
};
use cloister_web::{Rejection, ServerLimits, Shutdown, serve};
use futures_util::stream;
use http::{HeaderMap, StatusCode};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};
use uuid::Uuid;

use super::{
    SOON,
    printed::{self, Handing},
};
use crate::scheduler::tests::health as well;

/// How it answers `POST /execute`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Mood {
    /// As it should.
    #[default]
    Good,
    /// Takes the job, says that it started, and breaks the connection.
    Cuts,
    /// Takes nothing: its slots are taken.
    Full,
    /// Will not have the job.
    Refuses,
    /// Will not have the token.
    Locked,
    /// Takes the job and can't make its cell.
    FailsCells,
    /// Fails before it has taken anything.
    Deaf,
    /// Answers what is no result.
    Babbles,
    /// Answers the result of another execution.
    Swaps,
    /// Takes the job and streams output for ever, whoever cancels it.
    Endless,
}

#[derive(Debug)]
struct Execution {
    ended: watch::Sender<Option<Outcome>>,
    command: String,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) mood: Mood,
    pub(super) health: RunnerHealth,
    pub(super) mute: bool,
    /// By how many milliseconds its clock is ahead.
    pub(super) skew: i64,
    executions: BTreeMap<Uuid, Execution>,
    /// Each `POST /execute` that it took: the execution and its command.
    pub(super) taken: Vec<(Uuid, String)>,
    /// The most that ran at once.
    pub(super) most: usize,
    pub(super) tokens: Vec<String>,
    /// How it hands over what was printed.
    pub(super) handing: Handing,
}

/// See the module.
pub(super) struct FakeRunner {
    address: SocketAddr,
    state: Shared,
    server: Mutex<Option<(Shutdown, JoinHandle<()>)>>,
}

#[derive(Clone)]
struct Shared {
    inner: Arc<Mutex<Inner>>,
    changed: Arc<watch::Sender<()>>,
}

impl FakeRunner {
    pub(super) async fn new(slots: usize) -> Self {
        let runner = Self::down(slots);
        runner.up();
        tokio::task::yield_now().await;
        runner
    }

    /// Not started yet, but with an address.
    pub(super) fn down(slots: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let health = RunnerHealth {
            boot_id: Uuid::new_v4(),
            cpus: 4.0,
            memory: ByteSize::mib(4096),
            open_files: 4096,
            ..well(0, slots)
        };
        let inner = Inner {
            mood: Mood::Good,
            health,
            mute: false,
            skew: 0,
            executions: BTreeMap::new(),
            taken: Vec::new(),
            most: 0,
            tokens: Vec::new(),
            handing: Handing::Whole,
        };
        Self {
            address: listener.local_addr().unwrap(),
            state: Shared {
                inner: Arc::new(Mutex::new(inner)),
                changed: Arc::new(watch::Sender::new(())),
            },
            server: Mutex::new(None),
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn up(&self) {
        let listener = TcpListener::bind(self.address).unwrap();
        let router = Router::new()
            .route("/execute", post(execute))
            .route("/executions/{id}", get(look).delete(forget))
            .route("/executions/{id}/output", get(output))
            .route("/health", get(health))
            .with_state(self.state.clone());
        let shutdown = Shutdown::new();
        let until = shutdown.clone();
        let task = tokio::spawn(async move {
            let never = std::future::pending();
            serve(listener, None, router, ServerLimits::default(), until, never).await.unwrap();
        });
        *self.server.lock().unwrap() = Some((shutdown, task));
    }

    /// Closes every connection and listens no more; what it runs goes on.
    pub(super) async fn go_down(&self) {
        let server = self.server.lock().unwrap().take();
        if let Some((shutdown, task)) = server {
            shutdown.end();
            task.await.unwrap();
        }
    }

    /// Forgets all, and has another life.
    pub(super) async fn restart(&self) {
        self.go_down().await;
        self.set(|inner| {
            inner.executions.clear();
            inner.health.boot_id = Uuid::new_v4();
        });
        self.up();
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.inner.lock().unwrap()
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.lock());
        self.state.changed.send_replace(());
    }

    pub(super) fn mood(&self, mood: Mood) {
        self.set(|inner| inner.mood = mood);
    }

    /// Loses its executions although it lives on.
    pub(super) fn forget_all(&self) {
        self.set(|inner| inner.executions.clear());
    }

    /// Ends what runs under a command.
    pub(super) fn end(&self, command: &str, outcome: Outcome) {
        let inner = self.lock();
        let found =
            inner.executions.values().find(|e| e.command == command && e.ended.borrow().is_none());
        found.expect("it runs").ended.send_replace(Some(outcome));
        self.state.changed.send_replace(());
    }

    /// Returns when its state is as wanted.
    pub(super) async fn until(&self, wanted: impl Fn(&Inner) -> bool) {
        let mut changed = self.state.changed.subscribe();
        let waiting = async {
            while !wanted(&self.lock()) {
                changed.changed().await.unwrap();
            }
        };
        let in_time = timeout(SOON, waiting).await;
        assert!(in_time.is_ok(), "stays {:?}", self.lock());
    }

    /// Returns when it was given so many executions.
    pub(super) async fn until_taken(&self, count: usize) {
        self.until(|inner| inner.taken.len() >= count).await;
    }

    /// Returns when every result was acknowledged.
    pub(super) async fn until_empty(&self) {
        self.until(|inner| inner.executions.is_empty()).await;
    }
}

/// A command that ended by itself.
pub(super) fn exited(code: i32, stdout: &str) -> Outcome {
    let (status, reason) = match code {
        0 => (Status::Completed, None),
        _ => (Status::Failed, Some(Reason::ExitCode)),
    };
    let mut outcome = Outcome::never_ran(status, reason, "it ended");
    outcome.exit_code = Some(code);
    outcome.started_at = Some(Timestamp::now());
    outcome.runtime_ms = Some(1.5);
    outcome.usage = Some(Usage { cpu_ms: Some(1.0), ..Usage::default() });
    outcome.with_output(Output::new(stdout.into(), false), Output::default())
}

fn at_once(command: &str, mood: Mood) -> Option<Outcome> {
    if mood == Mood::FailsCells {
        let reason = Some(Reason::SandboxError);
        return Some(Outcome::never_ran(Status::Failed, reason, "no cell"));
    }
    if let Some(text) = command.strip_prefix("echo ") {
        return Some(exited(0, &format!("{text}\n")));
    }
    if let Some(bytes) = command.strip_prefix("print ") {
        return Some(printed::outcome(bytes.parse().unwrap()));
    }
    let code = command.strip_prefix("exit ")?;
    Some(exited(code.parse().unwrap(), ""))
}

async fn execute(
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Rejection> {
    let request = ExecuteRequest::parse(&body, &Bounds::default())?;
    let id = request.execution_id.expect("the coordinator names its executions");
    let Program::Command(command) = request.task.program else {
        panic!("these tests use commands")
    };
    assert_eq!(headers["accept"], "application/x-ndjson; output=apart");
    let mut inner = shared.inner.lock().unwrap();
    if let Some(token) = headers.get("authorization") {
        inner.tokens.push(token.to_str().unwrap().into());
    }
    let boot = format!("\"{}\"", inner.health.boot_id);
    if headers.get("if-match").is_some_and(|m| m.as_bytes() != boot.as_bytes()) {
        return Ok(StatusCode::PRECONDITION_FAILED.into_response());
    }
    let mood = inner.mood;
    if !inner.executions.contains_key(&id) {
        match mood {
            Mood::Full => return Err(Rejection::new(Kind::Unavailable, "all slots are taken")),
            Mood::Refuses => return Err(Rejection::new(Kind::Invalid, "beyond my bounds")),
            Mood::Deaf => {
                inner.taken.push((id, command));
                drop(inner);
                shared.changed.send_replace(());
                return Err(Rejection::new(Kind::Internal, "what?"));
            }
            Mood::Locked => return Err(Rejection::new(Kind::Unauthorized, "who are you?")),
            _ => {}
        }
        inner.taken.push((id, command.clone()));
        let (ended, _) = watch::channel(at_once(&command, mood));
        inner.executions.insert(id, Execution { ended, command });
        let running = |e: &&Execution| e.ended.borrow().is_none();
        inner.most = inner.most.max(inner.executions.values().filter(running).count());
    }
    let ended = inner.executions[&id].ended.subscribe();
    drop(inner);
    shared.changed.send_replace(());
    Ok(Body::from_stream(lines(ended, mood)).into_response())
}

fn lines(
    ended: watch::Receiver<Option<Outcome>>,
    mood: Mood,
) -> impl stream::Stream<Item = io::Result<Bytes>> {
    let line = |event: &Event| {
        let mut line = serde_json::to_vec(event).unwrap();
        line.push(b'\n');
        Ok(Bytes::from(line))
    };
    stream::unfold((0, ended), move |(seq, mut ended)| async move {
        let item = match seq {
            _ if mood == Mood::Endless => {
                sleep(Duration::from_millis(5)).await;
                Ok(Bytes::from_static(b"{\"event\": \"stdout\", \"seq\": 1, \"text\": \"y\"}\n"))
            }
            0 => line(&Event::Started { seq: 0, started_at: Timestamp::now() }),
            1 if mood == Mood::Cuts => {
                // An error at once would take the line before it along.
                sleep(Duration::from_millis(20)).await;
                Err(io::Error::other("cut"))
            }
            1 if mood == Mood::Swaps => Ok(Bytes::from(swapped(&exited(0, "x")) + "\n")),
            1 if mood == Mood::Babbles => Ok(Bytes::from_static(b"{\"event\": \"result\"}\n")),
            1 => {
                let outcome = ended.wait_for(Option::is_some).await.ok()?.clone()?;
                line(&Event::Result { seq: 1, outcome: Box::new(outcome) })
            }
            _ => return None,
        };
        Some((item, (seq + 1, ended)))
    })
}

/// As a result that is of another execution.
fn swapped(outcome: &Outcome) -> String {
    let mut line = serde_json::to_value(outcome).unwrap();
    line["event"] = "result".into();
    line["execution_id"] = Uuid::nil().to_string().into();
    line.to_string()
}

async fn look(State(shared): State<Shared>, Path(id): Path<Uuid>) -> Response {
    let inner = shared.inner.lock().unwrap();
    let Some(execution) = inner.executions.get(&id) else {
        return Rejection::new(Kind::NotFound, "no such execution").into_response();
    };
    let outcome = execution.ended.borrow().clone();
    match outcome {
        Some(outcome) if inner.mood == Mood::Swaps => {
            ([("content-type", "application/json")], swapped(&outcome)).into_response()
        }
        Some(outcome) => Json(outcome).into_response(),
        None => {
            (StatusCode::ACCEPTED, Json(serde_json::json!({"status": "running"}))).into_response()
        }
    }
}

async fn output(
    State(shared): State<Shared>,
    Path(id): Path<Uuid>,
    Query(asked): Query<printed::Asked>,
) -> Response {
    let inner = shared.inner.lock().unwrap();
    let outcome = inner.executions.get(&id).and_then(|known| known.ended.borrow().clone());
    match outcome.and_then(|outcome| outcome.output_bytes) {
        Some(bytes) => printed::hand_over(bytes, &asked, inner.handing),
        None => Rejection::new(Kind::NotFound, "no such execution").into_response(),
    }
}

async fn forget(State(shared): State<Shared>, Path(id): Path<Uuid>) -> Response {
    let mut inner = shared.inner.lock().unwrap();
    let Some(execution) = inner.executions.get(&id) else {
        return Rejection::new(Kind::NotFound, "no such execution").into_response();
    };
    let running = execution.ended.borrow().is_none();
    if inner.mood == Mood::Endless {
        // Says yes, and goes on.
    } else if running {
        let mut outcome = exited(137, "half\n");
        (outcome.status, outcome.reason) = (Status::Cancelled, None);
        execution.ended.send_replace(Some(outcome));
    } else {
        inner.executions.remove(&id);
    }
    drop(inner);
    shared.changed.send_replace(());
    StatusCode::ACCEPTED.into_response()
}

async fn health(State(shared): State<Shared>) -> Response {
    let inner = shared.inner.lock().unwrap();
    if inner.mute {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let time = Some(Timestamp(Timestamp::now().0 + inner.skew));
    Json(RunnerHealth { time, ..inner.health.clone() }).into_response()
}
