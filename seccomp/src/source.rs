//! A compiled filter as Rust source, for build scripts.

use std::fmt::Write as _;

use crate::{Arch, Error, Profile};

/// Compiles a profile to the source of `pub(crate) static NAME: [libc::sock_filter; N]`.
///
/// For a build script, whose crate then includes the text and depends on `libc`:
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let arch = std::env::var("CARGO_CFG_TARGET_ARCH")?.parse()?;
/// let source = cloister_seccomp::compile_to_rust("CELL", cloister_seccomp::CELL, arch)?;
/// std::fs::write(format!("{}/cell.rs", std::env::var("OUT_DIR")?), source)?;
/// # Ok(())
/// # }
/// ```
pub fn compile_to_rust(name: &str, profile: &str, arch: Arch) -> Result<String, Error> {
    let program = Profile::parse(profile)?.compile(arch)?;
    let len = program.instructions().len();
    let mut source = format!(
        "/// A seccomp filter for {arch}, made at build time by `cloister-seccomp`.\n\
         pub(crate) static {name}: [::libc::sock_filter; {len}] = [\n"
    );
    for instruction in program.instructions() {
        let crate::Instruction { code, jt, jf, k } = instruction;
        writeln!(
            source,
            "    ::libc::sock_filter {{ code: {code:#04x}, jt: {jt}, jf: {jf}, k: {k:#x} }},"
        )
        .expect("a string takes all that is written to it");
    }
    source.push_str("];\n");
    Ok(source)
}
