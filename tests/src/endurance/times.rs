//! How long many of a kind took.

/// Of many times, in milliseconds.
pub(super) struct Times {
    count: usize,
    pub(super) p50: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

impl Times {
    pub(super) fn of(mut all: Vec<f64>) -> Self {
        all.sort_by(f64::total_cmp);
        // The nearest rank.
        let at = |percent: usize| {
            let rank = (all.len() * percent).div_ceil(100).max(1);
            all.get(rank - 1).copied().unwrap_or(f64::NAN)
        };
        Self { count: all.len(), p50: at(50), p95: at(95), p99: at(99), max: at(100) }
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { count, p50, p95, max, .. } = self;
        write!(f, "{count:>7}{p50:>10.2}{p95:>10.2}{max:>10.2}")
    }
}
