//! The root that the launcher lives in and that every cell inherits, prepared once: read-only system
//! folders of the host, a made `/etc`, a minimal `/dev`, and empty places for what each cell mounts
//! of its own (`/job`, `/tmp`, `/dev/shm`, `/proc`).
//!
//! Over most of it a cell attaches an overlay of its own (see `inodes`). A cell's mount namespace belongs to a user namespace of less privilege, so the kernel locks all
//! of this there: it can be neither unmounted nor made writable (mount_namespaces(7)).

use std::{
    collections::BTreeSet,
    fs::{self, File, Permissions},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{PermissionsExt, symlink},
    },
    path::{Component, Path, PathBuf},
};

use super::inodes;
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
/// Minor numbers of major number 1 (Documentation/admin-guide/devices.txt).
const DEVICES: [(&str, u64); 5] =
    [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)];
const DEV_LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];
/// A folder of the root that is the upper layer of every cell's overlay at `/usr`: [`LAID`] comes to lie
/// in there. Cells have a `/tmp` of their own on top.
pub(crate) const LAYER: &str = "/tmp/layer";
/// The lower layer where there is but one folder to show: an overlay has two at least.
pub(crate) const EMPTY: &str = "/tmp/empty";
/// Where the layer has `/etc` and `/dev`.
pub(crate) const LAID: &str = ".cell";

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

/// What all cells of this launcher share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Folders with inodes of the host's.
    pub(crate) folders: Vec<PathBuf>,
    /// What has them and is no folder, or lies in `/etc`.
    pub(crate) hosts: Vec<PathBuf>,
    /// What has inodes of this launcher's own: folders of `/etc` that hold little else than links, and
    /// following a link is no event.
    pub(crate) own: Vec<PathBuf>,
    /// Why the devices are the host's too, if they are.
    pub(crate) devices: Option<io::Error>,
}

/// Moves this process into a mount namespace and a root of its own. `exposed` was checked.
pub(crate) fn enter(
    exposed: &[PathBuf],
    network_host: bool,
    privileged: bool,
) -> Result<Shared, Error> {
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
    for path in exposed {
        // What lies in a system folder is there already.
        let there = SYSTEM.iter().any(|name| path.starts_with(Path::new("/").join(name)));
        if !there && Layer::Mounts.stands() {
            shown.push(as_shown(path.clone())?);
        }
    }
    let mut shared = Shared::default();
    for (path, what) in &shown {
        match what {
            Shown::Folder(_) => shared.folders.push(path.clone()),
            Shown::File(_) => shared.hosts.push(path.clone()),
            Shown::Link(_) => {}
        }
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
    let mut folders = Folders { root: place, made: BTreeSet::new() };
    let empty = folders.make(Path::new(EMPTY.trim_start_matches('/')));
    let empty = empty.context("filling the root")?;
    for name in ETC_FOLDERS {
        let path = Path::new("/").join(name);
        if path.is_dir() {
            if let Some(tree) = overlay_of(&path, &empty, privileged) {
                shared.own.push(path.clone());
                shown.push((path, Shown::Folder(tree)));
            } else {
                shared.hosts.push(path.clone());
                shown.push(as_shown(path)?);
            }
        }
    }
    shared.devices = fill(folders, shown, copies).context("filling the root")?;

    nix::unistd::chdir(place).context("entering the root")?;
    // pivot_root(2), "pivot_root(".", ".")": the old root ends up on top of the new one.
    nix::unistd::pivot_root(".", ".").context("pivoting into the root")?;
    nix::mount::umount2(".", nix::mount::MntFlags::MNT_DETACH)
        .context("detaching the host's root")?;
    nix::unistd::chdir("/").context("entering the root")?;
    sys::set_mount_attributes(rustix::fs::CWD, c"/", restrictions(), 0, false)
        .context("making the root read-only")?;
    Ok(shared)
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

/// An overlay of a folder of the host's, where there can be one and nothing is mounted below.
fn overlay_of(path: &Path, empty: &Path, privileged: bool) -> Option<OwnedFd> {
    let whole = Layer::Inodes.stands()
        && Layer::Mounts.stands()
        && inodes::mounted_below(path).is_ok_and(|below| below.is_empty());
    whole.then(|| mounts::overlay(&[empty, path], !privileged, restrictions()).ok())?
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

/// Where something is laid that has this path, without its leading slash, once the layer's folders are
/// attached.
fn laid(path: &Path) -> PathBuf {
    if path.starts_with("etc") || path.starts_with("dev") {
        Path::new(LAYER.trim_start_matches('/')).join(LAID).join(path)
    } else {
        path.into()
    }
}

/// Folders and files come before any link: a link would lead out of the new root, to the host's. Comes
/// back with why the devices are the host's, if they are.
fn fill(
    mut folders: Folders<'_>,
    shown: Vec<(PathBuf, Shown)>,
    copies: Vec<(&str, File)>,
) -> io::Result<Option<io::Error>> {
    let root = folders.root;
    for name in ["job", "dev", "etc"] {
        folders.make(Path::new(name))?;
    }
    let dev = folders.make(&laid(Path::new("dev")))?;
    folders.make(&laid(Path::new("dev/shm")))?;
    let etc = folders.make(&laid(Path::new("etc")))?;

    let mut links = Vec::new();
    let mut mounts = Vec::new();
    for (path, what) in shown {
        let path = path.strip_prefix("/").unwrap_or(&path).to_owned();
        match what {
            Shown::Link(to) => links.push((path, to)),
            Shown::Folder(tree) => {
                folders.make(&laid(&path))?;
                mounts.push((path, tree));
            }
            Shown::File(node) => {
                File::create(folders.place(&laid(&path))?)?;
                mounts.push((path, node));
            }
        }
    }
    let shared = devices(&dev)?;
    let locked = if Layer::Mounts.stands() { RDONLY } else { 0 };
    attach_over(&dev, &root.join("dev"), locked | NOSUID | NOEXEC)?;
    attach_over(&etc, &root.join("etc"), restrictions())?;
    if shared.is_some() {
        attach_hosts_devices(&root.join("dev"))?;
    }
    for (path, tree) in mounts {
        mounts::attach(&tree, root.join(path))?;
    }
    for (path, to) in links {
        symlink(to, folders.place(&laid(&path))?)?;
    }
    for (name, target) in DEV_LINKS {
        symlink(target, dev.join(name))?;
    }
    for (name, text) in [
        ("passwd", PASSWD),
        ("group", GROUP),
        ("hosts", HOSTS),
        ("nsswitch.conf", NSSWITCH),
        ("hostname", "cell\n"),
    ] {
        fs::write(etc.join(name), text)?;
    }
    symlink("/proc/self/mounts", etc.join("mtab"))?;
    for (path, mut file) in copies {
        io::copy(&mut file, &mut File::create(folders.place(&laid(Path::new(path)))?)?)?;
    }
    Ok(shared)
}

/// Attaches a folder of the root, with just these attributes, at another place of it.
fn attach_over(folder: &Path, place: &Path, attributes: u64) -> io::Result<()> {
    mounts::attach(&mounts::clone_with_just(folder, attributes)?, place)
}

/// Makes the devices in this folder. Where this process may not make any, it makes empty files, to which
/// the host's devices can be attached, and returns the reason.
fn devices(folder: &Path) -> io::Result<Option<io::Error>> {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let node = |(name, minor)| {
        let path = folder.join(name);
        let all = Mode::from_bits_truncate(0o666);
        mknod(&path, SFlag::S_IFCHR, all, makedev(1, minor))?;
        // Whatever the umask is.
        fs::set_permissions(&path, Permissions::from_mode(0o666))
    };
    let made: io::Result<()> = if Layer::Inodes.stands() {
        DEVICES.into_iter().try_for_each(node)
    } else {
        Err(io::Error::other("this program was built without it"))
    };
    let Err(error) = made else {
        return Ok(None);
    };
    for (name, _) in DEVICES {
        let path = folder.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => drop(File::create(&path)?),
        }
    }
    Ok(Some(error))
}

fn attach_hosts_devices(folder: &Path) -> io::Result<()> {
    // No time, mode or owner can be changed through a read-only mount; devices can be written all the same.
    let read_only = if Layer::Inodes.stands() { RDONLY } else { 0 };
    DEVICES.into_iter().try_for_each(|(name, _)| {
        let node = mounts::clone(Path::new("/dev").join(name), read_only | NOSUID | NOEXEC, false)?;
        mounts::attach(&node, folder.join(name))
    })
}
