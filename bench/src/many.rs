//! L9: a thousand jobs that sleep, on one runner.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use cloister_tests::{
    Service,
    cleanup::{cells, children},
};
use nix::unistd::Pid;
use serde_json::json;

use crate::{
    Options, cgroups,
    child::{Handle, Order},
    http::{Connection, request},
    procs,
    report::{Goal, Report},
    services::{self, TRUE, address, completed},
    stats::{Spread, count, large, p50},
};

const SLEEP: &str = r#"{"argv":["/bin/sleep","600"],"timeout":900}"#;
const PAUSE: Duration = Duration::from_millis(10);
const LAUNCHES: usize = 20;
const PATIENCE: Duration = Duration::from_secs(120);
/// A thread that only waits for an answer.
const STACK: usize = 64 << 10;
/// Cells that were started, or made ahead, are what they will be.
const SETTLED: Duration = Duration::from_secs(1);

/// Medians of turns, in milliseconds.
struct Turns {
    ours: Vec<f64>,
    base: Vec<f64>,
}

/// Measures it.
pub(crate) fn measure(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let jobs = options.sleeping;
    let runner = services::runner(jobs + 16, None);
    let to = address(runner.client())?;
    let mut spawn = Handle::spawn()?;
    turns(to, &mut spawn, 2)?;
    let before = turns(to, &mut spawn, options.turns.min(10))?;
    thread::sleep(SETTLED);
    let empty = Memory::of(&runner)?;
    let (with, full) = thread::scope(|scope| {
        for _ in 0..jobs {
            let builder = thread::Builder::new().stack_size(STACK);
            let sleep = move || {
                // Its job does not end: the runner is ended beneath it.
                let _ = Connection::open(to)
                    .and_then(|mut c| c.call(&request("POST", "/execute", to, SLEEP)).map(drop));
            };
            builder.spawn_scoped(scope, sleep).context("a thread cannot be started")?;
        }
        let told = (|| {
            running(&runner, jobs)?;
            thread::sleep(SETTLED);
            let with = turns(to, &mut spawn, options.turns.min(10))?;
            thread::sleep(SETTLED);
            anyhow::Ok((with, Memory::of(&runner)?))
        })();
        // Ends the threads as well, whatever came of it.
        services::end(runner);
        told
    })?;
    let usual = Spread::of(&before.ours).median;
    let ratios: Vec<f64> = with.ours.iter().map(|turn| turn / usual).collect();
    let what = format!("{jobs} jobs that sleep on one runner: launch p50 over that with none");
    report.ratio("L9", what, &ratios, Some(Goal::AtMost(2.0)));
    let machine = Spread::of(&with.base).median / Spread::of(&before.base).median;
    let each = full.less(&empty, jobs);
    let what = format!("memory of ours for each of {jobs} jobs that sleep");
    let spread = Spread { median: each.sum(), low: each.sum(), high: each.sum() };
    report.row("L9", what, " KiB", Ok(spread), Some(Goal::AtMost(300.0)));
    report.note(format!(
        "Of that, PSS of the cell's PID 1 and of the services {:.0} KiB, the kernel's for the cell's \
         cgroup {:.0} KiB (what the job itself takes of the kernel with it). Meanwhile the p50 of \
         `posix_spawn` was {machine:.2} times what it had been.",
        each.processes, each.kernel
    ));
    report.number(
        "sleeping.launch_ms",
        json!({
            "with_none": before.ours, "with_all": with.ours,
            "posix_spawn_with_none": before.base, "posix_spawn_with_all": with.base,
        }),
    );
    report.number("sleeping.kib_each", json!({ "pss": each.processes, "kernel": each.kernel }));
    Ok(())
}

/// Launches through the runner and by posix_spawn(3) in turn.
fn turns(to: SocketAddr, spawn: &mut Handle, turns: usize) -> anyhow::Result<Turns> {
    let mut medians = Turns { ours: Vec::new(), base: Vec::new() };
    let mut connection = Connection::open(to)?;
    let request = request("POST", "/execute", to, TRUE);
    for _ in 0..turns {
        let mut times = Vec::new();
        for _ in 0..LAUNCHES {
            let start = Instant::now();
            let answer = connection.call(&request)?;
            times.push(start.elapsed());
            answer.must_be(200)?;
            completed(answer.body)?;
            thread::sleep(PAUSE);
        }
        medians.ours.push(p50(&times));
        let order = Order { pause: PAUSE, ..Order::of(&["/bin/true"], LAUNCHES) };
        medians.base.push(p50(&spawn.launch(&order)?.times));
    }
    Ok(medians)
}

/// Returns when so many jobs run.
fn running(runner: &Service, jobs: usize) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        let health = runner.client().get("/health").json();
        let used = health["slots"]["used"].as_u64().context("a runner tells its slots")?;
        // A slot is taken before its cell is there: each sleep is counted too.
        let cells = cells(runner.launcher());
        let sleeping = cells.iter().filter(|cell| !children(**cell).is_empty());
        if used == u64::try_from(jobs)? && sleeping.count() == jobs {
            return Ok(());
        }
        ensure!(Instant::now() < until, "of {jobs} jobs only {used} run");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Of ours, in KiB.
struct Memory {
    processes: f64,
    kernel: f64,
}

impl Memory {
    /// The runner, its launcher, and PID 1 of each cell; not the jobs.
    fn of(runner: &Service) -> anyhow::Result<Self> {
        let launcher = runner.launcher();
        let ours: Vec<Pid> =
            [runner.pid(), launcher].into_iter().chain(children(launcher)).collect();
        let processes = large(procs::pss_of(&ours)?);
        let kernel = large(cgroups::kernel_bytes(launcher)?) / 1024.0;
        Ok(Self { processes, kernel })
    }

    fn less(&self, other: &Self, jobs: usize) -> Self {
        Self {
            processes: (self.processes - other.processes) / count(jobs),
            kernel: (self.kernel - other.kernel) / count(jobs),
        }
    }

    fn sum(&self) -> f64 {
        self.processes + self.kernel
    }
}
