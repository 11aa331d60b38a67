//! Encoders that take a stream piece by piece, so that output is never held whole.
//!
//! Cut anywhere, the pieces give what the whole gives at once: [`String::from_utf8_lossy`] and
//! `serde_json` for text, `base64` for exact bytes.

use std::{mem, str};

use base64::{Engine, prelude::BASE64_STANDARD};

/// What invalid bytes become in text.
const REPLACEMENT: &str = "\u{FFFD}";
/// The longest character, in bytes.
const LONGEST: usize = 4;
/// Bytes that base64 encodes together.
const GROUP: usize = 3;

/// A part of a stream.
enum Part<'a> {
    Text(&'a str),
    /// One maximal sequence that is not UTF-8.
    Invalid,
}

/// Finds characters across cuts.
#[derive(Debug, Default)]
struct Decoder {
    /// The start of a character whose rest has not come.
    pending: [u8; LONGEST],
    length: usize,
}

impl Decoder {
    fn push(&mut self, mut bytes: &[u8], mut take: impl FnMut(Part<'_>)) {
        while self.length > 0 {
            let Some((&byte, rest)) = bytes.split_first() else { return };
            self.pending[self.length] = byte;
            match str::from_utf8(&self.pending[..=self.length]) {
                Ok(character) => {
                    take(Part::Text(character));
                    (self.length, bytes) = (0, rest);
                }
                Err(error) if error.error_len().is_none() => {
                    (self.length, bytes) = (self.length + 1, rest);
                }
                // The byte does not continue the character. It may start the next.
                Err(_) => {
                    take(Part::Invalid);
                    self.length = 0;
                }
            }
        }
        // By far the most common, and checked many bytes at once.
        if let Ok(text) = str::from_utf8(bytes) {
            return take(Part::Text(text));
        }
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            take(Part::Text(chunk.valid()));
            let invalid = chunk.invalid();
            let incomplete = str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none());
            // Only at the end can the rest of a character still come.
            if incomplete && chunks.peek().is_none() {
                self.pending[..invalid.len()].copy_from_slice(invalid);
                self.length = invalid.len();
            } else if !invalid.is_empty() {
                take(Part::Invalid);
            }
        }
    }

    /// Whether a character was left incomplete.
    fn finish(&mut self) -> bool {
        mem::take(&mut self.length) > 0
    }
}

/// A stream as the inside of a JSON string, without its quotes.
///
/// Each maximal invalid sequence becomes U+FFFD, exactly as [`String::from_utf8_lossy`] does it;
/// characters are escaped exactly as `serde_json` does it. A byte becomes at most six.
#[derive(Debug, Default)]
pub struct TextEncoder(Decoder);

impl TextEncoder {
    /// Appends to `out` what is now certain of the text.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.0.push(bytes, |part| match part {
            Part::Text(text) => escape(text, out),
            Part::Invalid => out.extend_from_slice(REPLACEMENT.as_bytes()),
        });
    }

    /// Appends what was still open, at the end of the stream. The encoder is then as new.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.0.finish() {
            out.extend_from_slice(REPLACEMENT.as_bytes());
        }
    }
}

/// As `serde_json` escapes.
fn escape(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= b' ' && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[from..at]);
        from = at + 1;
        let short = match byte {
            b'"' | b'\\' => byte,
            b'\x08' => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            b'\x0c' => b'f',
            b'\r' => b'r',
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 0xf)]);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
    out.extend_from_slice(&bytes[from..]);
}

/// A stream as base64: the standard alphabet, padded.
#[derive(Debug, Default)]
pub struct Base64Encoder {
    /// The start of a group whose rest has not come.
    pending: [u8; GROUP],
    length: usize,
}

impl Base64Encoder {
    /// Appends to `out` all whole groups.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        if self.length > 0 {
            let (more, rest) = bytes.split_at(bytes.len().min(GROUP - self.length));
            self.pending[self.length..self.length + more.len()].copy_from_slice(more);
            self.length += more.len();
            bytes = rest;
            if self.length < GROUP {
                return;
            }
            append(&self.pending, out);
        }
        let (whole, rest) = bytes.split_at(bytes.len() - bytes.len() % GROUP);
        append(whole, out);
        self.pending[..rest.len()].copy_from_slice(rest);
        self.length = rest.len();
    }

    /// Appends the last group with its padding. The encoder is then as new.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        append(&self.pending[..mem::take(&mut self.length)], out);
    }
}

fn append(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(GROUP) * 4, 0);
    BASE64_STANDARD
        .encode_slice(bytes, &mut out[start..])
        .expect("four characters for each three bytes");
}

/// Tells whether a stream is UTF-8.
#[derive(Debug, Default)]
pub struct Utf8Checker {
    decoder: Decoder,
    invalid: bool,
}

impl Utf8Checker {
    /// Looks at the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        // Nothing makes it valid again.
        if !self.invalid {
            let invalid = &mut self.invalid;
            self.decoder.push(bytes, |part| *invalid |= matches!(part, Part::Invalid));
        }
    }

    /// Whether all were UTF-8, at the end of the stream. The checker is then as new.
    pub fn finish(&mut self) -> bool {
        let incomplete = self.decoder.finish();
        !(mem::take(&mut self.invalid) || incomplete)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// All three encoders against the whole, the stream cut into `pieces`.
    fn agrees<'a>(pieces: impl Iterator<Item = &'a [u8]> + Clone) {
        let whole: Vec<u8> = pieces.clone().flatten().copied().collect();
        let (mut text, mut base64) = (b"\"".to_vec(), Vec::new());
        let (mut as_text, mut as_base64) = (TextEncoder::default(), Base64Encoder::default());
        let mut checker = Utf8Checker::default();
        for piece in pieces {
            as_text.push(piece, &mut text);
            as_base64.push(piece, &mut base64);
            checker.push(piece);
        }
        as_text.finish(&mut text);
        as_base64.finish(&mut base64);
        text.push(b'"');
        let expected = serde_json::to_vec(&String::from_utf8_lossy(&whole)).unwrap();
        assert_eq!(text, expected, "{whole:x?}");
        assert_eq!(base64, BASE64_STANDARD.encode(&whole).into_bytes(), "{whole:x?}");
        assert_eq!(checker.finish(), str::from_utf8(&whole).is_ok(), "{whole:x?}");
    }

    /// One byte of each class that UTF-8 tells apart, and what JSON escapes.
    const CLASSES: [u8; 18] = [
        b'a', b'"', 0x1f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc1, 0xc2, 0xe0, 0xe1, 0xed, 0xf0,
        0xf1, 0xf4, 0xf5,
    ];

    #[test]
    fn every_sequence_cut_everywhere_is_as_the_whole() {
        // Four bytes, cut at up to three places: no character and no group is longer.
        for number in 0..CLASSES.len().pow(4) {
            let bytes = [0, 1, 2, 3]
                .map(|place| CLASSES[number / CLASSES.len().pow(place) % CLASSES.len()]);
            agrees([&bytes[..]].into_iter());
            agrees(bytes.chunks(1));
            for cut in 1..4 {
                agrees([&bytes[..cut], &[], &bytes[cut..]].into_iter());
            }
        }
    }

    #[test]
    fn every_ascii_character_is_escaped_as_serde_json_does() {
        for byte in 0..=0x7f {
            agrees([&[b'x', byte, byte, b'y'][..]].into_iter());
        }
    }

    #[test]
    fn an_encoder_starts_again_after_its_end() {
        let (mut text, mut base64) = (TextEncoder::default(), Base64Encoder::default());
        let (mut checker, mut out) = (Utf8Checker::default(), Vec::new());
        for _ in 0..2 {
            text.push(b"\xe2\x82", &mut out);
            text.finish(&mut out);
            base64.push(b"\xe2\x82", &mut out);
            base64.finish(&mut out);
            checker.push(b"\xe2\x82");
            assert!(!checker.finish());
        }
        checker.push(b"ok");
        assert!(checker.finish());
        assert_eq!(String::from_utf8(out).unwrap(), "\u{FFFD}4oI=\u{FFFD}4oI=");
    }

    proptest! {
        #[test]
        fn streams_are_encoded_as_the_whole(
            pieces in vec(prop_oneof![
                vec(any::<u8>(), 0..9),
                any::<String>().prop_map(String::into_bytes),
                "[\u{80}-\u{10FFFF}]{1,3}".prop_map(String::into_bytes),
            ], 0..6),
            size in 1_usize..9,
        ) {
            let whole = pieces.concat();
            agrees(whole.chunks(size));
            agrees(pieces.iter().map(Vec::as_slice));
        }
    }
}
