//! Calls at a fixed rate, from the host that is a client.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use rpcnet_client::ClusterClient;
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    node::METHOD,
    protocol::{CallResults, ERRORS_MAX},
};

/// Calls that begin at a fixed rate until the load ends.
pub(crate) struct LoadGenerator {
    shared: Arc<LoadState>,
    pacing: JoinHandle<()>,
}

struct LoadState {
    client: Arc<ClusterClient>,
    in_flight: AtomicUsize,
    calls: Mutex<CallResults>,
}

impl LoadGenerator {
    /// Begins to make calls.
    pub(crate) fn begin(client: Arc<ClusterClient>, calls_per_s: u32) -> Self {
        let shared = Arc::new(LoadState {
            client,
            in_flight: AtomicUsize::new(0),
            calls: Mutex::default(),
        });
        let paced = Arc::clone(&shared);
        let pacing = tokio::spawn(async move {
            let mut ticks = interval(Duration::from_secs(1) / calls_per_s.max(1));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                if paced.in_flight.load(Relaxed) < IN_FLIGHT_MAX {
                    paced.in_flight.fetch_add(1, Relaxed);
                    tokio::spawn(Arc::clone(&paced).call());
                }
            }
        });
        Self { shared, pacing }
    }

    /// The calls that ended since this was last asked for; none if there were none.
    pub(crate) fn take(&self) -> Option<CallResults> {
        let calls = std::mem::take(&mut *self.shared.calls.lock());
        Some(calls).filter(|calls| *calls != CallResults::default())
    }

    /// Begins no more calls and waits for those under way. Each has a deadline.
    pub(crate) async fn finish(self) -> CallResults {
        self.pacing.abort();
        while self.shared.in_flight.load(Relaxed) > 0 {
            sleep(Duration::from_millis(5)).await;
        }
        self.take().unwrap_or_default()
    }
}

impl LoadState {
    async fn call(self: Arc<Self>) {
        let answer = self
            .client
            .call_worker(METHOD, Bytes::new(), Some("role=worker"));
        let answer = answer.await;
        let mut calls = self.calls.lock();
        match answer {
            Ok(name) => {
                let name = String::from_utf8_lossy(&name).into_owned();
                *calls.answered_by.entry(name).or_default() += 1;
            }
            Err(error) => {
                calls.failed += 1;
                if calls.errors.len() < ERRORS_MAX {
                    calls.errors.push(error.to_string());
                }
            }
        }
        drop(calls);
        self.in_flight.fetch_sub(1, Relaxed);
    }
}

/// More calls than begin within the deadline of a call.
const IN_FLIGHT_MAX: usize = 5_000;
