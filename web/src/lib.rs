//! The HTTP edge that the coordinator and the runner share.
//!
//! Both answer strangers: a slow client, a page in a browser, a body without end. What to do about
//! them is decided here once, so that no handler has to think of it:
//!
//! - [`serve`] bounds connections and times, and closes them in the order that a drain needs;
//! - [`Waiters`] bounds how many requests are held open for something to happen;
//! - [`Guard`] lets in who may come in, before a byte of a body is read, and remembers as whom
//!   ([`Caller`]);
//! - [`ServerTls`] and [`ClientTls`] are the two ends of TLS, and [`Reloads`] reads them and
//!   [`Tokens`] again;
//! - [`BodyReader`] reads a JSON body within a size, a time and a share of memory;
//! - [`Rejection`] makes every refusal `application/problem+json`.
//!
//! What is not here: routes, and anything that only one of the two services needs.

mod body;
mod caller;
mod connection;
mod connections;
mod error;
mod exposure;
mod guard;
mod metrics;
mod pressure;
mod problem;
mod query;
mod refusals;
mod reload;
mod reserve;
mod secret;
mod server;
mod shutdown;
mod tls;
mod tokens;
mod waiters;

pub use body::{BodyLimits, BodyReader, BodyShare, RequestBody};
pub use caller::Caller;
pub use error::Error;
pub use exposure::{Access, check_exposure, is_loopback, warn_of_clear_tokens};
pub use guard::Guard;
pub use metrics::metrics_text;
pub use problem::{PathId, Rejection, with_fallbacks};
pub use query::{MAX_WAIT, Params, Wait};
pub use reload::{Reload, Reloads};
pub use secret::{Fingerprint, Secret};
pub use server::{ServerLimits, serve};
pub use shutdown::{Phase, Shutdown};
pub use tls::{ClientTls, Connector, ServerTls, Stream, Untrusted, can_be_certified};
pub use tokens::Tokens;
pub use waiters::{Waiters, Waiting};
