//! The library go-sandbox by its program `runprog`: namespaces, a user of its own, rlimits and a control group.
//! Its list of allowed system calls is for compiled programs of contests, and has not even what Python needs;
//! go-judge, its service, runs programs without a filter unless it is given one.

use std::{ffi::OsString, path::Path};

use super::{Cell, Line, words};

/// A folder of the host that it shows, over which the suite is mounted for it alone: it has no option for more.
pub(super) const FOLDER: &str = "/etc/alternatives";

/// The memory limit of the case; it has no option for processes or open files (256).
pub(super) fn line(binary: &Path, cell: &Cell<'_>) -> Line {
    let show = format!(r#"mount --bind "$0" {FOLDER} && exec "$@""#);
    let mut line = words(&["/usr/bin/unshare", "--mount", "/bin/sh", "-c", &show]);
    line.extend([OsString::from(cell.attacks), binary.into()]);
    line.extend(words(&["-runner", "container", "-unsafe", "-cred", "-cgroup"]));
    for (option, value) in [
        ("-ml", cell.limits.memory.0 >> 20),
        ("-ol", cell.limits.disk.0 >> 20),
        ("-tl", u64::from(cell.patience)),
        ("-rtl", u64::from(cell.patience)),
    ] {
        line.extend(words(&[option, &value.to_string()]));
    }
    // It passes no environment on.
    line.extend(words(&["-res", "stderr", "/usr/bin/env"]));
    line.extend(cell.environment("/w").into_iter().map(Into::into));
    line.extend(cell.announced());
    Line::new(line)
}
