//! `GET /metrics`: a registry in Prometheus' text format.

use axum::{
    http::{HeaderValue, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use cloister_api::Kind;
use prometheus::{Registry, TextEncoder};

use crate::Rejection;

/// Everything that `registry` holds, as a scraper reads it.
pub fn metrics_text(registry: &Registry) -> Response {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => {
            let kind = HeaderValue::from_static(prometheus::TEXT_FORMAT);
            ([(CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => {
            let detail = format!("the metrics could not be written: {error}");
            Rejection::new(Kind::Internal, detail).into_response()
        }
    }
}
