//! Many jobs in a row, hostile ones among them, and what they leave in the memory of the services
//! and on the machine.

use std::{
    collections::BTreeMap,
    ops::Range,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{
    crew::crew,
    hostile::{self, Hostile, shortened},
    memory::Memory,
    program::Program,
    report::Report,
};
use crate::{
    COMPLETED, Client, Service,
    census::{self, Census},
    finished, shell, verdict,
};

/// How often one of the jobs is hostile.
const HOSTILE: usize = 10;
/// Files that a store has open at most: two for the connection that writes and for each of four that
/// read, which are opened when there is need of them; their common memory, and the lock.
const STORE_FILES: usize = 12;
/// Growth of memory that is no leak, in percent.
const GROWTH: i64 = 5;

/// How many jobs, and whom they are given to.
#[derive(Args, Clone, Debug)]
pub struct Jobs {
    /// Jobs in all
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub count: usize,
    /// Jobs after which memory and everything else is measured, to be compared with the end
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub first: usize,
    /// Jobs at once
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub at_once: usize,
    /// Whom the jobs are given to
    #[arg(long, value_enum, default_value_t = Target::Up)]
    pub target: Target,
}

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// `cloister up`: a coordinator and its runner, by POST /jobs
    Up,
    /// A runner alone, by POST /execute
    Runner,
}

/// After so long without a change nothing is on its way any more. A coordinator looks through its idle
/// connections to runners every 10 s, for those that are older than 10 s; a runner looks as often
/// through the cells that were made ahead, for those that nobody has needed since it looked last.
const STILL: Duration = Duration::from_secs(21);

/// Runs them. Every verdict must be right; what exists at the end must be what existed after the
/// first ones; and memory must not have grown by more than 5 %, where so many jobs ran in between
/// that this says something (as many as before).
pub fn jobs(options: &Jobs) -> Report {
    let mut report = Report::default();
    let program = Program::compile();
    let slots = options.at_once.to_string();
    let args = ["--slots", &slots, "--expose", &program.folder()];
    let service = match options.target {
        Target::Up => Service::up(&args),
        Target::Runner => Service::runner(&args),
    };
    let run = Run { options, service: &service, hostile: hostile::small(&program) };
    let first = options.first.min(options.count);
    let mut ends = BTreeMap::new();
    let began = Instant::now();
    run.run(0..first, &mut report, &mut ends);
    let mut took = began.elapsed();
    let (service_pid, launcher) = (service.pid(), service.launcher());
    let census = Census::settled(service_pid, launcher, STILL);
    let before = Footing::of(&service);
    let began = Instant::now();
    run.run(first..options.count, &mut report, &mut ends);
    took += began.elapsed();
    let patience = STILL + Duration::from_secs(20);
    let (equal, now) = Census::comes_to(&census, service_pid, launcher, patience);
    let after = Footing::of(&service);

    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = options.count as f64 / took.as_secs_f64();
    println!(
        "{} jobs, {} at once, in {:.1} s: {rate:.0} a second",
        options.count,
        slots,
        took.as_secs_f64()
    );
    println!("\n{:<30}{:>10}", "how they ended", "jobs");
    for (end, count) in &ends {
        println!("{end:<30}{count:>10}");
    }
    println!("\n{:<50}{:>10}{:>10}", "what exists after", first, options.count);
    for ((what, then), (_, now)) in census.iter().zip(now.iter()) {
        println!("{what:<50}{then:>10}{now:>10}");
    }
    let store = census::store_files(service_pid);
    println!("{:<50}{:>10}{store:>10}", "files of the store, open", "");
    report.must(store <= STORE_FILES, || format!("the store has {store} files open"));
    report.must(equal, || format!("left behind: {now:?}, and there were {census:?}"));
    let lasting = census::processes(&program.path());
    report.must(lasting.is_empty(), || format!("processes outlive their jobs: {lasting:?}"));
    before.compare(&after, options.count - first, first, &mut report);
    report
}

struct Run<'a> {
    options: &'a Jobs,
    service: &'a Service,
    hostile: Vec<Hostile>,
}

impl Run<'_> {
    /// Jobs of these numbers.
    fn run(&self, numbers: Range<usize>, report: &mut Report, ends: &mut BTreeMap<String, u64>) {
        let base = self.service.client().base();
        let results = crew(self.options.at_once, base, numbers, |client, i| self.one(client, i));
        for (end, fault) in results {
            *ends.entry(end).or_default() += 1;
            report.must(fault.is_none(), || fault.unwrap_or_default());
        }
    }

    /// One job: how it ended, and what is wrong with that.
    fn one(&self, client: &Client, number: usize) -> (String, Option<String>) {
        if number % HOSTILE == HOSTILE - 1 {
            let job = &self.hostile[number / HOSTILE % self.hostile.len()];
            let result = self.ask(client, &job.task);
            return (format!("{} ({})", job.name, end(&result)), job.fault(&result));
        }
        let code = i64::try_from(number % 3).unwrap_or_default();
        let task = shell(&format!("echo {number}; exit {code}"), &json!({}), 60.0);
        let result = self.ask(client, &task);
        let expected = match code {
            0 => COMPLETED,
            _ => ("failed", Some("exit_code"), Some(code), None),
        };
        let right = verdict(&result) == expected && result["stdout"] == format!("{number}\n");
        let fault = (!right).then(|| format!("echo {number}: {}", shortened(&result)));
        (format!("echo ({})", end(&result)), fault)
    }

    fn ask(&self, client: &Client, task: &Value) -> Value {
        match self.options.target {
            Target::Up => finished(client, task),
            Target::Runner => {
                let response = client.post("/execute", task);
                assert_eq!(response.status, 200, "{}", response.text());
                response.json()
            }
        }
    }
}

fn end(result: &Value) -> &str {
    result["reason"].as_str().or(result["status"].as_str()).unwrap_or_default()
}

/// The memory of a service and its launcher.
struct Footing([(&'static str, Memory); 2]);

impl Footing {
    fn of(service: &Service) -> Self {
        let of = |pid: Pid| Memory::of(pid);
        Self([("service", of(service.pid())), ("launcher", of(service.launcher()))])
    }

    /// Prints both, and what grew by how much for each job.
    fn compare(&self, after: &Self, jobs: usize, first: usize, report: &mut Report) {
        println!(
            "\n{:<30}{:>10}{:>10}{:>10}{:>14}",
            "memory in KiB", "before", "after", "growth", "bytes a job"
        );
        for ((who, then), (_, now)) in self.0.iter().zip(&after.0) {
            for ((part, then), (_, now)) in then.parts().into_iter().zip(now.parts()) {
                let grown = now - then;
                #[expect(clippy::cast_precision_loss, reason = "for a person")]
                let (percent, each) =
                    (grown as f64 * 100.0 / then as f64, grown as f64 * 1024.0 / jobs as f64);
                let what = format!("{who}, {part}");
                println!("{what:<30}{then:>10}{now:>10}{percent:>9.1}%{each:>14.1}");
                // The others are told: anonymous memory is a part of it, and the proportional share
                // changes with whoever else runs the same program.
                let told = part != "resident" || jobs < first;
                report.must(told || grown * 100 <= then * GROWTH, || {
                    format!("{what} memory grew from {then} to {now} KiB in {jobs} jobs")
                });
            }
        }
    }
}
