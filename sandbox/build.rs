//! Compiles the seccomp profiles for the target's architecture, so that nothing is parsed or compiled
//! while a job waits or a service starts.

use cloister_seccomp::{CELL, JOB, SERVICE, compile_to_rust};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let arch = std::env::var("CARGO_CFG_TARGET_ARCH")?.parse()?;
    let folder = std::env::var("OUT_DIR")?;
    for (file, filters) in
        [("filter", &[("CELL", CELL), ("JOB", JOB)][..]), ("service", &[("SERVICE", SERVICE)])]
    {
        let sources: Result<Vec<_>, _> =
            filters.iter().map(|(name, profile)| compile_to_rust(name, profile, arch)).collect();
        std::fs::write(format!("{folder}/{file}.rs"), sources?.concat())?;
    }
    Ok(())
}
