//! What is told of many attempts: Markdown, and files of JSON lines.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    fs,
    path::Path,
};

use anyhow::Context;

use super::{
    Ending, Record, Set,
    ablation::{self, Finding, Row},
};

/// So many characters of what was seen are in a cell of a table.
const LONGEST: usize = 80;

/// Writes records, one a line.
pub fn write(path: &Path, records: &[Record]) -> anyhow::Result<()> {
    let mut text = String::new();
    for record in records {
        text += &serde_json::to_string(record)?;
        text += "\n";
    }
    fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}

/// Reads what `write` wrote.
pub fn read(path: &Path) -> anyhow::Result<Vec<Record>> {
    let text = fs::read_to_string(path);
    let text = text.with_context(|| format!("{} cannot be read", path.display()))?;
    let records = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
    records.with_context(|| format!("{} has no records of attempts", path.display()))
}

/// One line for a person.
pub fn line(record: &Record) -> String {
    let without = if record.without.is_empty() {
        String::new()
    } else {
        format!(" without {}", record.without)
    };
    let (word, detail) = record.ending.told();
    format!("{word:8} {}{without}: {detail}", record.attack)
}

/// How many attempts ended how, in words.
pub fn summary<'a>(records: impl IntoIterator<Item = &'a Record>) -> String {
    let mut counts = BTreeMap::new();
    for record in records {
        *counts.entry(record.ending.told().0).or_insert(0) += 1;
    }
    let words = ["stopped", "through", "absent", "skipped", "broken"];
    let count = |word: &_| format!("{} {word}", counts.get(word).copied().unwrap_or(0));
    words.iter().map(count).collect::<Vec<_>>().join(", ")
}

/// Attack by layer: what was seen to stop what, and what could not be shown.
pub fn ablation(rows: &[Row], layers: &Set) -> String {
    let mut text = String::new();
    tables(&mut text, rows, layers).expect("a string can be written");
    text
}

fn tables(out: &mut String, rows: &[Row], layers: &Set) -> fmt::Result {
    let holding = || rows.iter().filter(|row| row.finding == Finding::Holds);
    let columns: Set = holding().flat_map(|row| row.layers.iter()).collect();
    writeln!(out, "`●` alone stops it; `◐` stops it, and so does any other one of the row.\n")?;
    write!(out, "| attack |")?;
    for layer in columns.iter() {
        write!(out, " {layer} |")?;
    }
    writeln!(out, "\n| --- |{}", " :-: |".repeat(columns.len()))?;
    for row in holding() {
        let mark = if row.layers.len() == 1 { "●" } else { "◐" };
        write!(out, "| {} |", row.attack)?;
        for layer in columns.iter() {
            write!(out, " {} |", if row.layers.contains(layer) { mark } else { "" })?;
        }
        writeln!(out)?;
    }
    writeln!(out, "\n| layer | alone stops | stops as others do |\n| --- | --: | --: |")?;
    for (layer, worth) in ablation::worth(rows, layers) {
        writeln!(out, "| {layer} | {} | {} |", worth.alone, worth.together)?;
    }
    let rest = rows.iter().filter_map(|row| match &row.finding {
        Finding::Holds => None,
        Finding::Absent(what) => Some((row, format!("nothing to attack: {what}"))),
        Finding::Untried(why) => Some((row, format!("not tried: {why}"))),
        Finding::False(faults) => Some((row, format!("**not as claimed**: {}", faults.join("; ")))),
    });
    for (index, (row, why)) in rest.enumerate() {
        if index == 0 {
            writeln!(out, "\nNot shown:\n")?;
        }
        writeln!(out, "- {} ({}): {}", row.attack, row.layers, cell(&why))?;
    }
    Ok(())
}

/// Several sandboxes side by side: how many attacks ended how, what those cost the host whose kernel memory was
/// measured, and which of the others got through anywhere. `brief` says of attacks that were stopped only that.
pub fn comparison(records: &[Record], brief: bool) -> String {
    let mut text = String::new();
    side_by_side(&mut text, records, brief).expect("a string can be written");
    text
}

fn side_by_side(out: &mut String, records: &[Record], brief: bool) -> fmt::Result {
    let mut sandboxes: Vec<&str> = Vec::new();
    let mut attacks = BTreeMap::<&str, Vec<&Record>>::new();
    for record in records.iter().filter(|record| record.without.is_empty()) {
        if !sandboxes.contains(&record.sandbox.as_str()) {
            sandboxes.push(&record.sandbox);
        }
        attacks.entry(&record.attack).or_default().push(record);
    }
    for sandbox in &sandboxes {
        let own = attacks.values().flatten().filter(|record| record.sandbox == **sandbox);
        writeln!(out, "- {sandbox}: {}", summary(own.copied()))?;
    }
    let is_measured =
        |records: &Vec<&Record>| records.iter().any(|record| record.kernel_memory_growth.is_some());
    let (measured, others): (Vec<_>, Vec<_>) = attacks.into_values().partition(is_measured);
    if !measured.is_empty() {
        writeln!(
            out,
            "\nGrowth of the host's kernel memory in MiB; bold where the attack got through:"
        )?;
        table(out, "--:", &sandboxes, &measured, grown)?;
    }
    let got_through = |records: &Vec<&Record>| {
        records.iter().any(|record| matches!(record.ending, Ending::Through(_)))
    };
    let others: Vec<_> = others.into_iter().filter(got_through).collect();
    table(out, "---", &sandboxes, &others, |record| told(&record.ending, brief))
}

/// A row for each attack, and a column for each sandbox.
fn table(
    out: &mut String,
    align: &str,
    sandboxes: &[&str],
    attacks: &[Vec<&Record>],
    told: impl Fn(&Record) -> String,
) -> fmt::Result {
    write!(out, "\n| attack | what it tries |")?;
    for sandbox in sandboxes {
        write!(out, " {sandbox} |")?;
    }
    writeln!(out, "\n| --- | --- |{}", format!(" {align} |").repeat(sandboxes.len()))?;
    for records in attacks {
        write!(out, "| {} | {} |", records[0].attack, cell(&records[0].about))?;
        for sandbox in sandboxes {
            let found = records.iter().find(|record| record.sandbox == *sandbox);
            write!(out, " {} |", found.map_or_else(|| "not run".into(), |record| told(record)))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// What an attack cost the host.
fn grown(record: &Record) -> String {
    match (&record.ending, record.kernel_memory_growth.map(|bytes| bytes >> 20)) {
        (Ending::Stopped(_), Some(mib)) => mib.to_string(),
        (Ending::Through(_), Some(mib)) => format!("**{mib}**"),
        (ending, _) => told(ending, true),
    }
}

fn told(ending: &Ending, brief: bool) -> String {
    match ending {
        Ending::Stopped(_) if brief => "stopped".into(),
        Ending::Stopped(how) => format!("stopped: {}", cut(how, LONGEST)),
        Ending::Through(evidence) => {
            format!("**got through**: {}", cut(evidence, if brief { LONGEST / 2 } else { LONGEST }))
        }
        Ending::Absent(what) => format!("nothing to attack: {}", cut(what, LONGEST)),
        Ending::Skipped(why) => cell(why),
        Ending::Broken(_) => "broke".into(),
    }
}

/// The beginning of a text for a cell of a table.
fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        None => cell(text),
        Some((end, _)) => cell(&text[..end]) + "…",
    }
}

/// Text for a cell of a table, on one line.
fn cell(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
