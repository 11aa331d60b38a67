//! Connections: how many, how long, and how they end.

use std::{
    convert::Infallible,
    future::pending,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    routing::{MethodRouter, get},
};
use bytes::Bytes;
use cloister_web::{BodyLimits, ServerLimits, Shutdown, serve};
use http_body::{Body, Frame};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    time::timeout,
};

use crate::service::{PATIENCE, read_answer, start, start_default};

#[tokio::test]
async fn a_head_that_never_ends_is_hung_up_on() {
    let limits = ServerLimits { head: Duration::from_millis(100), ..ServerLimits::default() };
    let service = start(BodyLimits::default(), limits);
    for begun in ["", "GET /health HTTP/1.1\r\nX-Slow: "] {
        let mut stream = service.connect().await;
        stream.write_all(begun.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("hung up in time").unwrap();
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told() {
    let limits = ServerLimits { connections: 1, ..ServerLimits::default() };
    let service = start(BodyLimits::default(), limits);
    let mut first = service.connect().await;
    first
        .write_all(b"GET /held HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    service.held.notified().await;
    let refused = service.get("/health").await;
    assert_eq!(refused.problem().status, 503);
    assert!(refused.head.contains("retry-after"), "{}", refused.head);
    service.release.notify_one();
    assert_eq!(read_answer(&mut first).await.body, "released");
}

#[tokio::test]
async fn it_answers_while_draining_and_closes_in_order_when_stopped() {
    let service = start_default();
    let mut idle = service.connect().await;
    let mut busy = service.connect().await;
    busy.write_all(b"GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    service.held.notified().await;
    service.shutdown.drain();
    assert_eq!(service.get("/health").await.status, 200);
    service.stop.notify_one();
    // The idle connection is closed at once; the busy one has its answer first.
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
    service.release.notify_one();
    assert_eq!(read_answer(&mut busy).await.body, "released");
    timeout(PATIENCE, service.task).await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(service.address).await.is_err());
}

#[tokio::test]
async fn an_end_closes_everything_at_once() {
    let service = start_default();
    let mut busy = service.connect().await;
    busy.write_all(b"GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    service.held.notified().await;
    service.shutdown.end();
    timeout(PATIENCE, service.task).await.unwrap().unwrap().unwrap();
    assert_eq!(busy.read(&mut [0]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn an_answer_that_takes_too_long_does_not_hold_up_the_end() {
    let limits = ServerLimits { close: Duration::from_millis(100), ..ServerLimits::default() };
    let service = start(BodyLimits::default(), limits);
    let mut busy = service.connect().await;
    busy.write_all(b"GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    service.held.notified().await;
    service.stop.notify_one();
    timeout(PATIENCE, service.task).await.unwrap().unwrap().unwrap();
}

/// Notifies when it is dropped.
struct Dropped(Arc<Notify>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// Serves this one route on a free port for as long as the test runs.
async fn connect_to(route: MethodRouter, limits: ServerLimits) -> TcpStream {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", route);
    tokio::spawn(serve(listener, None, router, limits, Shutdown::new(), pending()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    stream
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_its_handler() {
    let (started, dropped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let notices = (Arc::clone(&started), Arc::clone(&dropped));
    let route = get(move || async move {
        let _guard = Dropped(notices.1);
        notices.0.notify_one();
        pending::<()>().await;
    });
    let stream = connect_to(route, ServerLimits::default()).await;
    started.notified().await;
    drop(stream);
    timeout(PATIENCE, dropped.notified()).await.expect("the handler is dropped");
}

/// An answer without end, which notices when nobody takes it any more.
struct Endless(#[expect(dead_code, reason = "held to be dropped")] Dropped);

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'y'; 4096])))))
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_hung_up_on() {
    let dropped = Arc::new(Notify::new());
    let notice = Arc::clone(&dropped);
    let route = get(move || async move { axum::body::Body::new(Endless(Dropped(notice))) });
    let limits = ServerLimits { stall: Duration::from_millis(100), ..ServerLimits::default() };
    let _stream = connect_to(route, limits).await;
    timeout(PATIENCE, dropped.notified()).await.expect("the answer is given up");
}
