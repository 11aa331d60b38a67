//! A cell's own steps with a clock: see [`crate::steps`].

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
};

use nix::sys::wait::waitpid;

use super::{Plan, confine, identity, init, job::Job, view};
use crate::{
    cgroup,
    error::{At, Fault, Step},
    sys::{self, monotonic_ns},
    wire::{Rlimits, Start},
};

/// Nanoseconds of the steps inside a cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inside {
    pub(crate) mounts: u64,
    pub(crate) filters: u64,
    pub(crate) exec: u64,
    pub(crate) reap: u64,
}

impl Inside {
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        let (numbers, _) = bytes.as_chunks::<8>();
        let [mounts, filters, exec, reap] =
            std::array::from_fn(|step| u64::from_le_bytes(numbers[step]));
        Self { mounts, filters, exec, reap }
    }
}

/// As [`super::run`], with a command that is known, and what each step took instead of a report.
pub(crate) fn run_timed(plan: &Plan, doors: &[OwnedFd], control: OwnedFd) -> ! {
    let _end = sys::EndOnUnwind;
    match timed(plan, doors, &mut File::from(control)) {
        Ok(()) => sys::exit_now(0),
        Err(fault) => {
            eprintln!("{fault}");
            sys::exit_now(1)
        }
    }
}

fn timed(plan: &Plan, doors: &[OwnedFd], control: &mut File) -> Result<(), Fault> {
    cgroup::enter(doors).at(Step::Join)?;
    control.read_exact(&mut [0]).at(Step::Release)?;
    identity(plan).at(Step::Identity)?;
    let mut last = monotonic_ns();
    let mut lap = || {
        let now = monotonic_ns();
        now - std::mem::replace(&mut last, now)
    };
    view::attach(plan).at(Step::Inodes)?;
    view::build(plan)?;
    plan.rlimits.set().at(Step::Rlimits)?;
    let mounts = lap();
    let confinement = confine::confine(plan, control.as_fd())?;
    let filters = lap();
    let start = Start {
        argv: vec!["/bin/true".into()],
        env: Vec::new(),
        cwd: "/job".into(),
        rlimits: Rlimits { open_files: 64, file_size: 1 << 20, cpu: None, processes: None },
    };
    let job = Job::prepare(start).at(Step::Command)?;
    sys::reset_signals();
    let mut stack = sys::Stack::new().at(Step::Fork)?;
    lap();
    let pid = match init::launch(&job, &confinement, &mut stack)? {
        init::Launched::Running(running) => running.main,
        init::Launched::Refused(fault) => return Err(fault),
    };
    let exec = lap();
    waitpid(pid, None).at(Step::Fork)?;
    for step in [mounts, filters, exec, lap()] {
        control.write_all(&step.to_le_bytes()).at(Step::Report)?;
    }
    Ok(())
}
