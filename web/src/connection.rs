//! One client's TCP connection, with three manners that plain sockets lack.
//!
//! **It lingers.** A server that refuses a body in the middle and closes the socket with bytes of
//! that body unread makes the kernel send a reset, which may overtake the answer: the client sees
//! "connection reset" instead of `413`. So after such an answer the sending side is closed, and what
//! the client still sends is read and thrown away until it stops, or for a bounded time.
//!
//! **It does not wait for ever to be read.** A client that takes nothing of its answer for so long is
//! gone, or wants to hold a connection.
//!
//! **It does not wait for ever for the rest of a head.** A new connection has to send one in time, and
//! so has one that was kept once the first byte of the next has come. (How long it may be kept without
//! any is for the server to say.)
//!
//! It also tells its [`Seat`] when an answer is with the kernel.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

use crate::connections::Seat;

/// How long the rest of a refused body is read. A client on the same continent has stopped by then.
const LINGER: Duration = Duration::from_secs(2);

/// Whether a request's body was left unread, known to its connection and to the bodies on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unread(Arc<AtomicBool>);

/// The stream of one connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    unread: Unread,
    /// How long the client may take nothing of what it asked for.
    patience: Duration,
    /// How long a head may take.
    head: Duration,
    seat: Arc<Seat>,
    lingering: Option<Pin<Box<Sleep>>>,
    stalled: Option<Pin<Box<Sleep>>>,
    /// Until when the head must have come, of which something came or the first one is waited for.
    due: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    /// The first head must have come after `first`, each further one `head` after it began.
    pub(crate) fn new(
        stream: TcpStream,
        unread: Unread,
        patience: Duration,
        (first, head): (Duration, Duration),
        seat: Arc<Seat>,
    ) -> Self {
        let due = Some(Box::pin(sleep(first)));
        Self { stream, unread, patience, head, seat, lingering: None, stalled: None, due }
    }

    /// Passes on what a write came to, and turns a wait that is too long into an error.
    fn unless_stalled(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if !this.seat.waits() {
            return read;
        }
        if read.is_ready() {
            if buf.filled().len() > before {
                let head = this.head;
                this.due.get_or_insert_with(|| Box::pin(sleep(head)));
            }
            return read;
        }
        match &mut this.due {
            Some(due) => {
                ready!(due.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            None => Poll::Pending,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.unless_stalled(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.unless_stalled(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        if self.seat.flushed() {
            self.due = None;
        }
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            if !this.unread.0.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
        }
        let deadline = this.lingering.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        let mut scratch = [0; 16 << 10];
        // The deadline is looked at each time round: a fast client could keep the loop busy.
        while deadline.as_mut().poll(cx).is_pending() {
            let mut buf = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// A request's body that tells its connection when it is dropped before its end.
pub(crate) struct Watched {
    body: Incoming,
    unread: Unread,
}

impl Watched {
    pub(crate) fn new(body: Incoming, unread: Unread) -> Self {
        Self { body, unread }
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body that tells its connection's seat when it is complete, or given up.
pub(crate) struct Answer {
    body: axum::body::Body,
    _turn: Turn,
}

impl Answer {
    pub(crate) fn new(body: axum::body::Body, turn: Turn) -> Self {
        Self { body, _turn: turn }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// From a request to the end of its answer.
pub(crate) struct Turn(pub(crate) Arc<Seat>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.answered();
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.body.is_end_stream() {
            self.unread.0.store(true, Ordering::Relaxed);
        }
    }
}
