//! What operators order. Each order is durable when it is answered, and outlives whoever leads.

use axum::{
    Json,
    body::{Body, HttpBody},
    extract::State,
};
use cloister_api::{
    Kind, PauseOrder, PauseState, Problem, RetentionState, RunnerInfo, RunnerOrder,
};
use cloister_web::{Caller, Params, Rejection};
use http::{HeaderMap, StatusCode, Uri};

use super::{
    App,
    audit::{self, Subject},
    ops::info,
};
use crate::{scheduler::RunnerName, store::Order};

/// Said of a pause that was ordered without a reason.
const NO_REASON: &str = "an operator paused it";

/// `POST /runners/drain`
pub(super) async fn drain(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RunnerInfo>, Rejection> {
    set_drained(app, caller, &uri, &headers, body, true).await
}

/// `POST /runners/resume`
pub(super) async fn resume_runner(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RunnerInfo>, Rejection> {
    set_drained(app, caller, &uri, &headers, body, false).await
}

async fn set_drained(
    app: App,
    caller: Caller,
    uri: &Uri,
    headers: &HeaderMap,
    body: Body,
    drained: bool,
) -> Result<Json<RunnerInfo>, Rejection> {
    Params::read(uri, &[])?;
    let action = if drained { audit::DRAIN_RUNNER } else { audit::RESUME_RUNNER };
    let runner = named(&app, headers, body).await.inspect_err(|problem| {
        audit::record(caller, action, &Subject::none(), problem.status);
    })?;
    let subject = Subject::runner(&runner);
    let ordering = async move {
        let name = RunnerName::from(runner.as_str());
        let before = view(&app, &name).ok_or_else(|| {
            let detail = format!("there is no runner {runner}; GET /runners tells their URLs");
            Problem::new(Kind::NotFound, detail)
        })?;
        app.engine.order(Order::DrainRunner { runner, drained }).await?;
        // One that is not listed, has nothing and is not to be remembered any more is as good as gone.
        let gone = RunnerInfo { drained, trouble: None, ..before };
        Ok(view(&app, &name).unwrap_or(gone))
    };
    let done = |_: &RunnerInfo| (Vec::new(), StatusCode::OK);
    Ok(Json(audit::recorded(caller, action, subject, ordering, done).await?))
}

/// The runner that a body names.
async fn named(app: &App, headers: &HeaderMap, body: Body) -> Result<String, Problem> {
    let body = app.bodies.read(headers, body).await?;
    Ok(RunnerOrder::parse(&body)?.runner)
}

/// A runner that is known, or that is drained already.
fn view(app: &App, name: &RunnerName) -> Option<RunnerInfo> {
    app.engine.runners().into_iter().find(|view| view.name == *name).map(info)
}

/// `POST /pause`
pub(super) async fn pause(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PauseState>, Rejection> {
    Params::read(&uri, &[])?;
    let order = no_more_than_a_reason(&app, &headers, body).await;
    let why = order.map(|order| Some(order.reason.unwrap_or_else(|| NO_REASON.into())));
    set_paused(app, caller, audit::PAUSE, why).await
}

/// `POST /resume`
pub(super) async fn resume(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PauseState>, Rejection> {
    Params::read(&uri, &[])?;
    let order = no_more_than_a_reason(&app, &headers, body).await;
    let none = order.and_then(|order| match order.reason {
        Some(_) => Err(Problem::new(Kind::Invalid, "a reason is for a pause; leave it out")),
        None => Ok(None),
    });
    set_paused(app, caller, audit::RESUME, none).await
}

/// `POST /retention/resume`: the clock is right, although it went forward.
pub(super) async fn resume_retention(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
    body: Body,
) -> Result<Json<RetentionState>, Rejection> {
    Params::read(&uri, &[])?;
    let ordering = async move {
        if !body.is_end_stream() {
            return Err(Problem::new(Kind::Invalid, "this takes no body; leave it out"));
        }
        app.engine.trust_clock().await?;
        Ok(RetentionState { held: false })
    };
    let done = |_: &RetentionState| (Vec::new(), StatusCode::OK);
    let (action, none) = (audit::RESUME_RETENTION, Subject::none());
    Ok(Json(audit::recorded(caller, action, none, ordering, done).await?))
}

/// Carries out and records what came of reading an order: why it is to be paused, or that it is not.
async fn set_paused(
    app: App,
    caller: Caller,
    action: &'static str,
    why: Result<Option<String>, Problem>,
) -> Result<Json<PauseState>, Rejection> {
    let ordering = async move {
        app.engine.order(Order::Pause(why?)).await?;
        let reason = app.engine.paused();
        Ok(PauseState { paused: reason.is_some(), reason })
    };
    let done = |_: &PauseState| (Vec::new(), StatusCode::OK);
    Ok(Json(audit::recorded(caller, action, Subject::none(), ordering, done).await?))
}

/// A body that may be left out, with its `Content-Type`.
async fn no_more_than_a_reason(
    app: &App,
    headers: &HeaderMap,
    body: Body,
) -> Result<PauseOrder, Problem> {
    if body.is_end_stream() {
        return Ok(PauseOrder::default());
    }
    let body = app.bodies.read(headers, body).await?;
    PauseOrder::parse(&body)
}
