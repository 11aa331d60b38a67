//! Looks for damage in the write-ahead log before SQLite reads it.
//!
//! SQLite takes the log up to the first frame whose checksum is wrong, and ignores the rest without a
//! word. After a power cut that is right: the last transaction was not synced, and nobody was told of
//! it. After damage in the middle it drops commits that were acknowledged. Two things tell them apart:
//!
//! - Each commit is synced before the next transaction is written (`synchronous=FULL`). So frames of *one*
//!   transaction can be torn, and nothing was written after its commit. Where frames follow a commit
//!   that cannot be read, that commit was synced. What follows must be of this log: of a log before it
//!   other salts are left; of a transaction that was rolled back no commit is left, and its frames do
//!   not continue the checksum of the commit before them.
//! - The index of the log (`-shm`) has the number of frames that were committed. SQLite writes it after
//!   the sync, so it never says too much; and it outlives a process that is killed.
//!
//! The formats: <https://www.sqlite.org/walformat.html>, <https://www.sqlite.org/fileformat2.html#walformat>.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use super::lock::with;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// The last bit tells the order of bytes in which checksums are computed.
const MAGIC: u32 = 0x377f_0682;
/// One of the two equal headers of the index.
const INDEX_HEADER: usize = 48;

/// What is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    /// Of this log: the next one has another.
    pub(super) id: String,
    /// For a person.
    pub(super) what: String,
}

/// The running checksum of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sum(u32, u32);

impl Sum {
    fn add(self, bytes: &[u8], big_endian: bool) -> Self {
        let word = |bytes: &[u8]| {
            let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
            if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
        };
        bytes.chunks_exact(8).fold(self, |Self(a, b), pair| {
            let a = a.wrapping_add(word(&pair[..4])).wrapping_add(b);
            Self(a, b.wrapping_add(word(&pair[4..])).wrapping_add(a))
        })
    }
}

/// A number of the log, at `at`.
fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The header of a log that SQLite would read.
struct Log {
    big_endian: bool,
    page: usize,
    salts: [u8; 8],
    sum: Sum,
}

impl Log {
    fn parse(header: &[u8]) -> Option<Self> {
        let (magic, page) = (number(header, 0), number(header, 8));
        let big_endian = magic & 1 == 1;
        let sum = Sum(0, 0).add(&header[..24], big_endian);
        let fits = magic & !1 == MAGIC && page.is_power_of_two() && (512..=65_536).contains(&page);
        let salts = header[16..24].try_into().ok()?;
        (fits && sum == Sum(number(header, 24), number(header, 28))).then_some(Self {
            big_endian,
            page: page as usize,
            salts,
            sum,
        })
    }
}

/// What a walk over all frames found.
#[derive(Debug, Default)]
struct Walk {
    frames: usize,
    /// Up to the first one that cannot be read.
    readable: usize,
    /// Commits behind that.
    commits: usize,
    /// One of those, and a frame that continues its checksum.
    continued: bool,
}

impl Walk {
    fn over(log: &Log, mut file: impl Read) -> io::Result<Self> {
        let mut walk = Self::default();
        let mut frame = vec![0; FRAME_HEADER + log.page];
        let mut sum = log.sum;
        // The checksum that a commit behind the first unreadable frame says it has.
        let mut commit = None;
        while fill(&mut file, &mut frame)? == frame.len() {
            walk.frames += 1;
            let told = Sum(number(&frame, 16), number(&frame, 20));
            let ours = number(&frame, 0) != 0 && frame[8..16] == log.salts;
            let after = |sum: Sum| {
                sum.add(&frame[..8], log.big_endian).add(&frame[FRAME_HEADER..], log.big_endian)
            };
            if walk.readable + 1 == walk.frames && ours && after(sum) == told {
                walk.readable += 1;
                sum = told;
                continue;
            }
            walk.continued |= ours && commit.is_some_and(|commit| after(commit) == told);
            commit = (ours && number(&frame, 4) != 0).then_some(told);
            walk.commits += usize::from(commit.is_some());
        }
        Ok(walk)
    }

    /// Whether a commit was synced that cannot be read, by the log alone.
    fn lost(&self) -> bool {
        self.continued || self.commits > 1
    }
}

/// What is wrong with the log of the database at `path`, if anything. Nobody may be writing it.
pub(super) fn look(path: &Path) -> io::Result<Option<Damage>> {
    let found = look_once(path)?;
    // An operator's `sqlite3` may have written it meanwhile. What is damaged stays so.
    if found.is_some() { look_once(path) } else { Ok(found) }
}

fn look_once(path: &Path) -> io::Result<Option<Damage>> {
    let file = match File::open(with(path, "-wal")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut file = BufReader::with_capacity(1 << 20, file);
    let mut header = [0; HEADER];
    if fill(&mut file, &mut header)? < HEADER {
        return Ok(None);
    }
    let id = format!("{:08x}", crc(&header));
    let Some(log) = Log::parse(&header) else {
        // It is synced before any frame is written: where frames are, it was whole.
        let what = "its header cannot be read, and frames follow it";
        return Ok(is_filled(file)?.then(|| Damage { id, what: what.into() }));
    };
    let walk = Walk::over(&log, file)?;
    let committed = committed(path, &log)?;
    let Walk { frames, readable, .. } = walk;
    let what = match committed {
        Some(committed) if committed > readable => {
            format!("{committed} of its frames were committed, and only {readable} can be read")
        }
        _ if walk.lost() => format!(
            "frame {} of {frames} cannot be read, and commits follow it: {}",
            readable + 1,
            walk.commits
        ),
        _ => return Ok(None),
    };
    Ok(Some(Damage { id, what }))
}

/// How many frames of this log were committed, as far as its index tells.
fn committed(path: &Path, log: &Log) -> io::Result<Option<usize>> {
    let mut index = [0; 2 * INDEX_HEADER];
    match File::open(with(path, "-shm")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => {
            if fill(&mut opened?, &mut index)? < index.len() {
                return Ok(None);
            }
        }
    }
    let (one, other) = index.split_at(INDEX_HEADER);
    // Its numbers are in the order of bytes of this machine.
    let own = |at: usize| u32::from_ne_bytes([one[at], one[at + 1], one[at + 2], one[at + 3]]);
    let sum = Sum(0, 0).add(&one[..40], cfg!(target_endian = "big"));
    let whole = one == other && one[12] != 0 && sum == Sum(own(40), own(44));
    Ok((whole && one[32..40] == log.salts).then(|| own(16) as usize))
}

/// Keeps the damaged log beside the database, under the name that is answered.
pub(super) fn keep(path: &Path, damage: &Damage) -> io::Result<PathBuf> {
    let kept = with(path, &format!("-wal.damaged-{}", damage.id));
    if !kept.exists() {
        let copying = with(path, "-wal.copying");
        fs::copy(with(path, "-wal"), &copying)?;
        File::open(&copying)?.sync_all()?;
        fs::rename(&copying, &kept)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(kept)
}

/// A name for the log: salts are random.
fn crc(header: &[u8]) -> u32 {
    let Sum(a, b) = Sum(0, 0).add(header, false);
    a ^ b
}

/// Reads until the buffer is full, or there is no more.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Whether any byte is there that is not zero: blocks that a file system has not written are zeros.
fn is_filled(mut file: impl Read) -> io::Result<bool> {
    let mut chunk = vec![0; 1 << 16];
    loop {
        let read = fill(&mut file, &mut chunk)?;
        if read == 0 {
            return Ok(false);
        }
        if chunk[..read].iter().any(|byte| *byte != 0) {
            return Ok(true);
        }
    }
}
