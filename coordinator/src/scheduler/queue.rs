//! The queue: pending jobs by priority and age, apart for each set of runners that could hold them.
//!
//! One sorted queue would let a job that no free runner can hold block all those behind it; a scan
//! past it would be linear. So the jobs are kept in *groups*: two jobs are in the same group when
//! the same runner capacities could hold them (and the same runners are to be avoided), hence within
//! a group the first one is as good as any. Only the heads of the groups are compared. A fleet has
//! few distinct capacities, so there are few groups however many jobs there are. The price: when a
//! capacity appears that was not there before, or the last runner of one leaves, every pending job
//! is grouped anew, once.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
};

use uuid::Uuid;

use super::{
    job::{Facts, RunnerName},
    room::Waiting,
    runner::Capacity,
};

/// The order within a group. The id is a UUID v7 and breaks the tie by age; a job that comes back
/// keeps its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    priority: Reverse<i32>,
    pub(super) id: Uuid,
}

impl Rank {
    pub(super) const fn of(facts: &Facts) -> Self {
        Self { priority: Reverse(facts.priority), id: facts.id }
    }
}

/// What the jobs of a group have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Class {
    /// Indices of the capacities that could hold them.
    shapes: Box<[usize]>,
    /// Runners that could not make their cells.
    pub(super) avoid: Box<[RunnerName]>,
}

/// The jobs that wait for a runner.
#[derive(Debug, Default)]
pub(super) struct Queue {
    shapes: Vec<Capacity>,
    groups: HashMap<Class, BTreeSet<Rank>>,
    waiting: Waiting,
}

impl Queue {
    pub(super) const fn len(&self) -> usize {
        self.waiting.jobs
    }

    /// All jobs in it.
    pub(super) const fn waiting(&self) -> Waiting {
        self.waiting
    }

    pub(super) fn push(&mut self, facts: &Facts) {
        let group = self.groups.entry(self.class(facts)).or_default();
        if group.insert(Rank::of(facts)) {
            self.waiting.add(facts.size);
        }
    }

    pub(super) fn remove(&mut self, facts: &Facts) {
        let class = self.class(facts);
        if let Some(group) = self.groups.get_mut(&class) {
            if group.remove(&Rank::of(facts)) {
                self.waiting.take(facts.size);
            }
            if group.is_empty() {
                self.groups.remove(&class);
            }
        }
    }

    /// The first job of each group.
    pub(super) fn heads(&self) -> impl Iterator<Item = (&Class, Rank)> {
        self.groups.iter().filter_map(|(class, group)| Some((class, *group.first()?)))
    }

    /// Whether a runner of this capacity could hold the jobs of a class.
    pub(super) fn fits(&self, class: &Class, capacity: &Capacity) -> bool {
        class.shapes.iter().any(|at| self.shapes.get(*at) == Some(capacity))
    }

    /// Takes over which capacities there are; true when every job must be grouped anew, which
    /// [`regroup`](Self::regroup) does.
    pub(super) fn reshape(&mut self, capacities: impl Iterator<Item = Capacity>) -> bool {
        let mut shapes: Vec<Capacity> = Vec::new();
        for capacity in capacities {
            if !shapes.contains(&capacity) {
                shapes.push(capacity);
            }
        }
        let same = shapes.len() == self.shapes.len()
            && shapes.iter().all(|shape| self.shapes.contains(shape));
        if !same {
            self.shapes = shapes;
        }
        !same
    }

    /// Groups these jobs, all that are queued, anew.
    pub(super) fn regroup<'a>(&mut self, jobs: impl Iterator<Item = &'a Facts>) {
        self.groups.clear();
        self.waiting = Waiting::default();
        for facts in jobs {
            self.push(facts);
        }
    }

    fn class(&self, facts: &Facts) -> Class {
        let holding = self.shapes.iter().enumerate();
        Class {
            shapes: holding
                .filter(|(_, shape)| shape.holds(&facts.needs))
                .map(|(at, _)| at)
                .collect(),
            avoid: facts.avoid.clone().into_boxed_slice(),
        }
    }
}
