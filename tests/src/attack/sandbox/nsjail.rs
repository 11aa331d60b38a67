//! nsjail, with its own limits by control groups and rlimits, and no filter: it has none unless its caller writes
//! one.

use std::path::Path;

use super::{Cell, ControlGroup, ETC, Line, USR_LINKS, each, words};

/// The job's user and group, inside and outside.
const USER: &str = "1000:100000:1";
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// Its own view of the host, all its namespaces, and the limits of the case.
pub(super) fn line(binary: &Path, cell: &Cell<'_>) -> anyhow::Result<Line> {
    // Each jail gets groups below one that must be there.
    let parent = ControlGroup::new(None)?;
    let limits = &cell.limits;
    let mut line = vec![binary.into()];
    line.extend(words(&["--mode", "o", "--really_quiet", "--hostname", "cell", "--cwd", "/job"]));
    line.extend(words(&["--user", USER, "--group", USER]));
    line.extend(each("--bindmount_ro", ["/usr"].iter().chain(&ETC)));
    line.extend(each("--bindmount_ro", DEVICES.map(|name| format!("/dev/{name}"))));
    line.extend(each("--bindmount_ro", [format!("{}:/attacks", cell.attacks.display())]));
    line.extend(each("--symlink", USR_LINKS.map(|name| format!("/usr/{name}:/{name}"))));
    let tmpfs = |folder| format!("none:/{folder}:tmpfs:size={}", limits.disk.0);
    line.extend(each("--mount", ["tmp", "job"].map(tmpfs)));
    for (option, value) in [
        ("--cgroup_mem_max", limits.memory.0),
        ("--cgroup_mem_swap_max", 0),
        ("--cgroup_pids_max", limits.pids),
        ("--rlimit_nofile", limits.open_files),
        ("--rlimit_fsize", limits.disk.0 >> 20),
        ("--time_limit", u64::from(cell.patience)),
    ] {
        line.extend(words(&[option, &value.to_string()]));
    }
    for option in ["--cgroup_mem_parent", "--cgroup_pids_parent"] {
        line.extend(words(&[option, parent.name()]));
    }
    if parent.is_v2() {
        let mount = parent.folders()[0].clone();
        line.extend(words(&["--use_cgroupv2", "--cgroupv2_mount"]));
        line.push(mount.into());
    }
    line.extend(each("--env", cell.environment("/job")));
    line.push("--".into());
    line.extend(cell.announced());
    Ok(Line { words: line, group: None, made: vec![Box::new(parent)] })
}
