//! The edge as clients meet it: over real sockets, spoken byte by byte.

mod connections;
mod requests;
mod service;
mod tls;
