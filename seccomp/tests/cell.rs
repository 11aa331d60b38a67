//! What the cell's profile answers, on both architectures.

mod common;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use cloister_seccomp::{Action, Arch, Errno, SeccompData};
use common::{call, cell, decide, group_of, number};

const ALLOW: Action = Action::Allow;
const EPERM: Action = Action::Errno(Errno::Eperm);
const ENODEV: Action = Action::Errno(Errno::Enodev);
const EINVAL: Action = Action::Errno(Errno::Einval);
const ENOPROTOOPT: Action = Action::Errno(Errno::Enoprotoopt);
const ENOMEM: Action = Action::Errno(Errno::Enomem);
const ENOSYS: Action = Action::Errno(Errno::Enosys);
const EOPNOTSUPP: Action = Action::Errno(Errno::Eopnotsupp);
const EAFNOSUPPORT: Action = Action::Errno(Errno::Eafnosupport);
const EPROTONOSUPPORT: Action = Action::Errno(Errno::Eprotonosupport);

/// Bits above those that the kernel takes: whoever compares them is evaded.
const UPPER: u64 = 0xdead_beef_0000_0000;

/// One call a line, so that a change of the profile is seen in review for what it does. After an
/// intended one: `UPDATE_SNAPSHOTS=1 cargo test -p cloister-seccomp`.
#[test]
fn every_call_has_the_recorded_answer() {
    for arch in Arch::ALL {
        let (profile, program) = cell(arch);
        let mut answers = String::new();
        let mut names: Vec<_> = arch.syscalls().collect();
        names.sort_unstable();
        for (name, number) in names {
            let group = group_of(&profile, arch, name)
                .unwrap_or_else(|| panic!("no group of cell.json decides on {name} ({arch})"));
            write!(answers, "{name}").unwrap();
            for rule in &group.rules {
                let when: Vec<_> = rule.when.iter().map(ToString::to_string).collect();
                write!(answers, " [{}: {}]", when.join(", "), rule.action).unwrap();
            }
            writeln!(answers, " {}", group.action).unwrap();
            if group.rules.is_empty() {
                for args in [[0; 6], [u64::MAX; 6]] {
                    let answer = program.evaluate(&call(arch, number, &args));
                    assert_eq!(answer, group.action.code(), "{name} on {arch}");
                }
            }
        }

        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/cell.{arch}.txt"));
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            std::fs::write(&path, &answers).unwrap();
        }
        let recorded = std::fs::read_to_string(&path).unwrap();
        for (now, then) in answers.lines().zip(recorded.lines()) {
            assert_eq!(now, then, "the profile answers other than tests/cell.{arch}.txt");
        }
        assert_eq!(answers, recorded);
    }
}

#[test]
fn the_program_means_what_the_profile_says() {
    // Each value that a condition compares with, its neighbours, and what is like it in 32 bits.
    for arch in Arch::ALL {
        let (profile, program) = cell(arch);
        for group in profile.groups_for(arch) {
            let conditions = group.rules.iter().flat_map(|rule| &rule.when);
            let values: BTreeSet<u64> = conditions
                .flat_map(|condition| [condition.value, condition.mask.unwrap_or(0)])
                .flat_map(|value| [value, value + 1, value.wrapping_sub(1), value | UPPER])
                .chain([0, u64::MAX])
                .collect();
            for name in &group.syscalls {
                let number = number(arch, name);
                for &first in &values {
                    for &second in &values {
                        for &third in &values {
                            let data = call(arch, number, &[first, second, third, first]);
                            let expected = decide(group, &data.args).code();
                            let answer = program.evaluate(&data);
                            assert_eq!(answer, expected, "{name} {data:x?} on {arch}");
                        }
                    }
                }
            }
        }
    }
}

/// Judged by a table of its own: the model above shares the profile's words, and so its mistakes.
#[test]
fn arguments_decide() {
    let cases: &[(&str, &[u64], Action)] = &[
        // A thread, a fork and a vfork as glibc makes them; then one namespace each.
        ("clone", &[0x003d_0f00], ALLOW),
        ("clone", &[0x0120_0011], ALLOW),
        ("clone", &[0x4111 | UPPER], ALLOW),
        ("clone", &[0x0002_0011], EPERM),
        ("clone", &[0x0200_0011], EPERM),
        ("clone", &[0x0400_0011], EPERM),
        ("clone", &[0x0800_0011], EPERM),
        ("clone", &[0x1000_0011], EPERM),
        ("clone", &[0x2000_0011], EPERM),
        ("clone", &[0x4000_0011], EPERM),
        ("clone", &[0x1000_0011 | UPPER], EPERM),
        // Families; then types and protocols on IP, with and without SOCK_CLOEXEC.
        ("socket", &[1, 5, 0], ALLOW),
        ("socket", &[16, 0x8_0003, 0], ALLOW),
        ("socket", &[16, 3, 12], EAFNOSUPPORT),
        ("socket", &[16, 3, 9], EAFNOSUPPORT),
        ("socket", &[17, 3, 0], EAFNOSUPPORT),
        ("socket", &[31, 3, 0], EAFNOSUPPORT),
        ("socket", &[38, 5, 0], EAFNOSUPPORT),
        ("socket", &[40, 1, 0], EAFNOSUPPORT),
        ("socket", &[0, 1, 0], EAFNOSUPPORT),
        ("socket", &[2, 1, 0], ALLOW),
        ("socket", &[2 | UPPER, 1 | UPPER, UPPER], ALLOW),
        ("socket", &[10, 0x8_0801, 6], ALLOW),
        ("socket", &[2, 0x8_0002, 17], ALLOW),
        ("socket", &[10, 2, 0], ALLOW),
        ("socket", &[2, 2, 6], EPROTONOSUPPORT),
        ("socket", &[2, 1, 132], EPROTONOSUPPORT),
        ("socket", &[2, 1, 262], EPROTONOSUPPORT),
        ("socket", &[2, 5, 0], EPROTONOSUPPORT),
        ("socket", &[2, 6, 33], EPROTONOSUPPORT),
        ("socket", &[10, 3, 255], EPROTONOSUPPORT),
        ("socketpair", &[1, 1, 0], ALLOW),
        ("socketpair", &[30, 1, 0], EAFNOSUPPORT),
        // Terminals: TCGETS, TIOCGWINSZ, then the three that are refused.
        ("ioctl", &[0, 0x5401], ALLOW),
        ("ioctl", &[0, 0x5413], ALLOW),
        ("ioctl", &[0, 0x5412], EPERM),
        ("ioctl", &[0, 0x5412 | UPPER], EPERM),
        ("ioctl", &[0, 0x541c | UPPER], EPERM),
        ("ioctl", &[0, 0x5423], EPERM),
        // FS_IOC_FIEMAP.
        ("ioctl", &[0, 0xc020_660b | UPPER], EOPNOTSUPP),
        // POSIX_FADV_SEQUENTIAL, DONTNEED.
        ("fadvise64", &[0, 0, 0, 2], ALLOW),
        ("fadvise64", &[0, 0, 0, 4 | UPPER], Action::Succeed),
        // Without flags; RWF_HIPRI, RWF_APPEND; RWF_NOWAIT, RWF_DONTCACHE.
        ("preadv2", &[0, 0, 0, 0, 0, 0], ALLOW),
        ("pwritev2", &[0, 0, 0, 0, 0, 0x11], ALLOW),
        ("preadv2", &[0, 0, 0, 0, 0, 8 | UPPER], EOPNOTSUPP),
        ("pwritev2", &[0, 0, 0, 0, 0, 0x81], EOPNOTSUPP),
        // PR_SET_NAME, PR_SET_NO_NEW_PRIVS, PR_SET_VMA; PR_SET_MM; PR_SET_SPECULATION_CTRL.
        ("prctl", &[15], ALLOW),
        ("prctl", &[38, 1], ALLOW),
        ("prctl", &[0x5356_4d41, 0], ALLOW),
        ("prctl", &[35, 14], EPERM),
        ("prctl", &[0x23 | UPPER, 14], EPERM),
        ("prctl", &[53, 0, 2], EPERM),
        ("prctl", &[53, 0, 4], ALLOW),
        ("prctl", &[52, 0, 2], ALLOW),
        ("prctl", &[62, 1], EPERM),
        // Strict mode, a filter with TSYNC, SPEC_ALLOW; what actions there are.
        ("seccomp", &[0, 0], ALLOW),
        ("seccomp", &[1, 1], ALLOW),
        ("seccomp", &[1, 4], EPERM),
        ("seccomp", &[1 | UPPER, 0xc | UPPER], EPERM),
        ("seccomp", &[2, 0xc], ALLOW),
        // The question, nothing, ADDR_NO_RANDOMIZE; READ_IMPLIES_EXEC, PER_LINUX32, UNAME26.
        ("personality", &[0xffff_ffff], ALLOW),
        ("personality", &[0], ALLOW),
        ("personality", &[0x0004_0000], ALLOW),
        ("personality", &[0x0040_0000], EPERM),
        ("personality", &[8], EPERM),
        ("personality", &[0x0002_0000], EPERM),
        // Regular, no type, FIFO, socket; character and block device, folder.
        ("mknodat", &[0, 0, 0o100_644], ALLOW),
        ("mknodat", &[0, 0, 0o644], ALLOW),
        ("mknodat", &[0, 0, 0o010_600], ALLOW),
        ("mknodat", &[0, 0, 0o140_600], ALLOW),
        ("mknodat", &[0, 0, 0o020_666], EPERM),
        ("mknodat", &[0, 0, 0o060_666 | UPPER], EPERM),
        ("mknodat", &[0, 0, 0o040_755], EPERM),
        // MAP_PRIVATE | MAP_ANONYMOUS, and with MAP_HUGETLB; MFD_CLOEXEC, and with MFD_HUGETLB.
        ("mmap", &[0, 4096, 3, 0x22], ALLOW),
        ("mmap", &[0, 4096, 3, 0x4_0022], ENOMEM),
        ("memfd_create", &[0, 1], ALLOW),
        ("memfd_create", &[0, 5 | UPPER], ENOMEM),
    ];
    check(cases);
}

/// What holds kernel memory that no control group counts, or a budget of the host.
#[test]
fn arguments_of_resources_decide() {
    check(&[
        // SO_REUSEADDR, TCP_NODELAY; SO_ATTACH_FILTER, SO_TIMESTAMPING, SO_TIMESTAMPING_NEW, SO_ZEROCOPY;
        // IP_RECVERR, IPV6_RECVERR; IPV6_FLOWLABEL_MGR. The same numbers of other levels are other options.
        ("setsockopt", &[3, 1, 2], ALLOW),
        ("setsockopt", &[3, 6, 1], ALLOW),
        ("setsockopt", &[3, 1, 26], EPERM),
        ("setsockopt", &[3, 1 | UPPER, 0x25 | UPPER], ENOPROTOOPT),
        ("setsockopt", &[3, 1, 65], ENOPROTOOPT),
        ("setsockopt", &[3, 1, 60], ENOPROTOOPT),
        ("setsockopt", &[3, 0, 11], Action::Succeed),
        ("setsockopt", &[3, UPPER, 0xb | UPPER], Action::Succeed),
        ("setsockopt", &[3, 41, 25], Action::Succeed),
        ("setsockopt", &[3, 41, 32], ENOPROTOOPT),
        ("setsockopt", &[3, 1, 11], ALLOW),
        // IPV6_JOIN_GROUP, IPV6_JOIN_ANYCAST; MCAST_JOIN_GROUP, MCAST_JOIN_SOURCE_GROUP, MCAST_MSFILTER of IPv6; the
        // first of those, and IP_ADD_MEMBERSHIP, of IPv4.
        ("setsockopt", &[3, 0x29 | UPPER, 20], ENODEV),
        ("setsockopt", &[3, 41, 27], ENODEV),
        ("setsockopt", &[3, 41, 42], ENODEV),
        ("setsockopt", &[3, 41, 46], ENODEV),
        ("setsockopt", &[3, 41, 48], ENODEV),
        ("setsockopt", &[3, 0, 42], ALLOW),
        ("setsockopt", &[3, 0, 35], ALLOW),
        // TCP_MD5SIG, TCP_MD5SIG_EXT, TCP_AO_ADD_KEY.
        ("setsockopt", &[3, 6, 14], ENOPROTOOPT),
        ("setsockopt", &[3, 6, 32], ENOPROTOOPT),
        ("setsockopt", &[3, 6, 38], ENOPROTOOPT),
        ("setsockopt", &[3, 6, 37], ALLOW),
        // F_SETLK, F_OFD_GETLK and F_OFD_SETLKW, and the numbers beside them.
        ("fcntl", &[3, 6], ALLOW),
        ("fcntl", &[3, 35], ALLOW),
        ("fcntl", &[3, 36], EINVAL),
        ("fcntl", &[3 | UPPER, 0x26 | UPPER], EINVAL),
        ("fcntl", &[3, 39], ALLOW),
        ("fcntl", &[3, 1024], ALLOW),
        // As many descriptors as are allowed, one more, and less than none.
        ("ppoll", &[0, 1024 | UPPER], ALLOW),
        ("ppoll", &[0, 1025], EINVAL),
        ("pselect6", &[1024], ALLOW),
        ("pselect6", &[0x401 | UPPER], EINVAL),
        ("pselect6", &[0xffff_ffff], EINVAL),
        // The priority of another process, of PID 1, of a group, of the user.
        ("ioprio_set", &[1, 0], ALLOW),
        ("ioprio_set", &[1, 1 | UPPER], EPERM),
        ("ioprio_set", &[2, 1], ALLOW),
        ("ioprio_set", &[3, 1000], EPERM),
    ]);
}

fn check(cases: &[(&str, &[u64], Action)]) {
    for arch in Arch::ALL {
        let (_, program) = cell(arch);
        for &(name, args, expected) in cases {
            let answer = program.evaluate(&call(arch, number(arch, name), args));
            assert_eq!(answer, expected.code(), "{name} {args:x?} on {arch}: {answer:#x}");
        }
    }
}

/// mknod has its mode elsewhere than mknodat, and x86-64 alone has it.
#[test]
fn mknod_makes_no_devices() {
    let (_, program) = cell(Arch::X86_64);
    let answer = |mode| program.evaluate(&call(Arch::X86_64, 133, &[0, mode]));
    assert_eq!(answer(0o010_600), ALLOW.code());
    assert_eq!(answer(0o020_600), EPERM.code());
    assert_eq!(answer(0o060_600), EPERM.code());
}

#[test]
fn numbers_beyond_the_known_are_calls_that_do_not_exist() {
    for arch in Arch::ALL {
        let (_, program) = cell(arch);
        let last = arch.syscalls().map(|(_, number)| number).max().unwrap();
        for number in [last + 1, 512, 547, 1000, 0x3fff_ffff] {
            assert_eq!(program.evaluate(&call(arch, number, &[])), ENOSYS.code(), "{number}");
        }
    }
    // The hole that architectures could have filled with their own.
    let (_, program) = cell(Arch::Aarch64);
    for number in (244..260).chain(295..424) {
        assert_eq!(program.evaluate(&call(Arch::Aarch64, number, &[])), ENOSYS.code());
    }
}

#[test]
fn foreign_calls_kill() {
    let kill = Action::KillProcess.code();
    let (_, program) = cell(Arch::X86_64);
    for number in [0, 39, 59, 512, 520, 0x3fff_ffff] {
        let x32 = call(Arch::X86_64, number | 0x4000_0000, &[]);
        assert_eq!(program.evaluate(&x32), kill, "x32 call {number}");
    }
    assert_eq!(program.evaluate(&call(Arch::X86_64, u32::MAX, &[])), kill);

    // AUDIT_ARCH_I386, _ARM, _ARMEB, _AARCH64 big-endian, and the other one of ours.
    for arch in Arch::ALL {
        let (_, program) = cell(arch);
        let others = Arch::ALL.into_iter().filter(|&other| other != arch);
        let foreign = [0x4000_0003, 0x4000_0028, 0x28, 0x8000_00b7, 0];
        for audit in foreign.into_iter().chain(others.map(Arch::audit)) {
            for number in [0, 1, 20, 39, 172] {
                let data = SeccompData { arch: audit, number, ..SeccompData::default() };
                assert_eq!(program.evaluate(&data), kill, "{audit:#x} {number} on {arch}");
            }
        }
    }
}

/// The kernel emulates the filter for every number at its installation, and runs it for each call
/// that its cache does not answer: both are the price of the length of a path.
#[test]
fn paths_are_short() {
    for arch in Arch::ALL {
        let (profile, program) = cell(arch);
        assert!(program.instructions().len() < 400, "{}", program.instructions().len());
        for (name, number) in arch.syscalls() {
            let group = group_of(&profile, arch, name).unwrap();
            let none = program.run(&call(arch, number, &[]));
            let all = program.run(&call(arch, number, &[u64::MAX; 6]));
            if group.rules.is_empty() {
                // Independent of the arguments to the last step: the kernel can cache it.
                assert_eq!(none, all, "{name} on {arch}");
                assert!(none.steps <= 13, "{name} on {arch} takes {} steps", none.steps);
            } else {
                assert!(none.steps.max(all.steps) <= 64, "{name} on {arch}");
            }
        }
    }
}
