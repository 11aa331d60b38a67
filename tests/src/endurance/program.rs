//! The program that runs in cells, compiled when it is needed.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::Scratch;

const SOURCE: &str = include_str!("jobs.c");

/// The program, in a folder that is to be exposed to cells.
pub(super) struct Program {
    folder: Scratch,
}

impl Program {
    /// Compiles it.
    pub(super) fn compile() -> Self {
        let folder = Scratch::new("jobs");
        let source = folder.join("jobs.c");
        fs::write(&source, SOURCE).expect("a scratch folder can be written");
        let output = Command::new("gcc")
            // Linked statically, it starts in half the time.
            .args(["-O2", "-static", "-pthread", "-o"])
            .arg(folder.join("jobs"))
            .arg(&source)
            .output()
            .expect("gcc can be started");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "gcc cannot compile the jobs' program: {errors}");
        Self { folder }
    }

    /// What to expose.
    pub(super) fn folder(&self) -> String {
        self.folder.display().to_string()
    }

    /// It.
    pub(super) fn path(&self) -> String {
        self.folder.join("jobs").display().to_string()
    }

    /// A task that runs it with these words.
    pub(super) fn task(&self, words: &str, limits: &Value, timeout: f64) -> Value {
        let path = self.path();
        let argv: Vec<&str> = [path.as_str()].into_iter().chain(words.split(' ')).collect();
        json!({ "argv": argv, "limits": limits, "timeout": timeout })
    }
}
