//! Optional deadline of a call: whether it has passed, and waits that end with it.

use std::future::pending;

use tokio::time::{Instant, error::Elapsed, sleep_until, timeout_at};

/// Whether a deadline has passed at this time.
pub(crate) fn is_expired(deadline: Option<Instant>, now: Instant) -> bool {
    deadline.is_some_and(|at| at <= now)
}

/// Whether a deadline has passed by now.
pub(crate) fn has_passed(deadline: Option<Instant>) -> bool {
    deadline.is_some() && is_expired(deadline, Instant::now())
}

/// Waits for a deadline; for ever if there is none.
pub(crate) async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// Waits for a future, at most until the deadline.
///
/// # Errors
///
/// [`Elapsed`] when the deadline passes first.
pub(crate) async fn within<T>(
    deadline: Option<Instant>,
    future: impl Future<Output = T>,
) -> Result<T, Elapsed> {
    match deadline {
        Some(at) => timeout_at(at, future).await,
        None => Ok(future.await),
    }
}
