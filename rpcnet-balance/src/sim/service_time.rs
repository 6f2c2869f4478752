//! How long a worker serves a request.

use std::time::Duration;

use super::sim_rng::SimRng;

/// How long a worker serves a request, the wait in its queue apart.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum ServiceTime {
    /// Always the same.
    Fixed(Duration),
    /// Anything from nothing to this, alike.
    Uniform {
        /// The longest.
        max: Duration,
    },
    /// Most are short, some are long: one of a hundred takes 4.6 times the mean.
    Exponential {
        /// On average.
        mean: Duration,
    },
    /// As service times of real systems often are; `sigma` 1 has one of a hundred at 6.2 times the mean.
    LogNormal {
        /// On average.
        mean: Duration,
        /// The deviation of the logarithm.
        sigma: f64,
    },
    /// Of two kinds.
    Bimodal {
        /// Most of them.
        fast: Duration,
        /// The others.
        slow: Duration,
        /// The part of the others, 0 to 1.
        slow_fraction: f64,
    },
}

impl ServiceTime {
    /// On average.
    #[must_use]
    pub fn mean(&self) -> Duration {
        match *self {
            Self::Fixed(mean) | Self::Exponential { mean } | Self::LogNormal { mean, .. } => mean,
            Self::Uniform { max } => max / 2,
            Self::Bimodal {
                fast,
                slow,
                slow_fraction: slow_share,
            } => fast.mul_f64(1.0 - slow_share) + slow.mul_f64(slow_share),
        }
    }

    pub(super) fn draw(&self, dice: &mut SimRng) -> Duration {
        match *self {
            Self::Fixed(time) => time,
            Self::Uniform { max } => dice.fraction_of(max),
            Self::Exponential { mean } => mean.mul_f64(dice.exponential()),
            Self::LogNormal { mean, sigma } => {
                mean.mul_f64((sigma * dice.normal() - sigma * sigma / 2.0).exp())
            }
            Self::Bimodal {
                fast,
                slow,
                slow_fraction: slow_share,
            } => {
                if dice.unit() <= slow_share {
                    slow
                } else {
                    fast
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_has_the_mean() {
        let ms = Duration::from_millis;
        for latency in [
            ServiceTime::Fixed(ms(10)),
            ServiceTime::Uniform { max: ms(20) },
            ServiceTime::Exponential { mean: ms(10) },
            ServiceTime::LogNormal {
                mean: ms(10),
                sigma: 1.0,
            },
            ServiceTime::Bimodal {
                fast: ms(5),
                slow: ms(55),
                slow_fraction: 0.1,
            },
        ] {
            let mut dice = SimRng::new(3, 0);
            let sum: Duration = (0..100_000).map(|_| latency.draw(&mut dice)).sum();
            let mean = sum / 100_000;
            assert_eq!(latency.mean(), ms(10));
            assert!(
                mean.abs_diff(ms(10)) < Duration::from_micros(300),
                "{latency:?}: {mean:?}"
            );
        }
    }
}
