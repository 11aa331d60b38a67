//! Networks that are made ahead: each job has one of its own, which works, and over which it has no
//! power.
//!
//! Without libtest's harness, since the launcher is forked while the process has one thread.

mod common;
#[path = "common/scene.rs"]
mod scene;

use std::{collections::BTreeSet, fs, process::Command};

use cloister_api::Status;
use cloister_sandbox::Config;
use common::children;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use scene::{Scene, end, python, shell};

fn main() {
    Scene::set_up(&Config::default()).run_all(&[
        ("each_job_has_its_own", own),
        ("its_loopback_works_and_is_all_that_there_is", loopback),
        ("a_cells_root_has_no_power_over_it", powerless),
        ("what_makes_them_is_replaced_when_it_was_killed", replaced),
    ]);
}

fn own(scene: &Scene) {
    const JOBS: usize = 4;
    let jobs: Vec<_> = (0..JOBS).map(|_| scene.start(shell("sleep 1000"))).collect();
    scene.until("all run", || scene.with_jobs().len() == JOBS);
    let network = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    let networks = scene.with_jobs().into_iter().map(|(cell, _)| network(&cell.to_string()));
    let all: BTreeSet<_> = networks.chain([network("self")]).collect();
    assert_eq!(all.len(), JOBS + 1, "{all:?}");
    for (ticket, hear) in jobs {
        ticket.cancel();
        end(&hear);
    }
}

fn loopback(scene: &Scene) {
    let program = "import socket\n\
        server = socket.create_server(('127.0.0.1', 0))\n\
        client = socket.create_connection(server.getsockname())\n\
        print([name for _, name in socket.if_nameindex()])";
    let outcome = scene.ended(python(program));
    assert_eq!(outcome.stdout.as_deref(), Some("['lo']\n"), "{outcome:?}");
}

/// With all capabilities of the job's user namespace one enters what belongs to it, such as its host
/// name, but not its network.
fn powerless(scene: &Scene) {
    let (ticket, hear) = scene.start(shell("sleep 1000"));
    scene.until("it runs", || scene.with_jobs().len() == 1);
    let program = "import ctypes, os, sys\n\
        libc = ctypes.CDLL(None, use_errno=True)\n\
        kinds = ['user', 'uts', 'net']\n\
        files = [os.open(f'/proc/{sys.argv[1]}/ns/{kind}', os.O_RDONLY) for kind in kinds]\n\
        print([libc.setns(file, 0) and ctypes.get_errno() for file in files])";
    let cell = scene.with_jobs()[0].0.to_string();
    let entered = Command::new("python3").args(["-c", program, &cell]).output().unwrap();
    let expected = format!("[0, 0, {}]\n", libc::EPERM);
    assert_eq!(String::from_utf8_lossy(&entered.stdout), expected, "{entered:?}");
    ticket.cancel();
    end(&hear);
}

fn replaced(scene: &Scene) {
    let killed = maker(scene);
    kill(Pid::from_raw(killed.cast_signed()), Signal::SIGKILL).unwrap();
    for _ in 0..3 {
        let outcome = scene.ended(shell("true"));
        assert_eq!(outcome.status, Status::Completed, "{outcome:?}");
    }
    scene.until("another one is there, and alone", || maker(scene) != killed);
}

/// The launcher's child that is no cell.
fn maker(scene: &Scene) -> u32 {
    let cells = scene.cells();
    let others: Vec<_> =
        children(scene.launcher).into_iter().filter(|pid| !cells.contains(pid)).collect();
    <[u32; 1]>::try_from(others).map(|[maker]| maker).expect("one makes networks")
}
