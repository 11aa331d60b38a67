//! Calls to a coordinator.
//!
//! A call is bounded in every direction: the connection, the time until the answer is there in
//! full, and its size.

use std::time::Duration;

use cloister_api::{ByteSize, Job, Problem};
use cloister_web::Connector;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER},
};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use super::{
    error::{Error, cause, distrust},
    server::{Connection, Server},
    text,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How much longer than it was asked to wait a coordinator may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Room for both streams of a job at the widest maximum of an operator, as JSON.
const MAX_ANSWER: ByteSize = ByteSize::mib(512);

/// One coordinator.
pub(super) struct Api {
    server: Server,
    authorization: Option<HeaderValue>,
    client: Client<Connector, Full<Bytes>>,
    max_answer: ByteSize,
}

/// One request.
pub(super) struct Call {
    method: Method,
    path: String,
    wait: Duration,
    body: Bytes,
    key: Option<HeaderValue>,
}

impl Call {
    /// `path` starts with a slash.
    pub(super) fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), wait: Duration::ZERO, body: Bytes::new(), key: None }
    }

    /// Looks at one job, and with a `wait` that is not zero, only when that has passed or the job
    /// has ended.
    pub(super) fn job(id: Uuid, wait: Duration) -> Self {
        let query =
            if wait.is_zero() { String::new() } else { format!("?wait={}", wait.as_secs()) };
        Self { wait, ..Self::new(Method::GET, format!("/jobs/{id}{query}")) }
    }

    /// Hands in a job; with the same key the same body is one job, however often it is sent.
    pub(super) fn submission(body: Vec<u8>, key: HeaderValue) -> Self {
        Self { body: body.into(), key: Some(key), ..Self::new(Method::POST, "/jobs") }
    }

    /// Tells a coordinator what an operator wants.
    pub(super) fn order(path: &str, order: &impl Serialize) -> serde_json::Result<Self> {
        let body = serde_json::to_vec(order)?.into();
        Ok(Self { body, ..Self::new(Method::POST, path) })
    }

    /// For messages.
    fn name(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        format!("{} {path}", self.method)
    }
}

impl Api {
    pub(super) fn new(connection: &Connection) -> Result<Self, cloister_web::Error> {
        let connector = Connector::new(connection.tls()?, CONNECT_TIMEOUT);
        Ok(Self {
            server: connection.server.clone(),
            authorization: connection.token()?.map(|token| token.authorization()),
            client: Client::builder(TokioExecutor::new()).build(connector),
            max_answer: MAX_ANSWER,
        })
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Looks at one job; see [`Call::job`].
    pub(super) async fn job(&self, id: Uuid, wait: Duration) -> Result<Job, Error> {
        self.call(&Call::job(id, wait)).await
    }

    /// Makes one call and reads its answer.
    pub(super) async fn call<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Error> {
        let limit = call.wait + PATIENCE;
        let answer = tokio::time::timeout(limit, self.exchange(call)).await;
        let (status, headers, body) = answer.map_err(|_| Error::Silent {
            server: self.server.clone(),
            call: call.name(),
            after: limit,
        })??;
        if !status.is_success() {
            return Err(self.refusal(call, status, &headers, &body));
        }
        serde_json::from_slice(&body).map_err(|error| Error::Stranger {
            server: self.server.clone(),
            call: call.name(),
            status,
            what: format!("something unexpected ({})", text::plain(&error.to_string())),
            retry_after: None,
        })
    }

    async fn exchange(&self, call: &Call) -> Result<(StatusCode, HeaderMap, Bytes), Error> {
        let response = self.client.request(self.request(call)).await;
        let response = response.map_err(|error| {
            if let Some(why) = distrust(&error) {
                Error::Untrusted { server: self.server.clone(), why }
            } else if error.is_connect() {
                Error::Unreachable { server: self.server.clone(), why: cause(&error) }
            } else {
                self.broken_off(call, &error)
            }
        })?;
        let (parts, body) = Response::into_parts(response);
        let body = self.read(call, body).await?;
        Ok((parts.status, parts.headers, body))
    }

    fn request(&self, call: &Call) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.method.clone();
        *request.uri_mut() =
            self.server.at(&call.path).parse().expect(
                "the server's address was parsed before, and paths are made of URL characters",
            );
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if call.method == Method::POST {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(value) = &self.authorization {
            headers.insert(AUTHORIZATION, value.clone());
        }
        if let Some(key) = &call.key {
            headers.insert("idempotency-key", key.clone());
        }
        request
    }

    async fn read(&self, call: &Call, body: Incoming) -> Result<Bytes, Error> {
        let limit = usize::try_from(self.max_answer.0).unwrap_or(usize::MAX);
        let collected = Limited::new(body, limit).collect().await;
        collected.map(http_body_util::Collected::to_bytes).map_err(|error| {
            if error.is::<LengthLimitError>() {
                Error::TooLarge {
                    server: self.server.clone(),
                    call: call.name(),
                    limit: self.max_answer,
                }
            } else {
                self.broken_off(call, error.as_ref())
            }
        })
    }

    fn broken_off(&self, call: &Call, error: &(dyn std::error::Error + 'static)) -> Error {
        Error::BrokenOff { server: self.server.clone(), call: call.name(), why: cause(error) }
    }

    /// Makes an error of an answer that is none of the good ones.
    fn refusal(&self, call: &Call, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
        // A date is allowed there too (RFC 9110, 10.2.3); coordinators send seconds.
        let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let retry_after = seconds.map(Duration::from_secs);
        match serde_json::from_slice::<Problem>(body) {
            Ok(problem) => Error::Refused {
                problem: Box::new(Problem { status: status.as_u16(), ..problem }),
                retry_after,
            },
            Err(_) => Error::Stranger {
                server: self.server.clone(),
                call: call.name(),
                status,
                what: "no problem document".into(),
                retry_after,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        connection: Connection,
    }

    async fn listening() -> (TcpListener, Api) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("--server=http://{}", listener.local_addr().unwrap());
        let cli = Cli::try_parse_from(["test", &server, "--token="]).unwrap();
        (listener, Api::new(&cli.connection).unwrap())
    }

    /// Reads a request up to the end of its head.
    async fn head(listener: &TcpListener) -> tokio::net::TcpStream {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\n") {
            read.push(connection.read_u8().await.unwrap());
        }
        connection
    }

    #[tokio::test]
    async fn who_never_answers_is_left_ten_seconds_after_the_wait() {
        let (listener, api) = listening().await;
        let call = Call::job(Uuid::nil(), Duration::from_secs(60));
        let asked = async {
            let connection = head(&listener).await;
            // The request is there: from now on nothing can happen but that time passes.
            tokio::time::pause();
            std::future::pending::<()>().await;
            drop(connection);
        };
        let began = tokio::time::Instant::now();
        let error = tokio::select! {
            answer = api.call::<Job>(&call) => answer.unwrap_err(),
            () = asked => unreachable!("it waits for ever"),
        };
        assert!(began.elapsed() >= Duration::from_secs(70));
        assert!(matches!(error, Error::Silent { .. }), "{error}");
        assert!(error.to_string().contains("within 70 s"), "{error}");
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_not_read_to_it() {
        let (listener, mut api) = listening().await;
        api.max_answer = ByteSize(1 << 16);
        let call = Call::job(Uuid::nil(), Duration::ZERO);
        let flood = async {
            let mut connection = head(&listener).await;
            let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
            connection.write_all(head).await.unwrap();
            while connection.write_all(&[b' '; 4096]).await.is_ok() {}
        };
        let (answer, ()) = tokio::join!(api.call::<Job>(&call), flood);
        let error = answer.unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
        assert!(error.to_string().contains("64KiB"), "{error}");
    }
}
