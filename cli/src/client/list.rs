//! `cloister list`: lists jobs, the newest first.

use std::io::{BufWriter, Write, stdout};

use anyhow::Context;
use clap::{Args, builder::BoolishValueParser};
use cloister_api::{Job, Status, Timestamp};
use hyper::Method;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use uuid::Uuid;

use super::{
    api::{Api, Call},
    error::Error,
    server::Connection,
    table::Table,
    terminal::{Progress, Screen},
    text,
};

/// What a coordinator answers at once.
const PAGE: usize = 100;

/// `cloister list`
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Where stdout is not a terminal, or with --json, each job is a JSON object on a line of \
    its own, without its outputs."
)]
pub(crate) struct List {
    /// Only those that stand so
    #[arg(long, value_name = "STATUS", env = "CLOISTER_STATUS", value_parser = [
        Status::Pending.as_str(),
        Status::Running.as_str(),
        Status::Completed.as_str(),
        Status::Failed.as_str(),
        Status::Cancelled.as_str(),
    ])]
    status: Option<String>,
    /// How many at most
    #[arg(
        long,
        value_name = "N",
        env = "CLOISTER_LIMIT",
        default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    limit: u32,
    /// All of them, whatever --limit says
    #[arg(long, env = "CLOISTER_ALL", value_parser = BoolishValueParser::new())]
    all: bool,
    /// Print JSON, one job a line
    #[arg(long, env = "CLOISTER_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// A page of jobs, as they are to be shown.
#[derive(Deserialize)]
struct Page<T> {
    jobs: Vec<T>,
    #[serde(default)]
    unreadable: Vec<Uuid>,
    next: Option<String>,
}

impl List {
    pub(super) async fn run(&self) -> anyhow::Result<u8> {
        let api = Api::new(&self.connection)?;
        let mut out = BufWriter::new(stdout().lock());
        let more = match Screen::of_stdout() {
            Some(screen) if !self.json => {
                let mut table = Table::new(screen);
                self.each_page(&api, |jobs: &[Job]| {
                    out.write_all(table.rows(jobs, Timestamp::now()).as_bytes())?;
                    out.flush()
                })
                .await?
            }
            screen => {
                // Not as jobs of this version: a newer coordinator's fields are passed on too.
                self.each_page(&api, |jobs: &[Value]| {
                    for job in jobs {
                        let json = job.to_string();
                        let json = if screen.is_some() { text::json(&json) } else { json };
                        writeln!(out, "{json}")?;
                    }
                    out.flush()
                })
                .await?
            }
        };
        if more && Progress::new().is_seen() {
            eprintln!("there are more jobs: --limit N or --all shows them");
        }
        Ok(0)
    }

    /// Shows page after page, each as it comes, and tells whether there would be more.
    async fn each_page<T: DeserializeOwned>(
        &self,
        api: &Api,
        mut show: impl FnMut(&[T]) -> std::io::Result<()>,
    ) -> anyhow::Result<bool> {
        let mut left =
            if self.all { usize::MAX } else { usize::try_from(self.limit).unwrap_or(usize::MAX) };
        let mut next: Option<String> = None;
        loop {
            let path = self.path(left.min(PAGE), next.as_deref());
            let page: Page<T> = api.call(&Call::new(Method::GET, path)).await?;
            for job in &page.unreadable {
                eprintln!(
                    "cloister: the coordinator's store cannot read job {job}; it is left out"
                );
            }
            let shown = &page.jobs[..page.jobs.len().min(left)];
            show(shown).context("stdout cannot be written")?;
            left -= shown.len();
            let more = page.next.is_some() || shown.len() < page.jobs.len();
            if page.next.is_none() || left == 0 {
                return Ok(more);
            }
            if page.next == next {
                let server = api.server().clone();
                return Err(Error::GoesInCircles { server }.into());
            }
            next = page.next;
        }
    }

    fn path(&self, limit: usize, next: Option<&str>) -> String {
        let status = self.status.as_deref().map(|status| format!("&status={status}"));
        let next = next.map(|token| format!("&next={}", percent_encoded(token)));
        format!("/jobs?limit={limit}{}{}", status.unwrap_or_default(), next.unwrap_or_default())
    }
}

/// A token is opaque: whatever is in it, it stays one value of the query (RFC 3986, 2.3).
fn percent_encoded(token: &str) -> String {
    let encoded = token.bytes().map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    });
    encoded.collect()
}
