//! What the kernel counts per user and process ids: jobs that use up what they can get leave other cells
//! and root theirs.
//!
//! Process ids are tried in a pid namespace with few, which the kernel has from Linux 6.14 on; before,
//! `pid_max` is the host's own, and is left alone.
//!
//! Without libtest's harness, since the launcher is forked while the process has one thread.

mod common;
#[path = "common/scene.rs"]
mod scene;

use std::{env, fs, process::Command};

use cloister_sandbox::Config;
use scene::{Scene, end, python, shell};

/// Of the namespace, half of which jobs can have.
const PID_MAX: u64 = 600;

fn main() {
    if env::args().any(|arg| arg == "--few-pids") {
        return Scene::set_up(&Config::default())
            .run_all(&[("all_jobs_together_leave_process_ids_to_the_host", together)]);
    }
    with_few_pids();
    Scene::set_up(&Config::default()).run_all(&[
        ("each_user_namespace_is_owned_by_its_jobs_uid", owners),
        ("a_job_that_uses_up_inotify_takes_none_of_others", inotify),
        ("a_job_that_uses_up_pending_signals_takes_none_of_others", signals),
    ]);
}

/// Runs this program once more, in a pid namespace of its own.
fn with_few_pids() {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|n| n.parse().unwrap_or(0_u32));
    if (numbers.next(), numbers.next()) < (Some(6), Some(14)) {
        println!("not tried: Linux {} has one pid_max for all namespaces", release.trim());
        return;
    }
    let within = format!("echo {PID_MAX} > /proc/sys/kernel/pid_max && exec \"$0\" --few-pids");
    let status = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "sh", "-c", &within])
        .arg(env::current_exe().unwrap())
        .status();
    assert!(status.unwrap().success());
}

fn owners(scene: &Scene) {
    let jobs: Vec<_> = (0..2).map(|_| scene.start(shell("sleep 1000"))).collect();
    scene.until("both run", || scene.with_jobs().len() == 2);
    // NS_GET_OWNER_UID (ioctl_ns(2)), and the uid of the job itself.
    let program = "import fcntl, os, struct, sys\n\
        for pid in sys.argv[1:]:\n\
        \tfile = os.open(f'/proc/{pid}/ns/user', os.O_RDONLY)\n\
        \towner = struct.unpack('I', fcntl.ioctl(file, 0xb704, bytes(4)))[0]\n\
        \tprint(owner, os.stat(f'/proc/{pid}/task').st_uid)";
    let pids: Vec<_> = scene.with_jobs().iter().map(|(_, jobs)| jobs[0].to_string()).collect();
    let told = Command::new("python3").args(["-c", program]).args(&pids).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let ids: Vec<Vec<u32>> =
        told.lines().map(|line| line.split(' ').map(|id| id.parse().unwrap()).collect()).collect();
    assert!(ids.len() == 2 && ids.iter().all(|ids| ids[0] == ids[1] && ids[0] != 0), "{told}");
    assert_ne!(ids[0], ids[1], "{told}");
    for (ticket, hear) in jobs {
        ticket.cancel();
        end(&hear);
    }
}

fn inotify(scene: &Scene) {
    beside(scene, "libc.inotify_init1(0) >= 0", "libc.inotify_init1(0) >= 0");
}

fn signals(scene: &Scene) {
    let timer = "libc.timer_create(0, None, ctypes.byref(ctypes.c_void_p())) == 0";
    beside(scene, timer, timer);
}

/// While a job has as many as it can get, another job and root get one more.
fn beside(scene: &Scene, take: &str, one: &str) {
    // A grandchild whose parent has ended tells that it is done: PID 1 takes it in.
    let greedy = python(&format!(
        "import ctypes, os, signal\n\
         libc = ctypes.CDLL(None)\n\
         while {take}: pass\n\
         if os.fork() == 0:\n\
         \tif os.fork() == 0: signal.pause()\n\
         \tos._exit(0)\n\
         os.wait()\n\
         signal.pause()"
    ));
    let (ticket, hear) = scene.start(greedy);
    scene.until("it has all", || scene.with_jobs().iter().any(|(_, jobs)| jobs.len() == 2));
    let program = format!("import ctypes\nlibc = ctypes.CDLL(None)\nprint({one})");
    let outcome = scene.ended(python(&program));
    assert_eq!(outcome.stdout.as_deref(), Some("True\n"), "another job: {outcome:?}");
    let root = Command::new("python3").args(["-c", &program]).output().unwrap();
    assert_eq!(root.stdout, b"True\n", "root: {root:?}");
    ticket.cancel();
    end(&hear);
}

fn together(scene: &Scene) {
    let most = scene.engine.host().pids;
    assert_eq!(most, PID_MAX / 2 - 1);
    let bomb = "import os, signal\n\
        while True:\n\
        \ttry: pid = os.fork()\n\
        \texcept BlockingIOError: break\n\
        \tif pid == 0: signal.pause()\n\
        # Tells from outside that it is done.\n\
        os.nice(1)\n\
        signal.pause()";
    let mut jobs = Vec::new();
    for _ in 0..2 {
        let mut task = python(bomb);
        task.limits.pids = most;
        jobs.push(scene.start(task));
    }
    let nice = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let field =
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split(' ').nth(17).map(str::to_owned));
        field.as_deref() == Some("1")
    };
    scene.until("both have all that they can get", || {
        let jobs = scene.with_jobs();
        jobs.len() == 2 && jobs.iter().all(|(_, jobs)| nice(jobs[0]))
    });
    for _ in 0..100 {
        let ended = Command::new("true").status();
        assert!(ended.expect("the host can start a process").success());
    }
    for (ticket, hear) in jobs {
        ticket.cancel();
        end(&hear);
    }
}
