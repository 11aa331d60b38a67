//! What stands between an attack and the host, by name.

use std::{collections::BTreeSet, fmt, iter::FromIterator, str::FromStr};

use anyhow::bail;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::need::{has_apparmor, landlock_abi};

/// One protection that a case may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Layer(&'static str);

/// Each can be left out of a build by a cargo feature, `without-` and its name.
const SWITCHED: [&str; 17] = [
    "apparmor",
    "capabilities",
    "cgroup-namespace",
    "cgroups",
    "inodes",
    "ipc-namespace",
    "landlock",
    "masks",
    "mounts",
    "network-namespace",
    "network-owner",
    "pid-namespace",
    "seccomp",
    "user-namespace",
    "user-owner",
    "uts-namespace",
    "watcher",
];

/// There is no building without these.
const FIXED: [&str; 9] =
    ["clock", "descriptors", "init", "kernel", "network", "rlimits", "tmpfs", "users", "view"];

impl Layer {
    /// All that a build can leave out.
    pub fn switched() -> impl Iterator<Item = Self> {
        SWITCHED.into_iter().map(Self)
    }

    /// Whether a build can leave it out.
    pub fn has_switch(self) -> bool {
        SWITCHED.contains(&self.0)
    }

    /// Why this machine does not have it, if so: what it alone stops can't be shown here.
    pub fn missing(self) -> Option<&'static str> {
        let missing = match self.0 {
            "apparmor" => !has_apparmor(),
            "landlock" => landlock_abi() == 0,
            _ => false,
        };
        missing.then_some("not in this kernel")
    }
}

impl FromStr for Layer {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        match SWITCHED.into_iter().chain(FIXED).find(|known| *known == name) {
            Some(known) => Ok(Self(known)),
            None => bail!("no layer is called {name:?}"),
        }
    }
}

// Derived, it would only read text that lives for ever.
impl<'de> Deserialize<'de> for Layer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Some layers; written in the order of their names, as `landlock+mounts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Set(BTreeSet<Layer>);

impl Set {
    /// In the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = Layer> {
        self.0.iter().copied()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is among them.
    pub fn contains(&self, layer: Layer) -> bool {
        self.0.contains(&layer)
    }

    /// All but this one.
    #[must_use]
    pub fn without(&self, layer: Layer) -> Self {
        self.iter().filter(|other| *other != layer).collect()
    }

    /// What the binary is called from which these layers are left out.
    pub fn binary(&self) -> String {
        if self.is_empty() { "cloister".into() } else { format!("without-{self}") }
    }
}

impl FromIterator<Layer> for Set {
    fn from_iter<I: IntoIterator<Item = Layer>>(layers: I) -> Self {
        Self(layers.into_iter().collect())
    }
}

/// Comma-separated, as in a header or on the command line.
impl FromStr for Set {
    type Err = anyhow::Error;

    fn from_str(names: &str) -> anyhow::Result<Self> {
        names.split(',').map(|name| name.trim().parse()).collect()
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, layer) in self.iter().enumerate() {
            if index > 0 {
                f.write_str("+")?;
            }
            f.write_str(layer.0)?;
        }
        Ok(())
    }
}
