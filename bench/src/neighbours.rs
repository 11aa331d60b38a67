//! L12: a neighbour's `echo` beside jobs that make the kernel work and hold memory, and beside as many that
//! only spin. Both have the same limits, so the difference is what the limits do not hold back.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use cloister_tests::{
    attack::{Case, Suite},
    host::Watch,
};
use serde_json::{Map, Value, json};

use crate::{
    Options,
    http::{Connection, request},
    report::{Goal, Report},
    services::{self, address, completed},
    stats::{Spread, large, p50},
};

/// Jobs at once, beside the neighbour.
const JOBS: usize = 16;
/// What each of them gets of a CPU.
const CPUS: f64 = 1.0;
const ECHO: &str = r#"{"argv":["/bin/echo","hello"]}"#;
const SPIN: &str = "while :; do :; done";
/// How long they run before anything is measured.
const WARM_UP: Duration = Duration::from_secs(3);
/// How long a turn is.
const TURN: Duration = Duration::from_secs(10);
/// Between two requests of the neighbour.
const PAUSE: Duration = Duration::from_millis(20);

/// A job, and what may end it.
#[derive(Clone, Debug)]
struct Kind {
    name: String,
    body: String,
    /// Whether it may be ended for kernel memory.
    watched: bool,
}

/// What came of the jobs of a turn: for each kind and end, how many.
type Ends = BTreeMap<(String, String), u64>;

/// Measures it.
pub(crate) fn measure(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let suite = Suite::read(&Suite::default_folder())?;
    let hostile = hostile(&suite)?;
    let folder = suite.folder().to_str().context("the attacks' folder has no name in UTF-8")?;
    let slots = (JOBS + 1).to_string();
    let runner = cloister_tests::Service::runner(&["--slots", &slots, "--expose", folder]);
    let to = address(runner.client())?;
    let spin = json!({
        "command": SPIN, "timeout": 20, "limits": { "memory": "64MiB", "cpus": CPUS },
    });
    let spinning = [Kind { name: "spinning".into(), body: spin.to_string(), watched: false }];

    let (mut ratios, mut times, mut growth) = (Vec::new(), Vec::new(), Vec::new());
    let mut ends = Ends::new();
    for _ in 0..options.rounds() {
        let (calm, ..) = beside(to, &spinning)?;
        let (busy, ended, grown) = beside(to, &hostile)?;
        ratios.push(busy / calm);
        times.push(json!({ "spinning": calm, "hostile": busy }));
        growth.push(grown);
        for (what, count) in ended {
            *ends.entry(what).or_default() += count;
        }
    }
    services::end(runner);
    let what = format!(
        "a neighbour's `echo` beside {JOBS} attacks on kernel memory: p50 over that beside {JOBS} jobs that spin"
    );
    report.ratio("L12", what, &ratios, Some(Goal::AtMost(1.5)));
    let told: Vec<_> =
        ends.iter().map(|((name, end), count)| format!("{name} {end} × {count}")).collect();
    report.note(format!(
        "Kernel memory grew by at most {:.0} MiB beside them. They ended: {}.",
        Spread::of(&growth).high.max(Spread::of(&growth).median),
        told.join(", ")
    ));
    report.number("neighbours.ms", Value::Array(times));
    report.number("neighbours.kernel_memory_mib", json!(growth));
    Ok(())
}

/// The suite's attacks on kernel memory.
fn hostile(suite: &Suite) -> anyhow::Result<Vec<Kind>> {
    let cases = suite.cases.iter().filter(|case| case.kernel_memory.is_some());
    let kinds: Vec<_> = cases.map(|case| of_case(suite, case)).collect::<Result<_, _>>()?;
    ensure!(!kinds.is_empty(), "the suite attacks no kernel memory");
    Ok(kinds)
}

fn of_case(suite: &Suite, case: &Case) -> anyhow::Result<Kind> {
    let mut limits = Map::from_iter([("cpus".to_owned(), json!(CPUS))]);
    for option in case.options.chunks(2) {
        let [name, value] = option else { bail!("{}: an option has no value", case.name) };
        let value = value.parse::<u64>().map_or_else(|_| json!(value), |number| json!(number));
        limits.insert(name.trim_start_matches('-').replace('-', "_"), value);
    }
    let file = suite.folder().join(case.file());
    let body = json!({
        "argv": ["/usr/bin/python3", file],
        "timeout": 60,
        "env": { "PYTHONPATH": suite.folder(), "PYTHONDONTWRITEBYTECODE": "1" },
        "limits": limits,
    });
    let watched = case.layers.contains("watcher".parse()?);
    Ok(Kind { name: case.name.clone(), body: body.to_string(), watched })
}

/// The neighbour's p50 in milliseconds beside such jobs, what ended them, and by how many MiB kernel memory
/// grew.
fn beside(to: SocketAddr, kinds: &[Kind]) -> anyhow::Result<(f64, Ends, f64)> {
    let over = AtomicBool::new(false);
    let watch = Watch::start()?;
    let (median, ends) = thread::scope(|scope| {
        let jobs: Vec<_> = (0..JOBS)
            .map(|index| {
                let over = &over;
                scope.spawn(move || again_and_again(to, kinds, index, over))
            })
            .collect();
        let measured = neighbour(to);
        // The jobs that still run end in their time.
        over.store(true, Ordering::Relaxed);
        let mut ends = Ends::new();
        for job in jobs {
            let ended = job.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
            for what in ended {
                *ends.entry(what).or_default() += 1;
            }
        }
        anyhow::Ok((measured?, ends))
    })?;
    let grown = watch.stop()?.kernel.max(0).unsigned_abs();
    Ok((median, ends, large(grown) / f64::from(1 << 20)))
}

fn neighbour(to: SocketAddr) -> anyhow::Result<f64> {
    let mut connection = Connection::open(to)?;
    let request = request("POST", "/execute", to, ECHO);
    thread::sleep(WARM_UP);
    let (began, mut times) = (Instant::now(), Vec::new());
    while began.elapsed() < TURN {
        let start = Instant::now();
        let answer = connection.call(&request)?;
        times.push(start.elapsed());
        answer.must_be(200)?;
        completed(answer.body)?;
        thread::sleep(PAUSE);
    }
    Ok(p50(&times))
}

/// Runs one kind after the other, from this one on, until it is over; comes back with what ended each.
fn again_and_again(
    to: SocketAddr,
    kinds: &[Kind],
    from: usize,
    over: &AtomicBool,
) -> anyhow::Result<Vec<(String, String)>> {
    let mut ends = Vec::new();
    for kind in kinds.iter().cycle().skip(from) {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let mut connection = Connection::open(to)?;
        let answer = connection.call(&request("POST", "/execute", to, &kind.body))?;
        answer.must_be(200)?;
        let result: Value = serde_json::from_slice(answer.body).context("a result is no JSON")?;
        ends.push((kind.name.clone(), end(kind, &result)?));
    }
    Ok(ends)
}

/// What ended a job. Fails when the result gives a reason that cannot be true.
fn end(kind: &Kind, result: &Value) -> anyhow::Result<String> {
    let status = result["status"].as_str().context("a result has no status")?;
    let reason = result["reason"].as_str().unwrap_or(status);
    let by_its_cgroup = result["usage"]["oom_kills"].as_u64().unwrap_or(0) > 0;
    let by_the_watcher = result["message"].as_str().is_some_and(|it| it.contains("kernel memory"));
    let possible = match reason {
        "completed" | "exit_code" => true,
        "timeout" => kind.name == "spinning",
        "out_of_memory" => by_its_cgroup || kind.watched && by_the_watcher,
        _ => false,
    };
    ensure!(possible, "{} was told a wrong reason: {result}", kind.name);
    Ok(reason.to_owned())
}
