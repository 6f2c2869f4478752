//! Tests of the moving average against a model in `f64`, over weeks.

use proptest::prelude::*;

use super::*;

const DECAY: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Words {
    value: AtomicU32,
    at: AtomicU64,
}

impl Words {
    fn cell(&self) -> LatencyCell<'_> {
        LatencyCell {
            value: &self.value,
            at: &self.at,
        }
    }

    fn decayed_ms(&self, now: Time) -> f64 {
        f64::from(self.cell().read(now, Decay::over(DECAY)).decayed) / 1e6
    }
}

#[derive(Debug, Clone, Copy)]
enum Sample {
    Reply(u64),
    AtLeast(u64),
}
use Sample::{AtLeast, Reply};

impl Sample {
    fn record(self, words: &Words, now: Time) {
        let (cell, decay) = (words.cell(), Decay::over(DECAY));
        match self {
            Reply(us) => cell.record(now, Duration::from_micros(us), decay),
            AtLeast(us) => cell.record_at_least(now, Duration::from_micros(us), decay),
        }
    }
}

/// Records samples of milliseconds at seconds, and checks what is read at the last second.
fn check(samples: &[(u64, Sample)], read_s: u64, expected_ms: f64) {
    let words = Words::default();
    for (at, sample) in samples {
        let sample = match *sample {
            Reply(ms) => Reply(ms * 1000),
            AtLeast(ms) => AtLeast(ms * 1000),
        };
        sample.record(&words, Time::from(Duration::from_secs(*at)));
    }
    let read = words.decayed_ms(Time::from(Duration::from_secs(read_s)));
    let tolerance = 0.001 * expected_ms + 1e-9;
    assert!(
        (read - expected_ms).abs() <= tolerance,
        "{read} instead of {expected_ms}"
    );
}

#[test]
fn peaks_count_at_once_and_decay() {
    let e = (-1.0_f64).exp();
    check(&[], 0, 0.0);
    check(&[(1, Reply(10))], 1, 10.0);
    check(&[(1, Reply(10)), (1, Reply(50))], 1, 50.0);
    let twice = [(1, Reply(50)), (1, Reply(50))];
    let then = |at, ms| [twice[0], twice[1], (at, Reply(ms))];
    check(&then(1, 10), 1, 50.0);
    check(&then(11, 10), 11, 50.0 * e + 10.0 * (1.0 - e));
    check(&twice, 11, 50.0 * e);
    check(&twice, 21, 50.0 * e * e);
    check(&twice, 3000, 0.0);
    // Clocks of two threads may differ a little.
    let late = [(2, Reply(50)), (2, Reply(50)), (1, Reply(10))];
    check(&late, 2, 50.0);
}

#[test]
fn the_second_reply_replaces_the_first() {
    check(&[(1, Reply(50)), (1, Reply(10))], 1, 10.0);
    check(&[(1, Reply(50)), (1, Reply(10)), (1, Reply(9))], 1, 10.0);
    // A lower bound is no reply, and replaces no provisional one.
    check(&[(1, AtLeast(50)), (1, Reply(10))], 1, 50.0);
    let words = Words::default();
    let is_final = || {
        !words
            .cell()
            .read(Time::ZERO, Decay::over(DECAY))
            .is_provisional
    };
    assert!(is_final(), "nothing is known");
    Reply(50).record(&words, Time::ZERO);
    assert!(!is_final());
    Reply(50).record(&words, Time::ZERO);
    assert!(is_final());
}

#[test]
fn an_attempt_without_a_reply_gives_a_lower_bound() {
    let e = (-1.0_f64).exp();
    check(&[(1, AtLeast(10))], 1, 10.0);
    check(&[(1, Reply(50)), (1, AtLeast(10))], 1, 50.0);
    check(&[(1, Reply(50)), (11, AtLeast(10))], 11, 50.0 * e);
    check(&[(1, Reply(50)), (11, AtLeast(30))], 11, 30.0);
    check(&[(1, Reply(50)), (11, AtLeast(30))], 21, 30.0 * e);
}

#[test]
fn a_reply_equal_to_the_average_refreshes_it() {
    // One reply each second.
    let replies: Vec<_> = (1..100).map(|second| (second, Reply(20))).collect();
    check(&replies, 99, 20.0);
    // An attempt without a reply in time is no reply.
    let bounds: Vec<_> = (1..100).map(|second| (second, AtLeast(1))).collect();
    check(
        &[&[(1, Reply(20)), (1, Reply(20))], &bounds[..10]].concat(),
        11,
        20.0 * (-1.0_f64).exp(),
    );
}

#[test]
fn the_approximation_of_the_decay_is_close_and_monotonic() {
    let mut before = half_to_the_power(0.0);
    assert_eq!(before, 1.0);
    for step in 1..200_000 {
        let x = step as f32 * 0.001;
        let y = half_to_the_power(x);
        assert!(y <= before, "at {x}");
        let exact = (-x.min(EXPONENT_MAX)).exp2();
        assert!((y - exact).abs() <= 2e-4 * exact, "at {x}");
        before = y;
    }
}

#[test]
fn a_reply_of_zero_duration_differs_from_no_reply() {
    let (words, decay) = (Words::default(), Decay::over(Duration::ZERO));
    let (cell, end) = (words.cell(), Time::from_nanos(u64::MAX));
    cell.record(Time::ZERO, Duration::ZERO, decay);
    assert_eq!(cell.read(Time::ZERO, decay).decayed, LATENCY_NANOS_MIN);
    cell.record(end, Duration::MAX, decay);
    assert!(cell.read(end, decay).decayed.is_finite());
}

#[test]
fn the_effect_of_one_slow_reply_is_bounded_in_time() {
    for latency in [LATENCY_MAX, LATENCY_MAX * 2, Duration::MAX] {
        let (words, decay) = (Words::default(), Decay::over(DECAY));
        words.cell().record(Time::ZERO, latency, decay);
        words.cell().record_at_least(Time::ZERO, latency, decay);
        let left = words.decayed_ms(Time::from(Duration::from_secs(110)));
        assert!(left < 1.01, "{left} ms of {latency:?}");
    }
}

/// The same in numbers without noticeable rounding.
#[derive(Debug, Default)]
struct Model {
    ns: f64,
    at: u64,
    replies: u64,
}

impl Model {
    fn left(&self, now: u64) -> f64 {
        let age = now.saturating_sub(self.at) as f64 / DECAY.as_nanos() as f64;
        self.ns * (-age).exp()
    }

    fn record(&mut self, recorded: Sample, now: u64) {
        let (Reply(us) | AtLeast(us)) = recorded;
        let sample = (us as f64 * 1e3).clamp(1e3, LATENCY_MAX.as_nanos() as f64);
        let kept = self.left(now) / self.ns.max(1.0);
        match recorded {
            Reply(_) if self.replies == 0 => (self.ns, self.replies) = (sample.max(0.0), 1),
            Reply(_) if self.replies == 1 => (self.ns, self.replies) = (sample, 2),
            Reply(_) if sample >= self.ns => self.ns = sample,
            Reply(_) => self.ns = self.ns * kept + sample * (1.0 - kept),
            AtLeast(_) if sample > self.left(now) => (self.ns, self.replies) = (sample, 2),
            AtLeast(_) => return,
        }
        self.at = self.at.max(now);
    }
}

/// From a microsecond to two weeks, and to the places where words of 32 bits wrap around.
fn pause() -> impl Strategy<Value = u64> {
    let old_wrap = 1_u64 << 48;
    prop_oneof![
        6 => (10.0..16.0_f64).prop_map(|log| 10_f64.powf(log) as u64 / 10),
        1 => (0..4_u64, 0..40_000_000_000_u64)
            .prop_map(move |(halves, more)| (halves + 1) * (old_wrap / 2) - 20_000_000_000 + more),
        1 => (32..50_u32, 0..100_000_u64).prop_map(|(bits, more)| (1 << bits) - 50_000 + more),
    ]
}

fn samples() -> impl Strategy<Value = Sample> {
    // Few values, so that equal ones follow each other.
    let us = prop_oneof![
        prop::sample::select(vec![0, 10, 10_000, 20_000, 2_000_000, 90_000_000]),
        1..3_000_000_u64,
    ];
    (us, 0..4_u8).prop_map(|(us, kind)| if kind == 0 { AtLeast(us) } else { Reply(us) })
}

proptest! {
    #[test]
    fn the_average_agrees_with_a_model_over_weeks(
        steps in prop::collection::vec((pause(), samples()), 1..60),
        start in prop_oneof![Just(1_u64), 0..1_u64 << 60],
        last in pause(),
    ) {
        let (words, mut model, mut now) = (Words::default(), Model::default(), start);
        for (pause, sample) in steps {
            now += pause;
            sample.record(&words, Time::from_nanos(now));
            model.record(sample, now);
            for read in [now, now + last] {
                let now = Time::from_nanos(read);
                let left = f64::from(words.cell().read(now, Decay::over(DECAY)).decayed);
                let expected = model.left(read);
                // What is left after 400 s is as good as nothing; each step adds an error of a
                // thousandth.
                prop_assert!(
                    (left - expected).abs() <= 0.03 * expected + 1.0,
                    "{left} instead of {expected} after {sample:?}"
                );
            }
        }
    }
}

#[test]
fn concurrent_records_keep_the_slowest_reply() {
    let words = Words::default();
    Reply(1).record(&words, Time::ZERO);
    std::thread::scope(|scope| {
        for thread in 1..=4_u64 {
            let words = &words;
            scope.spawn(move || {
                for us in 0..2000 {
                    Reply(us * thread).record(words, Time::from_nanos(us));
                }
            });
        }
    });
    let read = words
        .cell()
        .read(Time::from_nanos(2000), Decay::over(DECAY));
    assert_eq!(read.decayed, 1999.0 * 4.0 * 1e3);
    assert_eq!(words.at.into_inner(), 1999);
}
