//! `cloister ready`: whether a service takes work, as an exit code. For the health checks of containers
//! and service managers, in images that have no other client.

use clap::Args;
use hyper::Method;
use serde_json::Value;

use super::{
    api::{Api, Call},
    server::Connection,
};

/// `cloister ready`
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Asks GET /ready, of a coordinator or, with --server http://127.0.0.1:8080, of a runner. \
    Exits with 0 if it takes work, and with 1 and the reason on stderr if not."
)]
pub(crate) struct Ready {
    #[command(flatten)]
    connection: Connection,
}

impl Ready {
    pub(super) async fn run(&self) -> anyhow::Result<u8> {
        let _: Value = Api::new(&self.connection)?.call(&Call::new(Method::GET, "/ready")).await?;
        Ok(0)
    }
}
