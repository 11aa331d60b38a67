//! What the processes say to each other.
//!
//! Engine and launcher exchange whole packets over one `SOCK_SEQPACKET` socket, with descriptors
//! attached. The engine and a cell's PID 1 share a stream socket of their own, on which frames are
//! prefixed by their length. Neither side of the launcher's socket ever sends a command, a path or
//! an environment: the launcher sees numbers only, and checks each against its own bounds.

use std::{
    io::{self, ErrorKind},
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    cgroup::{Folder, Record},
    error::Fault,
};

/// The most descriptors that one packet carries.
const MAX_FDS: usize = 17;
/// The largest packet on the launcher's socket but for its first: numbers only. It is received on the
/// stack: what the launcher writes to its heap, the next cell pays for with a copied page.
const MAX_PACKET: usize = 256;
/// The launcher's first packet: a `Hello` with every remedy spelt out.
const MAX_GREETING: usize = 64 << 10;

/// The largest frame that PID 1 takes. Linux refuses arguments and environment beyond a quarter of
/// the stack limit (2 MiB by default, execve(2)), long before this.
pub(crate) const MAX_START: usize = 32 << 20;
/// The largest frame that the engine takes from a cell: three numbers of at most ten bytes and a
/// byte for what they mean, and some room.
pub(crate) const MAX_STATUS: usize = 64;

/// Identifies a cell between engine and launcher; never reused within a launcher's life.
pub(crate) type CellId = u64;

/// From the engine to the launcher.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Make a cell. With `stdio`, its three descriptors are attached.
    Prepare { cell: CellId, sizes: Sizes, host_network: bool, stdio: bool },
    /// Kill everything in it (only where there is no `cgroup.kill`).
    Kill { cell: CellId },
    /// It has ended and its records were read: reap it and remove its cgroup.
    Release { cell: CellId },
}

/// The limits that are set from outside the cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sizes {
    /// CPU time, microseconds, in each period of 100 milliseconds.
    pub(crate) cpu_quota_us: u64,
    /// Bytes of memory and swap.
    pub(crate) memory: u64,
    /// Processes and threads of the job, PID 1 not counted.
    pub(crate) pids: u64,
    /// Bytes of the writable file system.
    pub(crate) disk: u64,
}

/// From the launcher to the engine.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The first packet: it is set up, and this is what the host gives (a [`crate::Host`], as JSON:
    /// its parts are shared with the wire types of HTTP, which leave out what is absent, and this
    /// compact form can't). Attached: its folders, below which each cell's are.
    Hello { host: String, folders: Vec<Folder> },
    /// The first packet: it can't work.
    Unfit(String),
    /// The cell exists. Attached, in this order: its control socket, its pidfd, and what
    /// [`Attached`] says.
    Ready { cell: CellId, attached: Attached },
    /// It does not.
    Failed { cell: CellId, fault: Fault },
}

/// Which descriptors follow the control socket and the pidfd of a `Ready`, in this order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Attached {
    /// The service's ends of standard input, output and error.
    pub(crate) pipes: bool,
    /// `cgroup.kill`, opened for writing.
    pub(crate) kill: bool,
    /// The CPU bandwidth, opened for writing.
    pub(crate) brake: bool,
    /// An eventfd that counts memory shortages (cgroup v1).
    pub(crate) oom: bool,
    /// Files of the cgroup in which the kernel counts.
    pub(crate) records: Vec<Record>,
}

/// From the engine to a cell's PID 1: the one command of its life.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) argv: Vec<String>,
    /// `NAME=value`, complete.
    pub(crate) env: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) rlimits: Rlimits,
}

/// Limits of each process.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rlimits {
    pub(crate) open_files: u64,
    pub(crate) file_size: u64,
    /// Seconds of CPU; the backstop behind the engine's own timer.
    pub(crate) cpu: Option<u64>,
    /// Only where no cgroup counts processes.
    pub(crate) processes: Option<u64>,
}

/// From a cell's PID 1 to the engine. Times are `CLOCK_MONOTONIC`, nanoseconds.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Status {
    /// The cell could not be finished; the command never ran.
    Broken(Fault),
    /// The command could not be executed: the job's own failure.
    NotExecuted(Fault),
    /// The exec happened.
    Started { at: u64 },
    /// The job's first process ended.
    Exited { code: i32, signal: i32, at: u64 },
}

/// What one packet brought.
pub(crate) struct Packet<T> {
    pub(crate) message: T,
    pub(crate) fds: Vec<OwnedFd>,
    /// Whether all its descriptors came: a process that may open no more gets only some of them.
    pub(crate) whole: bool,
}

/// Sends one packet with descriptors.
pub(crate) fn send<T: Serialize>(
    socket: &OwnedFd,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("more descriptors than a packet carries"));
    }
    sendmsg(socket, &[io::IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one packet with its descriptors (close-on-exec); `None` when the peer is gone,
/// `WouldBlock` when there is none and `wait` is false.
pub(crate) fn receive<T: DeserializeOwned>(
    socket: &OwnedFd,
    wait: bool,
) -> io::Result<Option<Packet<T>>> {
    receive_in(&mut [0; MAX_PACKET], socket, wait)
}

/// Waits for the launcher's first packet.
pub(crate) fn receive_greeting(socket: &OwnedFd) -> io::Result<Option<Packet<Reply>>> {
    receive_in(&mut vec![0; MAX_GREETING], socket, true)
}

fn receive_in<T: DeserializeOwned>(
    buffer: &mut [u8],
    socket: &OwnedFd,
    wait: bool,
) -> io::Result<Option<Packet<T>>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut flags = RecvFlags::CMSG_CLOEXEC;
    flags.set(RecvFlags::DONTWAIT, !wait);
    let received = recvmsg(socket, &mut [io::IoSliceMut::new(buffer)], &mut control, flags)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    // What was cut off could still read as something else than was sent.
    let cut = received.flags.contains(ReturnFlags::TRUNC);
    let bytes = buffer.get(..received.bytes).filter(|_| !cut).ok_or_else(unknown)?;
    let message = decode(bytes)?;
    Ok(Some(Packet { message, fds, whole: !received.flags.contains(ReturnFlags::CTRUNC) }))
}

/// A message that is all of `bytes`.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        _ => Err(unknown()),
    }
}

fn unknown() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "a message that this version does not know")
}

/// A message as a frame: its length in four bytes, little-endian, and itself.
pub(crate) fn frame<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut frame = postcard::to_extend(message, vec![0; 4]).map_err(io::Error::other)?;
    let length = u32::try_from(frame.len() - 4).map_err(io::Error::other)?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    Ok(frame)
}

/// Takes one frame off the front of `buffer` where it is there as a whole. One of more than `max`
/// bytes is an error as soon as it says so.
pub(crate) fn unframe<T: DeserializeOwned>(
    buffer: &mut Vec<u8>,
    max: usize,
) -> io::Result<Option<T>> {
    let Some(length) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*length) as usize;
    if length > max {
        return Err(unknown());
    }
    let Some(bytes) = buffer.get(4..4 + length) else {
        return Ok(None);
    };
    let message = decode(bytes)?;
    buffer.drain(..4 + length);
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Step;

    #[test]
    fn frames_come_out_whole_and_in_order() {
        let first = Status::Started { at: 7 };
        let second = Status::Broken(Fault { step: Step::Scratch, errno: 12 });
        let bytes = [frame(&first).unwrap(), frame(&second).unwrap()].concat();
        let mut seen = Vec::new();
        let mut buffer = Vec::new();
        for byte in bytes {
            buffer.push(byte);
            seen.extend(unframe::<Status>(&mut buffer, MAX_STATUS).unwrap());
        }
        assert_eq!(seen, [first, second]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_frame_that_claims_too_much_is_refused() {
        for claim in [MAX_STATUS + 1, u32::MAX as usize] {
            let mut buffer = u32::try_from(claim).unwrap().to_le_bytes().to_vec();
            assert!(unframe::<Status>(&mut buffer, MAX_STATUS).is_err());
        }
    }

    #[test]
    fn the_longest_status_fits() {
        let longest = Status::Exited { code: i32::MIN, signal: i32::MIN, at: u64::MAX };
        let mut buffer = frame(&longest).unwrap();
        assert_eq!(unframe(&mut buffer, MAX_STATUS).unwrap(), Some(longest));
    }

    #[test]
    fn trailing_bytes_are_no_frame() {
        let mut buffer = frame(&Status::Started { at: 7 }).unwrap();
        buffer.push(0);
        buffer[0] += 1;
        assert!(unframe::<Status>(&mut buffer, MAX_STATUS).is_err());
    }

    #[test]
    fn a_packet_that_was_cut_off_is_none() {
        let (ours, theirs) =
            crate::sys::socket_pair(nix::sys::socket::SockType::SeqPacket).unwrap();
        // As long as what is taken: what is left after the cut would read well.
        let text = "x".repeat(MAX_PACKET - 3);
        let mut bytes = postcard::to_stdvec(&Reply::Unfit(text)).unwrap();
        assert_eq!(bytes.len(), MAX_PACKET);
        nix::unistd::write(&ours, &bytes).unwrap();
        assert!(receive::<Reply>(&theirs, true).is_ok());
        bytes.push(b'x');
        nix::unistd::write(&ours, &bytes).unwrap();
        assert!(receive::<Reply>(&theirs, true).is_err());
    }

    #[test]
    fn trailing_bytes_are_no_packet() {
        let (ours, theirs) =
            crate::sys::socket_pair(nix::sys::socket::SockType::SeqPacket).unwrap();
        let mut bytes = postcard::to_stdvec(&Request::Kill { cell: 1 }).unwrap();
        bytes.push(0);
        nix::unistd::write(&ours, &bytes).unwrap();
        assert!(receive::<Request>(&theirs, true).is_err());
    }
}
