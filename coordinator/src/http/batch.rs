//! `/jobs/batch`.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use cloister_api::{BatchRequest, JobList};
use cloister_web::{Caller, Params, Rejection};
use http::{HeaderMap, Uri};

use super::{
    App,
    audit::{self, Subject},
    submission::{self, Received},
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
    let Received { parsed: batch, key, share } =
        submission::receive(&app, caller, &headers, body, BatchRequest::parse).await?;
    let engine = Arc::clone(&app.engine);
    let submitting = async move {
        let submitted = engine.submit_all(batch.jobs, key).await;
        drop(share);
        submitted
    };
    let outcome = |accepted: &AcceptedAll| {
        let jobs = accepted.jobs.iter().map(|job| job.job_id).collect();
        (jobs, submission::status(accepted.new))
    };
    let none = Subject::none();
    let accepted = audit::recorded(caller, audit::SUBMIT, none, submitting, outcome).await?;
    let status = submission::status(accepted.new);
    Ok((status, Json(JobList { jobs: accepted.jobs, unreadable: Vec::new(), next: None }))
        .into_response())
}
