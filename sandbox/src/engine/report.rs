//! What a cell's PID 1 reports, bounded: it is as confined as the job, and not trusted more. Whatever
//! it sends, the engine keeps little of it, and goes on serving other cells.

use std::{io, os::fd::OwnedFd};

use nix::errno::Errno;

use crate::wire::{MAX_STATUS, Status, unframe};

/// That the command was executed, how it ended, and what failed: no cell has more to say.
pub(crate) const MAX_REPORT: usize = 4 * (4 + MAX_STATUS);

/// What has come of a cell's report.
#[derive(Default)]
pub(crate) struct Report {
    buffer: Vec<u8>,
    heard: usize,
    unread: bool,
}

/// Whether more may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum More {
    Perhaps,
    /// PID 1 has closed its end.
    Never,
    /// What came is no report: nothing that follows can be one.
    Nonsense,
}

impl Report {
    /// Reads what is there, and hands on each status.
    pub(crate) fn listen(&mut self, control: &OwnedFd, mut each: impl FnMut(Status)) -> More {
        let mut piece = [0; MAX_REPORT];
        loop {
            match nix::unistd::read(control, &mut piece) {
                Ok(0) => return More::Never,
                Ok(length) => {
                    if self.take(&piece[..length], &mut each).is_err() {
                        return More::Nonsense;
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return More::Perhaps,
                Err(error) => {
                    self.unread |= error == Errno::ECONNRESET;
                    return More::Never;
                }
            }
        }
    }

    /// Whether PID 1 ended with something unread: the kernel then says so, once, instead of the end of the
    /// stream (`unix_release_sock` in `net/unix/af_unix.c`).
    pub(crate) fn left_unread(&self) -> bool {
        self.unread
    }

    /// Takes the bytes that follow, and hands on each status that is whole with them.
    pub(crate) fn take(&mut self, bytes: &[u8], mut each: impl FnMut(Status)) -> io::Result<()> {
        self.heard += bytes.len();
        if self.heard > MAX_REPORT {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.buffer.extend_from_slice(bytes);
        while let Some(status) = unframe(&mut self.buffer, MAX_STATUS)? {
            each(status);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use nix::{sys::socket::SockType, unistd::write};

    use super::*;
    use crate::{sys::socket_pair, wire::frame};

    fn pair() -> (OwnedFd, OwnedFd) {
        let (ours, theirs) = socket_pair(SockType::Stream).unwrap();
        rustix::io::ioctl_fionbio(&ours, true).unwrap();
        (ours, theirs)
    }

    #[test]
    fn what_is_said_is_heard_once() {
        let (ours, theirs) = pair();
        let (started, exited) =
            (Status::Started { at: 7 }, Status::Exited { code: 1, signal: 0, at: 9 });
        let (mut report, mut heard) = (Report::default(), Vec::new());
        write(&theirs, &frame(&started).unwrap()).unwrap();
        let bytes = frame(&exited).unwrap();
        write(&theirs, &bytes[..5]).unwrap();
        assert_eq!(report.listen(&ours, |status| heard.push(status)), More::Perhaps);
        assert_eq!(heard, [Status::Started { at: 7 }]);
        write(&theirs, &bytes[5..]).unwrap();
        drop(theirs);
        assert_eq!(report.listen(&ours, |status| heard.push(status)), More::Never);
        assert_eq!(heard, [started, exited]);
    }

    #[test]
    fn what_was_left_unread_is_known_from_what_was_read() {
        for read in [false, true] {
            let (ours, theirs) = pair();
            write(&ours, b"command").unwrap();
            if read {
                nix::unistd::read(&theirs, &mut [0; 16]).unwrap();
            }
            drop(theirs);
            let mut report = Report::default();
            for _ in 0..2 {
                assert_eq!(report.listen(&ours, |status| panic!("{status:?}")), More::Never);
                assert_eq!(report.left_unread(), !read);
            }
        }
    }

    #[test]
    fn nonsense_is_told_and_not_kept() {
        for bytes in [vec![0xff; 4], vec![1, 0, 0, 0, 0x7f], vec![0; 4]] {
            let (ours, theirs) = pair();
            write(&theirs, &bytes).unwrap();
            let more = Report::default().listen(&ours, |status| panic!("{status:?}"));
            assert_eq!(more, More::Nonsense, "{bytes:?}");
        }
    }

    #[test]
    fn who_never_stops_talking_is_not_listened_to_for_ever() {
        let (ours, theirs) = pair();
        rustix::io::ioctl_fionbio(&theirs, true).unwrap();
        let started = frame(&Status::Started { at: 7 }).unwrap();
        while write(&theirs, &started).is_ok() {}
        let (mut report, mut heard) = (Report::default(), 0);
        assert_eq!(report.listen(&ours, |_| heard += 1), More::Nonsense);
        assert!(heard <= MAX_REPORT / started.len(), "{heard}");
        assert!(report.buffer.capacity() <= 2 * MAX_REPORT);
    }
}
