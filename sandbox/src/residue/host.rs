//! Reading `/proc`: what its files say, and whose they are.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    os::fd::AsFd,
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use cloister_api::Enforcement;
use nix::unistd::{SysconfVar, sysconf};

use super::{
    attribute::{Evidence, FLOOR, Held},
    hold::Hold,
    locks::{self, LOCK_SIZE, Owner, Sample},
    meminfo::{self, Level},
    sockets::{self, Count},
    vmstat,
    watcher::Job,
};
use crate::{
    cgroup::Folders,
    host::{holds, lacks},
    layers::Layer,
    wire::CellId,
};

/// More than any host's `zoneinfo` holds, at some 100 bytes for each CPU in each of its zones.
const MAX_TEXT: u64 = 4 << 20;
/// As much of a list of a cell's own is read: some 1,700 sockets. The kernel takes the longer for each page
/// of it the more there are.
const MAX_OF_CELL: u64 = 256 << 10;
/// The same of its connections, which are in the order of a hash: some 300 tell of all. Whoever makes
/// connections goes on while they are read.
const MAX_OF_CONNECTIONS: u64 = 48 << 10;
/// How long a look at the locks may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// The files that tell of the whole host, open.
pub(crate) struct Gauge {
    meminfo: File,
    zoneinfo: File,
    vmstat: Option<File>,
    page_size: u64,
}

impl Gauge {
    pub(crate) fn open() -> io::Result<Self> {
        let page_size = sysconf(SysconfVar::PAGE_SIZE)?.and_then(|size| u64::try_from(size).ok());
        Ok(Self {
            meminfo: open("/proc/meminfo")?,
            zoneinfo: open("/proc/zoneinfo")?,
            // Without it the level itself is read more often.
            vmstat: open("/proc/vmstat").ok(),
            page_size: page_size.unwrap_or(4096),
        })
    }

    /// How much memory no class accounts for.
    pub(super) fn level(&self) -> io::Result<Level> {
        let (meminfo, zoneinfo) = (text(&self.meminfo)?, text(&self.zoneinfo)?);
        meminfo::level(&meminfo, &zoneinfo, self.page_size)
            .ok_or_else(|| io::Error::other("/proc/meminfo or /proc/zoneinfo lacks its numbers"))
    }

    /// What rises with the residue, bytes, where the kernel counts that: a difference of two is meant.
    pub(super) fn trend(&self) -> Option<i64> {
        let pages = vmstat::pages(&text(self.vmstat.as_ref()?).ok()?, self.page_size)?;
        Some(pages.wrapping_mul(i64::try_from(self.page_size).ok()?))
    }

    /// The same without what cells are charged with: what nobody is charged with, on the whole host.
    pub(crate) fn uncharged(&self, folders: &Folders) -> Option<u64> {
        Some(self.level().ok()?.residue.saturating_sub(folders.charged_to_kernel()))
    }
}

/// Opens a file of the kernel's own: a container may have another one mounted in its place, which tells of
/// the container.
fn open(path: &str) -> io::Result<File> {
    let file = File::open(path).map_err(|error| io::Error::other(format!("{path}: {error}")))?;
    let kind = rustix::fs::fstatfs(file.as_fd())?.f_type;
    if kind != rustix::fs::PROC_SUPER_MAGIC {
        return Err(io::Error::other(format!("{path} is not the kernel's own")));
    }
    Ok(file)
}

/// What a file says now.
fn text(file: &File) -> io::Result<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 << 10];
    // A page at a time, as the kernel gives it, each from where the last one ended.
    while (bytes.len() as u64) < MAX_TEXT {
        match file.read_at(&mut chunk, bytes.len() as u64)? {
            0 => break,
            length => bytes.extend_from_slice(&chunk[..length]),
        }
    }
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// Whether the watcher will see anything. With `own_uids` jobs are other users than the service.
pub(crate) fn report(own_uids: bool) -> Enforcement {
    if !Layer::Watcher.stands() {
        return lacks("kernel_memory", "this program was built without it", "see layers");
    }
    let readable = Gauge::open().and_then(|gauge| gauge.level()).and_then(|_| {
        open("/proc/locks")?;
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        let hidden = own_uids && mounts.lines().any(hides_processes);
        if hidden {
            Err(io::Error::other("/proc hides other users' processes (hidepid)"))
        } else {
            Ok(())
        }
    });
    match readable {
        Ok(()) => holds("kernel_memory", "what no cgroup counts is watched by /proc/meminfo"),
        Err(error) => lacks(
            "kernel_memory",
            format!("kernel memory that no cgroup counts can't be watched: {error}"),
            "show the kernel's own /proc/meminfo, /proc/zoneinfo and /proc/locks, and mount /proc without hidepid",
        ),
    }
}

/// Whether a line of `mountinfo` is that of a `/proc` in which a user sees no other user's processes.
fn hides_processes(line: &str) -> bool {
    let option = line
        .rsplit(' ')
        .next()
        .and_then(|options| options.split(',').find_map(|option| option.strip_prefix("hidepid=")));
    line.contains(" - proc ") && option.is_some_and(|option| !["0", "off"].contains(&option))
}

/// What is known of each of these cells, given by how much slab grew; and those of them that are held back.
///
/// Those with sockets are held back while their sockets are looked at, and those that are suspected of locks
/// while locks are: these may grow by hundreds of megabytes meanwhile.
pub(super) fn evidence(
    folders: &Folders,
    jobs: &HashMap<CellId, Job>,
    slab_growth: u64,
    suspected_of_locks: &[CellId],
) -> (Vec<Evidence>, Hold) {
    let mut hold = Hold::default();
    let seen: Vec<_> = jobs
        .iter()
        .map(|(cell, job)| {
            let seen = Seen::of(folders.processes(*cell), job);
            if seen.count.is_any() {
                hold.add(*cell, job);
            }
            (*cell, job, seen)
        })
        .collect();
    let of_cell = |(cell, job, seen): &(CellId, &Job, Seen)| {
        // Of a cell that has gone nothing is charged, and it holds nothing.
        let charged = folders.charged(*cell).unwrap_or(0);
        let sockets = seen.sockets(folders, *cell);
        Evidence { cell: *cell, limit: job.memory, charged, held: Held { locks: 0, sockets } }
    };
    let mut evidence: Vec<_> = seen.iter().map(of_cell).collect();
    // Locks are slab, and to look at them takes longer: not where sockets have proven enough.
    if slab_growth < FLOOR || evidence.iter().any(Evidence::exceeds) {
        return (evidence, hold);
    }
    hold.keep(|cell| suspected_of_locks.contains(&cell));
    for cell in suspected_of_locks {
        if let Some(job) = jobs.get(cell) {
            hold.add(*cell, job);
        }
    }
    let all = slab_growth / LOCK_SIZE;
    let sample = sample_locks(all).unwrap_or_default();
    for (each, (.., seen)) in evidence.iter_mut().zip(seen) {
        let devices = seen
            .beginning("mountinfo", MAX_OF_CELL)
            .map_or_else(Vec::new, |text| locks::private_devices(&text));
        let is_on =
            |owner: &Owner| devices.contains(&owner.device) || seen.processes.contains(&owner.pid);
        let own = sample.shares.iter().filter(|(owner, _)| is_on(owner));
        let share = own.map(|(_, share)| share).sum();
        each.held.locks = sample.count_of(share, FLOOR / LOCK_SIZE, all);
    }
    (evidence, hold)
}

/// What is seen of a cell at first.
struct Seen {
    processes: Vec<i32>,
    /// Whether its network is its own.
    own_network: bool,
    /// The sockets of that network.
    count: Count,
}

impl Seen {
    fn of(processes: Vec<i32>, job: &Job) -> Self {
        let own_network = job.own_network;
        let mut seen = Self { processes, own_network, count: Count::default() };
        if own_network {
            seen.count = Count::parse(&seen.lists(&sockets::COUNTS, MAX_OF_CELL).concat());
        }
        seen
    }

    /// The beginning of a file that any of the processes has. Each may have ended just now.
    fn beginning(&self, file: &str, most: u64) -> Option<String> {
        let of = |pid: &i32| beginning(&format!("/proc/{pid}/{file}"), most);
        self.processes.iter().take(4).find_map(of)
    }

    fn lists(&self, kinds: &[&str], most: u64) -> Vec<String> {
        kinds.iter().filter_map(|kind| self.beginning(&format!("net/{kind}"), most)).collect()
    }

    /// What its sockets hold and its limit does not count, bytes.
    fn sockets(&self, folders: &Folders, cell: CellId) -> u64 {
        let Count { tcp, datagram } = self.count;
        if !self.own_network {
            return 0;
        }
        let sum = |kinds: &[&str], of: fn(&str) -> u64| -> u64 {
            self.lists(kinds, MAX_OF_CELL).iter().map(|text| of(text)).sum()
        };
        // PID 1 bounds these where it is asked for them (`cell/broker.rs`): this is the second line.
        let mut queued = sum(&[sockets::NETLINK], sockets::netlink);
        if datagram > 0 {
            queued += sum(&sockets::DATAGRAM, sockets::datagram);
        }
        if tcp > 0 {
            queued += sockets::tcp_queues(&self.lists(&sockets::TCP, MAX_OF_CONNECTIONS), tcp);
        }
        folders.uncounted_of_sockets(cell, queued, tcp * sockets::TCP_SOCKET)
    }
}

/// The beginning of a file.
fn beginning(path: &str, most: u64) -> Option<String> {
    let mut text = Vec::new();
    File::open(path).and_then(|file| file.take(most).read_to_end(&mut text)).ok()?;
    String::from_utf8(text).ok()
}

/// Samples the list of locks, of which there can be so many.
fn sample_locks(all: u64) -> io::Result<Sample> {
    let file = open("/proc/locks")?;
    let began = Instant::now();
    let read = |offset| {
        // What was seen until then may be enough.
        if began.elapsed() > PATIENCE {
            return Ok(None);
        }
        let mut page = vec![0; 4096];
        let length = file.read_at(&mut page, offset)?;
        page.truncate(length);
        Ok(Some(page))
    };
    let sample = locks::sample(read, rand::random::<f64>, all)?;
    tracing::debug!(ms = began.elapsed().as_millis(), ?sample, "sampled");
    Ok(sample)
}
