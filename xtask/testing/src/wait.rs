//! Waiting for futures and conditions, with one time limit for all tests.

use std::{
    panic::Location,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

/// Time limit of everything that a test expects to happen. Only a failing test waits this long.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Interval at which [`until`] checks its condition.
const CHECK_INTERVAL: Duration = Duration::from_millis(1);

/// Output of a future that ends within [`TEST_TIMEOUT`].
///
/// # Panics
///
/// If the future does not end in time. The message names the caller.
#[track_caller]
pub fn within<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let caller = Location::caller();
    async move {
        timeout(TEST_TIMEOUT, future)
            .await
            .unwrap_or_else(|_| panic!("the wait at {caller} did not end within {TEST_TIMEOUT:?}"))
    }
}

/// Waits until a condition holds, by the clock of the runtime.
///
/// # Panics
///
/// If the condition does not hold within [`TEST_TIMEOUT`].
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + TEST_TIMEOUT;
    while !holds() {
        let is_late = Instant::now() >= deadline;
        assert!(!is_late, "not within {TEST_TIMEOUT:?}: {what}");
        sleep(CHECK_INTERVAL).await;
    }
}

/// Repeats an attempt until it has a result, by the clock of the runtime.
///
/// # Panics
///
/// If no attempt has a result within [`TEST_TIMEOUT`].
pub async fn until_some<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TEST_TIMEOUT;
    loop {
        if let Ok(Some(result)) = timeout(TEST_TIMEOUT, attempt()).await {
            return result;
        }
        let is_late = Instant::now() >= deadline;
        assert!(!is_late, "not within {TEST_TIMEOUT:?}: {what}");
        sleep(CHECK_INTERVAL).await;
    }
}

/// Runs a future on this thread, without a runtime. It is polled only when it was woken.
///
/// # Panics
///
/// If the future does not end within [`TEST_TIMEOUT`].
#[track_caller]
pub fn block_on<F: Future>(future: F) -> F::Output {
    let unpark = Arc::new(Unpark {
        thread: thread::current(),
        is_woken: AtomicBool::new(false),
    });
    let waker = Waker::from(Arc::clone(&unpark));
    let mut future = pin!(future);
    let deadline = std::time::Instant::now() + TEST_TIMEOUT;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        while !unpark.is_woken.swap(false, SeqCst) {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            assert!(!left.is_zero(), "not woken within {TEST_TIMEOUT:?}");
            thread::park_timeout(left);
        }
    }
}

struct Unpark {
    thread: Thread,
    is_woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, SeqCst);
        self.thread.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_end_with_what_they_wait_for() {
        assert_eq!(within(ready(7)).await, 7);
        let mut checks = 0;
        until("three checks", || {
            checks += 1;
            checks == 3
        })
        .await;
        assert_eq!(checks, 3);
        let seventh = until_some("seven attempts", async || {
            checks += 1;
            (checks == 7).then_some("the seventh")
        });
        assert_eq!(seventh.await, "the seventh");
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "wait.rs")]
    async fn a_future_that_does_not_end_fails_the_test_and_names_its_caller() {
        within(pending::<()>()).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "not within 60s: the impossible")]
    async fn a_condition_that_never_holds_fails_the_test() {
        until("the impossible", || false).await;
    }

    #[test]
    fn a_future_is_woken_by_another_thread() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let sending = thread::spawn(move || sender.send(7));
        assert_eq!(block_on(receiver), Ok(7));
        sending.join().unwrap().unwrap();
    }
}
