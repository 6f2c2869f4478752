//! A call on a lane, as a future.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use super::{Answer, Lane, Lanes, NotBegun, Request};

/// Sends a request when it is first polled, and is ready with the answer. Dropped in between, it cancels the call.
#[derive(Debug)]
pub(crate) struct LaneCall<'a> {
    lanes: &'a Lanes,
    request: Request<'a>,
    begun: Option<(&'a Arc<Lane>, u32)>,
}

/// What became of a call.
#[derive(Debug)]
pub(crate) enum Begun {
    Answered(Answer),
    Not(NotBegun),
}

impl<'a> LaneCall<'a> {
    pub(crate) fn new(lanes: &'a Lanes, request: Request<'a>) -> Self {
        Self {
            lanes,
            request,
            begun: None,
        }
    }
}

impl Future for LaneCall<'_> {
    type Output = Begun;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Begun> {
        let this = self.get_mut();
        let Some((lane, id)) = this.begun else {
            return match this.lanes.begin(&this.request, cx.waker()) {
                Ok(begun) => {
                    this.begun = Some(begun);
                    Poll::Pending
                }
                Err(not) => Poll::Ready(Begun::Not(not)),
            };
        };
        let answer = lane.poll_answer(id, cx);
        if answer.is_ready() {
            this.begun = None;
        }
        answer.map(Begun::Answered)
    }
}

impl Drop for LaneCall<'_> {
    fn drop(&mut self) {
        if let Some((lane, id)) = self.begun.take() {
            lane.abandon(id);
        }
    }
}
