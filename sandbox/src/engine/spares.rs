//! How many cells wait, made ahead of the jobs that will run in them, and of what sizes. Pure: it keeps
//! what it is given, and says what to make and what to give up.
//!
//! A cell has its limits from the start: nothing is changed of it from outside when its job comes. So a
//! spare is for jobs that ask for the same, and what is made next is what was asked for last.

use std::collections::{HashMap, VecDeque};

use crate::wire::{CellId, Sizes};

/// How many are made at once. The launcher makes one after the other, and a job for which there is
/// none waits for those that it was asked for before.
const COMING: usize = 2;

/// The cells that wait, and those that are being made for it; `C` is what is held of one.
pub(crate) struct Spares<C> {
    /// How many there may ever be.
    most: usize,
    /// How many there are to be: each job that found none raises it, and what was not needed for a while
    /// lowers it.
    wanted: usize,
    /// What jobs asked for and was not made again yet, oldest first, or what the last one asked for.
    asked: VecDeque<Sizes>,
    /// What a job found none of when there could be no more: one of other sizes is to make room.
    missing: Option<Sizes>,
    coming: HashMap<CellId, Sizes>,
    /// Oldest first.
    ready: VecDeque<Spare<C>>,
    /// The fewest that were ready at once since [`Spares::rest`].
    unneeded: usize,
}

/// A cell that waits for its command.
pub(crate) struct Spare<C> {
    pub(crate) cell: CellId,
    sizes: Sizes,
    pub(crate) held: C,
}

impl<C> Spares<C> {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            wanted: 0,
            asked: VecDeque::new(),
            missing: None,
            coming: HashMap::new(),
            ready: VecDeque::new(),
            unneeded: 0,
        }
    }

    /// A job asks for a cell of these sizes. Where there is none, more are wanted from now on.
    pub(crate) fn take(&mut self, sizes: &Sizes) -> Option<Spare<C>> {
        if self.most == 0 {
            return None;
        }
        if self.asked.len() == self.most {
            self.asked.pop_front();
        }
        self.asked.push_back(*sizes);
        let found = self.ready.iter().position(|spare| spare.sizes == *sizes);
        let taken = found.and_then(|index| self.ready.remove(index));
        if taken.is_none() {
            if self.wanted < self.most {
                self.wanted += 1;
            } else {
                self.missing = Some(*sizes);
            }
        }
        self.unneeded = if taken.is_some() { self.unneeded.min(self.ready.len()) } else { 0 };
        taken
    }

    /// One that was taken and is not used.
    pub(crate) fn put_back(&mut self, spare: Spare<C>) {
        self.ready.push_back(spare);
    }

    /// The sizes of the next one to be made, if one is to be.
    pub(crate) fn next(&mut self) -> Option<Sizes> {
        if !self.is_short() {
            return None;
        }
        // The last one stays: as many as are wanted are made, also where one had to make room.
        if self.asked.len() > 1 { self.asked.pop_back() } else { self.asked.back().copied() }
    }

    /// One that has to go: there are more than wanted, or a job found none of its sizes and there is no
    /// room for one.
    pub(crate) fn surplus(&mut self) -> Option<Spare<C>> {
        let all = self.ready.len() + self.coming.len();
        if all > self.wanted {
            return self.ready.pop_front();
        }
        let missing = if all == self.most { self.missing.take()? } else { return None };
        let other = self.ready.iter().position(|spare| spare.sizes != missing)?;
        self.ready.remove(other)
    }

    /// Whether another one is to be made.
    pub(crate) fn is_short(&self) -> bool {
        let all = self.ready.len() + self.coming.len();
        all < self.wanted && self.coming.len() < COMING && !self.asked.is_empty()
    }

    /// Whether one is to be made, or has to go.
    pub(crate) fn has_work(&self) -> bool {
        self.is_short() || self.missing.is_some()
    }

    /// One was asked for.
    pub(crate) fn ordered(&mut self, cell: CellId, sizes: Sizes) {
        self.coming.insert(cell, sizes);
    }

    /// The sizes of one that was asked for and is there now. It is no longer expected.
    pub(crate) fn arrived(&mut self, cell: CellId) -> Option<Sizes> {
        self.coming.remove(&cell)
    }

    /// How many were asked for and are not there yet.
    pub(crate) fn coming(&self) -> usize {
        self.coming.len()
    }

    /// It waits from now on.
    pub(crate) fn add(&mut self, cell: CellId, sizes: Sizes, held: C) {
        self.ready.push_back(Spare { cell, sizes, held });
    }

    /// There are none any more.
    pub(crate) fn close(&mut self) {
        *self = Self::new(0);
    }

    /// What can't be made, or does not live, is not made again and again: only when jobs ask.
    pub(crate) fn give_up(&mut self) {
        self.wanted = 0;
        self.asked.clear();
    }

    /// Takes out one that has ended while it waited.
    pub(crate) fn remove(&mut self, cell: CellId) -> Option<Spare<C>> {
        let index = self.ready.iter().position(|spare| spare.cell == cell)?;
        self.ready.remove(index)
    }

    /// A while has passed: what nobody needed in it is not wanted any more.
    pub(crate) fn rest(&mut self) {
        self.wanted = self.wanted.saturating_sub(self.unneeded);
        self.unneeded = self.ready.len();
    }

    /// Whether there is anything to rest from.
    pub(crate) fn is_idle(&self) -> bool {
        self.ready.is_empty() && self.coming.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Sizes = Sizes { cpu_quota_us: 1000, memory: 1 << 20, pids: 1, disk: 4096 };
    const LARGE: Sizes = Sizes { pids: 2, ..SMALL };

    /// Makes what is wanted, under these numbers.
    fn make(spares: &mut Spares<()>, numbers: &mut std::ops::RangeFrom<u64>) -> usize {
        let before = spares.ready.len();
        while let Some(sizes) = spares.next() {
            let cell = numbers.next().unwrap();
            spares.ordered(cell, sizes);
            assert_eq!(spares.arrived(cell), Some(sizes));
            spares.add(cell, sizes, ());
        }
        spares.ready.len() - before
    }

    fn gone(spares: &mut Spares<()>) -> usize {
        std::iter::from_fn(|| spares.surplus()).count()
    }

    #[test]
    fn none_waits_before_a_job_has_come() {
        let mut spares = Spares::<()>::new(4);
        assert_eq!(make(&mut spares, &mut (1..)), 0);
        assert!(spares.is_idle());
    }

    #[test]
    fn there_are_as_many_as_were_missing_and_never_more_than_allowed() {
        let (mut spares, mut numbers) = (Spares::new(3), 1..);
        assert!(spares.take(&SMALL).is_none());
        assert_eq!(make(&mut spares, &mut numbers), 1);
        // One finds it, and five do not.
        assert_eq!((0..6).filter(|_| spares.take(&SMALL).is_some()).count(), 1);
        assert_eq!(make(&mut spares, &mut numbers), 3);
        assert_eq!(gone(&mut spares), 0);
    }

    #[test]
    fn each_runs_one_job() {
        let (mut spares, mut numbers) = (Spares::new(1), 1..);
        spares.take(&SMALL);
        make(&mut spares, &mut numbers);
        let first = spares.take(&SMALL).unwrap().cell;
        assert!(spares.take(&SMALL).is_none());
        make(&mut spares, &mut numbers);
        assert_ne!(spares.take(&SMALL).unwrap().cell, first);
    }

    #[test]
    fn a_job_gets_what_it_asked_for_or_nothing() {
        let (mut spares, mut numbers) = (Spares::new(2), 1..);
        spares.take(&SMALL);
        make(&mut spares, &mut numbers);
        for other in [
            LARGE,
            Sizes { cpu_quota_us: 1001, ..SMALL },
            Sizes { memory: (1 << 20) + 1, ..SMALL },
            Sizes { disk: 4097, ..SMALL },
        ] {
            assert!(spares.take(&other).is_none(), "{other:?}");
        }
        assert!(spares.take(&SMALL).is_some());
    }

    #[test]
    fn those_of_other_sizes_make_room() {
        let (mut spares, mut numbers) = (Spares::new(2), 1..);
        for _ in 0..2 {
            spares.take(&SMALL);
        }
        assert_eq!(make(&mut spares, &mut numbers), 2);
        assert!(spares.take(&LARGE).is_none());
        assert_eq!((gone(&mut spares), make(&mut spares, &mut numbers)), (1, 1));
        assert!(spares.take(&LARGE).is_some() && spares.take(&SMALL).is_some());
    }

    #[test]
    fn jobs_of_two_sizes_that_take_turns_find_both() {
        let (mut spares, mut numbers) = (Spares::new(2), 1..);
        let turns = (0..12).map(|turn| {
            let found = spares.take(if turn % 2 == 0 { &SMALL } else { &LARGE }).is_some();
            while gone(&mut spares) + make(&mut spares, &mut numbers) > 0 {}
            found
        });
        assert_eq!(turns.skip(2).filter(|found| *found).count(), 10);
    }

    #[test]
    fn only_a_few_are_made_at_once() {
        let mut spares = Spares::<()>::new(8);
        for _ in 0..8 {
            spares.take(&SMALL);
        }
        let mut count = 0;
        while let Some(sizes) = spares.next() {
            count += 1;
            spares.ordered(count, sizes);
        }
        assert_eq!(count, COMING as u64);
    }

    #[test]
    fn what_nobody_needs_goes_and_at_last_all() {
        let (mut spares, mut numbers) = (Spares::new(4), 1..);
        for _ in 0..4 {
            spares.take(&SMALL);
        }
        make(&mut spares, &mut numbers);
        spares.rest();
        // One after the other: three of four are never needed.
        for _ in 0..9 {
            spares.take(&SMALL).unwrap();
            make(&mut spares, &mut numbers);
        }
        spares.rest();
        assert_eq!((gone(&mut spares), spares.ready.len()), (3, 1));
        spares.rest();
        assert_eq!((gone(&mut spares), spares.is_idle()), (1, true));
        assert_eq!(make(&mut spares, &mut numbers), 0, "and none comes back by itself");
    }

    #[test]
    fn what_fails_is_not_tried_again_before_a_job_asks() {
        let (mut spares, mut numbers) = (Spares::new(4), 1..);
        spares.take(&SMALL);
        make(&mut spares, &mut numbers);
        let cell = spares.ready[0].cell;
        assert!(spares.remove(cell).is_some() && spares.remove(cell).is_none());
        spares.give_up();
        assert_eq!(make(&mut spares, &mut numbers), 0);
        spares.take(&SMALL);
        assert_eq!(make(&mut spares, &mut numbers), 1);
    }

    #[test]
    fn without_any_allowed_nothing_is_kept() {
        let mut spares = Spares::<()>::new(0);
        for _ in 0..9 {
            assert!(spares.take(&SMALL).is_none());
        }
        assert_eq!(make(&mut spares, &mut (1..)), 0);
        assert!(spares.asked.is_empty());
    }
}
