//! A coordinator that answers what a test tells it to and remembers what it was asked.

use std::{
    io::Read,
    net::{SocketAddr, TcpListener},
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Instant,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::Response,
};
use cloister_api::{Job, JobRequest, Problem, Program, Reason, Status, Task, Timestamp};
use serde_json::Value;
use uuid::Uuid;

/// One request that came in.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) call: String,
    pub(crate) headers: axum::http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// What to answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    retry_after: Option<u64>,
    body: String,
}

impl Reply {
    pub(crate) fn json(status: u16, body: &impl serde::Serialize) -> Self {
        Self::raw(status, serde_json::to_string(body).unwrap())
    }

    pub(crate) fn raw(status: u16, body: impl Into<String>) -> Self {
        Self { status, retry_after: None, body: body.into() }
    }

    pub(crate) fn problem(problem: &Problem) -> Self {
        Self { retry_after: problem.retry_after, ..Self::json(problem.status, problem) }
    }
}

/// Answers a request; the number counts them from 0.
type Script = dyn Fn(&Seen, usize) -> Reply + Send + Sync;

type Played = (Arc<Mutex<Vec<Seen>>>, Arc<Script>);

pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    pub(crate) fn start(script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_after_drops(0, script)
    }

    /// The first so many connections are closed in the middle of their request.
    pub(crate) fn start_after_drops(
        drops: usize,
        script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let state: Played = (Arc::clone(&seen), Arc::new(script));
        thread::spawn(move || {
            for _ in 0..drops {
                let (mut connection, _) = listener.accept().unwrap();
                assert_ne!(connection.read(&mut [0; 64]).unwrap(), 0);
            }
            listener.set_nonblocking(true).unwrap();
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let router = Router::new().fallback(answer).with_state(state);
                axum::serve(listener, router).await.unwrap();
            });
        });
        Self { address, seen }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.call).collect()
    }

    /// The client, pointed at this coordinator and at nothing else of its surroundings.
    pub(crate) fn client(&self, args: &[&str]) -> Command {
        let mut command = client(args);
        command.env("CLOISTER_SERVER", format!("http://{}", self.address));
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.client(args).output().unwrap()
    }
}

async fn answer(State((seen, script)): State<Played>, request: Request) -> Response {
    let at = Instant::now();
    let (parts, body) = request.into_parts();
    let this = Seen {
        at,
        call: format!("{} {}", parts.method, parts.uri),
        headers: parts.headers,
        body: to_bytes(body, usize::MAX).await.unwrap().into(),
    };
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(this.clone());
        seen.len() - 1
    };
    // A script may block, as a coordinator that waits does.
    let reply = tokio::task::spawn_blocking(move || script(&this, number)).await.unwrap();
    let mut response = Response::builder().status(reply.status);
    if let Some(seconds) = reply.retry_after {
        response = response.header("retry-after", seconds);
    }
    response.body(Body::from(reply.body)).unwrap()
}

/// The client without a coordinator.
pub(crate) fn client(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloister"));
    command.args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CLOISTER_") || name == "NO_COLOR" {
            command.env_remove(name);
        }
    }
    command
}

/// A job that waits.
pub(crate) fn pending(line: &str) -> Job {
    let request = JobRequest::new(Task::new(Program::Command(line.into())));
    Job::new(Uuid::now_v7(), Timestamp::now(), request)
}

/// A job that ran and ended so.
pub(crate) fn ended(reason: Option<Reason>, exit_code: i32, stdout: &str, stderr: &str) -> Job {
    let mut job = pending("true");
    let failed = reason.is_some() || exit_code != 0;
    job.status = if failed { Status::Failed } else { Status::Completed };
    job.reason = reason;
    job.message = failed.then(|| "this is how it ended".into());
    job.exit_code = Some(exit_code);
    job.started_at = Some(job.created_at);
    job.finished_at = Some(Timestamp::now());
    job.runtime_ms = Some(12.5);
    job.stdout = Some(stdout.into());
    job.stderr = Some(stderr.into());
    job
}

/// A coordinator that has these jobs: it takes any submission as the first of them.
pub(crate) fn with_jobs(jobs: Vec<Job>) -> Fake {
    Fake::start(move |seen, _| {
        let by_id = jobs.iter().find(|job| seen.call.contains(&job.job_id.to_string()));
        match (seen.call.starts_with("POST"), by_id) {
            (true, _) => {
                let mut job = pending("true");
                job.job_id = jobs[0].job_id;
                Reply::json(201, &job)
            }
            (false, Some(job)) => Reply::json(200, job),
            (false, None) => {
                Reply::problem(&Problem::new(cloister_api::Kind::NotFound, "there is no such job"))
            }
        }
    })
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
