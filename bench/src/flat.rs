//! `--flat`: a hundred thousand launches by one runner, and whether anything grows.

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use cloister_tests::{
    Service,
    census::{Census, children, descriptors},
};
use nix::unistd::Pid;

use crate::{
    http::{Connection, request},
    load::{Until, drive},
    plot::{self, Line},
    procs,
    services::{self, TRUE, address, completed, execute},
    stats::{Spread, count, large, p50, p99},
};

const CLIENTS: usize = 2;
/// Launches between two counts.
const PORTION: usize = 1000;
/// Of a client that is paced, from one launch's beginning to the next one's.
const PACE: Duration = Duration::from_millis(6);
/// What was released is gone when nothing has changed for so long.
const STILL: Duration = Duration::from_millis(150);
/// At both ends, where the outcome depends on it: a cell that was made ahead goes after at most 20 s.
const LONG_STILL: Duration = Duration::from_secs(21);
/// What an allocator keeps is not the same each time; what leaks for each of a hundred thousand jobs is
/// far beyond it. KiB.
const SLACK: u64 = 2048;

/// After a thousand launches.
struct Point {
    launches: usize,
    paced: bool,
    /// Milliseconds.
    p50: f64,
    p99: f64,
    counts: Counts,
}

/// What there is.
struct Counts {
    census: Census,
    processes: usize,
    memory_kib: u64,
}

impl Counts {
    fn of(runner: &Service, still: Duration) -> anyhow::Result<Self> {
        let (service, launcher) = (runner.pid(), runner.launcher());
        let census = Census::settled(service, launcher, still);
        let processes = procs::tree(service);
        Ok(Self { census, processes: processes.len(), memory_kib: memory(&processes)? })
    }

    /// All but memory, by name.
    fn all(&self) -> Vec<(&'static str, usize)> {
        self.census.iter().chain([("processes", self.processes)]).collect()
    }
}

/// In KiB. What has just ended is no part of it.
fn memory(processes: &[Pid]) -> anyhow::Result<u64> {
    let there = processes.iter().filter(|pid| descriptors(**pid) > 0 || children(**pid) > 0);
    procs::pss_of(&there.copied().collect::<Vec<_>>())
}

/// Launches so often, leaves `flat.csv` and `flat.svg` in the folder, and fails where something grew.
pub(crate) fn measure(folder: &Path, launches: usize) -> anyhow::Result<()> {
    fs::create_dir_all(folder)
        .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
    let runner = services::runner(4, None);
    let to = address(runner.client())?;
    execute(CLIENTS, Until::Done(PORTION), to)?;
    let first = Counts::of(&runner, LONG_STILL)?;
    let mut points = Vec::new();
    for portion in 1..=launches.div_ceil(PORTION) {
        let paced = portion % 2 == 0;
        let times =
            if paced { at_a_pace(to)? } else { execute(CLIENTS, Until::Done(PORTION), to)?.times };
        points.push(Point {
            launches: portion * PORTION,
            paced,
            p50: p50(&times),
            p99: p99(&times),
            counts: Counts::of(&runner, STILL)?,
        });
    }
    let last = Counts::of(&runner, LONG_STILL)?;
    fs::write(folder.join("flat.csv"), table(&points)).context("flat.csv cannot be written")?;
    draw(&points, &folder.join("flat.svg"))?;
    judge(&points, &first, &last)
}

/// As many launches as back to back, each with its own time: the pauses do not count.
fn at_a_pace(to: SocketAddr) -> anyhow::Result<Vec<Duration>> {
    let request = request("POST", "/execute", to, TRUE);
    let times = Mutex::new(Vec::new());
    drive(CLIENTS, Until::Done(PORTION), || {
        let mut connection = Connection::open(to)?;
        let (request, times, mut next) = (&request, &times, Instant::now());
        Ok(move || {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            let start = Instant::now();
            let answer = connection.call(request)?;
            times.lock().unwrap_or_else(PoisonError::into_inner).push(start.elapsed());
            next = start + PACE;
            answer.must_be(200)?;
            completed(answer.body)
        })
    })?;
    Ok(times.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn table(points: &[Point]) -> String {
    let mut text = String::from("launches,mode,p50_ms,p99_ms");
    for (name, _) in points.first().map(|point| point.counts.all()).unwrap_or_default() {
        let _ = write!(text, ",{}", name.replace(',', ""));
    }
    text.push_str(",memory_kib\n");
    for point in points {
        let mode = if point.paced { "paced" } else { "back to back" };
        let Point { launches, p50, p99, .. } = point;
        let _ = write!(text, "{launches},{mode},{p50:.3},{p99:.3}");
        for (_, number) in point.counts.all() {
            let _ = write!(text, ",{number}");
        }
        let _ = writeln!(text, ",{}", point.counts.memory_kib);
    }
    text
}

fn draw(points: &[Point], file: &Path) -> anyhow::Result<()> {
    let line = |name: &str, paced: bool, value: fn(&Point) -> f64| Line {
        name: name.into(),
        points: points
            .iter()
            .filter(|point| point.paced == paced)
            .map(|point| (count(point.launches), value(point)))
            .collect(),
    };
    let lines = [
        line("back to back, p50", false, |point| point.p50),
        line("back to back, p99", false, |point| point.p99),
        line("paced, p50", true, |point| point.p50),
        line("paced, p99", true, |point| point.p99),
    ];
    plot::flat(file, &lines)
}

fn judge(points: &[Point], first: &Counts, last: &Counts) -> anyhow::Result<()> {
    println!("| | first | last |\n| - | - | - |");
    for paced in [false, true] {
        let of: Vec<&Point> = points.iter().filter(|point| point.paced == paced).collect();
        let tenth = of.len().div_ceil(10);
        let mode = if paced { "paced" } else { "back to back" };
        for (name, value) in [
            ("p50", (|point: &Point| point.p50) as fn(&Point) -> f64),
            ("p99", |point: &Point| point.p99),
        ] {
            let median = |part: &[&Point]| {
                Spread::of(&part.iter().map(|point| value(point)).collect::<Vec<_>>()).median
            };
            let (first, last) = (median(&of[..tenth]), median(&of[of.len() - tenth..]));
            println!("| {mode}, {name}, median of a tenth | {first:.2} ms | {last:.2} ms |");
        }
    }
    let mut grew = Vec::new();
    for ((name, first), (_, last)) in first.all().into_iter().zip(last.all()) {
        println!("| {name} | {first} | {last} |");
        if last > first {
            grew.push(format!("{name} from {first} to {last}"));
        }
    }
    let (before, after) = (first.memory_kib, last.memory_kib);
    println!("| memory (PSS) | {before} KiB | {after} KiB |");
    if after > before + SLACK {
        let each = large(after - before) * 1024.0 / count(points.len() * PORTION);
        grew.push(format!("memory from {before} to {after} KiB, {each:.1} bytes a launch"));
    }
    if !grew.is_empty() {
        bail!("after {} launches there is more: {}", points.len() * PORTION, grew.join("; "));
    }
    println!("\nAfter {} launches nothing has grown.", points.len() * PORTION);
    Ok(())
}
