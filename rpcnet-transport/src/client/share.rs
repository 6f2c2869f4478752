//! A small call that shares a stream with others.

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    CallOptions, RpcClient,
    exchange::{is_over, out_of_time},
    lane::{Begun, LaneCall, NotBegun, Request},
};
use crate::{RpcError, wire};

impl RpcClient {
    /// Whether a call can ride a lane.
    pub(super) fn fits_lane(
        &self,
        body: &Bytes,
        options: &CallOptions,
        now: Instant,
        deadline: Option<Instant>,
    ) -> bool {
        let left = deadline.map(|at| at.saturating_duration_since(now));
        body.len() <= self.0.lane_body_bytes_max
            && !options.isolated
            && !self.0.lanes.is_empty()
            && left.is_none_or(|left| left <= wire::LANE_DEADLINE_MAX)
    }

    /// Makes a call on a lane, or on a stream of its own if the lane will not have it.
    pub(super) async fn share(
        &self,
        method: &str,
        body: &Bytes,
        options: &CallOptions,
        now: Instant,
        deadline: Option<Instant>,
    ) -> Result<Bytes, RpcError> {
        self.check(method, body)?;
        let lanes = &self.0.lanes;
        let mut now = now;
        if lanes.is_crowded() {
            Box::pin(lanes.room(deadline)).await?;
            now = Instant::now();
        }
        loop {
            // It may have waited since it was made.
            if is_over(deadline, now) {
                return Err(out_of_time(false));
            }
            let request = Request {
                method,
                body,
                options,
                now,
                deadline,
            };
            match LaneCall::new(lanes, request).await {
                Begun::Answered(answer) => return answer,
                Begun::Not(NotBegun::Ended(error)) => return Err(error),
                Begun::Not(NotBegun::Full) => {
                    Box::pin(lanes.room(deadline)).await?;
                    now = Instant::now();
                }
                Begun::Not(NotBegun::NoStream | NotBegun::Unfit) => break,
            }
        }
        Box::pin(self.exchange_until(method, body.clone(), options, deadline)).await
    }
}
