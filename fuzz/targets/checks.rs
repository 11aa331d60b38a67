//! What holds for every body that is read strictly.

use cloister_api::Problem;
use serde::{Serialize, de::DeserializeOwned};

/// What was accepted is the same when it comes back: from a store, and from the coordinator at a
/// runner.
pub(crate) fn check_again<T>(accepted: &T, parse: impl Fn(&[u8]) -> Result<T, Problem>)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let json = serde_json::to_vec(accepted).expect("a request can be written");
    let stored: T = serde_json::from_slice(&json).expect("what was written can be read");
    assert_eq!(&stored, accepted);
    assert_eq!(parse(&json).as_ref(), Ok(accepted));
}

/// Somebody has to mend it: each fault says where or at least what.
pub(crate) fn check_problem(problem: &Problem) {
    assert_eq!(problem.status, 400);
    assert!(!problem.detail.is_empty() && !problem.errors.is_empty());
    for fault in &problem.errors {
        assert!(!fault.detail.is_empty(), "{problem:?}");
        assert!(fault.pointer.is_empty() || fault.pointer.starts_with('/'), "{problem:?}");
    }
    let json = serde_json::to_vec(problem).expect("a problem can be written");
    assert_eq!(&serde_json::from_slice::<Problem>(&json).expect("and read"), problem);
}
