//! What the cgroups of running cells count, for whoever watches them and judges nothing.
//!
//! A verdict's records are opened by the launcher and handed over with each cell (see `meter`). What
//! is read only when somebody asks is opened only then, below this launcher's own folders, which the
//! engine was handed once: a cell is made no later for it, and holds no more descriptors. The files
//! are readable to everybody.

use std::{os::fd::OwnedFd, time::Duration};

use cloister_api::Usage;
use serde::{Deserialize, Serialize};

use super::{
    Record, Role, Version,
    files::{self, keyed},
    group::folder_name,
    meter::{number, usage},
};
use crate::wire::CellId;

/// What cgroups count at one moment. A number that the host can't tell is absent, never a made-up 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// What was used so far, in the units of a result.
    pub usage: Usage,
    /// Memory held now, bytes; with swap where cgroup v1 accounts it.
    pub memory_bytes: Option<u64>,
    /// Removed cgroups of cells that the kernel keeps, since pages of files are charged to them that others
    /// use too. Of all cells together alone, and on cgroup v2.
    pub removed_cgroups: Option<u64>,
    /// Processes and threads now.
    pub pids: Option<u64>,
    /// How long tasks waited for a CPU, also where their own limit held them back.
    pub cpu_pressure: Pressure,
    /// How long tasks waited for memory: for pages to be given back or read again.
    pub memory_pressure: Pressure,
    /// How long tasks waited for block devices.
    pub io_pressure: Pressure,
    /// Of all cells only: kernel memory of the whole host that none of them is charged with.
    pub uncharged_bytes: Option<u64>,
    /// Of all cells only: jobs that were ended because they held more of it than their memory limit allows.
    pub ended_for_kernel_memory: Option<u64>,
}

/// For how long a resource was wanting so far, by the kernel's pressure stall information
/// (Documentation/accounting/psi.rst). Absent where that is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Time in which some task waited for it.
    pub some: Option<Duration>,
    /// Time in which every task that was not idle waited for it, and no work was done.
    pub full: Option<Duration>,
}

/// What one of a launcher's folders serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Folder {
    pub(crate) version: Version,
    pub(crate) roles: Vec<Role>,
    /// Whether events of a cgroup are not counted in those above it: on v1, and where v2 is mounted
    /// with `memory_localevents`.
    pub(crate) local_events: bool,
}

/// All of a launcher's folders, to look into.
#[derive(Debug, Default)]
pub(crate) struct Folders(Vec<(Folder, OwnedFd)>);

impl Folders {
    /// None where not every folder has its descriptor.
    pub(crate) fn new(folders: Vec<Folder>, fds: Vec<OwnedFd>) -> Option<Self> {
        (folders.len() == fds.len()).then(|| Self(folders.into_iter().zip(fds).collect()))
    }

    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &OwnedFd> {
        self.0.iter().map(|(_, folder)| folder)
    }

    /// Of all cells together since the launcher's start, those that are gone included. `pids` counts
    /// the PID 1 of each as well.
    pub(crate) fn all(&self) -> Stats {
        let own = |record| matches!(record, Record::MemoryEventsV2 | Record::OomControlV1);
        let text = |record| {
            let (folder, _) = self.of(record)?;
            if own(record) && folder.local_events { None } else { self.text(".", record) }
        };
        let removed = text(Record::RemovedV2);
        let removed = removed.and_then(|text| files::keyed(&text, "nr_dying_descendants"));
        Stats { removed_cgroups: removed, ..stats(&text) }
    }

    /// Of one cell; nothing where there is none of that name, any more or yet.
    pub(crate) fn cell(&self, cell: CellId) -> Stats {
        let below = folder_name(cell);
        let mut stats = stats(&|record| self.text(&below, record));
        // PID 1 of the cell is ours.
        stats.pids = stats.pids.map(|pids| pids.saturating_sub(1));
        stats
    }

    /// What a cell's cgroup is charged with and the kernel could not take back, bytes: not its files' pages,
    /// and not what its sockets hold.
    /// None where there is no such cell.
    pub(crate) fn charged(&self, cell: CellId) -> Option<u64> {
        let (version, folder) = self.serving(Role::Memory)?;
        let below = folder_name(cell);
        charged(version, &|file| files::read(folder, &format!("{below}/{file}")).ok())
    }

    /// What a cell's memory limit does not count of its sockets, given the bytes in their `queues` and of
    /// the `sockets` themselves. Of both it counts what belongs to a process, so at least the difference is
    /// uncounted. v1 counts queues apart, with all that they take.
    pub(crate) fn uncounted_of_sockets(&self, cell: CellId, queues: u64, sockets: u64) -> u64 {
        let Some((version, folder)) = self.serving(Role::Memory) else { return queues };
        let below = folder_name(cell);
        let text: Named<'_> = &|file| files::read(folder, &format!("{below}/{file}")).ok();
        let queues = match version {
            Version::V1 => {
                let apart = text("memory.kmem.tcp.usage_in_bytes");
                queues.max(apart.and_then(|text| text.trim().parse().ok()).unwrap_or(0))
            }
            Version::V2 => {
                let stat = text("memory.stat").unwrap_or_default();
                queues.saturating_sub(keyed(&stat, "sock").unwrap_or(0))
            }
        };
        queues + sockets.saturating_sub(charged_to_kernel(version, text))
    }

    /// What all cells are charged with as kernel memory that cannot be taken back, bytes.
    pub(crate) fn charged_to_kernel(&self) -> u64 {
        let Some((version, folder)) = self.serving(Role::Memory) else { return 0 };
        let text: Named<'_> = &|file| files::read(folder, file).ok();
        let stat = text("memory.stat").unwrap_or_default();
        charged_to_kernel(version, text) + keyed(&stat, "sock").unwrap_or(0)
    }

    /// The processes in a cell.
    pub(crate) fn processes(&self, cell: CellId) -> Vec<i32> {
        let Some((_, folder)) = self.0.first() else { return Vec::new() };
        let below = files::open_folder(folder, folder_name(cell));
        below.and_then(files::processes).unwrap_or_default()
    }

    fn serving(&self, role: Role) -> Option<(Version, &OwnedFd)> {
        let (folder, fd) = self.0.iter().find(|(folder, _)| folder.roles.contains(&role))?;
        Some((folder.version, fd))
    }

    /// The folder that has a record.
    fn of(&self, record: Record) -> Option<&(Folder, OwnedFd)> {
        let has = |role: &Role, version| {
            let records = [Record::of(*role, version), Record::live(*role, version)];
            records.into_iter().flatten().any(|known| *known == record)
        };
        self.0.iter().find(|(folder, _)| folder.roles.iter().any(|role| has(role, folder.version)))
    }

    fn text(&self, below: &str, record: Record) -> Option<String> {
        let (_, folder) = self.of(record)?;
        files::read(folder, &format!("{below}/{}", record.file())).ok()
    }
}

/// What the file of this name says.
type Named<'a> = &'a dyn Fn(&str) -> Option<String>;

fn charged(version: Version, text: Named<'_>) -> Option<u64> {
    let stat = text("memory.stat")?;
    let value = |key| keyed(&stat, key).unwrap_or(0);
    let programs = match version {
        Version::V1 => value("rss") + value("shmem") + value("swap"),
        Version::V2 => value("anon") + value("shmem"),
    };
    Some(programs + charged_to_kernel(version, text))
}

/// v1 counts together what can be taken back and what not. v2's `kernel` (Linux 5.18) is the sum of
/// these and of what has no name of its own.
fn charged_to_kernel(version: Version, text: Named<'_>) -> u64 {
    if version == Version::V1 {
        return text("memory.kmem.usage_in_bytes")
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0);
    }
    let stat = text("memory.stat").unwrap_or_default();
    let value = |key| keyed(&stat, key).unwrap_or(0);
    let parts = value("kernel_stack") + value("pagetables") + value("percpu") + value("vmalloc");
    let named = parts + value("slab_unreclaimable");
    let kernel = value("kernel").saturating_sub(value("slab_reclaimable"));
    named.max(kernel)
}

fn stats(text: &dyn Fn(Record) -> Option<String>) -> Stats {
    let pressure = |record| {
        text(record).map_or_else(Pressure::default, |text| Pressure {
            some: stalled(&text, "some"),
            full: stalled(&text, "full"),
        })
    };
    Stats {
        usage: usage(text),
        memory_bytes: number(text, &[Record::MemoryV2, Record::MemoryAndSwapV1, Record::MemoryV1]),
        removed_cgroups: None,
        pids: number(text, &[Record::Pids]),
        cpu_pressure: pressure(Record::CpuPressure),
        memory_pressure: pressure(Record::MemoryPressure),
        io_pressure: pressure(Record::IoPressure),
        uncharged_bytes: None,
        ended_for_kernel_memory: None,
    }
}

/// The time in a line `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`: its total, microseconds.
fn stalled(text: &str, kind: &str) -> Option<Duration> {
    let line = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
    let total = line.split_ascii_whitespace().find_map(|word| word.strip_prefix("total="))?;
    total.parse().ok().map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

    use super::*;

    const PRESSURE: &str = "some avg10=47.51 avg60=49.69 avg300=43.97 total=2685948078\n\
                            full avg10=0.00 avg60=0.00 avg300=0.00 total=12\n";

    /// Folders that stand for cgroups, removed again.
    struct Scene(PathBuf);

    impl Scene {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("cloister-stats-{name}-{}", std::process::id()));
            Self(path)
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn folders(&self, list: &[(&str, Version, &[Role], bool)]) -> Folders {
            let (folders, fds) = list
                .iter()
                .map(|(name, version, roles, local_events)| {
                    let path: &Path = &self.0.join(name);
                    fs::create_dir_all(path).unwrap();
                    let folder = Folder {
                        version: *version,
                        roles: roles.to_vec(),
                        local_events: *local_events,
                    };
                    (folder, files::open_path(path).unwrap())
                })
                .unzip();
            Folders::new(folders, fds).unwrap()
        }
    }

    impl Drop for Scene {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn one_v2_folder_tells_everything() {
        let scene = Scene::new("v2");
        for (file, text) in [
            ("cpu.stat", "usage_usec 3000\nuser_usec 2000\nsystem_usec 1000\nthrottled_usec 500\n"),
            ("memory.current", "4096\n"),
            ("memory.peak", "8192\n"),
            ("memory.events", "oom 1\noom_kill 2\n"),
            ("pids.current", "5\n"),
            ("cgroup.stat", "nr_descendants 1\nnr_dying_descendants 500\n"),
            ("cpu.pressure", PRESSURE),
            ("io.stat", "8:0 rbytes=10 wbytes=1 rios=2\n"),
        ] {
            scene.write(&format!("v2/cell-7/{file}"), text);
            scene.write(&format!("v2/{file}"), text);
        }
        let folders = scene.folders(&[("v2", Version::V2, &Role::ALL, false)]);
        let (cell, all) = (folders.cell(7), folders.all());
        assert_eq!(cell.usage, all.usage);
        assert_eq!(
            cell.usage,
            Usage {
                cpu_ms: Some(3.0),
                user_ms: Some(2.0),
                system_ms: Some(1.0),
                throttled_ms: Some(0.5),
                memory_peak_bytes: Some(8192),
                oom_kills: Some(2),
                io_read_bytes: Some(10),
                io_write_bytes: Some(1),
                pids_peak: None,
            }
        );
        assert_eq!(cell.memory_bytes, Some(4096));
        assert_eq!((cell.removed_cgroups, all.removed_cgroups), (None, Some(500)));
        // The cell's PID 1 is not the job's; nobody knows of all cells how many there are.
        assert_eq!((cell.pids, all.pids), (Some(4), Some(5)));
        let us = Duration::from_micros;
        let cpu = Pressure { some: Some(us(2_685_948_078)), full: Some(us(12)) };
        assert_eq!((cell.cpu_pressure, cell.memory_pressure), (cpu, Pressure::default()));
        assert_eq!(folders.cell(8), Stats::default(), "there is none of this number");
    }

    #[test]
    fn each_record_of_a_hybrid_host_is_found_where_it_is() {
        let scene = Scene::new("hybrid");
        for (file, text) in [
            ("core/cell-1/cpu.stat", "usage_usec 3000\nthrottled_usec 9000\n"),
            ("core/cell-1/memory.pressure", PRESSURE),
            ("cpu/cell-1/cpu.stat", "nr_throttled 1\nthrottled_time 2000000\n"),
            ("memory/cell-1/memory.usage_in_bytes", "4096\n"),
            ("memory/cell-1/memory.oom_control", "oom_kill_disable 0\noom_kill 3\n"),
            ("memory/memory.oom_control", "oom_kill_disable 0\noom_kill 0\n"),
            ("memory/memory.usage_in_bytes", "8192\n"),
            ("memory/memory.memsw.usage_in_bytes", "12288\n"),
            ("pids/cell-1/pids.current", "2\n"),
        ] {
            scene.write(file, text);
        }
        let folders = scene.folders(&[
            ("core", Version::V2, &[Role::Core], false),
            ("cpu", Version::V1, &[Role::Cpu], true),
            ("memory", Version::V1, &[Role::Memory], true),
            ("pids", Version::V1, &[Role::Pids], true),
        ]);
        let cell = folders.cell(1);
        assert_eq!((cell.usage.cpu_ms, cell.usage.throttled_ms), (Some(3.0), Some(2.0)));
        assert_eq!((cell.memory_bytes, cell.pids), (Some(4096), Some(1)));
        assert!(cell.memory_pressure.some.is_some());
        assert_eq!((cell.usage.io_read_bytes, cell.cpu_pressure.some), (None, None));
        assert_eq!(cell.usage.oom_kills, Some(3));
        let all = folders.all();
        assert_eq!(all.memory_bytes, Some(12288), "with swap, where that is known");
        assert_eq!(all.usage.oom_kills, None, "v1 does not count above the cgroup of the kill");
    }

    #[test]
    fn what_is_charged_and_cannot_be_taken_back_is_told_on_either_version() {
        let scene = Scene::new("charged");
        for (file, text) in [
            (
                "v2/cell-1/memory.stat",
                "anon 100\nfile 5000\nkernel 90\nkernel_stack 10\npagetables 20\nsock 7\nshmem 1000\n\
                 slab_reclaimable 30\nslab_unreclaimable 25\n",
            ),
            ("v2/cell-1/cgroup.procs", "7\n0\n9\n"),
            ("v1/cell-1/memory.stat", "cache 5000\nrss 100\nshmem 1000\nswap 3\n"),
            ("v1/cell-1/memory.kmem.usage_in_bytes", "60\n"),
        ] {
            scene.write(file, text);
        }
        let v2 = scene.folders(&[("v2", Version::V2, &Role::ALL, false)]);
        assert_eq!((v2.charged(1), v2.charged(2)), (Some(1100 + 60), None));
        assert_eq!((v2.processes(1), v2.processes(2)), (vec![7, 9], Vec::new()));
        let v1 = scene.folders(&[("v1", Version::V1, &[Role::Memory], true)]);
        assert_eq!(v1.charged(1), Some(1163));
    }

    #[test]
    fn events_that_stay_below_are_not_told_of_all() {
        let scene = Scene::new("local");
        scene.write("v2/memory.events", "oom_kill 0\n");
        let of = |local| scene.folders(&[("v2", Version::V2, &Role::ALL, local)]);
        assert_eq!(of(true).all().usage.oom_kills, None);
        assert_eq!(of(false).all().usage.oom_kills, Some(0));
    }

    #[test]
    fn a_line_that_is_not_there_is_no_time() {
        // Before Linux 5.13 a CPU can't be wanting in full.
        let text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(stalled(text, "some"), Some(Duration::from_micros(7)));
        assert_eq!(stalled(text, "full"), None);
        for text in ["", "some avg10=0.00 total=\n", "some total=-1\n", "something total=1\n"] {
            assert_eq!(stalled(text, "some"), None, "{text}");
        }
    }

    #[test]
    fn a_folder_without_its_descriptor_is_noticed() {
        let folder = Folder { version: Version::V2, roles: vec![Role::Core], local_events: false };
        assert!(Folders::new(vec![folder], Vec::new()).is_none());
    }
}
