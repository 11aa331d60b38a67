//! Sizes as people write them: `65536`, `"64KiB"`, `"256MiB"`, `"1GiB"`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

const UNITS: [(&str, u64); 4] =
    [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// A size is rounded to a unit of which it holds so many,
const SOME: u64 = 1000;
/// unless it is exact with fewer digits than this has.
const FEW: u64 = 100_000;

/// A number of bytes. In JSON a whole number, or read from text with a binary unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// So many mebibytes.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// Reads a JSON number of bytes or a string with a unit.
    pub fn from_json(value: &Value) -> Result<Self, String> {
        match value {
            Value::Number(number) => {
                if let Some(bytes) = number.as_u64() {
                    Ok(Self(bytes))
                } else if number.as_f64().is_some_and(|n| n < 0.0) {
                    Err("must not be negative".into())
                } else {
                    Err("must be a whole number of bytes, below 2^64".into())
                }
            }
            Value::String(text) => text.parse(),
            _ => Err("must be a number of bytes or a string such as \"64MiB\"".into()),
        }
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        if text.starts_with('-') {
            return Err("must not be negative".into());
        }
        let bad =
            || format!("{text:?} is not a size; write bytes, \"64KiB\", \"256MiB\" or \"1GiB\"");
        let count: u64 = number.parse().map_err(|_| bad())?;
        let scale = match UNITS.iter().find(|(name, _)| *name == unit) {
            Some((_, scale)) => *scale,
            None if unit.is_empty() => 1,
            None => {
                // `64M` is a million to some and a mebibyte to others: never guessed.
                return Err(match binary_unit_for(unit) {
                    Some(meant) => format!("{text:?} is ambiguous; write \"{count}{meant}\""),
                    None => bad(),
                });
            }
        };
        count
            .checked_mul(scale)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is more than can be kept"))
    }
}

fn binary_unit_for(unit: &str) -> Option<&'static str> {
    let mut letters = unit.chars();
    let first = letters.next()?.to_ascii_uppercase();
    let rest = letters.as_str().to_ascii_lowercase();
    UNITS
        .iter()
        .map(|(name, _)| *name)
        .find(|name| name.starts_with(first) && ["", "b", "i", "ib"].contains(&rest.as_str()))
}

impl fmt::Display for ByteSize {
    /// For people, and such that it can be typed back: in the largest unit that is exact, or where
    /// that takes many digits, rounded down to about four of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_largest = |fits: &dyn Fn(u64) -> bool| {
            let unit = UNITS.iter().rev().find(|(_, scale)| fits(*scale))?;
            Some((unit.0, self.0 / unit.1))
        };
        let exact = in_largest(&|scale| self.0 >= scale && self.0.is_multiple_of(scale));
        let short = exact.filter(|(_, count)| *count < FEW);
        match short.or_else(|| in_largest(&|scale| self.0 / scale >= SOME)) {
            Some((unit, count)) => write!(f, "{count}{unit}"),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_json(&Value::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64KiB", 65_536),
            ("256MiB", 268_435_456),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn people_read_few_digits_and_can_type_them_back() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1000, "1000 bytes"),
            (4096, "4KiB"),
            (5000, "5000 bytes"),
            (1536 << 20, "1536MiB"),
            (1 << 44, "16TiB"),
            (33_554_432_123, "32000MiB"),
            (33_554_428 << 10, "32767MiB"),
        ] {
            assert_eq!(ByteSize(bytes).to_string(), text);
            let typed = text.trim_end_matches(" bytes").parse::<ByteSize>().unwrap();
            assert!(typed.0 <= bytes && typed.0 >= bytes - bytes / 1000, "{text}");
        }
    }

    #[test]
    fn ambiguous_units_say_what_to_write() {
        for (text, advice) in [
            ("64M", "64MiB"),
            ("512Mi", "512MiB"),
            ("1G", "1GiB"),
            ("10kb", "10KiB"),
            ("64mib", "64MiB"),
        ] {
            let error = text.parse::<ByteSize>().unwrap_err();
            assert!(error.contains(advice), "{text}: {error}");
        }
    }

    #[test]
    fn refuses_what_has_no_sense() {
        for text in
            ["", "MiB", "-1", "1.5MiB", "NaN", "64 MiB", "64MiB ", "99999999TiB", "é", "1é", "1𝕄iB"]
        {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
