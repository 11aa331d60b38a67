//! Whose file locks there are: `/proc/locks` in samples.
//!
//! The kernel writes a page of that list for each read(2), and walks from its beginning each time: to read
//! all of a long list takes time by the square of its length, and while it is walked no lock can be taken on
//! the whole host. So its length is found by a few reads far inside, and whose locks they are by
//! reading at some places of it, one page each.

use std::{collections::HashMap, io};

/// What a lock takes, bytes: a `struct file_lock` of Linux 5.14 to 6.18, without the slab's own waste.
pub(super) const LOCK_SIZE: u64 = 192;

/// How far the list is read: some 120,000 locks. The kernel takes half a microsecond for each that it skips.
const FAR: u64 = 7 << 20;
/// A length that is less than this is not sampled.
const SHORT: usize = 2048;
/// At how many places it is read.
const PLACES: u64 = 5;
/// Fewer tell nothing.
const MIN_PLACES: usize = 4;
/// How near its end is found, in parts of what is found.
const PRECISION: u64 = 16;

/// The device of the file, as the kernel writes it, and the process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    pub(super) device: (u32, u32),
    /// Of a POSIX lock alone, which is gone with its process since a job's processes share no descriptors
    /// (`seccomp/job.json`); else 0. Another lock can outlive the process that took it, whose id then
    /// belongs to any other.
    pub(super) pid: i32,
}

/// Which share of the list is whose.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Sample {
    /// How many locks there are; at least that many, where `whole` is false.
    pub(super) count: u64,
    /// Whether the end of the list was seen.
    pub(super) whole: bool,
    /// Whether all of it was read.
    pub(super) exact: bool,
    /// Places at which it was read.
    pub(super) places: usize,
    /// At how many of these places each owner's locks were, in parts.
    pub(super) shares: HashMap<Owner, f64>,
}

/// Reads the list at a few places; `read` reads a page from an offset while there is time for it, `random`
/// gives numbers from 0 to 1, and there can be `all` locks by the memory that they take.
pub(super) fn sample(
    mut read: impl FnMut(u64) -> io::Result<Option<Vec<u8>>>,
    mut random: impl FnMut() -> f64,
    all: u64,
) -> io::Result<Sample> {
    let mut sample = Sample::default();
    let Some(first) = read(0)? else { return Ok(sample) };
    let at_first = owners(&first, true);
    if first.len() < SHORT {
        // The whole of it.
        sample.count = at_first.len() as u64;
        (sample.whole, sample.exact) = (true, true);
        sample.add(&at_first);
        return Ok(sample);
    }
    // Where the list ends: it is at least this long, and less than that.
    let line = first.len() as u64 / (at_first.len() as u64).max(1);
    let (mut end, mut beyond) = (first.len() as u64, None);
    let mut next = all.saturating_mul(line).clamp(end * 2, FAR);
    while next < FAR.min(beyond.unwrap_or(FAR + 1)) || (next == FAR && end < FAR) {
        match read(next)? {
            None => return Ok(sample),
            Some(page) if page.is_empty() => beyond = Some(next),
            Some(_) => end = next,
        }
        next = match beyond {
            Some(beyond) if beyond - end <= beyond / PRECISION => break,
            Some(beyond) => end.midpoint(beyond),
            None => (end + end / 2).min(FAR),
        };
    }
    sample.whole = beyond.is_some();
    let (mut lines, mut bytes) = (0, 0);
    for place in 0..PLACES {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "offsets of a few megabytes"
        )]
        let offset = ((place as f64 + random()) / PLACES as f64 * end as f64) as u64;
        let Some(page) = read(offset)? else { break };
        let owners = owners(&page, offset == 0);
        lines += owners.len() as u64;
        bytes += page.len() as u64;
        sample.add(&owners);
    }
    sample.count = end * lines / bytes.max(1);
    Ok(sample)
}

impl Sample {
    /// What was read at one place.
    fn add(&mut self, owners: &[Owner]) {
        if owners.is_empty() {
            return;
        }
        self.places += 1;
        #[expect(clippy::cast_precision_loss, reason = "some dozens of lines")]
        let part = 1.0 / owners.len() as f64;
        for owner in owners {
            *self.shares.entry(owner.clone()).or_default() += part;
        }
    }

    /// How many locks an owner has of whom that much was seen, where that is proven to be `many` at least,
    /// else a lower bound: one sampled place is subtracted, since chance may have hit the owner's part.
    /// Of a list whose end was not seen, `all` is how many there can be by the memory that they take. An
    /// owner with at least `many` in the part that was read is assumed to have the same share of the rest.
    pub(super) fn count_of(&self, seen: f64, many: u64, all: u64) -> u64 {
        if self.exact {
            return scale(self.count, seen);
        }
        if self.places < MIN_PLACES {
            return 0;
        }
        #[expect(clippy::cast_precision_loss, reason = "a handful of places")]
        let places = self.places as f64;
        let proven = scale(self.count, (seen - 1.0).max(0.0) / places);
        if proven < many {
            return proven;
        }
        let count = if self.whole { self.count } else { self.count.max(all) };
        scale(count, (seen / places).min(1.0))
    }
}

fn scale(count: u64, share: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an estimate"
    )]
    let scaled = (count as f64 * share).round() as u64;
    scaled
}

/// The owners of the locks on a page of the list, whose first line is a part of one unless it is `whole`.
fn owners(page: &[u8], whole: bool) -> Vec<Owner> {
    let text = String::from_utf8_lossy(page);
    let end = text.rfind('\n').unwrap_or(0);
    text[..end].lines().skip(usize::from(!whole)).filter_map(owner).collect()
}

/// The owner in a line such as `7: POSIX  ADVISORY  WRITE 3568 fd:00:2531452 0 EOF`. A lock that is only
/// waited for has an arrow.
fn owner(line: &str) -> Option<Owner> {
    let mut words = line.split_ascii_whitespace().skip(1).filter(|word| *word != "->");
    let posix = words.next()? == "POSIX";
    let pid: i32 = words.nth(2)?.parse().ok()?;
    let pid = if posix { pid } else { 0 };
    let mut inode = words.next()?.split(':');
    let mut number = || u32::from_str_radix(inode.next()?, 16).ok();
    Some(Owner { device: (number()?, number()?), pid })
}

/// The devices that no other cell has, by a `mountinfo` of a process in the cell: what is mounted at `/job`,
/// and the overlay at `/usr`.
pub(super) fn private_devices(mountinfo: &str) -> Vec<(u32, u32)> {
    let device = |line: &str| {
        let words: Vec<_> = line.split(' ').take(5).collect();
        let [_, _, device, root, path] = words[..] else { return None };
        let private = path == "/job" && line.contains(" - tmpfs ")
            || path == "/usr" && root == "/" && line.contains(" - overlay ");
        let (major, minor) = device.split_once(':')?;
        private.then_some((major.parse().ok()?, minor.parse().ok()?))
    };
    mountinfo.lines().filter_map(device).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list of runs of locks, as the kernel would write it, and what reads it.
    fn list(runs: &[(i32, usize)]) -> impl Fn(u64) -> io::Result<Option<Vec<u8>>> {
        let pids = runs.iter().flat_map(|(pid, count)| std::iter::repeat_n(pid, *count));
        let mut text = String::new();
        for (n, pid) in pids.enumerate() {
            use std::fmt::Write;
            writeln!(text, "{n}: POSIX  ADVISORY  WRITE {pid} 00:2a:{n} {n} {n}").unwrap();
        }
        move |offset| {
            let from = usize::try_from(offset).unwrap().min(text.len());
            Ok(Some(text.as_bytes()[from..(from + 4096).min(text.len())].to_vec()))
        }
    }

    const MANY: u64 = 50_000;

    fn count_of(sample: &Sample, pid: i32, all: u64) -> u64 {
        let owner = Owner { device: (0, 0x2a), pid };
        sample.count_of(sample.shares.get(&owner).copied().unwrap_or(0.0), MANY, all)
    }

    #[test]
    fn lines_tell_device_and_process() {
        let owner = |device, pid| Some(Owner { device, pid });
        for (line, known) in [
            ("1: POSIX  ADVISORY  WRITE 3568 fd:00:2531452 0 EOF", owner((0xfd, 0), 3568)),
            ("5: OFDLCK ADVISORY  READ  -1 00:2a:12 0 0", owner((0, 0x2a), 0)),
            ("5: -> FLOCK  ADVISORY  WRITE 9 08:01:12 0 EOF", owner((8, 1), 0)),
            ("6: LEASE  ACTIVE    READ  77 <none>:0 0 EOF", None),
            ("", None),
            ("7: POSIX  ADVISORY  WRITE", None),
        ] {
            assert_eq!(super::owner(line), known, "{line}");
        }
    }

    #[test]
    fn a_short_list_is_counted() {
        let sample = sample(list(&[(1, 5), (2, 3)]), || 0.5, 1000).unwrap();
        assert_eq!((sample.count, count_of(&sample, 1, 0), count_of(&sample, 2, 0)), (8, 5, 3));
        assert_eq!(super::sample(list(&[]), || 0.5, 0).unwrap().count, 0);
    }

    #[test]
    fn the_length_of_a_long_list_is_found_without_reading_it() {
        for all in [0, 50_000, 100_000, 110_000, 1_000_000] {
            let read = list(&[(1, 100_000)]);
            let mut cost = 0;
            let counted = |offset| {
                cost += offset;
                read(offset)
            };
            let sample = sample(counted, || 0.5, all).unwrap();
            assert!((90_000..=102_000).contains(&sample.count), "{all}: {}", sample.count);
            assert!(sample.whole && cost < 11 * (5 << 20), "{all}: {} KiB", cost >> 10);
            assert!((90_000..=102_000).contains(&count_of(&sample, 1, 0)));
        }
    }

    #[test]
    fn a_neighbour_with_a_thousand_is_never_taken_for_one_with_many() {
        for first in [true, false] {
            let mut runs = [(1, 90_000), (2, 1000), (3, 10_000)];
            if first {
                runs.swap(0, 1);
            }
            let read = list(&runs);
            for step in 0..100 {
                let sample = sample(&read, || f64::from(step) / 100.0, 100_000).unwrap();
                assert!(count_of(&sample, 2, 0) <= 1000, "{sample:?}");
                assert!(count_of(&sample, 3, 0) <= 10_000, "{sample:?}");
                assert!((70_000..=102_000).contains(&count_of(&sample, 1, 0)), "{sample:?}");
            }
        }
    }

    #[test]
    fn what_was_not_read_in_time_proves_nothing() {
        let read = list(&[(1, 100_000)]);
        for reads in 0..9 {
            let mut left = reads;
            let limited = |offset| {
                left -= 1;
                if left < 0 { Ok(None) } else { read(offset) }
            };
            let sample = sample(limited, || 0.5, 100_000).unwrap();
            assert!(sample.places >= MIN_PLACES || count_of(&sample, 1, 0) == 0, "{sample:?}");
        }
    }

    #[test]
    fn of_a_list_without_end_the_rest_is_whose_the_beginning_is() {
        let of = |one, other| Sample {
            count: 120_000,
            whole: false,
            exact: false,
            places: 5,
            shares: HashMap::from([
                (Owner { device: (0, 0x2a), pid: 1 }, one),
                (Owner { device: (0, 0x2a), pid: 2 }, other),
            ]),
        };
        let sample = of(4.0, 1.0);
        assert_eq!(
            (count_of(&sample, 1, 1_000_000), count_of(&sample, 2, 1_000_000)),
            (800_000, 0)
        );
        let sample = of(2.5, 2.5);
        assert_eq!(count_of(&sample, 1, 1_000_000), 36_000, "fewer than many: what is proven");
    }

    #[test]
    fn private_devices_are_the_tmpfs_at_job_and_the_overlay_at_usr() {
        let text = "46 90 0:58 / /usr ro - overlay none ro\n90 50 254:0 /usr /usr ro - ext4 /dev/vda rw\n\
            47 93 0:49 / /etc/alternatives ro - overlay none ro\n\
            77 44 0:42 / /tmp rw - tmpfs none rw\n78 44 0:42 /job /job rw,nosuid - tmpfs none rw\n";
        assert_eq!(private_devices(text), [(0, 58), (0, 42)]);
        let container =
            "90 50 0:30 /usr /usr ro - overlay overlay rw\n78 44 8:1 /job /job rw - ext4 none rw\n";
        assert_eq!(private_devices(container), []);
        assert_eq!(private_devices(""), []);
    }
}
