//! A service on a free port, spoken to byte by byte.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::HeaderMap,
    routing::{get, post},
};
use cloister_api::Problem;
use cloister_web::{
    Access, BodyLimits, BodyReader, Error, Guard, PathId, Rejection, ServerLimits, ServerTls,
    Shutdown, Wait, metrics_text, serve, with_fallbacks,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    task::JoinHandle,
    time::timeout,
};

/// Far beyond what anything here takes: reaching it is the failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: Shutdown,
    pub(crate) stop: Arc<Notify>,
    /// Told when the handler of `/held` has started.
    pub(crate) held: Arc<Notify>,
    /// Lets it answer.
    pub(crate) release: Arc<Notify>,
    pub(crate) task: JoinHandle<Result<(), Error>>,
}

#[derive(Clone)]
struct App {
    reader: BodyReader,
    held: Arc<Notify>,
    release: Arc<Notify>,
}

/// A service on a free port, with routes that show what the edge did.
pub(crate) fn start(bodies: BodyLimits, limits: ServerLimits) -> Service {
    start_over(None, bodies, limits)
}

/// The same over TLS.
pub(crate) fn start_over(
    tls: Option<ServerTls>,
    bodies: BodyLimits,
    limits: ServerLimits,
) -> Service {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (held, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let app = App {
        reader: BodyReader::new(bodies),
        held: Arc::clone(&held),
        release: Arc::clone(&release),
    };
    let router = Router::new()
        .route("/echo", post(echo))
        .route("/health", get(async || "fine"))
        .route("/held", get(hold))
        .route("/metrics", get(metrics))
        .route("/wait", get(async |Wait(wait): Wait| format!("{wait:?}")))
        .route("/jobs/{id}", get(async |PathId(id): PathId| id.to_string()))
        .with_state(app);
    let guard = Guard::new(Access::Loopback { bound: address }, false).over_tls(tls.is_some());
    let router = guard.protect(with_fallbacks(router));
    let (shutdown, stop) = (Shutdown::new(), Arc::new(Notify::new()));
    let stopped = Arc::clone(&stop);
    let task = tokio::spawn(serve(listener, tls, router, limits, shutdown.clone(), async move {
        stopped.notified().await;
    }));
    Service { address, shutdown, stop, held, release, task }
}

pub(crate) fn start_default() -> Service {
    start(BodyLimits::default(), ServerLimits::default())
}

async fn echo(State(app): State<App>, headers: HeaderMap, body: Body) -> Result<String, Rejection> {
    let body = app.reader.read(&headers, body).await?;
    Ok(format!("{} bytes", body.len()))
}

async fn hold(State(app): State<App>) -> &'static str {
    app.held.notify_one();
    app.release.notified().await;
    "released"
}

async fn metrics() -> axum::response::Response {
    let registry = prometheus::Registry::new();
    let counter = prometheus::IntCounter::new("jobs_total", "Submissions.").unwrap();
    registry.register(Box::new(counter)).unwrap();
    metrics_text(&registry.gather())
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn problem(&self) -> Problem {
        assert!(self.head.contains("content-type: application/problem+json"), "{}", self.head);
        let problem: Problem = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem.status, self.status);
        problem
    }
}

impl Service {
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends these bytes and reads until the service closes.
    pub(crate) async fn talk(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut stream = self.connect().await;
        stream.write_all(request.as_ref()).await.unwrap();
        read_answer(&mut stream).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.talk(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
            .await
    }

    pub(crate) fn post_head(&self, length: usize) -> String {
        format!(
            "POST /echo HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n",
            self.address
        )
    }
}

/// Everything until the service closes. A reset fails: a client would have lost the answer.
pub(crate) async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> Answer {
    let mut bytes = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("an answer in time").unwrap();
    parse(&bytes)
}

pub(crate) fn parse(bytes: &[u8]) -> Answer {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: body.into() }
}
