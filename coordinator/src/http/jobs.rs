//! `/jobs`.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use cloister_api::{Job, JobList, JobRequest, Kind, Problem, Reason, Status};
use cloister_web::{Caller, Params, PathId, Rejection, Wait};
use http::{HeaderMap, StatusCode, Uri, header::LOCATION};

use super::{
    App,
    answer::answer,
    audit::{self, Subject},
    page,
    submission::{self, Received},
};
use crate::{
    engine::{Accepted, CalledOff, store_problem, unknown_job},
    store::Query,
};

const MAX_LIMIT: usize = 100;

/// `POST /jobs`
pub(super) async fn submit(
    State(app): State<App>,
    caller: Caller,
    Wait(wait): Wait,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Rejection> {
    let Received { parsed: request, key, share } =
        submission::receive(&app, caller, &headers, body, JobRequest::parse).await?;
    let engine = Arc::clone(&app.engine);
    let submitting = async move {
        let submitted = engine.submit(request, key).await;
        drop(share);
        submitted
    };
    let outcome =
        |accepted: &Accepted| (vec![accepted.job.job_id], submission::status(accepted.new));
    let none = Subject::none();
    let accepted = audit::recorded(caller, audit::SUBMIT, none, submitting, outcome).await?;
    let status = submission::status(accepted.new);
    let mut job = accepted.job;
    let id = job.job_id;
    // The job was accepted. When too many requests wait already, the answer comes at once.
    if let Some(wait) = wait
        && !job.status.ended()
        && let Ok(_waiting) = app.waiters.enter()
    {
        job = found(app.engine.wait(id, wait).await, id)?;
    }
    let location = format!("/jobs/{id}");
    Ok((status, [(LOCATION, location)], answer(&app.engine, job)).into_response())
}

/// `GET /jobs/{id}`
pub(super) async fn show(
    State(app): State<App>,
    PathId(id): PathId,
    Wait(wait): Wait,
) -> Result<Response, Rejection> {
    let job = match wait {
        Some(wait) if !wait.is_zero() => {
            let _waiting = app.waiters.enter()?;
            app.engine.wait(id, wait).await
        }
        _ => app.engine.view(id).await,
    };
    Ok(answer(&app.engine, found(job, id)?))
}

/// `DELETE /jobs/{id}`
pub(super) async fn cancel(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId,
    uri: Uri,
) -> Result<Response, Rejection> {
    Params::read(&uri, &[])?;
    let engine = Arc::clone(&app.engine);
    let cancelling = async move { engine.cancel(id).await?.ok_or_else(|| unknown_job(id)) };
    let status = |called_off: &CalledOff| {
        let goes_on = called_off.ran || !called_off.job.status.ended();
        let status = if goes_on { StatusCode::ACCEPTED } else { StatusCode::OK };
        (Vec::new(), status)
    };
    let job = Subject::job(id);
    let called_off = audit::recorded(caller, audit::CANCEL, job, cancelling, status).await?;
    let status = status(&called_off).1;
    Ok((status, answer(&app.engine, called_off.job)).into_response())
}

/// `GET /jobs`
pub(super) async fn list(State(app): State<App>, uri: Uri) -> Result<Json<JobList>, Rejection> {
    let page = app.engine.list(listed(&uri)?).await;
    let page = page.map_err(|error| store_problem(&error))?;
    let (jobs, unreadable) = (page.jobs, page.unreadable);
    Ok(Json(JobList { jobs, unreadable, next: page.next.map(page::token) }))
}

/// Which jobs a query asks for.
pub(crate) fn listed(uri: &Uri) -> Result<Query, Problem> {
    let params = &Params::read(uri, &["status", "reason", "label", "limit", "next"])?;
    let statuses =
        [Status::Pending, Status::Running, Status::Completed, Status::Failed, Status::Cancelled];
    let label = params.text("label").map(|text| match text.split_once(':') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(invalid("label", "must be NAME:VALUE")),
    });
    let limit = params.text("limit").map(|text| {
        let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
        limit.ok_or_else(|| {
            invalid("limit", &format!("must be a whole number from 1 to {MAX_LIMIT}"))
        })
    });
    Ok(Query {
        status: one_of(params, "status", &statuses, Status::as_str)?,
        reason: one_of(params, "reason", &Reason::ALL, Reason::as_str)?,
        labels: label.transpose()?.into_iter().collect(),
        before: params.text("next").map(page::read).transpose()?,
        limit: limit.transpose()?.unwrap_or(MAX_LIMIT),
    })
}

/// A parameter whose value is one of a few words.
fn one_of<T: Copy>(
    params: &Params,
    name: &str,
    all: &[T],
    word: fn(T) -> &'static str,
) -> Result<Option<T>, Problem> {
    let Some(text) = params.text(name) else {
        return Ok(None);
    };
    let found = all.iter().copied().find(|known| word(*known) == text);
    found.map(Some).ok_or_else(|| {
        let words: Vec<_> = all.iter().map(|known| word(*known)).collect();
        invalid(name, &format!("must be one of {}", words.join(", ")))
    })
}

fn invalid(name: &str, why: &str) -> Problem {
    Problem::new(Kind::Invalid, format!("the query parameter {name:?} {why}"))
}

fn found(
    job: Result<Option<Job>, crate::store::StoreError>,
    id: uuid::Uuid,
) -> Result<Job, Rejection> {
    let job = job.map_err(|error| store_problem(&error))?;
    Ok(job.ok_or_else(|| unknown_job(id))?)
}
