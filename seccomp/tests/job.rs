//! What the job's own filter answers, on both architectures.

mod common;

use cloister_seccomp::{Action, Arch, Errno, JOB, Profile};
use common::{call, number};

const ALLOW: Action = Action::Allow;
const NOTIFY: Action = Action::Notify;
const SUCCEED: Action = Action::Succeed;
const EPERM: Action = Action::Errno(Errno::Eperm);

/// Bits above those that the kernel takes.
const UPPER: u64 = 0xdead_beef_0000_0000;

#[test]
fn arguments_decide() {
    let cases: &[(&str, &[u64], Action)] = &[
        // A thread, a fork and a vfork as glibc makes them; then a process that shares descriptors.
        ("clone", &[0x003d_0f00], ALLOW),
        ("clone", &[0x0120_0011], ALLOW),
        ("clone", &[0x4111 | UPPER], ALLOW),
        ("clone", &[0x0411], Action::Errno(Errno::Einval)),
        ("clone", &[0x0711 | UPPER], Action::Errno(Errno::Einval)),
        // AF_NETLINK; AF_UNIX, AF_INET.
        ("socket", &[16, 3, 0], NOTIFY),
        ("socket", &[16 | UPPER, 0x8_0003 | UPPER, UPPER], NOTIFY),
        ("socket", &[1, 1, 0], ALLOW),
        ("socket", &[2, 2, 0], ALLOW),
        // Filters, with TSYNC and with NEW_LISTENER; strict mode, and the question for actions.
        ("seccomp", &[1, 0], NOTIFY),
        ("seccomp", &[1 | UPPER, 1 | UPPER], NOTIFY),
        ("seccomp", &[1, 8], EPERM),
        ("seccomp", &[1 | UPPER, 9 | UPPER], EPERM),
        ("seccomp", &[0, 0], ALLOW),
        ("seccomp", &[2, 8], ALLOW),
        // PR_SET_SECCOMP with a filter and with strict mode; PR_SET_NAME.
        ("prctl", &[22, 2], NOTIFY),
        ("prctl", &[0x16 | UPPER, 2], NOTIFY),
        ("prctl", &[22, 1], ALLOW),
        ("prctl", &[15, 2], ALLOW),
        // SO_SNDBUF, SO_RCVBUF; SO_RCVTIMEO; TCP_KEEPCNT, whose number is that of none of them.
        ("setsockopt", &[3, 1, 7], SUCCEED),
        ("setsockopt", &[3, 1 | UPPER, 8 | UPPER], SUCCEED),
        ("setsockopt", &[3, 1, 20], ALLOW),
        ("setsockopt", &[3, 6, 7], ALLOW),
        // RLIMIT_CORE, RLIMIT_NOFILE; then with a new limit, with none, with both.
        ("setrlimit", &[4, 1], SUCCEED),
        ("setrlimit", &[4 | UPPER, 1], SUCCEED),
        ("setrlimit", &[7, 1], ALLOW),
        ("prlimit64", &[0, 4 | UPPER, UPPER, 0], SUCCEED),
        ("prlimit64", &[0, 4, 0, 1], ALLOW),
        ("prlimit64", &[0, 4, 1, 1], EPERM),
        ("prlimit64", &[0, 4, 1, UPPER], EPERM),
        ("prlimit64", &[0, 7, 1, 1], ALLOW),
        // Everything else is for the cell's filter to say.
        ("read", &[0, 0, 0], ALLOW),
        ("ptrace", &[0, 0, 0], ALLOW),
    ];
    for arch in Arch::ALL {
        let program = Profile::parse(JOB).unwrap().compile(arch).unwrap();
        for &(name, args, expected) in cases {
            let answer = program.evaluate(&call(arch, number(arch, name), args));
            assert_eq!(answer, expected.code(), "{name} {args:x?} on {arch}: {answer:#x}");
        }
    }
}

/// Every call of every job passes through it.
#[test]
fn it_is_short() {
    for arch in Arch::ALL {
        let program = Profile::parse(JOB).unwrap().compile(arch).unwrap();
        assert!(program.instructions().len() < 90, "{}", program.instructions().len());
        for number in 0..600 {
            let steps = program.run(&call(arch, number, &[])).steps;
            assert!(steps <= 24, "call {number} on {arch} takes {steps} steps");
        }
    }
}
