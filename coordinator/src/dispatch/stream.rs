//! Reads the lines of an execution as they come, each bounded.

use bytes::{Bytes, BytesMut};
use cloister_api::{ExecuteRequest, Limits, Outcome, Timestamp};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use uuid::Uuid;

use super::link::{CallError, Chunks, Line, Lines, Reply};

/// The most that one line can be for a job with these limits: each stream as text, where a control
/// character takes six bytes, and as base64 beside it where it is not UTF-8; and room for the rest.
pub(crate) fn max_line(limits: &Limits) -> usize {
    let output = usize::try_from(limits.output.0).unwrap_or(usize::MAX);
    output.saturating_mul(2 * 8).saturating_add(1 << 20)
}

/// The lines of a body.
pub(crate) struct BodyLines {
    body: Incoming,
    /// What is followed.
    execution: Option<Uuid>,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no newline.
    searched: usize,
    max: usize,
}

impl BodyLines {
    pub(crate) fn new(body: Incoming, request: &ExecuteRequest, max: usize) -> Self {
        let execution = request.execution_id;
        Self { body, execution, buffer: BytesMut::new(), searched: 0, max }
    }

    async fn line(&mut self) -> Result<Option<Line>, CallError> {
        loop {
            if let Some(end) = self.buffer[self.searched..].iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(self.searched + end + 1);
                self.searched = 0;
                if let Some(execution) = self.execution {
                    is_of(&line, execution)?;
                }
                return read(&line).map(Some);
            }
            self.searched = self.buffer.len();
            if self.searched > self.max {
                let detail = format!("a line of more than {} bytes", self.max);
                return Err(CallError::Nonsense(detail));
            }
            match self.body.frame().await {
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(CallError::Broken("it ended within a line".into())),
                Some(Err(error)) => return Err(CallError::Broken(error.to_string())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

impl Lines for BodyLines {
    fn next(&mut self) -> Reply<'_, Option<Line>> {
        Box::pin(self.line())
    }
}

/// The pieces of a body.
pub(crate) struct BodyChunks(pub(crate) Incoming);

impl Chunks for BodyChunks {
    fn next(&mut self) -> Reply<'_, Option<Bytes>> {
        Box::pin(async {
            loop {
                match self.0.frame().await {
                    None => return Ok(None),
                    Some(Err(error)) => return Err(CallError::Broken(error.to_string())),
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            return Ok(Some(data));
                        }
                    }
                }
            }
        })
    }
}

/// Whether an answer is about this execution. One that names no execution is taken to be.
pub(super) fn is_of(said: &[u8], execution: Uuid) -> Result<(), CallError> {
    #[derive(Default, Deserialize)]
    struct Of {
        execution_id: Option<Uuid>,
    }
    let of: Of = serde_json::from_slice(said).unwrap_or_default();
    match of.execution_id {
        Some(other) if other != execution => {
            Err(CallError::Nonsense(format!("it is of execution {other}, not of {execution}")))
        }
        _ => Ok(()),
    }
}

/// What a line says of an execution.
pub(crate) fn read(line: &[u8]) -> Result<Line, CallError> {
    #[derive(Deserialize)]
    struct Tag {
        event: String,
        started_at: Option<Timestamp>,
    }
    let nonsense = |error: serde_json::Error| CallError::Nonsense(error.to_string());
    let tag: Tag = serde_json::from_slice(line).map_err(nonsense)?;
    match (tag.event.as_str(), tag.started_at) {
        ("result", _) => {
            let outcome: Box<Outcome> = serde_json::from_slice(line).map_err(nonsense)?;
            if outcome.status.ended() {
                Ok(Line::Result(outcome))
            } else {
                let status = outcome.status.as_str();
                Err(CallError::Nonsense(format!("a result that is {status}")))
            }
        }
        ("started", Some(at)) => Ok(Line::Started(at)),
        _ => Ok(Line::Other),
    }
}
