//! Lets requests in or not, before anything of a body is read.
//!
//! With tokens, a bearer token decides; a page in a browser does not know it. Without, the machine's
//! loopback is trusted, and a browser on it must not become a bridge for the pages that it shows:
//!
//! - a page of another site that sends requests here gives itself away by its `Origin`;
//! - a site whose name was made to resolve to 127.0.0.1 (DNS rebinding) is of the same origin to the
//!   browser, but its name stands in `Host`.
//!
//! In a container the host's loopback is trusted in the same way: it arrives by the gateway.
//! Where an operator chose neither, names cannot be known, and only a foreign `Origin` is refused.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{
        HeaderValue, Version,
        header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN, WWW_AUTHENTICATE},
        uri::Authority,
    },
    middleware::{self, Next},
    response::Response,
};
use cloister_api::Kind;

use crate::{Access, Fingerprint, Rejection, Tokens, caller::Shown, refusals::Refusals};

/// Who may come in, and where without a token.
#[derive(Clone, Debug)]
pub struct Guard {
    access: Access,
    open: Vec<String>,
    tls: bool,
    advice: Option<String>,
    refusals: Refusals,
}

impl Guard {
    /// A guard that leaves `/health` and `/ready` open, and `/metrics` unless it is protected.
    pub fn new(access: Access, protect_metrics: bool) -> Self {
        let refusals = Refusals::default();
        let guard = Self { access, open: Vec::new(), tls: false, advice: None, refusals };
        let guard = guard.open("/health").open("/ready");
        if protect_metrics { guard } else { guard.open("/metrics") }
    }

    /// Whether the service speaks TLS itself: then its own pages are `https://`, and no others are.
    #[must_use]
    pub fn over_tls(mut self, tls: bool) -> Self {
        self.tls = tls;
        self
    }

    /// Tells callers without a valid token what to do, where a token alone does not say it.
    #[must_use]
    pub fn advise(mut self, advice: Option<String>) -> Self {
        self.advice = advice;
        self
    }

    /// Leaves one more path open to those without a token.
    #[must_use]
    pub fn open(mut self, path: &str) -> Self {
        self.open.push(path.into());
        self
    }

    /// Puts the guard before everything that `router` answers, its fallbacks included: who may not
    /// come in does not learn what there is.
    pub fn protect<S: Clone + Send + Sync + 'static>(self, router: Router<S>) -> Router<S> {
        router.layer(middleware::from_fn_with_state(Arc::new(self), check))
    }

    /// Says by which token a request may come in, where one was asked for.
    fn admit(&self, request: &Request) -> Result<Option<Fingerprint>, Rejection> {
        let schemes: &[&str] = match &self.access {
            _ if self.tls => &["https"],
            // Something in front of it may speak TLS.
            Access::Open => &["http", "https"],
            _ => &["http"],
        };
        match &self.access {
            Access::Tokens(_) | Access::Published { .. }
                if self.open.iter().any(|path| path == request.uri().path()) =>
            {
                Ok(None)
            }
            Access::Published { gateway, .. }
                if peer(request) == Some(*gateway)
                    && !request.headers().contains_key(AUTHORIZATION) =>
            {
                by_loopback(request, None, schemes).map(|()| None)
            }
            Access::Tokens(tokens) | Access::Published { tokens, .. } => {
                bearer(request.headers(), tokens, self.advice.as_deref()).map(Some)
            }
            Access::Loopback { bound } => {
                by_loopback(request, Some(*bound), schemes).map(|()| None)
            }
            Access::Open => {
                same_origin(request.headers(), called(request)?.as_ref(), schemes).map(|()| None)
            }
        }
    }
}

async fn check(
    State(guard): State<Arc<Guard>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Rejection> {
    let token = guard.admit(&request).inspect_err(|rejection| {
        if rejection.problem().status == 401 {
            let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
            guard.refusals.note(peer.map(|ConnectInfo(peer)| *peer));
        }
    })?;
    if let Some(token) = token {
        request.extensions_mut().insert(Shown(token));
    }
    Ok(next.run(request).await)
}

/// Lets in what does not come for a page of another site. It must have called this service by a name
/// of the loopback, or by the address that it listens on.
fn by_loopback(
    request: &Request,
    bound: Option<SocketAddr>,
    schemes: &[&str],
) -> Result<(), Rejection> {
    let called = called(request)?;
    let known = called.as_ref().is_none_or(|name| {
        let host = name.host();
        ["localhost", "127.0.0.1", "[::1]"].iter().any(|own| host.eq_ignore_ascii_case(own))
            || bound.is_some_and(|bound| host.trim_matches(['[', ']']) == bound.ip().to_string())
    });
    if !known {
        let own = bound.map_or_else(String::new, |bound| format!(" or {bound}"));
        return Err(forbidden(format!(
            "this service is called localhost{own}, not {}; \
             to reach it by another name, use a token",
            called.as_ref().map_or("", Authority::as_str),
        )));
    }
    same_origin(request.headers(), called.as_ref(), schemes)
}

/// Who sent it.
fn peer(request: &Request) -> Option<IpAddr> {
    let ConnectInfo(peer) = request.extensions().get::<ConnectInfo<SocketAddr>>()?;
    Some(peer.ip().to_canonical())
}

fn bearer(
    headers: &HeaderMap,
    tokens: &Tokens,
    advice: Option<&str>,
) -> Result<Fingerprint, Rejection> {
    let challenge = |detail: &str, challenge: &'static str| {
        let detail = [Some(detail), advice].into_iter().flatten().collect::<Vec<_>>().join("; ");
        Rejection::new(Kind::Unauthorized, detail)
            .with_header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    };
    let Some(value) = only(headers, &AUTHORIZATION)? else {
        return Err(challenge(
            "a token is needed: send it as `Authorization: Bearer TOKEN`",
            "Bearer realm=\"cloister\"",
        ));
    };
    let presented = value
        .as_bytes()
        .split_at_checked("bearer ".len())
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
    presented.and_then(|(_, token)| tokens.find(token.trim_ascii())).ok_or_else(|| {
        challenge(
            "the token is not one that this service knows",
            "Bearer realm=\"cloister\", error=\"invalid_token\"",
        )
    })
}

/// The name by which the service was called: of the request's target where that is absolute (it
/// wins, RFC 9112 section 3.2.2), else of `Host`. Only HTTP/1.0 may come without, and no browser
/// speaks that.
fn called(request: &Request) -> Result<Option<Authority>, Rejection> {
    if let Some(authority) = request.uri().authority() {
        return Ok(Some(authority.clone()));
    }
    let Some(value) = only(request.headers(), &HOST)? else {
        return if request.version() < Version::HTTP_11 {
            Ok(None)
        } else {
            Err(Rejection::new(Kind::Invalid, "the header Host is missing"))
        };
    };
    let authority = value.to_str().ok().and_then(|text| text.parse::<Authority>().ok());
    match authority {
        Some(authority) if !authority.as_str().contains('@') => Ok(Some(authority)),
        _ => Err(Rejection::new(Kind::Invalid, "the header Host is not a name and a port")),
    }
}

/// Refuses a page of another site: the origin must be the one that the request itself went to.
fn same_origin(
    headers: &HeaderMap,
    called: Option<&Authority>,
    schemes: &[&str],
) -> Result<(), Rejection> {
    let Some(origin) = only(headers, &ORIGIN)? else {
        return Ok(());
    };
    let own = origin.to_str().ok().and_then(|origin| origin.split_once("://")).is_some_and(
        |(scheme, name)| {
            schemes.contains(&scheme)
                && called.is_some_and(|called| called.as_str().eq_ignore_ascii_case(name))
        },
    );
    if own {
        return Ok(());
    }
    Err(forbidden(format!(
        "a page of {} may not use this service",
        String::from_utf8_lossy(origin.as_bytes())
    )))
}

/// The value of a header that may be given once.
fn only<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, Rejection> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => {
            Err(Rejection::new(Kind::Invalid, format!("the header {name} is given more than once")))
        }
    }
}

fn forbidden(detail: String) -> Rejection {
    Rejection::new(Kind::Forbidden, detail)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;
    use crate::Secret;

    fn admit(access: &Access, path: &str, headers: &[(&str, &str)]) -> u16 {
        admit_over(false, access, path, headers)
    }

    fn admit_over(tls: bool, access: &Access, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let guard = Guard::new(access.clone(), false).open("/").over_tls(tls);
        match guard.admit(&request.body(Body::empty()).unwrap()) {
            Ok(_) => 200,
            Err(rejection) => rejection.problem().status,
        }
    }

    #[test]
    fn loopback_is_called_by_its_own_names_alone() {
        let access = Access::Loopback { bound: "127.0.0.2:8000".parse().unwrap() };
        for host in ["localhost:8000", "LOCALHOST", "127.0.0.1:80", "[::1]:8000", "127.0.0.2:8000"]
        {
            assert_eq!(admit(&access, "/jobs", &[("host", host)]), 200, "{host}");
        }
        for (host, status) in [
            ("evil.example:8000", 403),
            ("localhost.evil.example", 403),
            ("127.0.0.1.evil.example", 403),
            ("10.0.0.1:8000", 403),
            ("[::2]:8000", 403),
            ("", 400),
            ("localhost:8000@evil.example", 400),
        ] {
            assert_eq!(admit(&access, "/jobs", &[("host", host)]), status, "{host}");
            assert_eq!(admit(&access, "/health", &[("host", host)]), status, "{host}");
        }
        assert_eq!(admit(&access, "/jobs", &[]), 400);
        assert_eq!(admit(&access, "http://evil.example/jobs", &[("host", "localhost")]), 403);
        assert_eq!(
            admit(&access, "/jobs", &[("host", "localhost"), ("host", "evil.example")]),
            400
        );
    }

    #[test]
    fn a_foreign_page_is_refused() {
        let access = Access::Loopback { bound: "127.0.0.1:8000".parse().unwrap() };
        let from =
            |origin| admit(&access, "/jobs", &[("host", "localhost:8000"), ("origin", origin)]);
        assert_eq!(from("http://localhost:8000"), 200);
        for foreign in [
            "http://evil.example",
            "null",
            "",
            "http://localhost:3000",
            "http://localhost",
            "https://localhost:8000",
            "http://127.0.0.1:8000",
        ] {
            assert_eq!(from(foreign), 403, "{foreign}");
        }
    }

    #[test]
    fn over_tls_only_https_is_its_own_page() {
        let loopback = Access::Loopback { bound: "127.0.0.1:8000".parse().unwrap() };
        for access in [loopback, Access::Open] {
            let from = |origin| {
                let headers = [("host", "localhost:8000"), ("origin", origin)];
                admit_over(true, &access, "/jobs", &headers)
            };
            assert_eq!(from("https://localhost:8000"), 200);
            assert_eq!(from("http://localhost:8000"), 403);
            assert_eq!(from("https://evil.example"), 403);
        }
    }

    #[test]
    fn open_means_to_machines_and_not_to_foreign_pages() {
        let from = |origin| {
            admit(&Access::Open, "/execute", &[("host", "runner:8080"), ("origin", origin)])
        };
        assert_eq!(admit(&Access::Open, "/execute", &[("host", "runner:8080")]), 200);
        assert_eq!(from("https://runner:8080"), 200);
        assert_eq!(from("https://evil.example"), 403);
    }

    #[test]
    fn a_published_port_is_open_to_its_host_alone() {
        const TOKEN: &str = "the-token-of-the-test";
        let gateway = "172.18.0.1";
        let tokens = Tokens::from(vec![Secret::new(TOKEN, "of the test").unwrap()]);
        let access = Access::Tokens(tokens).through(gateway.parse().unwrap());
        let from = |peer: &str, path: &str, headers: &[(&str, &str)]| {
            let mut request = Request::builder().uri(path);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let peer: SocketAddr = format!("{peer}:40000").parse().unwrap();
            let request = request.extension(ConnectInfo(peer)).body(Body::empty()).unwrap();
            match Guard::new(access.clone(), false).admit(&request) {
                Ok(_) => 200,
                Err(rejection) => rejection.problem().status,
            }
        };
        let host = ("host", "localhost:8000");
        let token = ("authorization", "Bearer the-token-of-the-test");
        assert_eq!(from(gateway, "/jobs", &[host]), 200);
        assert_eq!(from("[::ffff:172.18.0.1]", "/jobs", &[host]), 200);
        assert_eq!(from(gateway, "/jobs", &[("host", "evil.example")]), 403);
        assert_eq!(from(gateway, "/jobs", &[host, ("origin", "http://evil.example")]), 403);
        assert_eq!(from(gateway, "/jobs", &[host, ("authorization", "Bearer wrong")]), 401);
        // A neighbour on the container's network, and somebody outside.
        for other in ["172.18.0.3", "203.0.113.7", "127.0.0.1"] {
            assert_eq!(from(other, "/jobs", &[host]), 401, "{other}");
            assert_eq!(from(other, "/jobs", &[host, token]), 200, "{other}");
            assert_eq!(from(other, "/health", &[host]), 200, "{other}");
        }
        assert_eq!(admit(&access, "/jobs", &[host]), 401, "nobody knows from where it comes");
    }

    #[test]
    fn a_token_opens_and_several_may() {
        let tokens = ["first-token-of-the-test", "second-token-of-the-test"];
        let known = tokens.map(|token| Secret::new(token, "of the test").unwrap());
        let access = Access::Tokens(Vec::from(known).into());
        let with = |value: &str| admit(&access, "/jobs", &[("authorization", value)]);
        for token in tokens {
            assert_eq!(with(&format!("Bearer {token}")), 200);
            assert_eq!(with(&format!("bearer  {token}")), 200);
            assert_eq!(with(&format!("Basic {token}")), 401);
            assert_eq!(with(token), 401);
        }
        for wrong in ["Bearer ", "Bearer", "", "Bearer first-token-of-the-tesT"] {
            assert_eq!(with(wrong), 401, "{wrong}");
        }
        assert_eq!(admit(&access, "/jobs", &[]), 401);
        assert_eq!(admit(&access, "/nothing", &[]), 401);
        for open in ["/", "/health", "/ready", "/metrics"] {
            assert_eq!(admit(&access, open, &[]), 200, "{open}");
        }
        let closed = Guard::new(access, true);
        let request = Request::builder().uri("/metrics").body(Body::empty()).unwrap();
        assert_eq!(closed.admit(&request).unwrap_err().problem().status, 401);
    }
}
