//! Stall timeout of a stream, by the progress of its whole connection.

use std::{
    num::NonZeroU32,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use super::min_rate::MinRateTracker;
use crate::TransportConfig;

/// Bytes that the streams of a connection have carried in one direction, without those of lanes.
/// The number only grows.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    bytes: AtomicU64,
}

impl Progress {
    pub(crate) fn record(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }
}

/// How long a stream waits for its peer without progress. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct StallTimer {
    progress: Arc<Progress>,
    stall_timeout: Duration,
    /// Minimum rate, in bytes per second.
    transfer_rate_min: NonZeroU32,
    /// After the deadline, progress of the connection does not count.
    deadline: Option<Instant>,
}

/// Stall timeout: the peer fell behind the minimum rate by the stall timeout.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stalled;

impl StallTimer {
    pub(crate) fn new(config: &TransportConfig, progress: Arc<Progress>) -> Self {
        Self {
            progress,
            stall_timeout: config.limits.stall_timeout,
            transfer_rate_min: config.limits.transfer_rate_min,
            deadline: None,
        }
    }

    /// The same timer for a call with this deadline.
    pub(crate) fn with_deadline(&self, deadline: Option<Instant>) -> Self {
        Self {
            deadline,
            ..self.clone()
        }
    }

    /// Records bytes that the stream has carried.
    pub(crate) fn record(&self, bytes: usize) {
        self.progress.record(bytes);
    }

    /// Waits for a future that ends when its stream makes progress, as long as the connection does.
    ///
    /// # Errors
    ///
    /// [`Stalled`] when the connection is behind its minimum rate by the stall timeout, counted
    /// from now.
    pub(crate) async fn wait<T>(&self, future: impl Future<Output = T>) -> Result<T, Stalled> {
        self.wait_with_progress(|| self.progress.bytes(), future)
            .await
    }

    /// Waits like [`wait`](Self::wait), with another measure of the connection's progress in bytes.
    pub(crate) async fn wait_with_progress<T>(
        &self,
        bytes: impl Fn() -> u64,
        future: impl Future<Output = T>,
    ) -> Result<T, Stalled> {
        let mut future = pin!(future);
        let mut looked = Instant::now();
        let (mut rate, mut seen) = (MinRateTracker::new(self.transfer_rate_min, looked), None);
        loop {
            let until = (looked + self.stall_timeout / CHECKS_PER_TIMEOUT)
                .min(rate.met_until() + self.stall_timeout);
            if let Ok(done) = timeout_at(until, future.as_mut()).await {
                return Ok(done);
            }
            looked = Instant::now();
            let now = bytes();
            // At first peers accept what their windows hold without reading it, so that does not
            // count.
            if let Some(before) = seen.replace(now)
                && self.deadline.is_none_or(|at| at > looked)
            {
                rate.record(now.saturating_sub(before), looked);
            }
            if looked >= rate.met_until() + self.stall_timeout {
                return Err(Stalled);
            }
        }
    }
}

/// Waits for a future, at most as long as `bytes` take at the minimum rate. `bytes` is called again
/// at the end of that time, since messages that came later on the same connection take turns too.
///
/// # Errors
///
/// [`Stalled`] if it takes longer.
pub(crate) async fn within_transfer_time<T>(
    config: &TransportConfig,
    bytes: impl Fn() -> usize,
    future: impl Future<Output = T>,
) -> Result<T, Stalled> {
    let mut future = pin!(future);
    let began = Instant::now();
    let mut limit = Duration::ZERO;
    loop {
        let longer = config.transfer_time(bytes());
        if longer <= limit {
            return Err(Stalled);
        }
        limit = longer;
        if let Ok(done) = timeout_at(began + limit, future.as_mut()).await {
            return Ok(done);
        }
    }
}

/// How often progress is checked in a stall timeout.
const CHECKS_PER_TIMEOUT: u32 = 10;

#[cfg(test)]
mod tests {
    use std::{future::pending, num::NonZeroU32};

    use super::*;

    const STALL: Duration = Duration::from_secs(30);

    fn stall_timer() -> StallTimer {
        let config = TransportConfig::lan()
            .with_stall_timeout(STALL)
            .with_transfer_rate_min(NonZeroU32::new(1_000).unwrap());
        StallTimer::new(&config, Arc::default())
    }

    /// How long a stream waits while its connection carries so many bytes a second, for a while.
    async fn waited(bytes_per_second: usize, seconds: u64) -> Duration {
        let stall_timer = stall_timer();
        let other = stall_timer.clone();
        tokio::spawn(async move {
            for _ in 0..seconds {
                other.record(bytes_per_second);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let began = Instant::now();
        let ended = stall_timer.wait(pending::<()>()).await;
        assert_eq!(ended, Err(Stalled));
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_progress_is_stalled_after_the_timeout() {
        assert_eq!(waited(0, 1).await, STALL);
    }

    #[tokio::test(start_paused = true)]
    async fn progress_at_the_least_rate_is_not_stalled() {
        let waited = waited(1_000, 1_000).await;
        let expected = Duration::from_secs(1_000) + STALL;
        assert!(
            waited >= expected - STALL / CHECKS_PER_TIMEOUT,
            "{waited:?}"
        );
        assert!(
            waited <= expected + STALL / CHECKS_PER_TIMEOUT,
            "{waited:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn progress_below_the_least_rate_stalls_once_it_is_behind_by_the_timeout() {
        let waited = waited(500, 1_000).await;
        assert!(
            waited >= 2 * STALL - 2 * STALL / CHECKS_PER_TIMEOUT,
            "{waited:?}"
        );
        assert!(waited <= 2 * STALL, "{waited:?}");
        assert!(self::waited(1, 1_000).await <= STALL + STALL / CHECKS_PER_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_not_saved_up() {
        assert_eq!(waited(1_000_000_000, 1).await, STALL);
    }

    #[tokio::test(start_paused = true)]
    async fn progress_after_the_deadline_does_not_count() {
        let stall_timer = stall_timer();
        let other = stall_timer.clone();
        tokio::spawn(async move {
            loop {
                other.record(1_000_000);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let began = Instant::now();
        let stall_timer = stall_timer.with_deadline(Some(began + Duration::from_secs(100)));
        let ended = stall_timer.wait(pending::<()>()).await;
        assert_eq!(ended, Err(Stalled));
        assert!(began.elapsed() <= Duration::from_secs(100) + STALL);
    }

    #[tokio::test(start_paused = true)]
    async fn a_ready_future_returns_at_once() {
        assert_eq!(stall_timer().wait(async { 7 }).await, Ok(7));
    }
}
