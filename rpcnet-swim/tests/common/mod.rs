//! Waiting for a condition, shared by the tests on real sockets.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long a condition may take on a busy machine; how soon it comes is for the simulations.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a condition, which says nothing when it comes true.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        sleep(Duration::from_millis(10)).await;
    }
}
