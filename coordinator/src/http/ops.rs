//! What operators and their machines ask.

use std::sync::atomic::Ordering::Relaxed;

use axum::{Json, extract::State, response::Response};
use cloister_api::{Kind, Problem, RunnerInfo, RunnerList};
use cloister_web::{Params, Rejection};
use http::Uri;
use serde::Serialize;

use super::App;
use crate::{
    metrics::Standing,
    scheduler::{RunnerView, Scheduler},
};

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
    /// Why nothing is dispatched, if an operator ordered that, or the store is a restored copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<String>,
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
    /// Bytes that waiting jobs take in the store.
    size: u64,
    max_size: u64,
}

#[derive(Serialize)]
struct Count {
    known: usize,
    up: usize,
}

/// A runner as it is told.
pub(super) fn info(view: RunnerView) -> RunnerInfo {
    RunnerInfo {
        url: view.name.to_string(),
        up: view.up,
        listed: view.listed,
        running: view.out,
        drained: view.drained,
        breaker: view.breaker.as_str().into(),
        opens_until: view.opens_until,
        trouble: view.trouble,
        clock_skew_ms: view.skew.map(|skew| skew.ms),
        clock_uncertainty_ms: view.skew.map(|skew| skew.uncertainty),
        failed_cells: view.failed_cells,
        failed_cells_in_a_row: view.failed_in_a_row,
        health: view.health,
    }
}

pub(super) async fn health(State(app): State<App>, uri: Uri) -> Result<Json<Health>, Rejection> {
    Params::read(&uri, &[])?;
    let engine = &app.engine;
    let problems = engine.problems();
    let runners = engine.runners();
    let (waiting, running) = engine.read(|s| (s.waiting(), s.out()));
    Ok(Json(Health {
        status: if problems.is_empty() { "ok" } else { "degraded" },
        version: env!("CARGO_PKG_VERSION"),
        draining: engine.read(Scheduler::is_draining),
        leads: engine.read(Scheduler::leads),
        leader: engine.leader().map(|found| found.leader.name),
        paused: engine.paused(),
        store: match (engine.store_failure(), engine.store_trouble()) {
            (Some(_), _) => "failed",
            (None, Some(_)) => "slow",
            (None, None) => "ok",
        },
        queue: Queue {
            pending: waiting.jobs,
            running,
            max: engine.bounds.jobs,
            size: waiting.size,
            max_size: engine.bounds.size,
        },
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
    if let Some(why) = app.engine.store_trouble() {
        return Err(unready(why).into());
    }
    Ok(Json(serde_json::json!({"status": "ready"})))
}

/// `GET /runners`
pub(super) async fn runners(
    State(app): State<App>,
    uri: Uri,
) -> Result<Json<RunnerList>, Rejection> {
    Params::read(&uri, &[])?;
    let runners = app.engine.runners().into_iter().map(info).collect();
    Ok(Json(RunnerList { runners }))
}

/// `GET /metrics`
pub(super) async fn metrics(State(app): State<App>, uri: Uri) -> Result<Response, Rejection> {
    Params::read(&uri, &[])?;
    let engine = &app.engine;
    let (waiting, running, leads) = engine.read(|s| (s.waiting(), s.out(), s.leads()));
    Ok(engine.metrics.text(&Standing {
        waiting,
        running,
        store_up: engine.store_trouble().is_none(),
        store_size: engine.figures().size,
        leads,
        epoch: engine.leader().map_or(0, |leadership| leadership.epoch.0),
        terms: engine.terms.load(Relaxed),
        paused: engine.paused().is_some(),
        unreadable: engine.unreadable_records(),
        runners: &engine.runners(),
    }))
}
