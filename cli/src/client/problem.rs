//! Problem documents, as a person wants to read them.

use std::fmt::Write;

use cloister_api::Problem;

use super::text;

/// The detail, and below it each fault on a line of its own. A detail that only strings the faults
/// together gives way to the title: nobody wants to read them twice.
pub(super) fn render(problem: &Problem) -> String {
    let repeats = !problem.errors.is_empty()
        && problem.errors.iter().all(|fault| problem.detail.contains(&fault.detail));
    let head = if repeats || problem.detail.is_empty() { &problem.title } else { &problem.detail };
    let mut shown = text::plain(head);
    for fault in &problem.errors {
        let detail = text::plain(&fault.detail);
        let pointer = text::plain(&fault.pointer);
        let space = if pointer.is_empty() { "" } else { " " };
        // Writing to a string cannot fail.
        let _ = write!(shown, "\n  {pointer}{space}{detail}");
    }
    if problem.status == 401 {
        shown.push_str("\n  show a token by CLOISTER_TOKEN or --token-file");
    }
    shown
}

#[cfg(test)]
mod tests {
    use cloister_api::{FieldProblem, Kind};

    use super::*;

    fn fault(pointer: &str, detail: &str) -> FieldProblem {
        FieldProblem { pointer: pointer.into(), detail: detail.into() }
    }

    #[test]
    fn each_fault_has_a_line_and_none_is_told_twice() {
        let faults =
            vec![fault("/limits/memory", "must be 1MiB at least"), fault("", "has no command")];
        assert_eq!(
            render(&Problem::invalid(faults.clone())),
            "The request is not valid\n  /limits/memory must be 1MiB at least\n  has no command"
        );
        let mut told_otherwise = Problem::new(Kind::Invalid, "two things are wrong");
        told_otherwise.errors = faults;
        assert!(render(&told_otherwise).starts_with("two things are wrong\n  /limits/memory must"));
    }

    #[test]
    fn a_hostile_text_drives_no_terminal() {
        let mut problem = Problem::new(Kind::NotFound, "no job \x1b]0;owned\x07");
        problem.errors = vec![fault("/\x1b[2J", "a\nb")];
        assert_eq!(render(&problem), "no job \\u{1b}]0;owned\\u{7}\n  /\\u{1b}[2J a\\nb");
    }

    #[test]
    fn who_is_not_let_in_hears_how() {
        let problem = Problem::new(Kind::Unauthorized, "no token was shown");
        assert!(render(&problem).contains("CLOISTER_TOKEN"));
    }
}
