//! The body of `POST /leases`.
#![no_main]

mod checks;

use checks::{check_again, check_problem};
use cloister_api::{LeaseRequest, MAX_EPOCH, MAX_LEASE, MAX_RENEWED};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| match LeaseRequest::parse(body) {
    Ok(request) => {
        assert!(request.epoch <= MAX_EPOCH);
        assert!(request.lease <= MAX_LEASE && !request.lease.0.is_zero());
        assert!(request.executions.len() <= MAX_RENEWED);
        check_again(&request, LeaseRequest::parse);
    }
    Err(problem) => check_problem(&problem),
});
