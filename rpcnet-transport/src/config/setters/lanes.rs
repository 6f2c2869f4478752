//! Setters of the lane settings.

use std::num::{NonZeroU8, NonZeroU32};

use crate::config::TransportConfig;

/// Lane settings.
impl TransportConfig {
    /// Lanes of a connection opened from here: long-lived streams that small unary calls share; the
    /// default is 4. A lost packet delays the calls of the lanes whose bytes were in it until it is
    /// sent again: more lanes limit that to fewer calls, fewer lanes put more calls into one write.
    /// Of the [streams](Self::with_streams_max) that the server accepts, lanes leave one at least.
    #[must_use]
    pub fn with_lanes(mut self, lanes: NonZeroU8) -> Self {
        self.lane.lanes = lanes;
        self
    }

    /// Lanes of a connection on which the caller may have so many streams: they stay open, so one
    /// stream is left for all other calls.
    pub(crate) fn lanes_max(&self, streams_max: u32) -> u8 {
        let others = u8::try_from(streams_max.saturating_sub(1)).unwrap_or(u8::MAX);
        self.lane.lanes.get().min(others)
    }

    /// Largest body that is sent on a lane, in bytes; default 8 KiB, at most 65,535, 0 for none.
    /// Larger ones get a stream of their own, so that small calls do not wait behind them. A
    /// smaller threshold keeps lanes quick, a larger one saves the cost of streams. The server's
    /// value holds for requests and replies, and both sides reset a lane that carries more; a
    /// caller with a smaller value keeps its requests to that.
    #[must_use]
    pub fn with_lane_body_bytes_max(mut self, bytes: usize) -> Self {
        self.lane.lane_body_bytes_max = bytes;
        self
    }

    /// Concurrent calls that a server accepts on one lane; default 2,048, at most 65,535 (larger
    /// values count as that). Further ones wait at the caller. It bounds the state that one
    /// connection makes a server keep: this times its lanes.
    #[must_use]
    pub fn with_lane_calls_max(mut self, calls: NonZeroU32) -> Self {
        self.lane.lane_calls_max = calls;
        self
    }

    /// Longest queue of callers that wait for room on a connection; default 4,096, 0 for none.
    /// Further ones fail at once with [`Overloaded`](crate::Code::Overloaded). A longer queue rides
    /// out longer bursts, and lets callers wait in vain when the server cannot keep up.
    #[must_use]
    pub fn with_queue_len_max(mut self, callers: usize) -> Self {
        self.lane.queue_len_max = callers;
        self
    }
}
