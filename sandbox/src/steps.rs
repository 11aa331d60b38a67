//! One launch with its times, for benches/steps.rs: the same functions that make every cell, in the same
//! order and in a launcher of their own, but with a clock between them and a command that is known.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    time::Duration,
};

use nix::sys::socket::SockType;

use crate::{
    Config,
    cell::Inside,
    cgroup::Scope,
    error::{Context, Error},
    launcher::{Bench, alone, keep_only},
    sys::{self, Forked},
};

/// How long each step of one launch took.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Making the cgroups and setting their limits.
    pub cgroup: Duration,
    /// Entering the network that was made for it, or waiting until it has been.
    pub network: Duration,
    /// clone3(2) with its namespaces, as its caller sees it.
    pub clone: Duration,
    /// The view from within: mounts, host name, loopback.
    pub mounts: Duration,
    /// Landlock's rules, capabilities, seccomp.
    pub filters: Duration,
    /// From the fork of the job until its exec.
    pub exec: Duration,
    /// From then until it has ended and is reaped.
    pub reap: Duration,
    /// The end of the cell's PID 1, and with it of the namespaces.
    pub end: Duration,
    /// Removing the cgroups.
    pub removal: Duration,
}

const STEPS: usize = 9;

/// A launcher that does nothing else.
#[derive(Debug)]
pub struct Steps(File);

impl Steps {
    /// Forks it.
    ///
    /// # Errors
    /// When this process has more than one thread already.
    pub fn start() -> Result<Self, Error> {
        let scope = Scope::ask();
        let (ours, theirs) = sys::socket_pair(SockType::Stream).context("making a socket")?;
        alone()?;
        // SAFETY: there is one thread, as was just counted.
        #[allow(unsafe_code)]
        match unsafe { sys::fork() }.context("forking the launcher")? {
            Forked::Child => {
                let _end = sys::EndOnUnwind;
                if let Err(error) = serve(&scope, theirs) {
                    eprintln!("a launch failed: {error}");
                }
                sys::exit_now(0)
            }
            Forked::Parent(_) => Ok(Self(ours.into())),
        }
    }

    /// Launches `/bin/true` once.
    ///
    /// # Errors
    /// When the launcher has ended: it has said why.
    pub fn launch(&mut self) -> io::Result<Times> {
        self.0.write_all(&[0])?;
        let mut bytes = [0; STEPS * 8];
        self.0.read_exact(&mut bytes)?;
        let (numbers, _) = bytes.as_chunks::<8>();
        let [cgroup, network, clone, mounts, filters, exec, reap, end, removal] =
            std::array::from_fn(|step| Duration::from_nanos(u64::from_le_bytes(numbers[step])));
        Ok(Times { cgroup, network, clone, mounts, filters, exec, reap, end, removal })
    }
}

/// Until the other side is gone.
fn serve(scope: &Scope, socket: OwnedFd) -> Result<(), Box<dyn std::error::Error>> {
    let mut socket = File::from(keep_only(socket)?);
    let mut bench = Bench::set_up(&Config::default(), scope)?;
    while socket.read(&mut [0])? > 0 {
        let launched = bench.launch();
        let Ok((cgroup, network, clone, Inside { mounts, filters, exec, reap }, end, removal)) =
            launched
        else {
            bench.tear_down();
            return Err(format!("{launched:?}").into());
        };
        for step in [cgroup, network, clone, mounts, filters, exec, reap, end, removal] {
            socket.write_all(&step.to_le_bytes())?;
        }
    }
    bench.tear_down();
    Ok(())
}
