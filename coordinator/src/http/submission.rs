//! What is handed in, a job or many: its body, and the key under which it is handed in once.

use axum::body::Body;
use cloister_api::{Bounds, Kind, Problem};
use cloister_web::{BodyShare, Caller};
use http::{HeaderMap, StatusCode};

use super::{
    App,
    audit::{self, Subject},
};

const MAX_KEY: usize = 255;

/// What was handed in.
pub(super) struct Received<T> {
    pub(super) parsed: T,
    pub(super) key: Option<String>,
    /// Of the memory for bodies: to be held until what was made of the body is in the store. A client
    /// that hangs up does not free what a store that hangs still needs.
    pub(super) share: BodyShare,
}

/// What is handed in, and under which key. What is refused has its line in the audit log.
///
/// A batch's body is bounded as that of a single job: so are then what is made of it in memory, and the
/// commit.
pub(super) async fn receive<T>(
    app: &App,
    caller: Caller,
    headers: &HeaderMap,
    body: Body,
    parse: fn(&[u8], &Bounds) -> Result<T, Problem>,
) -> Result<Received<T>, Problem> {
    let receiving = async {
        let key = idempotency_key(headers)?;
        let body = app.bodies.read(headers, body).await?;
        let parsed = parse(&body, &app.bounds)?;
        Ok(Received { parsed, key, share: body.into_share() })
    };
    receiving.await.inspect_err(|problem: &Problem| {
        audit::record(caller, audit::SUBMIT, &Subject::none(), problem.status);
    })
}

/// What is answered to one that was accepted: whether it is new, or was under its key before.
pub(super) fn status(new: bool) -> StatusCode {
    if new { StatusCode::CREATED } else { StatusCode::OK }
}

/// The header's value, if there is one.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return if headers.contains_key("idempotency-key") {
            Err(bad_key("is given more than once"))
        } else {
            Ok(None)
        };
    };
    match value.to_str() {
        Ok(key) if (1..=MAX_KEY).contains(&key.len()) => Ok(Some(key.into())),
        Ok(_) => Err(bad_key("must be 1 to 255 characters long")),
        Err(_) => Err(bad_key("must be visible ASCII")),
    }
}

fn bad_key(why: &str) -> Problem {
    Problem::new(Kind::Invalid, format!("the header Idempotency-Key {why}"))
}
