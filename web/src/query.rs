//! Query strings, read as strictly as bodies: a parameter that nobody knows is refused, since it
//! was meant to change something.

use std::{fmt::Display, str::FromStr, time::Duration};

use axum::{
    extract::{FromRequestParts, Query},
    http::{Uri, request::Parts},
};
use cloister_api::{Kind, Problem, Seconds};

use crate::Rejection;

/// The longest that a request is held open to wait for a job.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

/// The parameters of a request, each known and given once.
#[derive(Clone, Debug, Default)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Reads the query of `uri`, of which only `known` may be given.
    pub fn read(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| invalid(format!("the query is malformed: {error}")))?;
        for (index, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let takes = match known {
                    [] => "this address takes none".into(),
                    known => format!("this address takes {}", known.join(", ")),
                };
                return Err(invalid(format!("the query parameter {name:?} is not known; {takes}")));
            }
            if pairs[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(invalid(format!("the query parameter {name:?} is given twice")));
            }
        }
        Ok(Self(pairs))
    }

    /// The text of a parameter.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A parameter read as a `T`.
    pub fn get<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, Problem> {
        self.text(name)
            .map(|text| {
                text.parse().map_err(|error| {
                    invalid(format!("the query parameter {name:?} is not valid: {error}"))
                })
            })
            .transpose()
    }

    /// `?wait=10`: how long the answer may take. More than [`MAX_WAIT`] is [`MAX_WAIT`]: the answer
    /// shows how things stand then, so that nothing is lost by asking again.
    pub fn wait(&self) -> Result<Option<Duration>, Problem> {
        let wait = self.get::<Seconds>("wait")?;
        Ok(wait.map(|Seconds(wait)| wait.min(MAX_WAIT)))
    }
}

fn invalid(detail: String) -> Problem {
    Problem::new(Kind::Invalid, detail)
}

/// The query of an address that takes `wait` and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait(pub Option<Duration>);

impl<S: Send + Sync> FromRequestParts<S> for Wait {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Rejection> {
        Ok(Self(Params::read(&parts.uri, &["wait"])?.wait()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Params, Problem> {
        let uri: Uri = format!("/jobs?{query}").parse().unwrap();
        Params::read(&uri, &["wait", "limit"])
    }

    #[test]
    fn waits_are_durations_up_to_the_longest() {
        let wait = |query| read(query).unwrap().wait().unwrap();
        assert_eq!(wait(""), None);
        assert_eq!(wait("wait=0"), Some(Duration::ZERO));
        assert_eq!(wait("wait=10"), Some(Duration::from_secs(10)));
        assert_eq!(wait("wait=500ms"), Some(Duration::from_millis(500)));
        assert_eq!(wait("wait=1h"), Some(MAX_WAIT));
        for bad in ["wait=", "wait=-1", "wait=soon", "wait=NaN", "wait=1e400"] {
            let problem = read(bad).unwrap().wait().unwrap_err();
            assert_eq!(problem.status, 400, "{bad}");
            assert!(problem.detail.contains("\"wait\""), "{bad}: {}", problem.detail);
        }
    }

    #[test]
    fn what_is_not_known_or_given_twice_is_refused() {
        let detail = |query| read(query).unwrap_err().detail;
        assert!(detail("wiat=10").contains("takes wait, limit"), "{}", detail("wiat=10"));
        assert!(detail("limit=1&limit=2").contains("twice"));
        assert_eq!(read("limit=5&wait=1").unwrap().get::<u32>("limit").unwrap(), Some(5));
        assert_eq!(read("limit=five").unwrap().get::<u32>("limit").unwrap_err().status, 400);
        assert_eq!(read("limit=a%20b").unwrap().text("limit"), Some("a b"));
    }
}
