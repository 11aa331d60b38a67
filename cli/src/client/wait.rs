//! `cloister wait`: waits until jobs have ended.

use clap::Args;
use cloister_api::Status;
use uuid::Uuid;

use super::{
    FAILED, api::Api, error::Error, output, retry::Patience, server::Connection,
    terminal::Progress, until,
};
use crate::exit;

/// `cloister wait`
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Nothing is written to stdout. The exit code of a wait for one job is that job's, as \
    with `submit --wait`; of a wait for several it is 0 when all completed and 1 otherwise, and stderr says \
    which did not."
)]
pub(crate) struct Wait {
    /// The jobs
    #[arg(required = true, value_name = "ID")]
    ids: Vec<Uuid>,
    #[command(flatten)]
    connection: Connection,
}

impl Wait {
    /// Whether the exit code is to be the job's.
    pub(super) fn is_for_one(&self) -> bool {
        self.ids.len() == 1
    }

    pub(super) async fn run(&self) -> anyhow::Result<u8> {
        let api = Api::new(&self.connection)?;
        let progress = Progress::new();
        let mut patience = Patience::BRIEF;
        let mut code = 0;
        // One after the other is as fast as all at once: all have to end.
        for id in &self.ids {
            match until::ended(&api, *id, patience, &progress).await {
                Ok(job) if job.status == Status::Completed => {}
                Ok(job) => {
                    eprintln!("cloister: {}", output::ending(&job));
                    code = if self.is_for_one() {
                        exit::code(job.reason, job.exit_code)
                    } else {
                        FAILED
                    };
                }
                // What is wrong with one job does not keep the others from being waited for.
                Err(error @ Error::Refused { .. }) if !self.is_for_one() => {
                    progress.clear();
                    eprintln!("cloister: {error}");
                    code = FAILED;
                }
                Err(error) => return Err(error.into()),
            }
            patience = Patience::RESTART;
        }
        Ok(code)
    }
}
