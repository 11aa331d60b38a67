//! runc, as container engines start it: what `runc spec` proposes, with a user namespace, no capability, an init,
//! limits by control groups, and the filter that Docker and Podman share.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Cell, ETC, Line, USR_LINKS, words};
use crate::Scratch;

/// Debian's golang-github-containers-common has it.
const PROFILE: &str = "/usr/share/containers/seccomp.json";
/// The container's first process: without one that passes signals on, a program that is PID 1 ignores most.
const INIT: [&str; 2] = ["/usr/bin/tini", "--"];
/// The first user id of the host's that the container has.
const FIRST_USER: u32 = 100_000;
const USER: u32 = 1000;

/// A bundle for the program, which is taken away with its container.
pub(super) fn line(binary: &Path, cell: &Cell<'_>) -> anyhow::Result<Line> {
    ensure!(Path::new(INIT[0]).exists(), "{} is missing: install tini", INIT[0]);
    let bundle = Scratch::new("bundle");
    let container =
        Container { binary: binary.into(), name: format!("attacks-{}", Uuid::new_v4()), bundle };
    let bundle = &*container.bundle;
    root(bundle)?;
    let mut command = Command::new(binary);
    let output = command.args(["spec", "--bundle"]).arg(bundle).output();
    let output = output.context("runc cannot be started")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "runc spec failed: {error}");
    let file = bundle.join("config.json");
    let mut config = serde_json::from_slice(&fs::read(&file)?).context("runc spec is not JSON")?;
    configure(&mut config, cell, &container.name);
    config["linux"]["seccomp"] = filter()?;
    fs::write(&file, config.to_string())?;
    let mut line = vec![binary.into(), "--root".into(), container.state().into()];
    line.extend(words(&["run", "--bundle"]));
    line.extend([bundle.into(), container.name.clone().into()]);
    Ok(Line { words: line, group: None, made: vec![Box::new(container)] })
}

/// An empty root with what is mounted over, and links into `/usr`.
fn root(bundle: &Path) -> anyhow::Result<()> {
    let root = bundle.join("rootfs");
    for folder in
        ["attacks", "dev", "etc/alternatives", "job", "proc", "sys/fs/cgroup", "tmp", "usr"]
    {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::write(root.join("etc/ld.so.cache"), "")?;
    for name in USR_LINKS {
        symlink(format!("usr/{name}"), root.join(name))?;
    }
    for folder in [bundle, &root] {
        fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn configure(config: &mut Value, cell: &Cell<'_>, name: &str) {
    let limits = &cell.limits;
    let argv: Vec<String> = INIT
        .map(Into::into)
        .into_iter()
        .chain(cell.announced().iter().map(|word| word.to_string_lossy().into_owned()))
        .collect();
    let process = &mut config["process"];
    process["terminal"] = json!(false);
    process["user"] = json!({ "uid": USER, "gid": USER });
    process["args"] = json!(argv);
    process["env"] = json!(cell.environment("/job"));
    process["cwd"] = json!("/job");
    process["capabilities"] = json!({});
    let files = limits.open_files;
    process["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "hard": files, "soft": files }]);
    config["hostname"] = json!("cell");

    let bind = |from: &str, to: &str| {
        json!({ "source": from, "destination": to, "type": "bind",
                "options": ["rbind", "ro", "nosuid", "nodev"] })
    };
    let mut mounts = vec![bind("/usr", "/usr"), bind(&cell.attacks.to_string_lossy(), "/attacks")];
    mounts.extend(ETC.map(|path| bind(path, path)));
    let size = format!("size={}", limits.disk.0);
    mounts.extend(["/job", "/tmp"].map(|to| {
        json!({ "source": "tmpfs", "destination": to, "type": "tmpfs",
                "options": ["nosuid", "nodev", "mode=1777", size] })
    }));
    config["mounts"].as_array_mut().expect("runc spec has mounts").extend(mounts);

    let linux = &mut config["linux"];
    let ids = json!([{ "containerID": 0, "hostID": FIRST_USER, "size": 65536 }]);
    (linux["uidMappings"], linux["gidMappings"]) = (ids.clone(), ids);
    let namespaces = linux["namespaces"].as_array_mut().expect("runc spec has namespaces");
    namespaces.extend(["user", "cgroup"].map(|kind| json!({ "type": kind })));
    linux["cgroupsPath"] = json!(format!("/{name}"));
    // Swap and memory together, as the specification counts them.
    let memory = limits.memory.0;
    linux["resources"]["memory"] = json!({ "limit": memory, "swap": memory });
    linux["resources"]["pids"] = json!({ "limit": limits.pids });
}

/// The engines' profile, as an engine makes it the container's filter: for this processor, and for a container
/// without capabilities.
fn filter() -> anyhow::Result<Value> {
    let text = fs::read_to_string(PROFILE);
    let text = text.with_context(|| format!("{PROFILE} cannot be read"))?;
    let profile = serde_json::from_str(&text).with_context(|| format!("{PROFILE} is not JSON"))?;
    let arch = if std::env::consts::ARCH == "x86_64" { "amd64" } else { "arm64" };
    engines_filter(&profile, arch).with_context(|| format!("{PROFILE} is not understood"))
}

fn engines_filter(profile: &Value, arch: &str) -> Option<Value> {
    let has = |value: &Value, key: &str| !value[key].is_null();
    let applies = |rule: &&Value| {
        let (includes, excludes) = (&rule["includes"], &rule["excludes"]);
        let arches = includes["arches"].as_array();
        arches.is_none_or(|arches| arches.iter().any(|name| name == arch))
            && !has(includes, "caps")
            && !excludes["arches"]
                .as_array()
                .is_some_and(|list| list.iter().any(|name| name == arch))
    };
    let rule = |rule: &Value| {
        let keys = ["names", "action", "errnoRet", "args"];
        let kept = keys.iter().filter(|key| has(rule, key));
        Value::Object(kept.map(|key| ((*key).to_owned(), rule[*key].clone())).collect())
    };
    let own = if arch == "amd64" { "SCMP_ARCH_X86_64" } else { "SCMP_ARCH_AARCH64" };
    let maps = profile["archMap"].as_array()?;
    let map = maps.iter().find(|map| map["architecture"] == own)?;
    let mut architectures = vec![json!(own)];
    architectures.extend(map["subArchitectures"].as_array()?.iter().cloned());
    Some(json!({
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": architectures,
        "syscalls": profile["syscalls"].as_array()?.iter().filter(applies).map(rule).collect::<Vec<_>>(),
    }))
}

/// Removed when dropped, whether it still runs or not.
struct Container {
    binary: PathBuf,
    name: String,
    bundle: Scratch,
}

impl Container {
    fn state(&self) -> PathBuf {
        self.bundle.join("state")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let mut command = Command::new(&self.binary);
        command.arg("--root").arg(self.state()).args(["delete", "--force"]).arg(&self.name);
        // One that has ended is gone already, of which `--force` makes no error.
        if !command.output().is_ok_and(|output| output.status.success()) {
            eprintln!("runc delete {} failed", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_filter_is_that_of_a_container_without_capabilities() {
        let profile = json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
            "archMap": [{ "architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"] }],
            "syscalls": [
                { "names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {}, "excludes": {}, "args": [] },
                { "names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": { "caps": ["CAP_BPF"] } },
                { "names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "excludes": { "caps": ["CAP_BPF"] } },
                { "names": ["breakpoint"], "action": "SCMP_ACT_ALLOW", "includes": { "arches": ["arm"] } },
                { "names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": { "arches": ["amd64"] } },
            ],
        });
        let filter = engines_filter(&profile, "amd64").unwrap();
        assert_eq!(filter["architectures"], json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]));
        assert_eq!(
            filter["syscalls"],
            json!([
                { "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [] },
                { "names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 },
                { "names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW" },
            ])
        );
        assert_eq!(engines_filter(&json!({}), "amd64"), None);
    }
}
