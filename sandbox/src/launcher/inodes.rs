//! Inodes of each cell's own. A file that two cells open by the same inode is a way from one to the other:
//! each sees by inotify(7) what the other opens, and each holds locks that the other waits for. So a cell
//! gets a read-only overlay of its own over each folder that it shares: other inodes, and the same pages in
//! memory.
//!
//! The launcher makes them, since devices in an overlay work only where it was mounted with the host's
//! rights; the next cell's are made when a job has ended.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs, io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use cloister_api::Enforcement;

use super::root::{EMPTY, LAYER, Shared};
use crate::{
    cell::{Tree, USR},
    host::{holds, lacks, optional},
    layers::Layer,
    mounts::{self, NODEV, NOSUID, RDONLY},
};

/// The most that a cell is given; each is a descriptor and some 30 µs.
const MAX_TREES: usize = 64;

/// What each cell is given, and where.
struct Recipe {
    at: PathBuf,
    how: How,
}

enum How {
    Overlay,
    /// What the launcher has there: an overlay does not show what is mounted below its folders, and covers
    /// it.
    Share,
}

/// Makes what cells see in place of the launcher's own mounts.
pub(super) struct Inodes {
    recipes: Vec<Recipe>,
    /// For a launcher without rights on the host.
    unprivileged: bool,
    /// The next cell's.
    ahead: Option<Vec<Tree>>,
    /// A launcher for one cell prepares no second set.
    max_cells: usize,
    /// Whether the overlays have devices.
    pub(super) devices: bool,
}

impl Inodes {
    /// Tries what this host can do, once.
    pub(super) fn find(
        shared: &Shared,
        privileged: bool,
        max_cells: usize,
    ) -> (Self, Vec<Enforcement>) {
        const NAME: &str = "inodes";
        let mut inodes = Self {
            recipes: Vec::new(),
            unprivileged: !privileged,
            ahead: None,
            max_cells,
            devices: shared.devices.is_none(),
        };
        let devices = devices_report(shared);
        if !Layer::Inodes.stands() || !Layer::Mounts.stands() {
            let report = lacks(NAME, "this program was built without it", "see layers");
            return (inodes, vec![report, devices]);
        }
        match inodes.try_all(shared) {
            Ok(shared) => {
                let paths: Vec<_> = shared.iter().map(|path| path.display().to_string()).collect();
                let detail = if paths.is_empty() {
                    "read-only overlays of each cell's own".into()
                } else {
                    format!("read-only overlays of each cell's own, but for {}", paths.join(", "))
                };
                (inodes, vec![holds(NAME, detail), devices])
            }
            Err(error) => {
                inodes.recipes.clear();
                inodes.ahead = None;
                let because = format!(
                    "cells share inodes of {USR} with each other and with the host: an overlay of it \
                     cannot be mounted ({error})"
                );
                if privileged {
                    let remedy = "use a kernel with CONFIG_OVERLAY_FS; in a container, one whose root \
                                  is at most one overlay";
                    (inodes, vec![lacks(NAME, because, remedy), devices])
                } else {
                    // A mount below /usr is enough: the kernel lets no user look beneath it.
                    let remedy = "unmount what is mounted below /usr, or start as root";
                    (inodes, vec![optional(NAME, because, remedy), devices])
                }
            }
        }
    }

    /// Decides for each folder; comes back with what stays shared.
    fn try_all(&mut self, shared: &Shared) -> io::Result<BTreeSet<PathBuf>> {
        let (mut left, mut trees) = (BTreeSet::new(), Vec::new());
        let (usr, others): (Vec<_>, Vec<_>) =
            shared.folders.iter().cloned().partition(|path| path == Path::new(USR));
        if usr.is_empty() {
            return Err(io::Error::other(format!("there is no {USR}")));
        }
        for at in usr.into_iter().chain(others) {
            let overlay = Recipe { at, how: How::Overlay };
            match self.make(&overlay) {
                Ok(tree) => {
                    trees.push(tree);
                    let below = mounted_below(&overlay.at)?;
                    self.recipes.push(overlay);
                    for at in below {
                        left.insert(at.clone());
                        self.share(at, &mut trees)?;
                    }
                }
                Err(error) if overlay.at == Path::new(USR) => return Err(error),
                Err(_) => {
                    left.insert(overlay.at.clone());
                    self.share(overlay.at, &mut trees)?;
                }
            }
        }
        for at in shared.hosts.iter().chain(&shared.own) {
            self.share(at.clone(), &mut trees)?;
        }
        left.extend(shared.hosts.iter().cloned());
        if trees.len() > MAX_TREES {
            return Err(io::Error::other(format!(
                "{} mounts are more than cells get",
                trees.len()
            )));
        }
        self.ahead = Some(trees);
        Ok(left)
    }

    /// Has cells share what is there with the launcher. That is so without doing anything, but where an overlay
    /// covers it.
    fn share(&mut self, at: PathBuf, trees: &mut Vec<Tree>) -> io::Result<()> {
        if at.starts_with(USR) || at.starts_with("/etc") || self.covers(&at) {
            let recipe = Recipe { at, how: How::Share };
            trees.push(self.make(&recipe)?);
            self.recipes.push(recipe);
        }
        Ok(())
    }

    fn covers(&self, at: &Path) -> bool {
        self.recipes.iter().any(|recipe| at.starts_with(&recipe.at))
    }

    fn make(&self, recipe: &Recipe) -> io::Result<Tree> {
        let at = recipe.at.clone();
        let mount = match recipe.how {
            How::Overlay => {
                let upper = if at == Path::new(USR) { LAYER } else { EMPTY };
                let folders = [Path::new(upper), &at];
                mounts::overlay(&folders, self.unprivileged, RDONLY | NOSUID | NODEV)?
            }
            How::Share => mounts::clone(&at, 0, true)?,
        };
        Ok(Tree { at, mount })
    }

    /// What a cell is given.
    pub(super) fn take(&mut self) -> io::Result<Vec<Tree>> {
        match self.ahead.take() {
            Some(trees) => Ok(trees),
            None => self.recipes.iter().map(|recipe| self.make(recipe)).collect(),
        }
    }

    /// Makes the next cell's, if there may be another beside the `cells` that are there.
    pub(super) fn make_next(&mut self, cells: usize) {
        if self.ahead.is_none() && cells < self.max_cells {
            // A failure shows when they are wanted.
            self.ahead = self.take().ok();
        }
    }
}

fn devices_report(shared: &Shared) -> Enforcement {
    const NAME: &str = "devices";
    match &shared.devices {
        None => holds(NAME, "nodes of the runner's own"),
        Some(error) => optional(
            NAME,
            format!("cells see who opens the host's /dev/null: no node can be made ({error})"),
            "start as root with CAP_MKNOD, which is given up once they are made",
        ),
    }
}

/// What is mounted below a folder, and not below another of these.
pub(super) fn mounted_below(path: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(outermost_below(path, &mount_points(&fs::read("/proc/self/mountinfo")?)))
}

/// The paths at which something is mounted (proc_pid_mountinfo(5)).
fn mount_points(mountinfo: &[u8]) -> Vec<PathBuf> {
    let lines = mountinfo.split(|byte| *byte == b'\n');
    lines
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(|field| PathBuf::from(unescape(field)))
        .collect()
}

/// Blanks and backslashes are three octal digits there, behind a backslash.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        (rest, bytes) = match (first, byte) {
            (b'\\', Some(byte)) => (&after[3..], [bytes, vec![byte]].concat()),
            _ => (after, [bytes, vec![*first]].concat()),
        };
    }
    OsString::from_vec(bytes)
}

fn outermost_below(path: &Path, mounted: &[PathBuf]) -> Vec<PathBuf> {
    let mut below: Vec<_> =
        mounted.iter().filter(|point| *point != path && point.starts_with(path)).collect();
    below.sort_by_key(|point| point.as_os_str().as_bytes().len());
    let mut outermost: Vec<PathBuf> = Vec::new();
    for point in below {
        if !outermost.iter().any(|outer| point.starts_with(outer)) {
            outermost.push(point.clone());
        }
    }
    outermost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_a_folder_are_found() {
        let text = b"36 35 0:29 / / rw - tmpfs t rw\n37 36 254:0 /usr /usr ro - ext4 /dev/vda rw\n\
            38 37 0:30 / /usr/lib/a\\040b ro - tmpfs t rw\n39 38 0:31 / /usr/lib/a\\040b/c ro - tmpfs t rw\n\
            40 36 0:32 / /usrlocal ro - tmpfs t rw\n";
        let mounted = mount_points(text);
        assert_eq!(mounted.len(), 5);
        assert_eq!(outermost_below(Path::new("/usr"), &mounted), [PathBuf::from("/usr/lib/a b")]);
        assert_eq!(outermost_below(Path::new("/etc"), &mounted), Vec::<PathBuf>::new());
    }

    #[test]
    fn names_are_unescaped() {
        for (field, name) in
            [("a", "a"), ("a\\040b\\134", "a b\\"), ("\\04", "\\04"), ("\\", "\\"), ("", "")]
        {
            assert_eq!(unescape(field.as_bytes()), OsString::from(name), "{field}");
        }
    }
}
