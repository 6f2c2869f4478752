//! Tests of strategies with unequal servers, in virtual time.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc, time::Duration};

use rpcnet_balance::{
    Balancer, Endpoint, Outcome, OutcomeKind, PeakEwma, PickContext, PowerOfTwo, Prequal,
    ReportedLoad, SlowStart, Time, View, WeightedByLoad,
};

const SEED: u64 = 0x5eed;

fn view(len: u64) -> View {
    View::new((0..len).map(|id| Arc::new(Endpoint::new(id))), 1)
}

fn at(ms: u64) -> Time {
    Time::from(Duration::from_millis(ms))
}

fn us(us: u64) -> Duration {
    Duration::from_micros(us)
}

/// Behaviour of a server: the outcome of a call and its time, `None` for no reply.
type Behaviour<'a> = &'a dyn Fn(usize, Time) -> Option<(OutcomeKind, Duration)>;

/// Makes calls at a constant rate, from second 1 on; the server of each, and the time of its reply.
fn drive(
    balancer: &dyn Balancer,
    view: &View,
    per_second: u64,
    seconds: u64,
    behaviour: Behaviour<'_>,
) -> Vec<(Time, usize, Option<Duration>)> {
    let (mut calls, mut running, mut hung) = (Vec::new(), BinaryHeap::new(), Vec::new());
    let mut guards = std::collections::HashMap::new();
    for number in 0..per_second * seconds {
        let now = at(1000) + Duration::from_nanos(number * 1_000_000_000 / per_second);
        while let Some(Reverse((ends, index, kind, latency, call))) = running.pop() {
            if ends > now {
                running.push(Reverse((ends, index, kind, latency, call)));
                break;
            }
            let kind = [OutcomeKind::Success, OutcomeKind::Failure][kind];
            let outcome = Outcome::new(kind, latency).with_now(ends);
            balancer.on_outcome(view, index, &outcome);
            guards.remove(&call);
        }
        let cx = PickContext::new().with_now(now).with_key(number);
        let index = balancer.pick(view, &cx).expect("all are allowed");
        let guard = view[index].begin_at(now);
        let reply = behaviour(index, now);
        match reply {
            Some((kind, latency)) => {
                let kind = usize::from(kind != OutcomeKind::Success);
                running.push(Reverse((now + latency, index, kind, latency, number)));
                guards.insert(number, guard);
            }
            None => hung.push(guard),
        }
        calls.push((now, index, reply.map(|(_, latency)| latency)));
    }
    calls
}

/// The share of the calls after `from` that one server got.
fn share(calls: &[(Time, usize, Option<Duration>)], from: Time, index: usize) -> f64 {
    let later: Vec<_> = calls.iter().filter(|call| call.0 >= from).collect();
    later.iter().filter(|call| call.1 == index).count() as f64 / later.len() as f64
}

/// Some 5 ms, never the same.
fn healthy(index: usize, now: Time) -> Duration {
    us(4000 + (now.as_nanos() / 1000 + index as u64 * 317) * 7919 % 2000)
}

fn measuring() -> [Arc<dyn Balancer>; 3] {
    [
        Arc::new(PeakEwma::seeded(SEED)),
        Arc::new(Prequal::seeded(SEED)),
        Arc::new(PowerOfTwo::seeded(SEED)),
    ]
}

#[test]
fn a_server_that_fails_at_once_gets_almost_nothing() {
    for balancer in measuring() {
        for (per_second, most) in [(100, 0.02), (1000, 0.004), (10_000, 0.002)] {
            let calls = drive(&*balancer, &view(10), per_second, 20, &|index, now| {
                Some(match index {
                    3 => (OutcomeKind::Failure, us(100)),
                    _ => (OutcomeKind::Success, healthy(index, now)),
                })
            });
            let share = share(&calls, at(2000), 3);
            assert!(share <= most, "{share} of {per_second}/s for {balancer:?}");
        }
    }
}

#[test]
fn half_of_the_servers_failing_does_not_take_half_of_the_calls() {
    for balancer in measuring() {
        let calls = drive(&*balancer, &view(10), 2000, 10, &|index, now| {
            Some(match index {
                0..5 => (OutcomeKind::Failure, us(100)),
                _ => (OutcomeKind::Success, healthy(index, now)),
            })
        });
        let failed: f64 = (0..5).map(|index| share(&calls, at(2000), index)).sum();
        assert!(failed < 0.04, "{failed} for {balancer:?}");
    }
}

#[test]
fn a_server_that_becomes_slow_does_not_affect_the_tail() {
    for balancer in [&measuring()[0], &measuring()[1]] {
        let calls = drive(&**balancer, &view(10), 2000, 20, &|index, now| {
            let slow = index == 3 && now >= at(6000);
            let latency = healthy(index, now) * if slow { 100 } else { 1 };
            Some((OutcomeKind::Success, latency))
        });
        let mut latencies: Vec<Duration> = calls
            .iter()
            .filter(|call| call.0 >= at(6000))
            .filter_map(|call| call.2)
            .collect();
        latencies.sort_unstable();
        let p99 = latencies[latencies.len() * 99 / 100];
        assert!(p99 <= us(9000), "{p99:?} for {balancer:?}");
    }
}

#[test]
fn a_hung_server_is_noticed_before_it_answers() {
    let (balancer, view) = (PeakEwma::seeded(SEED), view(10));
    let calls = drive(&balancer, &view, 1000, 8, &|index, now| {
        let hangs = index == 3 && now >= at(2000);
        (!hangs).then(|| (OutcomeKind::Success, healthy(index, now)))
    });
    let stuck = calls.iter().filter(|call| call.2.is_none()).count();
    assert!(
        (1..20).contains(&stuck),
        "{stuck} calls to a server that hangs"
    );
}

#[test]
fn silence_weighs_more_than_many_calls_elsewhere() {
    // One server has gone silent with a call in flight, the other is loaded and replies.
    let share = |timed: bool| {
        let (balancer, view) = (PeakEwma::seeded(SEED), view(2));
        for index in 0..2 {
            let reply = Outcome::new(OutcomeKind::Success, us(5000)).with_now(at(1000));
            balancer.on_outcome(&view, index, &reply);
        }
        let begin = |index: usize| match timed {
            true => view[index].begin_at(at(1000)),
            false => view[index].begin(),
        };
        let _hung = begin(0);
        let _calls = [1; 9].map(begin);
        let reply = Outcome::new(OutcomeKind::Success, us(5000)).with_now(at(1100));
        balancer.on_outcome(&view, 1, &reply);
        let cx = PickContext::new().with_now(at(1100));
        (0..1000)
            .filter(|_| balancer.pick(&view, &cx) == Some(0))
            .count()
    };
    assert_eq!(share(true), 0);
    // Without the times of calls there is no silence.
    assert_eq!(share(false), 1000);
}

#[test]
fn a_new_server_neither_starves_nor_is_flooded() {
    for latency in [us(500), us(5000), us(50_000)] {
        let (balancer, all) = (PeakEwma::seeded(SEED), view(10));
        let behaviour = |index: usize, now: Time| match index {
            9 => Some((OutcomeKind::Success, latency)),
            _ => Some((OutcomeKind::Success, healthy(index, now))),
        };
        let part = all.subset(&(0..9).collect::<Vec<_>>());
        drive(&balancer, &part, 2000, 2, &behaviour);
        // The first tenth of a second after it is added.
        let calls = drive(&balancer, &all, 2000, 1, &behaviour);
        let first = calls[..200].iter().filter(|call| call.1 == 9).count();
        // A server that is ten times as fast may win whenever it is among the three that are drawn.
        assert!((1..75).contains(&first), "{first} of 200 at {latency:?}");
    }
}

#[test]
fn an_unknown_server_is_compared_by_its_calls_in_flight() {
    let (balancer, view) = (PeakEwma::seeded(SEED), view(2));
    let reply = Outcome::new(OutcomeKind::Success, us(5000)).with_now(at(1000));
    balancer.on_outcome(&view, 1, &reply);
    let share = || {
        let cx = PickContext::new().with_now(at(1000));
        let picks = (0..1000).filter(|_| balancer.pick(&view, &cx) == Some(0));
        picks.count()
    };
    assert!((350..650).contains(&share()), "{}", share());
    let _known = view[1].begin();
    assert_eq!(share(), 1000);
    let _unknown = [view[0].begin(), view[0].begin()];
    assert_eq!(share(), 0);
}

#[test]
fn a_server_that_was_slow_is_tried_again_and_not_flooded() {
    let (balancer, view) = (PeakEwma::seeded(SEED), view(2));
    let record = |index: usize, ms: u64, latency: Duration| {
        let outcome = Outcome::new(OutcomeKind::Success, latency).with_now(at(ms));
        balancer.on_outcome(&view, index, &outcome);
    };
    // The first reply alone may be that of a cold start.
    record(0, 1000, us(100_000));
    record(0, 1000, us(100_000));
    let share = |ms: u64| {
        record(1, ms, us(5000));
        let cx = PickContext::new().with_now(at(ms));
        (0..1000)
            .filter(|_| balancer.pick(&view, &cx) == Some(0))
            .count()
    };
    assert_eq!(share(1001), 0);
    assert_eq!(share(20_000), 0);
    // Decayed below the other's, it is equal to it, and no better.
    for s in [40, 100, 4000] {
        let share = share(s * 1000);
        assert!((350..650).contains(&share), "{share} after {s} s");
    }
}

/// How many of 1,000 picks go to the first of two endpoints.
fn picks_of_first(balancer: &dyn Balancer, view: &View, now: Time) -> usize {
    let cx = PickContext::new().with_now(now);
    (0..1000)
        .filter(|_| balancer.pick(view, &cx) == Some(0))
        .count()
}

#[test]
fn a_slow_reply_decays_after_any_idle_time() {
    let hours = |hours: u64| Duration::from_secs(3600 * hours);
    // Around half of the 78 hours, and all of them, after which times of 32 bits wrap around; and
    // up to months.
    for quiet in [1, 38, 39, 40, 60, 64, 77, 78, 79, 117, 156, 170, 500, 3000].map(hours) {
        for begin in [hours(0), hours(20), hours(77)] {
            let (balancer, view) = (PeakEwma::seeded(SEED), view(2));
            let friday = at(1000) + begin;
            for (index, ms) in [(0, 2000), (1, 5), (0, 2000), (1, 5)] {
                let outcome = Outcome::new(OutcomeKind::Success, us(1000 * ms)).with_now(friday);
                balancer.on_outcome(&view, index, &outcome);
            }
            assert_eq!(picks_of_first(&balancer, &view, friday), 0);
            let monday = friday + quiet;
            let share = picks_of_first(&balancer, &view, monday);
            assert!((350..650).contains(&share), "{share} after {quiet:?}");
            let outcome = Outcome::new(OutcomeKind::Success, us(5000)).with_now(monday);
            balancer.on_outcome(&view, 0, &outcome);
            balancer.on_outcome(&view, 1, &outcome);
            let share = picks_of_first(&balancer, &view, monday + us(10_000));
            assert!((350..650).contains(&share), "{share} after {quiet:?}");
        }
    }
}

#[test]
fn a_coarse_clock_distinguishes_20_ms_from_10() {
    let (balancer, view) = (PeakEwma::seeded(SEED), view(2));
    let mut calls = [0; 2];
    // A step of the clock is 10 ms, so every reply is equal to the one before.
    for step in 100..10_000 {
        let now = at(10 * step);
        let cx = PickContext::new().with_now(now);
        let index = balancer.pick(&view, &cx).expect("both are allowed");
        let outcome = Outcome::new(OutcomeKind::Success, us([20_000, 10_000][index]));
        balancer.on_outcome(&view, index, &outcome.with_now(now));
        calls[index] += 1;
    }
    assert!(calls[0] * 20 < calls[1], "{calls:?}");
}

#[test]
fn one_outcome_of_endless_latency_matters_for_less_than_two_minutes() {
    for kind in [OutcomeKind::Success, OutcomeKind::Cancelled] {
        let (balancer, view) = (PeakEwma::seeded(SEED), view(2));
        let record = |index: usize, latency: Duration, now: Time| {
            let outcome = Outcome::new(kind, latency).with_now(now);
            balancer.on_outcome(&view, index, &outcome);
        };
        record(0, Duration::MAX, at(1000));
        record(0, Duration::MAX, at(1000));
        let shunned = (1..600).find(|second| {
            let now = at(1000 * (1 + second));
            record(1, us(1000), now);
            picks_of_first(&balancer, &view, now) > 0
        });
        assert!(shunned.is_some_and(|seconds| seconds < 120), "{shunned:?}");
    }
}

#[test]
fn a_connect_timeout_does_not_count_as_a_latency() {
    for balancer in measuring() {
        let view = view(2);
        let record = |index: usize, kind, latency: Duration, now: Time| {
            let outcome = Outcome::new(kind, latency).with_now(now);
            balancer.on_outcome(&view, index, &outcome);
        };
        for now in [at(1000), at(1001)] {
            record(0, OutcomeKind::Success, us(1000), now);
            record(1, OutcomeKind::Success, us(1000), now);
        }
        // A probe finds out after five seconds that the endpoint is still away.
        record(0, OutcomeKind::Unreachable, us(5_000_000), at(7000));
        assert_eq!(picks_of_first(&*balancer, &view, at(7050)), 0);
        // It is back before the next probe, and its backoff is over.
        record(0, OutcomeKind::Success, us(1000), at(7200));
        let share = picks_of_first(&*balancer, &view, at(7250));
        assert!((350..650).contains(&share), "{balancer:?}: {share}");
    }
}

#[test]
fn a_busy_report_is_respected_for_a_second() {
    for balancer in measuring() {
        let view = view(2);
        view[0].set_reported_load_at(ReportedLoad::new().with_busy(true), at(1000));
        let share = |ms| {
            let cx = PickContext::new().with_now(at(ms));
            (0..1000)
                .filter(|_| balancer.pick(&view, &cx) == Some(0))
                .count()
        };
        assert_eq!(share(1500), 0, "{balancer:?}");
        // A bias in ties would starve it: it would never be found to be healthy.
        assert!(share(2500) > 0, "{balancer:?}");
        // Still better than one with a much higher load.
        let _calls = [0; 8].map(|_| view[1].begin_at(at(1500)));
        assert_eq!(share(1500), 1000, "{balancer:?}");
    }
}

#[test]
fn retry_after_is_respected() {
    for balancer in measuring() {
        let picked_after = |kind| {
            let view = view(2);
            let outcome = Outcome::new(kind, us(100))
                .with_now(at(1000))
                .with_retry_after(Some(us(500_000)));
            balancer.on_outcome(&view, 0, &outcome);
            let picked = |ms: u64| {
                let cx = PickContext::new().with_now(at(ms));
                (0..100).any(|_| balancer.pick(&view, &cx) == Some(0))
            };
            [1005, 1020, 1400, 1600].map(picked)
        };
        let failed = picked_after(OutcomeKind::Failure);
        assert_eq!(failed, [false, false, false, true], "{balancer:?}");
        // A single rejection may be one of many everywhere.
        let rejected = picked_after(OutcomeKind::Overloaded);
        assert_eq!(rejected, [false, true, true, true], "{balancer:?}");
    }
}

/// Reports of calls in flight, at second 1.
fn reports(view: &View, calls: &[u32]) {
    for (index, &calls) in calls.iter().enumerate() {
        let load = ReportedLoad::new().with_in_flight(calls);
        view[index].set_reported_load_at(load, at(1000));
    }
}

/// The share of picks of each endpoint at a time.
fn shares(balancer: &dyn Balancer, view: &View, now: Time) -> Vec<f64> {
    let (mut counts, picks) = (vec![0.0; view.len()], 50_000);
    for _ in 0..picks {
        let index = balancer
            .pick(view, &PickContext::new().with_now(now))
            .unwrap();
        counts[index] += 1.0 / f64::from(picks);
    }
    counts
}

#[test]
fn prequal_picks_the_fastest_cold_or_the_least_loaded_hot_endpoint() {
    let view = view(10);
    // The fastest is hot.
    reports(&view, &[1, 2, 3, 4, 5, 4, 3, 2, 5, 90]);
    for index in 0..10 {
        let latency = us(1_000_000).mul_f64(0.6_f64.powi(index as i32));
        let outcome = Outcome::new(OutcomeKind::Success, latency).with_now(at(1000));
        for _ in 0..2 {
            Prequal::seeded(SEED).on_outcome(&view, index, &outcome);
        }
    }
    let quick = shares(&Prequal::seeded(SEED), &view, at(1100));
    assert!(
        quick[8] > 0.24 && quick[8] > quick[7] && quick[7] > quick[0],
        "{quick:?}"
    );
    assert!(quick[9] < 0.001, "{quick:?}");
    // With reports out of date, the fastest is picked, as by peak EWMA.
    let stale = shares(&Prequal::seeded(SEED), &view, at(3000));
    assert!(stale[9] > 0.24, "{stale:?}");
    // All are hot: the fewest calls.
    let hot = Prequal::seeded(SEED).with_hot_quantile(0.0);
    let hot = shares(&hot, &view, at(1100));
    assert!(hot[0] > 0.24 && hot[9] < 0.01, "{hot:?}");
    let unknown = Prequal::seeded(SEED).with_hot_quantile(f32::NAN);
    assert_eq!(shares(&unknown, &view, at(1100)), quick);
}

#[test]
fn weights_by_load_follow_reports_and_weights() {
    let view = View::new(
        [1.0, 1.0, 1.0, 3.0]
            .map(|weight| Arc::new(Endpoint::new(weight as u64).with_weight(weight))),
        1,
    );
    let shares = |ms| {
        let balancer = WeightedByLoad::seeded(SEED).rebuild(&view).unwrap();
        shares(&*balancer, &view, at(ms))
    };
    // By weight while there is no report, and when reports are out of date.
    let close = |shares: &[f64], expected: [f64; 4]| {
        shares
            .iter()
            .zip(expected)
            .all(|(share, expected)| (share - expected).abs() < 0.01)
    };
    let by_weight = [1.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0, 0.5];
    assert!(close(&shares(1000), by_weight), "{:?}", shares(1000));
    reports(&view, &[0, 9, 9, 29]);
    let loaded = shares(1000);
    // Two are drawn by weight; of two different ones the idle one is picked 10 times of 11.
    let idle = 1.0 / 36.0 + 2.0 * 5.0 / 36.0 * 10.0 / 11.0;
    assert!((loaded[0] - idle).abs() < 0.01, "{loaded:?}");
    assert!(loaded[3] > 2.5 * loaded[1], "{loaded:?}");
    assert!(close(&shares(2001), by_weight));
}

#[test]
fn a_new_server_starts_slowly() {
    let window = Duration::from_secs(10);
    let first = view(9);
    let inner = Arc::new(rpcnet_balance::Random::seeded(SEED));
    let slow = SlowStart::new(inner, window).rebuild(&first).unwrap();
    let even = shares(&*slow, &first, at(1000));
    assert!(
        even.iter().all(|share| (share - 1.0 / 9.0).abs() < 0.01),
        "{even:?}"
    );

    let new = Arc::new(Endpoint::new(99));
    let grown = View::new(
        first.endpoints().iter().cloned().chain([Arc::clone(&new)]),
        2,
    );
    let slow = slow.rebuild(&grown).unwrap();
    let share = |ms| shares(&*slow, &grown, at(ms))[9];
    for (ms, part) in [(20_000, 0.1), (25_000, 0.5), (29_000, 0.9), (30_000, 1.0)] {
        let share = share(ms);
        assert!((share - 0.1 * part).abs() < 0.006, "{share} at {ms} ms");
    }
    // The same again when it takes calls after a break.
    new.set_ready(at(60_000));
    assert!(share(60_500) < 0.015 && share(70_000) > 0.09);
    // Without a time there is no slow start.
    let inner = Arc::new(rpcnet_balance::Random::seeded(SEED));
    let at_once = SlowStart::new(inner, Duration::ZERO);
    let at_once = at_once.rebuild(&grown).unwrap();
    assert!(shares(&*at_once, &grown, at(60_000))[9] > 0.09);
    // Alone it takes all calls.
    let alone = View::new([new], 3);
    let cx = PickContext::new().with_now(at(60_000));
    assert_eq!(slow.rebuild(&alone).unwrap().pick(&alone, &cx), Some(0));
}
