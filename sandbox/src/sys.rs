//! The system calls that no well-kept crate wraps. Outside of this file `unsafe` only calls `fork`,
//! `clone3` and `adopt` of it, whose callers must keep a promise, and signal(2) once.
//!
//! Each function is as thin as it can be, and says in its `// SAFETY:` why the kernel can't break
//! memory through it.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, OsStr, c_char},
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

use nix::{
    sys::mman::{MapFlags, ProtFlags, mmap_anonymous},
    sys::socket::{AddressFamily, SockFlag, SockType, socketpair},
    unistd::Pid,
};

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A connected pair of close-on-exec sockets.
pub(crate) fn socket_pair(kind: SockType) -> nix::Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)
}

/// Places the child in the cgroup of `clone_args.cgroup` (clone3(2)); libc's constant of that name
/// is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of [`clone3`] this is.
pub(crate) enum Cloned {
    Parent { pid: Pid, pidfd: OwnedFd },
    Child,
}

/// A child in the namespaces that `flags` name, in the v2 cgroup of the folder `cgroup` where one is
/// given, with a pidfd (clone3(2)). It starts with a copy of this process, like fork(2).
///
/// # Safety
/// The process must be single-threaded: the child goes on with every lock as it was.
pub(crate) unsafe fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all-zero is a valid `clone_args`: it asks for nothing.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: `args` lives through the call, its size is passed, `pidfd` is writable. Without
    // CLONE_VM and a stack the child runs on its own copy of this one.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone3, ptr::from_ref(&args), size_of_val(&args))
    })?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    let pid = Pid::from_raw(libc::pid_t::try_from(pid).map_err(io::Error::other)?);
    // SAFETY: the kernel stored a new descriptor there, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent { pid, pidfd })
}

/// Whether this is the child of a fork, or its parent with the child's id.
pub(crate) enum Forked {
    Parent(Pid),
    Child,
}

/// fork(2).
///
/// # Safety
/// The process must be single-threaded: the child goes on with every lock as it was.
pub(crate) unsafe fn fork() -> io::Result<Forked> {
    // SAFETY: the caller promises that there is one thread.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(Forked::Parent(child)),
        nix::unistd::ForkResult::Child => Ok(Forked::Child),
    }
}

/// The stack of a child that has the memory of its parent. Never unmapped: who has one forks once, and
/// ends.
pub(crate) struct Stack(ptr::NonNull<libc::c_void>);

impl Stack {
    /// Bytes: many times what the few system calls between fork and exec take.
    const SIZE: usize = 64 << 10;

    /// Maps it, with its first page in memory.
    pub(crate) fn new() -> io::Result<Self> {
        const SIZE: std::num::NonZeroUsize = std::num::NonZeroUsize::new(Stack::SIZE).unwrap();
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let base = unsafe {
            mmap_anonymous(
                None,
                SIZE,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_PRIVATE | MapFlags::MAP_STACK,
            )
        }?;
        let stack = Self(base);
        // SAFETY: its last byte, in the page that a stack begins with.
        unsafe { stack.top().cast::<u8>().sub(1).write_volatile(0) };
        Ok(stack)
    }

    /// It grows down from here: the end of a page, and so aligned as every ABI wants it.
    fn top(&self) -> *mut libc::c_void {
        // SAFETY: one past the end of the mapping.
        unsafe { self.0.as_ptr().byte_add(Self::SIZE) }
    }
}

/// A child that runs `until_exec` on this process's own memory, while this process waits until it has
/// executed a program, or has ended (clone(2), CLONE_VM and CLONE_VFORK: what posix_spawn(3) does). A
/// copy of the memory, thrown away by exec, would cost more than all else in a launch.
///
/// The table of descriptors is shared too, until exec: what `until_exec` opens is this process's as well,
/// and what it closes is closed here. Working folder, umask, signal actions and limits are its own. It
/// ends when `until_exec` returns.
///
/// # Safety
/// The process must be single-threaded. `until_exec` must not allocate, take a lock or unwind, and what
/// it leaves in memory must be what the process can go on with: also when it is killed half way.
pub(crate) unsafe fn fork_sharing_memory<F: FnMut()>(
    stack: &mut Stack,
    mut until_exec: F,
) -> io::Result<Pid> {
    extern "C" fn enter<F: FnMut()>(until_exec: *mut libc::c_void) -> libc::c_int {
        let _end = EndOnUnwind;
        // SAFETY: it is the closure of the caller below, who waits and does not touch it.
        unsafe { (*until_exec.cast::<F>())() };
        exit_now(127)
    }
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::SIGCHLD;
    // SAFETY: the stack is nobody else's until the child needs it no more: clone returns only then. The
    // closure lives as long.
    let pid = unsafe {
        libc::clone(enter::<F>, stack.top(), flags, ptr::from_mut(&mut until_exec).cast())
    };
    check(pid.into())?;
    Ok(Pid::from_raw(pid))
}

/// Ends this process at once, without running exit handlers that belong to the parent.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes any number and does not return.
    unsafe { libc::_exit(code) }
}

/// Ends the process when it is dropped: in a forked child a panic must not unwind into what would go
/// on as a second copy of the parent.
pub(crate) struct EndOnUnwind;

impl Drop for EndOnUnwind {
    fn drop(&mut self) {
        exit_now(1);
    }
}

/// Adds attributes to a mount, or with `recursive` to all below it (mount_setattr(2)).
pub(crate) fn set_mount_attributes(
    mount: BorrowedFd<'_>,
    path: &CStr,
    attributes: u64,
    propagation: u64,
    recursive: bool,
) -> io::Result<()> {
    change_mount_attributes(mount, path, attributes, 0, propagation, recursive)
}

/// The same, and takes others away.
pub(crate) fn change_mount_attributes(
    mount: BorrowedFd<'_>,
    path: &CStr,
    add: u64,
    remove: u64,
    propagation: u64,
    recursive: bool,
) -> io::Result<()> {
    let request = libc::mount_attr { attr_set: add, attr_clr: remove, propagation, userns_fd: 0 };
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: path and request live through the call, and its size is passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            path.as_ptr(),
            flags,
            ptr::from_ref(&request),
            size_of_val(&request),
        )
    })?;
    Ok(())
}

/// Closes every descriptor from `first` on (close_range(2)).
pub(crate) fn close_from(first: RawFd) -> io::Result<()> {
    close_range(first, 0)
}

/// Marks every descriptor from `first` on to be closed by exec.
pub(crate) fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    close_range(first, libc::CLOSE_RANGE_CLOEXEC)
}

fn close_range(first: RawFd, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: numbers only. With CLOEXEC nothing is closed now; without, callers use no descriptor
    // of that range afterwards.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, flags) })?;
    Ok(())
}

/// Puts `source` at the number `target` and keeps it over exec (dup2(2)).
pub(crate) fn place(source: BorrowedFd<'_>, target: RawFd) -> io::Result<()> {
    // SAFETY: numbers only. `target` is a number that the caller gives away.
    check(unsafe { libc::dup2(source.as_raw_fd(), target) }.into())?;
    Ok(())
}

/// Makes the first of 0, 1 and 2 that is a terminal the controlling one of this session (`TIOCSCTTY`,
/// ioctl_tty(2)). There may be none; and the kernel refuses the one of another session.
pub(crate) fn take_terminal() {
    for stream in 0..3 {
        // SAFETY: numbers only.
        if unsafe { libc::ioctl(stream, libc::TIOCSCTTY, 0) } == 0 {
            return;
        }
    }
}

/// The descriptor of that number, which from now on belongs to the caller.
///
/// # Safety
/// It must be open, and nobody else may own it.
pub(crate) unsafe fn adopt(number: RawFd) -> OwnedFd {
    // SAFETY: promised by the caller.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Installs a seccomp filter for this thread and all that it will fork (seccomp(2)).
pub(crate) fn install_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    set_filter(program, 0).map(drop)
}

/// The same for a filter that notifies; comes back with the number of its listener
/// (seccomp_unotify(2)), which is close-on-exec and in this process's table of descriptors.
pub(crate) fn install_notifying_filter(program: &[libc::sock_filter]) -> io::Result<RawFd> {
    // A call that has been received is then interrupted by a kill only, and not by each signal.
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let listener = set_filter(program, flags | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
        .or_else(|error| {
            // Linux before 5.19.
            if error.raw_os_error() == Some(libc::EINVAL) {
                set_filter(program, flags)
            } else {
                Err(error)
            }
        })?;
    RawFd::try_from(listener).map_err(io::Error::other)
}

fn set_filter(program: &[libc::sock_filter], flags: libc::c_ulong) -> io::Result<libc::c_long> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel only reads the program, which lives through the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            ptr::from_ref(&program),
        )
    })
}

/// A system call that waits for an answer.
#[derive(Debug)]
pub(crate) struct Notification {
    pub(crate) id: u64,
    /// The thread that waits, in the listener's PID namespace.
    pub(crate) thread: u32,
    /// Its number.
    pub(crate) call: i32,
    pub(crate) arguments: [u64; 6],
}

/// Takes the next notification of a listener. ENOENT where its thread has ended meanwhile.
pub(crate) fn receive_notification(listener: BorrowedFd<'_>) -> io::Result<Notification> {
    // SAFETY: all-zero is a valid `seccomp_notif`, and what the kernel demands.
    let mut received: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `seccomp_notif`.
    let result = unsafe {
        let received = ptr::from_mut(&mut received);
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, received)
    };
    check(result.into())?;
    let libc::seccomp_notif { id, pid: thread, data, .. } = received;
    Ok(Notification { id, thread, call: data.nr, arguments: data.args })
}

/// Lets the kernel run the call.
pub(crate) fn let_run(listener: BorrowedFd<'_>, notification: &Notification) -> io::Result<()> {
    respond(listener, notification, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE)
}

/// Answers the call with an error.
pub(crate) fn refuse(
    listener: BorrowedFd<'_>,
    notification: &Notification,
    error: nix::errno::Errno,
) -> io::Result<()> {
    respond(listener, notification, -(error as i32), 0)
}

fn respond(
    listener: BorrowedFd<'_>,
    notification: &Notification,
    error: i32,
    flags: libc::c_ulong,
) -> io::Result<()> {
    let flags = u32::try_from(flags).map_err(io::Error::other)?;
    let response = libc::seccomp_notif_resp { id: notification.id, val: 0, error, flags };
    // SAFETY: the kernel reads one `seccomp_notif_resp`.
    let result = unsafe {
        let response = ptr::from_ref(&response);
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, response)
    };
    check(result.into())?;
    Ok(())
}

/// Gives the caller a copy of the descriptor `file`, whose number the call returns.
pub(crate) fn hand_over(
    listener: BorrowedFd<'_>,
    notification: &Notification,
    file: BorrowedFd<'_>,
    close_on_exec: bool,
) -> io::Result<()> {
    let request = libc::seccomp_notif_addfd {
        id: notification.id,
        flags: u32::try_from(libc::SECCOMP_ADDFD_FLAG_SEND).map_err(io::Error::other)?,
        srcfd: file.as_raw_fd().cast_unsigned(),
        newfd: 0,
        newfd_flags: if close_on_exec { libc::O_CLOEXEC.cast_unsigned() } else { 0 },
    };
    // SAFETY: the kernel reads one `seccomp_notif_addfd`.
    let result = unsafe {
        let request = ptr::from_ref(&request);
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, request)
    };
    match check(result.into()) {
        // The call is not answered yet: the caller has no room for one more descriptor, or has ended.
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            refuse(listener, notification, nix::errno::Errno::from_raw(errno))
        }
        Ok(_) => Ok(()),
    }
}

/// Enters the Landlock domain of that ruleset (landlock_restrict_self(2)).
pub(crate) fn enter_landlock(ruleset: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: numbers only.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) })?;
    Ok(())
}

/// Sets an environment variable of this process, which must have one thread.
pub(crate) fn set_variable(name: &str, value: impl AsRef<OsStr>) -> io::Result<()> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("other threads may read the environment"));
    }
    // SAFETY: there is no other thread that could read or write the environment meanwhile.
    unsafe { std::env::set_var(name, value) };
    Ok(())
}

/// The Landlock ABI of this kernel; 0 where it is missing or switched off.
pub(crate) fn landlock_abi() -> i64 {
    const VERSION: u32 = 1;
    // SAFETY: with this flag the kernel reads no memory.
    let abi = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, ptr::null::<u8>(), 0_usize, VERSION)
    };
    abi.max(0)
}

/// Fixes the "secure bits" for ever: being or becoming uid 0 gives no capability, and none can be
/// made ambient (capabilities(7)).
pub(crate) fn lock_secure_bits() -> io::Result<()> {
    let bits = libc::SECBIT_NOROOT
        | libc::SECBIT_NOROOT_LOCKED
        | libc::SECBIT_NO_SETUID_FIXUP
        | libc::SECBIT_NO_SETUID_FIXUP_LOCKED
        | libc::SECBIT_KEEP_CAPS_LOCKED
        | libc::SECBIT_NO_CAP_AMBIENT_RAISE
        | libc::SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
    // SAFETY: numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, bits) }.into())?;
    Ok(())
}

/// Sets the interface `lo` of this network namespace up (netdevice(7)).
pub(crate) fn raise_loopback() -> io::Result<()> {
    let socket = nix::sys::socket::socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: all-zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags =
        libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).map_err(io::Error::other)?;
    let request = ptr::from_ref(&request);
    // SAFETY: the kernel reads the request, which lives through the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, request) };
    check(result.into())?;
    Ok(())
}

/// Strings as exec wants them: pointers with a null behind the last. Prepared before a fork, so
/// that the child allocates nothing.
pub(crate) struct Strings {
    pointers: Vec<*const c_char>,
    _owned: Vec<CString>,
}

impl Strings {
    pub(crate) fn new(owned: Vec<CString>) -> Self {
        let pointers = owned.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect();
        Self { pointers, _owned: owned }
    }
}

/// execve(2); comes back only with the reason why it failed.
pub(crate) fn execute(program: &CStr, argv: &Strings, env: &Strings) -> io::Error {
    // SAFETY: `Strings` are null-terminated arrays of pointers to strings that they own.
    unsafe { libc::execve(program.as_ptr(), argv.pointers.as_ptr(), env.pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// Sets a limit of this process, soft and hard (setrlimit(2)).
pub(crate) fn limit(resource: nix::sys::resource::Resource, value: u64) -> io::Result<()> {
    Ok(nix::sys::resource::setrlimit(resource, value, value)?)
}

/// A child that has ended.
pub(crate) struct Ended {
    pub(crate) pid: Pid,
    /// As in a shell: 128 and the signal's number where one ended it.
    pub(crate) code: i32,
    /// 0 where none did.
    pub(crate) signal: i32,
}

/// Reaps a child that has ended, if there is one (waitpid(2)). nix's own function has no word for
/// what a real-time signal ended, and reports an error after it has reaped.
pub(crate) fn reap_any() -> Option<Ended> {
    let mut status = 0;
    // SAFETY: the kernel stores a number in `status`, which lives through the call.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    if pid <= 0 {
        return None;
    }
    let (code, signal) = if libc::WIFSIGNALED(status) {
        (128 + libc::WTERMSIG(status), libc::WTERMSIG(status))
    } else {
        (libc::WEXITSTATUS(status), 0)
    };
    Some(Ended { pid: Pid::from_raw(pid), code, signal })
}

/// Gives every signal its default action, so that a program starts as it would from a shell. (Rust's
/// runtime ignores SIGPIPE, which exec would hand on.)
pub(crate) fn reset_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: the default action runs no code of ours. SIGKILL, SIGSTOP and the two that libc
        // keeps to itself answer EINVAL, which is what they should.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Blocks no signal any more.
pub(crate) fn unblock_signals() -> io::Result<()> {
    nix::sys::signal::sigprocmask(
        nix::sys::signal::SigmaskHow::SIG_SETMASK,
        Some(&nix::sys::signal::SigSet::empty()),
        None,
    )?;
    Ok(())
}

/// Nanoseconds of `CLOCK_MONOTONIC`: the same clock in every cell, as no time namespace is used.
pub(crate) fn monotonic_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .expect("the monotonic clock can always be read (clock_gettime(2))");
    now.tv_sec().unsigned_abs() * 1_000_000_000 + now.tv_nsec().unsigned_abs()
}

/// Overwrites this process's command line and environment, which every cell could otherwise read
/// in the `/proc` entry of its PID 1: they name files and settings of the service.
pub(crate) fn overwrite_title(title: &str) -> io::Result<()> {
    let record = std::fs::read_to_string("/proc/self/stat")?;
    // The name in parentheses may hold anything; the numbers start behind it with field 3.
    let numbers = record.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = |n: usize| -> io::Result<usize> {
        let text = numbers.split_ascii_whitespace().nth(n - 3);
        text.and_then(|t| t.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
    };
    // proc_pid_stat(5): arg_start, arg_end, env_start, env_end.
    for (start, end, text) in [(48, 49, title), (50, 51, "")] {
        let (start, end) = (field(start)?, field(end)?);
        for (offset, address) in (start..end).enumerate() {
            let byte = text.as_bytes().get(offset).copied().unwrap_or(0);
            // SAFETY: the kernel laid these strings out at exec, in this process's own writable
            // stack, and no reference to them is held. `environ` still points there, at what are
            // empty strings now: every byte behind the title is 0.
            unsafe { ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(byte) };
        }
    }
    Ok(())
}
