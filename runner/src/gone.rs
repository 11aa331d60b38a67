//! The ids of executions that are over, so that none of them is run again.
//!
//! A coordinator that loses its connection asks on another one, has its result, and acknowledges it.
//! What it had sent on the first one can still arrive, as late as the kernel of its machine tries to
//! deliver it, and must not run once more. The same holds for what was cancelled before it came.

use std::collections::{HashSet, VecDeque};

use uuid::Uuid;

/// How many are remembered: minutes' worth at the pace at which one machine makes cells, in less than
/// two megabytes.
const IDS: usize = 32_768;

/// The last ids that were forgotten otherwise.
#[derive(Debug)]
pub(crate) struct Gone {
    ids: HashSet<Uuid>,
    order: VecDeque<Uuid>,
}

impl Gone {
    pub(crate) fn contains(&self, id: Uuid) -> bool {
        self.ids.contains(&id)
    }

    pub(crate) fn insert(&mut self, id: Uuid) {
        if !self.ids.insert(id) {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > IDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

impl Default for Gone {
    /// With room for all from the start: what a runner holds should not grow with its days.
    fn default() -> Self {
        Self { ids: HashSet::with_capacity(IDS + 1), order: VecDeque::with_capacity(IDS + 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room() {
        let mut gone = Gone::default();
        let id = |n: usize| Uuid::from_u128(n as u128);
        let room = 2 * gone.ids.capacity();
        for n in 0..=IDS {
            gone.insert(id(n));
            gone.insert(id(n));
        }
        assert!(!gone.contains(id(0)) && gone.contains(id(1)) && gone.contains(id(IDS)));
        assert_eq!((gone.ids.len(), gone.order.len()), (IDS, IDS));
        // A set may make itself anew, with as much again, where much was taken out of it.
        assert!(gone.ids.capacity() <= room && gone.order.capacity() <= room);
    }
}
