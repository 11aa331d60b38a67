//! `/jobs/batch`.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use cloister_api::{BatchRequest, JobList, Problem};
use cloister_web::{Caller, Params, Rejection};
use http::{HeaderMap, StatusCode, Uri};

use super::{
    App,
    audit::{self, Subject},
    jobs::idempotency_key,
};
use crate::engine::AcceptedAll;

/// `POST /jobs/batch`
pub(super) async fn submit(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Rejection> {
    // Nothing can be waited for here: each job has an end of its own.
    Params::read(&uri, &[])?;
    let (batch, key) = submission(&app, &headers, body).await.inspect_err(|problem| {
        audit::record(caller, audit::SUBMIT, &Subject::none(), problem.status);
    })?;
    let engine = Arc::clone(&app.engine);
    let submitting = async move { engine.submit_all(batch.jobs, key).await };
    let outcome = |accepted: &AcceptedAll| {
        let jobs = accepted.jobs.iter().map(|job| job.job_id).collect();
        (jobs, status(accepted))
    };
    let none = Subject::none();
    let accepted = audit::recorded(caller, audit::SUBMIT, none, submitting, outcome).await?;
    let status = status(&accepted);
    Ok((status, Json(JobList { jobs: accepted.jobs, next: None })).into_response())
}

fn status(accepted: &AcceptedAll) -> StatusCode {
    if accepted.new { StatusCode::CREATED } else { StatusCode::OK }
}

/// What is handed in, and under which key. The body is bounded as that of a single job: so are then
/// what is made of it in memory, and the commit.
async fn submission(
    app: &App,
    headers: &HeaderMap,
    body: Body,
) -> Result<(BatchRequest, Option<String>), Problem> {
    let key = idempotency_key(headers)?;
    // Dropped with its share of the memory for bodies before anything is waited for.
    let body = app.bodies.read(headers, body).await?;
    Ok((BatchRequest::parse(&body, &app.bounds)?, key))
}
