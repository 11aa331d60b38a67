//! The accept loop: bounded in connections and in time, and closed in the order that a drain needs.
//!
//! axum's own server bounds neither connections nor the time for headers, so this one drives hyper
//! itself. It stops accepting when the service says so, not when draining starts: while a service
//! finishes its work, it must still tell how it is.

use std::{convert::Infallible, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use cloister_api::{Kind, Problem};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::ServiceExt;

use crate::{
    Error, Rejection, Shutdown,
    connection::{Connection, Unread, Watched},
};

/// Connections beyond the limit that are told so at once; any further one is just closed.
const REFUSALS: usize = 64;
/// A request's head fits many times; a connection's buffers are bounded by it.
const BUFFER: usize = 64 << 10;
/// How long to wait after the process ran out of descriptors: nothing tells when one is free.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(100);

/// What all clients together may cost.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections at once; the next one is answered `503`.
    pub connections: usize,
    /// How long the head of a request may take, and how long a connection may be idle before it.
    pub head: Duration,
    /// How long a client may take nothing of its answer.
    pub stall: Duration,
    /// After the service has stopped, how long answers under way may still take.
    pub close: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            head: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            close: Duration::from_secs(5),
        }
    }
}

/// Answers requests until `stop` returns; then lets answers under way finish, and closes. If
/// `shutdown` ends, everything is closed at once.
pub async fn serve(
    listener: std::net::TcpListener,
    router: Router,
    limits: ServerLimits,
    shutdown: Shutdown,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    listener.set_nonblocking(true).map_err(Error::Listener)?;
    let listener = TcpListener::from_std(listener).map_err(Error::Listener)?;
    let permits = Arc::new(Semaphore::new(limits.connections));
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let refuse = Router::new().fallback(full);
    let graceful = GracefulShutdown::new();
    // Dropping the set ends every connection, also when this future itself is dropped.
    let mut connections = JoinSet::new();
    let ended = shutdown.ended();
    tokio::pin!(stop, ended);
    loop {
        let (stream, peer) = tokio::select! {
            biased;
            () = &mut ended => return Ok(()),
            () = &mut stop => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    after_accept_failed(&error).await;
                    continue;
                }
            },
        };
        let (permit, router) = if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
            (permit, router.clone())
        } else if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
            (permit, refuse.clone())
        } else {
            continue;
        };
        let talk = talk(stream, peer, router, limits, graceful.watcher());
        connections.spawn(async move {
            talk.await;
            drop(permit);
        });
    }
    drop(listener);
    tokio::select! {
        () = ended => {}
        closed = timeout(limits.close, graceful.shutdown()) => if closed.is_err() {
            tracing::warn!(left = connections.len(), "closing connections whose answers take too long");
        },
    }
    Ok(())
}

/// One connection, from its first request to its last.
async fn talk(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: ServerLimits,
    watcher: Watcher,
) {
    // Answers are small and whole: waiting to send more at once only makes them late.
    let _ = stream.set_nodelay(true);
    let unread = Unread::default();
    let io = TokioIo::new(Connection::new(stream, unread.clone(), limits.stall));
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(|body| Body::new(Watched::new(body, unread.clone())));
        request.extensions_mut().insert(ConnectInfo(peer));
        let router = router.clone();
        async move {
            Ok::<_, Infallible>(
                router.oneshot(request).await.unwrap_or_else(|never| match never {}),
            )
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(BUFFER)
        .serve_connection(io, service);
    if let Err(error) = watcher.watch(connection).await {
        // Clients vanish, stall and send nonsense all the time; hyper has answered what it could.
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}

async fn full() -> Rejection {
    let detail = "the service has as many connections as it takes; try again soon";
    Problem::new(Kind::Unavailable, detail).retry_after(1).into()
}

/// A client that gave up while it waited is not worth a word; a lack of descriptors or memory is,
/// and trying again at once would only burn the processor.
async fn after_accept_failed(error: &io::Error) {
    if matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    ) {
        return;
    }
    tracing::warn!(%error, "cannot accept a connection; raise the limit of open files if this lasts");
    sleep(OUT_OF_DESCRIPTORS).await;
}
