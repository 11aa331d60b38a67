//! Ways in for the fuzz targets, which see only what is public; there in fuzzing builds alone. Each
//! takes whatever bytes come, and panics if something does not hold.

use std::{collections::HashMap, fs::File, io, os::fd::OwnedFd};

use cloister_api::{Bounds, ByteSize};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Host, cgroup,
    engine::{Handles, MAX_REPORT, Report},
    launcher::{Asked, Rules},
    wire::{self, MAX_START, MAX_STATUS, Reply, Request, Sizes, Start, Status},
};

/// A packet from the service to the launcher, behind four bytes that say how things stand there: how
/// many descriptors came and whether all did, which cells there are, and what is allowed.
pub fn launcher_request(data: &[u8]) {
    let Some((&[descriptors, cells, cores, flags], packet)) = data.split_first_chunk() else {
        return;
    };
    let Some(request) = decode::<Request>(packet) else { return };
    let Request::Prepare { cell, sizes, host_network, stdio } = request else { return };
    let max = Bounds {
        cpus: f64::from(cores.clamp(1, 128)),
        memory: ByteSize(u64::from(cores) << 30),
        ..Bounds::default()
    };
    let rules =
        Rules { max, network_host: flags & 1 != 0, max_cells: usize::from(flags >> 2).max(1) };
    let cells: HashMap<u64, u8> = (0..cells).map(|id| (id.into(), id)).collect();
    let (descriptors, whole) = (usize::from(descriptors), flags & 2 == 0);
    let asked = Asked { cell, sizes, host_network, stdio, descriptors, whole };
    if rules.judge(&asked, &cells).is_err() {
        return;
    }
    assert!(whole && descriptors == if stdio { 3 } else { 0 }, "{asked:?}");
    assert!(!cells.contains_key(&cell) && cells.len() < rules.max_cells, "{asked:?}");
    assert!(rules.network_host || !host_network, "{asked:?}");
    let max = &rules.max;
    assert!((1 << 20..=max.memory.0).contains(&sizes.memory), "{asked:?}");
    assert!((1..1 << 22).contains(&sizes.pids), "{asked:?}");
    // A tmpfs takes 0 for "no limit", and the kernel a negative one for an error.
    assert!((4096..1 << 63).contains(&sizes.disk), "{asked:?}");
    let most = u64::from(cores.clamp(1, 128)) * cgroup::CPU_PERIOD_US;
    assert!((1000..=most).contains(&sizes.cpu_quota_us), "{asked:?}");
}

/// A packet from the launcher to the service, behind a byte that says how many descriptors came.
pub fn reply(data: &[u8]) {
    let Some((&descriptors, packet)) = data.split_first() else { return };
    match decode::<Reply>(packet) {
        Some(Reply::Hello { host, .. }) => hello(&host),
        Some(Reply::Ready { attached, .. }) => {
            let wanted = 2
                + if attached.pipes { 3 } else { 0 }
                + usize::from(attached.kill)
                + usize::from(attached.brake)
                + usize::from(attached.oom)
                + attached.records.len();
            let came = usize::from(descriptors % 32);
            // Any that can be made non-blocking will do.
            let fds: Vec<OwnedFd> = (0..came)
                .map(|_| File::open("/dev/null").expect("there is /dev/null").into())
                .collect();
            let sorted = Handles::sort(attached, fds, &Sizes::default());
            assert_eq!(sorted.is_ok(), came >= wanted, "{came} of {wanted}");
        }
        _ => {}
    }
}

fn hello(json: &str) {
    let Ok(host) = serde_json::from_str::<Host>(json) else { return };
    let again = serde_json::to_string(&host).expect("a host can be written");
    assert_eq!(serde_json::from_str::<Host>(&again).expect("what was written reads"), host);
    let widest = Bounds::default();
    let bounds = host.bounds(&widest);
    assert!(bounds.cpus <= widest.cpus && bounds.memory <= host.memory.min(widest.memory));
    assert!(bounds.pids <= host.pids.min(widest.pids));
    assert!(bounds.open_files <= host.open_files.min(widest.open_files));
}

/// What comes over a cell's control socket, to PID 1 (first byte even) or to the engine (odd), in
/// pieces as long as the second byte says.
pub fn frames(data: &[u8]) {
    let Some((&[which, piece], stream)) = data.split_first_chunk() else { return };
    let piece = usize::from(piece).max(1);
    if which % 2 == 0 {
        split::<Start>(stream, piece, MAX_START);
    } else {
        split::<Status>(stream, piece, MAX_STATUS);
        report(stream, piece);
    }
}

/// However a stream is cut, the same messages come out of it.
fn split<T>(stream: &[u8], piece: usize, max: usize)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let mut whole = stream.to_vec();
    let expected = drain::<T>(&mut whole, max);
    let mut buffer = Vec::new();
    let (mut seen, mut end) = (Vec::new(), Ok(()));
    for piece in stream.chunks(piece) {
        buffer.extend_from_slice(piece);
        let (more, last) = drain::<T>(&mut buffer, max);
        seen.extend(more);
        end = last;
        if end.is_err() {
            break;
        }
    }
    assert_eq!(seen, expected.0);
    assert_eq!(end.is_err(), expected.1.is_err());
    for message in seen {
        let mut bytes = wire::frame(&message).expect("what was read can be written");
        let again = wire::unframe::<T>(&mut bytes, max).expect("what was written can be read");
        assert_eq!(again, Some(message));
        assert!(bytes.is_empty());
    }
}

fn drain<T: DeserializeOwned>(buffer: &mut Vec<u8>, max: usize) -> (Vec<T>, io::Result<()>) {
    let mut messages = Vec::new();
    loop {
        let before = buffer.len();
        match wire::unframe(buffer, max) {
            Ok(Some(message)) => {
                assert!(buffer.len() < before);
                messages.push(message);
            }
            Ok(None) => return (messages, Ok(())),
            Err(error) => return (messages, Err(error)),
        }
    }
}

/// The engine keeps no more of a report than it must.
fn report(stream: &[u8], piece: usize) {
    let (mut report, mut taken, mut said) = (Report::default(), 0, 0);
    for piece in stream.chunks(piece) {
        taken += piece.len();
        if report.take(piece, |_| said += 1).is_err() {
            break;
        }
        assert!(taken <= MAX_REPORT);
    }
    // A frame is a length and at least its kind.
    assert!(said <= MAX_REPORT / 5, "{said} of {taken} bytes");
}

/// `/proc/self/mountinfo` and `/proc/self/cgroup`, a NUL between them.
pub fn hierarchies(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (mounts, membership) = text.split_once('\0').unwrap_or((text, ""));
    for (top, own) in cgroup::folders(mounts, membership) {
        assert!(own.starts_with(&top), "{} is not below {}", own.display(), top.display());
        let inside = own.strip_prefix(&top).expect("as was asserted");
        assert!(!inside.components().any(|part| part == std::path::Component::ParentDir));
    }
}

/// A message that is all of `bytes`, which can be written and read again.
fn decode<T>(bytes: &[u8]) -> Option<T>
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let message = wire::decode(bytes).ok()?;
    let again = postcard::to_stdvec(&message).expect("what was read can be written");
    assert_eq!(wire::decode::<T>(&again).expect("what was written can be read"), message);
    Some(message)
}
