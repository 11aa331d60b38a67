//! Answers the system calls of a job that its second filter notifies (`seccomp/job.json`), for
//! PID 1 of the cell: those that make the kernel hold memory which no cgroup charges.
//!
//! - A **netlink socket** is made here, with small buffers, and handed to the job. At most
//!   [`MAX_NETLINK`] are alive in a cell, wherever their descriptors are: closed, inherited, or in
//!   flight between sockets.
//! - A **seccomp filter** of the job's own is let through while the cell's threads have at most
//!   [`MAX_FILTERS`] of them.
//!
//! The kernel's part is seccomp_unotify(2). PID 1 reads no memory of the job: it looks at registers,
//! which the job cannot change while it waits.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags},
        socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt},
    },
};

use crate::sys::{self, Notification};

/// Netlink sockets alive in a cell at most. `getifaddrs` and `getaddrinfo` hold one for a moment; a
/// program that watches its addresses holds one.
const MAX_NETLINK: usize = 64;
/// What the buffers of a netlink socket are set to, bytes; the kernel doubles both (socket(7)). The
/// kernel queues up to one message more than the receive buffer holds, and a message is no longer
/// than the send buffer: less than 96 KiB a socket, 6 MiB a cell.
const NETLINK_RECEIVE: usize = 32 << 10;
const NETLINK_SEND: usize = 8 << 10;

/// Filters of the job's own, counted once for each thread that has them. One of the longest, 4096
/// instructions, takes some 50 KiB of compiled code: 14 MiB.
const MAX_FILTERS: usize = 256;
/// After so many new filters the threads are counted again.
const FILTERS_UNCOUNTED: usize = 32;
/// Where threads come and go so fast that no count is certain, so many are let through after the last one.
const MAX_UNCERTAIN: usize = 1024;
/// How often a count is tried.
const COUNTS: usize = 4;
/// The cell's own filters, which every thread of a job has.
const OWN_FILTERS: usize = 2;

/// What PID 1 keeps between two notifications.
pub(super) struct Broker {
    listener: OwnedFd,
    netlink: Sockets,
    filters: Filters,
}

impl Broker {
    /// Answers what comes through this listener.
    pub(super) fn new(listener: OwnedFd) -> Self {
        Self { listener, netlink: Sockets::default(), filters: Filters::default() }
    }

    /// Answers one notification; waits until there is one.
    pub(super) fn answer(&mut self) -> io::Result<()> {
        let listener = self.listener.as_fd();
        let answered = sys::receive_notification(listener).and_then(|notification| {
            let answer = match i64::from(notification.call) {
                libc::SYS_socket => self.netlink.make(&notification),
                // Filters come by two calls, and nothing else is notified.
                _ => self.filters.let_through(notification.thread),
            };
            match answer {
                Ok(Answer::Run) => sys::let_run(listener, &notification),
                Ok(Answer::Socket(socket)) => {
                    let close_on_exec = notification.arguments[1] & SOCK_CLOEXEC != 0;
                    sys::hand_over(listener, &notification, socket.as_fd(), close_on_exec)
                }
                Err(errno) => sys::refuse(listener, &notification, errno),
            }
        });
        match answered {
            // The thread that asked has ended, or a signal interrupted its call.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            answered => answered,
        }
    }
}

/// Readable when a notification is there, hung up when no process is left that could ask.
impl AsFd for Broker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// What becomes of a notified call.
enum Answer {
    /// The kernel runs it.
    Run,
    /// It returns this socket.
    Socket(OwnedFd),
}

const SOCK_CLOEXEC: u64 = libc::SOCK_CLOEXEC as u64;
const SOCK_NONBLOCK: u64 = libc::SOCK_NONBLOCK as u64;
const SOCK_TYPE: u64 = 0xf;

/// Sockets that were made for the job.
#[derive(Default)]
struct Sockets {
    /// Holds an entry for each that is alive: the kernel removes the entry when the last descriptor
    /// is closed (epoll(7), "Will closing a file descriptor cause it to be removed").
    alive: Option<Epoll>,
    /// Made since the last count, and alive at the last count.
    at_most: usize,
}

impl Sockets {
    fn make(&mut self, asked: &Notification) -> Result<Answer, Errno> {
        if self.at_most >= MAX_NETLINK {
            self.at_most = self.count().map_err(|_| Errno::ENOBUFS)?;
            if self.at_most >= MAX_NETLINK {
                return Err(Errno::ENOBUFS);
            }
        }
        let kind = match i32::try_from(asked.arguments[1] & SOCK_TYPE) {
            Ok(libc::SOCK_RAW) => SockType::Raw,
            Ok(libc::SOCK_DGRAM) => SockType::Datagram,
            _ => return Err(Errno::ESOCKTNOSUPPORT),
        };
        let mut flags = SockFlag::SOCK_CLOEXEC;
        flags.set(SockFlag::SOCK_NONBLOCK, asked.arguments[1] & SOCK_NONBLOCK != 0);
        let made = socket(AddressFamily::Netlink, kind, flags, SockProtocol::NetlinkRoute)?;
        setsockopt(&made, sockopt::RcvBuf, &NETLINK_RECEIVE)?;
        setsockopt(&made, sockopt::SndBuf, &NETLINK_SEND)?;
        let alive = match &self.alive {
            Some(alive) => alive,
            None => self.alive.insert(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?),
        };
        alive.add(&made, EpollEvent::new(EpollFlags::empty(), 0))?;
        self.at_most += 1;
        Ok(Answer::Socket(made))
    }

    /// How many are alive: one line each (proc_pid_fdinfo(5)).
    fn count(&self) -> io::Result<usize> {
        let Some(alive) = &self.alive else {
            return Ok(0);
        };
        let entries = fs::read_to_string(format!("/proc/self/fdinfo/{}", alive.0.as_raw_fd()))?;
        Ok(entries.lines().filter(|line| line.starts_with("tfd:")).count())
    }
}

/// The filters of the job's own.
#[derive(Default)]
struct Filters {
    /// At the last count that was certain.
    counted: usize,
    /// Let through since then.
    since: usize,
    /// Of these the ones that may not be installed yet: the thread, and how many it had.
    granted: Vec<(u32, usize)>,
}

impl Filters {
    fn let_through(&mut self, thread: u32) -> Result<Answer, Errno> {
        if self.since > 0 && self.since.is_multiple_of(FILTERS_UNCOUNTED) {
            self.count();
        }
        if self.counted >= MAX_FILTERS || self.counted + self.since >= MAX_UNCERTAIN {
            // Also if it asks again: some may have gone.
            self.count();
        }
        if self.counted >= MAX_FILTERS || self.counted + self.since >= MAX_UNCERTAIN {
            // As where the filters of one thread are too long together (seccomp(2)).
            return Err(Errno::ENOMEM);
        }
        self.since += 1;
        let status = fs::read_to_string(format!("/proc/{thread}/status"));
        self.granted.push((thread, status.map_or(0, |status| own_filters(&status))));
        Ok(Answer::Run)
    }

    /// Counts them, if that can be done with certainty.
    fn count(&mut self) {
        // A thread that was not scheduled since has yet to install its own.
        self.granted.retain(|(thread, had)| {
            let status = fs::read_to_string(format!("/proc/{thread}/status"));
            status.is_ok_and(|status| own_filters(&status) <= *had)
        });
        if let Some(installed) = (0..COUNTS).find_map(|_| installed_filters().ok().flatten()) {
            self.counted = installed + self.granted.len();
            self.since = 0;
        }
    }
}

/// The filters of the job's own that all threads of the cell have together. `None` if a thread came or went
/// meanwhile: one may hand its filters to a new one and end before it is looked at.
fn installed_filters() -> io::Result<Option<usize>> {
    let before = threads()?;
    let mut sum = 0;
    for (process, thread) in &before {
        match fs::read_to_string(format!("/proc/{process}/task/{thread}/status")) {
            Ok(status) => sum += own_filters(&status),
            Err(_) => return Ok(None),
        }
    }
    Ok((threads()? == before).then_some(sum))
}

/// Processes and their threads.
fn threads() -> io::Result<Vec<(u32, u32)>> {
    let mut all = Vec::new();
    for process in numbered("/proc")? {
        // It may have ended just now, and is then no thread of the next list either.
        let threads = numbered(&format!("/proc/{process}/task")).unwrap_or_default();
        all.extend(threads.into_iter().map(|thread| (process, thread)));
    }
    Ok(all)
}

fn numbered(folder: &str) -> io::Result<Vec<u32>> {
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().parse()));
    Ok(names.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// From a thread's status (proc_pid_status(5)).
fn own_filters(status: &str) -> usize {
    let count = status.lines().find_map(|line| line.strip_prefix("Seccomp_filters:"));
    let count: usize = count.and_then(|count| count.trim().parse().ok()).unwrap_or(0);
    count.saturating_sub(OWN_FILTERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_the_cell_are_not_the_jobs() {
        let status = |filters: &str| format!("Name:\tsh\nSeccomp:\t2\n{filters}Speculation:\tx\n");
        assert_eq!(own_filters(&status("Seccomp_filters:\t2\n")), 0);
        assert_eq!(own_filters(&status("Seccomp_filters:\t7\n")), 5);
        assert_eq!(own_filters(&status("Seccomp_filters:\t0\n")), 0, "PID 1 of another kind");
        assert_eq!(own_filters(&status("")), 0);
    }

    #[test]
    fn sockets_that_are_closed_are_not_counted() {
        let asked = |flags| Notification {
            id: 1,
            thread: 1,
            call: 41,
            arguments: [16, libc::SOCK_RAW as u64 | flags, 0, 0, 0, 0],
        };
        let mut sockets = Sockets::default();
        let mut held = Vec::new();
        for _ in 0..MAX_NETLINK {
            let Ok(Answer::Socket(made)) = sockets.make(&asked(SOCK_CLOEXEC)) else {
                panic!("a socket is made below the limit");
            };
            held.push(made);
        }
        assert_eq!(sockets.make(&asked(0)).err(), Some(Errno::ENOBUFS));
        // A copy keeps it alive.
        let copy = held[0].try_clone().unwrap();
        held.clear();
        assert_eq!(sockets.count().unwrap(), 1);
        drop(copy);
        assert_eq!(sockets.count().unwrap(), 0);
        assert!(sockets.make(&asked(SOCK_NONBLOCK)).is_ok());
    }
}
