//! Who sent a request, as far as that is known.

use std::{convert::Infallible, net::SocketAddr};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::request::Parts,
};

use crate::Fingerprint;

/// Who sent a request: for the log alone, nothing is decided by it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caller {
    /// The other end of the connection; of a proxy, where there is one in front.
    pub peer: Option<SocketAddr>,
    /// Which token it showed, where that was looked at.
    pub token: Option<Fingerprint>,
}

/// What the guard found out, left in the request for its handler.
#[derive(Clone, Copy)]
pub(crate) struct Shown(pub(crate) Fingerprint);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self {
            peer: parts.extensions.get().map(|ConnectInfo(peer)| *peer),
            token: parts.extensions.get().map(|Shown(token)| *token),
        })
    }
}
