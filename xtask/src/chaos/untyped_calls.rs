//! Calls of methods whose requests and replies are bytes.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use rpcnet_client::ClusterClient;

use super::{
    call_report::{FailedCall, is_idempotent},
    load::{Answer, CallSource},
    node::{self, BODY_BYTES, IDEMPOTENT, NOT_IDEMPOTENT},
};

/// Calls of methods whose requests and replies are bytes.
pub(super) struct UntypedCalls {
    pub(super) client: Arc<ClusterClient>,
    /// All calls are idempotent, not every other one.
    pub(super) all_idempotent: bool,
}

impl CallSource for UntypedCalls {
    fn client(&self) -> &ClusterClient {
        &self.client
    }

    fn number(&self, index: u64) -> u64 {
        match self.all_idempotent {
            true => 2 * index,
            false => index,
        }
    }

    fn call(&self, number: u64) -> BoxFuture<'_, Result<Answer, FailedCall>> {
        Box::pin(async move {
            let method = match is_idempotent(number) {
                true => IDEMPOTENT,
                false => NOT_IDEMPOTENT,
            };
            let mut body = [0; BODY_BYTES];
            body[..8].copy_from_slice(&number.to_le_bytes());
            let body = Bytes::copy_from_slice(&body);
            let answer = self.client.call_worker(method, body, Some(WORKERS)).await;
            let answer = answer.map_err(|error| FailedCall::from(&error))?;
            let worker = answer.get(8..).unwrap_or_default();
            Ok(Answer {
                is_right: node::call_number(&answer) == Some(number),
                worker: String::from_utf8_lossy(worker).into_owned(),
                version: None,
            })
        })
    }
}

/// Filter of the workers that are called.
const WORKERS: &str = "role=worker";
