//! Suspicions of the SWIM family: they start, are confirmed, and expire.

use rpcnet_swim::{MemberState, Time, unstable::ClaimView};

use super::{Engine, Rule, suspicion_timers::SuspicionTimer};

/// Takes in what others say of a live member, where the family differs: a suspicion, and a failure
/// in a push/pull. Says whether it did.
pub(super) fn merge_claim(engine: &mut Engine, now: Time, claim: &ClaimView<'_>) -> bool {
    let own_key = engine.internals().own_key();
    let suspectors = match (claim.suspectors(), claim.is_from_sync()) {
        (Some(suspectors), false) => suspectors,
        // memberlist's `mergeState`: of either, this node makes a suspicion of its own.
        (Some(_), true) => vec![own_key],
        (None, true) if claim.is_failed() => vec![own_key],
        (None, _) => return false,
    };
    let Some((state, incarnation)) = claim.live_member(engine) else {
        return false;
    };
    if claim.incarnation() < incarnation {
        return true;
    }
    let (key, was_alive) = (claim.key(), state == MemberState::Alive);
    if was_alive && claim.incarnation() > incarnation {
        let mut internals = engine.internals();
        internals.set_incarnation(now, key, claim.incarnation());
    }
    suspect(engine, now, key, &suspectors);
    if was_alive {
        engine.internals().maybe_verify_suspicion(now, key);
    }
    true
}

/// Takes in who suspects a live member. Says whether that was new.
pub(super) fn suspect(engine: &mut Engine, now: Time, key: u64, suspectors: &[u64]) -> bool {
    match engine.internals().member_state(key) {
        Some(MemberState::Alive) => start(engine, now, key, suspectors),
        Some(MemberState::Suspect) => confirm(engine, now, key, suspectors),
        _ => false,
    }
}

/// Starts a suspicion: from now on its time runs out.
fn start(engine: &mut Engine, now: Time, key: u64, suspectors: &[u64]) -> bool {
    let Some(params) = engine.detector().swim else {
        return false;
    };
    let live = engine.live_count();
    let awaited = params.confirmations_awaited(live);
    let kept = &suspectors[..suspectors.len().min(awaited + 1)];
    let mut internals = engine.internals();
    let timer = SuspicionTimer {
        generation: internals.start_suspicion(now, key, kept),
        since: now,
        min: params.suspicion_min(live, internals.probe_interval()),
        awaited,
    };
    let confirmed = kept.len().saturating_sub(1);
    let due = now + params.suspicion_timeout(timer.min, awaited, confirmed);
    let state = &mut internals.detector().state;
    state.suspicion_timers.start(key, timer, due);
    arm_timer(engine);
    true
}

/// Adds suspectors to a suspicion: only those that are waited for count, and are passed on
/// (Lifeguard section IV-B).
fn confirm(engine: &mut Engine, now: Time, key: u64, suspectors: &[u64]) -> bool {
    let mut internals = engine.internals();
    let timer = internals.detector().state.suspicion_timers.get(key);
    let (Some((_, known)), Some(timer)) = (internals.suspicion(key), timer) else {
        return false;
    };
    let before = known.len();
    let mut after = before;
    for suspector in suspectors {
        if after <= timer.awaited {
            after = internals.add_suspector(key, *suspector);
        }
    }
    let params = internals.detector().swim.filter(|_| after > before);
    if let Some(params) = params {
        let lasts = params.suspicion_timeout(timer.min, timer.awaited, after - 1);
        let state = &mut internals.detector().state;
        state.suspicion_timers.reschedule(key, timer.since + lasts);
        arm_timer(engine);
        engine.internals().enqueue_gossip(now, key);
    }
    after > before
}

/// Ends the suspicions whose time is over.
pub(super) fn expire_suspicions(engine: &mut Engine, now: Time) {
    while let Some(key) = engine.detector().state.suspicion_timers.first_due(now) {
        expire(engine, now, key);
    }
}

/// Declares a suspect failed that did not refute in time.
fn expire(engine: &mut Engine, now: Time, key: u64) {
    let mut internals = engine.internals();
    let generation = {
        let timers = &internals.detector().state.suspicion_timers;
        timers.get(key).map(|timer| timer.generation)
    };
    let suspicion = internals.suspicion(key);
    let Some((_, suspectors)) = suspicion.filter(|it| Some(it.0) == generation) else {
        return internals.detector().state.suspicion_timers.cancel(key);
    };
    let is_own = suspectors.contains(&internals.own_key());
    let decides = is_own || !internals.detector().rules.has(Rule::OnlySuspectorsDecide);
    if !decides || internals.is_isolated(now) {
        let later = now + internals.probe_interval();
        let state = &mut internals.detector().state;
        return state.suspicion_timers.reschedule(key, later);
    }
    internals.detector().state.suspicion_timers.cancel(key);
    internals.stats().failures_declared += 1;
    internals.mark_failed(now, key);
}

/// Sets the detector's timer to the next expiry or push/pull.
pub(super) fn arm_timer(engine: &mut Engine) {
    let state = &engine.detector().state;
    let next = state.suspicion_timers.next().into_iter();
    if let Some(at) = next.chain(state.push_pull_at).min() {
        engine.internals().set_detector_timer(at);
    }
}
