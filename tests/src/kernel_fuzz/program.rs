//! The program that makes the calls, compiled when it is needed.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};

use crate::Scratch;

const SOURCE: &str = include_str!("calls.c");

/// The program, in a folder that is to be exposed to cells.
pub(super) struct Program {
    folder: Scratch,
}

impl Program {
    /// Compiles it.
    pub(super) fn compile() -> anyhow::Result<Self> {
        let folder = Scratch::new("calls");
        fs::set_permissions(&*folder, Permissions::from_mode(0o755))?;
        let source = folder.join("calls.c");
        fs::write(&source, SOURCE)?;
        let output = Command::new("gcc")
            .args(["-O2", "-static", "-o"])
            .arg(folder.join("calls"))
            .arg(&source)
            .output()
            .context("gcc cannot be started")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "gcc cannot compile calls.c: {errors}");
        Ok(Self { folder })
    }

    /// What to expose.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// It.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.join("calls")
    }
}
