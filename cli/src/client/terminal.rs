//! What a person at a terminal gets beyond what a script gets: colour, and lines about progress.

use std::{
    cell::Cell,
    env,
    io::{IsTerminal, Write, stderr, stdout},
    os::fd::AsFd,
};

use rustix::termios::tcgetwinsize;

use super::text;

/// Wide enough for a table where the terminal does not know its own width.
const DEFAULT_COLUMNS: usize = 100;

/// Standard output, when it is a terminal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
    pub(super) columns: usize,
    colour: bool,
}

impl Screen {
    pub(super) fn of_stdout() -> Option<Self> {
        let stdout = stdout();
        stdout.is_terminal().then(|| Self { columns: columns(stdout), colour: wants_colour() })
    }

    /// Text in a colour, by its code (SGR), where colours are wanted.
    pub(super) fn paint(self, code: &str, text: &str) -> String {
        if self.colour && !code.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.into()
        }
    }
}

fn columns(stream: impl AsFd) -> usize {
    let size = tcgetwinsize(stream).map_or(0, |size| usize::from(size.ws_col));
    if size == 0 { DEFAULT_COLUMNS } else { size }
}

/// See <https://no-color.org>.
fn wants_colour() -> bool {
    env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && !is_dumb()
}

fn is_dumb() -> bool {
    env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}

/// One line on stderr that is written over as things move on, and taken away in the end. Nothing
/// where stderr is not a terminal.
pub(super) struct Progress {
    on: bool,
    shown: Cell<bool>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { on: stderr().is_terminal() && !is_dumb(), shown: Cell::new(false) }
    }

    /// Whether anybody looks.
    pub(super) fn is_seen(&self) -> bool {
        self.on
    }

    /// Writes over the line.
    pub(super) fn tell(&self, line: &str) {
        if self.on {
            let stderr = stderr();
            // The last column stays free: some terminals wrap once it is written.
            let line = text::shorten(&text::plain(line), columns(&stderr).saturating_sub(1));
            // Progress that cannot be shown is no reason to fail.
            let _ = write!(stderr.lock(), "\r\x1b[K{line}");
            self.shown.set(true);
        }
    }

    /// Takes the line away, before something else is written.
    pub(super) fn clear(&self) {
        if self.shown.take() {
            let _ = write!(stderr().lock(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
