//! Other programs that run one command in a sandbox: how each is called here.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, bail};
use cloister_tests::cloister;
use serde_json::{Value, json};

/// One of them.
pub(crate) struct Other {
    /// Its name.
    pub(crate) name: &'static str,
    /// How it runs `/bin/true`, or why it does not run here.
    pub(crate) argv: Result<Vec<String>, String>,
}

/// `cloister run` first, and what it is compared with. Bundles are made in this folder.
pub(crate) fn all(folder: &Path) -> anyhow::Result<Vec<Other>> {
    let bundle = bundle(folder)?;
    let id = format!("cloister-bench-{}", std::process::id());
    let oci = |program| {
        ["/usr/bin/env", program, "run", "--bundle", &bundle, &id].map(String::from).to_vec()
    };
    Ok(vec![
        Other::tried("cloister run", cloister_run(&cloister())),
        Other::tried("bwrap", bwrap()),
        Other::tried("runc", oci("runc")),
        Other::tried("crun", oci("crun")),
    ])
}

/// How `cloister run` is called.
pub(crate) fn cloister_run(program: &Path) -> Vec<String> {
    [&program.display().to_string(), "run", "--", "/bin/true"].map(String::from).into()
}

impl Other {
    /// Runs it once.
    fn tried(name: &'static str, argv: Vec<String>) -> Self {
        // Not through env(1) each time.
        let argv = if argv[0] == "/usr/bin/env" { found(&argv[1..]) } else { Ok(argv) };
        let argv = argv.and_then(|argv| works(&argv).map(|()| argv));
        Self { name, argv: argv.map_err(|error| format!("does not run here: {error:#}")) }
    }
}

/// With its program by its path.
fn found(argv: &[String]) -> anyhow::Result<Vec<String>> {
    let folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];
    let paths = folders.map(|folder| format!("{folder}/{}", argv[0]));
    let path = paths.into_iter().find(|path| Path::new(path).is_file());
    let path = path.with_context(|| format!("{} is not installed", argv[0]))?;
    Ok([&[path], &argv[1..]].concat())
}

fn works(argv: &[String]) -> anyhow::Result<()> {
    let output = Command::new(&argv[0])
        .args(&argv[1..])
        .output()
        .with_context(|| format!("{} cannot be started", argv[0]))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}", output.status, errors.lines().last().unwrap_or("it said nothing"));
    }
    Ok(())
}

/// With every namespace, and the folders that a cell of ours shows.
fn bwrap() -> Vec<String> {
    let line = "/usr/bin/env bwrap --unshare-all --die-with-parent --ro-bind /usr /usr \
        --symlink usr/bin /bin --symlink usr/sbin /sbin --symlink usr/lib /lib \
        --symlink usr/lib64 /lib64 --proc /proc --dev /dev --tmpfs /tmp --chdir / /bin/true";
    line.split_ascii_whitespace().map(String::from).collect()
}

/// A bundle for runc and crun: the defaults of `runc spec`, without a terminal, over the host's `/usr`.
fn bundle(folder: &Path) -> anyhow::Result<String> {
    let root = folder.join("bundle/rootfs");
    for name in ["usr", "proc", "dev", "sys", "tmp"] {
        fs::create_dir_all(root.join(name)).context("a bundle cannot be made")?;
    }
    for name in ["bin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name))
            .context("a bundle's links cannot be made")?;
    }
    let bundle = folder.join("bundle");
    let text = serde_json::to_vec(&oci_config()).context("a bundle cannot be described")?;
    fs::write(bundle.join("config.json"), text).context("a bundle cannot be described")?;
    Ok(bundle.display().to_string())
}

fn oci_config() -> Value {
    let namespaces = ["pid", "network", "ipc", "uts", "mount"].map(|kind| json!({ "type": kind }));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/true"],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "cell",
        "mounts": [
            { "destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"] },
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "mode=755", "size=65536k"] },
            { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "nodev", "mode=1777", "size=65536k"] },
        ],
        "linux": {
            "namespaces": namespaces,
            "resources": { "memory": { "limit": 512 << 20 }, "pids": { "limit": 256 } },
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
