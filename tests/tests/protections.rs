//! What a job may not do, tried: one attack for each protection, so that taking it away is noticed.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use cloister_tests::{COMPLETED, Service, census, execute, python, shell, verdict};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// Runs a Python program that tries something, and comes back with what it printed.
fn attempt(program: &str) -> String {
    let result = execute(&Service::runner(&[]), &python(program, &json!({}), 60.0));
    assert_eq!(verdict(&result), COMPLETED, "{result}");
    result["stdout"].as_str().unwrap().trim().to_owned()
}

/// The errors with which the kernel answers these calls of libc, by name.
fn answers(calls: &[&str]) -> String {
    let list = calls.join(", ");
    attempt(&format!(
        "import ctypes, errno\nc = ctypes.CDLL(None, use_errno=True)\n\
         def name(r): return errno.errorcode[ctypes.get_errno()] if r < 0 else 'done'\n\
         print(' '.join(name(f()) for f in [{list}]))"
    ))
}

/// The numbers are x86-64's; what the filter answers on another architecture is tested in its crate.
#[cfg(target_arch = "x86_64")]
#[test]
fn seccomp_refuses_what_jobs_have_no_use_for() {
    // By number: unshare(CLONE_NEWUSER), keyctl, bpf, perf_event_open, ptrace(TRACEME),
    // userfaultfd, add_key, mount, fsopen; then clone3, which libc must believe to be absent.
    let calls: Vec<String> = [
        "272, 0x10000000",
        "250, 0, 0",
        "321, 0, 0, 0",
        "298, 0, 0, 0, 0",
        "101, 0, 0, 0, 0",
        "323, 0",
        "248, 0, 0, 0, 0",
        "165, 0, 0, 0, 0, 0",
        "430, 0, 0",
        "425, 1, 0",
        "435, 0, 0",
    ]
    .iter()
    .map(|args| format!("lambda: c.syscall({args})"))
    .collect();
    let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
    let found = answers(&calls);
    let words: Vec<&str> = found.split(' ').collect();
    assert_eq!(words.len(), 11, "{found}");
    assert!(words[..9].iter().all(|word| *word == "EPERM"), "{found}");
    assert!(words[9..].iter().all(|word| ["ENOSYS", "EPERM"].contains(word)), "{found}");
    assert_eq!(words[10], "ENOSYS", "{found}");
}

#[test]
fn only_ordinary_sockets() {
    // AF_PACKET, AF_VSOCK, AF_ALG, AF_INET raw, netlink audit.
    let found = attempt(
        "import socket\n\
         for family, kind, proto in [(17, 3, 0), (40, 1, 0), (38, 5, 0), (2, 3, 1), (16, 3, 9)]:\n\
         \ttry: socket.socket(family, kind, proto); print('made', end=' ')\n\
         \texcept OSError: print('no', end=' ')\n\
         for family in (1, 2, 10):\n\
         \tsocket.socket(family, 1).close(); print('made', end=' ')",
    );
    assert_eq!(found, "no no no no no made made made");
}

#[test]
fn the_host_is_not_on_the_network() {
    let runner = Service::runner(&[]);
    let address = runner.client().base().trim_start_matches("http://").to_owned();
    let (_, port) = address.split_once(':').unwrap();
    // Its own runner, by loopback; a public and the metadata address, by no route at all.
    let program = format!(
        "import socket\n\
         for host, port in [('127.0.0.1', {port}), ('169.254.169.254', 80), ('192.0.2.1', 80)]:\n\
         \ttry: socket.create_connection((host, port), 2); print('connected')\n\
         \texcept OSError as e: print(e.errno)"
    );
    let result = execute(&runner, &python(&program, &json!({}), 30.0));
    // ECONNREFUSED, ENETUNREACH, ENETUNREACH
    assert_eq!(result["stdout"], "111\n101\n101\n", "{result}");
}

#[test]
fn the_kernel_is_not_configured_from_inside() {
    let program = r"
import os
for path in ['/proc/sys/kernel/core_pattern', '/proc/sys/kernel/hostname', '/proc/sys/vm/drop_caches',
             '/proc/sysrq-trigger', '/proc/kcore', '/proc/keys', '/proc/1/oom_score_adj']:
    try:
        fd = os.open(path, os.O_WRONLY)
        null = os.fstat(fd).st_rdev == os.makedev(1, 3)
        print(path, 'null' if null else 'OPENED')
    except OSError:
        pass
try: print('kcore', len(open('/proc/kcore', 'rb').read(64)))
except OSError: print('kcore 0')
print('keys', len(open('/proc/keys').read()))
";
    let found = attempt(program);
    assert!(!found.contains("OPENED"), "{found}");
    assert!(found.contains("kcore 0") && found.contains("keys 0"), "{found}");
}

#[test]
fn what_tells_of_the_host_is_masked() {
    let program = r"
import os
def mask(path):
    try: return os.stat(path).st_rdev == os.makedev(1, 3)
    except FileNotFoundError: return True
print([p for p in ('kcore', 'keys', 'sysrq-trigger', 'timer_list') if not mask('/proc/' + p)])
print([p for p in ('bus', 'sys')
       if os.path.exists('/proc/' + p) and not os.statvfs('/proc/' + p).f_flag & os.ST_RDONLY])
print([p for p in ('acpi', 'asound', 'driver', 'fs', 'irq', 'scsi')
       if os.path.exists('/proc/' + p) and os.listdir('/proc/' + p)])
";
    assert_eq!(attempt(program), "[]\n[]\n[]");
}

#[test]
fn a_score_is_not_lowered() {
    let program = "import os
print(open('/proc/self/oom_score_adj').read().strip())
try: os.write(os.open('/proc/self/oom_score_adj', os.O_WRONLY), b'-1'); print('lowered')
except OSError: print('refused')";
    assert_eq!(attempt(program), "500\nrefused");
}

#[test]
fn what_one_job_leaves_the_next_does_not_find() {
    let runner = Service::runner(&[]);
    let leave = "import ctypes, socket\n\
        c = ctypes.CDLL(None); print(c.shmget(0x4711, 4096, 0o1666) >= 0, c.semget(0x4711, 1, 0o1666) >= 0)\n\
        open('/tmp/left', 'w'); open('/dev/shm/left', 'w'); open('/job/left', 'w')";
    let result = execute(&runner, &python(leave, &json!({}), 30.0));
    assert_eq!(result["stdout"], "True True\n", "{result}");
    let find = "import ctypes, os\n\
        c = ctypes.CDLL(None); print(c.shmget(0x4711, 4096, 0) >= 0, c.semget(0x4711, 1, 0) >= 0)\n\
        print(os.listdir('/tmp'), os.listdir('/dev/shm'), os.listdir('/job'))";
    let result = execute(&runner, &python(find, &json!({}), 30.0));
    assert_eq!(result["stdout"], "False False\n[] [] []\n", "{result}");
}

#[test]
fn what_others_open_a_job_does_not_see() {
    let runner = Service::runner(&["--slots", "2"]);
    let watch = r"
import ctypes, os, select
c = ctypes.CDLL(None)
fd = c.inotify_init1(0)
for path in '/usr/bin', '/usr/bin/true', '/usr/lib', '/etc', '/dev', '/dev/null', '/dev/zero':
    assert c.inotify_add_watch(fd, path.encode(), 0xfff) >= 0, path
print(len(os.read(fd, 65536)) if select.select([fd], [], [], 3)[0] else 'nothing')
";
    let watched = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !watched.load(Ordering::Relaxed) {
                // Another cell of the same launcher, and the host.
                let job = shell("true; id > /dev/null; cat < /dev/null", &json!({}), 30.0);
                assert_eq!(verdict(&execute(&runner, &job)), COMPLETED);
                for path in ["/usr/bin/true", "/dev/null", "/dev/zero"] {
                    fs::File::open(path).unwrap();
                }
            }
        });
        let result = execute(&runner, &python(watch, &json!({}), 30.0));
        watched.store(true, Ordering::Relaxed);
        assert_eq!(result["stdout"], "nothing\n", "{result}");
    });
}

#[test]
fn each_job_is_another_user_outside() {
    let runner = Service::runner(&["--slots", "4"]);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let body = shell("sleep 98772", &json!({}), 300.0).to_string();
                let headers = [("content-type", "application/json")];
                // Cut off when all was seen.
                let _ = runner.client().try_post("/execute", &headers, body.as_bytes());
            });
        }
        let until = Instant::now() + Duration::from_secs(60);
        let sleeps = || {
            let found = census::processes("sleep 98772");
            found.into_iter().filter(|line| !line.contains("sh -c")).collect::<Vec<_>>()
        };
        while sleeps().len() < 4 {
            if Instant::now() > until {
                runner.signal(Signal::SIGKILL);
                panic!("{:?}", sleeps());
            }
            thread::sleep(Duration::from_millis(5));
        }
        let mut uids: Vec<String> = sleeps()
            .iter()
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .map(|pid| fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default())
            .map(|status| {
                status.lines().find(|line| line.starts_with("Uid:")).unwrap_or_default().to_owned()
            })
            .collect();
        runner.signal(Signal::SIGKILL);
        uids.sort();
        uids.dedup();
        assert_eq!(uids.len(), 4, "{uids:?}");
        assert!(uids.iter().all(|line| !line.contains("\t0\t")), "{uids:?}");
    });
}

#[test]
fn programs_do_not_become_root() {
    // su and mount are setuid where they are installed: nosuid and no_new_privs both say no.
    let result = execute(
        &Service::runner(&[]),
        &shell(
            "for p in /usr/bin/su /usr/bin/mount; do test -u $p && $p --version >/dev/null 2>&1; done; id -u",
            &json!({}),
            30.0,
        ),
    );
    assert_eq!(result["stdout"], "1000\n", "{result}");
    let found =
        answers(&["lambda: c.setuid(0)", "lambda: c.setgid(0)", "lambda: c.setgroups(0, None)"]);
    assert!(!found.contains("done"), "{found}");
}

#[test]
fn limits_of_memory_hold_for_what_is_no_heap() {
    let runner = Service::runner(&[]);
    let limits = json!({ "memory": "64MiB", "disk": "1GiB" });
    for (what, program) in [
        ("a memfd", "import os\nf = os.memfd_create('a')\nwhile True: os.write(f, bytes(1 << 20))"),
        (
            "shared memory",
            "import mmap\na = [mmap.mmap(-1, 1 << 20) for _ in range(512)]\nfor m in a: m.write(bytes(1 << 20))",
        ),
        ("a file in /tmp", "f = open('/tmp/a', 'wb')\nwhile True: f.write(bytes(1 << 20))"),
    ] {
        let result: Value = execute(&runner, &python(program, &limits, 60.0));
        assert_eq!(result["reason"], "out_of_memory", "{what}: {result}");
    }
}

#[test]
fn the_first_process_can_not_be_stopped_to_cheat_the_clock() {
    let program = "import os, signal\n\
        for s in (signal.SIGSTOP, signal.SIGKILL, signal.SIGTERM):\n\
        \ttry: os.kill(1, s)\n\
        \texcept OSError: pass\n\
        try: os.kill(-1, signal.SIGSTOP)\n\
        except OSError: pass\n\
        import time; time.sleep(60)";
    let result = execute(&Service::runner(&[]), &python(program, &json!({}), 1.0));
    assert_eq!(result["reason"], "timeout", "{result}");
}

#[test]
fn what_sockets_hold_is_memory_too() {
    // Queued and never read: 48 MiB would be a lie in a job of 16 MiB.
    let program = r"
import socket
server = socket.create_server(('127.0.0.1', 0), backlog=128)
kept, total = [], 0
try:
    for _ in range(64):
        a = socket.create_connection(server.getsockname()); b, _ = server.accept(); kept += [a, b]
        a.setblocking(False)
        try:
            while total < 256 << 20: total += a.send(bytes(1 << 16))
        except BlockingIOError: pass
except OSError: pass
print(total)
";
    let limits = json!({ "memory": "16MiB" });
    let result = execute(&Service::runner(&[]), &python(program, &limits, 30.0));
    if verdict(&result) == COMPLETED {
        let queued: u64 = result["stdout"].as_str().unwrap().trim().parse().unwrap();
        assert!(queued < 48 << 20, "{queued} bytes are queued: {result}");
    } else {
        assert!(
            ["out_of_memory", "timeout"].contains(&result["reason"].as_str().unwrap()),
            "{result}"
        );
    }
}

#[test]
fn sockets_take_no_programs() {
    // SO_ATTACH_FILTER, SO_ATTACH_BPF and the reuseport ones: kernel memory that no limit counts.
    let program = r"
import ctypes, errno, socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
code = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0xffff))
for option in (26, 50, 51, 52):
    try: s.setsockopt(socket.SOL_SOCKET, option, struct.pack('HxxxxxxQ', 1, ctypes.addressof(code))); print('attached')
    except OSError as e: print(errno.errorcode[e.errno])
";
    assert_eq!(attempt(program), "EPERM\nEPERM\nEPERM\nEPERM");
}
