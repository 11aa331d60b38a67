//! Looking at the host while something runs.

use std::{
    collections::VecDeque,
    fmt,
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::anyhow;

use super::Reading;

/// How often it looks.
pub const INTERVAL: Duration = Duration::from_millis(50);

/// Growth counts that so many readings in a row have seen. While processes end, tens of MiB of their pages are for
/// some milliseconds neither theirs nor free.
const LASTING: usize = 3;

/// Between the readings with which it begins.
const SHORTLY: Duration = Duration::from_millis(5);

/// Looks at the host until it is stopped.
pub struct Watch {
    first: Reading,
    thread: JoinHandle<anyhow::Result<Peak>>,
    // Dropping it stops the thread.
    stop: Sender<()>,
}

/// The largest growth that lasted since the first reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peak {
    /// Kernel memory, charged or not, in bytes.
    pub kernel: i64,
    /// The growth when `kernel` was largest.
    pub then: Growth,
    /// The growth when it stopped.
    pub last: Growth,
}

/// The difference of two readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Growth(pub Reading);

impl Watch {
    /// Takes the first reading, and looks from now on.
    pub fn start() -> anyhow::Result<Self> {
        let mut recent = Recent::take()?;
        let first = recent.least();
        let (stop, stopped) = channel();
        let thread = thread::spawn(move || {
            let mut peak = Peak::default();
            loop {
                let ended = stopped.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout);
                recent.update()?;
                peak.add(Growth::between(&first, &recent.least()));
                if ended {
                    return Ok(peak);
                }
            }
        });
        Ok(Self { first, thread, stop })
    }

    /// The reading with which it began.
    pub fn first(&self) -> &Reading {
        &self.first
    }

    /// Takes a last reading, and comes back with the growth.
    pub fn stop(self) -> anyhow::Result<Peak> {
        drop(self.stop);
        self.thread.join().map_err(|_| anyhow!("the thread that reads the host panicked"))?
    }
}

/// The last readings.
#[derive(Clone, Debug)]
pub struct Recent(VecDeque<Reading>);

impl Recent {
    /// Takes the first ones.
    pub fn take() -> anyhow::Result<Self> {
        let mut readings = VecDeque::new();
        for _ in 0..LASTING {
            readings.push_back(Reading::take()?);
            thread::sleep(SHORTLY);
        }
        Ok(Self(readings))
    }

    /// Takes another one, and forgets the oldest.
    pub fn update(&mut self) -> anyhow::Result<()> {
        self.0.push_back(Reading::take()?);
        self.0.pop_front();
        Ok(())
    }

    /// The one with the least kernel memory.
    pub fn least(&self) -> Reading {
        let least = self.0.iter().min_by_key(|reading| reading.memory.kernel);
        least.copied().unwrap_or_default()
    }

    /// The one with the least uncharged memory.
    pub fn least_uncharged(&self) -> Reading {
        self.0.iter().min_by_key(|reading| reading.uncharged()).copied().unwrap_or_default()
    }
}

impl Peak {
    fn add(&mut self, growth: Growth) {
        if growth.0.memory.kernel > self.kernel {
            (self.kernel, self.then) = (growth.0.memory.kernel, growth);
        }
        self.last = growth;
    }
}

impl Growth {
    /// From one reading to a later one.
    pub fn between(before: &Reading, after: &Reading) -> Self {
        let mut growth = *after;
        let (memory, then) = (&mut growth.memory, &before.memory);
        for (now, then) in [
            (&mut memory.kernel, then.kernel),
            (&mut memory.slab, then.slab),
            (&mut memory.vmalloc, then.vmalloc),
            (&mut memory.percpu, then.percpu),
            (&mut memory.page_tables, then.page_tables),
            (&mut memory.stacks, then.stacks),
            (&mut growth.charged, before.charged),
            (&mut growth.counters.files, before.counters.files),
            (&mut growth.counters.inodes, before.counters.inodes),
            (&mut growth.counters.aio, before.counters.aio),
            (&mut growth.counters.threads, before.counters.threads),
        ] {
            *now -= then;
        }
        Self(growth)
    }

    /// Kernel memory that no memory cgroup holds, in bytes.
    pub fn uncharged(&self) -> i64 {
        self.0.uncharged()
    }
}

/// In MiB, such as `kernel memory +301 MiB (unreclaimable slab +290), of which 4 are charged`.
impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = &self.0.memory;
        let mib = |bytes: i64| bytes / (1 << 20);
        write!(f, "kernel memory {:+} MiB (", mib(memory.kernel))?;
        write!(
            f,
            "unreclaimable slab {:+}, vmalloc {:+}, ",
            mib(memory.slab),
            mib(memory.vmalloc)
        )?;
        write!(f, "per CPU {:+}, page tables {:+}, ", mib(memory.percpu), mib(memory.page_tables))?;
        write!(f, "stacks {:+}), charged {:+} MiB; ", mib(memory.stacks), mib(self.0.charged))?;
        let [files, _, aio, threads] = self.0.counters.named().map(|(_, count)| count);
        write!(f, "{files:+} open files, {threads:+} threads, {aio:+} aio requests")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Memory;

    fn reading(kernel: i64, charged: i64) -> Reading {
        Reading { memory: Memory { kernel, ..Memory::default() }, charged, ..Reading::default() }
    }

    #[test]
    fn the_peak_is_kept_with_what_was_charged_then() {
        let first = reading(1000, 500);
        let mut peak = Peak::default();
        for (kernel, charged) in [(900, 400), (3000, 700), (1100, 2000)] {
            peak.add(Growth::between(&first, &reading(kernel, charged)));
        }
        assert_eq!((peak.kernel, peak.then.uncharged()), (2000, 1800));
        assert_eq!(peak.last.0.memory.kernel, 100);
    }

    #[test]
    fn pages_held_by_the_kernel_alone_are_seen() {
        use std::io::{Write, pipe};
        let watch = Watch::start().unwrap();
        let held: Vec<_> = (0..400)
            .map(|_| {
                let (reader, mut writer) = pipe().unwrap();
                writer.write_all(&vec![1; 1 << 16]).unwrap();
                (reader, writer)
            })
            .collect();
        thread::sleep(6 * INTERVAL);
        drop(held);
        let peak = watch.stop().unwrap();
        assert!(peak.kernel > 20 << 20, "{}", peak.then);
    }
}
