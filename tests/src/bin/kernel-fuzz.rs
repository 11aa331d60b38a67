//! `kernel-fuzz`: random system calls in cells, while the host's kernel memory is measured. See docs/endurance.md.

use std::process::ExitCode;

use clap::Parser;
use cloister_tests::{
    cleanup::clean_up_whatever_happens,
    kernel_fuzz::{self, Options},
};
use nix::sys::signal::{Signal, kill};

/// Looks for kernel memory that jobs can use and no control group counts; fails when it finds some. Run it as root.
#[derive(Parser)]
#[command(max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    clean_up_whatever_happens("kernel-fuzz", |cells| {
        for cell in cells {
            let _ = kill(*cell, Signal::SIGTERM);
        }
    });
    match kernel_fuzz::fuzz(&cli.options) {
        Ok(outcome) => {
            println!(
                "{} cells, {} calls, at most {} MiB uncharged, {} findings",
                outcome.cells,
                outcome.calls,
                outcome.peak >> 20,
                outcome.findings.len()
            );
            if outcome.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("kernel-fuzz: {error:#}");
            ExitCode::FAILURE
        }
    }
}
