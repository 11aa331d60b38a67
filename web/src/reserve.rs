//! What is answered where there is no regular place for a connection: routes of health, metrics and
//! operators as ever, and `503` to everything else.

use std::{io::Write as _, net::TcpStream, sync::LazyLock};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, header::CONNECTION},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use cloister_api::{Kind, Problem};

use crate::{Rejection, connections::Refused};

/// After how many seconds a refused client may come again.
const COME_AGAIN: u64 = 1;

/// Which paths are answered in the reserve, and why the others are not.
#[derive(Clone, Copy, Debug)]
struct Kept {
    paths: &'static [&'static str],
    why: Refused,
}

/// The routes of `router` at these paths and below them; `503` elsewhere.
pub(crate) fn reserved(router: Router, paths: &'static [&'static str], why: Refused) -> Router {
    router.layer(middleware::from_fn_with_state(Kept { paths, why }, only_reserved))
}

async fn only_reserved(State(kept): State<Kept>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_reserved = kept.paths.iter().any(|reserved| {
        path.strip_prefix(reserved).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    if is_reserved {
        return next.run(request).await;
    }
    refusal(kept.why).into_response()
}

/// The connection was closed to make room just as this request came.
pub(crate) fn closed() -> Response {
    refusal(Refused::Full).into_response()
}

fn refusal(why: Refused) -> Rejection {
    Rejection::from(problem(why)).with_header(CONNECTION, HeaderValue::from_static("close"))
}

fn problem(why: Refused) -> Problem {
    let detail = match why {
        Refused::Full => "the service has as many connections as it takes; try again soon",
        Refused::Peer => {
            "this address has as many connections as one may have; close some, or try again soon"
        }
    };
    Problem::new(Kind::Unavailable, detail).retry_after(COME_AGAIN)
}

/// The same in bytes, for a connection of which nothing is read.
static TURNED_AWAY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    // A struct of strings and numbers always serialises.
    let body = serde_json::to_string(&problem(Refused::Full)).unwrap_or_default();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n\
         Retry-After: {COME_AGAIN}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
});

/// Answers a client for which there is no place at all, and closes, without waiting for anything. The
/// socket does not block. What the client has sent is read, so that the kernel does not follow the
/// answer with a reset.
pub(crate) fn turn_away(mut stream: TcpStream) {
    let mut scratch = [0; 8 << 10];
    let _ = std::io::Read::read(&mut stream, &mut scratch);
    // It fits in the buffer of a socket to which nothing was written yet.
    let _ = stream.write(&TURNED_AWAY);
    let _ = stream.shutdown(std::net::Shutdown::Write);
}
