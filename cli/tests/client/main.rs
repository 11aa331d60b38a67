//! The client commands against a coordinator that a test plays: exit codes, what goes to stdout and
//! what does not, how trouble is told, and what reaches a terminal.

mod fake;
mod looking;
mod operating;
mod pty;
mod submitting;
mod trouble;
mod waiting;
