//! The accept loop: bounded in connections and in time, and closed in the order that a drain needs.
//!
//! axum's own server bounds neither connections nor the time for headers, so this one drives hyper
//! itself. It stops accepting when the service says so, not when draining starts: while a service
//! finishes its work, it must still tell how it is.

use std::{convert::Infallible, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{HeaderValue, header::CONNECTION},
};
use cloister_api::{Kind, Problem};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::ServiceExt;

use crate::{
    Error, Rejection, ServerTls, Shutdown,
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
    /// How long a client may take for the handshake of TLS, its first byte included.
    pub handshake: Duration,
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
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            close: Duration::from_secs(5),
        }
    }
}

/// Answers requests until `stop` returns, over TLS if it is given; then lets answers under way finish,
/// and closes. If `shutdown` ends, everything is closed at once.
pub async fn serve(
    listener: std::net::TcpListener,
    tls: Option<ServerTls>,
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
    let closing = watch::Sender::new(false);
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
        let client = Client { peer, router, limits, watcher: graceful.watcher() };
        let (tls, closing) = (tls.clone(), closing.subscribe());
        // The handshake is in the connection's own task, and within its permit: one that stalls
        // holds up nobody else.
        connections.spawn(async move {
            client.meet(stream, tls, closing).await;
            drop(permit);
        });
    }
    drop(listener);
    closing.send_replace(true);
    tokio::select! {
        () = ended => {}
        closed = timeout(limits.close, graceful.shutdown()) => if closed.is_err() {
            tracing::warn!(left = connections.len(), "closing connections whose answers take too long");
        },
    }
    Ok(())
}

/// Whoever is at the other end of a connection, and what it gets.
struct Client {
    peer: SocketAddr,
    router: Router,
    limits: ServerLimits,
    watcher: Watcher,
}

impl Client {
    /// One connection, from its handshake, where there is to be one, to its end.
    async fn meet(
        mut self,
        stream: TcpStream,
        tls: Option<ServerTls>,
        mut closing: watch::Receiver<bool>,
    ) {
        // Answers are small and whole: waiting to send more at once only makes them late.
        let _ = stream.set_nodelay(true);
        let unread = Unread::default();
        let wrap = |stream| Connection::new(stream, unread.clone(), self.limits.stall);
        let Some(tls) = tls else {
            let io = wrap(stream);
            return self.talk(io, unread).await;
        };
        let handshake = async {
            if speaks_http(&stream).await? {
                return Ok(Err(wrap(stream)));
            }
            tls.acceptor().accept(wrap(stream)).await.map(Ok)
        };
        let met = tokio::select! {
            // Nothing was asked yet, so that nothing is lost.
            _ = closing.wait_for(|closing| *closing) => return,
            met = timeout(self.limits.handshake, handshake) => met,
        };
        match met {
            Ok(Ok(Ok(io))) => self.talk(io, unread).await,
            Ok(Ok(Err(io))) => {
                self.router = Router::new().fallback(in_clear);
                self.talk(io, unread).await;
            }
            // Whoever can't be trusted, or does not trust, is told so by an alert.
            Ok(Err(error)) => tracing::debug!(peer = %self.peer, %error, "a TLS handshake failed"),
            Err(_) => tracing::debug!(peer = %self.peer, "a TLS handshake took too long"),
        }
    }

    /// From its first request to its last.
    async fn talk(self, io: impl AsyncRead + AsyncWrite + Unpin + 'static, unread: Unread) {
        let Self { peer, router, limits, watcher } = self;
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
            .serve_connection(TokioIo::new(io), service);
        if let Err(error) = watcher.watch(connection).await {
            // Clients vanish, stall and send nonsense all the time; hyper has answered what it could.
            tracing::debug!(%peer, %error, "a connection ended early");
        }
    }
}

/// Whether a client begins with a request instead of a handshake: methods are capital letters, a
/// TLS record begins with a small number. Nothing is taken from the stream.
async fn speaks_http(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    let length = stream.peek(&mut first).await?;
    Ok(length == 1 && first[0].is_ascii_uppercase())
}

/// To somebody who wrote `http://`: a handshake's alert would be noise on their screen.
async fn in_clear() -> Rejection {
    let detail = "this port speaks TLS: write https:// in place of http://. What was sent, a token \
                  too, went over the network in clear";
    Rejection::new(Kind::Invalid, detail).with_header(CONNECTION, HeaderValue::from_static("close"))
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
