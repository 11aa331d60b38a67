//! `cloister pause` and `cloister resume`: nothing is given to any runner, and then again.

use clap::Args;
use cloister_api::{PauseOrder, PauseState, RetentionState};
use hyper::Method;

use super::{
    api::{Api, Call},
    server::Connection,
    terminal::Progress,
    text,
};

/// `cloister pause`
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "What runs goes on, and jobs are taken in. It holds until `cloister resume`, also when \
    the coordinator is started anew."
)]
pub(crate) struct Pause {
    /// Why; those whose jobs wait are told
    #[arg(value_name = "REASON")]
    reason: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

/// `cloister resume`
#[derive(Args, Clone, Debug)]
pub(crate) struct Resume {
    /// Remove ended jobs by the clock again, after it went forward; what is paused stays so
    #[arg(long)]
    retention: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Pause {
    pub(super) async fn run(&self) -> anyhow::Result<u8> {
        let order = PauseOrder { reason: self.reason.clone() };
        send(&self.connection, &Call::order("/pause", &order)?).await
    }
}

impl Resume {
    pub(super) async fn run(&self) -> anyhow::Result<u8> {
        if self.retention {
            return resume_retention(&self.connection).await;
        }
        send(&self.connection, &Call::order("/resume", &PauseOrder::default())?).await
    }
}

async fn resume_retention(connection: &Connection) -> anyhow::Result<u8> {
    let api = Api::new(connection)?;
    let _: RetentionState = api.call(&Call::new(Method::POST, "/retention/resume")).await?;
    if Progress::new().is_seen() {
        eprintln!("ended jobs are removed by the coordinator's clock");
    }
    Ok(0)
}

async fn send(connection: &Connection, call: &Call) -> anyhow::Result<u8> {
    let api = Api::new(connection)?;
    let now: PauseState = api.call(call).await?;
    if Progress::new().is_seen() {
        match now.reason {
            Some(why) => eprintln!("nothing is dispatched: {}", text::plain(&why)),
            None => eprintln!("jobs are dispatched"),
        }
    }
    Ok(0)
}
