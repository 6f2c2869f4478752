//! Waiting until enough nodes or workers are present.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use crate::{Events, Filter, FilterError, SourceState, error::matching_suffix};

/// Error of waiting for nodes or workers. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The deadline was exceeded. Retry with a later one.
    #[error("deadline exceeded: found {present} of {wanted} nodes{}", matching_suffix(.filter))]
    DeadlineExceeded {
        /// The filter.
        filter: String,
        /// The number that was waited for.
        wanted: usize,
        /// The number that the source listed at the deadline.
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

/// Goal of a wait, and whether the registry was started.
pub(crate) struct Wanted<'a> {
    pub(crate) filter: Option<&'a str>,
    pub(crate) count: usize,
    pub(crate) is_started: bool,
}

/// Looks now, after each event and at the deadline, until `look` has a result. It returns the
/// number that the source lists, and the result once that is enough.
///
/// `events` has to be subscribed to before the first look, so that no change is missed.
pub(crate) async fn until<T>(
    wanted: Wanted<'_>,
    mut events: Events,
    deadline: impl Future,
    mut look: impl FnMut(&Filter) -> Result<(usize, Option<T>), WaitError>,
) -> Result<T, WaitError> {
    let text = wanted.filter.unwrap_or("");
    let filter: Filter = text.parse()?;
    if !wanted.is_started {
        return Err(WaitError::NotStarted);
    }
    let mut deadline = pin!(deadline);
    let mut is_over = false;
    loop {
        let (present, result) = look(&filter)?;
        if let Some(result) = result {
            return Ok(result);
        }
        if is_over {
            return Err(WaitError::DeadlineExceeded {
                filter: text.to_owned(),
                wanted: wanted.count,
                present,
            });
        }
        is_over = {
            let mut event = pin!(events.recv());
            let event_or_deadline = poll_fn(|cx| match event.as_mut().poll(cx) {
                Poll::Ready(event) => Poll::Ready(event.is_none()),
                Poll::Pending => deadline.as_mut().poll(cx).map(|_| true),
            });
            event_or_deadline.await
        };
        // A burst of events needs one look.
        while events.try_recv().is_some() {}
    }
}
