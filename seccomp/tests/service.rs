//! What the service's profile answers, on both architectures.

mod common;

use std::fmt::Write as _;
use std::path::Path;

use cloister_seccomp::{Action, Arch, Errno};
use common::{call, group_of, model, number, service};

const ALLOW: Action = Action::Allow;
const EPERM: Action = Action::Errno(Errno::Eperm);
const ENOSYS: Action = Action::Errno(Errno::Enosys);
const EAFNOSUPPORT: Action = Action::Errno(Errno::Eafnosupport);
const EPROTONOSUPPORT: Action = Action::Errno(Errno::Eprotonosupport);

/// Bits above those that the kernel takes.
const UPPER: u64 = 0xdead_beef_0000_0000;

/// One call a line, so that a change of the profile is seen in review for what it does. After an
/// intended one: `UPDATE_SNAPSHOTS=1 cargo test -p cloister-seccomp`.
#[test]
fn every_call_has_the_recorded_answer() {
    for arch in Arch::ALL {
        let (profile, program) = service(arch);
        let mut answers = String::new();
        let mut names: Vec<_> = arch.syscalls().collect();
        names.sort_unstable();
        for (name, number) in names {
            // What no group names does not exist for a service.
            let group = group_of(&profile, arch, name);
            let action = group.map_or(ENOSYS, |group| group.action);
            write!(answers, "{name}").unwrap();
            for rule in group.iter().flat_map(|group| &group.rules) {
                let when: Vec<_> = rule.when.iter().map(ToString::to_string).collect();
                write!(answers, " [{}: {}]", when.join(", "), rule.action).unwrap();
            }
            writeln!(answers, " {action}").unwrap();
            for args in [[0; 6], [u64::MAX; 6], [4; 6], [UPPER; 6]] {
                let data = call(arch, number, &args);
                let expected = model(&profile, arch, &data).code();
                assert_eq!(program.evaluate(&data), expected, "{name} {args:x?} on {arch}");
            }
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/service.{arch}.txt"));
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            std::fs::write(&path, &answers).unwrap();
        }
        let recorded = std::fs::read_to_string(&path).unwrap();
        assert_eq!(answers, recorded, "the profile answers other than tests/service.{arch}.txt");
    }
}

#[test]
fn arguments_decide() {
    let cases: &[(&str, &[u64], Action)] = &[
        // A thread as glibc makes it; a fork, a vfork, and a thread with a namespace.
        ("clone", &[0x003d_0f00], ALLOW),
        ("clone", &[0x0120_0011], EPERM),
        ("clone", &[0x4111], EPERM),
        ("clone", &[0x403d_0f00], EPERM),
        ("clone3", &[0], ENOSYS),
        // Data; a library's code; code that was written, anonymous code.
        ("mmap", &[0, 4096, 3, 0x22], ALLOW),
        ("mmap", &[0, 4096, 5, 2], ALLOW),
        ("mmap", &[0, 4096, 7, 2], EPERM),
        ("mmap", &[0, 4096, 4, 0x22], EPERM),
        ("mprotect", &[0, 4096, 1], ALLOW),
        ("mprotect", &[0, 4096, 5], EPERM),
        ("mprotect", &[0, 4096, 5 | 0x100_0000], EPERM),
        ("fchmod", &[0, 0o644], ALLOW),
        ("fchmod", &[0, 0o4755], EPERM),
        ("fchmod", &[0, 0o2755 | UPPER], EPERM),
        ("socket", &[1, 5, 0], ALLOW),
        ("socket", &[2, 0x8_0801, 6], ALLOW),
        ("socket", &[10, 2, 17], ALLOW),
        ("socket", &[16, 3, 0], ALLOW),
        ("socket", &[16, 3, 9], EAFNOSUPPORT),
        ("socket", &[17, 3, 0], EAFNOSUPPORT),
        ("socket", &[40, 1, 0], EAFNOSUPPORT),
        ("socket", &[2, 3, 255], EPROTONOSUPPORT),
        ("socket", &[2, 1, 262], EPROTONOSUPPORT),
        ("prlimit64", &[0, 7], ALLOW),
        ("prlimit64", &[1, 7], EPERM),
        ("prctl", &[15], ALLOW),
        ("prctl", &[4, 1], EPERM),
        ("ioctl", &[0, 0x5421], ALLOW),
        ("ioctl", &[0, 0x5412 | UPPER], EPERM),
        ("setsockopt", &[0, 1, 26], EPERM),
        ("setsockopt", &[0, 6, 1], ALLOW),
    ];
    for arch in Arch::ALL {
        let (_, program) = service(arch);
        for (name, args, expected) in cases {
            let answer = program.evaluate(&call(arch, number(arch, name), args));
            assert_eq!(answer, expected.code(), "{name} {args:x?} on {arch}");
        }
    }
}

/// Nothing that a service was confined for slips in by a name.
#[test]
fn what_matters_is_refused() {
    for arch in Arch::ALL {
        let (_, program) = service(arch);
        for name in [
            "execve",
            "execveat",
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "pidfd_getfd",
            "kill",
            "tkill",
            "pidfd_send_signal",
            "mount",
            "umount2",
            "move_mount",
            "fsopen",
            "unshare",
            "setns",
            "pivot_root",
            "chroot",
            "bpf",
            "perf_event_open",
            "userfaultfd",
            "io_uring_setup",
            "keyctl",
            "init_module",
            "finit_module",
            "kexec_load",
            "setuid",
            "setresuid",
            "capset",
            "personality",
            "listen",
            "memfd_create",
            "open_by_handle_at",
            "seccomp",
            "shmat",
            "pkey_mprotect",
            "mknodat",
            "linkat",
            "symlinkat",
            "fchmodat",
            "remap_file_pages",
        ] {
            let answer = program.evaluate(&call(arch, number(arch, name), &[]));
            assert!([EPERM.code(), ENOSYS.code()].contains(&answer), "{name} on {arch}");
        }
    }
}
