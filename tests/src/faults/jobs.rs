//! The jobs: what each is, decided by the seed and its number, and what it must print.

use std::{fmt::Write, net::SocketAddr, time::Duration};

use serde_json::{Value, json};

use super::rng::Rng;

/// Reports its start, works, and reports its end, each time waiting until that was written down.
///
/// The nonce is made by the execution, so that two executions of one job differ; the connection is
/// kept to the end, so that it closes when the last process of the execution is gone. Codes from 96
/// on say that the harness itself is at fault.
const SCRIPT: &str = r#"
exec 3<>"/dev/tcp/$1/$2" || exit 97
read -r nonce </proc/sys/kernel/random/uuid || exit 96
tell() { echo "$1" >&3 && read -r -u 3 answer && [ "$answer" = ok ] || exit 98; }
tell "start $3 $nonce"
case $4 in
sleep) sleep "$5" ;;
print) for ((i = 0; i < $5; i++)); do echo "$3 line $i"; done ;;
esac
echo "out $3"
echo "err $3" >&2
code=0
[ "$4" != code ] || code=$5
tell "end $3 $nonce $code"
exit "$code"
"#;

/// What is kept of a job's output by default.
const KEPT: usize = 1 << 20;
/// What is kept of those that print more than that.
const KEPT_LITTLE: usize = 16 << 10;

/// What a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Ends at once.
    Quick,
    /// Sleeps for a while.
    Sleep(Duration),
    /// The same, and may run again if its runner is lost.
    Again(Duration),
    /// Prints so many lines.
    Print(usize),
    /// Prints more than is kept of it.
    Overflow(usize),
    /// Fails with this exit code.
    Code(u8),
    /// Sleeps for long, and is cancelled after this time.
    Cancel(Duration),
}

impl Kind {
    /// For a table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Sleep(_) => "sleeps",
            Self::Again(_) => "sleeps, may run again",
            Self::Print(_) => "prints much",
            Self::Overflow(_) => "prints more than is kept",
            Self::Code(_) => "exits with a code",
            Self::Cancel(_) => "is cancelled",
        }
    }

    /// Whether more than one execution of it is allowed.
    pub(super) fn may_run_again(self) -> bool {
        matches!(self, Self::Again(_))
    }

    /// The exit code of its command when nothing comes in between.
    pub(super) fn code(self) -> i64 {
        match self {
            Self::Code(code) => code.into(),
            _ => 0,
        }
    }
}

/// All jobs of a run.
#[derive(Clone, Debug)]
pub(super) struct Jobs {
    seed: u64,
    recorder: SocketAddr,
}

impl Jobs {
    /// Those of this seed, which report to this address.
    pub(super) fn new(seed: u64, recorder: SocketAddr) -> Self {
        Self { seed, recorder }
    }

    /// What a job is.
    pub(super) fn kind(&self, index: usize) -> Kind {
        let mut rng = Rng::new(self.seed, &format!("job {index}"));
        match rng.below(100) {
            0..45 => Kind::Quick,
            45..68 => Kind::Sleep(rng.millis(100, 3000)),
            68..82 => Kind::Again(rng.millis(100, 3000)),
            // Some of it goes with the result, and some has to be fetched.
            82..86 => Kind::Print(2000 + rng.below(10_000)),
            86..88 => Kind::Overflow(2000 + rng.below(2000)),
            88..95 => Kind::Code(u8::try_from(1 + rng.below(90)).expect("below 96")),
            _ => Kind::Cancel(rng.millis(0, 1500)),
        }
    }

    /// Its key, the same for each of its submissions.
    pub(super) fn key(&self, index: usize) -> String {
        format!("{}-{index}", self.seed)
    }

    /// Which job has this key.
    pub(super) fn index(&self, key: &str) -> Option<usize> {
        let (seed, index) = key.split_once('-')?;
        (seed.parse() == Ok(self.seed)).then(|| index.parse().ok()).flatten()
    }

    /// Its request.
    pub(super) fn request(&self, index: usize) -> Value {
        let kind = self.kind(index);
        let seconds = |time: Duration| format!("{:.3}", time.as_secs_f64());
        let (mode, value) = match kind {
            Kind::Quick => ("quick", String::new()),
            Kind::Sleep(time) | Kind::Again(time) => ("sleep", seconds(time)),
            Kind::Print(lines) | Kind::Overflow(lines) => ("print", lines.to_string()),
            Kind::Code(code) => ("code", code.to_string()),
            Kind::Cancel(_) => ("sleep", "20".into()),
        };
        let key = self.key(index);
        let (address, port) = (self.recorder.ip().to_string(), self.recorder.port().to_string());
        let mut request = json!({
            "argv": ["/bin/bash", "-c", SCRIPT, "cell", address, port, &key, mode, value],
            "network": "host",
            "timeout": 120,
            "limits": { "memory": "64MiB" },
            "labels": { "key": key },
        });
        if kind.may_run_again() {
            request["retries"] = 3.into();
            request["retry_on"] = json!(["runner_lost"]);
        }
        if matches!(kind, Kind::Overflow(_)) {
            request["limits"]["output"] = KEPT_LITTLE.into();
        }
        request
    }

    /// What is kept of the standard output of an execution that reported its end, and whether that is
    /// less than it wrote.
    pub(super) fn stdout(&self, index: usize) -> (String, bool) {
        let (kind, key) = (self.kind(index), self.key(index));
        let lines = match kind {
            Kind::Print(lines) | Kind::Overflow(lines) => lines,
            _ => 0,
        };
        let mut text = String::new();
        for line in 0..lines {
            let _ = writeln!(text, "{key} line {line}");
        }
        let _ = writeln!(text, "out {key}");
        let kept = if matches!(kind, Kind::Overflow(_)) { KEPT_LITTLE } else { KEPT };
        let truncated = text.len() > kept;
        text.truncate(kept);
        (text, truncated)
    }

    /// The same of its standard error.
    pub(super) fn stderr(&self, index: usize) -> String {
        format!("err {}\n", self.key(index))
    }
}
