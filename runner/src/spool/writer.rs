//! The thread that writes.

use super::{Shared, Work};

/// Its life: until the spool is closed and nothing is left to do.
pub(super) fn run(shared: &Shared) {
    while let Some(work) = next(shared) {
        match work {
            Work::Write(output) => {
                if let Some(output) = output.upgrade() {
                    output.write();
                }
            }
            Work::Close(file) => drop(file),
        }
    }
}

fn next(shared: &Shared) -> Option<Work> {
    let mut queue = shared.queue();
    loop {
        if let Some(work) = queue.work.pop_front() {
            return Some(work);
        }
        if queue.closed {
            return None;
        }
        queue = shared.work.wait(queue).unwrap_or_else(std::sync::PoisonError::into_inner);
    }
}
