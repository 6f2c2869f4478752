//! Future of a call on a lane.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use super::{
    lane::{CallResult, Lane, LaneCallRequest, NotStarted},
    lane_set::Lanes,
};

/// Future that sends a request at its first poll and completes with the reply. Dropped in between,
/// it cancels the call.
#[derive(Debug)]
pub(crate) struct LaneCall<'a> {
    lanes: &'a Lanes,
    request: LaneCallRequest<'a>,
    started: Option<StartedCall<'a>>,
}

/// Call whose request was sent on a lane; completes with the reply. Dropped before, it cancels the
/// call.
#[derive(Debug)]
pub(crate) struct StartedCall<'a> {
    lane: &'a Lane,
    /// `None` once the reply was taken.
    id: Option<u32>,
}

impl<'a> StartedCall<'a> {
    /// Sends a request. The caller is woken by `waker` when the reply is there.
    pub(crate) fn start(
        lanes: &'a Lanes,
        request: &LaneCallRequest<'_>,
        waker: &Waker,
    ) -> Result<Self, NotStarted> {
        let (lane, id) = lanes.start_call(request, waker)?;
        Ok(Self { lane, id: Some(id) })
    }

    /// Polls for the reply.
    ///
    /// # Panics
    ///
    /// If it was taken.
    #[inline]
    pub(crate) fn poll_reply(&mut self, cx: &Context<'_>) -> Poll<CallResult> {
        let id = self.id.expect("polled after the reply");
        let reply = self.lane.poll_reply(id, cx);
        if reply.is_ready() {
            self.id = None;
        }
        reply
    }
}

impl Drop for StartedCall<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.lane.cancel(id);
        }
    }
}

/// Outcome of a call on a lane.
#[derive(Debug)]
pub(crate) enum LaneCallOutcome {
    Completed(CallResult),
    NotStarted(NotStarted),
}

impl<'a> LaneCall<'a> {
    pub(crate) fn new(lanes: &'a Lanes, request: LaneCallRequest<'a>) -> Self {
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
        if let Some(started) = &mut this.started {
            return started.poll_reply(cx).map(LaneCallOutcome::Completed);
        }
        match StartedCall::start(this.lanes, &this.request, cx.waker()) {
            Ok(started) => {
                this.started = Some(started);
                Poll::Pending
            }
            Err(not) => Poll::Ready(LaneCallOutcome::NotStarted(not)),
        }
    }
}
