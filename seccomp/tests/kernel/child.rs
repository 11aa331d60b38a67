//! A child process that lives under the cell's filter: the one place of this crate with `unsafe`.
//!
//! The test harness has threads, so between fork and exit the child calls nothing that takes a lock
//! or allocates: all is prepared before, and what it finds goes out as its exit status.
#![allow(unsafe_code, reason = "fork, raw system calls and the installation of a filter")]

use cloister_seccomp::{Arch, CELL, Profile};
use libc::{c_int, c_long};

/// How the child ended.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum End {
    Exited(c_int),
    Killed(c_int),
}

/// The exit status of a child that could not install its filter.
const NOT_INSTALLED: c_int = 250;

/// The machine that the tests run on.
pub(crate) fn host() -> Arch {
    std::env::consts::ARCH.parse().expect("the tests run on a supported machine")
}

/// Runs the body in a child under the cell's filter; the status is what the body returns.
pub(crate) fn confined(body: impl FnOnce() -> c_int) -> End {
    let program = Profile::parse(CELL).and_then(|profile| profile.compile(host())).unwrap();
    let mut filter: Vec<_> = program
        .instructions()
        .iter()
        .map(|one| libc::sock_filter { code: one.code, jt: one.jt, jf: one.jf, k: one.k })
        .collect();
    let program =
        libc::sock_fprog { len: filter.len().try_into().unwrap(), filter: filter.as_mut_ptr() };
    unconfined(|| if install(&program) { body() } else { NOT_INSTALLED })
}

/// The same without a filter of its own: the control of an experiment, or a child's child.
pub(crate) fn unconfined(body: impl FnOnce() -> c_int) -> End {
    // SAFETY: the child runs only the body, whose callers keep to async-signal-safe calls, and
    // leaves by `_exit`, so that nothing of the parent's is dropped or flushed twice.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork: {}", std::io::Error::last_os_error());
    if child == 0 {
        let status = body();
        // SAFETY: ends the process.
        unsafe { libc::_exit(status) };
    }
    wait(child)
}

fn wait(child: libc::pid_t) -> End {
    let mut status = 0;
    // SAFETY: the pointer is to a local variable.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child, "waitpid: {}", std::io::Error::last_os_error());
    if libc::WIFSIGNALED(status) {
        End::Killed(libc::WTERMSIG(status))
    } else {
        End::Exited(libc::WEXITSTATUS(status))
    }
}

fn install(program: &libc::sock_fprog) -> bool {
    // SAFETY: the first two calls take numbers only; the third reads the program, which the parent
    // keeps alive until the child has ended.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, program) == 0
    }
}

/// Makes a call whose arguments are numbers or null, and returns its error, or 0.
pub(crate) fn errno(number: c_long, args: [c_long; 6]) -> c_int {
    // SAFETY: callers pass no address but null, which the kernel answers with an error.
    let result =
        unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]) };
    if result >= 0 {
        return 0;
    }
    // SAFETY: points to this thread's errno.
    unsafe { *libc::__errno_location() }
}

/// `getpid` by the entry for 32-bit programs.
#[cfg(target_arch = "x86_64")]
pub(crate) fn getpid_by_int_0x80() -> i32 {
    let pid: i32;
    // SAFETY: `getpid` of the i386 table takes nothing and touches no memory; the entry clobbers
    // r8 to r11 on older kernels.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inlateout("eax") 20 => pid,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    pid
}
