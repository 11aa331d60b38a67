//! `GET /metrics`, in Prometheus' text format.

use axum::{
    http::{HeaderValue, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use cloister_api::Kind;
use prometheus::{TextEncoder, proto::MetricFamily};

use crate::Rejection;

/// These metrics, such as a registry gathers, as a scraper reads them.
pub fn metrics_text(families: &[MetricFamily]) -> Response {
    match TextEncoder::new().encode_to_string(families) {
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
