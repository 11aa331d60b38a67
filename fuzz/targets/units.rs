//! Sizes and durations, as text and as JSON.
#![no_main]

use std::{any::Any, fmt::Display};

use cloister_api::{ByteSize, Seconds};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// The longest that any request takes.
const CENTURY: Seconds = Seconds::new(100 * 365 * 24 * 3600);

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    size(text);
    duration(text);
    let Ok(value) = serde_json::from_str::<Value>(text) else { return };
    if let Some(size) = told(ByteSize::from_json(&value)) {
        json(size, &value);
        size_is_shown(size);
    }
    if let Some(duration) = told(Seconds::from_json(&value)) {
        json(duration, &value);
        duration_is_shown(duration);
    }
});

/// The value, or else an explanation.
fn told<T>(result: Result<T, String>) -> Option<T> {
    result.inspect_err(|error| assert!(!error.is_empty())).ok()
}

fn size(text: &str) {
    let Some(size) = told(text.parse::<ByteSize>()) else { return };
    json(size, &text.into());
    size_is_shown(size);
    // More digits are more bytes, if they are still a size.
    if let Some(unit) = text.find(|c: char| !c.is_ascii_digit()).or(Some(text.len())) {
        let (number, unit) = text.split_at(unit);
        if let Ok(longer) = format!("{number}0{unit}").parse::<ByteSize>() {
            assert_eq!(longer.0, size.0 * 10);
        }
    }
}

/// What people are shown can be typed back, and is never more than there is.
fn size_is_shown(size: ByteSize) {
    let shown = typed::<ByteSize>(size.to_string().trim_end_matches(" bytes"));
    assert!(shown <= size && shown.0 >= size.0 - size.0 / 1000, "{size:?} is shown as {shown:?}");
}

fn duration(text: &str) {
    let Some(duration) = told(text.parse::<Seconds>()) else { return };
    json(duration, &text.into());
    duration_is_shown(duration);
    // A longer unit is a longer time, or one that can't be kept.
    if let Some(number) = text.strip_suffix("ms") {
        let seconds = number.parse::<Seconds>();
        assert!(seconds.is_ok_and(|seconds| seconds >= duration) || duration > CENTURY, "{text}");
    }
}

fn duration_is_shown(duration: Seconds) {
    let shown = typed::<Seconds>(&duration.to_string());
    assert!(near(shown, duration), "{duration:?} is shown as {shown:?}");
}

/// What is written as JSON reads as the same, as far as a request may go: what is longer than a
/// century has no nanoseconds.
fn json<T>(read: T, from: &Value)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug + Any,
{
    let text = serde_json::to_string(&read).expect("a unit can be written");
    let again: T = serde_json::from_str(&text).expect("what was written can be read");
    let duration = |value: &T| (value as &dyn Any).downcast_ref::<Seconds>().copied();
    match (duration(&again), duration(&read)) {
        (Some(again), Some(read)) if read > CENTURY => assert!(near(again, read), "{from}, {text}"),
        _ => assert_eq!(again, read, "{from} was written as {text}"),
    }
}

fn typed<T: std::str::FromStr<Err: Display>>(text: &str) -> T {
    text.parse().unwrap_or_else(|error| panic!("what is shown cannot be typed back: {error}"))
}

/// A number of seconds has 53 bits, and is read with one of them to spare.
fn near(one: Seconds, other: Seconds) -> bool {
    let difference = one.0.abs_diff(other.0);
    difference.as_secs_f64() <= other.0.as_secs_f64() * 2.0 * f64::EPSILON
}
