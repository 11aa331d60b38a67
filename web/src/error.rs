//! What keeps a service from starting. A cause stands in the message, and is no `source` as well:
//! whoever prints the whole chain would say it twice.

use std::{io, net::SocketAddr, path::PathBuf};

/// Why the edge of a service could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Others could reach it, and nothing would tell them apart.
    #[error(
        "refusing to listen on {listen}, which others can reach, without a token: \
         name a file that holds one with --token-file, set CLOISTER_TOKEN, \
         listen on 127.0.0.1, or accept the risk with --insecure-no-auth"
    )]
    Exposed {
        /// The address that was asked for.
        listen: SocketAddr,
    },
    /// A token's file can't be read.
    #[error("cannot read the token file {}: {cause}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        cause: io::Error,
    },
    /// A token's file holds no usable list of tokens.
    #[error("the token file {} {reason}", path.display())]
    TokenList {
        /// The file.
        path: PathBuf,
        /// What is wrong with it. Never a token.
        reason: String,
    },
    /// A file of certificates or with a key can't be used.
    #[error("cannot use the {what} {}: {reason}", path.display())]
    TlsFile {
        /// What it is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it. Never a key.
        reason: String,
    },
    /// Nobody is trusted.
    #[error(
        "cannot tell which certificate authorities this system trusts: {0}; install the package \
         ca-certificates, or name a file of them with --ca-file"
    )]
    Roots(String),
    /// A token that protects nothing, or that no header can carry.
    #[error("the token {origin} is not usable: it {reason}; make one with `openssl rand -hex 32`")]
    WeakToken {
        /// Where it came from, such as `in /run/secrets/token`. Never the token.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The socket can't be used by the runtime.
    #[error("cannot serve on the listening socket: {0}")]
    Listener(io::Error),
    /// No handler for a signal.
    #[error("cannot listen for SIGTERM, SIGINT and SIGHUP: {0}")]
    Signals(io::Error),
}
