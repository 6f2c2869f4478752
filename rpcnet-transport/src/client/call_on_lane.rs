//! Call on a lane: a small unary call that shares a stream with others.

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    CallOptions, RpcClient,
    call_error::deadline_exceeded,
    lanes::{LaneCall, LaneCallOutcome, LaneCallRequest, NotStarted},
};
use crate::{RpcError, deadline::is_expired, method::CalledMethod, wire};

impl RpcClient {
    /// Whether a call can be sent on a lane.
    pub(super) fn fits_lane(
        &self,
        body: &[u8],
        options: &CallOptions,
        now: Instant,
        deadline: Option<Instant>,
    ) -> bool {
        let left = deadline.map(|at| at.saturating_duration_since(now));
        body.len() <= self.0.limits.lane_body_bytes_max
            && !options.isolated
            && !self.0.lanes.is_empty()
            && left.is_none_or(|left| left <= wire::LANE_DEADLINE_MAX)
    }

    /// Makes a call on a lane, or on a stream of its own if no lane accepts it.
    pub(super) async fn call_on_lane(
        &self,
        method: CalledMethod<'_>,
        body: &Bytes,
        options: &CallOptions,
        now: Instant,
        deadline: Option<Instant>,
    ) -> Result<Bytes, RpcError> {
        self.0.limits.check_request(method.name, body)?;
        let lanes = &self.0.lanes;
        let mut now = now;
        if lanes.has_waiting_calls() {
            Box::pin(lanes.wait_for_capacity(deadline)).await?;
            now = Instant::now();
        }
        loop {
            // Time may have passed since the call was made.
            if is_expired(deadline, now) {
                return Err(deadline_exceeded(false));
            }
            let request = LaneCallRequest {
                method,
                body,
                options,
                now,
                deadline,
            };
            match LaneCall::new(lanes, request).await {
                LaneCallOutcome::Completed(reply) => return reply,
                LaneCallOutcome::NotStarted(NotStarted::Ended(error)) => return Err(error),
                LaneCallOutcome::NotStarted(NotStarted::Full) => {
                    Box::pin(lanes.wait_for_capacity(deadline)).await?;
                    now = Instant::now();
                }
                LaneCallOutcome::NotStarted(NotStarted::NoStream | NotStarted::NeedsOwnStream) => {
                    break;
                }
            }
        }
        Box::pin(self.call_on_stream(method, body.clone(), options, deadline)).await
    }
}
