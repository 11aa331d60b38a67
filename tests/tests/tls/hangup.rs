//! SIGHUP at moments that are not those of an operator: during the start, and from a terminal.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use cloister_tests::{Client, Scratch, cloister};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Waits until it is so. There is no event for what processes do that are not this one's.
fn until(what: &str, good: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !good() {
        assert!(Instant::now() < end, "not within 30 s: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// An address that was free a moment ago.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn answers(address: SocketAddr) -> bool {
    let client = Client::new(format!("http://{address}"));
    client.try_get("/health").is_ok_and(|answer| answer.status == 200)
}

/// A process that is ended when the test is.
struct Ended(Child);

impl Ended {
    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().try_into().unwrap())
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        for _ in 0..2 {
            if self.0.try_wait().is_ok_and(|status| status.is_none()) {
                let _ = kill(self.pid(), Signal::SIGTERM);
            }
        }
        let _ = self.0.wait();
    }
}

#[test]
fn a_sighup_during_the_start_waits() {
    let (folder, address) = (Scratch::new("early"), free());
    let log = folder.join("log");
    let runner = Command::new(cloister())
        .args(["runner", "--listen", &address.to_string(), "--spool"])
        .arg(folder.join("spool"))
        .stdin(Stdio::null())
        .stdout(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let runner = Ended(runner);
    // The launcher is there long before there is anybody to read files again.
    let children = format!("/proc/{0}/task/{0}/children", runner.0.id());
    until("the launcher is there", || {
        fs::read_to_string(&children).is_ok_and(|children| !children.is_empty())
    });
    kill(runner.pid(), Signal::SIGHUP).unwrap();
    until("it was carried out", || {
        let gone = fs::metadata(&children).is_err();
        assert!(!gone, "it ended the runner");
        fs::read_to_string(&log).unwrap().contains("nothing to read again")
    });
    until("it answers", || answers(address));
}

#[test]
fn a_terminal_that_is_gone_drains() {
    let (folder, address) = (Scratch::new("terminal"), free());
    let (data, pid, status) = (folder.join("data"), folder.join("pid"), folder.join("status"));
    // The terminal's SIGHUP is for the shell, which passes it on as an interactive one would, and
    // outlives it to tell how the service ended.
    let line = format!(
        "trap 'kill -HUP $service' HUP; {} coordinator --listen {address} --store sqlite:{}/a.db \
         --runner-url http://127.0.0.1:9 & service=$!; echo $service >{}; \
         wait $service; wait $service; echo $? >{}",
        cloister().display(),
        data.display(),
        pid.display(),
        status.display()
    );
    // Whoever runs the tests may ignore SIGHUP, as nohup(1) does, and a shell traps nothing that it was
    // born to ignore.
    let terminal = Command::new("/usr/bin/env")
        .args(["--default-signal=HUP", "/usr/bin/script", "--quiet", "--command", &line])
        .arg("/dev/null")
        .env("SHELL", "/bin/bash")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut terminal = Ended(terminal);
    until("it answers", || answers(address));
    let service = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    let service = Orphan(Pid::from_raw(service));
    terminal.0.kill().unwrap();
    terminal.0.wait().unwrap();
    until("it ends", || fs::read_to_string(&status).is_ok_and(|text| !text.is_empty()));
    assert_eq!(fs::read_to_string(&status).unwrap(), "0\n", "as after a drain");
    // Its id may be another's by now.
    std::mem::forget(service);
}

/// The service, should it outlive its terminal and the test.
struct Orphan(Pid);

impl Drop for Orphan {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGTERM);
    }
}
