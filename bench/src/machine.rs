//! The machine on which something was measured: ratios hold for it alone.

use std::{fs, path::Path, process::Command, thread};

use serde_json::{Value, json};

/// What it is, by name.
pub(crate) fn describe() -> Value {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map(|rest| rest.trim_start_matches([' ', '\t', ':']));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({
        "cpu": model.unwrap_or("not told"),
        "cores": thread::available_parallelism().map_or(0, usize::from),
        "kernel": kernel.trim(),
        "cgroups": cgroups(),
        "bwrap": version("bwrap"),
        "runc": version("runc"),
        "crun": version("crun"),
    })
}

/// The same in one line.
pub(crate) fn line(machine: &Value) -> String {
    let pairs = machine.as_object().into_iter().flatten();
    let pairs = pairs.map(|(name, value)| match value {
        Value::String(text) => format!("{name}: {text}"),
        value => format!("{name}: {value}"),
    });
    pairs.collect::<Vec<_>>().join("; ")
}

fn cgroups() -> &'static str {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return "v2";
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let has = |kind| mounts.lines().any(|line| line.split(' ').nth(2) == Some(kind));
    match (has("cgroup"), has("cgroup2")) {
        (true, true) => "hybrid (v1 with v2 beside it)",
        (true, false) => "v1",
        (false, true) => "v2",
        (false, false) => "none",
    }
}

fn version(program: &str) -> String {
    match Command::new(program).arg("--version").output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let word = text.lines().next().unwrap_or_default().split_ascii_whitespace().last();
            word.unwrap_or("not told").into()
        }
        Err(_) => "not installed".into(),
    }
}
