//! The routes, and how an execution becomes an answer.

use std::{str::FromStr, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{
        HeaderMap, StatusCode, Uri,
        header::{ACCEPT, IF_MATCH},
    },
    response::{IntoResponse, Response},
    routing::{get, post},
};
use cloister_api::{Kind, KnownExecutions, LeaseRequest, MAX_EPOCH, Outcome, Problem, RunnerState};
use cloister_sandbox::Stream;
use cloister_web::{Guard, Params, PathId, Rejection, Wait, metrics_text, with_fallbacks};
use serde_json::{Value, json};
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    answer::{self, NDJSON},
    epochs::Caller,
    kept::Ended,
    runner::{RESULTS, Runner, SPOOL},
};

/// After how many seconds a runner that takes no work may be back as another process.
const COME_AGAIN: u64 = 5;
const JSON: &str = "application/json";

/// What is answered also where connections run short, with all below it: health and metrics, and what a
/// coordinator needs for jobs that run.
pub(crate) const RESERVED: &[&str] = &["/health", "/ready", "/metrics", "/leases", "/executions"];

/// Everything that a runner answers.
pub(crate) fn routes(runner: Arc<Runner>, guard: Guard) -> Router {
    let router = Router::new()
        .route("/execute", post(execute))
        .route("/leases", post(leases))
        .route("/executions", get(executions))
        .route("/executions/{id}", get(execution).delete(end))
        .route("/executions/{id}/output", get(output))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics));
    guard.protect(with_fallbacks(router)).with_state(runner)
}

async fn execute(
    State(runner): State<Arc<Runner>>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Rejection> {
    Params::read(&uri, &[])?;
    check_boot(&headers, runner.boot_id)?;
    let body = runner.bodies.read(&headers, body).await?;
    let request = runner.parse(&body)?;
    // Its share of the memory for bodies is for those that are still coming.
    drop(body);
    let stream = accepts(&headers, NDJSON);
    // Nobody can come later for the outputs of an execution without an id.
    let has_id = request.execution_id.is_some();
    let admission = runner.admit(request, stream.is_some())?;
    if let Some(Accepted { apart }) = stream {
        return Ok(answer::events(admission, apart && has_id));
    }
    let apart = accepts(&headers, JSON).is_some_and(|json| json.apart);
    let outcome = admission.execution.ended().await;
    Ok(answer::result(&admission.execution, &outcome, apart && has_id))
}

/// `If-Match` with a boot id: take this only in the life for which it was meant. A coordinator that
/// chose this runner by its health would else not know whether an earlier life had it already.
fn check_boot(headers: &HeaderMap, boot_id: Uuid) -> Result<(), Rejection> {
    let Some(wanted) = headers.get(IF_MATCH) else {
        return Ok(());
    };
    let own = format!("\"{boot_id}\"");
    let text = wanted.to_str().unwrap_or_default();
    if text.split(',').any(|tag| matches!(tag.trim(), "*") || tag.trim() == own) {
        return Ok(());
    }
    let detail = format!("this runner's boot id is {own}, not {text}: it was restarted");
    Err(Rejection::new(Kind::OtherBoot, detail))
}

/// How a client accepts a media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Accepted {
    /// With `output=apart`: it reads large outputs by `/executions/{id}/output`.
    apart: bool,
}

/// Whether any of the media types that the client accepts is this one, and how.
fn accepts(headers: &HeaderMap, kind: &str) -> Option<Accepted> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut ranges = values.flat_map(|value| value.split(','));
    ranges.find_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        parts.next().filter(|name| name.eq_ignore_ascii_case(kind))?;
        Some(Accepted { apart: parts.any(|part| part.eq_ignore_ascii_case("output=apart")) })
    })
}

/// Renews leases together.
async fn leases(
    State(runner): State<Arc<Runner>>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<KnownExecutions>, Rejection> {
    Params::read(&uri, &[])?;
    let body = runner.bodies.read(&headers, body).await?;
    let request = LeaseRequest::parse(&body)?;
    drop(body);
    Ok(Json(runner.renew(request)?))
}

/// All executions with an id; with `?cluster=`, those of that one.
async fn executions(
    State(runner): State<Arc<Runner>>,
    uri: Uri,
) -> Result<Json<KnownExecutions>, Rejection> {
    let cluster = Params::read(&uri, &["cluster"])?.get("cluster")?;
    Ok(Json(runner.known(cluster)))
}

/// The result, or that it still runs; with `?wait=` as soon as the first is known.
async fn execution(
    State(runner): State<Arc<Runner>>,
    PathId(id): PathId,
    Wait(wait): Wait,
    headers: HeaderMap,
) -> Result<Response, Rejection> {
    let known = runner.kept.lock().get(id).ok_or_else(|| unknown(id))?;
    let outcome = match wait {
        Some(wait) => timeout(wait, known.execution.ended()).await.ok(),
        None => known.execution.outcome(),
    };
    let apart = accepts(&headers, JSON).is_some_and(|json| json.apart);
    Ok(match outcome {
        Some(outcome) => answer::result(&known.execution, &outcome, apart),
        None => Json(known.told()).into_response(),
    })
}

/// What exists now of one output, from `?offset=` on: `?stream=stdout` or `stderr`.
async fn output(
    State(runner): State<Arc<Runner>>,
    PathId(id): PathId,
    uri: Uri,
) -> Result<Response, Rejection> {
    let params = Params::read(&uri, &["stream", "offset"])?;
    let Some(Name(stream)) = params.get("stream")? else {
        let detail = "the query parameter \"stream\" is missing: it is stdout or stderr";
        return Err(Rejection::new(Kind::Invalid, detail));
    };
    let offset = params.get("offset")?.unwrap_or(0);
    let known = runner.kept.lock().get(id).ok_or_else(|| unknown(id))?;
    Ok(answer::output(known.execution, stream, offset))
}

/// The name of a stream.
struct Name(Stream);

impl FromStr for Name {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "stdout" => Ok(Self(Stream::Stdout)),
            "stderr" => Ok(Self(Stream::Stderr)),
            _ => Err("it is stdout or stderr"),
        }
    }
}

/// Cancels what runs; acknowledges, and so forgets, what has ended. The verdict is answered all the
/// same, without outputs: a cancellation that came too late should not have to guess.
///
/// With `?acknowledge=false` it only cancels: what has ended stays.
/// With `?epoch=` (and `?cluster=`) it is refused where that term is over. What belongs to another
/// cluster than the one that is named is answered as unknown, as it is for that one.
async fn end(
    State(runner): State<Arc<Runner>>,
    PathId(id): PathId,
    uri: Uri,
) -> Result<(StatusCode, Response), Rejection> {
    let params = Params::read(&uri, &["epoch", "cluster", "acknowledge"])?;
    let acknowledge = params.get("acknowledge")?.unwrap_or(true);
    let epoch = params.get("epoch")?.map(|Epoch(epoch)| epoch);
    let caller = Caller { cluster: params.get("cluster")?, epoch };
    match runner.end(id, caller, acknowledge)?.ok_or_else(|| unknown(id))? {
        Ended::Before(outcome) => {
            let verdict = Outcome::clone(&outcome).without_output();
            Ok((StatusCode::OK, Json(verdict).into_response()))
        }
        Ended::Cancelled(known) => Ok((StatusCode::ACCEPTED, Json(known.told()).into_response())),
    }
}

/// The number of a term, in the range that it has in a body.
struct Epoch(u64);

impl FromStr for Epoch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .ok()
            .filter(|epoch| *epoch <= MAX_EPOCH)
            .map(Self)
            .ok_or_else(|| format!("must be a whole number from 0 to {MAX_EPOCH}"))
    }
}

fn unknown(id: Uuid) -> Rejection {
    let detail = format!(
        "no execution {id} is known here: it never came, or its result was acknowledged or expired"
    );
    Rejection::new(Kind::NotFound, detail)
}

async fn health(State(runner): State<Arc<Runner>>, uri: Uri) -> Result<Response, Rejection> {
    Params::read(&uri, &[])?;
    let health = runner.health();
    let status = match health.status {
        RunnerState::Failed => StatusCode::SERVICE_UNAVAILABLE,
        RunnerState::Ok | RunnerState::Degraded | RunnerState::Draining => StatusCode::OK,
    };
    Ok((status, Json(health)).into_response())
}

/// Whether new work should come here: a load balancer's question, where `/health` is a supervisor's.
/// Slots that are all taken say nothing of it: they are free again in a moment.
async fn ready(State(runner): State<Arc<Runner>>, uri: Uri) -> Result<Json<Value>, Rejection> {
    Params::read(&uri, &[])?;
    let refuse = |detail, after| Problem::new(Kind::Unavailable, detail).retry_after(after);
    if let Some((_, detail)) = runner.closed() {
        return Err(refuse(detail, COME_AGAIN).into());
    }
    if runner.spool.is_full() {
        return Err(refuse(SPOOL, 1).into());
    }
    if !runner.has_room() {
        return Err(refuse(RESULTS, 1).into());
    }
    Ok(Json(json!({"status": "ready"})))
}

async fn metrics(State(runner): State<Arc<Runner>>, uri: Uri) -> Result<Response, Rejection> {
    Params::read(&uri, &[])?;
    Ok(metrics_text(&runner.scrape().await?))
}
