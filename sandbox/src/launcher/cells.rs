//! Making one cell, as seen from outside: cgroup, pipes, clone3, maps; and taking it away again.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::{
    fcntl::OFlag,
    sys::{
        signal::{Signal, kill},
        socket::SockType,
        wait::waitpid,
    },
    unistd::{Gid, Pid, Uid, fchown, pipe2},
};

use super::identity::{Users, clone_owned, map};
use crate::{
    cell,
    cgroup::{Cgroups, Group, Opened},
    error::{At, Fault, Step},
    layers::{Layer, namespaces},
    sys::{self, Cloned},
    wire::{Attached, CellId, Reply, Sizes, send},
};

/// What PID 1 waits for before it trusts its surroundings: that its maps are written.
pub(crate) const GO: u8 = 1;

/// A cell that was made and not yet released.
pub(crate) struct Cell {
    pid: Pid,
    group: Group,
    pub(crate) user: u32,
}

impl Cell {
    /// Kills all that is in it: its PID 1, and with that its whole pid namespace.
    pub(crate) fn kill(&self) {
        // Not reaped before `release`, so the id is still this cell's.
        let _ = kill(self.pid, Signal::SIGKILL);
    }

    /// Reaps it and removes its cgroup; gives the group back where the kernel is not ready for that.
    pub(crate) fn release(mut self) -> Option<Group> {
        let _ = waitpid(self.pid, None);
        self.group.remove().is_err().then_some(self.group)
    }
}

/// The job's ends of its standard input, output and error, and ours where there are pipes.
struct Stdio {
    theirs: [OwnedFd; 3],
    ours: Option<[OwnedFd; 3]>,
}

/// Makes a cell and tells the engine of it; the rest is up to the cell itself. A failure comes with the
/// cgroup that could not be removed yet, if there is one.
pub(crate) fn prepare(
    cgroups: &Cgroups,
    users: &Users,
    (cell, sizes): (CellId, &Sizes),
    plan: &cell::Plan,
    passed: Option<[OwnedFd; 3]>,
    socket: &OwnedFd,
) -> Result<Cell, (Fault, Option<Group>)> {
    let made = Group::make(cgroups, cell, sizes).at(Step::Cgroup);
    let (mut group, opened) = made.map_err(|fault| (fault, None))?;
    let made = clone(&opened, users, plan, passed);
    let (pid, attached) = match made {
        Ok(made) => made,
        Err(fault) => return Err((fault, group.remove().is_err().then_some(group))),
    };
    let cell_made = Cell { pid, group, user: plan.outer_id };
    let shortage = opened.shortage_event().at(Step::Cgroup);
    let announced = shortage
        .and_then(|oom| announce(socket, cell, &opened, &attached, oom.as_ref()).at(Step::Release));
    match announced {
        Ok(()) => Ok(cell_made),
        Err(fault) => {
            cell_made.kill();
            Err((fault, cell_made.release()))
        }
    }
}

/// The engine's descriptors of a cell.
struct Handles {
    control: OwnedFd,
    pidfd: OwnedFd,
    pipes: Option<[OwnedFd; 3]>,
}

fn clone(
    opened: &Opened,
    users: &Users,
    plan: &cell::Plan,
    passed: Option<[OwnedFd; 3]>,
) -> Result<(Pid, Handles), Fault> {
    let stdio = match passed {
        Some(theirs) => Stdio { theirs, ours: None },
        None => pipes().at(Step::Pipes)?,
    };
    if matches!(users, Users::Range(_)) {
        stdio.theirs.iter().try_for_each(|end| give_pipe(end, plan.outer_id)).at(Step::Pipes)?;
    }
    let (control, inner) = sys::socket_pair(SockType::Stream).at(Step::Pipes)?;
    let doors = opened.doors().at(Step::Join)?;
    // SAFETY: the launcher is single-threaded.
    #[allow(unsafe_code)]
    let cloned = unsafe {
        clone_owned(users, plan.outer_id, namespaces(plan.new_network), opened.for_clone())
    };
    match cloned.at(Step::Clone)? {
        Cloned::Child => {
            cell::run(plan, &doors, [&stdio.theirs[0], &stdio.theirs[1], &stdio.theirs[2]], &inner)
        }
        Cloned::Parent { pid, pidfd } => {
            let readied = (|| {
                offer_to_oom_killer(pid).at(Step::Join)?;
                if Layer::UserNamespace.stands() {
                    map(pid, plan.outer_id).at(Step::Map)?;
                }
                nix::unistd::write(&control, &[GO]).at(Step::Release)
            })();
            if let Err(fault) = readied {
                let _ = kill(pid, Signal::SIGKILL);
                let _ = waitpid(pid, None);
                return Err(fault);
            }
            Ok((pid, Handles { control, pidfd, pipes: stdio.ours }))
        }
    }
}

/// When the host runs out of memory, jobs go first and their service last. Written from here, since
/// only with CAP_SYS_RESOURCE it also becomes the least that the job can set (proc_pid_oom_score_adj(5)).
fn offer_to_oom_killer(pid: Pid) -> io::Result<()> {
    std::fs::write(format!("/proc/{pid}/oom_score_adj"), "500")
}

/// Three pipes: the job's ends and ours.
fn pipes() -> io::Result<Stdio> {
    let (stdin, to_stdin) = pipe2(OFlag::O_CLOEXEC)?;
    let (from_stdout, stdout) = pipe2(OFlag::O_CLOEXEC)?;
    let (from_stderr, stderr) = pipe2(OFlag::O_CLOEXEC)?;
    Ok(Stdio { theirs: [stdin, stdout, stderr], ours: Some([to_stdin, from_stdout, from_stderr]) })
}

/// Lets the job open its `/dev/stdout` again: the kernel asks who owns the pipe. Only a pipe without
/// a name is given away, which means nothing to anybody else; never a file, a terminal or a FIFO.
fn give_pipe(end: &OwnedFd, user: u32) -> io::Result<()> {
    const PIPEFS: i64 = 0x5049_5045;
    if rustix::fs::fstatfs(end)?.f_type == PIPEFS {
        fchown(end, Some(Uid::from_raw(user)), Some(Gid::from_raw(user)))?;
    }
    Ok(())
}

fn announce(
    socket: &OwnedFd,
    cell: CellId,
    opened: &Opened,
    handles: &Handles,
    oom: Option<&OwnedFd>,
) -> io::Result<()> {
    let (kill, brake) = (opened.kill_switch(), opened.brake());
    let (records, files): (Vec<_>, Vec<_>) = opened.records().into_iter().unzip();
    let attached = Attached {
        pipes: handles.pipes.is_some(),
        kill: kill.is_some(),
        brake: brake.is_some(),
        oom: oom.is_some(),
        records,
    };
    let mut fds: Vec<BorrowedFd<'_>> = vec![handles.control.as_fd(), handles.pidfd.as_fd()];
    fds.extend(handles.pipes.iter().flatten().map(AsFd::as_fd));
    fds.extend(kill.iter().chain(&brake).chain(oom).chain(&files).map(AsFd::as_fd));
    send(socket, &Reply::Ready { cell, attached }, &fds)
}
