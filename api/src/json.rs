//! Reads a body into a JSON value, and refuses what a value cannot tell any more: a field that was
//! given twice. The last one would win in silence, and it may be a limit.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::{FieldProblem, Problem, fields::escape};

/// A hostile body may repeat a field a million times; nobody reads so many faults.
const MAX_FAULTS: usize = 16;

/// The value, with each field that stands in its object twice; or why there is none.
pub(crate) fn read(body: &[u8]) -> Result<(Value, Vec<FieldProblem>), Problem> {
    if body.trim_ascii().is_empty() {
        return Err(whole("the body is empty".into()));
    }
    let mut faults = Vec::new();
    let mut json = serde_json::Deserializer::from_slice(body);
    // Its limit on nesting holds for every visitor.
    let value = Strict { at: None, faults: &mut faults }.deserialize(&mut json);
    let value = value.and_then(|value| json.end().map(|()| value));
    value.map(|value| (value, faults)).map_err(|error| body_problem(&error))
}

/// What is wrong with a body that is no JSON at all.
pub fn body_problem(error: &serde_json::Error) -> Problem {
    whole(if error.is_eof() {
        format!("the body ends in the middle of its JSON ({error})")
    } else {
        format!("the body is not valid JSON: {error}")
    })
}

fn whole(detail: String) -> Problem {
    Problem::invalid(vec![FieldProblem { pointer: String::new(), detail }])
}

/// Where a value stands: its name or number, within others.
#[derive(Clone, Copy)]
struct At<'a> {
    within: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Name(&'a str),
    Number(usize),
}

impl fmt::Display for At<'_> {
    /// As a JSON pointer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(within) = self.within {
            within.fmt(f)?;
        }
        match self.step {
            Step::Name(name) => write!(f, "/{}", escape(name)),
            Step::Number(number) => write!(f, "/{number}"),
        }
    }
}

/// Makes a [`Value`] of whatever comes.
struct Strict<'a> {
    at: Option<&'a At<'a>>,
    faults: &'a mut Vec<FieldProblem>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        loop {
            let at = At { within: self.at, step: Step::Number(array.len()) };
            let item = Strict { at: Some(&at), faults: self.faults };
            match items.next_element_seed(item)? {
                Some(item) => array.push(item),
                None => return Ok(Value::Array(array)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            let at = At { within: self.at, step: Step::Name(&name) };
            if object.contains_key(&name) && self.faults.len() < MAX_FAULTS {
                let pointer = at.to_string();
                self.faults.push(FieldProblem { pointer, detail: "is given twice".into() });
            }
            let value = entries.next_value_seed(Strict { at: Some(&at), faults: self.faults })?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pointers(body: &str) -> Vec<String> {
        let (_, faults) = read(body.as_bytes()).unwrap();
        faults.into_iter().map(|fault| fault.pointer).collect()
    }

    #[test]
    fn a_field_that_is_given_twice_is_named_at_any_depth() {
        assert_eq!(pointers(r#"{"a": 1, "b": {"a": 1}, "c": [{"a": 2}, {"a": 3}]}"#), [""; 0]);
        assert_eq!(pointers(r#"{"a": 1, "a": 1}"#), ["/a"]);
        assert_eq!(pointers(r#"{"l": {"m/x": 1, "m/x": 2}}"#), ["/l/m~1x"]);
        assert_eq!(pointers(r#"[0, {"a": {"\u0062": 1, "b": 2}, "a": 3}]"#), ["/1/a/b", "/1/a"]);
        let many = format!("{{{}\"a\": 0}}", "\"a\": 0, ".repeat(1000));
        assert_eq!(pointers(&many).len(), MAX_FAULTS);
    }

    #[test]
    fn an_empty_body_is_called_that() {
        for body in ["", " \n\t"] {
            assert_eq!(read(body.as_bytes()).unwrap_err().detail, "the body is empty");
        }
    }

    proptest! {
        /// Apart from repeated fields it is serde_json's own reading, faults included.
        #[test]
        fn it_reads_as_serde_json_does(body in "[\\[\\]{},:\"ab01.e \\\\-]{0,24}") {
            let own = read(body.as_bytes());
            match serde_json::from_str::<Value>(&body) {
                Ok(value) => prop_assert_eq!(own.unwrap().0, value),
                Err(_) => prop_assert!(own.is_err()),
            }
        }
    }
}
