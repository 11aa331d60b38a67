//! The coordinator.
mod scheduler;
mod store;
