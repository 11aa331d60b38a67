//! The conversation with a systemd manager: one connection, one request, one time limit
//! (org.freedesktop.systemd1(5)).

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use nix::unistd::{Pid, geteuid};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
    sockopt::{Timeout, set_socket_timeout},
};
use zbus::Variant;

use super::message::{Kind, Message, Method, call};

const START: Method = Method {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
    member: "StartTransientUnit",
};
const JOB_REMOVED: &str = "org.freedesktop.systemd1.Manager.JobRemoved";
/// The only call of a connection.
const SERIAL: u32 = 1;

/// A property of a unit.
type Property = (&'static str, Variant<'static>);
/// Name, mode, properties, and auxiliary units, of which there are none.
type Start<'a> = (&'a str, &'static str, Vec<Property>, Vec<(&'static str, Vec<Property>)>);
/// Of `JobRemoved`: the job's number and path, the unit, and how it ended.
type Removed = (u32, zbus::OwnedObjectPath, String, String);

/// A connection to a manager.
pub(super) struct Manager {
    stream: Patient,
}

impl Manager {
    /// Connects and logs in, as the user that this process is. `patience` is for the whole conversation.
    pub(super) fn connect(path: &Path, patience: Duration) -> io::Result<Self> {
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // Where nobody accepts, connecting waits too.
        set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
        let until = Instant::now() + patience;
        connect(&socket, &SocketAddrUnix::new(path)?).map_err(|error| late(error.into()))?;
        let mut stream = Patient { stream: UnixStream::from(socket), until };
        authenticate(&mut stream)?;
        Ok(Self { stream })
    }

    /// Has the manager make a scope of this name, delegated, and move a process into it; comes back
    /// when that is done.
    pub(super) fn start_scope(&mut self, name: &str, pid: Pid) -> io::Result<()> {
        self.stream.write_all(&call(&START, SERIAL, &start(name, pid))?)?;
        let mut replied = false;
        // The signal may come before the reply that says which job it is: so the unit's name decides.
        let mut ended = None;
        loop {
            match &ended {
                Some(result) if replied && result == "done" => return Ok(()),
                Some(result) if replied => {
                    return Err(io::Error::other(format!("its start ended with {result:?}")));
                }
                _ => {}
            }
            let message = Message::read(&mut self.stream)?;
            match &message.kind {
                Kind::Return(SERIAL) => replied = true,
                Kind::Error(SERIAL, name) => {
                    let words = message.arguments::<(String,)>().map(|(words,)| words);
                    return Err(io::Error::other(words.unwrap_or_else(|_| name.clone())));
                }
                Kind::Signal(signal) if signal == JOB_REMOVED => {
                    let (_, _, unit, result) = message.arguments::<Removed>()?;
                    if unit == name {
                        ended = Some(result);
                    }
                }
                _ => {}
            }
        }
    }
}

/// The request for a scope that may be built in, and that leaves nothing behind, not even the record of
/// a failure.
fn start(name: &str, pid: Pid) -> Start<'_> {
    let pids = vec![u32::try_from(pid.as_raw()).unwrap_or_default()];
    let properties = vec![
        ("Description", "Cloister's cells".into()),
        ("PIDs", Variant::new(pids)),
        ("Delegate", true.into()),
        // Each job has a limit of its own, and the user's slice has one too.
        ("TasksMax", u64::MAX.into()),
        ("CollectMode", "inactive-or-failed".into()),
    ];
    (name, "fail", properties, Vec::new())
}

/// EXTERNAL: the kernel tells the other side who we are (the D-Bus specification, "Authentication
/// Protocol"). One zero byte goes before the first line.
fn authenticate(stream: &mut Patient) -> io::Result<()> {
    let digits = geteuid().to_string();
    // In hexadecimal: a digit is a 3 and itself.
    let digits: String = digits.chars().flat_map(|digit| ['3', digit]).collect();
    stream.write_all(format!("\0AUTH EXTERNAL {digits}\r\n").as_bytes())?;
    let answer = line(stream)?;
    if !answer.starts_with("OK ") {
        return Err(io::Error::other(format!("it does not let this user in ({answer:?})")));
    }
    stream.write_all(b"BEGIN\r\n")
}

/// One line of text, without its end. Byte by byte: what comes after it is no text.
fn line(stream: &mut impl Read) -> io::Result<String> {
    const LONGEST: usize = 1024;
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
        if line.len() > LONGEST {
            return Err(io::Error::other("it does not speak D-Bus"));
        }
    }
    line.truncate(line.len() - 2);
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// A stream that is over at a moment, however slowly the other side trickles.
struct Patient {
    stream: UnixStream,
    until: Instant,
}

impl Patient {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Instant::now());
        // Zero would mean for ever.
        if left.is_zero() { Err(late(io::ErrorKind::WouldBlock.into())) } else { Ok(Some(left)) }
    }
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        match self.stream.read(buffer).map_err(late)? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up")),
            count => Ok(count),
        }
    }
}

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes).map_err(late)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket's time-out is told as "temporarily unavailable", which helps nobody.
fn late(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        return io::Error::new(io::ErrorKind::TimedOut, "it does not answer in time");
    }
    error
}

#[cfg(test)]
mod tests;
