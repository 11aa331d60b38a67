//! Everything between the coordinator and its runners: who they are (`discovery`), how they are
//! (`health`), and the life of an attempt at one of them (`attempt`).

pub(crate) mod attempt;
mod client;
mod discovery;
mod health;
pub(crate) mod link;
mod outcome;
mod release;
mod reminder;
mod stream;
mod sweep;

pub(crate) use self::{
    client::RunnerClient,
    discovery::{Source, discover, warn_of_clear_tokens},
    health::{Fleet, watch},
    link::RunnerLink,
};
#[cfg(fuzzing)]
pub(crate) use self::{link::Line, stream::read as read_line};
