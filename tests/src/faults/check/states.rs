//! How jobs went from one state to the next, as observers saw it.

use super::super::{
    history::{Record, Span, Stand},
    report::Report,
};

const FORWARD: &str = "states only move forward, attempts never go down";
const FINAL: &str = "an end never changes";

pub(super) fn check(index: usize, record: &Record, report: &mut Report) {
    for later in &record.spans {
        // Only what had been answered before the question was asked is certain to have come before.
        let before = record.spans.iter().filter(|earlier| earlier.known < later.asked);
        let back = before.clone().find(|earlier| {
            earlier.stand.0 > later.stand.0
                || earlier.stand.0 == later.stand.0 && rank(earlier.stand) > rank(later.stand)
        });
        report.must_of(FORWARD, index, back.is_none(), || told(index, back, later));
        let other =
            before.clone().find(|earlier| earlier.stand.1.ended() && earlier.stand != later.stand);
        report.must_of(FINAL, index, other.is_none(), || told(index, other, later));
    }
}

/// All ends are equally far.
fn rank(stand: Stand) -> u8 {
    match stand.1 {
        super::super::history::Step::Pending => 0,
        super::super::history::Step::Running => 1,
        _ => 2,
    }
}

fn told(index: usize, earlier: Option<&Span>, later: &Span) -> String {
    let Some(earlier) = earlier else {
        return String::new();
    };
    format!(
        "job {index}: {} showed {:?} at {:.3?}, and {} still or again {:?} at {:.3?}",
        earlier.by, earlier.stand, earlier.known, later.by, later.stand, later.asked
    )
}
