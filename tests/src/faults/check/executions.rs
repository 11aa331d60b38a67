//! How often jobs ran, as they reported it themselves.

use std::{fmt, time::Duration};

use super::super::{
    history::{Record, What},
    jobs::Kind,
    report::Report,
};

/// The recorder hears of the end of an execution that was killed a moment after it: its connection is
/// closed by the kernel, and read by a thread that has to be woken.
const MOMENT: Duration = Duration::from_millis(200);

/// An execution, as it reported itself.
#[derive(Clone, Debug)]
pub(super) struct Execution {
    nonce: String,
    pub(super) runner: String,
    pub(super) began: Duration,
    /// When it reported its end, and the exit code.
    pub(super) ended: Option<(Duration, i64)>,
    /// When nothing of it lived any more.
    gone: Option<Duration>,
}

impl Execution {
    /// From when on it did nothing more.
    fn over(&self) -> Option<Duration> {
        self.ended.map(|(at, _)| at).or(self.gone)
    }
}

impl fmt::Display for Execution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nonce, runner, began, .. } = self;
        write!(f, "{nonce} on {runner} from {began:.3?} to {:.3?}", self.over())
    }
}

/// All executions of a job, in the order of their starts.
pub(super) fn of(record: &Record) -> Vec<Execution> {
    let mut all: Vec<Execution> = Vec::new();
    for (at, what) in &record.events {
        match what {
            What::Began { nonce, runner } => {
                let (nonce, runner) = (nonce.clone(), runner.clone());
                all.push(Execution { nonce, runner, began: *at, ended: None, gone: None });
            }
            What::Ended { nonce, code } => {
                if let Some(one) = all.iter_mut().find(|one| one.nonce == *nonce) {
                    one.ended = Some((*at, *code));
                }
            }
            What::Gone { nonce } => {
                if let Some(one) = all.iter_mut().find(|one| one.nonce == *nonce) {
                    one.gone = Some(*at);
                }
            }
            _ => {}
        }
    }
    all
}

pub(super) fn check(index: usize, kind: Kind, executions: &[Execution], report: &mut Report) {
    if kind.may_run_again() {
        for pair in executions.windows(2) {
            let over = pair[0].over().is_some_and(|end| end <= pair[1].began + MOMENT);
            report.must_of("with retries: never twice at once", index, over, || {
                format!("job {index}: {} and {}", pair[0], pair[1])
            });
        }
    } else {
        report.must_of(
            "without retries: executed at most once",
            index,
            executions.len() <= 1,
            || {
                let told: Vec<String> = executions.iter().map(ToString::to_string).collect();
                format!("job {index}: {}", told.join("; "))
            },
        );
    }
}
