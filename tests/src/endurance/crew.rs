//! Several at once.

use std::{
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::Client;

/// Does `work` for each number, `at_once` of them at a time, and comes back with what came of it.
/// Each worker has connections of its own, which are closed when all is done.
pub(super) fn crew<T: Send>(
    at_once: usize,
    base: &str,
    numbers: Range<usize>,
    work: impl Fn(&Client, usize) -> T + Sync,
) -> Vec<T> {
    let next = AtomicUsize::new(numbers.start);
    let done = Mutex::new(Vec::with_capacity(numbers.len()));
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                let client = Client::new(base);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end {
                        return;
                    }
                    let result = work(&client, number);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push(result);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}
