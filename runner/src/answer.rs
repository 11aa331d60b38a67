//! How an execution becomes an answer: its result, its events, and its outputs.
//!
//! Large outputs are in the spool and are never held whole: a body is made piece by piece, each when the
//! client has taken the one before. A client that does not read holds one piece and what its connection
//! buffers.

use std::{collections::VecDeque, io, mem, sync::Arc};

use axum::{
    Json,
    body::Body,
    http::{
        HeaderValue,
        header::{CONTENT_LENGTH, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use cloister_api::{
    Base64Encoder, Event, Outcome, Output, OutputBytes, Payload, TextEncoder, Utf8Checker,
};
use cloister_sandbox::Stream;
use futures_util::stream::unfold;
use uuid::Uuid;

use crate::{
    execution::{Execution, Happened},
    runner::Admission,
};

pub(crate) const NDJSON: &str = "application/x-ndjson";
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// Where outputs are wanted apart, both together are in the result up to this size.
const INLINE: u64 = 64 << 10;
/// What is read at once of an output that is sent as it is.
const CHUNK: usize = 64 << 10;
/// The same of one that is sent in JSON, where a byte may become six.
const JSON_CHUNK: usize = 16 << 10;

/// The result of an execution that has ended.
pub(crate) fn result(execution: &Arc<Execution>, outcome: &Outcome, apart: bool) -> Response {
    match Shape::of(execution, outcome, apart) {
        Shape::Whole(outcome) => Json(outcome).into_response(),
        Shape::Spooled => {
            let pieces = Pieces::new(execution, outcome, json);
            let body = unfold(pieces, |mut pieces| async {
                pieces.next().await.map(|piece| (piece, pieces))
            });
            let kind = HeaderValue::from_static("application/json");
            ([(CONTENT_TYPE, kind)], Body::from_stream(body)).into_response()
        }
    }
}

/// A line for each event, made when the client has room for it: what it does not take stays in the
/// execution's log, which is bounded. Dropping the body ends an execution without an id.
pub(crate) fn events(admission: Admission, apart: bool) -> Response {
    let lines = Lines { admission, apart, seq: 0, result: None, done: false };
    let lines = unfold(lines, |mut lines| async { lines.next().await.map(|line| (line, lines)) });
    let kind = HeaderValue::from_static(NDJSON);
    ([(CONTENT_TYPE, kind)], Body::from_stream(lines)).into_response()
}

/// What there is now of one output, from there on.
pub(crate) fn output(execution: Arc<Execution>, stream: Stream, offset: u64) -> Response {
    let end = execution.output(stream).len();
    let length = HeaderValue::from(end.saturating_sub(offset));
    let body = unfold((execution, offset), move |(execution, offset)| async move {
        let most = usize::try_from(end.saturating_sub(offset)).unwrap_or(CHUNK).min(CHUNK);
        if most == 0 {
            return None;
        }
        let read = execution.output(stream).read(offset, most).await;
        let next = read.as_ref().map_or(end, |bytes| offset + bytes.len() as u64);
        Some((read, (execution, next)))
    });
    ([(CONTENT_TYPE, OCTETS), (CONTENT_LENGTH, length)], Body::from_stream(body)).into_response()
}

/// How a result is told.
enum Shape {
    /// With outputs, which are short, or without.
    Whole(Box<Outcome>),
    /// With outputs of which one at least is long.
    Spooled,
}

impl Shape {
    fn of(execution: &Execution, outcome: &Outcome, apart: bool) -> Self {
        let outcome = outcome.clone();
        let (Some(out), Some(err)) = (outcome.stdout_truncated, outcome.stderr_truncated) else {
            // No command was tried.
            return Self::Whole(outcome.into());
        };
        let [stdout, stderr] = [Stream::Stdout, Stream::Stderr].map(|s| execution.output(s));
        if apart && stdout.len() + stderr.len() > INLINE {
            let bytes = OutputBytes { stdout: stdout.len(), stderr: stderr.len() };
            return Self::Whole(Box::new(Outcome { output_bytes: Some(bytes), ..outcome }));
        }
        match (stdout.short(), stderr.short()) {
            (Some(stdout), Some(stderr)) => Self::Whole(Box::new(
                outcome.with_output(Output::new(stdout, out), Output::new(stderr, err)),
            )),
            _ => Self::Spooled,
        }
    }
}

/// Strings and numbers always serialise.
fn json<T: serde::Serialize>(value: T) -> Vec<u8> {
    serde_json::to_vec(&value).unwrap_or_default()
}

/// A stream of events as lines.
struct Lines {
    admission: Admission,
    apart: bool,
    seq: u64,
    /// The result, where it is made piece by piece.
    result: Option<Pieces>,
    done: bool,
}

impl Lines {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if let Some(pieces) = &mut self.result {
            return pieces.next().await;
        }
        if self.done {
            return None;
        }
        let (execution, seq) = (Arc::clone(&self.admission.execution), self.seq);
        let happened = if self.apart {
            execution.without_outputs(seq).await
        } else {
            execution.event(seq).await?
        };
        self.seq += 1;
        let event = match happened {
            Happened::Started(started_at) => Event::Started { seq, started_at },
            Happened::Output { stream, range } => {
                let bytes = match read(&execution, stream, range).await {
                    Ok(bytes) => bytes,
                    Err(error) => {
                        self.done = true;
                        return Some(Err(error));
                    }
                };
                let payload = Payload::from(bytes);
                match stream {
                    Stream::Stdout => Event::Stdout { seq, payload },
                    Stream::Stderr => Event::Stderr { seq, payload },
                }
            }
            Happened::Ended(outcome) => {
                self.done = true;
                match Shape::of(&execution, &outcome, self.apart) {
                    Shape::Whole(outcome) => Event::Result { seq, outcome },
                    Shape::Spooled => {
                        let line = |outcome| {
                            let mut line = json(Event::Result { seq, outcome: Box::new(outcome) });
                            line.push(b'\n');
                            line
                        };
                        let pieces = self.result.insert(Pieces::new(&execution, &outcome, line));
                        return pieces.next().await;
                    }
                }
            }
        };
        let mut line = json(event);
        line.push(b'\n');
        Some(Ok(line.into()))
    }
}

/// All the bytes of an event.
async fn read(
    execution: &Execution,
    stream: Stream,
    range: std::ops::Range<u64>,
) -> io::Result<Vec<u8>> {
    let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let offset = range.start + bytes.len() as u64;
        let read = execution.output(stream).read(offset, length - bytes.len()).await?;
        if read.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&read);
    }
    Ok(bytes)
}

/// A JSON text with outputs in it, made piece by piece.
struct Pieces {
    execution: Arc<Execution>,
    parts: VecDeque<Part>,
}

enum Part {
    /// As it is.
    Json(Bytes),
    /// The inside of a string and its closing quote; behind it the exact bytes, if text is not them.
    Text { stream: Stream, offset: u64, encoder: TextEncoder, checker: Utf8Checker },
    /// The inside of a string and its closing quote.
    Base64 { stream: Stream, offset: u64, encoder: Base64Encoder },
}

impl Pieces {
    /// Of what `serialise` makes of the outcome, with the outputs that the execution has.
    fn new(
        execution: &Arc<Execution>,
        outcome: &Outcome,
        serialise: impl FnOnce(Outcome) -> Vec<u8>,
    ) -> Self {
        // Nobody can have guessed these, so that they occur once each.
        let marks = [Uuid::new_v4(), Uuid::new_v4()].map(|mark| mark.to_string());
        let [stdout, stderr] = marks.clone().map(Some);
        let json = Bytes::from(serialise(Outcome { stdout, stderr, ..outcome.clone() }));
        let mut parts = VecDeque::new();
        let mut from = 0;
        for (mark, stream) in marks.iter().zip([Stream::Stdout, Stream::Stderr]) {
            let mut windows = json.windows(mark.len());
            let at = windows.position(|window| window == mark.as_bytes()).unwrap_or(json.len());
            parts.push_back(Part::Json(json.slice(from..at)));
            parts.push_back(Part::Text {
                stream,
                offset: 0,
                encoder: TextEncoder::default(),
                checker: Utf8Checker::default(),
            });
            // And the quote.
            from = (at + mark.len() + 1).min(json.len());
        }
        parts.push_back(Part::Json(json.slice(from..)));
        Self { execution: Arc::clone(execution), parts }
    }

    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        let piece = match self.parts.front_mut()? {
            Part::Json(json) => {
                let json = mem::take(json);
                self.parts.pop_front();
                return Some(Ok(json));
            }
            part => part.next(&self.execution).await,
        };
        match piece {
            Ok((piece, End::Open)) => Some(Ok(piece)),
            Ok((piece, End::Closed)) => {
                self.parts.pop_front();
                Some(Ok(piece))
            }
            Ok((piece, End::NotText(stream))) => {
                let name = match stream {
                    Stream::Stdout => ",\"stdout_base64\":\"",
                    Stream::Stderr => ",\"stderr_base64\":\"",
                };
                let encoder = Base64Encoder::default();
                self.parts[0] = Part::Base64 { stream, offset: 0, encoder };
                self.parts.push_front(Part::Json(Bytes::from_static(name.as_bytes())));
                Some(Ok(piece))
            }
            Err(error) => {
                // What was sent is no whole answer: the connection is closed.
                self.parts.clear();
                Some(Err(error))
            }
        }
    }
}

/// What follows a piece.
enum End {
    /// More of the same.
    Open,
    Closed,
    /// The exact bytes.
    NotText(Stream),
}

impl Part {
    async fn next(&mut self, execution: &Execution) -> io::Result<(Bytes, End)> {
        let mut piece = Vec::new();
        let end = match self {
            Self::Json(_) => End::Closed,
            Self::Text { stream, offset, encoder, checker } => {
                let bytes = execution.output(*stream).read(*offset, JSON_CHUNK).await?;
                *offset += bytes.len() as u64;
                encoder.push(&bytes, &mut piece);
                checker.push(&bytes);
                if bytes.is_empty() {
                    encoder.finish(&mut piece);
                    piece.push(b'"');
                    if checker.finish() { End::Closed } else { End::NotText(*stream) }
                } else {
                    End::Open
                }
            }
            Self::Base64 { stream, offset, encoder } => {
                let bytes = execution.output(*stream).read(*offset, JSON_CHUNK).await?;
                *offset += bytes.len() as u64;
                encoder.push(&bytes, &mut piece);
                if bytes.is_empty() {
                    encoder.finish(&mut piece);
                    piece.push(b'"');
                    End::Closed
                } else {
                    End::Open
                }
            }
        };
        Ok((piece.into(), end))
    }
}
