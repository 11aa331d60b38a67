//! Compiles the seccomp profiles for the target's architecture, so that nothing is parsed or compiled
//! while a job waits.

use cloister_seccomp::{CELL, JOB, compile_to_rust};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let arch = std::env::var("CARGO_CFG_TARGET_ARCH")?.parse()?;
    let source = compile_to_rust("CELL", CELL, arch)? + &compile_to_rust("JOB", JOB, arch)?;
    std::fs::write(format!("{}/filter.rs", std::env::var("OUT_DIR")?), source)?;
    Ok(())
}
