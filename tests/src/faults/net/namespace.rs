//! A network namespace with one interface whose other end is ours.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    net::Ipv4Addr,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result, ensure};
use nix::{
    libc,
    sched::{CloneFlags, setns, unshare},
};

const INTERFACE: &[u8] = b"party";

/// See the module. It exists for as long as this, or a process in it.
pub(super) struct Namespace(File);

impl Namespace {
    /// A new one with this address, and the descriptor from which what is sent there is read.
    pub(super) fn new(address: Ipv4Addr) -> Result<(Self, File)> {
        // A thread of its own, since a thread stays in the namespace that it made.
        let made = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace")?;
            let namespace = File::open("/proc/thread-self/ns/net").context("opening it")?;
            let interface = tun().context("making a TUN interface (is /dev/net/tun there?)")?;
            configure(address)?;
            Ok((Self(namespace), interface))
        });
        made.join().expect("making a namespace does not panic")
    }

    /// From now on this thread is in it.
    pub(super) fn enter(&self) {
        setns(&self.0, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace that it made");
    }
}

/// A TUN interface in this thread's namespace, to be read without blocking.
fn tun() -> Result<File> {
    let tun = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(INTERFACE) {
        *to = libc::c_char::try_from(*from).expect("the name is ASCII");
    }
    let flags = libc::c_short::try_from(libc::IFF_TUN | libc::IFF_NO_PI).expect("both are small");
    let mut request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags },
    };
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives until the call returns.
    #[expect(unsafe_code, reason = "no crate at hand wraps this ioctl")]
    let result = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    ensure!(result == 0, std::io::Error::last_os_error());
    Ok(tun)
}

fn configure(address: Ipv4Addr) -> Result<()> {
    let mut ip = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .context("starting ip (iproute2)")?;
    let lines = format!("link set lo up\naddress add {address}/24 dev party\nlink set party up\n");
    ip.stdin.take().expect("it is piped").write_all(lines.as_bytes()).context("telling ip")?;
    let status = ip.wait().context("waiting for ip")?;
    ensure!(status.success(), "ip could not configure the interface: {status}");
    Ok(())
}
