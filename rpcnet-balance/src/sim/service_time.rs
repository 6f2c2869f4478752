//! Service times of a simulated worker.

use std::time::Duration;

use super::sim_rng::SimRng;

/// Distribution of the time that a worker serves a request, without the wait in its queue.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum ServiceTime {
    /// Constant.
    Fixed(Duration),
    /// Uniform between zero and a maximum.
    Uniform {
        /// The maximum.
        max: Duration,
    },
    /// Exponential: one of a hundred takes 4.6 times the mean.
    Exponential {
        /// The mean.
        mean: Duration,
    },
    /// Log-normal, as service times of real systems often are; with `sigma` 1 one of a hundred
    /// takes 6.2 times the mean.
    LogNormal {
        /// The mean.
        mean: Duration,
        /// The standard deviation of the logarithm.
        sigma: f64,
    },
    /// Bimodal: fast and slow requests.
    Bimodal {
        /// The time of most requests.
        fast: Duration,
        /// The time of the others.
        slow: Duration,
        /// The fraction of the others, 0 to 1.
        slow_fraction: f64,
    },
}

impl ServiceTime {
    /// The mean.
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

    pub(super) fn draw(&self, rng: &mut SimRng) -> Duration {
        match *self {
            Self::Fixed(time) => time,
            Self::Uniform { max } => rng.fraction_of(max),
            Self::Exponential { mean } => mean.mul_f64(rng.exponential()),
            Self::LogNormal { mean, sigma } => {
                mean.mul_f64((sigma * rng.normal() - sigma * sigma / 2.0).exp())
            }
            Self::Bimodal {
                fast,
                slow,
                slow_fraction: slow_share,
            } => {
                if rng.unit() <= slow_share {
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
    fn samples_have_the_mean() {
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
            let mut rng = SimRng::new(3, 0);
            let sum: Duration = (0..100_000).map(|_| latency.draw(&mut rng)).sum();
            let mean = sum / 100_000;
            assert_eq!(latency.mean(), ms(10));
            assert!(
                mean.abs_diff(ms(10)) < Duration::from_micros(300),
                "{latency:?}: {mean:?}"
            );
        }
    }
}
