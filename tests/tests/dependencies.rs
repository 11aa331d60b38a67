//! What the workspace depends on: from where, under which licences, and in how many versions.

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

/// Licences that let the whole be used as `Apache-2.0 OR MIT`.
const LICENCES: [&str; 9] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates whose second version is known, with the reason.
const TWICE: [(&str, &str); 11] = [
    ("base64", "postgres-protocol is one release behind"),
    ("bitflags", "cgroups-rs, used in tests only, is several releases behind"),
    ("const-oid", "x509-cert, for the channel binding to PostgreSQL, is one release behind sha2"),
    ("embedded-io", "postcard names both, and uses neither here"),
    ("fallible-iterator", "postgres-protocol is one release behind rusqlite"),
    ("getrandom", "ring stays with the one that its supported compilers know"),
    ("nix", "cgroups-rs, used in tests only, is several releases behind"),
    ("synstructure", "rcgen names a parser of certificates, and uses none here"),
    ("syn", "macros are on their way from 2 to 3; it runs at build time only"),
    ("thiserror", "cgroups-rs, used in tests only, is several releases behind"),
    ("thiserror-impl", "cgroups-rs, used in tests only, is several releases behind"),
];

/// All packages of the lock file, as cargo sees them; this workspace's own left out.
fn packages() -> Vec<Value> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--offline",
            "--manifest-path",
            manifest,
        ])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let all = metadata["packages"].as_array().unwrap();
    all.iter().filter(|package| !package["source"].is_null()).cloned().collect()
}

#[test]
fn all_come_from_the_registry() {
    for package in packages() {
        let source = package["source"].as_str().unwrap();
        assert!(source.starts_with("registry+"), "{} comes from {source}", package["name"]);
    }
}

#[test]
fn licences_are_compatible() {
    for package in packages() {
        // Old crates write a slash for OR.
        let licence = package["license"].as_str().unwrap_or_default().replace('/', " OR ");
        let fits = licence.split(" OR ").any(|choice| {
            choice
                .split(" AND ")
                .all(|part| LICENCES.contains(&part.trim().trim_matches(['(', ')'])))
        });
        assert!(fits, "{} has the licence {licence:?}", package["name"]);
    }
}

#[test]
fn nothing_is_there_twice_without_a_reason() {
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in packages() {
        let name = package["name"].as_str().unwrap().to_owned();
        versions.entry(name).or_default().push(package["version"].as_str().unwrap().into());
    }
    let twice: Vec<_> = versions
        .into_iter()
        .filter(|(name, list)| list.len() > 1 && !TWICE.iter().any(|(known, _)| known == name))
        .collect();
    assert!(twice.is_empty(), "{twice:?}");
}
