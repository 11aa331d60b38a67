//! Taking layers away. A case claims that each of its layers stops it by itself. So with all layers it
//! must be stopped, without all of its own it must get through, and with any one of its own alone it must
//! still be stopped.
//!
//! Each set of layers is another build of the program, so that a case which names many is left out.

use std::{collections::BTreeMap, iter, path::Path};

use anyhow::ensure;

use super::{Case, Ending, Layer, Record, Sandbox, Set, Suite, attempt};

/// A case that names more layers is left out, unless it is asked for.
pub const MOST_LAYERS: usize = 2;

/// Which cases are tried, and for which layers it is asked what they stop.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Cases are tried that name any of these.
    pub layers: Set,
    /// Cases that name more are left out.
    pub most: usize,
    /// Leave out what this machine can't show, rather than tell of it as skipped.
    pub only_here: bool,
}

impl Scope {
    /// These layers.
    pub fn of(layers: Set) -> Self {
        Self { layers, most: MOST_LAYERS, only_here: false }
    }

    /// Every layer with a switch, wherever it may be tried.
    pub fn everywhere() -> Self {
        Self::of(Layer::switched().collect())
    }

    /// Every layer with a switch that this machine has.
    pub fn here() -> Self {
        Self::of(Layer::switched().filter(|layer| layer.missing().is_none()).collect())
    }

    /// The cases that are tried.
    pub fn cases<'a>(&self, cases: &'a [Case]) -> impl Iterator<Item = &'a Case> {
        cases.iter().filter(|case| {
            case.layers.len() <= self.most
                && case.can_be_ablated()
                && case.layers.iter().any(|layer| self.layers.contains(layer))
                && !(self.only_here && missing(case).is_some())
        })
    }
}

/// Why a case shows nothing on this machine, if so.
fn missing(case: &Case) -> Option<String> {
    let layer = case.layers.iter().find_map(|layer| Some((layer, layer.missing()?)));
    layer.map(|(layer, why)| format!("{layer} is {why}")).or_else(|| case.missing())
}

/// The sets of layers that are taken away for a case: none, all of its own, and all but one.
fn sets_of(layers: &Set) -> Vec<Set> {
    let mut sets = vec![Set::default()];
    if layers.len() > 1 {
        sets.extend(layers.iter().map(|kept| layers.without(kept)));
    }
    sets.push(layers.clone());
    sets
}

/// The sets of layers without which a binary is needed.
pub fn sets(cases: &[Case], scope: &Scope) -> Vec<Set> {
    let mut sets: Vec<_> = scope
        .cases(cases)
        .flat_map(|case| sets_of(&case.layers))
        .filter(|set| !set.is_empty())
        .collect();
    sets.sort();
    sets.dedup();
    sets
}

/// Makes all attempts, with the binaries in a folder, and tells each one as it ends.
pub fn ablate(
    suite: &Suite,
    scope: &Scope,
    binaries: &Path,
    mut tell: impl FnMut(&Record),
) -> anyhow::Result<Vec<Record>> {
    let needed = sets(&suite.cases, &Scope { only_here: true, ..scope.clone() });
    for set in iter::once(Set::default()).chain(needed) {
        let path = binaries.join(set.binary());
        ensure!(path.is_file(), "{} is missing: tests/ablation builds it", path.display());
    }
    let mut records = Vec::new();
    for case in scope.cases(&suite.cases) {
        for without in sets_of(&case.layers) {
            let record = Record {
                attack: case.name.clone(),
                about: case.about.clone(),
                layers: case.layers.clone(),
                sandbox: "cloister".into(),
                kernel_memory_growth: None,
                ending: try_without(suite, case, binaries, &without),
                without,
            };
            tell(&record);
            records.push(record);
        }
    }
    Ok(records)
}

fn try_without(suite: &Suite, case: &Case, binaries: &Path, without: &Set) -> Ending {
    if let Some(why) = missing(case) {
        return Ending::Skipped(why);
    }
    // A layer that is left out is told as missing, and the program refuses to go on by itself.
    let degraded = (!without.is_empty()).then(|| "--allow-degraded".to_owned());
    let sandbox = Sandbox::Cloister {
        binary: binaries.join(without.binary()),
        options: degraded.into_iter().collect(),
    };
    attempt(suite, case, &sandbox, None)
}

/// What the attempts say of one case's claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Each of its layers stops it by itself.
    Holds,
    /// Nothing is there to attack, wherever it was tried.
    Absent(String),
    /// It was not tried, or not with all sets.
    Untried(String),
    /// It is not as the case says; a sentence for each attempt that contradicts.
    False(Vec<String>),
}

/// One case, and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The name of the case.
    pub attack: String,
    /// What it tries.
    pub about: String,
    /// What it says that stops it.
    pub layers: Set,
    /// Whether that is so.
    pub finding: Finding,
}

/// Judges the claims of all cases of which there are records, of any number of machines, in the order of
/// their names.
pub fn rows(records: &[Record]) -> Vec<Row> {
    let mut by_attack = BTreeMap::<&str, Vec<&Record>>::new();
    for record in records {
        by_attack.entry(&record.attack).or_default().push(record);
    }
    by_attack
        .into_iter()
        .map(|(attack, records)| Row {
            attack: attack.into(),
            about: records[0].about.clone(),
            layers: records[0].layers.clone(),
            finding: finding(&records[0].layers, &records),
        })
        .collect()
}

fn finding(layers: &Set, records: &[&Record]) -> Finding {
    let tried = |set: &Set| -> Vec<&Ending> {
        let of_set = records.iter().filter(|record| record.without == *set);
        let endings = of_set.map(|record| &record.ending);
        endings.filter(|ending| !matches!(ending, Ending::Skipped(_))).collect()
    };
    let sets = sets_of(layers);
    if sets.iter().any(|set| tried(set).is_empty()) {
        let why = records.iter().find_map(|record| match &record.ending {
            Ending::Skipped(why) => Some(why.clone()),
            _ => None,
        });
        return Finding::Untried(why.unwrap_or_else(|| "not every set was tried".into()));
    }
    let bare = tried(layers);
    // An attack that finds nothing to attack says so even with its layers away.
    let absent = bare.iter().find_map(|ending| match ending {
        Ending::Absent(what) => Some(what),
        _ => None,
    });
    let faults: Vec<_> = sets
        .iter()
        .flat_map(|set| {
            tried(set).into_iter().filter_map(|ending| fault(layers, set, ending, absent.is_some()))
        })
        .collect();
    if !faults.is_empty() {
        return Finding::False(faults);
    }
    match absent {
        Some(what) if !bare.iter().any(|ending| matches!(ending, Ending::Through(_))) => {
            Finding::Absent(what.clone())
        }
        _ => Finding::Holds,
    }
}

/// What is wrong with an ending, if it contradicts the claim.
fn fault(layers: &Set, without: &Set, ending: &Ending, absent: bool) -> Option<String> {
    let (fits, expected) = if without == layers {
        (matches!(ending, Ending::Through(_) | Ending::Absent(_)), "get through")
    } else {
        let nothing = absent && matches!(ending, Ending::Absent(_));
        (nothing || matches!(ending, Ending::Stopped(_)), "be stopped")
    };
    let binary =
        if without.is_empty() { "with all layers".into() } else { format!("without {without}") };
    let (word, detail) = ending.told();
    (!fits).then(|| format!("{binary} it must {expected}, and is {word}: {detail}"))
}

/// What a layer was seen to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worth {
    /// Attacks that nothing else stops.
    pub alone: usize,
    /// Attacks that another layer stops, too.
    pub together: usize,
}

/// What each of these layers stops.
pub fn worth(rows: &[Row], layers: &Set) -> Vec<(Layer, Worth)> {
    let of = |layer| {
        let count = |several| {
            rows.iter()
                .filter(|row| row.finding == Finding::Holds && row.layers.contains(layer))
                .filter(|row| (row.layers.len() > 1) == several)
                .count()
        };
        Worth { alone: count(false), together: count(true) }
    };
    layers.iter().map(|layer| (layer, of(layer))).collect()
}

/// Everything for which an ablation has failed, a sentence each: claims that are false, and layers that
/// were not seen to stop anything.
pub fn faults(rows: &[Row], layers: &Set) -> Vec<String> {
    let claims = rows.iter().filter_map(|row| match &row.finding {
        Finding::False(faults) => Some(format!("{}: {}", row.attack, faults.join("; "))),
        _ => None,
    });
    let idle = worth(rows, layers)
        .into_iter()
        .filter(|(_, worth)| *worth == Worth::default())
        .map(|(layer, _)| format!("no attack shows what {layer} stops"));
    claims.chain(idle).collect()
}
