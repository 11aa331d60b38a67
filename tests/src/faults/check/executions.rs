//! How often jobs ran, as they reported it themselves.

use std::time::Duration;

use super::super::{
    history::{Record, What},
    jobs::Kind,
    report::Report,
};

/// The recorder hears of the end of an execution that was killed a moment after it: its connection is
/// closed by the kernel, and read by a thread that has to be woken.
const MOMENT: Duration = Duration::from_millis(200);

pub(super) fn check(index: usize, kind: Kind, record: &Record, report: &mut Report) {
    let mut spans: Vec<(Duration, Option<Duration>, &str)> = Vec::new();
    for (at, what) in &record.events {
        match what {
            What::Began { nonce, .. } => spans.push((*at, None, nonce)),
            What::Ended { nonce, .. } | What::Gone { nonce } => {
                if let Some(span) = spans.iter_mut().find(|(_, _, other)| other == nonce) {
                    // What reported its end does nothing more.
                    span.1.get_or_insert(*at);
                }
            }
            _ => {}
        }
    }
    if kind.may_run_again() {
        for pair in spans.windows(2) {
            let [(_, end, _), (next, _, _)] = pair else {
                continue;
            };
            let over = end.is_some_and(|end| end <= *next + MOMENT);
            report.must_of("with retries: never twice at once", index, over, || {
                format!(
                    "job {index}: an execution began at {next:?}, one before it ended at {end:?}"
                )
            });
        }
    } else {
        report.must_of("without retries: executed at most once", index, spans.len() <= 1, || {
            format!("job {index}: executed {} times", spans.len())
        });
    }
}
