//! A service that was taken over: it speaks to its launcher as it likes. Nothing that it sends makes
//! the launcher do more than a request could, or keeps it from its work.
//!
//! Without libtest's harness, since the launcher is forked while the process has one thread.

mod common;

use std::{
    fs, io,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use cloister_api::{Program, Status, Task};
use cloister_sandbox::{Config, Engine, Host, Launcher};
use common::{children, only_child, run};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketType, recvmsg, sendmsg, sockopt::socket_type,
};
use serde::{Deserialize, Serialize};

/// What the launcher understands, written down once more.
#[derive(Clone, Copy, Debug, Serialize)]
enum Request {
    Prepare { cell: u64, sizes: Sizes, host_network: bool, stdio: bool },
    Kill { cell: u64 },
    Release { cell: u64 },
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Sizes {
    cpu_quota_us: u64,
    memory: u64,
    pids: u64,
    disk: u64,
}

/// What it answers, as far as it matters here.
#[derive(Debug, PartialEq, Deserialize)]
enum Reply {
    Hello(String),
    Unfit(String),
    Ready { cell: u64 },
    Failed { cell: u64, step: u32, errno: i32 },
}

const GOOD: Sizes = Sizes { cpu_quota_us: 50_000, memory: 64 << 20, pids: 16, disk: 1 << 20 };
/// Ids that the engine, which counts from 1, does not come to.
const FIRST: u64 = 1 << 40;

/// The launcher and its socket, which the service found among its descriptors.
struct Victim {
    pid: u32,
    socket: OwnedFd,
    host: Host,
}

type Test = fn(&Victim);

fn main() {
    let launcher = Launcher::fork(&Config { max_cells: Some(8), ..Config::default() });
    let launcher = launcher.expect("cells can be made here: this test runs as root");
    let socket = find_socket().expect("the launcher's socket is a descriptor of the service");
    let victim = Victim { pid: only_child(), socket, host: launcher.host().clone() };
    // Once round, so that what is made on first use is there.
    victim.make_and_release(FIRST);
    let before = victim.census();

    let tests: [(&str, Test); 6] = [
        ("garbage_is_ignored", garbage),
        ("forged_sizes_are_refused", forged_sizes),
        ("ids_are_used_once", used_ids),
        ("the_hosts_network_is_not_given", host_network),
        ("descriptors_are_three_or_none", descriptors),
        ("a_flood_is_survived", flood),
    ];
    let count = tests.len() + 1;
    println!("\nrunning {count} tests");
    for (name, test) in tests {
        test(&victim);
        victim.settles(&before);
        println!("test {name} ... ok");
    }
    a_good_request_still_works(launcher, victim);
    let left: Vec<_> = before.folders.iter().filter(|folder| folder.exists()).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    println!("test a_good_request_still_works ... ok");
    println!("\ntest result: ok. {count} passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
}

fn garbage(victim: &Victim) {
    let good = postcard::to_stdvec(&Request::Kill { cell: 1 }).unwrap();
    let trailing = [good.as_slice(), &[0]].concat();
    let prepare = postcard::to_stdvec(&asked(FIRST)).unwrap();
    let long = vec![0; 100_000];
    // An empty packet is none of these: it looks as if the service had ended.
    let packets: [&[u8]; 6] =
        [&[0xff], &[3, 0], &[0x80; 16], &trailing, &prepare[..prepare.len() - 1], &long];
    for packet in packets {
        victim.send_bytes(packet, &[]).unwrap();
    }
    for request in [Request::Kill { cell: u64::MAX }, Request::Release { cell: u64::MAX }] {
        victim.send(&request, &[]).unwrap();
    }
    victim.make_and_release(FIRST);
}

fn forged_sizes(victim: &Victim) {
    let cores = u64::try_from(victim.host.cores).unwrap();
    let (memory, full) = (victim.host.memory.0, u64::MAX);
    for sizes in [
        Sizes { cpu_quota_us: 0, ..GOOD },
        Sizes { cpu_quota_us: cores * 100_000 + 1, ..GOOD },
        // In nanoseconds this is as much as a small number.
        Sizes { cpu_quota_us: (full / 1000) + 1, ..GOOD },
        Sizes { cpu_quota_us: full, ..GOOD },
        Sizes { memory: 0, ..GOOD },
        Sizes { memory: memory + 1, ..GOOD },
        Sizes { memory: full, ..GOOD },
        Sizes { pids: 0, ..GOOD },
        Sizes { pids: 1 << 22, ..GOOD },
        Sizes { pids: full, ..GOOD },
        Sizes { disk: 0, ..GOOD },
        Sizes { disk: full, ..GOOD },
    ] {
        let request = Request::Prepare { cell: FIRST, sizes, host_network: false, stdio: false };
        victim.send(&request, &[]).unwrap();
        victim.hear_refusal(FIRST);
    }
}

fn used_ids(victim: &Victim) {
    victim.send(&asked(FIRST), &[]).unwrap();
    let cell = victim.hear_ready(FIRST);
    victim.send(&asked(FIRST), &[]).unwrap();
    victim.hear_refusal(FIRST);
    // More than there may be at once.
    let more: Vec<_> = (FIRST + 1..FIRST + 8)
        .map(|id| {
            victim.send(&asked(id), &[]).unwrap();
            victim.hear_ready(id)
        })
        .collect();
    victim.send(&asked(FIRST + 8), &[]).unwrap();
    victim.hear_refusal(FIRST + 8);
    drop((cell, more));
    for id in FIRST..FIRST + 9 {
        victim.send(&Request::Release { cell: id }, &[]).unwrap();
    }
}

fn host_network(victim: &Victim) {
    let request = Request::Prepare { cell: FIRST, sizes: GOOD, host_network: true, stdio: false };
    victim.send(&request, &[]).unwrap();
    victim.hear_refusal(FIRST);
}

fn descriptors(victim: &Victim) {
    let null: OwnedFd = fs::File::open("/dev/null").unwrap().into();
    let many = [null.as_fd(); 100];
    let with = |stdio| Request::Prepare { cell: FIRST, sizes: GOOD, host_network: false, stdio };
    for (stdio, count) in [
        (true, 0),
        (true, 1),
        (true, 2),
        (true, 4),
        (true, 16),
        (true, 100),
        (false, 1),
        (false, 3),
    ] {
        victim.send(&with(stdio), &many[..count]).unwrap();
        victim.hear_refusal(FIRST);
    }
    for request in [Request::Kill { cell: FIRST }, Request::Release { cell: FIRST }] {
        victim.send(&request, &many).unwrap();
    }
    victim.send_bytes(&[0xff; 40], &many).unwrap();
    victim.send(&with(true), &many[..3]).unwrap();
    drop(victim.hear_ready(FIRST));
    victim.send(&Request::Release { cell: FIRST }, &[]).unwrap();
}

/// Ten thousand packets, half of them noise and half requests with some bytes changed, each with a
/// few descriptors or none. What they happen to make is taken away again.
fn flood(victim: &Victim) {
    const SEED: u64 = 20_26;
    let mut random = StdRng::seed_from_u64(SEED);
    let null: OwnedFd = fs::File::open("/dev/null").unwrap().into();
    let many = [null.as_fd(); 20];
    let mut made = Vec::new();
    for _ in 0..10_000 {
        let packet: Vec<u8> = if random.random() {
            let length = random.random_range(1..64);
            (0..length).map(|_| random.random()).collect()
        } else {
            let cell = FIRST + random.random_range(0..4);
            let request = match random.random_range(0..8) {
                0 => Request::Kill { cell },
                1 => Request::Release { cell },
                _ => asked(cell),
            };
            let mut packet = postcard::to_stdvec(&request).unwrap();
            let at = random.random_range(0..packet.len());
            packet[at] = random.random();
            packet
        };
        let fds = [0, 0, 0, 3, 20][random.random_range(0..5)];
        victim.send_bytes(&packet, &many[..fds]).unwrap();
        // All of it: were both sides to fill the socket, each would wait for the other.
        while let Some(reply) = victim.hear(false).0 {
            if let Reply::Ready { cell } = reply {
                made.push(cell);
            }
        }
    }
    // Whatever is still in the queue comes before the answer to this.
    let last = u64::MAX - 1;
    let request = Request::Prepare {
        cell: last,
        sizes: Sizes { memory: 0, ..GOOD },
        host_network: false,
        stdio: false,
    };
    victim.send(&request, &[]).unwrap();
    loop {
        match victim.hear(true).0 {
            Some(Reply::Ready { cell }) => made.push(cell),
            Some(Reply::Failed { cell, .. }) if cell == last => break,
            Some(Reply::Failed { .. }) => {}
            other => panic!("the launcher answered {other:?}"),
        }
    }
    assert!(!made.is_empty(), "none of them was a request that makes a cell");
    for cell in made {
        victim.send(&Request::Release { cell }, &[]).unwrap();
    }
}

/// The engine takes the same socket, and a job runs as if nothing had been.
fn a_good_request_still_works(launcher: Launcher, victim: Victim) {
    // The copy of the socket would keep the launcher.
    drop(victim);
    let engine = Engine::start(launcher, || panic!("the launcher has ended")).unwrap();
    let (_ticket, hear) = run(&engine, Task::new(Program::Command("echo well; id -u".into())));
    let outcome = hear.recv_timeout(Duration::from_secs(60)).expect("the job ends");
    assert_eq!(outcome.status, Status::Completed, "{outcome:?}");
    assert_eq!(outcome.stdout.as_deref(), Some("well\n1000\n"), "{outcome:?}");
    engine.stop();
}

fn asked(cell: u64) -> Request {
    Request::Prepare { cell, sizes: GOOD, host_network: false, stdio: false }
}

/// What the launcher holds, and what there is of it.
#[derive(Clone, Debug, PartialEq)]
struct Census {
    descriptors: usize,
    children: usize,
    mounts: usize,
    /// Its cgroups, with all that is in them.
    folders: Vec<PathBuf>,
}

impl Victim {
    fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_bytes(&postcard::to_stdvec(request).unwrap(), fds)
    }

    fn send_bytes(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(100))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds)));
        sendmsg(&self.socket, &[io::IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next answer with its descriptors; `None` if there is none now and none is waited for.
    fn hear(&self, wait: bool) -> (Option<Reply>, Vec<OwnedFd>) {
        let mut buffer = vec![0; 1 << 16];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut flags = RecvFlags::CMSG_CLOEXEC;
        flags.set(RecvFlags::DONTWAIT, !wait);
        let mut slices = [io::IoSliceMut::new(&mut buffer)];
        let received = match recvmsg(&self.socket, &mut slices, &mut control, flags) {
            Err(rustix::io::Errno::AGAIN) if !wait => return (None, Vec::new()),
            received => received.expect("the launcher answers"),
        };
        assert!(received.bytes > 0, "the launcher has ended");
        let fds = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => Some(rights),
            _ => None,
        });
        let fds = fds.flatten().collect();
        let (reply, _) = postcard::take_from_bytes(&buffer[..received.bytes]).unwrap();
        (Some(reply), fds)
    }

    /// What belongs to a cell that was asked for; without it the cell ends.
    fn hear_ready(&self, cell: u64) -> Vec<OwnedFd> {
        let (reply, fds) = self.hear(true);
        assert_eq!(reply, Some(Reply::Ready { cell }));
        fds
    }

    /// A refusal by the launcher's own judgement, before anything is made.
    fn hear_refusal(&self, cell: u64) {
        let (reply, fds) = self.hear(true);
        assert_eq!(reply, Some(Reply::Failed { cell, step: 0, errno: libc::EPERM }));
        assert!(fds.is_empty());
    }

    fn make_and_release(&self, cell: u64) {
        self.send(&asked(cell), &[]).unwrap();
        drop(self.hear_ready(cell));
        self.send(&Request::Release { cell }, &[]).unwrap();
    }

    fn census(&self) -> Census {
        // Answered after everything that was asked for before.
        let request = Request::Prepare {
            cell: 0,
            sizes: Sizes { memory: 0, ..GOOD },
            host_network: false,
            stdio: false,
        };
        self.send(&request, &[]).unwrap();
        self.hear_refusal(0);
        let pid = self.pid;
        let count = |path: String| fs::read_dir(path).unwrap().count();
        let lines = |path: String| fs::read_to_string(path).unwrap();
        Census {
            descriptors: count(format!("/proc/{pid}/fd")),
            children: children(pid).len(),
            mounts: lines(format!("/proc/{pid}/mountinfo")).lines().count(),
            folders: cgroups_of(pid),
        }
    }

    /// Waits until all is as it was: a cgroup may be busy for a moment, and is removed with the next
    /// release.
    fn settles(&self, before: &Census) {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            self.send(&Request::Release { cell: 0 }, &[]).unwrap();
            let now = self.census();
            if now == *before {
                return;
            }
            assert!(Instant::now() < until, "left behind: {now:#?}\nbefore: {before:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The launcher's socket is the one that keeps packets apart.
fn find_socket() -> Option<OwnedFd> {
    let numbers = fs::read_dir("/proc/self/fd").ok()?.flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.filter(|number| *number > 2).find_map(|number| {
        // SAFETY: it was just listed, and this process's only thread has closed nothing since.
        #[allow(unsafe_code)]
        let listed = unsafe { BorrowedFd::borrow_raw(number) };
        let opened = listed.try_clone_to_owned().ok()?;
        (socket_type(&opened) == Ok(SocketType::SEQPACKET)).then_some(opened)
    })
}

/// The folders of a launcher in every hierarchy with all below them. It holds them open, which tells
/// their name.
fn cgroups_of(launcher: u32) -> Vec<PathBuf> {
    let open = fs::read_dir(format!("/proc/{launcher}/fd")).unwrap().flatten();
    let name = open
        .filter_map(|fd| fs::read_link(fd.path()).ok()?.file_name().map(ToOwned::to_owned))
        .find(|name| name.to_string_lossy().starts_with("cloister-"))
        .expect("the launcher holds its cgroup open");
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), &mut |path| {
        if path.components().any(|part| part.as_os_str() == name) {
            found.push(path.to_owned());
        }
    });
    found.sort();
    assert!(!found.is_empty(), "{} is nowhere", name.display());
    found
}

fn walk(folder: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            visit(&entry.path());
            walk(&entry.path(), visit);
        }
    }
}
