//! What was measured, beside what it should be.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::stats::Spread;

/// What a number should be.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

impl Goal {
    fn met(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }

    fn text(self, unit: &str) -> String {
        match self {
            Self::AtMost(most) => format!("≤ {}{unit}", round(most)),
            Self::AtLeast(least) => format!("≥ {}{unit}", round(least)),
        }
    }
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Such as `L1`.
    pub(crate) id: &'static str,
    /// What was measured.
    pub(crate) what: String,
    /// With the space before it; empty for a ratio.
    pub(crate) unit: &'static str,
    /// Or why it was not.
    pub(crate) measured: Result<Spread, String>,
    /// Nothing where the number is there for comparison.
    pub(crate) goal: Option<Goal>,
}

impl Row {
    fn verdict(&self) -> &'static str {
        match (&self.measured, self.goal) {
            (_, None) => "–",
            (Ok(spread), Some(goal)) if goal.met(spread.median) => "met",
            (Ok(_), Some(_)) => "missed",
            (Err(_), Some(_)) => "not measured",
        }
    }

    /// For programs: numbers are not rounded, and what was not measured is absent.
    fn json(&self) -> Value {
        let mut value = json!({ "id": self.id, "what": self.what, "verdict": self.verdict() });
        if !self.unit.is_empty() {
            value["unit"] = self.unit.trim().into();
        }
        match &self.measured {
            Ok(spread) => value["measured"] = json!(spread),
            Err(why) => value["not_measured"] = why.as_str().into(),
        }
        if let Some(goal) = self.goal {
            value["goal"] = json!(goal);
        }
        value
    }

    /// As a row of a table in Markdown.
    fn markdown(&self) -> String {
        let measured = match &self.measured {
            Ok(Spread { median, low, high }) => {
                format!("{}{} ({}–{})", round(*median), self.unit, round(*low), round(*high))
            }
            Err(why) => why.replace('|', "/").replace('\n', " "),
        };
        let goal = self.goal.map_or_else(|| "–".into(), |goal| goal.text(self.unit));
        format!("| {} | {} | {measured} | {goal} | {} |", self.id, self.what, self.verdict())
    }
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
    numbers: Map<String, Value>,
}

impl Report {
    /// Adds a line, and shows it at once: the rest takes minutes.
    pub(crate) fn row(
        &mut self,
        id: &'static str,
        what: impl Into<String>,
        unit: &'static str,
        measured: Result<Spread, String>,
        goal: Option<Goal>,
    ) {
        let row = Row { id, what: what.into(), unit, measured, goal };
        eprintln!("{}", row.markdown());
        self.rows.push(row);
    }

    /// A ratio, or nothing by which it could be judged.
    pub(crate) fn ratio(
        &mut self,
        id: &'static str,
        what: impl Into<String>,
        values: &[f64],
        goal: Option<Goal>,
    ) {
        self.row(id, what, "", Ok(Spread::of(values)), goal);
    }

    /// Adds a sentence that belongs below the table.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        eprintln!("{text}");
        self.notes.push(text);
    }

    /// Adds what only the file with all numbers has.
    pub(crate) fn number(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.numbers.insert(name.into(), value.into());
    }

    /// Whether everything was measured that should have been.
    pub(crate) fn whole(&self) -> bool {
        self.rows.iter().all(|row| row.goal.is_none() || row.measured.is_ok())
    }

    /// The table, and what belongs below it.
    pub(crate) fn markdown(&self) -> String {
        let mut text =
            String::from("| | what | measured (spread) | goal | |\n| - | - | - | - | - |\n");
        for row in &self.rows {
            let _ = writeln!(text, "{}", row.markdown());
        }
        for note in &self.notes {
            let _ = writeln!(text, "\n{note}");
        }
        text
    }

    /// Everything, for programs.
    pub(crate) fn json(&self, machine: &Value) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        json!({ "machine": machine, "rows": rows, "notes": self.notes, "numbers": self.numbers })
    }
}

/// As many digits as say something.
pub(crate) fn round(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 0.1 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_whether_the_goal_was_met() {
        let row = |median, goal| Row {
            id: "L0",
            what: "it".into(),
            unit: " MiB",
            measured: Ok(Spread { median, low: 0.5, high: 200.25 }),
            goal,
        };
        assert_eq!(
            row(40.0, Some(Goal::AtMost(40.0))).markdown(),
            "| L0 | it | 40 MiB (0.50–200) | ≤ 40 MiB | met |"
        );
        assert_eq!(row(1.0, Some(Goal::AtLeast(2.0))).verdict(), "missed");
        assert_eq!(row(1.0, None).verdict(), "–");
        let failed =
            Row { measured: Err("no\nreason".into()), ..row(1.0, Some(Goal::AtMost(1.0))) };
        assert_eq!(failed.markdown(), "| L0 | it | no reason | ≤ 1 MiB | not measured |");
    }
}
