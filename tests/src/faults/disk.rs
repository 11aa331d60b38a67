//! A disk for one party's data, small enough to be filled: an ext4 on a loop device.
//!
//! It is mounted in a mount namespace of its own, which only the harness and that party enter: so no
//! other process keeps it mounted, and it goes with the last one of them.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
    sched::{CloneFlags, setns, unshare},
};

/// See the module.
pub(super) struct Disk {
    image: PathBuf,
    at: PathBuf,
    namespace: File,
}

/// Disks that are frozen now, for [`thaw_all`]. A frozen file system outlives everybody who uses it.
static FROZEN: Mutex<Vec<(PathBuf, File)>> = Mutex::new(Vec::new());

impl Disk {
    /// A new one of so many MiB, its image and mount point in this folder.
    pub(super) fn new(folder: &Path, mebibytes: u64) -> Result<Self> {
        let (image, at) = (folder.join("disk.image"), folder.join("disk"));
        fs::create_dir(&at).context("making the mount point")?;
        let file = File::create(&image).context("making the disk's image")?;
        file.set_len(mebibytes << 20).context("sizing the disk's image")?;
        // Nothing is kept for root, who fills it.
        run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image))?;
        let made = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNS).context("making a mount namespace")?;
                run(Command::new("mount").args(["--make-rprivate", "/"]))?;
                File::open("/proc/thread-self/ns/mnt").context("opening the mount namespace")
            });
            thread.join().expect("making a mount namespace does not panic")
        });
        let disk = Self { image, at, namespace: made? };
        disk.within(|| disk.mount())?;
        Ok(disk)
    }

    /// Where it is mounted, for those who entered.
    pub(super) fn path(&self) -> &Path {
        &self.at
    }

    /// From now on this thread, and what it starts, sees it.
    pub(super) fn enter(&self) {
        enter(&self.namespace);
    }

    /// Does something where the disk is seen.
    pub(super) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter();
                work()
            });
            thread.join().expect("nothing that is done on the disk panics")
        })
    }

    fn mount(&self) -> Result<()> {
        run(Command::new("mount")
            .args(["-t", "ext4", "-o", "loop,noatime,errors=remount-ro"])
            .arg(&self.image)
            .arg(&self.at))
    }

    /// Takes all the room that is left, until [`free`](Self::free). How many bytes that was.
    pub(super) fn fill(&self) -> Result<u64> {
        self.within(|| {
            let filler = OpenOptions::new().create(true).append(true).open(self.filler());
            let filler = filler.context("making the file that fills the disk")?;
            let mut taken = 0;
            for step in [16 << 20, 1 << 20, 64 << 10, 4 << 10] {
                loop {
                    match fallocate(&filler, FallocateFlags::empty(), taken, step) {
                        Ok(()) => taken += step,
                        Err(Errno::ENOSPC) => break,
                        Err(error) => bail!("filling the disk: {error}"),
                    }
                }
            }
            Ok(taken.unsigned_abs())
        })
    }

    /// Gives back what [`fill`](Self::fill) took, for good: after the next break-down as well.
    pub(super) fn free(&self) -> Result<()> {
        self.within(|| {
            fs::remove_file(self.filler()).context("removing what fills the disk")?;
            let folder = File::open(&self.at).context("opening the disk")?;
            folder.sync_all().context("writing down that the disk has room")
        })
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }

    /// Whoever writes to it waits, until [`thaw`](Self::thaw): a disk that hangs. See fsfreeze(8).
    pub(super) fn freeze(&self) -> Result<()> {
        let namespace = self.namespace.try_clone().context("copying a descriptor")?;
        frozen().push((self.at.clone(), namespace));
        self.within(|| run(Command::new("fsfreeze").arg("--freeze").arg(&self.at)))
    }

    /// Ends [`freeze`](Self::freeze).
    pub(super) fn thaw(&self) -> Result<()> {
        self.within(|| run(Command::new("fsfreeze").arg("--unfreeze").arg(&self.at)))?;
        frozen().retain(|(at, _)| *at != self.at);
        Ok(())
    }

    /// The kernel finds an error in it, and makes it read-only under those who write to it, as it does
    /// when a disk fails (`errors=remount-ro`, ext4(5)).
    ///
    /// While it is frozen: where it happens in the middle of an `fsync`, that tells success although the
    /// data are lost (seen with SQLite alone, Linux 6.18, in one of five tries), against which no program
    /// can do anything.
    pub(super) fn break_down(&self) -> Result<()> {
        self.freeze()?;
        let broken = self.find_an_error();
        self.thaw()?;
        broken
    }

    fn find_an_error(&self) -> Result<()> {
        self.within(|| {
            let mounts =
                fs::read_to_string("/proc/thread-self/mounts").context("reading mounts")?;
            let mut lines = mounts.lines().map(|line| line.split(' '));
            let device = lines.find_map(|mut words| {
                let (device, at) = (words.next()?, words.next()?);
                (Path::new(at) == self.at).then(|| device.trim_start_matches("/dev/").to_owned())
            });
            let device = device.context("the disk is not mounted")?;
            let trigger = format!("/sys/fs/ext4/{device}/trigger_fs_error");
            fs::write(&trigger, "fault injection").with_context(|| format!("writing to {trigger}"))
        })
    }

    /// Repairs what [`break_down`](Self::break_down) did, as an operator would: nobody may use it.
    pub(super) fn mend(&self) -> Result<()> {
        self.within(|| {
            let until = Instant::now() + Duration::from_secs(10);
            // Those that were killed use it until they are gone.
            while let Err(busy) = run(Command::new("umount").arg(&self.at)) {
                ensure!(Instant::now() < until, "{busy:#}");
                thread::sleep(Duration::from_millis(10));
            }
            // Until the last user is gone the file system lives on unseen, and must not be mounted twice.
            while !output(Command::new("losetup").arg("--associated").arg(&self.image))?.is_empty()
            {
                ensure!(Instant::now() < until, "somebody still uses the disk");
                thread::sleep(Duration::from_millis(10));
            }
            let check = Command::new("e2fsck").args(["-f", "-y"]).arg(&self.image).output();
            let check = check.context("starting e2fsck")?;
            // 1 says that errors were corrected (e2fsck(8)).
            let mended = matches!(check.status.code(), Some(0 | 1));
            ensure!(mended, "e2fsck: {}", String::from_utf8_lossy(&check.stdout));
            self.mount()
        })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.within(|| {
            let _ = run(Command::new("umount").arg(&self.at));
        });
    }
}

/// Thaws what is frozen, for whoever ends everything.
pub(super) fn thaw_all() {
    for (at, namespace) in frozen().drain(..) {
        let thread = thread::spawn(move || {
            enter(&namespace);
            let _ = run(Command::new("fsfreeze").arg("--unfreeze").arg(&at));
        });
        let _ = thread.join();
    }
}

fn frozen() -> std::sync::MutexGuard<'static, Vec<(PathBuf, File)>> {
    FROZEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn enter(namespace: &File) {
    // Threads share their root and working folder, and a namespace may be entered only by who does not.
    unshare(CloneFlags::CLONE_FS).expect("a thread may have a root folder of its own");
    setns(namespace, CloneFlags::CLONE_NEWNS).expect("root may enter a namespace that it made");
}

fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {errors}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
