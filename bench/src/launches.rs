//! L1 to L4: one launch, by every means in turn.

use std::{path::Path, time::Duration};

use anyhow::Context;
use cloister_tests::{Scratch, Service};
use serde_json::json;

use crate::{
    Options,
    child::{Handle, Limit, Order},
    http::{Connection, request},
    others,
    report::{Goal, Report},
    services::{self, TRUE, address, completed},
    stats::{Spread, millis, p50, p99, quantile},
};

/// Between two launches, in which what is made ahead can be made.
const PAUSE: Duration = Duration::from_millis(20);
/// Between two means, in which what the first one left behind ends.
const BETWEEN: Duration = Duration::from_millis(150);
/// Cells that are made ahead where the library is used by itself.
pub(crate) const AHEAD: usize = 4;

/// A launch of `/bin/true`, so many times with pauses.
type Launch = Box<dyn FnMut(usize) -> anyhow::Result<Vec<Duration>>>;

struct Means {
    name: &'static str,
    launch: Launch,
    /// Launches in a turn: more where a 99th percentile is wanted.
    count: usize,
    /// Of each turn.
    times: Vec<Vec<Duration>>,
}

impl Means {
    fn new(name: &'static str, count: usize, launch: Launch) -> Self {
        Self { name, launch, count, times: Vec::new() }
    }

    /// Spawns a program.
    fn spawning(name: &'static str, count: usize, mut child: Handle, argv: Vec<String>) -> Self {
        let launch = move |count| {
            let order = Order { argv: argv.clone(), ..paced(count) };
            Ok(child.launch(&order)?.times)
        };
        Self::new(name, count, Box::new(launch))
    }

    fn library(name: &'static str, mut child: Handle) -> Self {
        let launch = move |count| Ok(child.launch(&paced(count))?.times);
        Self::new(name, 10, Box::new(launch))
    }

    fn execute(runner: &Service) -> anyhow::Result<Self> {
        let runner = address(runner.client())?;
        let request = request("POST", "/execute", runner, TRUE);
        let launch = move |count| {
            // A new one for each turn: between two of them the service may close it as idle.
            let mut connection = Connection::open(runner)?;
            let mut times = Vec::new();
            for _ in 0..count {
                let start = std::time::Instant::now();
                let answer = connection.call(&request)?;
                times.push(start.elapsed());
                answer.must_be(200)?;
                completed(answer.body)?;
                std::thread::sleep(PAUSE);
            }
            Ok(times)
        };
        Ok(Self::new("execute", 20, Box::new(launch)))
    }

    fn medians(&self) -> Vec<f64> {
        self.times.iter().map(|turn| p50(turn)).collect()
    }

    fn all(&self) -> Vec<Duration> {
        self.times.concat()
    }
}

fn plain() -> Vec<String> {
    vec!["/bin/true".into()]
}

fn paced(count: usize) -> Order {
    Order { pause: PAUSE, ..Order::of(&["/bin/true"], count) }
}

/// Measures those of L1 to L4 that are wanted.
pub(crate) fn measure(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let wanted = |id| options.wants(id);
    let folder = Scratch::new("bundles");
    let runner = wanted("L4").then(|| services::runner(4, None));
    let mut all = vec![Means::spawning("posix_spawn", 20, Handle::spawn()?, plain())];
    if wanted("L1") {
        all.push(Means::library("warm", Handle::library(AHEAD)?));
    }
    if wanted("L2") {
        all.push(Means::library("cold", Handle::library(0)?));
        let namespaces = Handle::namespaces()?;
        all.push(Means::spawning("namespaces alone", 10, namespaces, plain()));
    }
    let mut absent = Vec::new();
    if wanted("L3") {
        for other in others::all(&folder)? {
            match other.argv {
                Ok(argv) => all.push(Means::spawning(other.name, 10, Handle::spawn()?, argv)),
                Err(why) => absent.push((other.name, why)),
            }
        }
    }
    if let Some(runner) = &runner {
        all.push(Means::execute(runner)?);
    }
    if let Some(before) = &options.before {
        all.extend(means_before(options, before)?);
    }
    for _ in 0..options.turns {
        for means in &mut all {
            let times = (means.launch)(means.count).with_context(|| means.name)?;
            means.times.push(times);
            std::thread::sleep(BETWEEN);
        }
    }
    for means in &all {
        report.number(
            format!("launch.{}.ms", means.name),
            json!({
                "p50": p50(&means.all()), "p99": p99(&means.all()), "turns": means.medians(),
            }),
        );
    }
    tell(&all, &absent, report)?;
    if wanted("L1") {
        back_to_back(options, report)?;
    }
    Ok(())
}

/// Measures L1 to L3 with another version. Its programs are in this folder.
fn means_before(options: &Options, programs: &Path) -> anyhow::Result<Vec<Means>> {
    let bench = programs.join("bench");
    let mut all = Vec::new();
    if options.wants("L1") {
        all.push(Means::library("warm before", Handle::library_of(&bench, AHEAD)?));
    }
    if options.wants("L2") {
        all.push(Means::library("cold before", Handle::library_of(&bench, 0)?));
    }
    if options.wants("L3") {
        let argv = others::cloister_run(&programs.join("cloister"));
        all.push(Means::spawning("cloister run before", 10, Handle::spawn()?, argv));
    }
    Ok(all)
}

fn tell(
    all: &[Means],
    absent: &[(&'static str, String)],
    report: &mut Report,
) -> anyhow::Result<()> {
    let find = |name: &str| all.iter().find(|means| means.name == name);
    let spawn = find("posix_spawn").context("nothing was spawned")?;
    if let Some(warm) = find("warm") {
        let ratios = ratios(&warm.medians(), &spawn.medians());
        let what = "library, pool warm: p50 over `posix_spawn`, paced";
        report.ratio("L1", what, &ratios, Some(Goal::AtMost(1.3)));
    }
    if let Some(cold) = find("cold") {
        let ratios = ratios(&cold.medians(), &spawn.medians());
        let what = "library, cold cell: p50 over `posix_spawn`";
        report.ratio("L2", what, &ratios, Some(Goal::AtMost(3.0)));
    }
    if let Some(bare) = find("namespaces alone") {
        let ratios = ratios(&bare.medians(), &spawn.medians());
        report.ratio("L2", "new namespaces alone: p50 over `posix_spawn`", &ratios, None);
    }
    if let Some(ours) = find("cloister run") {
        for (name, call, goal) in [
            ("bwrap", "bwrap --unshare-all", Some(Goal::AtMost(0.6))),
            ("runc", "runc run", None),
            ("crun", "crun run", None),
        ] {
            let what = format!("`cloister run`: p50 over `{call}`");
            if let Some(other) = find(name) {
                report.ratio("L3", what, &ratios(&ours.medians(), &other.medians()), goal);
            } else if let Some((_, why)) = absent.iter().find(|(absent, _)| *absent == name) {
                report.row("L3", what, "", Err(format!("{name} {why}")), goal);
            }
        }
    } else if let Some((name, why)) = absent.first() {
        let why = Err(format!("{name} {why}"));
        report.row("L3", "`cloister run`", "", why, Some(Goal::AtMost(0.6)));
    }
    if let Some(execute) = find("execute") {
        let (ours, base) = (execute.medians(), spawn.medians());
        let what = "`POST /execute`, keep-alive: p50 over `posix_spawn`";
        report.ratio("L4", what, &ratios(&ours, &base), Some(Goal::AtMost(1.5)));
        // A turn is too short for a 99th percentile: three parts of all turns are not.
        let part = execute.times.len().div_ceil(3).max(1);
        let tails: Vec<f64> = execute
            .times
            .chunks(part)
            .zip(spawn.times.chunks(part))
            .map(|(ours, base)| p99(&ours.concat()) / p50(&base.concat()))
            .collect();
        let what = "`POST /execute`, keep-alive: p99 over the p50 of `posix_spawn`";
        report.ratio("L4", what, &tails, Some(Goal::AtMost(4.0)));
    }
    for (id, now, before, what) in [
        ("L1", "warm", "warm before", "library, pool warm: p50 over the version before"),
        ("L2", "cold", "cold before", "library, cold cell: p50 over the version before"),
        (
            "L3",
            "cloister run",
            "cloister run before",
            "`cloister run`: p50 over the version before",
        ),
    ] {
        if let (Some(now), Some(before)) = (find(now), find(before)) {
            let ratios = ratios(&now.medians(), &before.medians());
            report.ratio(id, what, &ratios, Some(Goal::AtMost(1.1)));
        }
    }
    let medians = all.iter().map(|means| {
        let all = means.all();
        let tail = quantile(&millis(&all), 990);
        format!("{} {:.2} / {tail:.2}", means.name, p50(&all))
    });
    let medians: Vec<_> = medians.collect();
    report.note(format!("One launch, p50 / p99 in ms: {}.", medians.join(", ")));
    Ok(())
}

/// One launch straight after the other: cells that are made ahead are made on the same cores, and
/// whatever that takes counts.
fn back_to_back(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    const LAUNCHES: usize = 200;
    let mut spawn = Handle::spawn()?;
    let mut warm = Handle::library(AHEAD)?;
    let order = Order { until: Limit::Launches(LAUNCHES), ..Order::of(&["/bin/true"], 0) };
    let (mut elapsed, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..options.turns.clamp(3, 10) {
        let base = spawn.launch(&order)?;
        let ours = warm.launch(&order)?;
        elapsed.push(ours.elapsed.as_secs_f64() / base.elapsed.as_secs_f64());
        cpu.push(ours.cpu.as_secs_f64() / base.cpu.as_secs_f64());
    }
    let what =
        "library, pool warm: back to back, over `posix_spawn`, the refilling's CPU counted in";
    report.ratio("L1", what, &elapsed, Some(Goal::AtMost(3.5)));
    report.ratio("L1", "the same, CPU time of all processes", &cpu, None);
    report.number("back_to_back.elapsed_ratio", json!(Spread::of(&elapsed)));
    report.number("back_to_back.cpu_ratio", json!(Spread::of(&cpu)));
    Ok(())
}

fn ratios(ours: &[f64], base: &[f64]) -> Vec<f64> {
    ours.iter().zip(base).map(|(ours, base)| ours / base).collect()
}
