//! A job as an answer, also where its attempts printed much: then the answer is made while it is read, a
//! row of output at a time. A slow reader takes no more memory than a fast one.

use std::{collections::VecDeque, io, mem, sync::Arc};

use axum::{
    Json,
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use cloister_api::{Base64Encoder, Job, OutputBytes, TextEncoder, Utf8Checker};
use futures_util::stream;
use http::{HeaderValue, header::CONTENT_TYPE};
use uuid::Uuid;

use crate::{
    engine::Engine,
    store::{
        Stream,
        output::{ROW, was_kept},
    },
};

/// How much is encoded at once, in bytes. As text each may take six.
const SLICE: usize = 8 << 10;

/// The job, with all that its attempts printed.
pub(super) fn answer(engine: &Arc<Engine>, job: Job) -> Response {
    let id = job.job_id;
    match parts(job) {
        Parts::Whole(job) => Json(job).into_response(),
        Parts::Apart(parts) => {
            let reader = Reader { engine: Arc::clone(engine), job: id, parts, stage: Stage::Next };
            let pieces = stream::unfold(reader, |mut reader| async move {
                Some((reader.next().await.transpose()?, reader))
            });
            let kind = HeaderValue::from_static("application/json");
            ([(CONTENT_TYPE, kind)], Body::from_stream(pieces)).into_response()
        }
    }
}

/// A part of the answer.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// As it is.
    Json(Bytes),
    /// What stands in quotes between two such parts: all of a stream.
    Output { attempt: u32, stream: Stream, bytes: u64 },
}

enum Parts {
    Whole(Box<Job>),
    Apart(VecDeque<Part>),
}

/// Cuts a job's JSON where its outputs belong. Each place is marked with a random UUID, which no client can
/// have guessed.
fn parts(mut job: Job) -> Parts {
    let mut gaps = Vec::new();
    let mut mark = |attempt, stream: Stream, bytes: OutputBytes, truncated| {
        if !was_kept(stream.of(bytes), truncated) {
            return None;
        }
        let mark = Uuid::new_v4().to_string();
        gaps.push((mark.clone(), Part::Output { attempt, stream, bytes: stream.of(bytes) }));
        Some(mark)
    };
    for past in &mut job.attempts {
        let (attempt, outcome) = (past.attempt, &mut past.outcome);
        if let Some(bytes) = outcome.output_bytes.take() {
            outcome.stdout = mark(attempt, Stream::Stdout, bytes, outcome.stdout_truncated);
            outcome.stderr = mark(attempt, Stream::Stderr, bytes, outcome.stderr_truncated);
        }
    }
    if let Some(bytes) = job.output_bytes.take() {
        job.stdout = mark(job.attempt, Stream::Stdout, bytes, job.stdout_truncated);
        job.stderr = mark(job.attempt, Stream::Stderr, bytes, job.stderr_truncated);
    }
    if gaps.is_empty() {
        return Parts::Whole(Box::new(job));
    }
    // Strings and numbers always serialise.
    let json = serde_json::to_string(&job).unwrap_or_default();
    let mut found: Vec<_> = gaps
        .into_iter()
        .filter_map(|(mark, part)| Some((json.find(&mark)?, mark.len(), part)))
        .collect();
    found.sort_unstable_by_key(|(at, ..)| *at);
    let json = Bytes::from(json);
    let mut parts = VecDeque::new();
    let mut from = 0;
    for (at, length, part) in found {
        parts.push_back(Part::Json(json.slice(from..at)));
        parts.push_back(part);
        from = at + length;
    }
    parts.push_back(Part::Json(json.slice(from..)));
    Parts::Apart(parts)
}

/// Makes the answer, piece by piece.
struct Reader {
    engine: Arc<Engine>,
    job: Uuid,
    parts: VecDeque<Part>,
    stage: Stage,
}

/// What comes next.
enum Stage {
    /// The next part.
    Next,
    Output(Output),
}

/// A stream that is being read.
struct Output {
    attempt: u32,
    stream: Stream,
    bytes: u64,
    /// How many of them were read.
    read: u64,
    /// What was read and is yet to be encoded.
    rest: Bytes,
    form: Form,
}

/// How a stream is encoded: as text, and then, if it is not UTF-8, also as base64.
enum Form {
    Text(TextEncoder, Utf8Checker),
    Base64(Base64Encoder),
}

impl Reader {
    /// The next piece; none at the end. After an error the server closes the connection before the body is
    /// complete, so that the client sees that a part is missing.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let mut out = Vec::new();
            match mem::replace(&mut self.stage, Stage::Next) {
                Stage::Next => match self.parts.pop_front() {
                    None => return Ok(None),
                    Some(Part::Json(json)) => return Ok(Some(json)),
                    Some(Part::Output { attempt, stream, bytes }) => {
                        let form = Form::Text(TextEncoder::default(), Utf8Checker::default());
                        let rest = Bytes::new();
                        let output = Output { attempt, stream, bytes, read: 0, rest, form };
                        self.stage = Stage::Output(output);
                    }
                },
                Stage::Output(mut output) => {
                    if output.rest.is_empty() && output.read < output.bytes {
                        output.fill(&self.engine, self.job).await?;
                    }
                    if output.encode(&mut out) {
                        self.stage = Stage::Output(output);
                    }
                    if !out.is_empty() {
                        return Ok(Some(out.into()));
                    }
                }
            }
        }
    }
}

impl Output {
    /// Reads the next row.
    async fn fill(&mut self, engine: &Engine, job: Uuid) -> io::Result<()> {
        let row = u32::try_from(self.read / ROW as u64).unwrap_or(u32::MAX);
        let found = engine.store.output(job, self.attempt, self.stream, row).await;
        match found.map_err(io::Error::other)? {
            Some(bytes) if !bytes.is_empty() => {
                self.read += bytes.len() as u64;
                self.rest = bytes.into();
                Ok(())
            }
            _ => Err(io::Error::other("the job was removed while its output was read")),
        }
    }

    /// Encodes some of what was read; answers whether more is to come.
    fn encode(&mut self, out: &mut Vec<u8>) -> bool {
        let slice = self.rest.split_to(self.rest.len().min(SLICE));
        match &mut self.form {
            Form::Text(text, utf8) => {
                utf8.push(&slice);
                text.push(&slice, out);
            }
            Form::Base64(base64) => base64.push(&slice, out),
        }
        if !self.rest.is_empty() || self.read < self.bytes {
            return true;
        }
        match &mut self.form {
            Form::Text(text, utf8) => {
                text.finish(out);
                if utf8.finish() {
                    return false;
                }
                // The closing quote is the beginning of the part that follows.
                out.extend_from_slice(
                    format!("\",\"{}_base64\":\"", self.stream.as_str()).as_bytes(),
                );
                (self.form, self.read) = (Form::Base64(Base64Encoder::default()), 0);
                true
            }
            Form::Base64(base64) => {
                base64.finish(out);
                false
            }
        }
    }
}
