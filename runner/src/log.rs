//! What an execution has said so far, as numbered events that any reader can read again.
//!
//! Readers come late, go away and come back; each must see the same events under the same numbers.
//! A list of events would do, but a job that writes single bytes would make it many times as large
//! as the output that was to be bounded. So bytes are kept in one piece for each stream, and an
//! event is a range of them:
//!
//! - an event that nobody has read yet grows with what follows on the same stream;
//! - after [`FINE`] events, an event is made only for [`COARSE`] bytes at a time, or at the end: the
//!   order *between* the two streams is then only as fine as that. Every byte is still there.
//!
//! No event ends within a UTF-8 character, so that text stays text.

use cloister_api::{Event, Payload, Timestamp};
use cloister_sandbox::Stream;

/// Events that are as fine as the job's writes and the readers' pace make them.
const FINE: usize = 1 << 16;
/// The least that makes an event after those.
const COARSE: usize = 4096;
/// No event grows beyond this: a line of the stream should be no burden.
const LARGEST: usize = 64 << 10;

#[derive(Clone, Copy, Debug)]
enum Entry {
    Started(Timestamp),
    Output { stream: Stream, start: usize, end: usize },
}

/// The bytes of one stream, and how many of them are in events.
#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    told: usize,
}

/// The events of one execution, without its result.
#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: Vec<Entry>,
    stdout: Kept,
    stderr: Kept,
    /// Entries before this one were read: they change no more.
    sealed: usize,
}

impl Log {
    pub(crate) fn started(&mut self, at: Timestamp) {
        self.entries.push(Entry::Started(at));
    }

    pub(crate) fn output(&mut self, stream: Stream, bytes: &[u8]) {
        self.kept(stream).bytes.extend_from_slice(bytes);
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
        self.stdout.bytes.len() + self.stderr.bytes.len() + self.entries.len() * size_of::<Entry>()
    }

    /// The event of this number, if there is one yet. From then on it stays as it is.
    pub(crate) fn read(&mut self, seq: u64) -> Option<Event> {
        let index = usize::try_from(seq).ok()?;
        let entry = *self.entries.get(index)?;
        self.sealed = self.sealed.max(index + 1);
        Some(match entry {
            Entry::Started(started_at) => Event::Started { seq, started_at },
            Entry::Output { stream, start, end } => {
                let payload = Payload::from(self.kept(stream).bytes[start..end].to_vec());
                match stream {
                    Stream::Stdout => Event::Stdout { seq, payload },
                    Stream::Stderr => Event::Stderr { seq, payload },
                }
            }
        })
    }

    fn kept(&mut self, stream: Stream) -> &mut Kept {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// Puts what is new on a stream into events.
    fn tell(&mut self, stream: Stream, all: bool) {
        let fine = self.entries.len() < FINE;
        let kept = self.kept(stream);
        let start = kept.told;
        let new = &kept.bytes[start..];
        let whole = if all { new.len() } else { whole_characters(new) };
        if whole == 0 || !(fine || all || whole >= COARSE) {
            return;
        }
        kept.told += whole;
        let end = kept.told;
        let open = self.entries.len() > self.sealed;
        match self.entries.last_mut() {
            Some(Entry::Output { stream: last, start: first, end: until })
                if open && *last == stream && end - *first <= LARGEST =>
            {
                *until = end;
            }
            _ => self.entries.push(Entry::Output { stream, start, end }),
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
    use super::*;

    fn text(event: Option<Event>) -> (u64, String) {
        match event {
            Some(Event::Stdout { seq, payload: Payload::Data(text) }) => (seq, text),
            Some(Event::Stderr { seq, payload: Payload::Data(text) }) => (seq, format!("!{text}")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn events_grow_until_they_are_read_and_then_stay() {
        let mut log = Log::default();
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
        let mut log = Log::default();
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
        let mut log = Log::default();
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
        let mut log = Log::default();
        let count = 300_000;
        for turn in 0..count {
            let stream = if turn % 2 == 0 { Stream::Stdout } else { Stream::Stderr };
            log.output(stream, b"x");
        }
        log.end();
        assert!(log.entries.len() <= FINE + count / COARSE + 2, "{}", log.entries.len());
        let read: usize =
            (0..log.len()).map(|seq| text(log.read(seq)).1.matches('x').count()).sum();
        assert_eq!(read, count);
    }
}
