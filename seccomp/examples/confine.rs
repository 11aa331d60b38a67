//! Runs a command under the cell's filter and nothing else, to find out whether the filter is what
//! a program stumbles over: `cargo run -p cloister-seccomp --example confine -- node -p 1+1`.

use std::error::Error;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use cloister_seccomp::{CELL, Profile};
use seccompiler::{BpfProgram, apply_filter, sock_filter};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let program = args.next().ok_or("usage: confine COMMAND [ARG…]")?;
    let filter: BpfProgram = Profile::parse(CELL)?
        .compile(std::env::consts::ARCH.parse()?)?
        .instructions()
        .iter()
        .map(|one| sock_filter { code: one.code, jt: one.jt, jf: one.jf, k: one.k })
        .collect();
    apply_filter(&filter)?;
    Err(Command::new(program).args(args).exec().into())
}
