//! `cloister pause` and `cloister resume`: nothing is given to any runner, and then again.

use clap::Args;
use cloister_api::{PauseOrder, PauseState};

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
        send(&self.connection, &Call::order("/resume", &PauseOrder::default())?).await
    }
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
