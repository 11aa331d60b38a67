//! Compiles the seccomp profile for the target's architecture, so that nothing is parsed or compiled
//! while a job waits.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let arch = std::env::var("CARGO_CFG_TARGET_ARCH")?.parse()?;
    let source = cloister_seccomp::compile_to_rust("CELL", cloister_seccomp::CELL, arch)?;
    std::fs::write(format!("{}/filter.rs", std::env::var("OUT_DIR")?), source)?;
    Ok(())
}
