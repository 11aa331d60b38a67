//! Runs one attack, and judges what came of it.

use std::{
    ffi::OsString,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{PoisonError, RwLock},
    time::{Duration, Instant},
};

use anyhow::ensure;
use cloister_api::{ByteSize, Reason};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{
    Case, Need, Sandbox, Set, Suite, Witness,
    running::{Ended, Running},
    sandbox::{BEGAN, Cell},
};
use crate::{
    Scratch,
    host::{Peak, Watch},
};

/// Held by those that run: shared, or by one whose host is measured, alone.
static MACHINE: RwLock<()> = RwLock::new(());

/// A neighbour has so many times the attack's time, and stays until that has ended.
const NEIGHBOURS_FACTOR: u32 = 2;

/// What came of an attack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ending", content = "detail", rename_all = "snake_case")]
pub enum Ending {
    /// It was refused, and how.
    Stopped(String),
    /// It got what it wanted; the evidence.
    Through(String),
    /// This kernel has nothing to attack.
    Absent(String),
    /// It was not run, and why.
    Skipped(String),
    /// The case or the harness did not work, and all that is known of it.
    Broken(String),
}

impl Ending {
    /// It and what was said of it.
    pub fn told(&self) -> (&'static str, &str) {
        match self {
            Self::Stopped(detail) => ("stopped", detail),
            Self::Through(detail) => ("through", detail),
            Self::Absent(detail) => ("absent", detail),
            Self::Skipped(detail) => ("skipped", detail),
            Self::Broken(detail) => ("broken", detail),
        }
    }

    /// What a line of a case's output says of its end.
    fn said(line: &str) -> Option<Self> {
        let (word, text) = line.split_once(": ")?;
        let ending = match word {
            "stopped" => Self::Stopped,
            "through" => Self::Through,
            "absent" => Self::Absent,
            _ => return None,
        };
        Some(ending(text.to_owned()))
    }
}

/// One attempt and its ending, as kept in a file of JSON lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The name of the case.
    pub attack: String,
    /// What it tries.
    pub about: String,
    /// What is said to stop it.
    pub layers: Set,
    /// What it ran in.
    pub sandbox: String,
    /// The layers that had been taken away.
    #[serde(default, skip_serializing_if = "Set::is_empty")]
    pub without: Set,
    /// By how much the host's kernel memory grew while it ran, in bytes, if that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_memory_growth: Option<i64>,
    /// What came of it.
    #[serde(flatten)]
    pub ending: Ending,
}

/// Runs one attack in a sandbox that `user` starts, if not the one who runs the tests. The witness is
/// its own, so that several can run at a time.
pub fn attempt(suite: &Suite, case: &Case, sandbox: &Sandbox, user: Option<u32>) -> Ending {
    attempt_measured(suite, case, sandbox, user).0
}

/// The same; also comes back with the growth of the host's kernel memory, in bytes, if that was measured.
pub fn attempt_measured(
    suite: &Suite,
    case: &Case,
    sandbox: &Sandbox,
    user: Option<u32>,
) -> (Ending, Option<i64>) {
    let skipped = |why| (Ending::Skipped(why), None);
    if let Some(why) = sandbox.not_for(case) {
        return skipped(why.into());
    }
    let needs = || case.needs.iter().filter(|need| sandbox.needs(**need));
    if let Some(why) = needs().find_map(|need| need.missing()) {
        return skipped(why);
    }
    let by_root = |need| matches!(need, &Need::Root | &Need::Mknod);
    if user.is_some() && needs().any(by_root) {
        return skipped("needs to be started by root".into());
    }
    let (_shared, _alone);
    if case.kernel_memory.is_some() {
        _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
    } else {
        _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    }
    let observed = observe(suite.folder(), case, sandbox, user);
    let required = case.verdict.filter(|_| sandbox.is_cloister());
    match observed {
        Err(error) => (Ending::Broken(format!("{error:#}")), None),
        Ok(seen) => {
            let growth = seen.peak.map(|peak| peak.kernel);
            (seen.judge(required), growth)
        }
    }
}

/// Everything that speaks for or against an attack.
#[derive(Default)]
struct Observed {
    output: Vec<String>,
    /// What shows that it got through, whatever it says.
    evidence: Vec<String>,
    /// The reason in the sandbox's result.
    reason: Option<Reason>,
    /// The harness had to end it.
    endless: bool,
    /// It is a program that is no case and says no word, and it ended with 0.
    ran: bool,
    /// The sandbox told that it did not end well.
    failed: bool,
    /// What the host's kernel held for it, if that was measured.
    peak: Option<Peak>,
}

impl Observed {
    fn judge(self, required: Option<Reason>) -> Ending {
        let measured = self.peak.map(|peak| format!("; the host: {}", peak.then));
        let ending = self.judge_by_words(required);
        match (ending, measured) {
            (Ending::Stopped(detail), Some(measured)) => Ending::Stopped(detail + &measured),
            (Ending::Through(detail), Some(measured)) => Ending::Through(detail + &measured),
            (ending, _) => ending,
        }
    }

    fn judge_by_words(self, required: Option<Reason>) -> Ending {
        if !self.evidence.is_empty() {
            return Ending::Through(self.evidence.join("; "));
        }
        let broken = |why: &str| Ending::Broken(format!("{why}:\n{}", self.output.join("\n")));
        if self.endless {
            return broken("it went on until the harness ended it");
        }
        let said = self.output.iter().rev().find_map(|line| Ending::said(line));
        match (required, said) {
            (_, Some(Ending::Through(evidence))) => Ending::Through(evidence),
            (_, None) if self.ran => Ending::Through("it ran, and ended with 0".into()),
            (Some(required), _) if self.reason == Some(required) => {
                Ending::Stopped(required.as_str().into())
            }
            (Some(required), _) => {
                let found = self.reason.map_or("none", Reason::as_str);
                broken(&format!("its verdict must be {}, and is {found}", required.as_str()))
            }
            // It was killed for what it held, before or after it was refused more.
            (None, _) if self.peak.is_some() && self.reason == Some(Reason::OutOfMemory) => {
                Ending::Stopped(Reason::OutOfMemory.as_str().into())
            }
            (None, Some(said)) => said,
            // Another sandbox tells no reason in a form that all of them share.
            (None, None) if self.failed && self.began() => match self.unexpected() {
                None => Ending::Stopped("it was ended".into()),
                Some("MemoryError") => Ending::Stopped("MemoryError".into()),
                Some(_) => broken("it ended without a word"),
            },
            (None, None) => broken("it ended without a word"),
        }
    }

    /// Whether another sandbox than Cloister had started it.
    fn began(&self) -> bool {
        self.output.iter().any(|line| line == BEGAN)
    }

    /// The exception that ended it, if one did.
    fn unexpected(&self) -> Option<&str> {
        let traceback = |line: &&String| line.starts_with("Traceback");
        self.output.iter().find(traceback)?;
        let last = self.output.iter().rev().find(|line| !line.starts_with(' '))?;
        last.split(':').next()
    }
}

fn observe(
    attacks: &Path,
    case: &Case,
    sandbox: &Sandbox,
    user: Option<u32>,
) -> anyhow::Result<Observed> {
    let mut witness = Witness::new()?;
    let inside = sandbox.folder(attacks);
    let start = |program: Option<&Path>, options, report: &Path, patience| {
        let mark = format!("ATTEMPT={}", Uuid::new_v4());
        let mut variables = witness.variables()?;
        let (name, value) = mark.split_once('=').expect("it has one");
        variables.push((name.into(), value.into()));
        variables.push(("PYTHONPATH".into(), inside.display().to_string()));
        variables.push(("PYTHONDONTWRITEBYTECODE".into(), "1".into()));
        let launch = sandbox.launch(&Cell {
            attacks,
            argv: program.map_or_else(|| argv(inside, case), |file| python(&inside.join(file))),
            options,
            limits: case.limits()?,
            variables,
            secret: &witness.secret(),
            report,
            tty: program.is_none() && case.needs.contains(&Need::Tty),
            user,
            patience,
        })?;
        Running::start(launch, mark)
    };
    let results = Scratch::new("results");
    fs::set_permissions(&*results, Permissions::from_mode(0o777))?;
    let report = results.join("attack");
    let patience = sandbox.patience();
    let neighbours_patience = NEIGHBOURS_FACTOR * patience;
    let neighbour = match &case.neighbour {
        None => None,
        Some(file) => {
            let mut options = case.options.clone();
            if !options.iter().any(|option| option == "--timeout") {
                options.extend(["--timeout".into(), neighbours_patience.to_string()]);
            }
            let neighbour =
                start(Some(file), options, &results.join("neighbour"), neighbours_patience)?;
            neighbour.wait_until_ready(Duration::from_secs(patience.into()))?;
            Some(neighbour)
        }
    };
    let began = Instant::now();
    let watch = case.kernel_memory.map(|most| Watch::start().map(|watch| (most, watch)));
    let watch = watch.transpose()?;
    let attack = start(None, case.options.clone(), &report, patience)?.wait()?;
    let endless = began.elapsed() >= Duration::from_secs(patience.into());

    let mut evidence = outlived(&attack, "the attack");
    let mut peak = None;
    if let Some((most, watch)) = watch {
        let seen = watch.stop()?;
        if seen.kernel > i64::try_from(most)? {
            let most = ByteSize(most);
            evidence.push(format!("the host's kernel memory grew by more than {most}"));
        }
        peak = Some(seen);
    }
    if let Some(neighbour) = neighbour {
        let (ended, lived) = neighbour.stop()?;
        if !lived {
            evidence.push(format!("the neighbour had ended: {}", ended.output.join("; ")));
        }
        evidence.extend(ended.output.iter().filter_map(|line| match Ending::said(line) {
            Some(Ending::Through(evidence)) => Some(format!("the neighbour says: {evidence}")),
            _ => None,
        }));
        evidence.extend(outlived(&ended, "the neighbour"));
    }
    evidence.extend(witness.touched()?);
    let failed = !attack.status.success();
    let ran = case.argv.is_some() && !failed;
    let reason = reason(&report)?;
    Ok(Observed { output: attack.output, evidence, reason, endless, ran, failed, peak })
}

fn outlived(ended: &Ended, whose: &str) -> Vec<String> {
    let sentence = |line| format!("a process of {whose} outlived its cell: {line}");
    ended.outlived.iter().map(sentence).collect()
}

/// What is run for a case.
fn argv(attacks: &Path, case: &Case) -> Vec<OsString> {
    let file = attacks.join(case.file());
    match &case.argv {
        None => python(&file),
        Some(words) => words
            .iter()
            .map(|word| if word == "CASE" { file.clone().into() } else { word.into() })
            .collect(),
    }
}

fn python(file: &Path) -> Vec<OsString> {
    vec!["/usr/bin/python3".into(), file.into()]
}

/// The reason in a result, if there is a result and it has one.
fn reason(report: &Path) -> anyhow::Result<Option<Reason>> {
    let text = fs::read_to_string(report).unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    let result: Value = serde_json::from_str(&text)?;
    ensure!(result.is_object(), "the result is no object: {text}");
    match result.get("reason") {
        None => Ok(None),
        Some(reason) => Ok(Some(serde_json::from_value(reason.clone())?)),
    }
}
