//! Probe rounds of the SWIM family: when they start, and what one without an answer means.

use rpcnet_swim::{Time, unstable::ProbeRound};

use super::{Engine, Rule, suspicion::suspect, swim_family::LocalHealth};

/// Lets rounds that end at this moment end first, as they change how the node probes. Says whether
/// the turn is taken: memberlist waits for one probe to end.
pub(super) fn before_probe(engine: &mut Engine, now: Time, turns: u32) -> bool {
    engine.internals().end_due_probe_rounds(now);
    still_dials_seeds(engine);
    let is_memberlist = engine.detector().local_health() == Some(LocalHealth::Memberlist);
    let mut internals = engine.internals();
    let waits = is_memberlist && !internals.probe_rounds().is_empty();
    if waits {
        let later = now + internals.probe_interval() / turns;
        internals.set_probe_timer(later);
    }
    !waits
}

/// Suspects a member that did not answer a round.
pub(super) fn on_round_unanswered(engine: &mut Engine, now: Time, round: &ProbeRound) {
    let (asked, nacks) = round.witnesses();
    let is_alone = asked == 0 && engine.live_count() == 2;
    let mut internals = engine.internals();
    let detector = internals.detector();
    if let Some(health) = detector.local_health() {
        detector.record_health(health.failed_probe(asked, asked - nacks));
    }
    let needs_witness = detector.rules.has(Rule::Witness);
    let probes_again = detector.rules.has(Rule::BackToBack);
    if round.is_stalled() || (needs_witness && nacks == 0 && !is_alone) {
        internals.stats().inconclusive_rounds += 1;
        return;
    }
    internals.stats().missed_probes += 1;
    let (key, own) = (round.target(), internals.own_key());
    if suspect(engine, now, key, &[own]) {
        engine.internals().stats().suspicions_raised += 1;
    }
    if probes_again {
        engine.internals().start_probe(now, key);
    }
}

/// Whether a node still looks for the cluster: once it has joined and found all its seeds, it never
/// does again, and a partition that outlasts its memory of the others stays.
pub(super) fn still_dials_seeds(engine: &mut Engine) -> bool {
    let mut internals = engine.internals();
    let has_found_all = internals.has_found_all_seeds();
    let has_settled = &mut internals.detector().state.has_settled;
    *has_settled |= has_found_all;
    !*has_settled
}

/// Helpers, as many as before, from as many zones (tag `zone`) as a few more random members have.
pub(super) fn choose_zoned_helpers(
    engine: &mut Engine,
    helpers: Vec<u64>,
    target: u64,
) -> Vec<u64> {
    let count = helpers.len();
    let mut internals = engine.internals();
    let more = internals.helper_candidates(4 * count, target);
    let zone = |key: u64| internals.member_tag(key, "zone");
    let mut chosen: Vec<u64> = Vec::with_capacity(count);
    for key in helpers.iter().chain(&more) {
        if chosen.iter().all(|other| zone(*other) != zone(*key)) {
            chosen.push(*key);
        }
    }
    for key in helpers {
        if !chosen.contains(&key) {
            chosen.push(key);
        }
    }
    chosen.truncate(count);
    chosen
}
