//! What operators and their machines ask.

use axum::{Json, extract::State, response::Response};
use cloister_api::{Kind, Problem, RunnerHealth};
use cloister_web::{Params, Rejection};
use http::Uri;
use serde::Serialize;

use super::App;
use crate::scheduler::{RunnerView, Scheduler};

/// `GET /health`: 200 as long as the process works, with what is wrong.
#[derive(Serialize)]
pub(super) struct Health {
    /// `ok`, or `degraded` when something is listed.
    status: &'static str,
    version: &'static str,
    draining: bool,
    /// Whether this one schedules, of the coordinators that share the store.
    leads: bool,
    /// Which one does, by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<String>,
    store: &'static str,
    queue: Queue,
    runners: Count,
    /// What is wrong, for a person.
    problems: Vec<String>,
}

#[derive(Serialize)]
struct Queue {
    pending: usize,
    running: usize,
    max: usize,
}

#[derive(Serialize)]
struct Count {
    known: usize,
    up: usize,
}

/// `GET /runners`
#[derive(Serialize)]
pub(super) struct Runners {
    runners: Vec<Runner>,
}

#[derive(Serialize)]
struct Runner {
    url: String,
    /// Whether it answers.
    up: bool,
    /// Whether it is still listed; one that is not finishes what it has.
    listed: bool,
    /// Attempts that it has from here.
    running: usize,
    /// Why it gets nothing now.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
    /// Cells that it could not make, since this process knows it.
    failed_cells: u64,
    /// The same since it last made one.
    failed_cells_in_a_row: u64,
    /// Its last report.
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<RunnerHealth>,
}

impl From<RunnerView> for Runner {
    fn from(view: RunnerView) -> Self {
        Self {
            url: view.name.to_string(),
            up: view.up,
            listed: view.listed,
            running: view.out,
            trouble: view.trouble,
            failed_cells: view.failed_cells,
            failed_cells_in_a_row: view.failed_in_a_row,
            health: view.health,
        }
    }
}

pub(super) async fn health(State(app): State<App>, uri: Uri) -> Result<Json<Health>, Rejection> {
    Params::read(&uri, &[])?;
    let engine = &app.engine;
    let problems = engine.problems();
    let runners = engine.runners();
    let (pending, running) = engine.read(|s| (s.pending(), s.out()));
    Ok(Json(Health {
        status: if problems.is_empty() { "ok" } else { "degraded" },
        version: env!("CARGO_PKG_VERSION"),
        draining: engine.read(Scheduler::is_draining),
        leads: engine.read(Scheduler::leads),
        leader: engine.leader().map(|found| found.leader.name),
        store: if engine.store_failure().is_none() { "ok" } else { "failed" },
        queue: Queue { pending, running, max: engine.max_queue },
        runners: Count {
            known: runners.iter().filter(|r| r.listed && !r.twin).count(),
            up: runners.iter().filter(|r| r.listed && !r.twin && r.up).count(),
        },
        problems,
    }))
}

/// `GET /ready`: whether submissions are taken.
pub(super) async fn ready(
    State(app): State<App>,
    uri: Uri,
) -> Result<Json<serde_json::Value>, Rejection> {
    Params::read(&uri, &[])?;
    let unready = |detail: String| Problem::new(Kind::Unavailable, detail).retry_after(5);
    if app.engine.read(Scheduler::is_draining) {
        return Err(unready("the coordinator is shutting down".into()).into());
    }
    if let Some(why) = app.engine.store_failure() {
        return Err(unready(why).into());
    }
    Ok(Json(serde_json::json!({"status": "ready"})))
}

pub(super) async fn runners(State(app): State<App>, uri: Uri) -> Result<Json<Runners>, Rejection> {
    Params::read(&uri, &[])?;
    let runners = app.engine.runners().into_iter().map(Runner::from);
    Ok(Json(Runners { runners: runners.collect() }))
}

pub(super) async fn metrics(State(app): State<App>, uri: Uri) -> Result<Response, Rejection> {
    Params::read(&uri, &[])?;
    let engine = &app.engine;
    let (pending, running) = engine.read(|s| (s.pending(), s.out()));
    let store_up = engine.store_failure().is_none();
    let runners = engine.runners();
    Ok(engine.metrics.text(pending, running, store_up, &runners))
}
