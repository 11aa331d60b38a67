//! `cloister run`.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
};

use super::Cell;

/// The program in a cell. Time-out and memory are the defaults, 30 s and 512 MiB, so that a case may ask for
/// others.
pub(super) fn line(binary: &Path, options: &[String], cell: &Cell<'_>) -> Vec<OsString> {
    let mut line: Vec<OsString> = vec![binary.into(), "run".into()];
    line.extend([OsStr::new("--report"), cell.report.as_os_str()].map(Into::into));
    line.extend([OsStr::new("--expose"), cell.attacks.as_os_str()].map(Into::into));
    for (name, value) in &cell.variables {
        line.extend(["--env".to_owned(), format!("{name}={value}")].map(Into::into));
    }
    line.extend(options.iter().chain(&cell.options).map(Into::into));
    line.push("--".into());
    line.extend(cell.argv.iter().cloned());
    line
}
