//! The root that the launcher lives in and that every cell inherits, prepared once: read-only system
//! folders of the host, a made `/etc`, a minimal `/dev`, and empty places for what each cell mounts
//! of its own (`/job`, `/tmp`, `/dev/shm`, `/proc`).
//!
//! A cell's mount namespace belongs to a user namespace of less privilege, so the kernel locks all
//! of this there: it can be neither unmounted nor made writable (mount_namespaces(7)).

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::symlink,
    },
    path::{Component, Path, PathBuf},
};

use crate::{
    error::{Context, Error},
    layers::Layer,
    mounts::{self, NODEV, NOEXEC, NOSUID, RDONLY},
    sys,
};

/// Top-level folders that hold programs and libraries. On merged-/usr systems all but the first
/// are links.
const SYSTEM: [&str; 8] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "libexec"];
/// Folders of `/etc` that hold no secret and that programs look up: shown read-only.
const ETC_FOLDERS: [&str; 4] =
    ["etc/alternatives", "etc/ssl/certs", "etc/pki/ca-trust/extracted", "etc/pki/tls/certs"];
/// Files of `/etc` that are copied, where they exist.
const ETC_COPIES: [&str; 3] = ["etc/ld.so.cache", "etc/localtime", "etc/ssl/openssl.cnf"];
/// The same for jobs that may have the host's network.
const RESOLVER: &str = "etc/resolv.conf";
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
const DEV_LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];
/// Where each cell mounts something of its own, which would hide what is exposed there.
const COVERED: [&str; 5] = ["/job", "/tmp", "/dev", "/proc", "/sys"];

const PASSWD: &str = "\
root:x:0:0:root:/root:/usr/sbin/nologin
job:x:1000:1000:job:/job:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
";
const GROUP: &str = "root:x:0:\njob:x:1000:\nnogroup:x:65534:\n";
const HOSTS: &str = "127.0.0.1 localhost cell\n::1 localhost cell\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";

/// Folders to be shown at the same path in every cell: checked, and resolved once.
pub(crate) fn check_exposed(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    paths
        .iter()
        .map(|path| {
            let refuse = |reason: String| Error::Expose { path: path.clone(), reason };
            if !path.is_absolute() || path.components().any(|c| c == Component::ParentDir) {
                return Err(refuse("write its absolute path, without ..".into()));
            }
            if path == Path::new("/") {
                return Err(refuse("it would show the whole host".into()));
            }
            if let Some(covered) = COVERED.iter().find(|covered| path.starts_with(covered)) {
                return Err(refuse(format!(
                    "every cell has a {covered} of its own; move the folder elsewhere"
                )));
            }
            if path == Path::new("/etc") {
                return Err(refuse("cells have a made one; expose what they need of it".into()));
            }
            // Inside of it a link could lead anywhere while the root is laid out.
            if let Some(outer) =
                paths.iter().find(|outer| *outer != path && path.starts_with(outer))
            {
                return Err(refuse(format!("{} shows it already", outer.display())));
            }
            fs::metadata(path).map_err(|e| refuse(e.to_string()))?;
            Ok(path.clone())
        })
        .collect()
}

/// Moves this process into a mount namespace and a root of its own. `exposed` was checked.
pub(crate) fn enter(exposed: &[PathBuf], network_host: bool) -> Result<(), Error> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).context("making a mount namespace")?;
    sys::set_mount_attributes(rustix::fs::CWD, c"/", 0, libc::MS_PRIVATE, true)
        .context("making the mounts private")?;

    // Everything is cloned before the new root covers anything.
    let mut shown = Vec::new();
    for name in SYSTEM {
        let path = Path::new("/").join(name);
        match fs::read_link(&path) {
            Ok(target) => shown.push((path, Shown::Link(target))),
            Err(_) if path.is_dir() => shown.push(as_shown(path)?),
            Err(_) => {}
        }
    }
    if !Layer::Mounts.stands() {
        for path in rest_of_the_host().context("listing the host's folders")? {
            shown.push(as_shown(path)?);
        }
    }
    for name in ETC_FOLDERS {
        let path = Path::new("/").join(name);
        if path.is_dir() {
            shown.push(as_shown(path)?);
        }
    }
    for path in exposed {
        // What lies in a system folder is there already.
        let there = SYSTEM.iter().any(|name| path.starts_with(Path::new("/").join(name)));
        if !there && Layer::Mounts.stands() {
            shown.push(as_shown(path.clone())?);
        }
    }
    for name in DEVICES {
        let path = Path::new("/dev").join(name);
        let node = mounts::clone(&path, NOSUID | NOEXEC, false)
            .context(format!("cloning {}", path.display()))?;
        shown.push((path, Shown::File(node)));
    }
    // A fresh /proc can be mounted in a user namespace only where a complete one is there already.
    let proc = mounts::clone("/proc", NOSUID | NODEV | NOEXEC, true).context("cloning /proc")?;
    shown.push(("/proc".into(), Shown::Folder(proc)));
    let copies = ETC_COPIES.iter().chain(network_host.then_some(&RESOLVER));
    let copies = copies.filter_map(|name| Some((*name, open(&Path::new("/").join(name))?)));
    let copies: Vec<_> = copies.collect();

    let root = mounts::new("tmpfs", &[("mode", "0755"), ("size", "16m")], NOSUID | NODEV)
        .context("making the root's tmpfs")?;
    let place = ["/tmp", "/mnt", "/run", "/var"]
        .into_iter()
        .map(Path::new)
        .find(|path| path.is_dir())
        .ok_or_else(|| Error::Launcher("none of /tmp, /mnt, /run and /var is a folder".into()))?;
    mounts::attach(&root, place).context(format!("attaching the root at {}", place.display()))?;
    let filled = fill(place, shown, copies);
    filled.context("filling the root")?;

    nix::unistd::chdir(place).context("entering the root")?;
    // pivot_root(2), "pivot_root(".", ".")": the old root ends up on top of the new one.
    nix::unistd::pivot_root(".", ".").context("pivoting into the root")?;
    nix::mount::umount2(".", nix::mount::MntFlags::MNT_DETACH)
        .context("detaching the host's root")?;
    nix::unistd::chdir("/").context("entering the root")?;
    sys::set_mount_attributes(rustix::fs::CWD, c"/", restrictions(), 0, false)
        .context("making the root read-only")
}

/// What stands at a path of the new root.
enum Shown {
    Link(PathBuf),
    Folder(OwnedFd),
    File(OwnedFd),
}

/// What all of the root is but for devices.
fn restrictions() -> u64 {
    if Layer::Mounts.stands() { RDONLY | NOSUID | NODEV } else { 0 }
}

/// What a cell would see without a root of its own.
fn rest_of_the_host() -> io::Result<Vec<PathBuf>> {
    let here = |path: &Path| {
        let own = ["/job", "/tmp", "/dev", "/proc", "/etc"].map(Path::new).contains(&path);
        let system = SYSTEM.iter().any(|name| path == Path::new("/").join(name));
        path.is_dir() && !path.is_symlink() && !own && !system
    };
    let folders = fs::read_dir("/")?.map(|entry| entry.map(|entry| entry.path()));
    folders.filter(|path| path.as_ref().map_or(true, |path| here(path))).collect()
}

fn as_shown(path: PathBuf) -> Result<(PathBuf, Shown), Error> {
    let tree = mounts::clone(&path, restrictions(), true)
        .context(format!("cloning {}", path.display()))?;
    let kind =
        rustix::fs::fstat(tree.as_fd()).map(|s| rustix::fs::FileType::from_raw_mode(s.st_mode));
    Ok((
        path,
        if kind == Ok(rustix::fs::FileType::Directory) {
            Shown::Folder(tree)
        } else {
            Shown::File(tree)
        },
    ))
}

/// A file that is there and may be read.
fn open(path: &Path) -> Option<File> {
    let file = File::open(path).ok()?;
    file.metadata().is_ok_and(|metadata| metadata.is_file()).then_some(file)
}

/// The folders of a new root. What was made is known, and not looked for again.
struct Folders<'a> {
    root: &'a Path,
    made: BTreeSet<PathBuf>,
}

impl Folders<'_> {
    /// Makes a folder and those above it, where they were not made yet; comes back with where it is.
    fn make(&mut self, path: &Path) -> io::Result<PathBuf> {
        let full = self.root.join(path);
        if path != Path::new("") && !self.made.contains(path) {
            self.make(path.parent().unwrap_or(Path::new("")))?;
            fs::create_dir(&full)?;
            self.made.insert(path.into());
        }
        Ok(full)
    }

    /// The place of something in its folder, which is made.
    fn place(&mut self, path: &Path) -> io::Result<PathBuf> {
        self.make(path.parent().unwrap_or(Path::new("")))?;
        Ok(self.root.join(path))
    }
}

/// Folders and files come before any link: a link would lead out of the new root, to the host's.
fn fill(root: &Path, shown: Vec<(PathBuf, Shown)>, copies: Vec<(&str, File)>) -> io::Result<()> {
    let mut folders = Folders { root, made: BTreeSet::new() };
    for name in ["job", "tmp", "dev/shm", "etc"] {
        folders.make(Path::new(name))?;
    }
    let (links, mounts): (Vec<_>, Vec<_>) =
        shown.into_iter().partition(|(_, what)| matches!(what, Shown::Link(_)));
    for (path, what) in mounts.into_iter().chain(links) {
        let path = path.strip_prefix("/").unwrap_or(&path);
        match what {
            Shown::Link(to) => symlink(to, folders.place(path)?)?,
            Shown::Folder(tree) => mounts::attach(&tree, folders.make(path)?)?,
            Shown::File(node) => {
                let target = folders.place(path)?;
                File::create(&target)?;
                mounts::attach(&node, &target)?;
            }
        }
    }
    for (name, target) in DEV_LINKS {
        symlink(target, root.join("dev").join(name))?;
    }
    for (name, text) in [
        ("passwd", PASSWD),
        ("group", GROUP),
        ("hosts", HOSTS),
        ("nsswitch.conf", NSSWITCH),
        ("hostname", "cell\n"),
    ] {
        fs::write(root.join("etc").join(name), text)?;
    }
    symlink("/proc/self/mounts", root.join("etc/mtab"))?;
    for (path, mut file) in copies {
        io::copy(&mut file, &mut File::create(folders.place(Path::new(path))?)?)?;
    }
    Ok(())
}
