//! Runners that an operator drains, by name: the order outlives the runner's listing, as it may leave
//! a name server's answer and come back.

use std::collections::BTreeMap;

use super::job::RunnerName;

/// So many names are remembered that belong to no runner.
const STRANGERS: usize = 1_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Drained {
    /// With a number that tells which came first.
    names: BTreeMap<RunnerName, u64>,
    count: u64,
}

impl Drained {
    pub(super) fn contains(&self, name: &RunnerName) -> bool {
        self.names.contains_key(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &RunnerName> {
        self.names.keys()
    }

    pub(super) fn remove(&mut self, name: &RunnerName) {
        self.names.remove(name);
    }

    /// Remembers a name; of too many that are not `known`, the oldest is forgotten.
    pub(super) fn insert(&mut self, name: RunnerName, known: impl Fn(&RunnerName) -> bool) {
        self.count += 1;
        self.names.entry(name).or_insert(self.count);
        if self.names.len() <= STRANGERS {
            return;
        }
        let strangers = self.names.iter().filter(|(name, _)| !known(name));
        if strangers.clone().count() > STRANGERS
            && let Some((name, _)) = strangers.min_by_key(|(_, age)| **age)
        {
            let name = name.clone();
            self.names.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_a_runner_are_bounded_and_others_are_not() {
        let mut drained = Drained::default();
        let name = |at: usize| RunnerName::from(format!("http://r{at}"));
        let known = |name: &RunnerName| name.ends_with('7');
        for at in 0..STRANGERS * 2 {
            drained.insert(name(at), known);
        }
        let strangers = drained.names().filter(|name| !known(name)).count();
        assert_eq!(strangers, STRANGERS);
        assert_eq!(drained.names().count() - strangers, STRANGERS / 5);
        // The oldest went.
        assert!(!drained.contains(&name(0)) && drained.contains(&name(STRANGERS * 2 - 1)));
        drained.remove(&name(7));
        assert!(!drained.contains(&name(7)));
    }
}
