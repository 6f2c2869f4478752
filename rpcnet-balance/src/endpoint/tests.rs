//! Tests of an endpoint: weights, silence, latencies and backoff.

use super::*;
use crate::{KindLatency, Outcome, OutcomeKind};

#[test]
fn a_call_is_counted_until_its_guard_is_dropped() {
    let endpoint = Arc::new(Endpoint::new(7));
    let (first, second) = (endpoint.begin(), endpoint.begin());
    assert_eq!(endpoint.in_flight(), 2);
    assert_eq!(first.endpoint().id(), 7);
    drop(first);
    assert_eq!(endpoint.in_flight(), 1);
    // Also when the call ends by a panic, on another thread.
    let ended = std::thread::spawn(move || {
        let _second = second;
        std::panic::resume_unwind(Box::new(()));
    });
    assert!(ended.join().is_err());
    assert_eq!(endpoint.in_flight(), 0);
}

#[test]
fn is_slow_returns_the_last_value_set() {
    let endpoint = Endpoint::new(7);
    assert!(!endpoint.is_slow());
    endpoint.set_slow(true);
    assert!(endpoint.is_slow());
    endpoint.set_slow(false);
    assert!(!endpoint.is_slow());
}

#[test]
fn weights_are_clamped_and_zero_sets_a_flag() {
    for (given, taken, flags) in [
        (f32::NAN, 1.0, ExclusionFlags::NONE),
        (f32::NEG_INFINITY, 1.0, ExclusionFlags::ZERO_WEIGHT),
        (-1.0, 1.0, ExclusionFlags::ZERO_WEIGHT),
        (-0.0, 1.0, ExclusionFlags::ZERO_WEIGHT),
        (0.0, 1.0, ExclusionFlags::ZERO_WEIGHT),
        (f32::MIN_POSITIVE, 0.001, ExclusionFlags::NONE),
        (f32::INFINITY, 1000.0, ExclusionFlags::NONE),
        (2.5, 2.5, ExclusionFlags::NONE),
    ] {
        let endpoint = Endpoint::new(0).with_weight(given);
        assert_eq!((endpoint.weight(), endpoint.flags()), (taken, flags));
        // Other flags stay, this one is cleared.
        endpoint.set_flags(ExclusionFlags::EJECTED);
        endpoint.set_weight(2.0);
        assert_eq!(
            (endpoint.weight(), endpoint.flags()),
            (2.0, ExclusionFlags::EJECTED)
        );
    }
    assert_eq!(Endpoint::new(0).with_weight(2.0).load(), 0.5);
}

#[test]
fn endpoints_do_not_share_cache_lines_and_a_pick_reads_one() {
    assert_eq!((align_of::<Endpoint>(), size_of::<Endpoint>()), (128, 128));
    assert_eq!(std::mem::offset_of!(Endpoint, id), 64);
}

fn at(ms: u64) -> Time {
    Time::from(Duration::from_millis(ms))
}

fn outcome(kind: OutcomeKind, ms: u64) -> Outcome {
    Outcome::new(kind, Duration::from_millis(3)).with_now(at(ms))
}

#[test]
fn silence_lasts_from_the_first_call_to_the_next_reply() {
    let endpoint = Arc::new(Endpoint::new(7));
    let silence = |ms| endpoint.silence(at(ms)).as_millis();
    let record = |kind, ms| {
        let decay = Decay::over(Duration::from_secs(10));
        endpoint.on_outcome(&outcome(kind, ms), decay, Duration::ZERO);
    };
    assert_eq!(silence(1000), 0);
    let first = endpoint.begin_at(at(1000));
    let _second = endpoint.begin_at(at(1050));
    assert_eq!(silence(1100), 100);
    // A cancelled attempt is no reply.
    record(OutcomeKind::Cancelled, 1150);
    assert_eq!(silence(1200), 200);
    record(OutcomeKind::Success, 1300);
    drop(first);
    assert_eq!(silence(1400), 100);
    // After ten seconds the next call is a new try.
    assert_eq!((silence(11_300), silence(11_301)), (10_000, 0));
    let _third = endpoint.begin_at(at(12_000));
    assert_eq!(silence(12_010), 10);
}

#[test]
fn calls_without_a_time_cause_no_silence() {
    let endpoint = Arc::new(Endpoint::new(7));
    drop(endpoint.begin_at(at(10)));
    let _call = endpoint.begin();
    assert_eq!(endpoint.silence(at(5000)), Duration::ZERO);
}

#[test]
fn each_outcome_updates_latency_and_backoff() {
    // What an attempt of 3 ms that ended at 1 s leaves behind: the latency, and the end of the
    // backoff.
    let check = |given: Outcome, latency: bool, backoff_end: u64| {
        let endpoint = Endpoint::new(7);
        let decay = Duration::from_secs(10);
        endpoint.on_outcome(&given, Decay::over(decay), Duration::from_millis(100));
        let latency_kept = endpoint.latency(at(1000), decay);
        assert_eq!(
            latency_kept.map(|time| time.as_millis()),
            latency.then_some(3),
            "{given:?}"
        );
        assert_eq!(endpoint.in_backoff(at(1000)), backoff_end > 0, "{given:?}");
        assert!(
            backoff_end == 0 || endpoint.in_backoff(at(backoff_end - 1)),
            "{given:?}"
        );
        assert!(!endpoint.in_backoff(at(backoff_end + 1)), "{given:?}");
    };
    let retry_after = Some(Duration::from_millis(700));
    check(outcome(OutcomeKind::Success, 1000), true, 0);
    check(outcome(OutcomeKind::Failure, 1000), true, 1100);
    check(outcome(OutcomeKind::Unreachable, 1000), false, 1100);
    check(outcome(OutcomeKind::Overloaded, 1000), false, 1010);
    check(outcome(OutcomeKind::Cancelled, 1000), true, 0);
    check(outcome(OutcomeKind::Rejected, 1000), false, 0);
    check(outcome(OutcomeKind::StreamStarted, 1000), false, 0);
    let failed = outcome(OutcomeKind::Failure, 1000).with_retry_after(retry_after);
    check(failed, true, 1700);
    // Other endpoints may be as full: the retry-after time is an upper bound.
    let rejected =
        |retry_after| outcome(OutcomeKind::Overloaded, 1000).with_retry_after(retry_after);
    check(rejected(retry_after), false, 1010);
    check(rejected(Some(Duration::from_millis(4))), false, 1004);
}

#[test]
fn consecutive_rejections_lengthen_the_backoff_up_to_retry_after() {
    let endpoint = Endpoint::new(7);
    let reject = |now| {
        let retry_after = Some(Duration::from_millis(90));
        let rejected = outcome(OutcomeKind::Overloaded, now).with_retry_after(retry_after);
        let decay = Decay::over(Duration::from_secs(10));
        endpoint.on_outcome(&rejected, decay, Duration::from_millis(100));
    };
    // Each begins 3 ms before, after the backoff of the one before.
    for (now, backoff_end) in [(1000, 1010), (1020, 1060), (1070, 1160), (1170, 1260)] {
        reject(now);
        assert!(
            endpoint.in_backoff(at(backoff_end - 1)) && !endpoint.in_backoff(at(backoff_end + 1)),
            "{now}"
        );
    }
    // Those that were in flight at the same time are no further evidence.
    reject(1180);
    assert!(!endpoint.in_backoff(at(1271)));
}

#[test]
fn ready_since_is_initialised_once() {
    let (old, new) = (Endpoint::new(1), Endpoint::new(2));
    old.init_ready_since(false);
    new.init_ready_since(true);
    for endpoint in [&old, &new] {
        endpoint.init_ready_since(true);
        assert_eq!(endpoint.ready_since(), None);
    }
    assert_eq!(old.ready_since_or_start(at(5)), None);
    assert_eq!(new.ready_since_or_start(at(5)), Some(at(5)));
    assert_eq!(new.ready_since_or_start(at(9)), Some(at(5)));
    old.set_ready(at(7));
    assert_eq!(old.ready_since(), Some(at(7)));
}

/// The scale of calls that usually take 3 s, where typical ones take 20 ms.
fn long() -> LatencyScale {
    LatencyScale::new(KindLatency {
        usual: Duration::from_secs(3),
        typical: Duration::from_millis(20),
    })
}

fn begin(endpoint: &Arc<Endpoint>, ms: u64, scale: LatencyScale) -> InFlight {
    let mut call = endpoint.begin_at(at(ms));
    call.set_scale(at(ms), scale);
    call
}

fn answer(endpoint: &Endpoint, ms: u64) {
    let decay = Decay::over(Duration::from_secs(10));
    endpoint.on_outcome(&outcome(OutcomeKind::Success, ms), decay, Duration::ZERO);
}

#[test]
fn silence_of_long_calls_is_scaled() {
    let endpoint = Arc::new(Endpoint::new(7));
    let silence = |ms| endpoint.silence(at(ms)).as_millis();
    let _long = begin(&endpoint, 1000, long());
    // A call that takes as long as usual looks like a typical call that takes as long as usual.
    assert_eq!((silence(2000), silence(4000), silence(10_000)), (6, 20, 61));
    // Begun after that, a typical call causes silence from its own beginning on.
    let typical = begin(&endpoint, 5000, LatencyScale::ONE);
    assert_eq!((silence(5000), silence(5100)), (0, 100));
    answer(&endpoint, 5120);
    assert_eq!(silence(5140), 20, "it is still counted");
    drop(typical);
    // The silence of the remaining call is scaled, counted from the last reply on.
    assert_eq!((silence(5140), silence(8120)), (0, 20));
}

#[test]
fn long_calls_do_not_hide_the_silence_of_a_typical_call() {
    let endpoint = Arc::new(Endpoint::new(7));
    let _typical = begin(&endpoint, 1000, LatencyScale::ONE);
    let _long = begin(&endpoint, 1010, long());
    let _stream = begin(&endpoint, 1020, LatencyScale::UNKNOWN);
    assert_eq!(endpoint.silence(at(1100)).as_millis(), 100);
}

#[test]
fn new_long_calls_do_not_hide_the_silence_of_a_hung_endpoint() {
    let endpoint = Arc::new(Endpoint::new(7));
    let scale = LatencyScale::new(KindLatency {
        usual: Duration::from_millis(100),
        typical: Duration::from_millis(10),
    });
    let calls: Vec<_> = (0..50)
        .map(|n| begin(&endpoint, 1000 + 100 * n, scale))
        .collect();
    // 5 s without a reply, where 100 ms are usual.
    assert_eq!(endpoint.silence(at(6000)).as_millis(), 543);
    drop(calls);
    assert_eq!(endpoint.silence(at(6000)), Duration::ZERO);
}

#[test]
fn a_call_without_a_usual_latency_causes_no_silence() {
    let endpoint = Arc::new(Endpoint::new(7));
    let _stream = begin(&endpoint, 1000, LatencyScale::UNKNOWN);
    answer(&endpoint, 1010);
    for ms in [1010, 1100, 5000, 10_000, 60_000] {
        assert_eq!(endpoint.silence(at(ms)), Duration::ZERO, "at {ms} ms");
    }
}

#[test]
fn long_calls_are_counted_down_and_bounded() {
    let endpoint = Arc::new(Endpoint::new(7));
    let most = usize::from(u16::MAX);
    let mut calls: Vec<_> = (0..most + 2).map(|_| begin(&endpoint, 1, long())).collect();
    assert_eq!(endpoint.in_flight() as usize, most + 2);
    assert_eq!(usize::from(endpoint.state().long_calls()), most);
    // The scale of a call can be set again.
    for call in &mut calls[..10] {
        call.set_scale(at(2), LatencyScale::ONE);
    }
    let counted = usize::from(endpoint.state().long_calls());
    assert_eq!(counted, most - 10);
    drop(calls);
    assert_eq!(endpoint.in_flight(), 0);
    assert_eq!(endpoint.state().long_calls(), 0);
    assert_eq!(endpoint.long_rates.load(Ordering::Relaxed), 0);
}

#[test]
fn the_normalised_latency_is_recorded() {
    let decay = Duration::from_secs(10);
    let recorded = |normalized| {
        let endpoint = Endpoint::new(7);
        let took_3_s =
            Outcome::new(OutcomeKind::Success, Duration::from_secs(3)).with_now(at(9000));
        let outcome = took_3_s.with_normalized_latency(normalized);
        endpoint.on_outcome(&outcome, Decay::over(decay), Duration::ZERO);
        endpoint.latency(at(9000), decay)
    };
    let ms_20 = Some(Duration::from_millis(20));
    assert_eq!((recorded(ms_20), recorded(None)), (ms_20, None));
}

#[test]
fn traits_follow_what_is_known_of_the_endpoint() {
    let endpoint = Endpoint::new(7);
    let has = |traits| endpoint.state().has_any(traits);
    let record = |kind, ms: u64| {
        let outcome = Outcome::new(kind, Duration::from_millis(1)).with_now(at(ms));
        endpoint.on_outcome(&outcome, Decay::over(DECAY), Duration::from_millis(100));
    };
    // Neither the first message of a stream nor a rejection tells a latency.
    record(OutcomeKind::StreamStarted, 1);
    record(OutcomeKind::Rejected, 1);
    assert!(has(Traits::WITHOUT_REPLY) && !has(Traits::BACKOFF));
    record(OutcomeKind::Success, 1);
    assert!(!has(Traits::WITHOUT_REPLY));
    for kind in [
        OutcomeKind::Failure,
        OutcomeKind::Unreachable,
        OutcomeKind::Overloaded,
    ] {
        record(kind, 1000);
        assert!(has(Traits::BACKOFF) && endpoint.in_backoff(at(1000)));
        record(OutcomeKind::Success, 1000);
        assert!(has(Traits::BACKOFF), "the call began before");
        (0..4).for_each(|_| record(OutcomeKind::Success, 9000));
        assert!(!has(Traits::BACKOFF));
    }
    let asked = Outcome::new(OutcomeKind::Rejected, Duration::ZERO)
        .with_now(at(9000))
        .with_retry_after(Some(Duration::from_secs(1)));
    endpoint.on_outcome(&asked, Decay::over(DECAY), Duration::ZERO);
    assert!(has(Traits::BACKOFF) && endpoint.in_backoff(at(9500)));
    let load = ReportedLoad::new();
    for (load, busy) in [
        (load, false),
        (load.with_draining(true), true),
        (load, false),
        (load.with_busy(true), true),
    ] {
        endpoint.set_reported_load_at(load, at(9000));
        assert_eq!(has(Traits::BUSY_REPORTED), busy);
    }
}

#[test]
fn a_backoff_is_seen_whatever_other_threads_record() {
    let endpoint = Endpoint::new(7);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let endpoint = &endpoint;
            scope.spawn(move || {
                for ms in 0..2000 {
                    let kind = match (thread + ms) % 5 {
                        0 => OutcomeKind::Failure,
                        _ => OutcomeKind::Success,
                    };
                    let outcome = Outcome::new(kind, Duration::ZERO).with_now(at(ms));
                    endpoint.on_outcome(&outcome, Decay::over(DECAY), Duration::from_nanos(1));
                }
            });
        }
    });
    let has_failed = endpoint.backoff.may_be_active();
    assert_eq!(endpoint.state().has_any(Traits::BACKOFF), has_failed);
}

const DECAY: Duration = Duration::from_secs(10);
