//! How many jobs at once: a table with a place for each.
//!
//! A table rather than a counter, so that a drain can reach every job that runs, whoever asked for
//! it, and so that a place has a number by which it can be measured.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::execution::{Execution, Why};

/// All places.
#[derive(Debug)]
pub(crate) struct Slots {
    places: Mutex<Vec<Place>>,
    used: watch::Sender<usize>,
}

#[derive(Clone, Debug)]
enum Place {
    Free,
    Taken(Arc<Execution>),
}

/// One place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    number: usize,
}

impl Slots {
    pub(crate) fn new(total: usize) -> Arc<Self> {
        Arc::new(Self { places: Mutex::new(vec![Place::Free; total]), used: watch::Sender::new(0) })
    }

    /// A place for this execution, if there is one.
    pub(crate) fn take(self: &Arc<Self>, execution: &Arc<Execution>) -> Option<Slot> {
        let mut places = self.lock();
        let number = places.iter().position(|place| matches!(place, Place::Free))?;
        places[number] = Place::Taken(Arc::clone(execution));
        self.used.send_modify(|used| *used += 1);
        Some(Slot { slots: Arc::clone(self), number })
    }

    pub(crate) fn total(&self) -> usize {
        self.lock().len()
    }

    pub(crate) fn used(&self) -> usize {
        *self.used.borrow()
    }

    /// What stands in each of the first `count` places that are taken, by number.
    pub(crate) fn taken(&self, count: usize) -> Vec<(usize, Arc<Execution>)> {
        let places = self.lock();
        let taken = |(number, place): (usize, &Place)| match place {
            Place::Free => None,
            Place::Taken(execution) => Some((number, Arc::clone(execution))),
        };
        places.iter().enumerate().take(count).filter_map(taken).collect()
    }

    /// Returns when no place is taken.
    pub(crate) async fn idle(&self) {
        // The sender lives as long as `self`.
        let _ = self.used.subscribe().wait_for(|used| *used == 0).await;
    }

    /// Ends every job that runs, and has each say why.
    pub(crate) fn cancel_all(&self, why: Why) {
        // A copy, since a job that ends gives its place back.
        let places = self.lock().clone();
        for place in places {
            if let Place::Taken(execution) = place {
                execution.cancel(why);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Place>> {
        // Nothing panics while it is held, and the table is whole between any two statements.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // The execution is dropped after the lock: it may be the last one to know it.
        let _execution = {
            let mut places = self.slots.lock();
            std::mem::replace(&mut places[self.number], Place::Free)
        };
        self.slots.used.send_modify(|used| *used -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::spool::Spool;

    #[tokio::test]
    async fn places_are_bounded_and_come_back() {
        let slots = Slots::new(2);
        let execution = Execution::new(false, &Spool::new(None, u64::MAX).unwrap());
        let first = slots.take(&execution).unwrap();
        let second = slots.take(&execution).unwrap();
        assert!(slots.take(&execution).is_none());
        assert_eq!((slots.total(), slots.used()), (2, 2));
        let numbers =
            |count| slots.taken(count).iter().map(|(number, _)| *number).collect::<Vec<_>>();
        assert_eq!((numbers(9), numbers(1)), (vec![0, 1], vec![0]));
        drop(first);
        assert_eq!(numbers(9), [1]);
        assert_eq!(slots.take(&execution).unwrap().number, 0);
        let idle = tokio::spawn({
            let slots = Arc::clone(&slots);
            async move { slots.idle().await }
        });
        drop(second);
        idle.await.unwrap();
        assert_eq!(slots.used(), 0);
    }
}
