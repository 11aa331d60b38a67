//! `cloister get`: shows one job.

use std::io::{Write, stdout};

use anyhow::Context;
use clap::{Args, builder::BoolishValueParser};
use cloister_api::Job;
use serde_json::Value;
use uuid::Uuid;

use super::{
    api::{Api, Call},
    server::Connection,
    summary,
    terminal::Screen,
    text,
};

/// `cloister get`
#[derive(Args, Clone, Debug)]
pub(crate) struct Get {
    /// The job
    #[arg(value_name = "ID")]
    id: Uuid,
    /// Print it as JSON, as is done anyway where stdout is not a terminal
    #[arg(long, env = "CLOISTER_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Get {
    pub(super) async fn run(&self) -> anyhow::Result<u8> {
        let api = Api::new(&self.connection)?;
        let call = Call::job(self.id, std::time::Duration::ZERO);
        let shown = match Screen::of_stdout() {
            Some(screen) if !self.json => summary::of(&api.call::<Job>(&call).await?, screen)?,
            screen => {
                // Not as a job of this version: a newer coordinator's fields are passed on too.
                let json = serde_json::to_string_pretty(&api.call::<Value>(&call).await?)? + "\n";
                if screen.is_some() { text::json(&json) } else { json }
            }
        };
        let mut stdout = stdout().lock();
        stdout
            .write_all(shown.as_bytes())
            .and_then(|()| stdout.flush())
            .context("stdout cannot be written")?;
        Ok(0)
    }
}
