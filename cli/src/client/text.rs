//! Text that others wrote, made fit for a terminal. A job's command, its output and a coordinator's
//! words are all chosen by somebody else, and a terminal obeys what it is shown.

use std::fmt::Write;

use cloister_api::Program;

/// Whether a character does something instead of showing something: the controls, and those that
/// turn the direction of what follows, by which a text can read otherwise than it is.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// On one line, and nothing in it acts.
pub(super) fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        push(&mut shown, c);
    }
    shown
}

fn push(shown: &mut String, c: char) {
    if acts(c) {
        shown.extend(c.escape_default());
    } else {
        shown.push(c);
    }
}

const RESET: &str = "\x1b[0m";

/// Output for a terminal, as `less -R` has it: line breaks, tabs, carriage returns and colours do
/// what they do, all else that acts is made visible.
pub(super) fn screen(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut shown = String::with_capacity(text.len());
    let mut coloured = false;
    let mut rest = text.as_ref();
    while let Some(c) = rest.chars().next() {
        if let Some(length) = colour_length(rest) {
            let colour = &rest[..length];
            shown.push_str(colour);
            rest = &rest[length..];
            coloured = !["\x1b[m", RESET].contains(&colour);
            continue;
        }
        match c {
            '\n' | '\t' | '\r' => shown.push(c),
            _ => push(&mut shown, c),
        }
        rest = &rest[c.len_utf8()..];
    }
    if coloured {
        let end = shown.trim_end_matches('\n').len();
        shown.insert_str(end, RESET);
    }
    shown
}

/// The length of the colour sequence (SGR, ECMA-48) that `text` starts with.
fn colour_length(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|c: char| !(c.is_ascii_digit() || c == ';' || c == ':'))?;
    parameters[end..].starts_with('m').then_some("\x1b[".len() + end + 1)
}

/// JSON for a terminal. Outside of its strings JSON holds none of these characters, and within them
/// it allows each to be written as `\u` and four digits; all that act are in the first plane.
pub(super) fn json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if acts(c) && c != '\n' {
            // Writing to a string cannot fail.
            let _ = write!(shown, "\\u{:04x}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A command as one would type it, plain.
pub(super) fn command(program: &Program) -> String {
    match program {
        Program::Command(line) => plain(line),
        Program::Argv(argv) => {
            let quoted: Vec<_> = argv.iter().map(|argument| quote(argument)).collect();
            plain(&quoted.join(" "))
        }
    }
}

fn quote(argument: &str) -> String {
    let safe = |c: char| c.is_alphanumeric() || "%+,-./:=@_".contains(c);
    if !argument.is_empty() && argument.chars().all(safe) {
        argument.into()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

/// Cut to so many columns of a terminal, with an ellipsis where something was cut.
pub(super) fn shorten(text: &str, columns: usize) -> String {
    if text.chars().map(columns_of).sum::<usize>() <= columns {
        return text.into();
    }
    let mut left = columns.saturating_sub(1);
    let fitting = text.chars().take_while(|c| {
        let room = columns_of(*c) <= left;
        left = left.saturating_sub(columns_of(*c));
        room
    });
    fitting.chain(['…']).collect()
}

/// Terminals give two columns to East Asian wide characters and emoji (Unicode, annex 11). Coarse
/// blocks do for cutting: one too short is harmless.
fn columns_of(c: char) -> usize {
    match u32::from(c) {
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_is_made_visible() {
        assert_eq!(plain("a\x1b[31mb\r\n\t\u{9b}2J"), "a\\u{1b}[31mb\\r\\n\\t\\u{9b}2J");
        assert_eq!(plain("exe.\u{202e}gnp"), "exe.\\u{202e}gnp");
        assert_eq!(plain("grüße, 世界 \\"), "grüße, 世界 \\");
    }

    #[test]
    fn output_keeps_its_lines_and_colours_and_loses_all_other_power() {
        assert_eq!(screen(b"a\tb\r\nc"), "a\tb\r\nc");
        assert_eq!(screen(b"\x1b[1;31mred\n"), "\x1b[1;31mred\x1b[0m\n");
        assert_eq!(screen(b"\x1b[31mred\x1b[m\n"), "\x1b[31mred\x1b[m\n");
        for hostile in
            ["\x1b]0;title\x07", "\x1b[2J", "\x1b[31", "\x1b[6n", "\x1bc", "\u{9b}0m", "\x1b"]
        {
            let shown = screen(hostile.as_bytes());
            assert!(!shown.contains(acts), "{hostile:?}: {shown:?}");
        }
        assert_eq!(screen(b"\xff"), "\u{fffd}");
    }

    #[test]
    fn json_stays_json() {
        let text = serde_json::to_string_pretty(&serde_json::json!({"a": "\u{9b}2J\x7f\u{202e}"}))
            .unwrap();
        let shown = json(&text);
        assert!(!shown.contains(|c| acts(c) && c != '\n'), "{shown:?}");
        let (before, after): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(&text).unwrap(), serde_json::from_str(&shown).unwrap());
        assert_eq!(before, after);
    }

    #[test]
    fn arguments_are_quoted_as_a_shell_would_read_them() {
        let argv = ["sh", "-c", "echo 'a'", ""].map(String::from).into();
        assert_eq!(command(&Program::Argv(argv)), r"sh -c 'echo '\''a'\''' ''");
    }

    #[test]
    fn what_is_too_long_is_cut_to_the_column() {
        assert_eq!(shorten("abc", 3), "abc");
        assert_eq!(shorten("abcd", 3), "ab…");
        assert_eq!(shorten("世界世界", 5), "世界…");
        assert_eq!(shorten("世界世界", 4), "世…");
        assert_eq!(shorten("abcd", 0), "…");
    }
}
