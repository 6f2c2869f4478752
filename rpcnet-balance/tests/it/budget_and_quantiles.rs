//! Properties of retry budgets and latency quantiles against exact models.

use std::time::Duration;

use proptest::prelude::*;
use rpcnet_balance::{LatencyQuantiles, RetryBudget, Time};

/// One action of a client.
#[derive(Debug, Clone, Copy)]
enum Step {
    Succeed(u16),
    Retry(u16),
    Wait(Duration),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..300_u16).prop_map(Step::Succeed),
        (0..300_u16).prop_map(Step::Retry),
        (0..3_000_000_000_u64).prop_map(|ns| Step::Wait(Duration::from_nanos(ns))),
    ]
}

/// Model of a retry budget in plain numbers.
struct Model {
    ratio: f64,
    reserve: f64,
    cap: f64,
    level: f64,
}

impl Model {
    fn earn(&mut self, tokens: f64) {
        self.level = (self.level + tokens).min(self.cap);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn extra_attempts_stay_within_the_budget_and_use_it(
        steps in prop::collection::vec(step(), 1..60),
        ratio in 0.0..1.0_f64,
        reserve in 0.0..50.0_f64,
        cap in 0.0..200.0_f64,
    ) {
        let budget = RetryBudget::new().with_ratio(ratio).with_reserve_per_s(reserve).with_cap(cap);
        let mut model = Model { ratio, reserve, cap, level: cap };
        let mut now = Time::ZERO;
        // Intervals that start at each step: successes, retries, and their beginning.
        let mut stretches: Vec<(u64, u64, Time)> = Vec::new();
        for step in steps {
            stretches.push((0, 0, now));
            match step {
                Step::Succeed(times) => {
                    for _ in 0..times {
                        budget.deposit();
                        model.earn(model.ratio);
                    }
                    stretches.iter_mut().for_each(|s| s.0 += u64::from(times));
                }
                Step::Retry(times) => for _ in 0..times {
                    let allowed = budget.withdraw(now);
                    // Rounding may decide it either way.
                    if (model.level - 1.0).abs() > 1e-3 {
                        prop_assert_eq!(allowed, model.level >= 1.0, "at {}", model.level);
                    }
                    if allowed {
                        model.level -= 1.0;
                        stretches.iter_mut().for_each(|s| s.1 += 1);
                    }
                },
                Step::Wait(time) => {
                    now = now + time;
                    model.earn(model.reserve * time.as_secs_f64());
                }
            }
            let level = budget.level(now);
            prop_assert!((level - model.level).abs() < 1e-3, "{} is not {}", level, model.level);
            for &(successes, retries, begun) in &stretches {
                let seconds = now.since(begun).as_secs_f64();
                let bound = ratio * successes as f64 + reserve * seconds + cap + 1e-3;
                prop_assert!(retries as f64 <= bound, "{} retries, {}", retries, bound);
            }
        }
    }

    #[test]
    fn a_quantile_is_at_most_a_sixteenth_above_the_exact_one(
        // All orders of magnitude equally likely, from a nanosecond to an hour.
        powers in prop::collection::vec(0.0..12.5_f64, 1..400),
        q in 0.0..1.0_f64,
    ) {
        let mut nanos: Vec<u64> = powers.iter().map(|power| 10_f64.powf(*power) as u64).collect();
        let latencies = LatencyQuantiles::new();
        for (index, &latency) in nanos.iter().enumerate() {
            // Over two and a half windows.
            let now = Time::from_nanos(index as u64 * 12_500_000_000 / nanos.len() as u64);
            latencies.record(now, Duration::from_nanos(latency));
        }
        nanos.sort_unstable();
        let rank = (q * nanos.len() as f64).ceil().max(1.0) as usize;
        let exact = nanos[rank - 1];
        let now = Time::from_nanos(12_500_000_000);
        prop_assert_eq!(latencies.len(now), nanos.len() as u64);
        let found = latencies.quantile(now, q).unwrap().as_nanos() as u64;
        let bound = exact + (exact / 16).max(1_024);
        prop_assert!(exact <= found && found <= bound, "{} for {}", found, exact);
    }
}
