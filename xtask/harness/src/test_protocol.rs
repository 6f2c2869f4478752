//! Messages of the tests.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub(crate) enum Order {
    Echo {
        text: String,
    },
    /// Blocks the child's runtime.
    Hang,
    Drain,
    Fail,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
pub(crate) enum Notice {
    Ready { addr: SocketAddr },
    Note { text: String },
}
