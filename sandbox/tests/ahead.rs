//! Cells that are made ahead of their jobs, and results that are told ahead of their cells' end: each
//! job has one of its own, as it asked for, and nothing is left of it when it has ended.
//!
//! Without libtest's harness, since the launcher is forked while the process has one thread.

mod common;
#[path = "common/scene.rs"]
mod scene;

use std::{collections::BTreeSet, fs};

use cloister_api::{ByteSize, Reason, Status, Task};
use cloister_sandbox::Config;
use common::children;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use scene::{Scene, end, python, shell};

/// Cells that wait at most.
const AHEAD: usize = 2;

fn main() {
    let config = Config { cells_ahead: AHEAD, ..Config::default() };
    Scene::set_up(&config).run_all(&[
        ("none_waits_before_the_first_job", none_before),
        ("a_job_takes_the_cell_that_waits_and_no_other_does", taken_once),
        ("a_job_of_other_sizes_does_not_take_it", other_sizes),
        ("limits_hold_in_it", limits),
        ("a_job_in_it_is_counted_and_cancelled", counted),
        ("jobs_in_cells_of_one_go_are_strangers", strangers),
        ("one_that_has_died_is_not_given_out", died),
        ("a_command_that_nobody_has_read_is_run_in_another_cell", died_unread),
        ("a_command_that_runs_is_not_run_again", died_running),
        ("memory_is_given_back_before_the_end_is_told", given_back),
        ("nothing_runs_on_when_the_end_is_told", nothing_left),
        // The last: it waits until nobody has needed one for a while.
        ("none_waits_after_a_while_without_jobs", idle),
    ]);
}

fn none_before(scene: &Scene) {
    assert!(scene.cells().is_empty(), "{:?}", scene.cells());
}

fn taken_once(scene: &Scene) {
    let waiting = scene.has_one_ready();
    let (ticket, hear) = scene.start(shell("sleep 1000"));
    let (cell, _) = scene.cell_of_the_job();
    assert!(waiting.contains(&cell), "{cell} is none of {waiting:?}");
    // Another one is made, for another job.
    scene.until("a cell waits again", || scene.waiting().iter().any(|spare| *spare != cell));
    let (second, again) = scene.start(shell("sleep 1000"));
    scene.until("the second job runs", || scene.with_jobs().len() == 2);
    second.cancel();
    ticket.cancel();
    assert_eq!(end(&hear).status, Status::Cancelled);
    assert_eq!(end(&again).status, Status::Cancelled);
    scene.until("the cell is gone", || !scene.cells().contains(&cell));
}

fn other_sizes(scene: &Scene) {
    let waiting = scene.has_one_ready();
    let mut task = shell("sleep 1000");
    task.limits.memory = ByteSize::mib(33);
    let (ticket, hear) = scene.start(task);
    let (cell, _) = scene.cell_of_the_job();
    assert!(!waiting.contains(&cell), "{cell} has the sizes of {waiting:?}");
    ticket.cancel();
    end(&hear);
}

/// Each a second time, in a cell that was made ahead for it.
fn limits(scene: &Scene) {
    let hog = || {
        let mut task = python("x = b'x' * (200 << 20)");
        task.limits.memory = ByteSize::mib(60);
        task
    };
    let full = || {
        let mut task = shell("head -c 3000000 /dev/zero > /tmp/x");
        task.limits.disk = ByteSize::mib(2);
        task
    };
    let crowd = || {
        let mut task = shell("for i in 1 2 3 4 5 6 7 8 9; do sleep 9 & done; wait");
        task.limits.pids = 5;
        task
    };
    for task in [&hog as &dyn Fn() -> Task, &full, &crowd] {
        let made = *scene.ready_after(task()).last().unwrap();
        let outcome = scene.ended(task());
        assert_ne!(outcome.status, Status::Completed, "{outcome:?}");
        scene.until("the cell that was made for it is gone", || !scene.cells().contains(&made));
    }
    let outcome = scene.ended(hog());
    assert_eq!(outcome.reason, Some(Reason::OutOfMemory), "{outcome:?}");
}

fn counted(scene: &Scene) {
    let waiting = scene.has_one_ready();
    let (ticket, hear) = scene.start(shell("sleep 1000 & sleep 1000 & wait"));
    let (cell, _) = scene.cell_of_the_job();
    assert!(waiting.contains(&cell));
    scene.until("its processes are counted", || ticket.stats().pids == Some(3));
    ticket.cancel();
    assert_eq!(end(&hear).status, Status::Cancelled);
}

fn strangers(scene: &Scene) {
    // Sizes that no other test asks for: both that wait are for these two.
    let alike = |mut task: Task| {
        task.limits.memory = ByteSize::mib(65);
        task
    };
    let mut rounds = 0;
    while rounds < 2 * AHEAD || scene.waiting().len() < AHEAD {
        assert!(rounds < 50, "there are not as many as jobs found missing");
        rounds += 1;
        let jobs: Vec<_> = (0..=AHEAD).map(|_| scene.start(alike(shell("sleep 0.05")))).collect();
        for (_, hear) in &jobs {
            end(hear);
        }
        scene.ready();
    }
    let waiting = scene.waiting();
    let (first, hear_first) = scene.start(alike(python(
        "import socket, time, ctypes, os\n\
         for path in ('/tmp/left', '/dev/shm/left', '/job/left'):\n\
         \topen(path, 'w').write('secret')\n\
         tcp = socket.create_server(('127.0.0.1', 4000))\n\
         unix = socket.socket(socket.AF_UNIX); unix.bind('\\0left'); unix.listen()\n\
         assert ctypes.CDLL(None).shmget(4000, 4096, 0o1666) >= 0\n\
         open('/tmp/ready', 'w')\n\
         time.sleep(1000)",
    )));
    let (cell, _) = scene.cell_of_the_job();
    scene.until("it has left all that", || {
        fs::exists(format!("/proc/{cell}/root/tmp/ready")).unwrap_or(false)
    });
    let (_second, hear) = scene.start(alike(python(
        "import socket, ctypes, os\n\
         for path in ('/tmp', '/dev/shm', '/job'):\n\
         \tprint(path, os.listdir(path))\n\
         def reach(kind, address):\n\
         \ttry: socket.socket(kind).connect(address); return 'reached'\n\
         \texcept OSError as error: return 'not reached'\n\
         print(reach(socket.AF_INET, ('127.0.0.1', 4000)), reach(socket.AF_UNIX, '\\0left'))\n\
         print(ctypes.CDLL(None).shmget(4000, 4096, 0o666))\n\
         print([pid for pid in os.listdir('/proc') if pid.isdigit()])\n\
         try: os.kill(-1, 9); print('killed')\n\
         except OSError: print('nobody to kill')\n\
         import time; open('/tmp/ready', 'w'); time.sleep(1)",
    )));
    scene.until("both run", || scene.with_jobs().len() == 2);
    let cells: Vec<u32> = scene.with_jobs().into_iter().map(|(cell, _)| cell).collect();
    assert_eq!(BTreeSet::from_iter(&cells), BTreeSet::from_iter(&waiting), "those of one go");
    for name in ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"] {
        let inode = |pid| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        assert_ne!(inode(cells[0]), inode(cells[1]), "{name}");
        assert_ne!(inode(cells[0]), inode(std::process::id()), "{name}");
    }
    let owner = |cell: u32| {
        let status = fs::read_to_string(format!("/proc/{cell}/status")).unwrap();
        status.lines().find(|line| line.starts_with("Uid:")).unwrap().to_owned()
    };
    assert_ne!(owner(cells[0]), owner(cells[1]));
    let outcome = end(&hear);
    assert_eq!(
        outcome.stdout.as_deref(),
        Some(
            "/tmp []\n/dev/shm []\n/job []\nnot reached not reached\n-1\n['1', '2']\n\
             nobody to kill\n"
        ),
        "{outcome:?}"
    );
    first.cancel();
    // It lived through what the other one tried.
    assert_eq!(end(&hear_first).status, Status::Cancelled);
}

fn died(scene: &Scene) {
    for cell in scene.has_one_ready() {
        kill(pid(cell), Signal::SIGKILL).unwrap();
        scene.until("it is taken away", || !scene.cells().contains(&cell));
    }
    for _ in 0..3 {
        let outcome = scene.ended(shell("echo well"));
        assert_eq!(outcome.stdout.as_deref(), Some("well\n"), "{outcome:?}");
    }
    // And the next ones wait again.
    scene.has_one_ready();
}

fn died_unread(scene: &Scene) {
    let waiting = scene.has_one_ready();
    // Stopped, they are given out, and read nothing.
    for cell in &waiting {
        kill(pid(*cell), Signal::SIGSTOP).unwrap();
        scene.until("it has stopped", || read(*cell, "stat").contains(") T "));
    }
    let (_ticket, hear) = scene.start(shell("echo once"));
    for cell in &waiting {
        kill(pid(*cell), Signal::SIGKILL).unwrap();
    }
    let outcome = end(&hear);
    assert_eq!(outcome.stdout.as_deref(), Some("once\n"), "{outcome:?}");
    scene.until("they are gone", || waiting.iter().all(|cell| !scene.cells().contains(cell)));
}

fn died_running(scene: &Scene) {
    scene.has_one_ready();
    let (_ticket, hear) = scene.start(shell("sleep 1000"));
    let (cell, jobs) = scene.cell_of_the_job();
    scene.until("it was executed, and that was told", || {
        read(jobs[0], "comm") == "sh\n" && read(cell, "stat").contains(") S ")
    });
    kill(pid(cell), Signal::SIGKILL).unwrap();
    let outcome = end(&hear);
    assert_eq!((outcome.reason, outcome.signal), (Some(Reason::Signal), Some(9)), "{outcome:?}");
    assert!(scene.with_jobs().is_empty(), "{:?}", scene.with_jobs());
}

fn given_back(scene: &Scene) {
    for _ in 0..5 {
        scene.has_one_ready();
        let outcome = scene.ended(shell("head -c 64000000 /dev/zero > /tmp/x"));
        let held = scene.engine.stats().memory_bytes;
        assert_eq!(outcome.status, Status::Completed, "{outcome:?}");
        assert!(held.is_some_and(|held| held < 32 << 20), "{held:?}");
    }
}

fn nothing_left(scene: &Scene) {
    for _ in 0..5 {
        scene.has_one_ready();
        let outcome = scene.ended(shell("sleep 1000 & sleep 1000 & (setsid sleep 1000 &)"));
        let left = scene.with_jobs();
        assert_eq!(outcome.status, Status::Completed, "{outcome:?}");
        assert!(left.is_empty(), "{left:?}");
    }
}

/// By itself: once nobody has needed it from one look to the next.
fn idle(scene: &Scene) {
    scene.has_one_ready();
    scene.until("none waits", || scene.cells().is_empty());
}

/// What the kernel says of a process; nothing where it is gone.
fn read(process: u32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default()
}

fn pid(process: u32) -> Pid {
    Pid::from_raw(process.cast_signed())
}

impl Scene {
    /// The cells that wait for a command: their PID 1 has taken its name and reads.
    fn waiting(&self) -> Vec<u32> {
        let waits = |cell: &u32| {
            read(*cell, "comm") == "cell-init\n"
                && read(*cell, "stat").contains(") S ")
                && children(*cell).is_empty()
        };
        self.cells().into_iter().filter(waits).collect()
    }

    /// Runs a job, and waits until a cell was made for the next one like it, and all others wait too.
    fn has_one_ready(&self) -> Vec<u32> {
        self.ready_after(shell("true"))
    }

    /// The same with another job.
    fn ready_after(&self, task: Task) -> Vec<u32> {
        let before = self.cells();
        self.ended(task);
        self.until("a cell is made for the next job", || {
            self.waiting().iter().any(|cell| !before.contains(cell))
        });
        self.ready()
    }

    fn ready(&self) -> Vec<u32> {
        self.until("a cell waits, and none is on its way", || {
            let waiting = self.waiting();
            !waiting.is_empty() && waiting == self.cells()
        });
        self.waiting()
    }

    fn cell_of_the_job(&self) -> (u32, Vec<u32>) {
        self.until("the job runs", || self.with_jobs().len() == 1);
        self.with_jobs().remove(0)
    }
}
