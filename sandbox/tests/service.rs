//! A service that was taken over: whoever runs code in the process that listens has its descriptors
//! and its memory, and nothing else of the machine.
//!
//! The test starts itself as such a service. It confines itself as the program does, tries what an
//! intruder would try, and prints a line for each try. Once more without the confinement, as a control:
//! what fails there as well proves nothing.
//!
//! Without libtest's harness, since a service is confined while the process has one thread.
#![allow(unsafe_code, reason = "raw system calls")]

use std::{
    collections::BTreeMap,
    env,
    ffi::CStr,
    fs,
    io::{self, Write},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::AsFd,
        linux::net::SocketAddrExt,
        unix::{
            fs::{FileExt, PermissionsExt},
            net,
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    ptr, thread,
};

use cloister_sandbox::{Confinement, Needs, Spool, drop_privileges, service_enforcement};
use nix::{
    fcntl::{OFlag, openat},
    sys::stat::Mode,
};

/// How a service is started here.
const CONFINED: &str = "confined";
const FREE: &str = "free";
const ABSTRACT: &str = "cloister-test-of-the-service";

fn main() {
    let args: Vec<String> = env::args().collect();
    if let [_, kind, folder, open, closed] = args.as_slice()
        && [CONFINED, FREE].contains(&kind.as_str())
    {
        let [open, closed] = [open, closed].map(|port| port.parse().expect("a port"));
        return victim(kind == CONFINED, Path::new(folder), open, closed);
    }
    assert!(nix::unistd::geteuid().is_root(), "this test runs as root");
    println!("\nrunning 1 test");
    intruder();
    println!("test an_intruder_gets_no_further ... ok");
    println!("\ntest result: ok. 1 passed; 0 failed; 0 ignored;\n");
}

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn intruder() {
    let folder = Folder(PathBuf::from(format!("/var/tmp/cloister-service-{}", std::process::id())));
    for below in ["", "store", "spool", "secrets", "elsewhere"] {
        fs::create_dir(folder.0.join(below)).unwrap();
        // What the user's rights leave open is for the confinement to close.
        fs::set_permissions(folder.0.join(below), fs::Permissions::from_mode(0o777)).unwrap();
    }
    let listeners = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let address = net::SocketAddr::from_abstract_name(ABSTRACT).unwrap();
    let _abstract = net::UnixListener::bind_addr(&address).unwrap();
    let ports = listeners.each_ref().map(|one| one.local_addr().unwrap().port().to_string());
    let start = |kind: &str| {
        // What the service that is not confined made there would be in the way of the other.
        let _ = fs::remove_file(folder.0.join("spool/named"));
        let _ = fs::remove_dir(folder.0.join("spool/below"));
        for file in ["secrets/token", "secrets/spare", "elsewhere/private"] {
            fs::write(folder.0.join(file), "text\n").unwrap();
            fs::set_permissions(folder.0.join(file), fs::Permissions::from_mode(0o666)).unwrap();
        }
        let mut command = Command::new(env::current_exe().unwrap());
        command.arg(kind).arg(&folder.0).args(&ports).stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{kind}: {:?}", output.status);
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().map(|line| line.rsplit_once(": ").expect(line));
        lines.map(|(name, end)| (name.to_owned(), end.to_owned())).collect::<BTreeMap<_, _>>()
    };
    let (free, confined) = (start(FREE), start(CONFINED));
    assert_eq!(free.keys().collect::<Vec<_>>(), confined.keys().collect::<Vec<_>>());
    let mut wrong = Vec::new();
    for (name, end) in &confined {
        let (kind, what) = name.split_once(' ').unwrap();
        // The domain knows these from some ABI on, which the line in `cloister check` says.
        if let Some(abi) = kind.strip_prefix("refused-from-abi-")
            && landlock_abi() < abi.parse::<i64>().unwrap()
        {
            println!("    not here: {what} needs Landlock ABI {abi}");
            continue;
        }
        let expected = if kind == "works" { end == "ok" } else { end != "ok" };
        if !expected {
            wrong.push(format!("{name}: {end}"));
        }
        // Some need rights that root of this machine may lack (lockdown, a container).
        if kind != "works" && free[name] != "ok" {
            println!("    no control: {what} is {} without confinement too", free[name]);
        }
        if kind == "works" {
            assert_eq!(free[name], "ok", "{name}");
        }
    }
    assert!(wrong.is_empty(), "of {} tries: {wrong:#?}", confined.len());
    let lacks: Vec<_> = service_enforcement().into_iter().filter(|line| !line.enforced).collect();
    assert!(lacks.is_empty(), "this host, or this build, does not confine a service: {lacks:?}");
    let controls = free.iter().filter(|(name, end)| !name.starts_with("works") && *end == "ok");
    assert!(controls.count() >= 25, "{free:#?}");
}

/// The Landlock ABI of this kernel.
fn landlock_abi() -> i64 {
    // SAFETY: with this flag (LANDLOCK_CREATE_RULESET_VERSION) the kernel reads no memory.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, ptr::null::<u8>(), 0, 1) }
}

/// The service: confines itself as `up` does, then does what it is not to.
fn victim(confined: bool, folder: &Path, open: u16, closed: u16) {
    let spool = fs::File::open(folder.join("spool")).expect("it is there");
    if confined {
        let needs = Needs {
            files: vec![folder.join("secrets/token")],
            store: Some(folder.join("store/cloister.db")),
            spool: Some(Spool { folder: spool.as_fd(), names: false }),
            names: false,
            ports: Some(vec![open]),
        };
        let confinement = Confinement::prepare(&needs, None).expect("it can be prepared");
        drop_privileges(cloister_sandbox::SERVICE_UID).expect("privileges can be dropped");
        confinement.enter().expect("it can be entered");
    }
    // Everything also from a thread, since threads are what serves.
    thread::scope(|scope| {
        scope.spawn(|| tries(folder, &spool, open, closed)).join().expect("no try panics");
    });
    // Last, since it ends this process where it works.
    let error = Command::new("/bin/echo").arg("refused executing a program: ok").exec();
    tell::<()>("refused executing a program", Err(error));
}

fn tries(folder: &Path, spool: &fs::File, open: u16, closed: u16) {
    works(folder, open);
    outputs(folder, spool);
    files(folder);
    connections(closed);
    calls();
}

fn tell<T>(what: &str, result: io::Result<T>) {
    let end = match result {
        Ok(_) => "ok".into(),
        Err(error) => error.raw_os_error().map_or("error".into(), |errno| format!("errno-{errno}")),
    };
    let mut out = io::stdout().lock();
    writeln!(out, "{what}: {end}").and_then(|()| out.flush()).expect("the parent reads");
}

/// What a service does.
fn works(folder: &Path, open: u16) {
    let store = folder.join("store");
    tell("works making a file of the store", fs::write(store.join("cloister.db"), "text"));
    tell("works reading it", fs::read(store.join("cloister.db")));
    tell("works listing the store", fs::read_dir(&store));
    tell("works removing a file of the store", fs::remove_file(store.join("cloister.db")));
    let token = folder.join("secrets/token");
    tell("works reading a file again", fs::read(&token));
    tell("works connecting to its runner", TcpStream::connect((Ipv4Addr::LOCALHOST, open)));
    tell("works reading the load", fs::read("/proc/loadavg"));
    tell("works dropping a stream", fs::OpenOptions::new().write(true).open("/dev/null"));
    tell("works starting a thread", thread::Builder::new().spawn(|| {}).map(|t| t.join().is_ok()));
}

/// What a runner does with large outputs, and no more.
fn outputs(folder: &Path, spool: &fs::File) {
    let user = Mode::S_IRUSR | Mode::S_IWUSR;
    let nameless = || openat(spool, ".", OFlag::O_RDWR | OFlag::O_TMPFILE | OFlag::O_EXCL, user);
    let keep = || {
        let file = fs::File::from(nameless()?);
        file.write_all_at(b"text", 10)?;
        file.read_exact_at(&mut [0; 14], 0)
    };
    tell("works keeping an output", keep());
    tell("refused naming a file of the spool", {
        openat(spool, "named", OFlag::O_RDWR | OFlag::O_CREAT, user).map_err(io::Error::from)
    });
    tell("refused listing the spool", fs::read_dir(folder.join("spool")));
    tell("refused making a folder in the spool", fs::create_dir(folder.join("spool/below")));
}

fn files(folder: &Path) {
    let elsewhere = folder.join("elsewhere");
    let private = elsewhere.join("private");
    tell("refused reading a private file", fs::read(&private));
    tell("refused listing a private folder", fs::read_dir(&elsewhere));
    tell("refused writing a private file", fs::OpenOptions::new().append(true).open(&private));
    tell(
        "refused-from-abi-3 truncating a private file",
        nix::unistd::truncate(&private, 5).map_err(io::Error::from),
    );
    tell("refused making a file elsewhere", fs::write(elsewhere.join("new"), ""));
    tell(
        "refused writing a file that it reads",
        fs::OpenOptions::new().append(true).open(folder.join("secrets/token")),
    );
    tell(
        "refused removing a file beside one that it reads",
        fs::remove_file(folder.join("secrets/spare")),
    );
    tell("refused reading /etc/shadow", fs::read("/etc/shadow"));
    tell("refused reading /etc/passwd", fs::read("/etc/passwd"));
    tell("refused listing /var", fs::read_dir("/var"));
    tell("refused listing /tmp", fs::read_dir("/tmp"));
    tell("refused making a file in /tmp", {
        let path = format!("/tmp/cloister-service-{}", std::process::id());
        fs::write(&path, "").and_then(|()| fs::remove_file(path))
    });
    tell("refused linking a private file into the store", {
        let linked = folder.join("store/linked");
        fs::hard_link(&private, &linked).and_then(|()| fs::remove_file(linked))
    });
    tell("refused making a link in the store", {
        let link = folder.join("store/link");
        std::os::unix::fs::symlink("/", &link).and_then(|()| fs::remove_file(link))
    });
    tell("refused making a file of the store set-id", {
        let path = folder.join("store/set-id");
        let file = fs::File::create(&path).expect("the store can be written");
        let made = file.set_permissions(fs::Permissions::from_mode(0o6755));
        fs::remove_file(path).expect("and emptied");
        made
    });
    tell(
        "refused reading the memory of the parent",
        fs::read(format!("/proc/{}/environ", nix::unistd::getppid())),
    );
}

fn connections(closed: u16) {
    tell(
        "refused-from-abi-4 connecting elsewhere",
        TcpStream::connect((Ipv4Addr::LOCALHOST, closed)),
    );
    tell("refused listening on a port", TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    tell("refused listening on an unbound socket", {
        call(libc::SYS_socket, &[2, 1, 0, 0, 0])
            .and_then(|socket| call(libc::SYS_listen, &[socket, 1, 0, 0, 0]))
    });
    let address = net::SocketAddr::from_abstract_name(ABSTRACT).expect("a name");
    tell(
        "refused-from-abi-6 connecting to an abstract socket",
        net::UnixStream::connect_addr(&address),
    );
    for (name, family, kind) in [
        ("packet", libc::AF_PACKET, libc::SOCK_RAW),
        ("raw", libc::AF_INET, libc::SOCK_RAW),
        ("vsock", libc::AF_VSOCK, libc::SOCK_STREAM),
        ("alg", libc::AF_ALG, libc::SOCK_SEQPACKET),
    ] {
        tell(
            &format!("refused a socket: {name}"),
            call(
                libc::SYS_socket,
                &[family.into(), kind.into(), i64::from(family == libc::AF_INET) * 255, 0, 0],
            ),
        );
    }
    tell("works a socket for names", UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)));
}

/// The address of a string.
fn text(text: &'static CStr) -> i64 {
    i64::try_from(text.as_ptr().expose_provenance()).expect("an address of user space")
}

/// One system call.
fn call(number: i64, given: &[i64]) -> io::Result<i64> {
    let mut args = [0; 6];
    args[..given.len()].copy_from_slice(given);
    // SAFETY: numbers; where an address is wanted, null or that of a static string, which is read.
    let result =
        unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn calls() {
    let parent = i64::from(nix::unistd::getppid().as_raw());
    let own = i64::from(std::process::id());
    let (read_write, exec) =
        (i64::from(libc::PROT_READ | libc::PROT_WRITE), i64::from(libc::PROT_EXEC));
    let private = i64::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    tell("works memory", call(libc::SYS_mmap, &[0, 4096, read_write, private, -1]));
    for (what, number, args) in [
        ("memory to write and execute", libc::SYS_mmap, &[0, 4096, read_write | exec, private, -1]),
        ("memory to execute", libc::SYS_mmap, &[0, 4096, exec, private, -1]),
        ("a file in memory", libc::SYS_memfd_create, &[text(c"x"), 0, 0, 0, 0]),
        ("signalling the parent", libc::SYS_kill, &[parent, 0, 0, 0, 0]),
        ("a descriptor of a process", libc::SYS_pidfd_open, &[parent, 0, 0, 0, 0]),
        ("reading another's memory", libc::SYS_process_vm_readv, &[own, 0, 0, 0, 0]),
        ("ptrace", libc::SYS_ptrace, &[i64::from(libc::PTRACE_SEIZE), parent, 0, 0, 0]),
        ("a user namespace", libc::SYS_unshare, &[0, 0, 0, 0, 0]),
        ("a mount tree", libc::SYS_fsopen, &[text(c"tmpfs"), 0, 0, 0, 0]),
        ("a key ring", libc::SYS_keyctl, &[0, -3, 0, 0, 0]),
        ("io_uring", libc::SYS_io_uring_register, &[-1, 0, 0, 0, 0]),
        ("userfaultfd", libc::SYS_userfaultfd, &[1, 0, 0, 0, 0]),
        ("personality", libc::SYS_personality, &[0xffff_ffff, 0, 0, 0, 0]),
        ("another process's limits", libc::SYS_prlimit64, &[parent, 0, 0, 0, 0]),
        ("perf", libc::SYS_perf_event_open, &[0, 0, -1, -1, 0]),
        ("bpf", libc::SYS_bpf, &[0, 0, 0, 0, 0]),
        ("the kernel's log", libc::SYS_syslog, &[10, 0, 0, 0, 0]),
        ("changing users", libc::SYS_setresuid, &[-1, -1, -1, 0, 0]),
        ("a capability", libc::SYS_prctl, &[i64::from(libc::PR_CAP_AMBIENT), 4, 0, 0, 0]),
        ("typing into a terminal", libc::SYS_ioctl, &[0, 0x5412, 0, 0, 0]),
    ] {
        tell(&format!("refused {what}"), call(number, args));
    }
    #[cfg(target_arch = "x86_64")]
    tell("refused a process", {
        // vfork's flags by clone, without a stack of its own: a copy, which ends at once.
        call(libc::SYS_clone, &[i64::from(libc::SIGCHLD), 0, 0, 0, 0]).inspect(|pid| {
            if *pid == 0 {
                // SAFETY: ends the copy.
                unsafe { libc::_exit(0) }
            }
        })
    });
}
