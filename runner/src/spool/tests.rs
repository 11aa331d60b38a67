//! The spool alone: what is appended is read, whatever the disk does.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    sync::Arc,
    time::{Duration, Instant},
};

use cloister_sandbox::{Resume, Room};
use cloister_tests::Scratch;
use nix::unistd::Uid;

use super::{Cut, IN_MEMORY, Output, QUEUE, QUEUE_OF_ONE, Spool, SpoolFolder, Work};

const QUOTA: u64 = 1 << 30;
const USER: u32 = 61_840;

fn folder(scratch: &Scratch) -> SpoolFolder {
    SpoolFolder::open(&scratch.join("a/spool"), USER).unwrap()
}

fn spool(scratch: &Scratch) -> Spool {
    Spool::new(Some(folder(scratch)), QUOTA).unwrap()
}

async fn all(output: &Output) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let read = output.read(bytes.len() as u64, 10_000).await.unwrap();
        if read.is_empty() {
            return bytes;
        }
        bytes.extend_from_slice(&read);
    }
}

/// Waits until the thread has done what there was to do; nothing tells a test of it.
fn until(mut done: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < patience, "the spool's thread does not get on");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

#[tokio::test]
async fn short_outputs_need_no_file_and_long_ones_no_memory() {
    let scratch = Scratch::new("spool");
    let spool = spool(&scratch);
    let (short, long) = (spool.output(), spool.output());
    let bytes = pattern(IN_MEMORY);
    short.append(&bytes);
    assert_eq!(short.short(), Some(bytes.clone()));
    for chunk in bytes.chunks(1000).cycle().take(500) {
        long.append(chunk);
    }
    let expected: Vec<u8> = bytes.chunks(1000).cycle().take(500).flatten().copied().collect();
    assert_eq!((long.short(), long.len()), (None, expected.len() as u64));
    assert_eq!(all(&long).await, expected, "whatever is written already");
    until(|| spool.in_memory() == IN_MEMORY as u64);
    assert_eq!(all(&long).await, expected);
    assert_eq!(spool.held(), (IN_MEMORY + expected.len()) as u64);
    assert!(long.read(u64::MAX, 10).await.unwrap().is_empty(), "there is nothing beyond the end");
    let entries = fs::read_dir(scratch.join("a/spool")).unwrap().count();
    assert_eq!(entries, 0, "files have no names");
    drop((short, long));
    assert_eq!((spool.held(), spool.in_memory()), (0, 0));
}

#[test]
fn what_is_appended_while_the_thread_writes_is_counted_once() {
    let scratch = Scratch::new("spool");
    let spool = spool(&scratch);
    let output = spool.output();
    output.append(&pattern(IN_MEMORY + 1));
    for _ in 0..20_000 {
        output.append(b"x");
    }
    until(|| spool.in_memory() == 0 && spool.0.queue().bytes == 0);
    assert_eq!(output.len(), (IN_MEMORY + 1 + 20_000) as u64);
}

#[tokio::test]
async fn a_quota_that_is_used_up_ends_outputs() {
    let scratch = Scratch::new("spool");
    let spool = Spool::new(Some(folder(&scratch)), 100_000).unwrap();
    let (first, second) = (spool.output(), spool.output());
    first.append(&pattern(99_990));
    assert_eq!((second.room(None), spool.is_full()), (Room::Now(10), false));
    second.append(&[b'x'; 10]);
    assert_eq!((first.room(None), first.cut()), (Room::Never, Some(Cut::Full)));
    assert!(spool.is_full());
    assert_eq!(all(&first).await, pattern(99_990));
    drop(second);
    // What was dropped in between would be a gap.
    assert_eq!((first.room(None), spool.is_full()), (Room::Never, false));
    assert_eq!(spool.output().room(None), Room::Now(10));
}

/// A folder whose files can't be written: their file system has no room.
fn full_folder(scratch: &Scratch) -> Option<SpoolFolder> {
    let path = scratch.join("tiny");
    fs::create_dir(&path).unwrap();
    let size = format!("size={}", 256 << 10);
    let mounted = nix::mount::mount(
        Some("tmpfs"),
        &path,
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        Some(size.as_str()),
    );
    mounted.is_ok().then(|| SpoolFolder::open(&path, USER).unwrap())
}

#[tokio::test]
async fn what_a_full_disk_does_not_take_stays_readable() {
    assert!(Uid::effective().is_root(), "this test runs as root");
    let scratch = Scratch::new("spool");
    // A mount namespace of this thread alone, which takes the mount along when the test ends.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS | nix::sched::CloneFlags::CLONE_NEWNS)
        .unwrap();
    let private = nix::mount::MsFlags::MS_PRIVATE | nix::mount::MsFlags::MS_REC;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    let spool = Spool::new(full_folder(&scratch), QUOTA).unwrap();
    let output = spool.output();
    let resume = Resume::idle();
    let mut written = Vec::new();
    until(|| match output.room(Some(&resume)) {
        Room::Now(_) => {
            written.extend_from_slice(&pattern(10_000));
            output.append(&pattern(10_000));
            false
        }
        Room::Later => false,
        Room::Never => true,
    });
    assert_eq!(output.cut(), Some(Cut::Failed));
    assert!(written.len() > 256 << 10, "the disk took what it could: {}", written.len());
    assert_eq!(all(&output).await, written);
    assert!(spool.in_memory() < (QUEUE_OF_ONE + IN_MEMORY) as u64, "{}", spool.in_memory());
    // Others find the room that it had in the queue.
    assert_eq!(spool.0.queue().bytes, 0);
    drop(output);
    assert_eq!((spool.held(), spool.in_memory()), (0, 0));
    let next = spool.output();
    next.append(&pattern(100_000));
    until(|| spool.in_memory() == 0);
    assert_eq!(all(&next).await, pattern(100_000), "the disk has room again");
    // The folder can be removed only where nothing is mounted.
    nix::mount::umount2(&scratch.join("tiny"), nix::mount::MntFlags::MNT_DETACH).unwrap();
}

/// Takes the place of the thread, so that a test decides when it writes.
fn by_hand(scratch: &Scratch) -> Spool {
    let spool = spool(scratch);
    let shared = Arc::new(super::Shared {
        folder: spool.0.folder.clone(),
        quota: QUOTA,
        held: 0.into(),
        in_memory: 0.into(),
        queue: std::sync::Mutex::default(),
        work: std::sync::Condvar::new(),
    });
    Spool(shared)
}

#[test]
fn who_finds_no_room_in_the_queue_waits_for_it() {
    let scratch = Scratch::new("spool");
    let spool = by_hand(&scratch);
    let resume = Resume::idle();
    let waiting = || spool.0.queue().waiting.len();
    let fill = |output: &Arc<Output>| {
        while let Room::Now(_) = output.room(Some(&resume)) {
            output.append(&pattern(IN_MEMORY));
        }
    };
    let first = spool.output();
    fill(&first);
    assert_eq!(first.len(), (QUEUE_OF_ONE) as u64, "one takes a part");
    let others: Vec<_> = (0..QUEUE / QUEUE_OF_ONE).map(|_| spool.output()).collect();
    for output in &others {
        fill(output);
    }
    let queued = spool.0.queue().bytes;
    assert!((QUEUE..=QUEUE + 2 * IN_MEMORY).contains(&queued), "{queued}");
    // At a job's end there is no waiting, and what is short needs no queue.
    assert!(matches!(first.room(None), Room::Now(_)));
    assert!(matches!(spool.output().room(Some(&resume)), Room::Now(_)));
    let before = waiting();
    assert_eq!(before, others.len() + 1);
    first.write();
    assert!(waiting() < before, "some are resumed, since some was written");
    let next = || spool.0.queue().work.pop_front();
    while let Some(Work::Write(output)) = next() {
        output.upgrade().unwrap().write();
    }
    assert_eq!((waiting(), spool.0.queue().bytes), (0, 0));
    fill(&first);
    assert_eq!(waiting(), 1);
    drop(first);
    assert_eq!((waiting(), spool.0.queue().bytes), (0, 0), "nobody waits for what is gone");
}

#[test]
fn a_folder_is_private_and_not_taken_from_others() {
    let scratch = Scratch::new("spool");
    let path = scratch.join("a/spool");
    let open = folder(&scratch);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    drop(open);
    folder(&scratch);
    let other = scratch.join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("file"), "text").unwrap();
    let error = SpoolFolder::open(&other, USER).unwrap_err().to_string();
    assert!(error.contains("is not empty") && error.contains("--spool"), "{error}");
    let error = SpoolFolder::open(&other.join("file"), USER).unwrap_err().to_string();
    assert!(error.contains("other/file"), "{error}");
    assert!(SpoolFolder::open(&other.join("file/below"), USER).is_err());
}
