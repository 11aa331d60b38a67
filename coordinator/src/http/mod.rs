//! The coordinator's address space. Handlers read requests and write answers; what happens in
//! between is the engine's.

mod answer;
mod audit;
mod batch;
mod jobs;
mod operate;
mod ops;
mod page;
mod submission;

#[cfg(fuzzing)]
pub(crate) use self::{
    jobs::listed,
    page::{read as read_token, token},
    submission::idempotency_key,
};

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post},
};
use cloister_api::Bounds;
use cloister_web::{BodyReader, Guard, Waiters, with_fallbacks};

use crate::engine::Engine;

/// What handlers need.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) engine: Arc<Engine>,
    pub(crate) bodies: BodyReader,
    pub(crate) waiters: Waiters,
    pub(crate) bounds: Arc<Bounds>,
}

/// What is answered also where connections run short, with all below it.
pub(crate) const RESERVED: &[&str] =
    &["/health", "/ready", "/metrics", "/runners", "/pause", "/resume"];

/// All that the coordinator answers, behind its guard.
pub(crate) fn router(app: App, guard: Guard) -> Router {
    let router = Router::new()
        .route("/jobs", get(jobs::list).post(jobs::submit))
        .route("/jobs/batch", post(batch::submit))
        .route("/jobs/{id}", get(jobs::show).delete(jobs::cancel))
        .route("/runners", get(ops::runners))
        .route("/runners/drain", post(operate::drain))
        .route("/runners/resume", post(operate::resume_runner))
        .route("/retention/resume", post(operate::resume_retention))
        .route("/pause", post(operate::pause))
        .route("/resume", post(operate::resume))
        .route("/metrics", get(ops::metrics))
        .route("/health", get(ops::health))
        .route("/ready", get(ops::ready));
    guard.protect(with_fallbacks(router)).with_state(app)
}
