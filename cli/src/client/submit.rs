//! `cloister submit`: hands in a job.

use std::{
    collections::BTreeMap,
    io::{Read, Write, stdin, stdout},
};

use anyhow::{Context, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use clap::{Args, builder::BoolishValueParser};
use cloister_api::{ByteSize, Job, Program, Reason, Stdin};
use hyper::header::HeaderValue;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    INTERRUPTED,
    api::{Api, Call},
    output,
    retry::Patience,
    server::Connection,
    terminal::Progress,
    until,
};
use crate::{
    exit,
    limits::{LimitArgs, put},
};

/// More than any coordinator should take; it keeps a pipe without an end from filling our memory.
const MAX_STDIN: ByteSize = ByteSize::mib(256);

/// `cloister submit`
#[derive(Args, Clone, Debug)]
#[command(
    override_usage = "cloister submit [OPTIONS] (--command <LINE> | -- <COMMAND> [ARG]...)",
    after_help = "Without --wait the job's id is written to stdout, alone. With it the job's output \
    is: byte for byte to a file or a pipe; on a terminal line breaks and colours work and other control \
    characters are made visible. The exit code is then the job's (128+N when signal N ended it, 124 on \
    timeout, 125 when it never ran or the coordinator cannot be reached); Ctrl-C stops the waiting, not \
    the job."
)]
pub(crate) struct Submit {
    /// -100 to 100, higher first
    #[arg(
        long,
        value_name = "N",
        env = "CLOISTER_PRIORITY",
        default_value_t = 0,
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(i32).range(-100..=100)
    )]
    priority: i32,
    /// Further attempts, up to 10, for the reasons in --retry-on
    #[arg(
        long,
        value_name = "N",
        env = "CLOISTER_RETRIES",
        default_value_t = 0,
        value_parser = clap::value_parser!(u32).range(0..=10)
    )]
    retries: u32,
    /// What makes another attempt worth it
    #[arg(
        long,
        value_name = "REASON",
        env = "CLOISTER_RETRY_ON",
        value_delimiter = ',',
        default_value = Reason::RunnerLost.as_str(),
        value_parser = reason
    )]
    retry_on: Vec<Reason>,
    /// A label of your own; may be given again
    #[arg(long = "label", value_name = "NAME=VALUE", env = "CLOISTER_LABEL", value_parser = label)]
    labels: Vec<(String, String)>,
    /// How much is kept of each of its streams [default: 1MiB]
    #[arg(long, value_name = "SIZE", env = "CLOISTER_OUTPUT")]
    output: Option<ByteSize>,
    /// Read standard input to its end and give it to the job
    #[arg(long, env = "CLOISTER_STDIN", value_parser = BoolishValueParser::new())]
    stdin: bool,
    /// The same key and job handed in again are the same job [default: a random one]
    #[arg(long, value_name = "KEY", env = "CLOISTER_IDEMPOTENCY_KEY", value_parser = key)]
    idempotency_key: Option<HeaderValue>,
    /// Wait until the job has ended; pass on its output and exit code
    #[arg(long, env = "CLOISTER_WAIT", value_parser = BoolishValueParser::new())]
    wait: bool,
    #[command(flatten)]
    program: Line,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    connection: Connection,
}

/// One of the two.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
struct Line {
    /// A line for the shell of the cell, instead of COMMAND
    #[arg(long, value_name = "LINE", env = "CLOISTER_COMMAND")]
    command: Option<String>,
    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    argv: Vec<String>,
}

impl Submit {
    /// Whether the exit code is to be the job's.
    pub(super) fn waits(&self) -> bool {
        self.wait
    }

    pub(super) async fn run(&self) -> anyhow::Result<u8> {
        let api = Api::new(&self.connection)?;
        let progress = Progress::new();
        let body = serde_json::to_vec(&self.request()?)?;
        // With a key, an attempt whose answer was lost can be made again without running twice.
        let key = self.idempotency_key.clone().map_or_else(random_key, Ok)?;
        let call = Call::submission(body, key);
        let job: Job = Patience::BRIEF.persist(&progress, async || api.call(&call).await).await?;
        // What was handed in, and with it its standard input, need not be kept while waiting.
        drop(call);
        progress.clear();
        let id = job.job_id;
        if !self.wait {
            // Even to a reader that is gone this is worth a word: the job will run.
            if let Err(error) = writeln!(stdout(), "{id}") {
                bail!("job {id} was handed in, but its id cannot be written to stdout: {error}");
            }
            return Ok(0);
        }
        tokio::select! {
            job = until::ended(&api, id, Patience::RESTART, &progress) => {
                let job = job.with_context(|| format!("job {id} was handed in and may still run"))?;
                output::pass_on(&job)?;
                for remark in output::remarks(&job) {
                    eprintln!("cloister: {remark}");
                }
                Ok(exit::code(job.reason, job.exit_code))
            }
            pressed = tokio::signal::ctrl_c() => {
                pressed.context("Ctrl-C cannot be waited for")?;
                progress.clear();
                eprintln!("cloister: job {id} goes on; `cloister wait {id}` waits again, `cloister cancel {id}` ends it");
                Ok(INTERRUPTED)
            }
        }
    }

    fn request(&self) -> anyhow::Result<Map<String, Value>> {
        let program = match &self.program.command {
            Some(line) => Program::Command(line.clone()),
            None => Program::Argv(self.program.argv.clone()),
        };
        let mut labels = BTreeMap::new();
        for (name, value) in &self.labels {
            if labels.insert(name.clone(), value.clone()).is_some() {
                bail!("the label {name:?} is given more than once");
            }
        }
        let mut request = self.limits.request(&program)?;
        if let Some(Value::Object(limits)) = request.get_mut("limits") {
            put(limits, "output", self.output.as_ref())?;
        }
        if self.stdin {
            let Stdin { stdin, stdin_base64 } = read(stdin().lock())?;
            put(&mut request, "stdin", stdin.as_ref())?;
            put(&mut request, "stdin_base64", stdin_base64.as_ref())?;
        }
        put(&mut request, "priority", Some(&self.priority))?;
        put(&mut request, "retries", Some(&self.retries))?;
        put(&mut request, "retry_on", Some(&self.retry_on))?;
        put(&mut request, "labels", (!labels.is_empty()).then_some(&labels))?;
        Ok(request)
    }
}

/// Standard input as a request carries it: text where it is that, so that people can read it.
fn read(from: impl Read) -> anyhow::Result<Stdin> {
    let mut bytes = Vec::new();
    from.take(MAX_STDIN.0 + 1).read_to_end(&mut bytes).context("standard input cannot be read")?;
    if bytes.len() as u64 > MAX_STDIN.0 {
        bail!("standard input is longer than {MAX_STDIN}; give the job a way to fetch it instead");
    }
    Ok(match String::from_utf8(bytes) {
        Ok(text) => Stdin { stdin: Some(text), stdin_base64: None },
        Err(error) => {
            Stdin { stdin: None, stdin_base64: Some(BASE64_STANDARD.encode(error.as_bytes())) }
        }
    })
}

fn random_key() -> anyhow::Result<HeaderValue> {
    Ok(HeaderValue::try_from(Uuid::new_v4().to_string())?)
}

fn key(text: &str) -> Result<HeaderValue, String> {
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    match HeaderValue::from_str(text) {
        Ok(value) if visible && (1..=255).contains(&text.len()) => Ok(value),
        _ => Err("must be 1 to 255 characters of visible ASCII".into()),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.into(), value.into()))
}

fn reason(text: &str) -> Result<Reason, String> {
    let found = Reason::ALL.into_iter().find(|reason| reason.as_str() == text);
    found.ok_or_else(|| format!("must be one of {}", Reason::ALL.map(Reason::as_str).join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_input_travels_as_text_or_base64() {
        let text = read("grüße\n".as_bytes()).unwrap();
        assert_eq!((text.stdin.as_deref(), &text.stdin_base64), (Some("grüße\n"), &None));
        let binary = read(&[0_u8, 0xff, 1][..]).unwrap();
        assert_eq!(binary.stdin, None);
        assert_eq!(binary.bytes(), [0, 0xff, 1]);
    }

    #[test]
    fn standard_input_without_an_end_is_refused() {
        let error = read(std::io::repeat(b'a')).unwrap_err().to_string();
        assert!(error.contains("256MiB"), "{error}");
    }

    #[test]
    fn keys_that_no_header_carries_are_refused() {
        assert!(key("order-17 of today").is_ok());
        for bad in ["", "a\nb", "schlüssel", &"a".repeat(256)] {
            assert!(key(bad).is_err(), "{bad}");
        }
    }
}
