//! `bench`: measures Cloister beside what it is compared with, in one run on one machine, and prints
//! ratios beside their goals. Absolute numbers say more about a machine than about a program.
//!
//! - `launches`, `throughput`, `jobs`, `queue`, `many`, `pending`, `idle`, `neighbours`: the lines of the
//!   table, L1 to L12. `concurrency` and `flat`: what is drawn.
//! - `child`: small processes that launch. `services`, `others`, `stub`: what is measured, what it is
//!   compared with, and what stands in for a part of it.
//! - `load`, `http`: clients that take little of the machine, and tell how much that is.
//! - `procs`, `cgroups`, `disk`, `machine`: what the kernel tells.
//! - `report`, `stats`, `plot`: what is made of it.
//!
//! Everything that is started ends with it, whatever happens.

mod cgroups;
mod child;
mod concurrency;
mod disk;
mod flat;
mod http;
mod idle;
mod jobs;
mod launches;
mod load;
mod machine;
mod many;
mod neighbours;
mod others;
mod pending;
mod plot;
mod procs;
mod queue;
mod report;
mod services;
mod stats;
mod stub;
mod throughput;

use std::{fs, path::PathBuf, process::ExitCode, thread, time::Duration};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use cloister_tests::cleanup::clean_up_whatever_happens;
use nix::sys::signal::{Signal, kill};

use report::Report;

/// The lines of the table.
const ALL: [&str; 12] = ["L1", "L2", "L3", "L4", "L5", "L6", "L7", "L8", "L9", "L10", "L11", "L12"];

/// Measures Cloister beside what it is compared with. Run it as root, on a machine that does nothing
/// else; bench/run builds it and installs what it compares with.
#[derive(Parser)]
#[command(max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    options: Options,
    /// Write all numbers to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure how long launches take by how many are made at once, and draw it to this file, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Only launch again and again, write flat.csv and flat.svg to this folder, and fail where something
    /// has grown
    #[arg(long, value_name = "FOLDER")]
    flat: Option<PathBuf>,
    /// How often, for --flat
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    launches: usize,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What the measurements share.
#[derive(clap::Args)]
struct Options {
    /// Only these lines of the table, such as L1,L4; or `none`
    #[arg(long, value_name = "LINES", value_delimiter = ',')]
    only: Vec<String>,
    /// Turns of each that is launched by
    #[arg(long, value_name = "N", default_value_t = 24)]
    turns: usize,
    /// Jobs that sleep, for L9
    #[arg(long, value_name = "N", default_value_t = 1000)]
    sleeping: usize,
    /// Jobs that wait, for L10
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pending: usize,
    /// Launch in turns with another version too: the folder of its built programs, such as
    /// target/release; for L1 to L3
    #[arg(long, value_name = "FOLDER")]
    before: Option<PathBuf>,
    /// A Python environment with what the reference needs
    #[arg(long, value_name = "FOLDER", env = "CLOISTER_BENCH_PYTHON")]
    reference: Option<PathBuf>,
}

impl Options {
    fn wants(&self, line: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|one| one == line)
    }

    /// Rounds of what takes seconds.
    fn rounds(&self) -> usize {
        self.turns.clamp(1, 3)
    }
}

#[derive(clap::Subcommand)]
enum Command {
    /// Launch on orders: what `bench` itself starts
    #[command(hide = true)]
    Child {
        #[command(subcommand)]
        means: child::Means,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Command::Child { means }) = &cli.command {
        // Before anything else: a launcher is forked while there is one thread.
        return child::main(means);
    }
    clean_up_whatever_happens("bench", |started| {
        // As an operator would: the second one says not to wait for jobs.
        for pause in [services::APART, Duration::ZERO] {
            for child in started {
                let _ = kill(*child, Signal::SIGTERM);
            }
            thread::sleep(pause);
        }
    });
    let end = match &cli.flat {
        Some(folder) => flat::measure(folder, cli.launches),
        None => measure(&cli),
    };
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What measures some lines of the table.
type Part = fn(&Options, &mut Report) -> anyhow::Result<()>;

/// Measures all that is wanted. A part that fails takes no other along, but the whole then fails.
fn measure(cli: &Cli) -> anyhow::Result<()> {
    let options = &cli.options;
    for line in &options.only {
        ensure!(ALL.contains(&line.as_str()) || line == "none", "there is no line {line}");
    }
    let parts: [(&[&str], Part); 8] = [
        (&["L1", "L2", "L3", "L4"], launches::measure),
        (&["L5"], throughput::measure),
        (&["L6", "L7"], jobs::measure),
        (&["L8"], queue::measure),
        (&["L9"], many::measure),
        (&["L10"], pending::measure),
        (&["L11"], idle::measure),
        (&["L12"], neighbours::measure),
    ];
    let machine = machine::describe();
    let mut report = Report::default();
    let mut failed = Vec::new();
    for (lines, part) in parts {
        if lines.iter().any(|line| options.wants(line))
            && let Err(error) = part(options, &mut report)
        {
            eprintln!("bench: {}: {error:#}", lines.join(", "));
            failed.push(format!("{}: {error:#}", lines.join(", ")));
        }
    }
    if let Some(file) = &cli.plot
        && let Err(error) = concurrency::measure(options, file, &mut report)
    {
        failed.push(format!("the plot: {error:#}"));
    }
    println!("{}\n\n{}", machine::line(&machine), report.markdown());
    if let Some(file) = &cli.json {
        let text = serde_json::to_vec_pretty(&report.json(&machine))
            .context("the numbers cannot be written as JSON")?;
        fs::write(file, text).with_context(|| format!("{} cannot be written", file.display()))?;
    }
    if !failed.is_empty() {
        bail!("not all could be measured: {}", failed.join("; "));
    }
    ensure!(report.whole(), "not all could be measured that has a goal");
    Ok(())
}
