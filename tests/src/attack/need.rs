//! What has to be there for an attack to make sense.

use std::{env::consts::ARCH, fs, process::Command, str::FromStr, sync::OnceLock};

use anyhow::bail;
use nix::unistd::Uid;

/// One word of a case's `needs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// `x86_64`: this processor.
    X86_64,
    /// `landlock N`: this ABI of Landlock, or a later one.
    Landlock(u32),
    /// `apparmor`: this kernel has it, and it is on.
    AppArmor,
    /// `root`: the sandbox is started by root.
    Root,
    /// `mknod`: the sandbox is started by root who may make devices.
    Mknod,
    /// `cgroup v2`: the memory controller is on the unified hierarchy.
    CgroupV2,
    /// `tty`: the sandbox is started from a terminal, which it gets.
    Tty,
    /// `cloister`: makes no sense for another sandbox.
    Cloister,
}

impl Need {
    /// What is missing on this machine, if it is.
    pub fn missing(self) -> Option<String> {
        let (met, missing) = match self {
            Self::X86_64 => (ARCH == "x86_64", format!("x86_64, and this is {ARCH}")),
            Self::Landlock(least) => {
                let abi = landlock_abi();
                (abi >= least, format!("Landlock ABI {least}, and this kernel has {abi}"))
            }
            Self::AppArmor => (has_apparmor(), "AppArmor".into()),
            Self::Root => (Uid::effective().is_root(), "to be started by root".into()),
            Self::Mknod => (may_make_devices(), "to be started with CAP_MKNOD".into()),
            Self::CgroupV2 => {
                let path = "/sys/fs/cgroup/cgroup.controllers";
                let controllers = fs::read_to_string(path).unwrap_or_default();
                (controllers.contains("memory"), "memory on cgroup v2".into())
            }
            Self::Tty | Self::Cloister => return None,
        };
        (!met).then(|| format!("needs {missing}"))
    }
}

impl FromStr for Need {
    type Err = anyhow::Error;

    fn from_str(words: &str) -> anyhow::Result<Self> {
        Ok(match words {
            "x86_64" => Self::X86_64,
            "apparmor" => Self::AppArmor,
            "root" => Self::Root,
            "mknod" => Self::Mknod,
            "cgroup v2" => Self::CgroupV2,
            "tty" => Self::Tty,
            "cloister" => Self::Cloister,
            _ => match words.strip_prefix("landlock ").map(str::parse) {
                Some(Ok(abi)) => Self::Landlock(abi),
                _ => bail!("no need is called {words:?}"),
            },
        })
    }
}

fn may_make_devices() -> bool {
    const CAP_MKNOD: u32 = 27;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    effective.is_some_and(|bits| bits >> CAP_MKNOD & 1 == 1)
}

/// Whether the kernel has AppArmor, and it is on.
pub(super) fn has_apparmor() -> bool {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    enabled.is_ok_and(|enabled| enabled.trim() == "Y")
}

/// The ABI of Landlock that this kernel has; 0 if none: landlock_create_ruleset(2), whose number is
/// the same everywhere. Asked for by another program, which is simpler to trust than a call of our own.
pub(super) fn landlock_abi() -> u32 {
    static ABI: OnceLock<u32> = OnceLock::new();
    *ABI.get_or_init(|| {
        let program = "import ctypes; print(max(0, ctypes.CDLL(None).syscall(444, None, 0, 1)))";
        let output = Command::new("/usr/bin/python3").args(["-c", program]).output();
        let output = output.expect("python3 can be started");
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("it prints a number")
    })
}
