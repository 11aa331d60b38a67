//! Runners as the rows of a table.

use std::fmt::Write;

use cloister_api::RunnerInfo;

use super::{terminal::Screen, text};

const HEAD: [&str; 5] = ["RUNNER", "UP", "RUNNING", "BREAKER", "DRAINED"];
/// A trouble cut shorter than this tells nothing; the row is then wider than the terminal.
const LEAST_OF_TROUBLE: usize = 12;
const GAP: &str = "  ";
const RED: &str = "31";
const YELLOW: &str = "33";

/// All of them, below a head.
pub(super) fn table(runners: &[RunnerInfo], screen: Screen) -> String {
    let rows: Vec<_> = runners.iter().map(|runner| (cells(runner), runner)).collect();
    let mut widths = HEAD.map(str::len);
    for (cells, _) in &rows {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let taken: usize = widths.iter().map(|width| width + GAP.len()).sum();
    let room = screen.columns.saturating_sub(taken).max(LEAST_OF_TROUBLE);
    let mut shown = String::new();
    row(&mut shown, screen, widths, &HEAD.map(String::from), [""; 5], "TROUBLE");
    for (cells, runner) in rows {
        let trouble = text::plain(runner.trouble.as_deref().unwrap_or_default());
        let trouble = text::shorten(&trouble, room);
        row(&mut shown, screen, widths, &cells, colours(runner), &trouble);
    }
    shown
}

fn row(
    shown: &mut String,
    screen: Screen,
    widths: [usize; 5],
    cells: &[String; 5],
    colours: [&str; 5],
    trouble: &str,
) {
    let mut line = String::new();
    for ((cell, width), colour) in cells.iter().zip(widths).zip(colours) {
        // Padded before it is painted: a colour takes no room.
        line.push_str(&screen.paint(colour, &format!("{cell:width$}")));
        line.push_str(GAP);
    }
    line.push_str(trouble);
    // Writing to a string cannot fail.
    let _ = writeln!(shown, "{}", line.trim_end());
}

fn cells(runner: &RunnerInfo) -> [String; 5] {
    let slots = runner.health.as_ref().map(|health| health.slots.total.to_string());
    let slots = slots.unwrap_or_else(|| "-".into());
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    // One of an older coordinator has none.
    let breaker = if runner.breaker.is_empty() { "-" } else { &runner.breaker };
    [
        text::plain(&runner.url),
        yes(runner.up),
        format!("{}/{slots}", runner.running),
        text::plain(breaker),
        yes(runner.drained),
    ]
}

fn colours(runner: &RunnerInfo) -> [&'static str; 5] {
    let up = if runner.up { "" } else { RED };
    let breaker = match runner.breaker.as_str() {
        "open" => RED,
        "half_open" => YELLOW,
        _ => "",
    };
    ["", up, "", breaker, if runner.drained { YELLOW } else { "" }]
}
