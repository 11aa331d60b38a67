//! From a profile to a program.

use std::collections::BTreeMap;

use crate::emit::{Emitter, Label, Test};
use crate::program::data;
use crate::{Action, Arch, Error, Profile, Program, Rule};

/// The answer to a call: the first rule that holds, else the action.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Verdict<'p> {
    rules: &'p [Rule],
    action: Action,
}

/// Consecutive numbers with the same verdict, up to the next range's first.
#[derive(Clone, Copy, Debug)]
struct Range<'p> {
    first: u32,
    verdict: Verdict<'p>,
}

impl Profile {
    /// Compiles the filter for an architecture.
    pub fn compile(&self, arch: Arch) -> Result<Program, Error> {
        let mut code = Emitter::default();
        let foreign = code.ret(self.foreign);
        let mut start = tree(&mut code, &self.ranges(arch)?);
        if let Some(bit) = arch.foreign_bit() {
            start = code.test(Test::AnyBit, bit, foreign, start);
        }
        start = code.load(data::NUMBER, start);
        start = code.test(Test::Equal, arch.audit(), start, foreign);
        code.load(data::ARCH, start);
        code.finish()
    }

    /// All numbers, from 0 to the greatest, in ranges.
    fn ranges(&self, arch: Arch) -> Result<Vec<Range<'_>>, Error> {
        let default = Verdict { rules: &[], action: self.default };
        let named = self.verdicts(arch)?;
        let end = named.last_key_value().map_or(0, |(&last, _)| last + 1);
        let mut ranges: Vec<Range<'_>> = Vec::new();
        for first in 0..=end {
            let verdict = named.get(&first).copied().unwrap_or(default);
            if ranges.last().is_none_or(|range| range.verdict != verdict) {
                ranges.push(Range { first, verdict });
            }
        }
        Ok(ranges)
    }

    fn verdicts(&self, arch: Arch) -> Result<BTreeMap<u32, Verdict<'_>>, Error> {
        let numbers: BTreeMap<_, _> = arch.syscalls().collect();
        let mut verdicts = BTreeMap::new();
        for group in self.groups_for(arch) {
            let verdict = Verdict { rules: &group.rules, action: group.action };
            for name in &group.syscalls {
                let Some(&number) = numbers.get(name.as_str()) else {
                    let name = name.clone();
                    return Err(Error::UnknownSyscall { name, arch });
                };
                if verdicts.insert(number, verdict).is_some() {
                    let name = name.clone();
                    return Err(Error::NamedTwice { name, arch });
                }
            }
        }
        Ok(verdicts)
    }
}

/// Emits the search for the range that the accumulator's number lies in.
fn tree(code: &mut Emitter, ranges: &[Range<'_>]) -> Label {
    if let [range] = ranges {
        return leaf(code, range.verdict);
    }
    let (below, above) = ranges.split_at(ranges.len() / 2);
    let middle = above[0].first;
    let above = tree(code, above);
    let below = tree(code, below);
    code.test(Test::GreaterOrEqual, middle, above, below)
}

/// Emits the rules of a verdict, each going on at the next where a condition of it fails.
fn leaf(code: &mut Emitter, verdict: Verdict<'_>) -> Label {
    let mut next = code.ret(verdict.action);
    for rule in verdict.rules.iter().rev() {
        let mut start = code.ret(rule.action);
        for condition in rule.when.iter().rev() {
            start = condition.emit(code, start, next);
        }
        next = start;
    }
    next
}
