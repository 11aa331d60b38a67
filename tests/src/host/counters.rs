//! Counters that belong to the whole host.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
};

use anyhow::Context;

/// How much of the host's tables is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Open files (`fs.file-nr`).
    pub files: i64,
    /// Inodes in memory (`fs.inode-nr`), which the kernel frees when it needs the memory.
    pub inodes: i64,
    /// Asynchronous requests that contexts are made for (`fs.aio-nr`).
    pub aio: i64,
    /// Threads of all processes (`/proc/loadavg`).
    pub threads: i64,
}

impl Counters {
    /// Reads them.
    pub fn read() -> anyhow::Result<Self> {
        Ok(Self {
            files: first("/proc/sys/fs/file-nr")?,
            inodes: first("/proc/sys/fs/inode-nr")?,
            aio: first("/proc/sys/fs/aio-nr")?,
            threads: threads()?,
        })
    }

    /// By name.
    pub fn named(&self) -> [(&'static str, i64); 4] {
        [
            ("open files", self.files),
            ("inodes", self.inodes),
            ("aio requests", self.aio),
            ("threads", self.threads),
        ]
    }
}

/// How many locks on files there are (`/proc/locks`). The kernel writes a line for each of them, so that it
/// takes seconds where there are millions: never ask repeatedly.
pub fn locks() -> anyhow::Result<usize> {
    let file = File::open("/proc/locks").context("opening /proc/locks failed")?;
    Ok(BufReader::new(file).split(b'\n').count())
}

/// The first number in a file.
fn first(path: &str) -> anyhow::Result<i64> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {path} failed"))?;
    let word = text.split_ascii_whitespace().next().unwrap_or_default();
    word.parse().with_context(|| format!("{path} does not begin with a number"))
}

fn threads() -> anyhow::Result<i64> {
    let text = fs::read_to_string("/proc/loadavg").context("reading /proc/loadavg failed")?;
    let count = text.split_ascii_whitespace().nth(3).and_then(|field| field.split_once('/'));
    let count = count.context("/proc/loadavg has no count of threads")?.1;
    count.parse().context("the count of threads in /proc/loadavg is no number")
}
