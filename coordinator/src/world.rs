//! What a coordinator takes from the world around it, beside its store and its runners: the time of
//! day, and chance. A simulation puts its own in place of both, so that the same seed does the same.
//!
//! Time that passes comes from tokio's clock, which a simulation controls as it is.

use std::time::Duration;

use cloister_api::Timestamp;
use nix::time::{ClockId, clock_gettime};
use uuid::{Builder, Uuid};

/// See the module.
pub(crate) trait World: Send + Sync {
    /// The time of day, as this machine tells it. It may jump.
    fn now(&self) -> Timestamp;

    /// How long this machine has run, by a clock that nobody can set and that goes on while it sleeps.
    fn uptime(&self) -> Duration;

    /// Bytes that nobody can foresee.
    fn random(&self) -> [u8; 16];

    /// The id of a new job: UUID version 7, each of one process later than the one before.
    fn job_id(&self) -> Uuid;
}

impl dyn World {
    /// A number from 0 to 1.
    pub(crate) fn fraction(&self) -> f64 {
        let [a, b, c, d, ..] = self.random();
        f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX)
    }

    /// An id that says nothing.
    pub(crate) fn id(&self) -> Uuid {
        Builder::from_random_bytes(self.random()).into_uuid()
    }
}

/// The one that there is.
pub(crate) struct Real;

impl World for Real {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn uptime(&self) -> Duration {
        clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has this clock").into()
    }

    fn random(&self) -> [u8; 16] {
        rand::random()
    }

    fn job_id(&self) -> Uuid {
        Uuid::now_v7()
    }
}
