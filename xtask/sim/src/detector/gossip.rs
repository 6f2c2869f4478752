//! Gossip targets of the SWIM family: live members, and those that failed a short time ago.

use std::time::Duration;

use rpcnet_swim::Time;

use super::Engine;

/// Random live and recently failed members: one that is not gone hears of its failure and can
/// refute it.
pub(super) fn targets(engine: &mut Engine, now: Time, count: usize) -> Vec<u64> {
    let live = engine.live_count() - 1;
    let mut internals = engine.internals();
    let is_recent = |since: Time| now.since(since) <= TO_THE_DEAD;
    let failed: Vec<u64> = internals
        .failed_members()
        .filter(|(_, since)| is_recent(*since))
        .map(|(key, _)| key)
        .collect();
    let all = live + failed.len();
    let mut targets = Vec::with_capacity(count);
    while targets.len() < count.min(all) {
        let index = internals.rng().usize(..all);
        let live_member = internals.live_member_at(index);
        let key = live_member.unwrap_or_else(|| failed[index - live]);
        if !targets.contains(&key) {
            targets.push(key);
        }
    }
    targets
}

/// memberlist's `GossipToTheDeadTime`; after it the failed are forgotten.
pub(super) const TO_THE_DEAD: Duration = Duration::from_secs(30);
