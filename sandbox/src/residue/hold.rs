//! Cells that are held back while it is looked what they hold.

use std::sync::Arc;

use super::watcher::Job;
use crate::{cgroup::Brake, wire::CellId};

/// Cells that are held back; let go when dropped.
#[derive(Default)]
pub(super) struct Hold(Vec<(CellId, Arc<Brake>)>);

impl Hold {
    /// Holds one back, where the host limits CPU bandwidth.
    pub(super) fn add(&mut self, cell: CellId, job: &Job) {
        if let Some(brake) = &job.brake
            && self.0.iter().all(|(held, _)| *held != cell)
        {
            brake.hold();
            self.0.push((cell, Arc::clone(brake)));
        }
    }

    /// Lets all others go.
    pub(super) fn keep(&mut self, which: impl Fn(CellId) -> bool) {
        self.0.retain(|(cell, brake)| {
            let kept = which(*cell);
            if !kept {
                brake.release();
            }
            kept
        });
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.keep(|_| false);
    }
}
