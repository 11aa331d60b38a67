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
    net::{TcpSocket, TcpStream},
    sync::Notify,
    time::timeout,
};

use crate::service::{PATIENCE, Service, parse, read_answer, start, start_default};

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

/// Waits until the service has closed it.
async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // It may be a reset.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("closed in time");
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn the_rest_of_a_head_is_waited_for_and_an_idle_connection_is_kept() {
    let limits = ServerLimits { head: Duration::from_millis(100), ..ServerLimits::default() };
    let service = start(BodyLimits::default(), limits);
    let [mut begins, mut idles] = [service.connect().await, service.connect().await];
    for stream in [&mut begins, &mut idles] {
        assert_eq!(ask(stream, "/wait").await, 200);
    }
    begins.write_all(b"G").await.unwrap();
    closed(&mut begins).await;
    assert_eq!(ask(&mut idles, "/wait").await, 200);
}

/// Asks on a connection that is kept, and reads the answer's head and body, which are short.
async fn ask(stream: &mut TcpStream, path: &str) -> u16 {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = vec![0; 4096];
    let read =
        timeout(PATIENCE, stream.read(&mut bytes)).await.expect("an answer in time").unwrap();
    parse(&bytes[..read]).status
}

/// Asks for `/held`, and returns when its handler has started.
async fn hold(service: &Service, mut stream: TcpStream) -> TcpStream {
    let request = b"GET /held HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    timeout(PATIENCE, service.held.notified()).await.expect("it is held");
    stream
}

#[tokio::test]
async fn where_all_connections_are_busy_health_and_metrics_are_answered_all_the_same() {
    let limits = ServerLimits { connections: 1, ..ServerLimits::default() };
    let service = start(BodyLimits::default(), limits);
    let mut first = hold(&service, service.connect().await).await;
    // More of them than the reserve has places, one after the other.
    for _ in 0..limits.reserve + 10 {
        assert_eq!(service.get("/health").await.status, 200);
    }
    assert_eq!(service.get("/metrics").await.status, 200);
    let length = 1 << 20;
    let body = [service.post_head(length).into_bytes(), vec![b' '; length]].concat();
    for refused in [service.get("/wait").await, service.talk(body).await] {
        assert_eq!(refused.problem().status, 503);
        assert!(refused.head.contains("retry-after: 1"), "{}", refused.head);
        assert!(refused.head.contains("connection: close"), "{}", refused.head);
    }
    // Who may come in is asked in the reserve too.
    let foreign = "GET /health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(service.talk(foreign).await.problem().status, 403);
    service.release.notify_one();
    assert_eq!(read_answer(&mut first).await.body, "released");
    assert_eq!(service.get("/wait").await.status, 200);
}

#[tokio::test]
async fn connections_that_wait_for_a_request_lock_nobody_out() {
    let limits = ServerLimits { connections: 8, per_peer: 8, ..ServerLimits::default() };
    let service = start(BodyLimits::default(), limits);
    let mut kept = service.connect().await;
    assert_eq!(ask(&mut kept, "/wait").await, 200);
    let mut flood = Vec::new();
    for _ in 0..3 * limits.connections {
        let mut stream = service.connect().await;
        // It may be closed already.
        let _ = stream.write_all(b"GET /wait HTTP/1.1\r\nX-Slow: ").await;
        flood.push(stream);
    }
    let mut busy = hold(&service, service.connect().await).await;
    closed(&mut kept).await;
    closed(&mut flood[0]).await;
    for _ in 0..2 * limits.connections {
        assert_eq!(service.get("/wait").await.status, 200);
    }
    service.release.notify_one();
    assert_eq!(read_answer(&mut busy).await.body, "released", "it was never closed");
}

#[tokio::test]
async fn connections_that_wait_do_not_fill_the_reserve() {
    let limits = ServerLimits {
        connections: 1,
        reserve: 4,
        reserve_per_peer: 4,
        reserve_head: PATIENCE * 2,
        ..ServerLimits::default()
    };
    let service = start(BodyLimits::default(), limits);
    let _busy = hold(&service, service.connect().await).await;
    let mut flood = Vec::new();
    for _ in 0..10 {
        flood.push(service.connect().await);
    }
    assert_eq!(service.get("/health").await.status, 200);
    closed(&mut flood[0]).await;
}

#[tokio::test]
async fn a_head_in_the_reserve_has_less_time() {
    let limits = ServerLimits {
        connections: 1,
        reserve_head: Duration::from_millis(100),
        head: PATIENCE * 2,
        ..ServerLimits::default()
    };
    let service = start(BodyLimits::default(), limits);
    let _busy = hold(&service, service.connect().await).await;
    let mut slow = service.connect().await;
    slow.write_all(b"GET /health HTTP/1.1\r\n").await.unwrap();
    closed(&mut slow).await;
}

#[tokio::test]
async fn who_finds_no_place_in_the_reserve_either_is_told() {
    let limits = ServerLimits {
        connections: 1,
        reserve: 1,
        reserved: &["/held"],
        ..ServerLimits::default()
    };
    let service = start(BodyLimits::default(), limits);
    let mut both = Vec::new();
    for _ in 0..2 {
        both.push(hold(&service, service.connect().await).await);
    }
    let mut stream = service.connect().await;
    let refused = read_answer(&mut stream).await;
    assert_eq!(refused.problem().status, 503);
    assert!(refused.head.contains("retry-after: 1"), "{}", refused.head);
    for mut held in both {
        service.release.notify_one();
        assert_eq!(read_answer(&mut held).await.body, "released");
    }
}

#[tokio::test]
async fn one_address_leaves_connections_to_others() {
    let limits = ServerLimits { connections: 4, per_peer: 2, ..ServerLimits::default() };
    let service = start(BodyLimits::default(), limits);
    let from = async |address: &str| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
        socket.connect(service.address).await.unwrap()
    };
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(hold(&service, from("127.0.0.2").await).await);
    }
    let wait = b"GET /wait HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut third = from("127.0.0.2").await;
    third.write_all(wait).await.unwrap();
    let refused = read_answer(&mut third).await.problem();
    assert_eq!(refused.status, 503);
    assert!(refused.detail.contains("this address"), "{}", refused.detail);
    let mut other = from("127.0.0.3").await;
    other.write_all(wait).await.unwrap();
    assert_eq!(read_answer(&mut other).await.status, 200);
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
