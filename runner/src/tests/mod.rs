//! The runner over cells that do what a test tells them.
//!
//! A test decides when a job starts, writes and ends, so that every order of events can be shown
//! without waiting for a clock. Real cells are tested end to end elsewhere.

mod bench;
mod drain;
mod execute;
mod kept;
mod logs;
mod sockets;
