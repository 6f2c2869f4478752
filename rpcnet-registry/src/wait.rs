//! Waiting until enough nodes or workers are present.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use crate::{Events, FilterError, SourceState, error::matching_suffix};

/// Waiting for nodes or workers failed. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The deadline was exceeded. Retry with a later one.
    #[error("deadline exceeded: found {present} of {wanted}{}", matching_suffix(.filter))]
    DeadlineExceeded {
        /// The filter.
        filter: String,
        /// The number that was waited for.
        wanted: usize,
        /// The number that was present at the deadline.
        present: usize,
    },
    /// The filter cannot be parsed. The caller's fault; the same text will fail again.
    #[error(transparent)]
    InvalidFilter(#[from] FilterError),
    /// The registry was never started, so nothing will change. The caller's fault.
    #[error("the registry was not started")]
    NotStarted,
    /// The source of the registry has ended, so nothing will change.
    #[error("the membership source of the registry has ended: {state}")]
    SourceEnded {
        /// The state of the source.
        state: SourceState,
    },
}

/// Looks now and after each event, until `look` has a result. `None` if the deadline is exceeded.
///
/// `events` has to be subscribed to before the first look, so that no change is missed.
pub(crate) async fn until<T>(
    mut events: Events,
    deadline: impl Future,
    mut look: impl FnMut() -> Option<T>,
) -> Option<T> {
    let mut deadline = pin!(deadline);
    loop {
        if let Some(result) = look() {
            return Some(result);
        }
        let is_over = {
            let mut event = pin!(events.recv());
            let event_or_deadline = poll_fn(|cx| match event.as_mut().poll(cx) {
                Poll::Ready(event) => Poll::Ready(event.is_none()),
                Poll::Pending => deadline.as_mut().poll(cx).map(|_| true),
            });
            event_or_deadline.await
        };
        if is_over {
            return look();
        }
        // A burst of events needs one look.
        while events.try_recv().is_some() {}
    }
}
