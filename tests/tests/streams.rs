//! The streams of `cloister run`: the job has its own, and what goes through them is relayed whole.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use cloister_tests::{Scratch, cloister};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustix::{
    fs::{FlockOperation, fcntl_lock, flock},
    pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{LocalModes, OutputModes, Winsize, tcgetattr, tcsetwinsize},
};

/// More than any pipe holds.
const MUCH: usize = 100 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

/// `cloister run` of that command.
fn run(command: &[&str]) -> Command {
    let mut run = Command::new(cloister());
    run.args(["run", "--timeout", "60s", "--"]).args(command);
    run
}

fn python(program: &str) -> Command {
    run(&["/usr/bin/python3", "-c", program])
}

fn sh(line: &str) -> Command {
    run(&["sh", "-c", line])
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn ended(output: &Output) -> (Option<i32>, String, String) {
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

/// Leaves the peer that a socket has, and goes to another; tells what happened.
const LEAVE: &str = "
import ctypes, socket, struct, sys
port = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
nobody = struct.pack('H14x', socket.AF_UNSPEC)
there = struct.pack('!2sH4s8x', struct.pack('H', socket.AF_INET), port, socket.inet_aton('127.0.0.1'))
for number in 0, 1:
    libc.connect(number, nobody, len(nobody))
    if libc.connect(number, there, len(there)) == 0:
        libc.send(number, b'through', 7, 0)
        sys.stderr.write('through')
";

fn leave(port: u16) -> Command {
    let mut command = python(LEAVE);
    command.arg(port.to_string());
    command
}

#[test]
fn a_tcp_socket_leads_nowhere_else() {
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let forbidden = TcpListener::bind("127.0.0.1:0").unwrap();
    forbidden.set_nonblocking(true).unwrap();
    let socket = TcpStream::connect(peer.local_addr().unwrap()).unwrap();
    let output = leave(forbidden.local_addr().unwrap().port())
        .stdin(OwnedFd::from(socket.try_clone().unwrap()))
        .stdout(OwnedFd::from(socket))
        .output()
        .unwrap();
    assert_eq!(ended(&output), (Some(0), String::new(), String::new()));
    assert_eq!(forbidden.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn a_udp_socket_leads_nowhere_else() {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let forbidden = UdpSocket::bind("127.0.0.1:0").unwrap();
    forbidden.set_nonblocking(true).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(peer.local_addr().unwrap()).unwrap();
    let output = leave(forbidden.local_addr().unwrap().port())
        .stdin(OwnedFd::from(socket))
        .output()
        .unwrap();
    assert_eq!(ended(&output), (Some(0), String::new(), String::new()));
    assert_eq!(forbidden.recv(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn sockets_are_relayed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    let mut child = run(&["cat"])
        .stdin(OwnedFd::from(socket.try_clone().unwrap()))
        .stdout(OwnedFd::from(socket))
        .spawn()
        .unwrap();
    let mut writer = peer.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let sent = writer.write_all(&pattern(MUCH / 4));
        writer.shutdown(std::net::Shutdown::Write).unwrap();
        sent
    });
    let mut got = Vec::new();
    peer.read_to_end(&mut got).unwrap();
    sender.join().unwrap().unwrap();
    assert!(got == pattern(MUCH / 4), "{} bytes came back", got.len());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_datagram_is_relayed_whole() {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(peer.local_addr().unwrap()).unwrap();
    peer.connect(socket.local_addr().unwrap()).unwrap();
    peer.send(&pattern(60_000)).unwrap();
    let output = run(&["head", "-c", "60000"]).stdin(OwnedFd::from(socket)).output().unwrap();
    assert!(output.stdout == pattern(60_000), "{:?}", output.status);
}

#[test]
fn a_file_is_only_written_to() {
    let folder = Scratch::new("streams");
    let path = folder.join("output");
    fs::write(&path, "before ").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let mut file = File::options().read(true).write(true).open(&path).unwrap();
    file.seek(io::SeekFrom::End(0)).unwrap();
    let mut child = python(
        "
import fcntl, mmap, os
for attempt in (
    lambda: os.fchmod(1, 0o6755),
    lambda: os.ftruncate(1, 0),
    lambda: os.lseek(1, 0, 0),
    lambda: os.pwrite(1, b'#', 0),
    lambda: mmap.mmap(1, 1)[:1],
    lambda: os.open('/dev/stdout', os.O_RDWR | os.O_TRUNC),
    lambda: fcntl.lockf(1, fcntl.LOCK_EX | fcntl.LOCK_NB),
    lambda: fcntl.flock(1, fcntl.LOCK_EX | fcntl.LOCK_NB),
):
    try:
        attempt()
    except (OSError, ValueError):
        pass
os.write(1, b'after')
os.write(2, b'ready')
os.read(0, 1)
",
    )
    .stdin(Stdio::piped())
    .stdout(file.try_clone().unwrap())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    child.stderr.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap();
    let other = File::options().write(true).open(&path).unwrap();
    for lock in [flock, fcntl_lock] {
        lock(&other, FlockOperation::NonBlockingLockExclusive).expect("a lock that is not held");
        lock(&other, FlockOperation::Unlock).unwrap();
    }
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
    assert_eq!(fs::read_to_string(&path).unwrap(), "before after");
    assert_eq!(file.stream_position().unwrap(), 12);
}

#[test]
fn a_file_may_be_opened_for_appending() {
    let folder = Scratch::new("streams");
    let path = folder.join("log");
    fs::write(&path, "before ").unwrap();
    let file = File::options().append(true).open(&path).unwrap();
    assert_eq!(sh("echo after").stdout(file).status().unwrap().code(), Some(0));
    assert_eq!(fs::read_to_string(&path).unwrap(), "before after\n");
}

#[test]
fn the_callers_pipe_is_not_the_jobs() {
    // At its wrong end it could be read: what others write to it, too.
    let (reader, writer) = io::pipe().unwrap();
    (&writer).write_all(b"of others").unwrap();
    let output = python(
        "
import os
os.set_blocking(1, False)
fd = os.open('/proc/self/fd/1', os.O_RDONLY | os.O_NONBLOCK)
try:
    os.write(2, os.read(fd, 99))
except BlockingIOError:
    pass
",
    )
    .stdout(writer.try_clone().unwrap())
    .stderr(Stdio::piped())
    .output()
    .unwrap();
    assert_eq!(ended(&output), (Some(0), String::new(), String::new()));
    let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
    assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK), "{flags:?}");
    drop(writer);
    assert_eq!(io::read_to_string(reader).unwrap(), "of others");
}

#[test]
fn what_the_job_does_not_read_stays() {
    let job = ["sh", "-c", "read line; echo \"$line\""];
    let input = "first\nsecond\nthird\n";
    // From a pipe.
    let (mut reader, writer) = io::pipe().unwrap();
    (&writer).write_all(input.as_bytes()).unwrap();
    let output = run(&job).stdin(reader.try_clone().unwrap()).output().unwrap();
    assert_eq!(ended(&output), (Some(0), "first\n".into(), String::new()));
    drop(writer);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "second\nthird\n");
    // From a file.
    let folder = Scratch::new("streams");
    let path = folder.join("input");
    fs::write(&path, input).unwrap();
    let mut file = File::open(&path).unwrap();
    let mut job = Command::new(cloister())
        .args(["run", "--", "/usr/bin/python3", "-c", "import os; os.read(0, 6)"])
        .stdin(file.try_clone().unwrap())
        .spawn()
        .unwrap();
    assert_eq!(job.wait().unwrap().code(), Some(0));
    assert_eq!(io::read_to_string(&mut file).unwrap(), "second\nthird\n");
    // And a loop is one, although its commands share its input.
    let line = "printf '1\\n2\\n3\\n' | while read -r i; do \"$0\" run -- echo \"$i\"; done";
    let output = Command::new("sh").args(["-c", line]).arg(cloister()).output().unwrap();
    assert_eq!(ended(&output), (Some(0), "1\n2\n3\n".into(), String::new()));
}

#[test]
fn a_slow_reader_gets_all() {
    let mut child = sh("head -c 104857600 /dev/zero | tr '\\0' x; printf end")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut piece = vec![0; 1 << 20];
    let (mut length, mut last) = (0, Vec::new());
    loop {
        match stdout.read(&mut piece).unwrap() {
            0 => break,
            read => {
                length += read;
                last = piece[..read].to_vec();
                // Slower than the job writes: it is made to wait.
                poll(&mut [], PollTimeout::from(1u8)).unwrap();
            }
        }
    }
    assert_eq!(length, MUCH + 3);
    assert!(last.ends_with(b"end"));
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_is_read_after_the_end_is_complete() {
    let folder = Scratch::new("streams");
    let report = folder.join("report");
    // More than the caller's pipe holds, and less than that and the job's.
    let mut child = Command::new(cloister())
        .args(["run", "--report", report.to_str().unwrap(), "--", "head", "-c", "100000"])
        .arg("/dev/zero")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let until = Instant::now() + PATIENCE;
    while !fs::metadata(&report).is_ok_and(|file| file.len() > 0) {
        assert!(Instant::now() < until, "the job does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut output = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut output).unwrap();
    assert_eq!(output.len(), 100_000);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn all_of_the_input_arrives() {
    let folder = Scratch::new("streams");
    let path = folder.join("input");
    fs::write(&path, pattern(MUCH)).unwrap();
    let sum =
        Command::new("/usr/bin/sha256sum").stdin(File::open(&path).unwrap()).output().unwrap();
    let output = run(&["sha256sum"]).stdin(File::open(&path).unwrap()).output().unwrap();
    assert_eq!(ended(&output), ended(&sum));
    let mut cat = Command::new("/usr/bin/cat").arg(&path).stdout(Stdio::piped()).spawn().unwrap();
    let output = run(&["sha256sum"]).stdin(cat.stdout.take().unwrap()).output().unwrap();
    assert_eq!(ended(&output), ended(&sum));
    assert!(cat.wait().unwrap().success());
}

#[test]
fn a_reader_that_is_gone_ends_the_job() {
    let (reader, writer) = io::pipe().unwrap();
    let mut child = run(&["yes"]).stdout(writer).spawn().unwrap();
    let mut reader = io::BufReader::new(reader);
    reader.read_exact(&mut [0; 2]).unwrap();
    drop(reader);
    assert_eq!(child.wait().unwrap().code(), Some(128 + Signal::SIGPIPE as i32));
}

#[test]
fn output_that_is_lost_is_told() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = sh("echo lost").stdout(full).stderr(Stdio::piped()).output().unwrap();
    let (code, _, said) = ended(&output);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("standard output cannot be written to: No space left"), "{said}");
}

#[test]
fn streams_that_are_one_stay_one() {
    let (reader, writer) = io::pipe().unwrap();
    let mut child = sh("i=0; while [ $i -lt 999 ]; do i=$((i+1)); echo $i; echo $i >&2; done")
        .stdout(writer.try_clone().unwrap())
        .stderr(writer)
        .spawn()
        .unwrap();
    let expected: String = (1..1000).flat_map(|i| [format!("{i}\n"), format!("{i}\n")]).collect();
    assert_eq!(io::read_to_string(reader).unwrap(), expected);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

fn pattern(length: usize) -> Vec<u8> {
    (0..251).cycle().take(length).collect()
}

/// A terminal, and who sits at it.
struct Terminal {
    person: File,
    slave: OwnedFd,
    /// What was shown.
    shown: String,
}

impl Terminal {
    fn new() -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
        Self { person: master.into(), slave, shown: String::new() }
    }

    fn stream(&self) -> OwnedFd {
        self.slave.try_clone().unwrap()
    }

    /// Starts a program in a session of its own, of which this is the controlling terminal.
    fn start(&self, program: &Command) -> Command {
        let mut command = Command::new("/usr/bin/setsid");
        command.args(["--ctty", "--wait"]).arg(program.get_program()).args(program.get_args());
        command.stdin(self.stream()).stdout(self.stream()).stderr(self.stream());
        command
    }

    /// All that stty(1) tells.
    fn modes(&self) -> String {
        let stty = Command::new("/usr/bin/stty").arg("-g").stdin(self.stream()).output().unwrap();
        assert!(stty.status.success());
        text(&stty.stdout)
    }

    fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.slave).unwrap();
        !modes.local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
            && !modes.output_modes.contains(OutputModes::OPOST)
    }

    fn type_in(&mut self, keys: &str) {
        self.person.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until this is shown.
    fn expect(&mut self, words: &str) {
        while !self.shown.contains(words) {
            let mut events = [PollFd::new(self.person.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(PATIENCE).unwrap();
            assert_eq!(poll(&mut events, timeout), Ok(1), "{words:?} is not in {:?}", self.shown);
            let mut piece = [0; 4096];
            let length = self.person.read(&mut piece).unwrap();
            self.shown += &text(&piece[..length]);
        }
        let end = self.shown.find(words).unwrap() + words.len();
        self.shown.drain(..end);
    }
}

#[test]
fn a_terminal_has_its_modes_back() {
    let mut terminal = Terminal::new();
    let before = terminal.modes();
    let job = "stty raw -echo; echo ready; read -r line; exit 3";
    // Its own end.
    let mut child = terminal.start(&sh(job)).spawn().unwrap();
    terminal.expect("ready");
    assert!(terminal.is_raw());
    terminal.type_in("go\n");
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert_eq!(terminal.modes(), before);
    // Ours.
    for ending in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
        let mut child = terminal.start(&sh(job)).spawn().unwrap();
        terminal.expect("ready");
        assert!(terminal.is_raw());
        signal(&child, ending);
        assert_eq!(child.wait().unwrap().code(), Some(128 + ending as i32));
        assert_eq!(terminal.modes(), before, "{ending}");
    }
    // That of its time.
    let mut timed = Command::new(cloister());
    timed.args(["run", "--timeout", "0.5", "--", "sh", "-c", job]);
    assert_eq!(terminal.start(&timed).status().unwrap().code(), Some(124));
    assert_eq!(terminal.modes(), before);
    // A cell that is not made.
    let mut refused = Command::new(cloister());
    refused.args(["run", "--", "no-such-program"]);
    assert_eq!(terminal.start(&refused).status().unwrap().code(), Some(127));
    assert_eq!(terminal.modes(), before);
    assert!(!tcgetattr(&terminal.slave).unwrap().local_modes.is_empty());
}

#[test]
fn a_terminal_works() {
    let mut terminal = Terminal::new();
    let size = |rows| Winsize { ws_row: rows, ws_col: 70, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&terminal.slave, size(30)).unwrap();
    let job = "
import os, signal, sys, time
def tell(*_): print('size', *os.get_terminal_size(), flush=True)
signal.signal(signal.SIGWINCH, tell)
tell()
print([os.isatty(i) for i in range(3)], os.tcgetpgrp(0) == os.getpgrp(), flush=True)
print('line', repr(sys.stdin.readline()), repr(sys.stdin.readline()), flush=True)
while True: time.sleep(60)
";
    let mut child = terminal.start(&python(job)).spawn().unwrap();
    terminal.expect("size 70 30\r\n");
    // And it is the job's controlling terminal.
    terminal.expect("[True, True, True] True\r\n");
    terminal.type_in("wrogn\x7f\x7fng\n");
    terminal.type_in("\x04");
    terminal.expect("line 'wrong\\n' ''\r\n");
    tcsetwinsize(&terminal.slave, size(31)).unwrap();
    terminal.expect("size 70 31\r\n");
    terminal.type_in("\x03");
    // Python was told to interrupt.
    terminal.expect("KeyboardInterrupt");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn what_was_typed_ahead_arrives() {
    let mut terminal = Terminal::new();
    terminal.type_in("one\n\x04");
    let mut child = terminal.start(&run(&["od", "-c"])).spawn().unwrap();
    terminal.expect("0000000   o   n   e  \\n\r\n0000004\r\n");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_terminal_for_input_alone_gives_lines() {
    let mut terminal = Terminal::new();
    let before = terminal.modes();
    let mut child =
        terminal.start(&sh("echo ready >&2; cat")).stdout(Stdio::piped()).spawn().unwrap();
    terminal.expect("ready\r\n");
    // Other programs of a pipeline use it, too.
    assert_eq!(terminal.modes(), before);
    terminal.type_in("one\ntwo\x04\n\x04");
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    assert_eq!(output, "one\ntwo\n");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    // What they are asked for is not read: a pager has set its own modes.
    let mut modes = tcgetattr(&terminal.slave).unwrap();
    modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
    rustix::termios::tcsetattr(&terminal.slave, rustix::termios::OptionalActions::Now, &modes)
        .unwrap();
    let mut child =
        terminal.start(&sh("echo ready >&2; cat")).stdout(Stdio::piped()).spawn().unwrap();
    terminal.expect("ready\r\n");
    terminal.type_in("key");
    // Once it has looked.
    signal(&child, Signal::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let mut events = [PollFd::new(terminal.slave.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut events, PollTimeout::ZERO), Ok(1), "the keys are gone");
    let mut keys = [0; 3];
    rustix::io::read(&terminal.slave, &mut keys).unwrap();
    assert_eq!(&keys, b"key");
}

#[test]
fn a_command_in_the_background_leaves_the_terminal_alone() {
    let mut terminal = Terminal::new();
    let before = terminal.modes();
    let mut shell = Command::new("/bin/bash");
    let line = "set -m; \"$0\" run --timeout 1s -- sh -c 'echo ready; read -r line; echo stole' & \
                wait %1; echo \"ended $?\"; read -r line; echo \"the shell has $line\"";
    shell.args(["--norc", "-c", line]).arg(cloister());
    let mut child = terminal.start(&shell).spawn().unwrap();
    terminal.expect("ready");
    assert_eq!(terminal.modes(), before);
    terminal.type_in("words\n");
    terminal.expect("ended 124");
    terminal.expect("the shell has words");
    assert!(child.wait().unwrap().success());
    assert_eq!(terminal.modes(), before);
}

#[test]
fn a_command_that_comes_to_the_foreground_goes_on() {
    let mut terminal = Terminal::new();
    let mut shell = Command::new("/bin/bash");
    let line = "set -m; \"$0\" run -- sh -c 'echo ready; read -r line; echo \"read $line\"' & \
                read -r line; fg %1; echo \"ended $?\"";
    shell.args(["--norc", "-c", line]).arg(cloister());
    let mut child = terminal.start(&shell).spawn().unwrap();
    terminal.expect("ready");
    // The second line is there before the command has the terminal: nothing new comes when it does.
    terminal.type_in("for the shell\nfor the job\n");
    terminal.expect("read for the job");
    terminal.expect("ended 0");
    assert!(child.wait().unwrap().success());
}
