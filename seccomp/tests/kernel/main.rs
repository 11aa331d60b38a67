//! The compiled filter, installed: the kernel's own word on what it does.

mod child;

use child::{End, confined, errno, unconfined};
use libc::{c_int, c_long};

/// A call without arguments, or with less than six.
fn call<const N: usize>(number: c_long, args: [c_long; N]) -> c_int {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&args);
    errno(number, all)
}

#[track_caller]
fn assert_answer<const N: usize>(expected: c_int, number: c_long, args: [c_long; N]) {
    let end = confined(|| call(number, args));
    assert_eq!(end, End::Exited(expected), "call {number} with {args:x?}");
}

#[test]
fn ordinary_calls_work() {
    assert_answer(0, libc::SYS_getpid, []);
    assert_answer(0, libc::SYS_socket, [2, 0x8_0001, 0]);
    assert_answer(0, libc::SYS_personality, [0xffff_ffff]);
    assert_answer(0, libc::SYS_prctl, [libc::PR_GET_DUMPABLE.into()]);
    assert_answer(libc::EBADF, libc::SYS_read, [-1]);
    assert_answer(libc::EFAULT, libc::SYS_execve, []);
    assert_answer(libc::EFAULT, libc::SYS_openat2, [-1, 0, 0, 24]);
}

#[test]
fn namespaces_are_out_of_reach() {
    assert_answer(libc::EPERM, libc::SYS_unshare, [libc::CLONE_NEWUSER.into()]);
    assert_answer(libc::EPERM, libc::SYS_unshare, [0]);
    assert_answer(libc::EPERM, libc::SYS_setns, [-1]);
    assert_answer(libc::ENOSYS, libc::SYS_clone3, []);
    let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
    assert_answer(libc::EPERM, libc::SYS_clone, [flags.into()]);
    assert_answer(libc::EPERM, libc::SYS_clone, [c_long::from(flags) | 1 << 40]);
}

#[test]
fn new_processes_are_not() {
    let end = confined(|| match unconfined(|| 7) {
        End::Exited(status) => status,
        End::Killed(_) => 1,
    });
    assert_eq!(end, End::Exited(7));
}

#[test]
fn dangerous_calls_are_refused() {
    assert_answer(libc::EPERM, libc::SYS_mount, []);
    assert_answer(libc::EPERM, libc::SYS_fsopen, []);
    assert_answer(libc::EPERM, libc::SYS_chroot, []);
    assert_answer(libc::EPERM, libc::SYS_bpf, []);
    assert_answer(libc::EPERM, libc::SYS_perf_event_open, []);
    assert_answer(libc::EPERM, libc::SYS_keyctl, []);
    assert_answer(libc::EPERM, libc::SYS_io_uring_setup, [1]);
    assert_answer(libc::EPERM, libc::SYS_userfaultfd, [1]);
    assert_answer(libc::EPERM, libc::SYS_ptrace, [0]);
    assert_answer(libc::EPERM, libc::SYS_ioctl, [-1, 0x5412]);
    assert_answer(libc::EPERM, libc::SYS_ioctl, [-1, 0x5412 | 1 << 32]);
    assert_answer(libc::EPERM, libc::SYS_seccomp, [1, 4]);
    assert_answer(libc::EPERM, libc::SYS_prctl, [53, 0, 2]);
    assert_answer(libc::EAFNOSUPPORT, libc::SYS_socket, [38, 5, 0]);
    assert_answer(libc::EPROTONOSUPPORT, libc::SYS_socket, [2, 1, 262]);
    assert_answer(libc::ENOMEM, libc::SYS_mmap, [0, 1 << 21, 3, 0x4_0022, -1, 0]);
}

#[test]
fn what_does_not_exist_is_told_so() {
    assert_answer(libc::ENOSYS, 4095, []);
    assert_answer(libc::ENOSYS, libc::SYS_io_setup, [1]);
    assert_answer(libc::EOPNOTSUPP, libc::SYS_fsetxattr, [-1]);
    // Let through, it would fail for the bad descriptor.
    assert_answer(0, libc::SYS_syncfs, [-1]);
}

/// The cell confines itself by Landlock when the filter is already there.
#[test]
fn landlock_can_follow() {
    let answer = |unfiltered| {
        let version = || call(libc::SYS_landlock_create_ruleset, [0, 0, 1]);
        if unfiltered { unconfined(version) } else { confined(version) }
    };
    assert_eq!(answer(false), answer(true));
    assert_answer(libc::EBADF, libc::SYS_landlock_restrict_self, [-1]);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn x32_calls_kill() {
    let getpid = || call(0x4000_0000 | libc::SYS_getpid, []);
    assert!(matches!(unconfined(getpid), End::Exited(_)));
    assert_eq!(confined(getpid), End::Killed(libc::SIGSYS));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn calls_by_the_32_bit_entry_kill() {
    let getpid = || c_int::from(child::getpid_by_int_0x80() <= 0);
    // A kernel without that entry answers the instruction with SIGSEGV; then there is none to guard.
    let expected = match unconfined(getpid) {
        End::Exited(0) => libc::SIGSYS,
        End::Killed(signal) => signal,
        End::Exited(status) => panic!("getpid failed without a filter: {status}"),
    };
    assert_eq!(confined(getpid), End::Killed(expected));
}
