//! Tests of the gradient limiter against a model of a server whose capacity is known.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::*;

/// Serves `knee` calls at a time at full speed; more calls share it. Callers always have more
/// calls.
struct Model {
    now: f64,
    /// Seed of the service times.
    seed: u64,
    service: f64,
    knee: usize,
    limiter: GradientLimiter,
    /// When each call ends and began, in nanoseconds.
    running: BinaryHeap<Reverse<(u64, u64)>>,
    /// Most calls that callers have at a time.
    wanted: usize,
    ended: u64,
}

impl Model {
    fn new(service: f64, knee: usize) -> Self {
        Self {
            now: 0.0,
            seed: 1,
            service,
            knee,
            limiter: GradientLimiter::new(2, 1_000),
            running: BinaryHeap::new(),
            wanted: usize::MAX,
            ended: 0,
        }
    }

    /// A factor between a half and one and a half.
    fn jitter(&mut self) -> f64 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        0.5 + (self.seed >> 33) as f64 / (1u64 << 31) as f64
    }

    fn run(&mut self, seconds: f64) {
        let until = self.now + seconds;
        while self.now < until {
            while self.running.len() < self.limiter.limit().min(self.wanted) {
                let share = ((self.running.len() + 1) as f64 / self.knee as f64).max(1.0);
                let took = self.service * share * self.jitter();
                let began = (self.now * 1e9) as u64;
                let ends = ((self.now + took) * 1e9) as u64;
                self.running.push(Reverse((ends, began)));
            }
            let running = self.running.len();
            let Some(Reverse((ends, began))) = self.running.pop() else {
                panic!("there is always one")
            };
            self.now = self.now.max(ends as f64 / 1e9);
            self.ended += 1;
            self.limiter.on_end(Sample {
                began: Duration::from_nanos(began),
                ended: Duration::from_nanos(ends),
                succeeded: true,
                running,
            });
        }
    }

    /// Mean of the limit over some time.
    fn mean_limit(&mut self, seconds: f64) -> f64 {
        let steps = 200;
        let mut sum = 0.0;
        for _ in 0..steps {
            self.run(seconds / f64::from(steps));
            sum += self.limiter.limit() as f64;
        }
        sum / f64::from(steps)
    }

    fn assert_at_knee(&mut self, seconds: f64) {
        let mean = self.mean_limit(seconds);
        let knee = self.knee as f64;
        assert!(
            mean > 0.85 * knee && mean < 1.4 * knee + 4.0,
            "a mean limit of {mean} for a knee at {knee}, service {}",
            self.service
        );
    }
}

#[test]
fn the_limit_finds_the_knee() {
    // A limit for quick calls is found sooner: windows count calls.
    for (service, knee, seconds) in [
        (0.001, 8, 20.0),
        (0.001, 100, 10.0),
        (0.02, 40, 60.0),
        (0.005, 400, 10.0),
        (0.1, 16, 200.0),
    ] {
        let mut model = Model::new(service, knee);
        model.run(seconds);
        model.assert_at_knee(seconds / 2.0);
    }
}

#[test]
fn the_limit_follows_a_moving_knee() {
    let mut model = Model::new(0.002, 100);
    model.run(10.0);
    model.assert_at_knee(5.0);
    for knee in [20, 200, 8, 60] {
        model.knee = knee;
        model.run(10.0);
        model.assert_at_knee(5.0);
    }
}

#[test]
fn slower_handlers_do_not_shrink_the_limit_for_long() {
    let mut model = Model::new(0.002, 50);
    model.run(10.0);
    for (service, seconds) in [(0.02, 60.0), (0.004, 30.0), (0.0005, 10.0)] {
        model.service = service;
        model.run(seconds);
        model.assert_at_knee(seconds / 2.0);
    }
}

#[test]
fn throughput_stays_near_the_capacity() {
    let mut model = Model::new(0.001, 32);
    model.run(10.0);
    let before = model.ended;
    model.run(10.0);
    let rate = (model.ended - before) as f64 / 10.0;
    let best = 32.0 / 0.001;
    assert!(rate > 0.95 * best, "{rate} of {best} a second");
}

#[test]
fn the_limit_stays_under_low_load() {
    let mut model = Model::new(0.001, 1_000);
    model.wanted = 3;
    model.run(20.0);
    assert_eq!(model.limiter.limit(), INITIAL as usize);
}

#[test]
fn the_limit_stays_between_floor_and_ceiling() {
    let mut model = Model::new(0.001, 1);
    model.limiter = GradientLimiter::new(5, 9);
    for knee in [1, 100, 1] {
        model.knee = knee;
        for _ in 0..1_000 {
            model.run(0.01);
            assert!((5..=9).contains(&model.limiter.limit()));
        }
    }
}

#[test]
fn quick_failures_do_not_count_and_slow_ones_do() {
    let mut limiter = GradientLimiter::new(2, 1_000);
    let mut at = Duration::ZERO;
    let mut end = |limiter: &mut GradientLimiter, took: Duration, well: bool, calls: u32| {
        for _ in 0..calls {
            at += Duration::from_millis(1);
            limiter.on_end(Sample {
                began: at.saturating_sub(took),
                ended: at,
                succeeded: well,
                running: 1_000,
            });
        }
    };
    let ms = Duration::from_millis;
    end(&mut limiter, ms(10), true, 2_000);
    let before = limiter.baseline;
    end(&mut limiter, ms(0), false, 10_000);
    assert_eq!(limiter.baseline, before);
    let limit = limiter.limit;
    let slow_shrink_it = (0..50).any(|_| {
        end(&mut limiter, ms(100), false, 100);
        limiter.limit < limit / 2.0
    });
    assert!(slow_shrink_it);
}
