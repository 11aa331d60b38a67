//! The HTTP edge that the coordinator and the runner share.
//!
//! Both answer strangers: a slow client, a page in a browser, a body without end. What to do about
//! them is decided here once, so that no handler has to think of it:
//!
//! - [`serve`] bounds connections and times, and closes them in the order that a drain needs;
//! - [`Guard`] lets in who may come in, before a byte of a body is read;
//! - [`BodyReader`] reads a JSON body within a size, a time and a share of memory;
//! - [`Rejection`] makes every refusal `application/problem+json`.
//!
//! What is not here: routes, and anything that only one of the two services needs.

mod body;
mod connection;
mod error;
mod exposure;
mod guard;
mod metrics;
mod problem;
mod query;
mod secret;
mod server;
mod shutdown;

pub use body::{BodyLimits, BodyReader, RequestBody};
pub use error::Error;
pub use exposure::{Access, check_exposure};
pub use guard::Guard;
pub use metrics::metrics_text;
pub use problem::{PathId, Rejection, with_fallbacks};
pub use query::{MAX_WAIT, Params, Wait};
pub use secret::Secret;
pub use server::{ServerLimits, serve};
pub use shutdown::{Phase, Shutdown};
