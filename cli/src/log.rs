//! Where messages go: services log to stdout, one JSON object a line, or readable text on a terminal;
//! commands talk on stderr.

use std::io::{IsTerminal, stderr, stdout};

use tracing_subscriber::EnvFilter;

/// The target of lines that say who did what.
const AUDIT: &str = "audit";
const AUDIT_ALWAYS: &str = "audit=info";

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

/// For services. The audit log is there at every level, unless `CLOISTER_LOG` names `audit` itself:
/// who wants fewer messages does not thereby want to know less of who did what.
pub(crate) fn for_service() {
    let named = std::env::var("CLOISTER_LOG").is_ok_and(|log| log.contains(AUDIT));
    let mut filter = filter("info");
    if !named {
        filter = filter.add_directive(AUDIT_ALWAYS.parse().expect("a directive"));
    }
    // A terminal or a pipe that is gone must not end what still runs.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    if stdout().is_terminal() {
        builder.with_target(false).init();
    } else {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
    }
}

/// What somebody at a terminal wants to know first.
pub(crate) fn greet(address: std::net::SocketAddr, tls: bool) {
    if stderr().is_terminal() {
        let scheme = if tls { "https" } else { "http" };
        eprintln!(
            "\ncloister is up at {scheme}://{address}; Ctrl-C drains it, a second one ends it at once. Try:\n\n  \
             curl -X POST '{scheme}://{address}/jobs?wait=10' -H 'Content-Type: application/json' \
             -d '{{\"command\": \"echo hello world\"}}'\n"
        );
    }
}
