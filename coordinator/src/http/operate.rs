//! What operators order. Each order is durable when it is answered, and outlives whoever leads.

use axum::{
    Json,
    body::{Body, HttpBody},
    extract::State,
};
use cloister_api::{Kind, PauseOrder, PauseState, Problem, RunnerInfo, RunnerOrder};
use cloister_web::{Params, Rejection};
use http::{HeaderMap, Uri};

use super::{App, ops::info};
use crate::{scheduler::RunnerName, store::Order};

/// Said of a pause that was ordered without a reason.
const NO_REASON: &str = "an operator paused it";

/// `POST /runners/drain`
pub(super) async fn drain(
    state: State<App>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RunnerInfo>, Rejection> {
    set_drained(&state.0, &uri, &headers, body, true).await
}

/// `POST /runners/resume`
pub(super) async fn resume_runner(
    state: State<App>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RunnerInfo>, Rejection> {
    set_drained(&state.0, &uri, &headers, body, false).await
}

async fn set_drained(
    app: &App,
    uri: &Uri,
    headers: &HeaderMap,
    body: Body,
    drained: bool,
) -> Result<Json<RunnerInfo>, Rejection> {
    Params::read(uri, &[])?;
    let body = app.bodies.read(headers, body).await?;
    let runner = RunnerOrder::parse(&body)?.runner;
    drop(body);
    let name = RunnerName::from(runner.as_str());
    let before = view(app, &name).ok_or_else(|| {
        let detail = format!("there is no runner {runner}; GET /runners tells their URLs");
        Problem::new(Kind::NotFound, detail)
    })?;
    app.engine.order(Order::DrainRunner { runner, drained }).await?;
    // One that is not listed, has nothing and is not to be remembered any more is as good as gone.
    let gone = RunnerInfo { drained, trouble: None, ..before };
    Ok(Json(view(app, &name).unwrap_or(gone)))
}

/// A runner that is known, or that is drained already.
fn view(app: &App, name: &RunnerName) -> Option<RunnerInfo> {
    app.engine.runners().into_iter().find(|view| view.name == *name).map(info)
}

/// `POST /pause`
pub(super) async fn pause(
    State(app): State<App>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PauseState>, Rejection> {
    let order = no_more_than_a_reason(&app, &uri, &headers, body).await?;
    let reason = order.reason.unwrap_or_else(|| NO_REASON.into());
    set_paused(&app, Some(reason)).await
}

/// `POST /resume`
pub(super) async fn resume(
    State(app): State<App>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PauseState>, Rejection> {
    let order = no_more_than_a_reason(&app, &uri, &headers, body).await?;
    if order.reason.is_some() {
        let detail = "a reason is for a pause; leave it out";
        return Err(Problem::new(Kind::Invalid, detail).into());
    }
    set_paused(&app, None).await
}

async fn set_paused(app: &App, why: Option<String>) -> Result<Json<PauseState>, Rejection> {
    app.engine.order(Order::Pause(why)).await?;
    let reason = app.engine.paused();
    Ok(Json(PauseState { paused: reason.is_some(), reason }))
}

/// A body that may be left out, with its `Content-Type`.
async fn no_more_than_a_reason(
    app: &App,
    uri: &Uri,
    headers: &HeaderMap,
    body: Body,
) -> Result<PauseOrder, Rejection> {
    Params::read(uri, &[])?;
    if body.is_end_stream() {
        return Ok(PauseOrder::default());
    }
    let body = app.bodies.read(headers, body).await?;
    Ok(PauseOrder::parse(&body)?)
}
