//! Which faults are made when, decided by the seed.

use std::time::Duration;

use clap::ValueEnum;

use super::{rng::Rng, world::Store};

/// What can be done to the services and to what is between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// A coordinator gets SIGKILL
    KillCoordinator,
    /// A runner gets SIGKILL
    KillRunner,
    /// A runner's launcher gets SIGKILL
    KillLauncher,
    /// PostgreSQL and all its processes get SIGKILL
    KillPostgres,
    /// A coordinator is stopped and continued
    StopCoordinator,
    /// A runner is stopped and continued, with its launcher or without
    StopRunner,
    /// PostgreSQL is stopped and continued
    StopPostgres,
    /// A coordinator and a runner hear nothing of each other, or only one of the other
    CutRunner,
    /// The same of a coordinator and PostgreSQL
    CutPostgres,
    /// One machine hears of no other, or is heard by none
    CutNode,
    /// All that goes from and to one machine takes longer
    Delay,
    /// The store's disk is full
    DiskFull,
    /// The store's disk becomes read-only after an error
    DiskReadOnly,
    /// The store's disk hangs
    DiskHangs,
    /// A coordinator is asked to end, and started again
    TermCoordinator,
    /// A runner is asked to end, and started again
    TermRunner,
    /// PostgreSQL is asked to end, and started again
    TermPostgres,
}

impl Kind {
    /// Those that a run on this store can have.
    pub(super) fn all(store: Store) -> Vec<Self> {
        let possible = |kind: &Self| match kind {
            Self::KillPostgres | Self::StopPostgres | Self::CutPostgres | Self::TermPostgres => {
                store == Store::Postgres
            }
            _ => true,
        };
        Self::value_variants().iter().copied().filter(possible).collect()
    }

    /// The word for it, as on the command line.
    pub(super) fn name(self) -> String {
        let value = self.to_possible_value().expect("no kind is hidden");
        value.get_name().to_owned()
    }
}

/// In which directions a link is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    There,
    Back,
    Both,
}

/// A fault that is to be made. Each kind uses what it needs of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    /// Not earlier than this after the start.
    pub(super) at: Duration,
    pub(super) kind: Kind,
    /// Which of those that it could hit; the remainder by their number counts.
    pub(super) target: usize,
    /// Which at the other end of a link.
    pub(super) other: usize,
    /// How long it lasts.
    pub(super) hold: Duration,
    /// How long until what was killed is started again.
    pub(super) pause: Duration,
    pub(super) direction: Direction,
    /// How long packets take.
    pub(super) delay: Duration,
    /// Of two ways to do it.
    pub(super) other_way: bool,
}

/// So many faults of each kind, about so long after each other, each lasting so long at most.
pub(super) fn plan(
    seed: u64,
    kinds: &[Kind],
    each: usize,
    pace: Duration,
    longest: Duration,
) -> Vec<Planned> {
    let mut rng = Rng::new(seed, "faults");
    let mut order: Vec<Kind> = kinds.iter().flat_map(|kind| vec![*kind; each]).collect();
    rng.shuffle(&mut order);
    let longest = u64::try_from(longest.as_millis()).expect("a fault lasts for seconds");
    let pace_ms = u64::try_from(pace.as_millis()).expect("so does a pace");
    let mut at = pace / 2;
    order
        .into_iter()
        .map(|kind| {
            let begins = at;
            at += rng.millis(pace_ms / 2, pace_ms * 3 / 2);
            Planned {
                at: begins,
                kind,
                target: rng.below(1000),
                other: rng.below(1000),
                hold: rng.millis(longest.min(500), longest),
                pause: rng.millis(0, longest.min(3000)),
                direction: [Direction::There, Direction::Back, Direction::Both][rng.below(3)],
                delay: rng.millis(50, 500),
                other_way: rng.percent(50),
            }
        })
        .collect()
}
