//! `cloister cancel`: cancels jobs.

use clap::Args;
use cloister_api::{Job, Status};
use hyper::Method;
use uuid::Uuid;

use super::{
    FAILED,
    api::{Api, Call},
    error::Error,
    output,
    server::Connection,
    terminal::Progress,
};

/// `cloister cancel`
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "A job that runs is being ended when this returns; `wait` tells when it has. To cancel \
    what has already ended changes nothing and is no error."
)]
pub(crate) struct Cancel {
    /// The jobs
    #[arg(required = true, value_name = "ID")]
    ids: Vec<Uuid>,
    #[command(flatten)]
    connection: Connection,
}

impl Cancel {
    pub(super) async fn run(&self) -> anyhow::Result<u8> {
        let api = Api::new(&self.connection)?;
        let seen = Progress::new().is_seen();
        let mut code = 0;
        for id in &self.ids {
            let call = Call::new(Method::DELETE, format!("/jobs/{id}"));
            match api.call::<Job>(&call).await {
                Ok(job) => match job.status {
                    Status::Completed | Status::Failed => {
                        eprintln!("cloister: nothing to cancel: {}", output::ending(&job));
                    }
                    Status::Cancelled if seen => eprintln!("job {id} is cancelled"),
                    Status::Running | Status::Pending if seen => {
                        eprintln!("job {id} is being cancelled");
                    }
                    _ => {}
                },
                // What is wrong with one job does not keep the others from being cancelled.
                Err(error @ Error::Refused { .. }) => {
                    eprintln!("cloister: {error}");
                    code = FAILED;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(code)
    }
}
