//! From many measurements to a few numbers.

use std::time::Duration;

use serde::Serialize;

/// The middle of several values, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// The median.
    pub(crate) median: f64,
    /// Below it are 5 % of the values; of fewer than 20, none.
    pub(crate) low: f64,
    /// Above it are 5 % of the values; of fewer than 20, none.
    pub(crate) high: f64,
}

impl Spread {
    /// Of these; not a number where there are none.
    pub(crate) fn of(values: &[f64]) -> Self {
        Self {
            median: quantile(values, 500),
            low: quantile(values, 50),
            high: quantile(values, 951),
        }
    }
}

/// By nearest rank; `permille` 500 is the median. Not a number where there are no values.
pub(crate) fn quantile(values: &[f64], permille: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * permille).div_ceil(1000).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// The median of times, in milliseconds.
pub(crate) fn p50(times: &[Duration]) -> f64 {
    quantile(&millis(times), 500)
}

/// What 99 of 100 times are not above, in milliseconds.
pub(crate) fn p99(times: &[Duration]) -> f64 {
    quantile(&millis(times), 990)
}

/// As fractions of milliseconds.
pub(crate) fn millis(times: &[Duration]) -> Vec<f64> {
    times.iter().map(|time| time.as_secs_f64() * 1e3).collect()
}

/// A count, to calculate with.
#[expect(clippy::cast_precision_loss, reason = "nothing is counted beyond 2^52 here")]
pub(crate) const fn count(number: usize) -> f64 {
    number as f64
}

/// The same of what files of the kernel count.
#[expect(clippy::cast_precision_loss, reason = "nothing is counted beyond 2^52 here")]
pub(crate) const fn large(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        let expected = [(0, 1.0), (200, 1.0), (201, 2.0), (500, 3.0), (990, 5.0), (1000, 5.0)];
        for (permille, value) in expected {
            assert!((quantile(&values, permille) - value).abs() < f64::EPSILON, "{permille}");
        }
        assert!(quantile(&[], 500).is_nan());
    }

    #[test]
    fn a_few_values_spread_from_the_least_to_the_most() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Spread { median: 2.0, low: 1.0, high: 3.0 });
    }
}
