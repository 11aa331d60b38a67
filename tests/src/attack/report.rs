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

/// Several sandboxes side by side: how many attacks ended how, and those that got through anywhere.
pub fn comparison(records: &[Record]) -> String {
    let mut text = String::new();
    side_by_side(&mut text, records).expect("a string can be written");
    text
}

fn side_by_side(out: &mut String, records: &[Record]) -> fmt::Result {
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
    write!(out, "\n| attack | what it tries |")?;
    for sandbox in &sandboxes {
        write!(out, " {sandbox} |")?;
    }
    writeln!(out, "\n| --- | --- |{}", " --- |".repeat(sandboxes.len()))?;
    for (attack, records) in attacks {
        if !records.iter().any(|record| matches!(record.ending, Ending::Through(_))) {
            continue;
        }
        write!(out, "| {attack} | {} |", cell(&records[0].about))?;
        for sandbox in &sandboxes {
            let found = records.iter().find(|record| record.sandbox == *sandbox);
            write!(
                out,
                " {} |",
                found.map_or_else(|| "not run".into(), |record| told(&record.ending))
            )?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn told(ending: &Ending) -> String {
    match ending {
        Ending::Stopped(how) => format!("stopped: {}", cell(how)),
        Ending::Through(evidence) => format!("**got through**: {}", cell(evidence)),
        Ending::Absent(what) => format!("nothing to attack: {}", cell(what)),
        Ending::Skipped(why) => cell(why),
        Ending::Broken(_) => "broke".into(),
    }
}

/// Text for a cell of a table, on one line.
fn cell(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
