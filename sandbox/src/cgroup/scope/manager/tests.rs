//! Against a manager made here. Whether it is like systemd's, the virtual machine tells
//! (`tests/tests/unprivileged.rs`).

use std::{
    os::unix::net::UnixListener,
    path::PathBuf,
    thread::{self, JoinHandle},
};

use nix::unistd::getpid;
use zbus::{Type, wire::Endian};

use super::{
    super::message::sent::{refused, removed, returned},
    *,
};

const UNIT: &str = "cloister-test.scope";
const ENOUGH: Duration = Duration::from_secs(60);

/// One conversation with whatever `talk` makes of it, on a socket that is removed when dropped.
struct Fake {
    path: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    fn new(name: &str, talk: impl FnOnce(UnixStream) + Send + 'static) -> Self {
        let path = std::env::temp_dir().join(format!("cloister-{}-{name}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let thread = thread::spawn(move || talk(listener.accept().unwrap().0));
        Self { path, thread: Some(thread) }
    }

    /// One that lets everybody in, and answers the call with these messages.
    fn answering(name: &str, messages: Vec<Vec<u8>>) -> Self {
        Self::new(name, move |mut stream| {
            let login = line(&mut stream).unwrap();
            let digits = login.strip_prefix("\0AUTH EXTERNAL ").unwrap();
            let pairs = (0..digits.len()).step_by(2).map(|at| &digits[at..at + 2]);
            let uid = pairs.map(|pair| char::from(u8::from_str_radix(pair, 16).unwrap()));
            assert_eq!(uid.collect::<String>(), geteuid().to_string());
            stream.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n").unwrap();
            assert_eq!(line(&mut stream).unwrap(), "BEGIN");
            let call = Message::read(&mut stream).unwrap();
            assert_eq!(call.kind, Kind::Other);
            stream.write_all(&messages.concat()).unwrap();
        })
    }

    fn ask(&self, patience: Duration) -> io::Result<()> {
        Manager::connect(&self.path, patience)?.start_scope(UNIT, getpid())
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let ended = self.thread.take().expect("it is joined once").join();
        assert!(ended.is_ok() || thread::panicking(), "the fake manager was not satisfied");
    }
}

#[test]
fn a_scope_is_there_once_its_job_is_done() {
    let done = removed(Endian::Little, UNIT, "done");
    let other = removed(Endian::Little, "other.scope", "failed");
    for (name, messages) in [
        ("reply-first", vec![returned(1), other.clone(), done.clone()]),
        ("signal-first", vec![other, done, returned(1)]),
        ("big-endian", vec![returned(1), removed(Endian::Big, UNIT, "done")]),
    ] {
        Fake::answering(name, messages).ask(ENOUGH).unwrap();
    }
}

#[test]
fn what_the_manager_says_is_passed_on() {
    for (name, messages, words) in [
        ("refused", vec![refused(1, "Not you")], "Not you"),
        ("failed", vec![returned(1), removed(Endian::Little, UNIT, "failed")], "\"failed\""),
        // It hangs up before the job is done, or after the reply to some other call.
        ("gone", vec![returned(1)], "it hung up"),
        ("other-call", vec![returned(2), removed(Endian::Little, UNIT, "done")], "it hung up"),
    ] {
        let error = Fake::answering(name, messages).ask(ENOUGH).unwrap_err().to_string();
        assert!(error.contains(words), "{name}: {error}");
    }
}

#[test]
fn nobody_is_waited_for_without_end() {
    let patience = Duration::from_millis(200);
    // Silent until we hang up.
    let silent = Fake::new("silent", |mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let error = silent.ask(patience).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    // Always another byte, never a line.
    let trickling = Fake::new("trickling", |mut stream| while stream.write_all(b"x").is_ok() {});
    assert!(trickling.ask(patience).is_err());
}

#[test]
fn a_stranger_is_not_let_in() {
    let strict = Fake::new("strict", |mut stream| {
        line(&mut stream).unwrap();
        stream.write_all(b"REJECTED EXTERNAL\r\n").unwrap();
    });
    let error = strict.ask(ENOUGH).unwrap_err().to_string();
    assert!(error.contains("REJECTED"), "{error}");
}

#[test]
fn the_request_is_what_systemd_documents() {
    let request = start(UNIT, Pid::from_raw(7));
    assert_eq!(<Start as Type>::SIGNATURE.to_string_no_parens(), "ssa(sv)a(sa(sv))");
    let bytes = call(&START, SERIAL, &request).unwrap();
    let contains = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    // Lengths, values and their ends, as the specification lays them out.
    assert!(contains(b"\x08\x01g\0\x10ssa(sv)a(sa(sv))\0"), "{bytes:?}");
    assert!(contains(b"\x08\0\0\0Delegate\0\x01b\0\x01\0\0\0"), "{bytes:?}");
    assert!(contains(b"\x04\0\0\0PIDs\0\x02au\0"), "{bytes:?}");
    assert_eq!(bytes[..4], [b'l', 1, 0, 1]);
}
