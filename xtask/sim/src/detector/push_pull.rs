//! Push/pull: the full state to a random member and its full state back, as memberlist does over
//! TCP; here page by page in datagrams.

use std::time::Duration;

use rpcnet_swim::Time;

use super::Engine;

/// Exchanges the full state with a random member if that is due.
pub(super) fn exchange_if_due(engine: &mut Engine, now: Time) {
    let due = engine.detector().state.push_pull_at;
    if due.is_some_and(|due| due > now) {
        return;
    }
    let interval = push_pull_interval(engine.live_count());
    let mut internals = engine.internals();
    let stagger = match due {
        Some(_) => Duration::ZERO,
        // Nodes that start together do not exchange together.
        None => PUSH_PULL_INTERVAL.mul_f64(internals.rng().f64()),
    };
    internals.detector().state.push_pull_at = Some(now + stagger + interval);
    if due.is_none() || !internals.is_active() {
        return;
    }
    if let Some(partner) = internals.random_alive_member() {
        internals.stats().syncs += 1;
        internals.exchange_full_state(partner);
    }
}

/// memberlist's `pushPullScale`: the larger the cluster, the rarer.
pub(super) fn push_pull_interval(live: usize) -> Duration {
    if live <= PUSH_PULL_SCALES_FROM {
        return PUSH_PULL_INTERVAL;
    }
    let doublings = (live as f64).log2() - (PUSH_PULL_SCALES_FROM as f64).log2();
    PUSH_PULL_INTERVAL * (doublings.ceil() as u32 + 1)
}

const PUSH_PULL_INTERVAL: Duration = Duration::from_secs(30);
const PUSH_PULL_SCALES_FROM: usize = 32;
