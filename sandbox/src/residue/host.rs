//! Reading `/proc`: what its files say, and whose they are.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::fd::AsFd,
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use cloister_api::Enforcement;
use nix::unistd::{SysconfVar, sysconf};

use super::{
    attribute::{Evidence, FLOOR, Held},
    locks::{self, LOCK_SIZE, Sample},
    meminfo::{self, Level},
    sockets,
};
use crate::{
    cgroup::Folders,
    host::{holds, lacks},
    wire::CellId,
};

/// More than any host's `zoneinfo` holds, at some 100 bytes for each CPU in each of its zones.
const MAX_TEXT: u64 = 4 << 20;
/// How long a look at the locks may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// The files that tell of the whole host, open.
pub(crate) struct Gauge {
    meminfo: File,
    zoneinfo: File,
    page_size: u64,
}

impl Gauge {
    pub(crate) fn open() -> io::Result<Self> {
        let page_size = sysconf(SysconfVar::PAGE_SIZE)?.and_then(|size| u64::try_from(size).ok());
        let gauge = Self {
            meminfo: open("/proc/meminfo")?,
            zoneinfo: open("/proc/zoneinfo")?,
            page_size: page_size.unwrap_or(4096),
        };
        gauge.level().map(|_| gauge)
    }

    /// How much memory no class accounts for.
    pub(super) fn level(&self) -> io::Result<Level> {
        let (meminfo, zoneinfo) = (text(&self.meminfo)?, text(&self.zoneinfo)?);
        meminfo::level(&meminfo, &zoneinfo, self.page_size)
            .ok_or_else(|| io::Error::other("/proc/meminfo or /proc/zoneinfo lacks its numbers"))
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

/// Whether the watcher will see anything.
pub(crate) fn report() -> Enforcement {
    match Gauge::open().and_then(|_| open("/proc/locks")) {
        Ok(_) => holds("kernel_memory", "what no cgroup counts is watched by /proc/meminfo"),
        Err(error) => lacks(
            "kernel_memory",
            format!("kernel memory that no cgroup counts can't be watched: {error}"),
            "show the kernel's own /proc/meminfo, /proc/zoneinfo and /proc/locks",
        ),
    }
}

/// What is known of each of these cells, given their memory limits and by how much slab grew.
pub(super) fn evidence(
    folders: &Folders,
    jobs: &HashMap<CellId, u64>,
    slab_growth: u64,
) -> Vec<Evidence> {
    let all = slab_growth / LOCK_SIZE;
    let sample = sample_locks(all).unwrap_or_default();
    let mut seen = vec![0.0; jobs.len()];
    let mut queues = vec![0; jobs.len()];
    for (index, cell) in jobs.keys().enumerate() {
        let pids = folders.processes(*cell);
        // Any of them tells of the whole cell; it may have ended just now.
        let of_one = |file: &str| {
            pids.iter()
                .take(4)
                .find_map(|pid| fs::read_to_string(format!("/proc/{pid}/{file}")).ok())
        };
        let device = of_one("mountinfo").and_then(|text| locks::private_device(&text));
        let own = sample
            .shares
            .iter()
            .filter(|(owner, _)| Some(owner.device) == device || pids.contains(&owner.pid));
        seen[index] = own.map(|(_, share)| share).sum();
        let internet = sockets::INTERNET.iter().filter_map(|kind| of_one(&format!("net/{kind}")));
        queues[index] = internet.map(|text| sockets::internet(&text)).sum::<u64>()
            + of_one(&format!("net/{}", sockets::NETLINK))
                .map_or(0, |text| sockets::netlink(&text));
    }
    let known = jobs.iter().zip(seen).zip(queues).map(|(((cell, limit), seen), sockets)| {
        let locks = sample.count_of(seen, FLOOR / LOCK_SIZE, all);
        // Of a cell that has gone nothing is charged, and it holds nothing.
        let charged = folders.charged(*cell).unwrap_or(0);
        Evidence { cell: *cell, limit: *limit, charged, held: Held { locks, sockets } }
    });
    known.collect()
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
