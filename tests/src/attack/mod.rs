//! The attack suite: small programs that each try one thing which a job must not be able to do, and
//! the harness that runs them in a sandbox and judges what came of it. How an attack is written down,
//! and what it may hope to find, is told in `attacks/README.md`.
//!
//! - [`Case`]: one attack, from its file; [`Layer`] what is said to stop it, [`Need`] what it takes.
//! - [`Witness`]: what lies outside of the cell to be found, and tells afterwards if it was.
//! - [`Sandbox`]: what an attack runs in.
//! - [`attempt`]: runs one attack, and comes back with its [`Ending`].
//! - [`ablation`]: taking layers away, to see that each of them stops something.
//! - [`report`]: what is told of many attempts.

pub mod ablation;
mod case;
mod layer;
mod need;
pub mod report;
mod run;
mod running;
mod sandbox;
mod witness;

pub use case::{Case, Suite};
pub use layer::{Layer, Set};
pub use need::Need;
pub use run::{Ending, Record, attempt, attempt_measured};
pub use sandbox::{Other, Sandbox};
pub use witness::Witness;
