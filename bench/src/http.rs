//! As little of HTTP/1.1 as takes little of the machine: requests that are made before, one blocking
//! connection a thread, and a reader of messages that both sides here share.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    str,
    time::Duration,
};

use anyhow::{Context, bail, ensure};

/// Beyond this nobody here waits for an answer.
const PATIENCE: Duration = Duration::from_secs(120);
const MAX_HEAD: usize = 64 << 10;

/// A message that came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    /// Its first line.
    pub(crate) line: &'a str,
    /// Its body, put together where it came in chunks.
    pub(crate) body: &'a [u8],
}

impl Message<'_> {
    /// The status, where it is an answer.
    pub(crate) fn status(&self) -> Option<u16> {
        self.line.split(' ').nth(1)?.parse().ok()
    }

    /// Fails unless it is an answer with this status.
    pub(crate) fn must_be(&self, status: u16) -> anyhow::Result<()> {
        let Self { line, body } = self;
        ensure!(
            self.status() == Some(status),
            "expected {status}, was answered {line}: {}",
            String::from_utf8_lossy(body)
        );
        Ok(())
    }
}

/// A connection that is kept, of either side.
pub(crate) struct Connection {
    stream: TcpStream,
    /// What was read: a message, and perhaps the beginning of the next one.
    buffer: Vec<u8>,
    /// Of `buffer`, what the last message took.
    used: usize,
    body: Vec<u8>,
}

impl Connection {
    /// To a server.
    pub(crate) fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)
            .with_context(|| format!("connecting to {address} failed"))?;
        stream
            .set_read_timeout(Some(PATIENCE))
            .context("setting a connection's patience failed")?;
        Self::of(stream)
    }

    /// One that was made.
    pub(crate) fn of(stream: TcpStream) -> anyhow::Result<Self> {
        stream.set_nodelay(true).context("setting TCP_NODELAY failed")?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096), used: 0, body: Vec::new() })
    }

    /// Sends a request and comes back with its answer.
    pub(crate) fn call(&mut self, request: &[u8]) -> anyhow::Result<Message<'_>> {
        self.send(request)?;
        self.receive()?.context("the connection was closed in place of an answer")
    }

    /// Sends what is a message.
    pub(crate) fn send(&mut self, message: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(message).context("sending a message failed")
    }

    /// The next message; `None` where the other side has closed.
    pub(crate) fn receive(&mut self) -> anyhow::Result<Option<Message<'_>>> {
        self.buffer.drain(..self.used);
        self.used = 0;
        self.body.clear();
        let head = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            ensure!(self.buffer.len() <= MAX_HEAD, "the head of a message is too long");
            if self.more()? == 0 {
                ensure!(self.buffer.is_empty(), "the connection was closed within a head");
                return Ok(None);
            }
        };
        match framing(&self.buffer[..head])? {
            Framing::Length(length) => {
                while self.buffer.len() < head + length {
                    ensure!(self.more()? > 0, "the connection was closed within a body");
                }
                self.used = head + length;
                self.body.extend_from_slice(&self.buffer[head..self.used]);
            }
            Framing::Chunked => self.chunks(head)?,
        }
        let end = find(&self.buffer, b"\r\n").unwrap_or(head);
        let line = str::from_utf8(&self.buffer[..end]).context("a first line is not text")?;
        Ok(Some(Message { line, body: &self.body }))
    }

    fn chunks(&mut self, head: usize) -> anyhow::Result<()> {
        let mut at = head;
        loop {
            let end = self.until(at, b"\r\n")?;
            let text =
                str::from_utf8(&self.buffer[at..end]).context("a chunk's size is not text")?;
            let size = usize::from_str_radix(text.split(';').next().unwrap_or_default().trim(), 16)
                .with_context(|| format!("{text:?} is no size of a chunk"))?;
            let from = end + 2;
            while self.buffer.len() < from + size + 2 {
                ensure!(self.more()? > 0, "the connection was closed within a chunk");
            }
            self.body.extend_from_slice(&self.buffer[from..from + size]);
            at = from + size + 2;
            if size == 0 {
                // No server here sends trailers.
                self.used = at;
                return Ok(());
            }
        }
    }

    /// Where this stands from there on, once it has come.
    fn until(&mut self, from: usize, what: &[u8]) -> anyhow::Result<usize> {
        loop {
            if let Some(at) = find(&self.buffer[from..], what) {
                return Ok(from + at);
            }
            ensure!(self.more()? > 0, "the connection was closed within a body");
        }
    }

    fn more(&mut self) -> anyhow::Result<usize> {
        let mut piece = [0; 16 << 10];
        let size = self.stream.read(&mut piece).context("reading from a connection failed")?;
        self.buffer.extend_from_slice(&piece[..size]);
        Ok(size)
    }
}

enum Framing {
    Length(usize),
    Chunked,
}

fn framing(head: &[u8]) -> anyhow::Result<Framing> {
    let head = str::from_utf8(head).context("the head of a message is not text")?;
    for line in head.split("\r\n").skip(1) {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            let length = value.parse().with_context(|| format!("{value:?} is no length"))?;
            return Ok(Framing::Length(length));
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") {
                bail!("the transfer encoding {value} is not known here");
            }
            return Ok(Framing::Chunked);
        }
    }
    Ok(Framing::Length(0))
}

pub(crate) fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// A request as it is sent.
pub(crate) fn request(method: &str, path: &str, to: SocketAddr, body: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: {to}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// An answer as it is sent.
pub(crate) fn answer(status: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    #[test]
    fn messages_follow_each_other_in_whatever_pieces() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc\
            HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\n\r\n\
            HTTP/1.1 404 Not Found\r\n\r\n";
        for size in [1, 7, text.len()] {
            thread::scope(|scope| {
                scope.spawn(|| {
                    let mut stream = listener.accept().unwrap().0;
                    for piece in text.chunks(size) {
                        stream.write_all(piece).unwrap();
                    }
                });
                let mut connection = Connection::open(address).unwrap();
                for (status, body) in [(200, &b"abc"[..]), (201, b"abc"), (404, b"")] {
                    let message = connection.receive().unwrap().unwrap();
                    assert_eq!((message.status(), message.body), (Some(status), body));
                }
                assert!(connection.receive().unwrap().is_none());
            });
        }
    }
}
