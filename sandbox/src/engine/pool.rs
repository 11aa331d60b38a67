//! The cells that wait for a job, as threads share them: the engine's own sees to them, and whoever
//! brings a job takes one for it. So the command is on its way before the engine's thread has woken up.

use std::{
    os::fd::AsFd,
    sync::{Mutex, PoisonError},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    handles::Handles,
    spares::{Spare, Spares},
};
use crate::wire::Sizes;

pub(super) struct Pool(Mutex<Spares<Handles>>);

impl Pool {
    /// With so many at most.
    pub(super) fn new(most: usize) -> Self {
        Self(Mutex::new(Spares::new(most)))
    }

    /// One thing at a time is done to them.
    pub(super) fn with<R>(&self, one: impl FnOnce(&mut Spares<Handles>) -> R) -> R {
        one(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A cell of these sizes that lives and waits, if there is one.
    pub(super) fn take(&self, sizes: &Sizes) -> Option<Spare<Handles>> {
        self.with(|spares| {
            let spare = spares.take(sizes)?;
            // Its end may not have been heard of yet: then it is left where it will be.
            let mut end = [PollFd::new(spare.held.pidfd.as_fd(), PollFlags::POLLIN)];
            if poll(&mut end, PollTimeout::ZERO) == Ok(0) {
                return Some(spare);
            }
            spares.put_back(spare);
            None
        })
    }
}
