//! Decisions of busy polling, without a clock: for how long to spin, and how often to try.

use std::time::Duration;

/// Longest spin, for a machine on which a sleeping thread takes `wake_up` to run, and at most
/// `bound`.
///
/// A peer that sleeps answers after its own wake-up and its work. A spin that ends before that
/// never pays, so both sides would learn to sleep for ever, each because the other does. A spin
/// that fails costs this limit on top of the wake-up, which [`SpinBackoff`] makes rare: the limit
/// alone is above that of spin-then-block, the cost of one wake-up.
pub(super) fn spin_max(wake_up: Duration, bound: Duration) -> Duration {
    (2 * wake_up + WORK).min(bound)
}

/// Backoff of spins that did not pay.
#[derive(Debug, Default)]
pub(super) struct SpinBackoff {
    /// Spins in a row without a packet.
    failures: u32,
}

impl SpinBackoff {
    /// Events until the next spin.
    pub(super) fn events_until_spin(&self) -> u32 {
        1 << self.failures.min(FAILURES_MAX)
    }

    pub(super) fn on_spin_ended(&mut self, has_paid: bool, has_given_up: bool) {
        if has_paid {
            self.failures = 0;
        } else if has_given_up {
            self.failures = self.failures.saturating_add(1);
        }
    }
}

/// Time for the way to a peer in the same data centre and back, and for the work of both ends,
/// whose caches are cold after a sleep.
const WORK: Duration = Duration::from_micros(50);

/// At least every 1,024th event starts a spin.
const FAILURES_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    const MICROS: fn(u64) -> Duration = Duration::from_micros;

    #[test]
    fn spins_that_do_not_pay_back_off_exponentially() {
        let mut backoff = SpinBackoff::default();
        assert_eq!(backoff.events_until_spin(), 1);
        let skips: Vec<u32> = (0..12)
            .map(|_| {
                backoff.on_spin_ended(false, true);
                backoff.events_until_spin()
            })
            .collect();
        assert_eq!(
            skips,
            [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024, 1024]
        );
        backoff.on_spin_ended(false, false);
        assert_eq!(
            backoff.events_until_spin(),
            1024,
            "a spin without expected work does not count"
        );
        backoff.on_spin_ended(true, true);
        assert_eq!(backoff.events_until_spin(), 1);
    }

    /// One end of a connection on which one call is made at a time.
    struct Side {
        backoff: SpinBackoff,
        events_left: u32,
        /// When it began to spin, and did not find a packet since.
        spins_since: Option<Duration>,
        spun: Duration,
    }

    impl Side {
        fn new(failures: u32) -> Self {
            let backoff = SpinBackoff { failures };
            Self {
                events_left: backoff.events_until_spin(),
                backoff,
                spins_since: None,
                spun: Duration::ZERO,
            }
        }

        /// It has sent a packet.
        fn send(&mut self, now: Duration) {
            self.events_left -= 1;
            if self.events_left == 0 {
                self.spins_since = Some(now);
            }
        }

        /// A packet arrives: when it is read.
        fn receive(&mut self, now: Duration, machine: &Machine) -> Duration {
            let Some(since) = self.spins_since.take() else {
                return now + machine.wake_up;
            };
            let has_paid = now - since <= machine.spin_max;
            self.spun += (now - since).min(machine.spin_max);
            self.backoff.on_spin_ended(has_paid, !has_paid);
            self.events_left = self.backoff.events_until_spin();
            match has_paid {
                // It goes on spinning after its next packet.
                true => now,
                false => now + machine.wake_up,
            }
        }
    }

    struct Machine {
        wake_up: Duration,
        spin_max: Duration,
        /// Both ends share a core: neither runs while the other spins.
        has_one_core: bool,
    }

    /// Makes calls one after the other. Returns the time of the last one, and what the client has
    /// spun in all.
    fn run(machine: &Machine, failures: u32, calls: u32) -> (Duration, Duration) {
        let (mut client, mut server) = (Side::new(failures), Side::new(failures));
        let (mut now, mut took) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..calls {
            let begin = now;
            for at_server in [true, false] {
                let (from, to) = match at_server {
                    true => (&mut client, &mut server),
                    false => (&mut server, &mut client),
                };
                from.send(now);
                now += MICROS(5);
                if machine.has_one_core && from.spins_since.is_some() {
                    now += machine.spin_max;
                }
                now = to.receive(now, machine) + MICROS(2);
            }
            took = now - begin;
        }
        (took, client.spun)
    }

    /// What 12,000 calls end with, from a fresh start and from one at which both sides had learnt
    /// that spinning does not pay.
    fn last_calls(wake_up: Duration, spin_max: Duration) -> [Duration; 2] {
        let machine = Machine {
            wake_up,
            spin_max,
            has_one_core: false,
        };
        [0, FAILURES_MAX].map(|failures| run(&machine, failures, 12_000).0)
    }

    #[test]
    fn the_fast_state_is_found_from_both_starts_whatever_a_wake_up_costs() {
        for wake_up in [20, 60, 150].map(MICROS) {
            let spin_max = spin_max(wake_up, MICROS(400));
            assert_eq!(
                last_calls(wake_up, spin_max),
                [MICROS(14); 2],
                "{wake_up:?}"
            );
        }
    }

    #[test]
    fn a_limit_below_the_cost_of_a_wake_up_leaves_both_sides_asleep() {
        let slow = MICROS(14) + 2 * MICROS(60);
        assert_eq!(last_calls(MICROS(60), MICROS(50))[1], slow);
    }

    #[test]
    fn spins_on_one_core_for_both_ends_cost_little() {
        for wake_up in [20, 60, 150].map(MICROS) {
            let machine = Machine {
                wake_up,
                spin_max: spin_max(wake_up, MICROS(400)),
                has_one_core: true,
            };
            let (_, spun) = run(&machine, 0, 20_480);
            assert!(spun <= 30 * machine.spin_max, "{spun:?}");
        }
    }

    #[test]
    fn the_bound_of_the_configuration_holds() {
        assert_eq!(spin_max(MICROS(60), MICROS(400)), MICROS(170));
        assert_eq!(spin_max(MICROS(300), MICROS(400)), MICROS(400));
        assert_eq!(spin_max(MICROS(60), Duration::ZERO), Duration::ZERO);
    }
}
