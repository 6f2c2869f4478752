//! Limits of the calls on one connection.

use std::time::Duration;

use super::MinReplyRate;
use crate::{
    Code, Processed, RpcError, TransportConfig,
    wire::{self, Hello},
};

/// Limits of the calls on one connection, from this side's config and the server's hello.
pub(super) struct CallLimits {
    /// The smaller of this side's limit and the server's.
    pub(super) request_bytes_max: usize,
    pub(super) reply_bytes_max: usize,
    pub(super) reply_rate: MinReplyRate,
    pub(super) call_timeout: Duration,
    /// Largest body of a request on a lane.
    pub(super) lane_body_bytes_max: usize,
}

impl CallLimits {
    /// Limits for a server that has announced its own.
    pub(super) fn new(config: &TransportConfig, hello: &Hello) -> Self {
        let lane_body_bytes_max = hello.lane_body_bytes_max.into();
        Self {
            lane_body_bytes_max: config.lane.lane_body_bytes_max.min(lane_body_bytes_max),
            ..Self::for_early_data(config, hello.message_bytes_max)
        }
    }

    /// Limits for a server whose hello has not come, and which accepted messages of at most this
    /// size before.
    pub(super) fn for_early_data(config: &TransportConfig, message_bytes_max: u32) -> Self {
        Self {
            request_bytes_max: config.message_bytes_max.min(message_bytes_max as usize),
            reply_bytes_max: config.message_bytes_max,
            reply_rate: MinReplyRate::of(config),
            call_timeout: config.call_timeout,
            lane_body_bytes_max: config.lane.lane_body_bytes_max,
        }
    }

    /// Rejects requests that can be sent neither on a lane nor on a stream.
    pub(super) fn check_request(&self, method: &str, body: &[u8]) -> Result<(), RpcError> {
        if method.is_empty() || method.len() > wire::METHOD_BYTES_MAX {
            return Err(RpcError::new(
                Code::InvalidRequest,
                Processed::No,
                format!(
                    "invalid method name: it has {} bytes, not 1 to 255",
                    method.len()
                ),
            ));
        }
        if body.len() > self.request_bytes_max {
            return Err(crate::stream::message_too_large(
                body.len(),
                self.request_bytes_max,
            ));
        }
        Ok(())
    }
}
