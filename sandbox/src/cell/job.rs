//! The job itself, from the fork in PID 1 to exec. Everything is prepared before the fork: in
//! between nothing is allocated and nothing formatted, and the first failure comes back as a step
//! and an error number.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, RawFd},
};

use nix::sys::{
    resource::Resource,
    stat::{Mode, umask},
};

use super::{confine::Confinement, filters::JOB};
use crate::{
    apparmor,
    error::{At, Fault, Step},
    layers::Layer,
    sys::{self, Strings},
    wire::{Rlimits, Start},
};

/// A command, ready to be executed.
pub(crate) struct Job {
    /// Where the program may be, in the order of PATH.
    programs: Vec<CString>,
    argv: Strings,
    env: Strings,
    cwd: CString,
    rlimits: Rlimits,
}

impl Job {
    /// Lays out what exec needs. Fails on a NUL byte, which the request's validation refused.
    pub(crate) fn prepare(start: Start) -> io::Result<Self> {
        let owned = |strings: Vec<String>| {
            strings.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>()
        };
        let path = start.env.iter().find_map(|pair| pair.strip_prefix("PATH=")).unwrap_or_default();
        let programs = candidates(start.argv.first().map_or("", String::as_str), path);
        Ok(Self {
            programs: owned(programs)?,
            argv: Strings::new(owned(start.argv)?),
            env: Strings::new(owned(start.env)?),
            cwd: CString::new(start.cwd)?,
            rlimits: start.rlimits,
        })
    }

    /// Executes the command in this process. Calls `now` just before, with the listener of the job's
    /// filter. Comes back only with what failed.
    pub(crate) fn execute(
        &self,
        confinement: &Confinement,
        now: impl FnOnce(Option<RawFd>),
    ) -> Fault {
        match self.get_ready(confinement) {
            Ok(listener) => now(listener),
            Err(fault) => return fault,
        }
        Fault::new(Step::Exec, &self.exec())
    }

    fn get_ready(&self, confinement: &Confinement) -> Result<Option<RawFd>, Fault> {
        // A session of its own: no controlling terminal whose input it could fake (CVE-2017-5226).
        nix::unistd::setsid().at(Step::Session)?;
        sys::take_terminal();
        sys::unblock_signals().at(Step::Signals)?;
        umask(Mode::from_bits_truncate(0o022));
        nix::unistd::chdir(self.cwd.as_c_str()).at(Step::Directory)?;
        self.set_rlimits().at(Step::Rlimits)?;
        sys::close_on_exec_from(3).at(Step::Descriptors)?;
        if confinement.profile {
            apparmor::change_on_exec().at(Step::Profile)?;
        }
        if let Some(domain) = &confinement.domain {
            sys::enter_landlock(domain.as_fd()).at(Step::Confine)?;
        }
        // This filter would also change the calls above.
        let listener = if Layer::Seccomp.stands() {
            Some(sys::install_notifying_filter(&JOB).at(Step::Seccomp)?)
        } else {
            None
        };
        // The listener takes a number in PID 1's table, which may be above the job's limit.
        sys::limit(Resource::RLIMIT_NOFILE, self.rlimits.open_files).at(Step::Rlimits)?;
        Ok(listener)
    }

    fn set_rlimits(&self) -> io::Result<()> {
        let limits = self.rlimits;
        sys::limit(Resource::RLIMIT_FSIZE, limits.file_size)?;
        if let Some(seconds) = limits.cpu {
            sys::limit(Resource::RLIMIT_CPU, seconds)?;
        }
        if let Some(processes) = limits.processes {
            sys::limit(Resource::RLIMIT_NPROC, processes)?;
        }
        Ok(())
    }

    /// As execvp(3): what is not there is passed over, and a file that may not be executed is told
    /// only when nothing better follows.
    fn exec(&self) -> io::Error {
        let mut refused = None;
        for program in &self.programs {
            let error = sys::execute(program, &self.argv, &self.env);
            match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => {}
                Some(libc::EACCES) => refused = Some(error),
                _ => return error,
            }
        }
        refused.unwrap_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }
}

/// The paths at which a program may be found.
fn candidates(program: &str, path: &str) -> Vec<String> {
    if program.contains('/') {
        return vec![program.into()];
    }
    path.split(':')
        .map(|folder| match folder {
            "" => format!("./{program}"),
            folder => format!("{folder}/{program}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_and_a_path_is_not() {
        assert_eq!(candidates("sh", "/a::/b"), ["/a/sh", "./sh", "/b/sh"]);
        assert_eq!(candidates("./sh", "/a"), ["./sh"]);
    }
}
