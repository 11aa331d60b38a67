//! How long a scrape of a runner's `/metrics` takes while many jobs run.

use std::{
    ops::Range,
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::json;

use super::{crew::crew, report::Report, times::Times};
use crate::{Client, Service};

/// Of so many jobs at most each is told by itself.
const TOLD: usize = 64;
/// How long all jobs may take to be there.
const PATIENCE: Duration = Duration::from_secs(300);

/// How many jobs and scrapes.
#[derive(Args, Clone, Debug)]
pub struct Scrapes {
    /// Jobs that run at the same time
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub jobs: usize,
    /// Scrapes in a row
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub count: usize,
}

/// Measures them without jobs, with as many as are told one by one, and with all.
pub fn scrapes(options: &Scrapes) -> Report {
    let mut report = Report::default();
    let runner = Service::runner(&["--slots", &options.jobs.to_string()]);
    let coordinator = Service::coordinator(runner.client().base(), &[]);
    println!("GET /metrics of a runner, {} in a row; ms\n", options.count);
    println!("{:>7}{:>12}{:>10}{:>10}{:>10}{:>10}", "jobs", "bytes", "first", "p50", "p99", "max");
    let mut running = 0;
    for jobs in [0, TOLD.min(options.jobs), options.jobs] {
        sleepers(&coordinator, running..jobs);
        running = jobs;
        wait_for(&runner, jobs);
        measure(runner.client(), jobs, options.count, &mut report);
    }
    report
}

/// Starts jobs that do nothing, and use little.
fn sleepers(coordinator: &Service, numbers: Range<usize>) {
    let limits = json!({ "memory": "16MiB", "disk": "1MiB", "pids": 4 });
    let task = json!({ "argv": ["/usr/bin/sleep", "3600"], "timeout": 3600, "limits": limits });
    crew(8, coordinator.client().base(), numbers, |client, _| {
        let response = client.post("/jobs", &task);
        assert_eq!(response.status, 201, "{}", response.text());
    });
}

/// Waits until the commands of so many jobs were executed, and all of them run.
fn wait_for(runner: &Service, jobs: usize) {
    let until = Instant::now() + PATIENCE;
    loop {
        let samples = runner.client().get("/metrics").samples();
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let all = jobs as f64;
        let counts = ["cloister_launch_latency_seconds_count", "cloister_runner_slots_used"];
        if counts.iter().all(|name| samples[*name] >= all) {
            return;
        }
        assert!(Instant::now() < until, "{jobs} jobs do not come to run: {samples:#?}");
        thread::sleep(Duration::from_millis(200));
    }
}

fn measure(client: &Client, jobs: usize, count: usize, report: &mut Report) {
    let mut bytes = 0;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        let response = client.get("/metrics");
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        bytes = response.body.len();
        let text = response.text();
        let told = text.lines().filter(|line| line.starts_with("cloister_slot_cpu_seconds_total{"));
        let told = told.count();
        report.must(response.status == 200 && told == jobs.min(TOLD), || {
            format!("of {jobs} jobs {told} are told: {text}")
        });
    }
    let first = times.first().copied().unwrap_or(f64::NAN);
    let Times { p50, p99, max, .. } = Times::of(times);
    println!("{jobs:>7}{bytes:>12}{first:>10.2}{p50:>10.2}{p99:>10.2}{max:>10.2}");
}
