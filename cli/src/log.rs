//! Where messages go: services log to stdout, one JSON object a line, or readable text on a terminal;
//! commands talk on stderr.

use std::io::{IsTerminal, stderr, stdout};

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
        .with_ansi(stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .without_time()
        .with_target(false)
        .init();
}

/// For services.
pub(crate) fn for_service() {
    let builder = tracing_subscriber::fmt().with_env_filter(filter("info"));
    if stdout().is_terminal() {
        builder.with_target(false).init();
    } else {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
    }
}

/// What somebody at a terminal wants to know first.
pub(crate) fn greet(address: std::net::SocketAddr) {
    if stderr().is_terminal() {
        eprintln!(
            "\ncloister is up at http://{address}; Ctrl-C drains it, a second one ends it at once. Try:\n\n  \
             curl -X POST 'http://{address}/jobs?wait=10' -H 'Content-Type: application/json' \
             -d '{{\"command\": \"echo hello world\"}}'\n"
        );
    }
}
