//! Networks that are made ahead: each job has one of its own, which works, and over which it has no
//! power.
//!
//! Without libtest's harness, since the launcher is forked while the process has one thread.

#[path = "common/cells.rs"]
mod cells;
mod common;

use std::{
    collections::BTreeSet,
    fs,
    process::Command,
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

use cells::cells;
use cloister_api::{Outcome, Program, Status, Task};
use cloister_sandbox::{Config, Engine, Launcher, Ticket};
use common::{children, only_child, run};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const PATIENCE: Duration = Duration::from_secs(60);

struct Scene {
    engine: Engine,
    launcher: u32,
}

type Test = fn(&Scene);

fn main() {
    let launcher = Launcher::fork(&Config::default());
    let launcher = launcher.expect("cells can be made here: this test runs as root");
    let pid = only_child();
    let engine = Engine::start(launcher, || panic!("the launcher has ended")).unwrap();
    let scene = Scene { engine, launcher: pid };
    let tests: [(&str, Test); 4] = [
        ("each_job_has_its_own", own),
        ("its_loopback_works_and_is_all_that_there_is", loopback),
        ("a_cells_root_has_no_power_over_it", powerless),
        ("what_makes_them_is_replaced_when_it_was_killed", replaced),
    ];
    println!("\nrunning {} tests", tests.len());
    for (name, test) in tests {
        test(&scene);
        println!("test {name} ... ok");
    }
    scene.engine.stop();
    println!(
        "\ntest result: ok. {} passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
        tests.len()
    );
}

fn own(scene: &Scene) {
    const JOBS: usize = 4;
    let jobs: Vec<_> = (0..JOBS).map(|_| scene.start("sleep 1000")).collect();
    scene.until("all run", || scene.with_jobs().len() == JOBS);
    let network = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    let networks = scene.with_jobs().into_iter().map(|cell| network(&cell.to_string()));
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
    let outcome = end(&scene.start_task(python(program)).1);
    assert_eq!(outcome.stdout.as_deref(), Some("['lo']\n"), "{outcome:?}");
}

/// With all capabilities of the job's user namespace one enters what belongs to it, such as its host
/// name, but not its network.
fn powerless(scene: &Scene) {
    let (ticket, hear) = scene.start("sleep 1000");
    scene.until("it runs", || scene.with_jobs().len() == 1);
    let program = "import ctypes, os, sys\n\
        libc = ctypes.CDLL(None, use_errno=True)\n\
        kinds = ['user', 'uts', 'net']\n\
        files = [os.open(f'/proc/{sys.argv[1]}/ns/{kind}', os.O_RDONLY) for kind in kinds]\n\
        print([libc.setns(file, 0) and ctypes.get_errno() for file in files])";
    let cell = scene.with_jobs()[0].to_string();
    let entered = Command::new("python3").args(["-c", program, &cell]).output().unwrap();
    let expected = format!("[0, 0, {}]\n", libc::EPERM);
    assert_eq!(String::from_utf8_lossy(&entered.stdout), expected, "{entered:?}");
    ticket.cancel();
    end(&hear);
}

fn replaced(scene: &Scene) {
    let maker = scene.maker();
    kill(Pid::from_raw(maker.cast_signed()), Signal::SIGKILL).unwrap();
    for _ in 0..3 {
        let outcome = end(&scene.start("true").1);
        assert_eq!(outcome.status, Status::Completed, "{outcome:?}");
    }
    scene.until("another one is there, and alone", || scene.maker() != maker);
}

fn python(program: &str) -> Task {
    Task::new(Program::Argv(["python3", "-c", program].map(String::from).into()))
}

fn end(hear: &Receiver<Outcome>) -> Outcome {
    hear.recv_timeout(PATIENCE).expect("the job ends")
}

impl Scene {
    fn start(&self, line: &str) -> (Ticket, Receiver<Outcome>) {
        self.start_task(Task::new(Program::Command(line.into())))
    }

    fn start_task(&self, task: Task) -> (Ticket, Receiver<Outcome>) {
        run(&self.engine, task)
    }

    /// The cells whose job runs.
    fn with_jobs(&self) -> Vec<u32> {
        cells(self.launcher).into_iter().filter(|cell| !children(*cell).is_empty()).collect()
    }

    /// The launcher's child that is no cell.
    fn maker(&self) -> u32 {
        let cells = cells(self.launcher);
        let others: Vec<_> =
            children(self.launcher).into_iter().filter(|pid| !cells.contains(pid)).collect();
        <[u32; 1]>::try_from(others).map(|[maker]| maker).expect("one makes networks")
    }

    fn until(&self, what: &str, good: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !good() {
            assert!(Instant::now() < until, "waited in vain until {what}: {:?}", self.with_jobs());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
