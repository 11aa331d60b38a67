//! Talks to runners: one request each, over connections that are kept.

use std::time::Duration;

use bytes::Bytes;
use cloister_api::{Outcome, Problem, RunnerHealth};
use cloister_web::Secret;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, IF_MATCH},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::timeout;
use uuid::Uuid;

use super::stream::Lines;

const CONNECT: Duration = Duration::from_secs(2);
/// For what a runner answers from memory.
const ANSWER: Duration = Duration::from_secs(3);
/// Until a runner has taken a job: it reads the body first, which may be large.
const TAKE: Duration = Duration::from_secs(30);
/// Below the time after which the other side closes an idle connection.
const IDLE: Duration = Duration::from_secs(10);
const MAX_HEALTH: usize = 1 << 20;
const MAX_PROBLEM: usize = 64 << 10;

/// Why a request to a runner got no answer that makes sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// It was never sent.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// It may have been read.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// It may have been read.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// An answer that is not this protocol's.
    #[error("unexpected answer: {0}")]
    Nonsense(String),
}

/// What a runner said to an execution.
pub(crate) enum Taken {
    /// It has it. What happens comes line by line.
    Yes(Lines),
    /// All of its slots are taken, or it drains.
    Busy(String),
    /// It was restarted since it was chosen.
    OtherBoot,
    /// It will not have this job: beyond its bounds, say.
    Refused(String),
    /// It will have none of us: a wrong token, or no runner at all.
    Stranger(String),
}

/// What a runner knows of an execution.
pub(crate) enum Known {
    /// It runs, or is about to.
    Running,
    /// It has ended so.
    Ended(Box<Outcome>),
    /// Nothing.
    Nothing,
}

/// A client for all runners.
#[derive(Clone)]
pub(crate) struct RunnerClient {
    http: Client<HttpConnector, Full<Bytes>>,
    authorization: Option<HeaderValue>,
}

impl RunnerClient {
    pub(crate) fn new(token: Option<&Secret>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        connector.set_keepalive(Some(Duration::from_secs(15)));
        let http = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { http, authorization: token.map(Secret::authorization) }
    }

    /// How a runner is. While it drains it may say so with another status than 200.
    pub(crate) async fn health(&self, runner: &str) -> Result<RunnerHealth, CallError> {
        let request = self.request(Method::GET, &format!("{runner}/health"));
        let (status, body) = self.answer(request, MAX_HEALTH).await?;
        serde_json::from_slice(&body)
            .map_err(|error| CallError::Nonsense(format!("{status} at /health: {error}")))
    }

    /// Gives a runner an execution, or joins the one it has under that id. `boot` is its life when
    /// it was chosen: a runner that minds `If-Match` takes nothing in another one.
    pub(crate) async fn execute(
        &self,
        runner: &str,
        body: Bytes,
        boot: Option<Uuid>,
        max_line: usize,
    ) -> Result<Taken, CallError> {
        let mut request = self.request(Method::POST, &format!("{runner}/execute"));
        *request.body_mut() = Full::new(body);
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/x-ndjson"));
        if let Some(boot) = boot
            && let Ok(value) = HeaderValue::try_from(format!("\"{boot}\""))
        {
            headers.insert(IF_MATCH, value);
        }
        let response = self.send(request, TAKE).await?;
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(Taken::Yes(Lines::new(response.into_body(), max_line)));
        }
        let detail = self.detail(response).await;
        Ok(match status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Taken::Busy(detail),
            StatusCode::PRECONDITION_FAILED => Taken::OtherBoot,
            StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY => Taken::Refused(detail),
            status if status.is_client_error() => {
                Taken::Stranger(format!("answers {status}: {detail}"))
            }
            status => return Err(CallError::Nonsense(format!("{status}: {detail}"))),
        })
    }

    /// What a runner knows of an execution.
    pub(crate) async fn look(
        &self,
        runner: &str,
        execution: Uuid,
        max_body: usize,
    ) -> Result<Known, CallError> {
        let request = self.request(Method::GET, &format!("{runner}/executions/{execution}"));
        let (status, body) = self.answer(request, max_body).await?;
        match status {
            StatusCode::NOT_FOUND => Ok(Known::Nothing),
            status if status.is_success() => Ok(match serde_json::from_slice::<Outcome>(&body) {
                Ok(outcome) if outcome.status.ended() => Known::Ended(Box::new(outcome)),
                _ => Known::Running,
            }),
            status => Err(CallError::Nonsense(format!("{status} at /executions"))),
        }
    }

    /// Ends an execution that runs, or lets a runner forget one that has ended. Answers whether the
    /// runner knew it.
    pub(crate) async fn delete(&self, runner: &str, execution: Uuid) -> Result<bool, CallError> {
        let request = self.request(Method::DELETE, &format!("{runner}/executions/{execution}"));
        let (status, _) = self.answer(request, MAX_HEALTH).await?;
        match status {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => Ok(true),
            status => Err(CallError::Nonsense(format!("{status} at /executions"))),
        }
    }

    fn request(&self, method: Method, url: &str) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::default());
        *request.method_mut() = method;
        // Names of runners were parsed as URLs when they were made; the rest is ASCII.
        *request.uri_mut() = url.parse().unwrap_or_default();
        if let Some(value) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }
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
        let response = self.send(request, ANSWER).await?;
        let status = response.status();
        let body = timeout(TAKE, Limited::new(response.into_body(), max).collect());
        match body.await {
            Err(_) => Err(CallError::Late(TAKE)),
            Ok(Err(error)) => Err(CallError::Broken(error.to_string())),
            Ok(Ok(body)) => Ok((status, body.to_bytes())),
        }
    }

    /// What a problem document says, or how the answer starts that is none.
    async fn detail(&self, response: Response<Incoming>) -> String {
        let body = Limited::new(response.into_body(), MAX_PROBLEM).collect();
        let Ok(Ok(body)) = timeout(ANSWER, body).await else {
            return "without a reason".into();
        };
        let body = body.to_bytes();
        serde_json::from_slice::<Problem>(&body).map_or_else(
            |_| {
                let start: String = String::from_utf8_lossy(&body).chars().take(200).collect();
                start.trim().to_owned()
            },
            |problem| problem.detail,
        )
    }
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
