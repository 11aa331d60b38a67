//! The runner over cells that do what a test tells them.
//!
//! A test decides when a job starts, writes and ends, so that every order of events can be shown
//! without waiting for a clock. Real cells are tested end to end elsewhere.

mod bench;
mod drain;
mod epochs;
mod execute;
mod health;
mod kept;
mod leases;
mod logs;
mod outputs;
mod scrape;
mod sockets;
