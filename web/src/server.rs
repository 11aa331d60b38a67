//! The accept loop: bounded in connections and in time, and closed in the order that a drain needs.
//!
//! axum's own server bounds neither connections nor the time for headers, so this one drives hyper
//! itself. It stops accepting when the service says so, not when draining starts: while a service
//! finishes its work, it must still tell how it is.
//!
//! Clients without a token can open connections too, so connections run out in steps. A new one takes
//! the place of one that waits for a request (see [`connections`](crate::connections)). Where all
//! answer requests, a small reserve reads one head of it, in a short time and a small buffer: health,
//! metrics and operators are answered as ever, all others `503`. Where the reserve is full as well,
//! the client is sent `503` unread.

use std::{convert::Infallible, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{HeaderValue, header::CONNECTION},
};
use cloister_api::Kind;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinSet, yield_now},
    time::{Instant, sleep, timeout},
};
use tower::ServiceExt;

use crate::{
    Error, Rejection, ServerTls, Shutdown,
    connection::{Answer, Connection, Turn, Unread, Watched},
    connections::{Bounds, Connections, Refused, Seat},
    pressure::{self, Pressure},
    reserve::{self, reserved},
};

/// A request's head fits many times; a connection's buffers are bounded by it.
const BUFFER: usize = 64 << 10;
/// The same in the reserve; hyper takes no less.
const RESERVE_BUFFER: usize = 8 << 10;
/// How long to wait after the process ran out of descriptors and no connection could be closed:
/// nothing tells when one is free.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(100);

/// What all clients together may cost.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections at once. The next one takes the place of one that waits for a request.
    pub connections: usize,
    /// The same from one address, or one IPv6 network of 64 bits. Fewer, so that one client leaves
    /// room for others; not by much, since a proxy in front is one address as well.
    pub per_peer: usize,
    /// Connections beyond those, of which one head each is read: for `reserved` paths.
    pub reserve: usize,
    /// Connections in the reserve from one address.
    pub reserve_per_peer: usize,
    /// How long a client may take in the reserve for its handshake, and then for its head.
    pub reserve_head: Duration,
    /// What is answered in the reserve, with all paths below it.
    pub reserved: &'static [&'static str],
    /// How long a client may take for the handshake of TLS, its first byte included.
    pub handshake: Duration,
    /// How long the head of a request may take: from its first byte, of a new connection's first
    /// request from the beginning.
    pub head: Duration,
    /// How long a connection may be idle between two requests.
    pub idle: Duration,
    /// How long a client may take nothing of its answer.
    pub stall: Duration,
    /// After the service has stopped, how long answers under way may still take.
    pub close: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 2048,
            per_peer: 1536,
            reserve: 128,
            reserve_per_peer: 64,
            reserve_head: Duration::from_secs(2),
            reserved: &["/health", "/ready", "/metrics"],
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            close: Duration::from_secs(5),
        }
    }
}

impl ServerLimits {
    /// These, as far as they hold in the reserve.
    fn in_reserve(self) -> Self {
        let (handshake, head) = (self.reserve_head, self.reserve_head);
        Self { handshake, head, idle: self.reserve_head, ..self }
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
    let regular =
        Connections::new(Bounds { connections: limits.connections, per_peer: limits.per_peer });
    let reserve =
        Connections::new(Bounds { connections: limits.reserve, per_peer: limits.reserve_per_peer });
    let pressure = Pressure::default();
    let graceful = GracefulShutdown::new();
    let closing = watch::Sender::new(false);
    // Dropping the set ends every connection, also when this future itself is dropped.
    let mut connections = JoinSet::new();
    let ended = shutdown.ended();
    tokio::pin!(stop, ended);
    let mut told = None;
    loop {
        let (stream, peer) = tokio::select! {
            biased;
            () = &mut ended => return Ok(()),
            () = &mut stop => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    after_accept_failed(&error, &regular, &mut told).await;
                    continue;
                }
            },
        };
        let (places, admitted, kind) = match regular.admit(peer.ip()) {
            Ok(admitted) => (&regular, admitted, Service::Regular),
            Err(why) => {
                pressure.refused(peer);
                let Ok(admitted) = reserve.admit(peer.ip()) else {
                    refuse(stream, tls.is_some());
                    continue;
                };
                (&reserve, admitted, Service::Reserve(why))
            }
        };
        if admitted.evicted && matches!(kind, Service::Regular) {
            pressure.closed(peer);
        }
        let seat = admitted.seat;
        let id = seat.id;
        let (router, limits) = match kind {
            Service::Regular => (router.clone(), limits),
            Service::Reserve(why) => {
                (reserved(router.clone(), limits.reserved, why), limits.in_reserve())
            }
        };
        let client = Client { peer, seat, kind, router, limits, watcher: graceful.watcher() };
        let (tls, closing) = (tls.clone(), closing.subscribe());
        // The handshake is in the connection's own task, and within its place: one that stalls holds
        // up nobody else.
        let task = connections.spawn(client.meet(stream, tls, closing));
        places.attach(id, task);
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

/// How a connection is served.
#[derive(Clone, Copy, Debug)]
enum Service {
    /// For as many requests as the client likes.
    Regular,
    /// For one request, since there was no other place for this reason.
    Reserve(Refused),
}

/// Whoever is at the other end of a connection, and what it gets.
struct Client {
    peer: SocketAddr,
    seat: Arc<Seat>,
    kind: Service,
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
        let Self { limits, .. } = self;
        let seat = Arc::clone(&self.seat);
        let wrap = |stream, before: Duration| {
            let (stall, seat) = (limits.stall, Arc::clone(&seat));
            let times = (before + limits.head, limits.head);
            Connection::new(stream, unread.clone(), stall, times, seat)
        };
        let Some(tls) = tls else {
            let io = wrap(stream, Duration::ZERO);
            return self.talk(io, unread).await;
        };
        let handshake = async {
            if speaks_http(&stream).await? {
                return Ok(Err(wrap(stream, Duration::ZERO)));
            }
            tls.acceptor().accept(wrap(stream, limits.handshake)).await.map(Ok)
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
        let Self { peer, seat, kind, router, limits, watcher } = self;
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(|body| Body::new(Watched::new(body, unread.clone())));
            request.extensions_mut().insert(ConnectInfo(peer));
            let router = router.clone();
            let is_open = seat.begin();
            let turn = Turn(Arc::clone(&seat));
            async move {
                let response = if is_open {
                    router.oneshot(request).await.unwrap_or_else(|never| match never {})
                } else {
                    reserve::closed()
                };
                Ok::<_, Infallible>(response.map(|body| Answer::new(body, turn)))
            }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(limits.idle);
        match kind {
            Service::Regular => http.max_buf_size(BUFFER),
            Service::Reserve(_) => http.max_buf_size(RESERVE_BUFFER).keep_alive(false),
        };
        let connection = http.serve_connection(TokioIo::new(io), service);
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

/// Tells a client that there is no place for it, if it can be told in clear.
fn refuse(stream: TcpStream, tls: bool) {
    if !tls && let Ok(stream) = stream.into_std() {
        reserve::turn_away(stream);
    }
}

/// A client that gave up while it waited is not worth a word; a lack of descriptors or memory is. A
/// connection that waits is closed for it; without one, trying again at once would only burn the
/// processor. `told` is when the log last told of it: clients set the rate at which it happens.
async fn after_accept_failed(
    error: &io::Error,
    connections: &Connections,
    told: &mut Option<Instant>,
) {
    if matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    ) {
        return;
    }
    if told.is_none_or(|at| at.elapsed() >= pressure::PERIOD) {
        *told = Some(Instant::now());
        tracing::warn!(%error, "cannot accept a connection; raise the limit of open files if this lasts");
    }
    if connections.evict() {
        // Its task has to run, to close it.
        yield_now().await;
    } else {
        sleep(OUT_OF_DESCRIPTORS).await;
    }
}
