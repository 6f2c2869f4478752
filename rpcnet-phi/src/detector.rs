//! Phi accrual failure detector of one peer.

use core::time::Duration;

use crate::{
    Estimator, Exponential, LossAware, Model, ModelKind, ParameterError, PhiConfig, error,
};

/// Phi accrual failure detector of one peer: takes heartbeats, gives phi and the time at which phi
/// crosses a threshold.
///
/// Every method takes `now` as the time since a fixed origin of the caller's choice. The time is
/// expected to rise. When it does not, nothing breaks: a heartbeat at or before the last one
/// changes nothing, and phi before the last heartbeat is what it is at the last heartbeat.
///
/// What counts as an interval:
/// - Several heartbeats at one instant count as one: a driver that was stalled and drains its
///   socket at once does not take the burst for the peer's period.
/// - An interval at the end of which the peer was already suspect counts as if it had ended when
///   suspicion began. One outage does not blind the detector for the next, and the detector still
///   learns that a peer has truly become slower.
/// - Under [`ModelKind::LossAware`], heartbeats that must have been lost in between are subtracted
///   first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PhiDetector {
    intervals: Estimator,
    last: Option<Duration>,
    threshold: f64,
    kind: ModelKind,
}

impl PhiDetector {
    /// A detector that has received no heartbeat yet.
    ///
    /// # Errors
    ///
    /// When the threshold is not finite and above zero, a duration of the config is zero, or the
    /// loss of the model is not a probability below one.
    pub fn new(config: PhiConfig) -> Result<Self, ParameterError> {
        error::positive("threshold", config.threshold)?;
        error::positive("prior mean", config.prior_mean.as_secs_f64())?;
        if let ModelKind::LossAware { loss } = config.model {
            error::loss(loss)?;
        }
        let intervals = Estimator::new(
            config.prior_mean.as_secs_f64(),
            config.prior_deviation.as_secs_f64(),
            config.deviation_min.as_secs_f64(),
        )?
        .with_window(config.window);
        Ok(Self {
            intervals,
            last: None,
            threshold: config.threshold,
            kind: config.model,
        })
    }

    /// Records a heartbeat of the peer at `now`.
    pub fn heartbeat(&mut self, now: Duration) {
        let Some(last) = self.last else {
            self.last = Some(now);
            return;
        };
        if now <= last {
            return;
        }
        let interval = self.subtract_lost((now - last).as_secs_f64());
        let model = self.model();
        // Evaluating the model is cheaper than inverting it, and nearly always enough.
        let interval = if model.phi(interval) < self.threshold {
            interval
        } else {
            model.elapsed_at(self.threshold)
        };
        self.intervals.observe(interval);
        self.last = Some(now);
    }

    /// Phi at `now`: how certain it is that the peer is gone. Zero before the first heartbeat.
    #[must_use]
    pub fn phi(&self, now: Duration) -> f64 {
        self.last.map_or(0.0, |last| {
            self.model().phi(now.saturating_sub(last).as_secs_f64())
        })
    }

    /// Whether phi has reached the threshold of the config.
    #[must_use]
    pub fn is_suspect(&self, now: Duration) -> bool {
        self.phi(now) >= self.threshold
    }

    /// The first instant, to the resolution of the clock, at which phi is at least `threshold` if
    /// no heartbeat arrives.
    ///
    /// A driver sleeps until then instead of polling; at that instant [`phi`](Self::phi) is never
    /// below `threshold`. `None` before the first heartbeat, and when the instant is beyond what a
    /// [`Duration`] can hold.
    #[must_use]
    pub fn suspect_at(&self, threshold: f64) -> Option<Duration> {
        let last = self.last?;
        let elapsed = self.model().elapsed_at(threshold).max(0.0);
        let mut at = last.checked_add(Duration::try_from_secs_f64(elapsed).ok()?)?;
        // The conversion from seconds to nanoseconds and back may have lost the last digit.
        let mut step = Duration::from_nanos(1);
        while self.phi(at) < threshold {
            at = at.checked_add(step)?;
            step = step.checked_mul(2)?;
        }
        Some(at)
    }

    /// The threshold of the config.
    #[must_use]
    pub const fn threshold(&self) -> f64 {
        self.threshold
    }

    /// The time of the last heartbeat.
    #[must_use]
    pub const fn last_heartbeat(&self) -> Option<Duration> {
        self.last
    }

    /// The model fitted so far, in seconds.
    #[must_use]
    pub fn model(&self) -> Model {
        let mean = self.intervals.mean().max(MEAN_MIN);
        match self.kind {
            ModelKind::Normal => self.intervals.normal().into(),
            ModelKind::Exponential => Exponential::new_unchecked(mean).into(),
            ModelKind::LossAware { loss } => {
                LossAware::new_unchecked(mean, self.intervals.deviation(), loss).into()
            }
        }
    }

    /// The interval without the periods of heartbeats that must have been lost in between.
    fn subtract_lost(&self, interval: f64) -> f64 {
        match self.kind {
            ModelKind::LossAware { loss } if loss > 0.0 => {
                let period = self.intervals.mean().max(MEAN_MIN);
                let lost = (libm::round(interval / period) - 1.0).max(0.0);
                interval - lost * period
            }
            _ => interval,
        }
    }
}

/// The shortest interval: one nanosecond, in seconds.
const MEAN_MIN: f64 = 1e-9;

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn regular(config: PhiConfig) -> PhiDetector {
        let mut detector = PhiDetector::new(config).unwrap();
        for k in 0..=200 {
            // One second, with a jitter of 100 ms to either side.
            detector.heartbeat(ms(k * 1000 + (k % 2) * 100));
        }
        detector
    }

    #[test]
    fn phi_is_zero_before_the_first_heartbeat() {
        let detector = PhiDetector::new(PhiConfig::default()).unwrap();
        assert_eq!(detector.phi(ms(1_000_000)), 0.0);
        assert_eq!(detector.suspect_at(8.0), None);
        assert_eq!(detector.last_heartbeat(), None);
    }

    #[test]
    fn a_young_detector_uses_its_prior() {
        let mut detector =
            PhiDetector::new(PhiConfig::default().with_prior_deviation(ms(100))).unwrap();
        detector.heartbeat(ms(500));
        let phi = detector.phi(ms(2000));
        assert!((phi - 6.542_645_672_390_7).abs() < 1e-9, "{phi}");
    }

    #[test]
    fn phi_crosses_the_threshold_at_suspect_at() {
        for model in [
            ModelKind::Normal,
            ModelKind::Exponential,
            ModelKind::LossAware { loss: 0.01 },
            ModelKind::LossAware { loss: 0.0 },
        ] {
            let detector = regular(PhiConfig::default().with_model(model));
            for threshold in [0.5, 3.0, 8.0, 100.0] {
                let at = detector.suspect_at(threshold).unwrap();
                assert!(detector.phi(at) >= threshold, "{model:?} {threshold}");
                assert!(
                    detector.phi(at - ms(1)) <= threshold,
                    "{model:?} {threshold}"
                );
            }
            let at = detector.suspect_at(detector.threshold()).unwrap();
            assert!(detector.is_suspect(at) && !detector.is_suspect(at - ms(1)));
        }
    }

    #[test]
    fn a_clock_that_goes_back_changes_nothing() {
        let mut detector = regular(PhiConfig::default());
        let before = detector;
        detector.heartbeat(ms(199_000));
        detector.heartbeat(ms(200_000));
        detector.heartbeat(Duration::ZERO);
        assert_eq!(detector, before);
        assert_eq!(detector.phi(Duration::ZERO), detector.phi(ms(200_000)));
    }

    #[test]
    fn an_outage_does_not_blind_the_detector() {
        let mut detector = regular(PhiConfig::default());
        let before = detector.suspect_at(8.0).unwrap() - ms(200_000);
        detector.heartbeat(ms(800_000));
        let after = detector.suspect_at(8.0).unwrap() - ms(800_000);
        assert!(after < before * 3 / 2, "{before:?} then {after:?}");
    }

    #[test]
    fn a_longer_period_is_learnt() {
        let mut detector = regular(PhiConfig::default());
        let mut now = ms(200_000);
        for _ in 0..300 {
            now += ms(5000);
            detector.heartbeat(now);
        }
        assert!(!detector.is_suspect(now + ms(5000)));
    }

    #[test]
    fn lost_heartbeats_do_not_stretch_the_period() {
        let kind = ModelKind::LossAware { loss: 0.1 };
        let mut detector = PhiDetector::new(PhiConfig::default().with_model(kind)).unwrap();
        for k in 0..500 {
            if k % 10 != 3 {
                detector.heartbeat(ms(k * 1000));
            }
        }
        let Model::LossAware(model) = detector.model() else {
            panic!("{:?}", detector.model())
        };
        assert!((model.period() - 1.0).abs() < 1e-3, "{model:?}");
    }

    #[test]
    fn an_invalid_config_is_rejected() {
        let config = PhiConfig::default();
        for config in [
            config.with_threshold(0.0),
            config.with_threshold(f64::NAN),
            config.with_prior_mean(Duration::ZERO),
            config.with_prior_deviation(Duration::ZERO),
            config.with_deviation_min(Duration::ZERO),
            config.with_model(ModelKind::LossAware { loss: 1.0 }),
        ] {
            assert!(PhiDetector::new(config).is_err(), "{config:?}");
        }
    }

    #[test]
    fn extreme_times_do_not_panic() {
        let mut detector = PhiDetector::new(PhiConfig::default()).unwrap();
        detector.heartbeat(Duration::ZERO);
        detector.heartbeat(Duration::MAX);
        assert_eq!(detector.suspect_at(8.0), None);
        assert!(detector.phi(Duration::MAX).is_finite());
        assert_eq!(detector.suspect_at(f64::MAX), None);
    }

    #[test]
    fn it_takes_tens_of_bytes() {
        assert!(
            size_of::<PhiDetector>() <= 96,
            "{}",
            size_of::<PhiDetector>()
        );
    }
}
