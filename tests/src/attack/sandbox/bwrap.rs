//! bubblewrap. It leaves limits to its caller, as which the harness sets them by a control group.

use std::{ffi::OsStr, path::Path};

use super::{Cell, ControlGroup, ETC, Line, PATH, USR_LINKS, words};

/// The same view as a cell's, as far as its options can make it.
pub(super) fn line(binary: &Path, cell: &Cell<'_>) -> anyhow::Result<Line> {
    let mut line = vec![binary.into()];
    line.extend(words(&["--unshare-all", "--unshare-user", "--disable-userns"]));
    line.extend(words(&["--die-with-parent", "--new-session", "--cap-drop", "ALL"]));
    line.extend(words(&["--hostname", "cell", "--clearenv", "--ro-bind", "/usr", "/usr"]));
    for folder in USR_LINKS {
        line.extend(words(&["--symlink", &format!("usr/{folder}"), &format!("/{folder}")]));
    }
    for file in ETC {
        line.extend(words(&["--ro-bind", file, file]));
    }
    line.extend(words(&["--proc", "/proc", "--dev", "/dev"]));
    for folder in ["/tmp", "/job"] {
        line.extend(words(&["--size", &cell.limits.disk.0.to_string(), "--tmpfs", folder]));
    }
    line.extend(
        [OsStr::new("--ro-bind"), cell.attacks.as_os_str(), cell.attacks.as_os_str()]
            .map(Into::into),
    );
    line.extend(words(&["--setenv", "PATH", PATH, "--setenv", "HOME", "/job"]));
    for (name, value) in &cell.variables {
        line.extend(words(&["--setenv", name, value]));
    }
    line.extend(words(&["--chdir", "/job", "--"]));
    line.extend(cell.announced());
    let group = Some(ControlGroup::new(Some(&cell.limits))?);
    Ok(Line { words: line, group, made: Vec::new() })
}
