//! Jobs as the rows of a table.

use std::fmt::Write;

use cloister_api::{Job, Reason, Status, Timestamp};

use super::{terminal::Screen, text};

const HEAD: [&str; 5] = ["ID", "STATUS", "REASON", "AGE", "RUNTIME"];
/// A command cut shorter than this tells nothing; the row is then wider than the terminal.
const LEAST_OF_COMMAND: usize = 8;

/// A table that grows by pages; columns keep the width of what was shown before.
pub(super) struct Table {
    screen: Screen,
    widths: [usize; 5],
    headed: bool,
}

impl Table {
    pub(super) fn new(screen: Screen) -> Self {
        Self { screen, widths: HEAD.map(str::len), headed: false }
    }

    /// The rows of so many more jobs, with the head before the first.
    pub(super) fn rows(&mut self, jobs: &[Job], now: Timestamp) -> String {
        let rows: Vec<_> = jobs.iter().map(|job| (cells(job, now), job)).collect();
        for (cells, _) in &rows {
            for (width, cell) in self.widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.len());
            }
        }
        // Identifiers are long: where there is little room, the command gets it.
        let gap = if self.screen.columns < 100 { " " } else { "  " };
        let taken: usize = self.widths.iter().map(|width| width + gap.len()).sum();
        let room = self.screen.columns.saturating_sub(taken).max(LEAST_OF_COMMAND);
        let mut shown = String::new();
        if !self.headed {
            self.headed = true;
            self.row(&mut shown, &HEAD.map(String::from), gap, "", "COMMAND");
        }
        for (cells, job) in rows {
            let command = text::shorten(&text::command(&job.request.task.program), room);
            self.row(&mut shown, &cells, gap, colour(job.status), &command);
        }
        shown
    }

    fn row(&self, shown: &mut String, cells: &[String; 5], gap: &str, status: &str, command: &str) {
        let [id, state, reason, age, runtime] = self.widths;
        let painted = self.screen.paint(status, &format!("{:state$}", cells[1]));
        // Writing to a string cannot fail.
        let _ = writeln!(
            shown,
            "{:id$}{gap}{painted}{gap}{:reason$}{gap}{:>age$}{gap}{:>runtime$}{gap}{command}",
            cells[0], cells[2], cells[3], cells[4]
        );
    }
}

fn cells(job: &Job, now: Timestamp) -> [String; 5] {
    [
        job.job_id.to_string(),
        job.status.as_str().into(),
        job.reason.map_or("-", Reason::as_str).into(),
        age(job.created_at, now),
        runtime(job, now),
    ]
}

/// The colour of a status (SGR).
pub(super) fn colour(status: Status) -> &'static str {
    match status {
        Status::Pending => "33",
        Status::Running => "36",
        Status::Completed => "32",
        Status::Failed => "31",
        Status::Cancelled => "2",
    }
}

/// How long ago, in the largest unit that says something.
pub(super) fn age(then: Timestamp, now: Timestamp) -> String {
    // The coordinator's clock may be ahead of ours.
    let seconds = now.since_ms(then).max(0) / 1000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// How long it ran, or runs already.
fn runtime(job: &Job, now: Timestamp) -> String {
    match (job.runtime_ms, job.status, job.started_at) {
        (Some(ms), ..) => milliseconds(ms),
        (None, Status::Running, Some(started)) => age(started, now),
        _ => "-".into(),
    }
}

/// A length of time with three digits or so.
pub(super) fn milliseconds(ms: f64) -> String {
    if ms < 9.95 {
        format!("{ms:.1}ms")
    } else if ms < 999.5 {
        format!("{ms:.0}ms")
    } else if ms < 119_950.0 {
        format!("{:.1}s", ms / 1000.0)
    } else if ms < 7_200_000.0 {
        format!("{:.0}m{:02.0}s", (ms / 60_000.0).floor(), (ms % 60_000.0 / 1000.0).floor())
    } else {
        format!("{:.1}h", ms / 3_600_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let at = |seconds: i64| age(Timestamp(0), Timestamp(seconds * 1000));
        assert_eq!(
            [at(-5), at(59), at(120), at(7200), at(172_800)],
            ["0s", "59s", "2m", "2h", "2d"]
        );
        assert_eq!(
            [1.25, 301.0, 999.9, 2345.0, 125_000.0, 7_200_000.0].map(milliseconds),
            ["1.2ms", "301ms", "1.0s", "2.3s", "2m05s", "2.0h"]
        );
    }
}
