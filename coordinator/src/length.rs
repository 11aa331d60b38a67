//! Lengths of time for a person.

use std::time::Duration;

/// The two largest units that it has, such as `8 d 1 h`; it is rounded down.
pub(crate) fn length(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let first = units.iter().position(|(count, _)| *count > 0).unwrap_or(units.len() - 1);
    let shown = units[first..].iter().take(2).enumerate();
    let shown = shown.filter(|(at, (count, _))| *at == 0 || *count > 0);
    shown.map(|(_, (count, unit))| format!("{count} {unit}")).collect::<Vec<_>>().join(" ")
}

/// How a clock that is ahead by so many milliseconds stands to another one: `8 d ahead of`.
pub(crate) fn apart(millis: i64) -> String {
    let word = if millis < 0 { "behind" } else { "ahead of" };
    format!("{} {word}", length(Duration::from_millis(millis.unsigned_abs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_told_for_a_person() {
        for (millis, told) in [
            (999, "0 s"),
            (59_999, "59 s"),
            (61_000, "1 min 1 s"),
            (900_000, "15 min"),
            (3_660_000, "1 h 1 min"),
            (8 * 86_400_000, "8 d"),
            (8 * 86_400_000 + 3_600_000, "8 d 1 h"),
        ] {
            assert_eq!(length(Duration::from_millis(millis)), told);
        }
        assert_eq!(apart(-3_600_000), "1 h behind");
        assert_eq!(apart(60_000), "1 min ahead of");
    }
}
