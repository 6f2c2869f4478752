//! Future of a call on a lane.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use super::{
    lane::{CallRequest, CallResult, Lane, NotStarted},
    lane_set::Lanes,
};

/// Future that sends a request at its first poll and completes with the reply. Dropped in between,
/// it cancels the call.
#[derive(Debug)]
pub(crate) struct LaneCall<'a> {
    lanes: &'a Lanes,
    request: CallRequest<'a>,
    started: Option<(&'a Arc<Lane>, u32)>,
}

/// Outcome of a call on a lane.
#[derive(Debug)]
pub(crate) enum LaneCallOutcome {
    Completed(CallResult),
    NotStarted(NotStarted),
}

impl<'a> LaneCall<'a> {
    pub(crate) fn new(lanes: &'a Lanes, request: CallRequest<'a>) -> Self {
        Self {
            lanes,
            request,
            started: None,
        }
    }
}

impl Future for LaneCall<'_> {
    type Output = LaneCallOutcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<LaneCallOutcome> {
        let this = self.get_mut();
        let Some((lane, id)) = this.started else {
            return match this.lanes.start_call(&this.request, cx.waker()) {
                Ok(started) => {
                    this.started = Some(started);
                    Poll::Pending
                }
                Err(not) => Poll::Ready(LaneCallOutcome::NotStarted(not)),
            };
        };
        let reply = lane.poll_reply(id, cx);
        if reply.is_ready() {
            this.started = None;
        }
        reply.map(LaneCallOutcome::Completed)
    }
}

impl Drop for LaneCall<'_> {
    fn drop(&mut self) {
        if let Some((lane, id)) = self.started.take() {
            lane.cancel(id);
        }
    }
}
