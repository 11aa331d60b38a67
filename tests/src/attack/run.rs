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
    sandbox::Cell,
};
use crate::{
    Scratch,
    host::{Peak, Watch},
};

/// Held by those that run: shared, or by one whose host is measured, alone.
static MACHINE: RwLock<()> = RwLock::new(());

/// After so many seconds the harness ends a sandbox that goes on. It has 30 s for the attack, and the
/// virtual machine's emulated processor takes its time to start it.
const PATIENCE: u32 = 75;
/// The same for a neighbour, which stays until the attack has ended.
const NEIGHBOURS_PATIENCE: u32 = 2 * PATIENCE;
/// bubblewrap has no time-out of its own.
const BWRAPS_PATIENCE: u32 = 30;

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
    /// What came of it.
    #[serde(flatten)]
    pub ending: Ending,
}

/// Runs one attack in a sandbox that `user` starts, if not the one who runs the tests. The witness is
/// its own, so that several can run at a time.
pub fn attempt(suite: &Suite, case: &Case, sandbox: &Sandbox, user: Option<u32>) -> Ending {
    if let Some(why) = sandbox.not_for(case) {
        return Ending::Skipped(why.into());
    }
    if let Some(why) = case.missing() {
        return Ending::Skipped(why);
    }
    let by_root = |need| matches!(need, &Need::Root | &Need::Mknod);
    if user.is_some() && case.needs.iter().any(by_root) {
        return Ending::Skipped("needs to be started by root".into());
    }
    let (_shared, _alone);
    if case.kernel_memory.is_some() {
        _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
    } else {
        _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    }
    let observed = observe(suite.folder(), case, sandbox, user);
    let required = case.verdict.filter(|_| matches!(sandbox, Sandbox::Cloister { .. }));
    observed.map_or_else(|error| Ending::Broken(format!("{error:#}")), |seen| seen.judge(required))
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
            (None, None) => broken("it ended without a word"),
        }
    }
}

fn observe(
    attacks: &Path,
    case: &Case,
    sandbox: &Sandbox,
    user: Option<u32>,
) -> anyhow::Result<Observed> {
    let mut witness = Witness::new()?;
    let start = |program: Option<&Path>, options, report: &Path, patience| {
        let mark = format!("ATTEMPT={}", Uuid::new_v4());
        let mut variables = witness.variables()?;
        let (name, value) = mark.split_once('=').expect("it has one");
        variables.push((name.into(), value.into()));
        variables.push(("PYTHONPATH".into(), attacks.display().to_string()));
        variables.push(("PYTHONDONTWRITEBYTECODE".into(), "1".into()));
        let command = sandbox.command(&Cell {
            attacks,
            argv: program.map_or_else(|| argv(attacks, case), |file| python(&attacks.join(file))),
            options,
            variables,
            secret: &witness.secret(),
            report,
            tty: program.is_none() && case.needs.contains(&Need::Tty),
            user,
            patience,
        });
        Running::start(command, mark)
    };
    let results = Scratch::new("results");
    fs::set_permissions(&*results, Permissions::from_mode(0o777))?;
    let report = results.join("attack");
    let neighbour = match &case.neighbour {
        None => None,
        Some(file) => {
            let mut options = case.options.clone();
            if !options.iter().any(|option| option == "--timeout") {
                options.extend(["--timeout".into(), NEIGHBOURS_PATIENCE.to_string()]);
            }
            let neighbour =
                start(Some(file), options, &results.join("neighbour"), NEIGHBOURS_PATIENCE)?;
            neighbour.wait_until_ready(Duration::from_secs(PATIENCE.into()))?;
            Some(neighbour)
        }
    };
    let patience = match sandbox {
        Sandbox::Cloister { .. } => PATIENCE,
        Sandbox::Bwrap => BWRAPS_PATIENCE,
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
    let ran = case.argv.is_some() && attack.status.success();
    Ok(Observed { output: attack.output, evidence, reason: reason(&report)?, endless, ran, peak })
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
