//! Reads a JSON object field by field and keeps every fault with its JSON pointer.
//!
//! A derived `Deserialize` stops at the first fault and cannot say where it was; a person who sends
//! a job with three mistakes should be told three things.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::FieldProblem;

/// Items of an array whose faults are told.
const MAX_FAULTY: usize = 16;

/// A JSON object being read. Fields that were never asked for are unknown, and a fault.
pub(crate) struct Fields<'a> {
    pointer: String,
    map: &'a Map<String, Value>,
    known: Vec<&'static str>,
    faults: &'a mut Vec<FieldProblem>,
}

impl<'a> Fields<'a> {
    /// Starts on `value`, which must be an object; `pointer` is where it stands in the body.
    pub(crate) fn of(
        value: &'a Value,
        pointer: &str,
        faults: &'a mut Vec<FieldProblem>,
    ) -> Option<Self> {
        if let Value::Object(map) = value {
            Some(Self { pointer: pointer.into(), map, known: Vec::new(), faults })
        } else {
            faults.push(FieldProblem {
                pointer: pointer.into(),
                detail: "must be a JSON object".into(),
            });
            None
        }
    }

    /// Notes a fault of the field `name`.
    pub(crate) fn fault(&mut self, name: &str, detail: impl Into<String>) {
        let pointer = format!("{}/{}", self.pointer, escape(name));
        self.faults.push(FieldProblem { pointer, detail: detail.into() });
    }

    /// Notes a fault of a member of the field `name`; `member` is escaped already.
    pub(crate) fn fault_within(&mut self, name: &str, member: &str, detail: impl Into<String>) {
        let pointer = format!("{}/{name}/{member}", self.pointer);
        self.faults.push(FieldProblem { pointer, detail: detail.into() });
    }

    /// Whether the field was sent at all.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// The raw value of a field, which is known from now on. `null` is a fault: it could mean
    /// "the default" or "no limit", and a limit is never guessed.
    pub(crate) fn raw(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        match self.map.get(name)? {
            Value::Null => {
                self.fault(name, "must not be null; leave it out for the default");
                None
            }
            value => Some(value),
        }
    }

    /// A field without a default, read by `parse` also where it is `null`.
    pub(crate) fn read_whatever<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&'a Value) -> Result<T, String>,
    ) -> Option<T> {
        self.known.push(name);
        parse(self.map.get(name)?).map_err(|detail| self.fault(name, detail)).ok()
    }

    /// A field read by `parse`, whose error becomes the fault.
    pub(crate) fn read<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&'a Value) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.raw(name)?;
        match parse(value) {
            Ok(value) => Some(value),
            Err(detail) => {
                self.fault(name, detail);
                None
            }
        }
    }

    /// An object within this one, read by `read`.
    pub(crate) fn object<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Fields<'_>) -> T,
    ) -> Option<T> {
        let value = self.raw(name)?;
        let pointer = format!("{}/{name}", self.pointer);
        let mut inner = Fields::of(value, &pointer, self.faults)?;
        let result = read(&mut inner);
        inner.finish();
        Some(result)
    }

    /// An array of objects within this one, each read by `read`; that it is missing is a fault. Not
    /// looked at any more once many of them were faulty: nobody reads so much.
    pub(crate) fn objects<T>(
        &mut self,
        name: &'static str,
        count: RangeInclusive<usize>,
        mut read: impl FnMut(&mut Fields<'_>) -> T,
    ) -> Vec<T> {
        let held = format!("must be an array of {} to {} objects", count.start(), count.end());
        let all = needed(self, name, |value| value.as_array().ok_or(held));
        let Some(all) = all else { return Vec::new() };
        if !count.contains(&all.len()) {
            let (least, most) = (count.start(), count.end());
            let detail = format!("must hold {least} to {most}, and holds {}", all.len());
            self.fault(name, detail);
            return Vec::new();
        }
        let (mut items, mut faulty) = (Vec::with_capacity(all.len()), 0);
        for (at, value) in all.iter().enumerate() {
            let before = self.faults.len();
            let pointer = format!("{}/{name}/{at}", self.pointer);
            if let Some(mut inner) = Fields::of(value, &pointer, self.faults) {
                items.push(read(&mut inner));
                inner.finish();
            }
            faulty += usize::from(self.faults.len() > before);
            if faulty == MAX_FAULTY {
                break;
            }
        }
        items
    }

    /// Makes every field that nobody asked for a fault, with the nearest known name where one is
    /// near.
    pub(crate) fn finish(mut self) {
        for name in self.map.keys() {
            if !self.known.contains(&name.as_str()) {
                let detail = match nearest(name, &self.known) {
                    Some(meant) => format!("is not a known field; did you mean {meant:?}?"),
                    None => "is not a known field".into(),
                };
                self.fault(name, detail);
            }
        }
    }
}

/// A field without a default: that it is missing is a fault.
pub(crate) fn needed<'a, T>(
    fields: &mut Fields<'a>,
    name: &'static str,
    parse: impl FnOnce(&'a Value) -> Result<T, String>,
) -> Option<T> {
    if !fields.has(name) {
        fields.fault(name, "is missing");
    }
    fields.read_whatever(name, parse)
}

/// `~` and `/` in a JSON pointer (RFC 6901, section 3).
pub(crate) fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// The known name within an edit distance of two, or of which `name` is a part or the reverse.
fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    // A hostile body may hold names of megabytes: the distance is quadratic.
    if name.len() > 32 {
        return None;
    }
    known
        .iter()
        .map(|candidate| (distance(name, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 2 && *distance < candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// A string without a NUL byte, which no argument, path or variable of a process can carry.
pub(crate) fn text(value: &Value) -> Result<String, String> {
    let text = value.as_str().ok_or("must be a string")?;
    if text.contains('\0') {
        return Err("must not contain a NUL byte".into());
    }
    Ok(text.into())
}

/// What is said to `32.0` and `1e3`.
pub(crate) const NOT_WHOLE: &str =
    "must be a whole number, written without a fraction and without an exponent";

/// A whole number in a range.
pub(crate) fn integer(value: &Value, range: RangeInclusive<i64>) -> Result<i64, String> {
    let (low, high) = (range.start(), range.end());
    if value.is_f64() {
        return Err(format!("{NOT_WHOLE}, from {low} to {high}"));
    }
    value
        .as_i64()
        .filter(|n| range.contains(n))
        .ok_or_else(|| format!("must be a whole number from {low} to {high}"))
}
