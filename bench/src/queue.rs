//! L8: the queue alone, durable, before a runner that answers at once.

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use cloister_tests::{Client, Scratch, Service};
use serde_json::json;

use crate::{
    Options, disk,
    http::{Connection, request},
    load::{Load, Until, clients_alone, repeat},
    report::{Goal, Report},
    services::{address, end},
    stats::{Spread, count, large, p50},
    stub::Stub,
};

const AT_ONCE: usize = 64;
const TURN: Duration = Duration::from_secs(2);
const JOB: &str = r#"{"command":"true","timeout":3600}"#;
/// Jobs of a batch.
pub(crate) const BATCH: usize = 100;
/// Until as many have ended as were submitted.
const PATIENCE: Duration = Duration::from_secs(120);

/// The body of a batch.
pub(crate) fn batch() -> String {
    format!(r#"{{"jobs":[{}]}}"#, [JOB; BATCH].join(","))
}

/// Whether this coordinator takes batches.
pub(crate) fn takes_batches(to: SocketAddr) -> anyhow::Result<bool> {
    let one = format!(r#"{{"jobs":[{JOB}]}}"#);
    let mut connection = Connection::open(to)?;
    let answer = connection.call(&request("POST", "/jobs/batch", to, &one))?;
    if matches!(answer.status(), Some(404 | 405)) {
        return Ok(false);
    }
    answer.must_be(201)?;
    Ok(true)
}

/// Submits one by one.
pub(crate) fn submit(to: SocketAddr, clients: usize, until: Until) -> anyhow::Result<Load> {
    repeat(clients, until, to, &request("POST", "/jobs", to, JOB), 201)
}

/// Measures it.
pub(crate) fn measure(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let stub = Stub::at_once(AT_ONCE)?;
    let coordinator = Service::coordinator(&stub.url(), &["--max-queue", "5000000"]);
    let to = address(coordinator.client())?;
    let store = fs::canonicalize(coordinator.data()).context("the store's folder is not there")?;
    let (mut rates, mut through, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    submit(to, AT_ONCE, Until::Done(500))?;
    let mut submitted = 500;
    ended(coordinator.client(), submitted)?;
    let before = disk::flushes(&store)?;
    let began = submitted;
    for _ in 0..options.rounds() {
        let start = Instant::now();
        let load = submit(to, AT_ONCE, Until::Passed(TURN))?;
        submitted += load.times.len();
        ended(coordinator.client(), submitted)?;
        rates.push(load.rate());
        shares.push(load.share());
        through.push(count(load.times.len()) / start.elapsed().as_secs_f64());
    }
    let meanwhile =
        before.map(|before| anyhow::Ok(disk::flushes(&store)?.unwrap_or(before) - before));
    let meanwhile = meanwhile.transpose()?;
    let what = "queue alone, durable, 64 at once: single submissions";
    report.row("L8", what, "/s", Ok(Spread::of(&rates)), Some(Goal::AtLeast(3000.0)));
    let what = "the same, until all of them have been handed over and have ended";
    report.row("L8", what, "/s", Ok(Spread::of(&through)), None);
    report.number("queue.clients_share", json!(Spread::of(&shares)));
    let what = format!("queue alone, durable, 64 at once: jobs in batches of {BATCH}");
    let goal = Some(Goal::AtLeast(10_000.0));
    if takes_batches(to)? {
        let mut rates = Vec::new();
        for _ in 0..options.rounds() {
            let request = request("POST", "/jobs/batch", to, &batch());
            let load = repeat(AT_ONCE, Until::Passed(TURN), to, &request, 201)?;
            rates.push(load.rate() * count(BATCH));
        }
        report.row("L8", what, "/s", Ok(Spread::of(&rates)), goal);
    } else {
        report.row("L8", what, "/s", Err("there is no `/jobs/batch`".into()), goal);
    }
    // What waits is not waited for.
    end(coordinator);
    let alone = clients_alone(AT_ONCE, Duration::from_secs(1))?;
    let synced = fdatasync(&Scratch::new("fdatasync"))?;
    report.number("queue.fdatasync_ms", synced);
    let told = meanwhile.map_or_else(
        || "does not tell how often it was flushed".into(),
        |flushed| {
            let each = count(submitted - began) / large(flushed.max(1));
            format!("was flushed {flushed} times meanwhile, once for {each:.1} jobs")
        },
    );
    report.note(format!(
        "The queue's disk {told}; writing 4 KiB and fdatasync(2) takes {synced:.2} ms there. Its \
         clients took {:.0} % of the machine; alone they make {:.0} requests/s. The runner's stub is in \
         the same process and takes its part as well.",
        Spread::of(&shares).median * 100.0,
        alone.rate()
    ));
    Ok(())
}

/// Returns when so many jobs have ended well.
fn ended(coordinator: &Client, jobs: usize) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        let samples = coordinator.get("/metrics").samples();
        let done = samples.get("jobs_completed_total").copied();
        let done = done.context("jobs_completed_total is not among the metrics")?;
        if done >= count(jobs) {
            return Ok(());
        }
        ensure!(Instant::now() < until, "of {jobs} jobs only {done} have ended");
        thread::sleep(Duration::from_millis(10));
    }
}

/// How long it takes to have 4 KiB on the disk: the median, in milliseconds.
fn fdatasync(folder: &Scratch) -> anyhow::Result<f64> {
    let mut file = fs::File::create(folder.join("file")).context("a file cannot be made")?;
    let mut times = Vec::new();
    for _ in 0..50 {
        let start = Instant::now();
        file.write_all(&[7; 4096]).context("a file cannot be written")?;
        file.sync_data().context("a file cannot be flushed")?;
        times.push(start.elapsed());
    }
    Ok(p50(&times))
}
