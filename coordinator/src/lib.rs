//! The coordinator.
mod scheduler;
