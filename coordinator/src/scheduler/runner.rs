//! A runner as the scheduler sees it.

use cloister_api::{ByteSize, FieldProblem, Network, RunnerHealth, RunnerState, Timestamp};
use uuid::Uuid;

use super::{breaker::Breaker, job::Needs, skew::Skew};

/// What one job on a runner can have at most. Runners of the same capacity are interchangeable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Capacity {
    pub(crate) cpus: f64,
    pub(crate) memory: ByteSize,
    pub(crate) pids: u64,
    pub(crate) open_files: u64,
    pub(crate) network_host: bool,
}

impl Capacity {
    fn of(health: &RunnerHealth) -> Self {
        Self {
            cpus: health.cpus,
            memory: health.memory,
            pids: health.pids,
            open_files: health.open_files,
            network_host: health.network_host,
        }
    }

    /// Whether a job could run there, were it idle.
    pub(super) fn holds(&self, needs: &Needs) -> bool {
        self.lacks(needs).is_empty()
    }

    /// What a job needs and a runner of this capacity has not.
    pub(super) fn lacks(&self, needs: &Needs) -> Vec<Lack> {
        let host = needs.network == Network::Host;
        [
            (needs.cpus > self.cpus).then_some(Lack::Cpus(self.cpus)),
            (needs.memory > self.memory).then_some(Lack::Memory(self.memory)),
            (needs.pids > self.pids).then_some(Lack::Pids(self.pids)),
            (needs.open_files > self.open_files).then_some(Lack::OpenFiles(self.open_files)),
            (host && !self.network_host).then_some(Lack::NetworkHost),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// One thing that a runner has too little of, with how much it has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Lack {
    Cpus(f64),
    Memory(ByteSize),
    Pids(u64),
    OpenFiles(u64),
    NetworkHost,
}

impl Lack {
    pub(super) const fn pointer(self) -> &'static str {
        match self {
            Self::Cpus(_) => "/limits/cpus",
            Self::Memory(_) => "/limits/memory",
            Self::Pids(_) => "/limits/pids",
            Self::OpenFiles(_) => "/limits/open_files",
            Self::NetworkHost => "/network",
        }
    }

    /// The fault of a request that asks for more.
    pub(super) fn fault(self) -> FieldProblem {
        let detail = match self {
            Self::Cpus(has) => format!("is above the {has} cores of the largest runner"),
            Self::Memory(has) => format!("is above the {has} that the largest runner gives a job"),
            Self::Pids(has) | Self::OpenFiles(has) => {
                format!("is above the {has} that the largest runner allows")
            }
            Self::NetworkHost => "no runner allows \"host\"".into(),
        };
        FieldProblem { pointer: self.pointer().into(), detail }
    }

    /// The larger of two of the same kind.
    pub(super) fn better(self, other: Self) -> Self {
        match (self, other) {
            (Self::Cpus(a), Self::Cpus(b)) => Self::Cpus(a.max(b)),
            (Self::Memory(a), Self::Memory(b)) => Self::Memory(a.max(b)),
            (Self::Pids(a), Self::Pids(b)) => Self::Pids(a.max(b)),
            (Self::OpenFiles(a), Self::OpenFiles(b)) => Self::OpenFiles(a.max(b)),
            _ => self,
        }
    }
}

/// Whether a runner answers, by its last report.
#[derive(Clone, Debug)]
pub(super) enum Link {
    /// Not asked yet.
    Unknown,
    /// It does.
    Up,
    /// It does not, for this reason.
    Down(String),
}

/// A runner.
#[derive(Clone, Debug)]
pub(super) struct Runner {
    pub(super) listed: bool,
    pub(super) link: Link,
    /// From its last report, also when it has fallen silent since.
    pub(super) health: Option<Box<RunnerHealth>>,
    /// It is another listed runner under a second address.
    pub(super) twin: bool,
    /// How far its clock is off, if it tells.
    pub(super) skew: Option<Skew>,
    /// Its clock is off by more than can be lived with.
    pub(super) clock_is_off: bool,
    /// It said that its slots are taken: it gets nothing until it shows a free one, or until then.
    pub(super) full_until: Option<Timestamp>,
    pub(super) breaker: Breaker,
    /// An operator wants it to get nothing new.
    pub(super) drained: bool,
    /// Attempts that it has from here.
    pub(super) out: usize,
    /// When it was last given something, on a counter: the least is the next in turn.
    pub(super) turn: u64,
    /// Cells that it could not make, in all and since it last made one.
    pub(super) failed_cells: u64,
    pub(super) failed_in_a_row: u64,
}

impl Runner {
    pub(super) fn new(drained: bool) -> Self {
        Self {
            listed: false,
            link: Link::Unknown,
            health: None,
            twin: false,
            skew: None,
            clock_is_off: false,
            full_until: None,
            breaker: Breaker::default(),
            drained,
            out: 0,
            turn: 0,
            failed_cells: 0,
            failed_in_a_row: 0,
        }
    }

    pub(super) fn capacity(&self) -> Option<Capacity> {
        self.health.as_deref().map(Capacity::of)
    }

    pub(super) fn boot_id(&self) -> Option<Uuid> {
        self.health.as_ref().map(|health| health.boot_id)
    }

    pub(super) fn slots(&self) -> usize {
        self.health.as_ref().map_or(0, |health| health.slots.total)
    }

    /// Whether it answers.
    pub(super) const fn is_up(&self) -> bool {
        matches!(self.link, Link::Up)
    }

    /// A cell of it was made.
    pub(super) fn made_cell(&mut self) {
        self.failed_in_a_row = 0;
        self.breaker.made_cell();
    }

    /// Whether it answers and takes work, room or not.
    pub(super) fn takes_work(&self) -> bool {
        let able = self
            .health
            .as_ref()
            .is_some_and(|h| matches!(h.status, RunnerState::Ok | RunnerState::Degraded));
        let rests = self.breaker.opens_until().is_some();
        let refused = self.twin || self.drained || self.clock_is_off;
        self.listed && self.is_up() && able && !refused && !rests
    }

    /// Whether it would take a job now.
    pub(super) fn has_room(&self) -> bool {
        self.takes_work()
            && self.breaker.admits()
            && self.full_until.is_none()
            && self.out < self.slots()
    }
}
