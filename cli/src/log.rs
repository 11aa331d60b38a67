//! Where messages go: services log to stdout, one JSON object a line, or readable text on a terminal;
//! commands talk on stderr.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

/// `CLOISTER_LOG` says how much, as `RUST_LOG` does elsewhere.
fn filter(default: &str) -> EnvFilter {
    EnvFilter::try_from_env("CLOISTER_LOG").unwrap_or_else(|_| EnvFilter::new(default))
}

/// For commands: warnings and worse.
pub(crate) fn for_command() {
    tracing_subscriber::fmt()
        .with_env_filter(filter("warn"))
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .without_time()
        .with_target(false)
        .init();
}
