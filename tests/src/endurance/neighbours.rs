//! What jobs notice of a bomb in a neighbouring cell: nothing may be wrong; how long they take is
//! told beside the same without the bomb, measured in turn with it.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::{Value, json};

use super::{
    hostile::{Bomb, bombs, shortened},
    program::Program,
    report::Report,
    times::Times,
};
use crate::{COMPLETED, Service, execute, shell, verdict};

/// A bomb that has less time than this left is not set off any more.
const TOO_LATE: Duration = Duration::from_millis(100);

/// How long, and which bombs.
#[derive(Args, Clone, Debug)]
pub struct Neighbours {
    /// Seconds with, and seconds without the bomb, each time
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    pub seconds: f64,
    /// How many times each bomb has its turn
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub rounds: usize,
    /// Cores that a bomb may use
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    pub cpus: f64,
    /// Only these bombs; all where none is named
    #[arg(value_name = "BOMB")]
    pub only: Vec<String>,
}

/// Runs them.
pub fn neighbours(options: &Neighbours) -> Report {
    let mut report = Report::default();
    let program = Program::compile();
    let runner = Service::runner(&["--slots", "4", "--expose", &program.folder()]);
    let mut all = bombs();
    for name in &options.only {
        report
            .must(all.iter().any(|bomb| bomb.name == name), || format!("there is no bomb {name}"));
    }
    all.retain(|bomb| options.only.is_empty() || options.only.iter().any(|name| name == bomb.name));
    println!(
        "`echo ok` one after another; {} times {} s without and with each bomb, which has {} cores\n",
        options.rounds, options.seconds, options.cpus
    );
    println!("{:<40}{:^37}{:^37}{:^20}", "", "without: ms", "with: ms", "ratio");
    println!(
        "{:<13}{:<27}{:>7}{:>10}{:>10}{:>10}{:>7}{:>10}{:>10}{:>10}{:>10}{:>10}",
        "bomb", "its ends", "jobs", "p50", "p95", "max", "jobs", "p50", "p95", "max", "p50", "p95"
    );
    // So that what is made on first use is there.
    window(&runner, Duration::from_millis(200), &mut report);
    for bomb in &all {
        let turn = Turn { options, program: &program, runner: &runner, bomb };
        turn.take(&mut report);
    }
    report
}

struct Turn<'a> {
    options: &'a Neighbours,
    program: &'a Program,
    runner: &'a Service,
    bomb: &'a Bomb,
}

impl Turn<'_> {
    fn take(&self, report: &mut Report) {
        let length = Duration::from_secs_f64(self.options.seconds);
        let (mut quiet, mut loud) = (Vec::new(), Vec::new());
        let mut ends: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..self.options.rounds {
            quiet.extend(window(self.runner, length, report));
            let results = thread::scope(|scope| {
                let attacker = scope.spawn(|| self.attack(Instant::now() + length));
                loud.extend(window(self.runner, length, report));
                attacker.join().expect("a panic would have ended this as well")
            });
            report.must(!results.is_empty(), || format!("{} never went off", self.bomb.name));
            for result in results {
                let fault = self.bomb.fault(&result);
                report.must(fault.is_none(), || fault.unwrap_or_default());
                let reason = result["reason"].as_str().or(result["status"].as_str());
                let mut end = reason.unwrap_or_default().to_owned();
                if end == "exit_code" {
                    end = format!("exit code {}", result["exit_code"]);
                }
                *ends.entry(end).or_default() += 1;
            }
        }
        let ends: Vec<_> = ends.iter().map(|(end, count)| format!("{count} {end}")).collect();
        let (without, with) = (Times::of(quiet), Times::of(loud));
        println!(
            "{:<13}{:<27}{without}{with}{:>9.2}×{:>9.2}×",
            self.bomb.name,
            ends.join(", "),
            with.p50 / without.p50,
            with.p95 / without.p95
        );
    }

    /// Sets the bomb off again and again.
    fn attack(&self, until: Instant) -> Vec<Value> {
        let mut results = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left < TOO_LATE && !results.is_empty() {
                return results;
            }
            let seconds = left.max(TOO_LATE).as_secs_f64();
            let task = self.bomb.task(self.program, self.options.cpus, seconds);
            results.push(execute(self.runner, &task));
        }
    }
}

/// Neighbours' jobs for so long; the milliseconds that each took, as its client sees it.
fn window(runner: &Service, length: Duration, report: &mut Report) -> Vec<f64> {
    let task = shell("echo ok", &json!({}), 30.0);
    let until = Instant::now() + length;
    let mut times = Vec::new();
    while Instant::now() < until {
        let began = Instant::now();
        let result = execute(runner, &task);
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        report.must(verdict(&result) == COMPLETED && result["stdout"] == "ok\n", || {
            format!("a neighbour's job: {}", shortened(&result))
        });
    }
    times
}
