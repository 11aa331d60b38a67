//! What a run found.

use std::process::ExitCode;

/// Of broken conditions, so many are written out: one cause breaks many.
const WRITTEN_OUT: usize = 20;

/// What is broken; what was measured is printed as it comes.
#[derive(Debug, Default)]
#[must_use]
pub struct Report {
    checked: u64,
    broken: Vec<String>,
}

impl Report {
    /// A condition, and what to say where it does not hold.
    pub(super) fn must(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        self.checked += 1;
        if !holds {
            self.broken.push(otherwise());
        }
    }

    /// What does not hold.
    pub fn broken(&self) -> &[String] {
        &self.broken
    }

    /// Prints the end of the report, and what a program that made it ends with.
    pub fn conclude(&self) -> ExitCode {
        println!("\n{} conditions checked, {} broken", self.checked, self.broken.len());
        for what in self.broken.iter().take(WRITTEN_OUT) {
            println!("BROKEN: {what}");
        }
        if self.broken.len() > WRITTEN_OUT {
            println!("and {} more", self.broken.len() - WRITTEN_OUT);
        }
        if self.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
