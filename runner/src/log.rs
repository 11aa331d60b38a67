//! What an execution has said so far, as numbered events that any reader can read again.
//!
//! Readers come late, go away and come back; each must see the same events under the same numbers.
//! A list of events would do, but a job that writes single bytes would make it many times as large
//! as the output that was to be bounded. So the bytes are kept apart, in one piece for each stream, and
//! an event is a range of them:
//!
//! - an event that nobody has read yet grows with what follows on the same stream;
//! - after [`FINE`] events, an event is made only for [`COARSE`] bytes at a time, or at the end: the
//!   order *between* the two streams is then only as fine as that. Every byte is still there.
//!
//! No event ends within a UTF-8 character, so that text stays text.

use std::ops::Range;

use cloister_api::Timestamp;
use cloister_sandbox::Stream;

/// Events that are as fine as the job's writes and the readers' pace make them.
const FINE: usize = 1 << 16;
/// The least that makes an event after those.
const COARSE: u64 = 4096;
/// No event grows beyond this: a line of the stream should be no burden.
const LARGEST: u64 = 64 << 10;
/// Bytes at the end of a stream that may be the start of a character.
const TAIL: usize = 3;

/// What an event is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Started(Timestamp),
    Output { stream: Stream, range: Range<u64> },
}

/// An entry in twelve bytes, since there may be many. A length of none stands for the start of the
/// command.
#[derive(Clone, Copy, Debug, Default)]
struct Packed {
    start: [u32; 2],
    length: u32,
}

impl Packed {
    /// The bit of the start that tells the streams apart.
    const STDERR: u64 = 1 << 63;

    fn output(stream: Stream, start: u64, length: u32) -> Self {
        let stderr = if stream == Stream::Stderr { Self::STDERR } else { 0 };
        let start = start | stderr;
        #[expect(clippy::cast_possible_truncation, reason = "both halves are kept")]
        let start = [(start >> 32) as u32, start as u32];
        Self { start, length }
    }

    fn entry(self) -> Option<(Stream, Range<u64>)> {
        let [high, low] = self.start.map(u64::from);
        let start = high << 32 | low;
        let stream = if start & Self::STDERR == 0 { Stream::Stdout } else { Stream::Stderr };
        let start = start & !Self::STDERR;
        (self.length > 0).then(|| (stream, start..start + u64::from(self.length)))
    }
}

/// How much there is of one stream, and how much of it is in events.
#[derive(Debug, Default)]
struct Progress {
    length: u64,
    told: u64,
    /// The last bytes.
    tail: Vec<u8>,
}

impl Progress {
    fn extend(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL)..]);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
    }

    /// How much of what is not told comes before an unfinished character at its end.
    fn whole(&self) -> u64 {
        let new = self.length - self.told;
        let tail =
            &self.tail[self.tail.len().saturating_sub(usize::try_from(new).unwrap_or(TAIL))..];
        new - (tail.len() - whole_characters(tail)) as u64
    }
}

/// The events of one execution, without its result.
#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: Vec<Packed>,
    started: Option<Timestamp>,
    stdout: Progress,
    stderr: Progress,
    /// Entries before this one were read: they change no more.
    sealed: usize,
}

impl Log {
    pub(crate) fn started(&mut self, at: Timestamp) {
        self.started = Some(at);
        self.entries.push(Packed::default());
    }

    /// These bytes were added to a stream.
    pub(crate) fn output(&mut self, stream: Stream, bytes: &[u8]) {
        self.stream(stream).extend(bytes);
        self.tell(stream, false);
    }

    /// Nothing follows: what was held back becomes events.
    pub(crate) fn end(&mut self) {
        self.tell(Stream::Stdout, true);
        self.tell(Stream::Stderr, true);
    }

    /// How many events there are: the number of the next one.
    pub(crate) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The bytes of memory that it holds, about.
    pub(crate) fn size(&self) -> usize {
        self.entries.len() * size_of::<Packed>()
    }

    /// The entry of this number, if there is one yet. From then on it stays as it is.
    pub(crate) fn read(&mut self, seq: u64) -> Option<Entry> {
        let index = usize::try_from(seq).ok()?;
        let entry = *self.entries.get(index)?;
        self.sealed = self.sealed.max(index + 1);
        Some(match entry.entry() {
            None => Entry::Started(self.started?),
            Some((stream, range)) => Entry::Output { stream, range },
        })
    }

    fn stream(&mut self, stream: Stream) -> &mut Progress {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// Puts what is new on a stream into events.
    fn tell(&mut self, stream: Stream, all: bool) {
        let fine = self.entries.len() < FINE;
        let told = self.stream(stream);
        let start = told.told;
        let whole = if all { told.length - start } else { told.whole() };
        if whole == 0 || !(fine || all || whole >= COARSE) {
            return;
        }
        // The engine appends 64 KiB at once: it always fits.
        let length = u32::try_from(whole).unwrap_or(u32::MAX);
        told.told += u64::from(length);
        let open = self.entries.len() > self.sealed;
        if let Some(entry) = self.entries.last_mut().filter(|_| open)
            && let Some((last, range)) = entry.entry()
            && last == stream
            && range.end - range.start <= LARGEST
        {
            entry.length = entry.length.saturating_add(length);
        } else {
            self.entries.push(Packed::output(stream, start, length));
        }
    }
}

/// How many of these bytes come before an unfinished UTF-8 character at their end. Bytes that can't
/// become a character are not waited for.
fn whole_characters(bytes: &[u8]) -> usize {
    for (back, byte) in bytes.iter().rev().take(3).enumerate() {
        let needs = match byte {
            0b1000_0000..=0b1011_1111 => continue,
            0b1100_0000..=0b1101_1111 => 2,
            0b1110_0000..=0b1110_1111 => 3,
            0b1111_0000..=0b1111_0111 => 4,
            _ => return bytes.len(),
        };
        return if needs > back + 1 { bytes.len() - back - 1 } else { bytes.len() };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use cloister_api::{Event, Payload};

    use super::*;

    /// A log, and the bytes that it tells of.
    #[derive(Default)]
    struct Book {
        log: Log,
        bytes: [Vec<u8>; 2],
    }

    impl Book {
        fn output(&mut self, stream: Stream, bytes: &[u8]) {
            self.bytes[stream as usize].extend_from_slice(bytes);
            self.log.output(stream, bytes);
        }

        fn end(&mut self) {
            self.log.end();
        }

        fn len(&self) -> u64 {
            self.log.len()
        }

        fn read(&mut self, seq: u64) -> Option<Event> {
            Some(match self.log.read(seq)? {
                Entry::Started(started_at) => Event::Started { seq, started_at },
                Entry::Output { stream, range } => {
                    let range =
                        usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
                    let payload = Payload::from(self.bytes[stream as usize][range].to_vec());
                    match stream {
                        Stream::Stdout => Event::Stdout { seq, payload },
                        Stream::Stderr => Event::Stderr { seq, payload },
                    }
                }
            })
        }
    }

    fn text(event: Option<Event>) -> (u64, String) {
        match event {
            Some(Event::Stdout { seq, payload: Payload::Data(text) }) => (seq, text),
            Some(Event::Stderr { seq, payload: Payload::Data(text) }) => (seq, format!("!{text}")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn events_grow_until_they_are_read_and_then_stay() {
        let mut log = Book::default();
        log.output(Stream::Stdout, b"a");
        log.output(Stream::Stdout, b"b");
        assert_eq!(text(log.read(0)), (0, "ab".into()));
        log.output(Stream::Stdout, b"c");
        log.output(Stream::Stderr, b"d");
        log.output(Stream::Stdout, b"e");
        assert_eq!(text(log.read(0)), (0, "ab".into()));
        assert_eq!(text(log.read(1)), (1, "c".into()));
        assert_eq!(text(log.read(2)), (2, "!d".into()));
        assert_eq!(text(log.read(3)), (3, "e".into()));
        assert_eq!(log.read(4), None);
        assert_eq!(log.len(), 4);
    }

    #[test]
    fn characters_are_not_cut() {
        let mut log = Book::default();
        let bytes = "é€😀".as_bytes();
        for byte in bytes {
            log.output(Stream::Stdout, &[*byte]);
            // Reading seals, so that each character becomes an event of its own.
            log.read(log.len().saturating_sub(1));
        }
        let seen: Vec<_> = (0..log.len()).map(|seq| text(log.read(seq)).1).collect();
        assert_eq!(seen, ["é", "€", "😀"]);
    }

    #[test]
    fn what_is_no_text_is_passed_on_as_it_is() {
        let mut log = Book::default();
        log.output(Stream::Stdout, &[0xff, 0x80, 0x80, 0x80, 0x80]);
        log.output(Stream::Stdout, &[0xe2, 0x82]);
        log.end();
        let bytes: usize = (0..log.len())
            .map(|seq| match log.read(seq) {
                Some(Event::Stdout { payload: Payload::DataBase64(text), .. }) => {
                    text.len() / 4 * 3
                }
                other => panic!("{other:?}"),
            })
            .sum();
        assert!(bytes >= 7, "{bytes}");
    }

    #[test]
    fn single_bytes_cost_little_and_none_is_lost() {
        let mut log = Book::default();
        let count = 300_000;
        for turn in 0..count {
            let stream = if turn % 2 == 0 { Stream::Stdout } else { Stream::Stderr };
            log.output(stream, b"x");
        }
        log.end();
        assert!(log.log.entries.len() <= FINE + count / 4096 + 2, "{}", log.log.entries.len());
        let read: usize =
            (0..log.len()).map(|seq| text(log.read(seq)).1.matches('x').count()).sum();
        assert_eq!(read, count);
    }
}
