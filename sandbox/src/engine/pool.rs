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

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use nix::sys::socket::SockType;

    use super::*;
    use crate::{sys::socket_pair, wire::Attached};

    const SIZES: Sizes = Sizes { cpu_quota_us: 1000, memory: 1 << 20, pids: 1, disk: 4096 };

    /// A cell, and what its end can be told by: its pidfd is a socket here.
    fn cell() -> (Handles, OwnedFd) {
        let attached =
            Attached { pipes: false, kill: false, brake: false, oom: false, records: Vec::new() };
        let (control, _) = socket_pair(SockType::Stream).unwrap();
        let (pidfd, end) = socket_pair(SockType::Stream).unwrap();
        (Handles::sort(attached, vec![control, pidfd], &SIZES).unwrap(), end)
    }

    #[test]
    fn one_whose_end_was_not_heard_of_yet_is_left_for_who_will_hear_of_it() {
        let pool = Pool::new(2);
        let (handles, end) = cell();
        pool.with(|spares| spares.add(1, SIZES, handles));
        drop(end);
        assert!(pool.take(&SIZES).is_none());
        assert!(pool.with(|spares| spares.remove(1)).is_some());

        let (handles, _end) = cell();
        pool.with(|spares| spares.add(2, SIZES, handles));
        assert_eq!(pool.take(&SIZES).map(|spare| spare.cell), Some(2));
        assert!(pool.take(&SIZES).is_none());
    }
}
