//! The stream of `/execute`: one JSON object a line, the result last.

use serde::{Deserialize, Serialize};

use crate::{Outcome, Timestamp, outcome::encode};

/// A piece of output: text where the bytes are UTF-8, else base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// UTF-8.
    Data(String),
    /// The exact bytes (RFC 4648, section 4).
    DataBase64(String),
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        match encode(bytes) {
            (_, Some(base64)) => Self::DataBase64(base64),
            (text, None) => Self::Data(text),
        }
    }
}

/// What happened. `seq` counts from 0 within one execution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The command was executed.
    Started {
        /// Its place in the stream.
        seq: u64,
        /// When.
        started_at: Timestamp,
    },
    /// It wrote to standard output.
    Stdout {
        /// Its place in the stream.
        seq: u64,
        /// What it wrote.
        #[serde(flatten)]
        payload: Payload,
    },
    /// It wrote to standard error.
    Stderr {
        /// Its place in the stream.
        seq: u64,
        /// What it wrote.
        #[serde(flatten)]
        payload: Payload,
    },
    /// It has ended.
    Result {
        /// Its place in the stream.
        seq: u64,
        /// How.
        #[serde(flatten)]
        outcome: Box<Outcome>,
    },
}
