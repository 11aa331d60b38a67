//! Many cells at once, and the descriptors in each: a leak from one cell's making into another's
//! would show here.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use clap::Args;
use serde_json::{Value, json};

use super::{crew::crew, program::Program, report::Report};
use crate::{COMPLETED, Client, Service, verdict};

/// How many cells.
#[derive(Args, Clone, Debug)]
pub struct Descriptors {
    /// Cells that are started at once
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub cells: usize,
    /// How many times that is done
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub rounds: usize,
    /// How long each job stays, in milliseconds, so that all are there together
    #[arg(long, value_name = "MS", default_value_t = 400)]
    pub stay: u32,
}

/// Runs them; each cell must see three pipes of its own, and nothing of any other process.
pub fn descriptors(options: &Descriptors) -> Report {
    let mut report = Report::default();
    let program = Program::compile();
    let slots = options.cells.to_string();
    let runner = Service::runner(&["--slots", &slots, "--expose", &program.folder()]);
    let task = program.task(&format!("look {}", options.stay), &json!({}), 60.0);
    println!("{} rounds of {} cells at once", options.rounds, options.cells);
    let began = Instant::now();
    // Pipe numbers are never given again while the machine runs, but for a wrap after 2^32.
    let mut owners = HashMap::new();
    let mut seen = BTreeMap::new();
    let mut together = Vec::new();
    for round in 0..options.rounds {
        let base = runner.client().base();
        let results = crew(options.cells, base, 0..options.cells, |client, _| run(client, &task));
        let mut spans = Vec::new();
        for (cell, result) in results.iter().enumerate() {
            let name = round * options.cells + cell;
            let view = View::read(result);
            report.must(verdict(result) == COMPLETED && view.is_some(), || {
                format!("round {round}: a job did not end well: {result}")
            });
            let Some(view) = view else { continue };
            view.check(&mut report, name, &mut owners);
            for line in &view.kinds {
                *seen.entry(line.clone()).or_insert(0_u64) += 1;
            }
            spans.push(view.span);
        }
        together.push(at_once(&spans));
    }
    let cells = options.rounds * options.cells;
    let took = began.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = cells as f64 / took;
    println!("{cells} cells in {took:.1} s, {rate:.0} a second");
    together.sort_unstable();
    if let (Some(least), Some(most)) = (together.first(), together.last()) {
        let median = together[together.len() / 2];
        println!("jobs that ran at the same moment: {least} to {most}, median {median}");
    }
    println!("\nwhat they saw:");
    for (line, count) in &seen {
        println!("{count:>8}  {line}");
    }
    println!("{:>8}  different pipes", owners.len());
    report
}

/// The slots are as many as the workers, and one is free before its result is told.
fn run(client: &Client, task: &Value) -> Value {
    let response = client.post("/execute", task);
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

/// What a job saw.
struct View {
    /// Its descriptors but for the listing's: number and where it leads.
    own: Vec<(String, String)>,
    /// Of other processes: what was told of each.
    others: Vec<String>,
    /// All of it without what differs from cell to cell, for the summary.
    kinds: Vec<String>,
    /// When it began and ended.
    span: (f64, f64),
}

impl View {
    /// From its output; nothing where that is not whole.
    fn read(result: &Value) -> Option<Self> {
        let mut view = Self { own: vec![], others: vec![], kinds: vec![], span: (0.0, 0.0) };
        let mut whole = false;
        for line in result["stdout"].as_str()?.lines() {
            let (who, rest) = line.split_once(' ')?;
            let (what, more) = rest.split_once(' ')?;
            match who {
                "time" => {
                    view.span = (what.parse().ok()?, more.parse().ok()?);
                    whole = true;
                }
                "list" => view.kinds.push(format!("its own {what}: the listing's")),
                "self" => {
                    let kind = more.split(['[', ':']).next().unwrap_or_default();
                    view.kinds.push(format!("its own {what}: a {kind}"));
                    view.own.push((what.into(), more.into()));
                }
                _ => {
                    view.kinds.push(format!("process {line}"));
                    view.others.push(line.into());
                }
            }
        }
        whole.then_some(view)
    }

    fn check(&self, report: &mut Report, cell: usize, owners: &mut HashMap<String, usize>) {
        let mut numbers: Vec<&str> = self.own.iter().map(|(number, _)| number.as_str()).collect();
        numbers.sort_unstable();
        report.must(numbers == ["0", "1", "2"], || format!("cell {cell} has {:?}", self.own));
        for (number, link) in &self.own {
            let pipe = link.starts_with("pipe:[");
            report.must(pipe, || format!("cell {cell}: {number} leads to {link}"));
            // Also within one cell all three differ.
            let before = owners.insert(link.clone(), cell);
            report.must(before.is_none(), || {
                format!("cells {before:?} and {cell} share {link}, which is {number} in the latter")
            });
        }
        // PID 1 alone, and its descriptors are refused: EACCES is 13.
        report.must(self.others == ["1 closed 13"], || {
            format!("cell {cell} sees of other processes {:?}", self.others)
        });
    }
}

/// The most spans that have a moment in common.
fn at_once(spans: &[(f64, f64)]) -> usize {
    let there = |moment: f64| spans.iter().filter(|(a, b)| *a <= moment && moment < *b).count();
    spans.iter().map(|(began, _)| there(*began)).max().unwrap_or_default()
}
