//! Chance and the time of day, both of a seed.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use cloister_api::Timestamp;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::time::Instant;
use uuid::{Builder, Uuid};

use crate::world::World;

/// When simulations begin: 2026-01-01.
pub(super) const EPOCH: i64 = 1_767_225_600_000;

/// Where all chance comes from.
#[derive(Clone)]
pub(super) struct Chance(Arc<Mutex<SmallRng>>);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(SmallRng::seed_from_u64(seed))))
    }

    /// A number below `end`.
    pub(super) fn below(&self, end: u64) -> u64 {
        self.with(|rng| rng.random_range(0..end.max(1)))
    }

    /// True so often of a hundred times.
    pub(super) fn percent(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn bytes(&self) -> [u8; 16] {
        self.with(RngExt::random)
    }

    pub(super) fn id(&self) -> Uuid {
        Builder::from_random_bytes(self.bytes()).into_uuid()
    }

    fn with<T>(&self, draw: impl FnOnce(&mut SmallRng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A machine's surroundings: its clock goes wrong by itself.
pub(super) struct Nature {
    chance: Chance,
    began: Instant,
    /// How wrong its clock is, in milliseconds.
    pub(super) skew: Arc<AtomicI64>,
    jobs: AtomicU64,
}

impl Nature {
    pub(super) fn new(chance: Chance, began: Instant, skew: Arc<AtomicI64>) -> Self {
        Self { chance, began, skew, jobs: AtomicU64::new(0) }
    }
}

impl World for Nature {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        Timestamp(EPOCH + passed + self.skew.load(Relaxed))
    }

    fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    fn random(&self) -> [u8; 16] {
        self.chance.bytes()
    }

    fn job_id(&self) -> Uuid {
        let mut tail = [0; 10];
        tail.copy_from_slice(&self.chance.bytes()[..10]);
        let count = u16::try_from(self.jobs.fetch_add(1, Relaxed) % 4096).unwrap_or(0);
        tail[..2].copy_from_slice(&count.to_be_bytes());
        Builder::from_unix_timestamp_millis(self.now().0.unsigned_abs(), &tail).into_uuid()
    }
}
