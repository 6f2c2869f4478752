//! The lanes of a connection, and the queue for capacity.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, Waker},
};

use tokio::time::Instant;

use super::{
    lane::{CLOSED, CallResult, FULL, Lane, LaneCallRequest, NotStarted},
    lane_task::LaneTask,
};
use crate::{
    Code, Metadata, Processed, RpcError,
    client::{
        call_error::draining_error,
        connection_shared::{ConnectionShared, WaitingCall},
    },
    deadline::within,
};

/// All lanes of a connection.
#[derive(Debug)]
pub(crate) struct Lanes {
    pub(super) connection: quinn::Connection,
    pub(super) lanes: Box<[Arc<Lane>]>,
    pub(super) shared: Arc<ConnectionShared>,
    queue_len_max: usize,
}

/// Limits of the lanes of a connection, from this side's config and the server's hello. Without
/// lanes by default.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LaneLimits {
    pub(crate) lanes: usize,
    /// Concurrent calls on one lane.
    pub(crate) calls_max: usize,
    /// Largest body on a lane, in bytes.
    pub(crate) body_bytes_max: usize,
    /// Calls that may wait for capacity.
    pub(crate) queue_len_max: usize,
}

impl Lanes {
    pub(crate) fn new(
        connection: quinn::Connection,
        limits: LaneLimits,
        shared: Arc<ConnectionShared>,
    ) -> Self {
        let LaneLimits {
            lanes,
            calls_max,
            body_bytes_max,
            queue_len_max,
        } = limits;
        // A server that accepts no calls on lanes has none.
        let lanes = if calls_max == 0 { 0 } else { lanes };
        let lane = || Arc::new(Lane::new(calls_max, body_bytes_max, Arc::clone(&shared)));
        Self {
            connection,
            lanes: std::iter::repeat_with(lane).take(lanes).collect(),
            shared,
            queue_len_max,
        }
    }

    /// Whether the server accepts no lanes.
    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Calls that wait for their replies.
    pub(crate) fn waiting(&self) -> usize {
        self.lanes.iter().map(|lane| lane.waiting()).sum()
    }

    /// Sends a request on one of the lanes, and returns the index of the lane.
    #[inline]
    pub(crate) fn start_indexed_call(
        &self,
        request: &LaneCallRequest<'_>,
        waker: &Waker,
    ) -> Result<(usize, u32), NotStarted> {
        let (lane, id) = self.start_call(request, waker)?;
        let mut lanes = self.lanes.iter();
        let index = lanes.position(|one| Arc::ptr_eq(one, lane));
        Ok((index.expect("it is one of them"), id))
    }

    /// Polls for the reply of a call on the lane of this index.
    #[inline]
    pub(crate) fn poll_reply(&self, lane: usize, id: u32, cx: &Context<'_>) -> Poll<CallResult> {
        self.lanes[lane].poll_reply(id, cx)
    }

    /// Cancels a call on the lane of this index, whose reply was not taken.
    pub(crate) fn cancel(&self, lane: usize, id: u32) {
        self.lanes[lane].cancel(id);
    }

    /// Sends a request on one of the lanes.
    pub(super) fn start_call(
        &self,
        request: &LaneCallRequest<'_>,
        waker: &Waker,
    ) -> Result<(&Arc<Lane>, u32), NotStarted> {
        let begin = |lane: &Arc<Lane>| {
            let mut opened = None;
            let started = lane.start_call(&self.connection, request, waker, &mut opened);
            if let Some(recv) = opened {
                LaneTask::spawn(lane, recv);
            }
            started
        };
        let started = loop {
            let lane = self.choose_lane(request.now);
            let (lane, started) = match begin(lane) {
                Err(NotStarted::NoStream) => match self.choose_open_lane() {
                    Some(used) => (used, begin(used)),
                    None => break Err(NotStarted::NeedsOwnStream),
                },
                started => (lane, started),
            };
            match started {
                // The lane was filled since it was chosen.
                Err(NotStarted::Full) if self.has_capacity() => {}
                // It was closed since then.
                Err(NotStarted::Ended(_)) if lane.occupancy() == CLOSED && !self.is_closed() => {}
                Err(NotStarted::NoStream) => break Err(NotStarted::NeedsOwnStream),
                started => break started.map(|id| (lane, id)),
            }
        };
        // This call may have been woken for more capacity than it used.
        if self.has_waiting_calls()
            && !matches!(started, Err(NotStarted::Full))
            && self.has_capacity()
        {
            self.shared.capacity_available.notify_one();
        }
        started
    }

    /// Whether a call would have to wait, or others wait for a stream already.
    #[inline]
    pub(crate) fn is_saturated(&self) -> bool {
        self.has_waiting_calls()
            || self.shared.waiting_for_stream.load(Relaxed) > 0
            || (!self.lanes.is_empty() && !self.has_capacity())
    }

    /// Whether any lane accepts a call.
    #[inline]
    fn has_capacity(&self) -> bool {
        self.lanes.iter().any(|lane| lane.occupancy() < FULL)
    }

    /// Whether all lanes close or have ended.
    fn is_closed(&self) -> bool {
        self.lanes.iter().all(|lane| lane.occupancy() == CLOSED)
    }

    /// Whether calls wait for capacity, so that new ones have to queue behind them.
    #[inline]
    pub(crate) fn has_waiting_calls(&self) -> bool {
        self.shared.has_waiting_calls()
    }

    /// Waits for capacity on a connection whose lanes are full.
    pub(crate) async fn wait_for_capacity(
        &self,
        deadline: Option<Instant>,
    ) -> Result<(), RpcError> {
        let overloaded =
            |message: &str| Err(RpcError::new(Code::Overloaded, Processed::No, message));
        let Some(_queued) =
            WaitingCall::enter(&self.shared.waiting_for_capacity, self.queue_len_max)
        else {
            return overloaded("the queue of calls for this connection is full");
        };
        let mut capacity = pin!(self.shared.capacity_available.notified());
        // From here on no notification is missed. Capacity that was freed before is for the call
        // that has waited longest.
        capacity.as_mut().enable();
        if self.lanes.iter().any(|lane| lane.has_capacity()) {
            self.shared.capacity_available.notify_one();
        }
        if !self.shared.is_draining() {
            let waited = within(deadline, capacity);
            match self.shared.runtime.in_runtime(waited).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return overloaded("deadline exceeded while waiting for a lane"),
                Err(ended) => return Err(ended.into_error(Processed::No)),
            }
        }
        if self.shared.is_draining() {
            return Err(draining_error());
        }
        Ok(())
    }

    /// Whether a call waits for its reply, on the lane with this stream index.
    pub(crate) fn is_waiting(&self, lane: u64, id: u32) -> bool {
        let lane = self.lanes.iter().find(|l| l.index() == Some(lane));
        lane.is_some_and(|lane| lane.is_waiting(id))
    }

    /// Completes a call on the lane with this stream index.
    pub(crate) fn complete(
        &self,
        lane: u64,
        id: u32,
        reply: CallResult,
        metadata: Option<Metadata>,
    ) {
        if let Some(lane) = self.lanes.iter().find(|l| l.index() == Some(lane)) {
            lane.complete(id, reply, metadata);
        }
    }

    pub(crate) fn abort(&self) {
        for lane in &self.lanes {
            lane.abort();
        }
    }
}
