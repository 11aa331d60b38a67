//! Talks to runners: one request each, over connections that are kept.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cloister_api::{ExecuteRequest, KnownExecutions, LeaseRequest, Outcome, Problem, RunnerHealth};
use cloister_web::{Connector, Tokens};
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, IF_MATCH},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    link::{CallError, Chunks, Deleted, Known, Renewed, Reply, RunnerLink, Taken},
    stream::{self, BodyChunks, BodyLines},
};
use crate::{Config, engine::Term, store::Stream};

const CONNECT: Duration = Duration::from_secs(2);
/// For what a runner answers from memory.
const ANSWER: Duration = Duration::from_secs(3);
/// Until a runner has taken a job: it reads the body first, which may be large. The same until an answer has
/// come, or, of one that may be large, between two parts of it.
const TAKE: Duration = Duration::from_secs(30);
/// Below the time after which the other side closes an idle connection.
const IDLE: Duration = Duration::from_secs(10);
const MAX_HEALTH: usize = 1 << 20;
/// Thousands of executions, with what is known of each.
const MAX_KNOWN: usize = 32 << 20;
const MAX_PROBLEM: usize = 64 << 10;

/// What happens at an execution, without what it prints where that is much: a runner of an earlier version
/// sends it all the same.
const LINES: &str = "application/x-ndjson; output=apart";
/// The same of a result.
const RESULT: &str = "application/json; output=apart";

/// A client for all runners.
#[derive(Clone)]
pub(crate) struct RunnerClient {
    http: Client<Connector, Full<Bytes>>,
    tokens: Tokens,
}

impl RunnerClient {
    pub(crate) fn new(config: &Config) -> Self {
        let http = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(Connector::new(config.authorities.clone(), CONNECT));
        Self { http, tokens: config.runner_tokens.clone() }
    }

    fn request(&self, method: Method, url: &str) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::default());
        *request.method_mut() = method;
        // Names of runners were parsed as URLs when they were made; the rest is ASCII.
        *request.uri_mut() = url.parse().unwrap_or_default();
        let host = certified_host(request.uri());
        let headers = request.headers_mut();
        if let Some(host) = host {
            headers.insert(HOST, host);
        }
        // Looked up each time: the file that it came from may have been read again.
        if let Some(token) = self.tokens.first() {
            headers.insert(AUTHORIZATION, token.authorization());
        }
        request
    }

    /// A request with a body. A struct of strings and numbers always serialises.
    fn post(&self, url: &str, body: &impl Serialize) -> Request<Full<Bytes>> {
        let mut request = self.request(Method::POST, url);
        *request.body_mut() = Full::new(serde_json::to_vec(body).unwrap_or_default().into());
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request
    }

    async fn send(
        &self,
        request: Request<Full<Bytes>>,
        within: Duration,
    ) -> Result<Response<Incoming>, CallError> {
        match timeout(within, self.http.request(request)).await {
            Err(_) => Err(CallError::Late(within)),
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_connect() => Err(CallError::Connect(innermost(&error))),
            Ok(Err(error)) => Err(CallError::Broken(innermost(&error))),
        }
    }

    async fn answer(
        &self,
        request: Request<Full<Bytes>>,
        max: usize,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let answer = timeout(ANSWER + TAKE, self.long_answer(request, max)).await;
        answer.unwrap_or(Err(CallError::Late(TAKE)))
    }

    /// The same of an answer that may be large: as long as more of it comes, the runner answers.
    async fn long_answer(
        &self,
        request: Request<Full<Bytes>>,
        max: usize,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let response = self.send(request, ANSWER).await?;
        let status = response.status();
        let mut body = Limited::new(response.into_body(), max);
        let mut bytes = BytesMut::new();
        loop {
            match timeout(TAKE, body.frame()).await {
                Err(_) => return Err(CallError::Late(TAKE)),
                Ok(Some(Err(error))) => return Err(CallError::Broken(error.to_string())),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        bytes.extend_from_slice(&data);
                    }
                }
                Ok(None) => return Ok((status, bytes.freeze())),
            }
        }
    }

    /// What a problem document says, or how the answer starts that is none.
    async fn detail(&self, response: Response<Incoming>) -> String {
        let body = Limited::new(response.into_body(), MAX_PROBLEM).collect();
        let Ok(Ok(body)) = timeout(ANSWER, body).await else {
            return "without a reason".into();
        };
        detail_of(&body.to_bytes())
    }
}

/// What a body says that is an answer there.
fn understood<T: DeserializeOwned>(
    status: StatusCode,
    body: &[u8],
    path: &str,
) -> Result<T, CallError> {
    serde_json::from_slice(body)
        .map_err(|error| CallError::Nonsense(format!("{status} at {path}: {error}")))
}

/// What a problem document says, or how a body starts that is none.
fn detail_of(body: &[u8]) -> String {
    serde_json::from_slice::<Problem>(body).map_or_else(
        |_| {
            let start: String = String::from_utf8_lossy(body).chars().take(200).collect();
            start.trim().to_owned()
        },
        |problem| problem.detail,
    )
}

impl RunnerLink for RunnerClient {
    fn health<'a>(&'a self, runner: &'a str) -> Reply<'a, RunnerHealth> {
        Box::pin(async move {
            let request = self.request(Method::GET, &format!("{runner}/health"));
            let (status, body) = self.answer(request, MAX_HEALTH).await?;
            understood(status, &body, "/health")
        })
    }

    fn execute<'a>(
        &'a self,
        runner: &'a str,
        request: &'a ExecuteRequest,
        boot: Option<Uuid>,
        max_line: usize,
    ) -> Reply<'a, Taken> {
        Box::pin(async move {
            let mut post = self.post(&format!("{runner}/execute"), request);
            let headers = post.headers_mut();
            headers.insert(ACCEPT, HeaderValue::from_static(LINES));
            if let Some(boot) = boot
                && let Ok(value) = HeaderValue::try_from(format!("\"{boot}\""))
            {
                headers.insert(IF_MATCH, value);
            }
            let response = self.send(post, TAKE).await?;
            let status = response.status();
            if status == StatusCode::OK {
                return Ok(Taken::Yes(Box::new(BodyLines::new(
                    response.into_body(),
                    request,
                    max_line,
                ))));
            }
            let detail = self.detail(response).await;
            Ok(match status {
                StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                    Taken::Busy(detail)
                }
                StatusCode::PRECONDITION_FAILED => Taken::OtherBoot,
                StatusCode::CONFLICT => Taken::Stale(detail),
                StatusCode::BAD_REQUEST
                | StatusCode::PAYLOAD_TOO_LARGE
                | StatusCode::UNPROCESSABLE_ENTITY => Taken::Refused(detail),
                status if status.is_client_error() => {
                    Taken::Stranger(format!("answers {status}: {detail}"))
                }
                status => return Err(CallError::Nonsense(format!("{status}: {detail}"))),
            })
        })
    }

    fn look<'a>(&'a self, runner: &'a str, execution: Uuid, max_body: usize) -> Reply<'a, Known> {
        Box::pin(async move {
            let url = format!("{runner}/executions/{execution}");
            let mut request = self.request(Method::GET, &url);
            request.headers_mut().insert(ACCEPT, HeaderValue::from_static(RESULT));
            let (status, body) = self.long_answer(request, max_body).await?;
            match status {
                StatusCode::NOT_FOUND => Ok(Known::Nothing),
                status if status.is_success() => {
                    stream::is_of(&body, execution)?;
                    Ok(match serde_json::from_slice::<Outcome>(&body) {
                        Ok(outcome) if outcome.status.ended() => Known::Ended(Box::new(outcome)),
                        _ => Known::Running,
                    })
                }
                status => Err(CallError::Nonsense(format!("{status} at /executions"))),
            }
        })
    }

    fn output<'a>(
        &'a self,
        runner: &'a str,
        execution: Uuid,
        stream: Stream,
        offset: u64,
    ) -> Reply<'a, Option<Box<dyn Chunks>>> {
        Box::pin(async move {
            let stream = stream.as_str();
            let path = format!("/executions/{execution}/output?stream={stream}&offset={offset}");
            let request = self.request(Method::GET, &format!("{runner}{path}"));
            let response = self.send(request, ANSWER).await?;
            match response.status() {
                StatusCode::OK => Ok(Some(Box::new(BodyChunks(response.into_body())) as _)),
                StatusCode::NOT_FOUND => Ok(None),
                status => {
                    let detail = self.detail(response).await;
                    Err(CallError::Nonsense(format!("{status} at {path}: {detail}")))
                }
            }
        })
    }

    fn renew<'a>(&'a self, runner: &'a str, request: &'a LeaseRequest) -> Reply<'a, Renewed> {
        Box::pin(async move {
            let post = self.post(&format!("{runner}/leases"), request);
            let (status, body) = self.answer(post, MAX_KNOWN).await?;
            match status {
                StatusCode::CONFLICT => Ok(Renewed::Stale(detail_of(&body))),
                status if status.is_success() => {
                    understood(status, &body, "/leases").map(Renewed::Yes)
                }
                status => {
                    let detail = detail_of(&body);
                    Err(CallError::Nonsense(format!("{status} at /leases: {detail}")))
                }
            }
        })
    }

    fn known<'a>(&'a self, runner: &'a str, cluster: Uuid) -> Reply<'a, KnownExecutions> {
        Box::pin(async move {
            let request =
                self.request(Method::GET, &format!("{runner}/executions?cluster={cluster}"));
            let (status, body) = self.answer(request, MAX_KNOWN).await?;
            understood(status, &body, "/executions")
        })
    }

    fn delete<'a>(
        &'a self,
        runner: &'a str,
        execution: Uuid,
        term: Option<Term>,
        acknowledge: bool,
    ) -> Reply<'a, Deleted> {
        Box::pin(async move {
            let term =
                term.map(|Term { cluster, epoch }| format!("epoch={}&cluster={cluster}", epoch.0));
            // Those who do not know of it can't but acknowledge.
            let cancel = (!acknowledge).then(|| "acknowledge=false".into());
            let query: Vec<String> = term.into_iter().chain(cancel).collect();
            let url = format!("{runner}/executions/{execution}?{}", query.join("&"));
            let (status, _) = self.answer(self.request(Method::DELETE, &url), MAX_HEALTH).await?;
            match status {
                StatusCode::NOT_FOUND => Ok(Deleted::Unknown),
                StatusCode::CONFLICT => Ok(Deleted::Stale),
                status if status.is_success() => Ok(Deleted::Yes),
                status => Err(CallError::Nonsense(format!("{status} at /executions"))),
            }
        })
    }
}

/// The name and port of a runner at `https://NAME@ADDRESS:PORT`: what it is called, wherever it is.
fn certified_host(url: &Uri) -> Option<HeaderValue> {
    let (name, _) = url.authority()?.as_str().split_once('@')?;
    let port = url.port_u16()?;
    HeaderValue::try_from(format!("{name}:{port}")).ok()
}

/// The cause at the bottom, such as `Connection refused (os error 111)`: the layers above it only
/// repeat that something failed.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
