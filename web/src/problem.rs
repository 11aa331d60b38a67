//! Refusals as `application/problem+json`, and what answers where no route does.

use axum::{
    Router,
    extract::{FromRequestParts, Path},
    http::{
        HeaderName, HeaderValue, Method, StatusCode, Uri,
        header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER},
        request::Parts,
    },
    response::{IntoResponse, Response},
};
use cloister_api::{Kind, Problem};
use uuid::Uuid;

/// A [`Problem`] on its way to a client; what handlers return as their error.
#[derive(Clone, Debug)]
pub struct Rejection {
    /// Boxed, since every handler's `Result` is as large as its error.
    problem: Box<Problem>,
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl Rejection {
    /// A problem of this kind.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Problem::new(kind, detail).into()
    }

    /// The same with one more header, such as a challenge.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some(Box::new((name, value)));
        self
    }

    /// What is being said.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }
}

impl From<Problem> for Rejection {
    fn from(problem: Problem) -> Self {
        Self { problem: Box::new(problem), header: None }
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // A struct of strings and numbers always serialises.
        let body = serde_json::to_vec(&self.problem).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.problem.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        // The rest of such a body is not worth reading: say that the connection ends here.
        if matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE) {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some((name, value)) = self.header.map(|header| *header) {
            headers.insert(name, value);
        }
        response
    }
}

/// Makes unknown addresses and methods of `router`'s routes problems too. `OPTIONS` is answered
/// with the methods that there are; `HEAD` works wherever `GET` does. Call it after the last route.
pub fn with_fallbacks<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router.fallback(not_found).method_not_allowed_fallback(other_method)
}

async fn not_found(uri: Uri) -> Rejection {
    Rejection::new(Kind::NotFound, format!("there is nothing at {}", uri.path()))
}

/// The header `Allow` is added by the router, which knows it.
async fn other_method(method: Method, uri: Uri) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    let detail =
        format!("{method} is not offered at {}; the header Allow lists what is", uri.path());
    Rejection::new(Kind::MethodNotAllowed, detail).into_response()
}

/// The identifier in a path such as `/jobs/{id}`. Text that is no UUID names nothing that exists:
/// `404`, as for an unknown one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathId(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Rejection> {
        let unknown = || {
            let detail = format!("there is nothing at {}; an id is a UUID", parts.uri.path());
            Rejection::new(Kind::NotFound, detail)
        };
        let unknown = unknown();
        let Ok(Path(text)) = Path::<String>::from_request_parts(parts, state).await else {
            return Err(unknown);
        };
        text.parse().map(Self).map_err(|_| unknown)
    }
}
