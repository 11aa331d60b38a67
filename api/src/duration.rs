//! Durations as people write them: `5`, `0.25`, `"500ms"`, `"5s"`, `"2m"`, `"1h"`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

/// A length of time. In JSON a number of seconds (whole ones without a fraction), or read from
/// text with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seconds(pub Duration);

impl Seconds {
    /// A whole number of seconds.
    pub const fn new(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Reads a JSON number of seconds or a string with a unit.
    pub fn from_json(value: &Value) -> Result<Self, String> {
        match value {
            Value::Number(number) => from_seconds(number.as_f64().unwrap_or(f64::INFINITY)),
            Value::String(text) => text.parse(),
            _ => Err("must be a number of seconds or a string such as \"500ms\" or \"2m\"".into()),
        }
    }
}

fn from_seconds(seconds: f64) -> Result<Seconds, String> {
    if seconds < 0.0 {
        return Err("must not be negative".into());
    }
    Duration::try_from_secs_f64(seconds)
        .map(Seconds)
        .map_err(|_| "is not a length of time that can be kept".into())
}

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let scale = match unit {
            "ms" => 0.001,
            "" | "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => {
                return Err(format!(
                    "{text:?} is not a duration; write seconds, \"500ms\", \"5s\", \"2m\" or \"1h\""
                ));
            }
        };
        // `f64::from_str` also takes "inf", "1e9" and "+5": none of them is how people write time.
        let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let negative = number.strip_prefix('-').is_some_and(|rest| rest.parse::<f64>().is_ok());
        match number.parse::<f64>() {
            _ if negative => Err("must not be negative".into()),
            Ok(value) if plain => from_seconds(value * scale),
            _ => Err(format!(
                "{text:?} is not a duration; write seconds, \"500ms\", \"5s\", \"2m\" or \"1h\""
            )),
        }
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let whole =
            |unit| self.0.subsec_nanos() == 0 && seconds > 0 && seconds.is_multiple_of(unit);
        match () {
            () if whole(3600) => write!(f, "{}h", seconds / 3600),
            () if whole(60) => write!(f, "{}m", seconds / 60),
            () => write!(f, "{}s", self.0.as_secs_f64()),
        }
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.subsec_nanos() == 0 {
            serializer.serialize_u64(self.0.as_secs())
        } else {
            serializer.serialize_f64(self.0.as_secs_f64())
        }
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_json(&Value::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, millis) in
            [("500ms", 500), ("5s", 5_000), ("0.3", 300), ("2m", 120_000), ("1h", 3_600_000)]
        {
            assert_eq!(text.parse(), Ok(Seconds(Duration::from_millis(millis))), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_as_the_same() {
        for text in ["184444035.0102471283", "4200679.4967264605", "0.1", "1.1h", "3153599999.9"] {
            let read: Seconds = text.parse().unwrap();
            let json = serde_json::to_string(&read).unwrap();
            assert_eq!(serde_json::from_str::<Seconds>(&json).unwrap(), read, "{text}: {json}");
        }
    }

    #[test]
    fn refuses_what_has_no_sense() {
        for text in ["", "s", "NaN", "inf", "1e9", "-1", "5 s", "5d", "5sec", "1.2.3", "ms5"] {
            assert!(text.parse::<Seconds>().is_err(), "{text}");
        }
        for json in ["-1", "1e300", "null", "true", "[]"] {
            let value = serde_json::from_str(json).unwrap();
            assert!(Seconds::from_json(&value).is_err(), "{json}");
        }
    }

    #[test]
    fn people_read_the_largest_unit_that_is_exact() {
        for text in ["1h", "2m", "90s", "0.5s", "30s", "0s", "25h"] {
            assert_eq!(text.parse::<Seconds>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn whole_seconds_are_answered_whole() {
        let json = |text: &str| serde_json::to_string(&text.parse::<Seconds>().unwrap()).unwrap();
        assert_eq!(json("30"), "30");
        assert_eq!(json("500ms"), "0.5");
    }
}
