//! Properties of models, estimator and detector for all parameters.

use std::time::Duration;

use proptest::prelude::*;
use rpcnet_phi::{
    Estimator, Exponential, LossAware, Model, ModelKind, Normal, PhiConfig, PhiDetector,
};

/// Models with a spread between a thousandth and ten times the mean.
fn model() -> impl Strategy<Value = Model> {
    let mean = (-9.0..9.0_f64).prop_map(|exponent| 10_f64.powf(exponent));
    let spread = (-3.0..1.0_f64).prop_map(|exponent| 10_f64.powf(exponent));
    let loss = prop_oneof![
        Just(0.0),
        0.0..1.0_f64,
        (-300.0..-1.0_f64).prop_map(|exponent| 10_f64.powf(exponent)),
    ];
    (0..3, mean, spread, loss).prop_map(|(kind, mean, spread, loss)| match kind {
        0 => Normal::new(mean, mean * spread).unwrap().into(),
        1 => Exponential::new(mean).unwrap().into(),
        _ => LossAware::new(mean, mean * spread, loss).unwrap().into(),
    })
}

fn scale(model: &Model) -> f64 {
    match model {
        Model::Normal(model) => model.mean(),
        Model::Exponential(model) => model.mean(),
        Model::LossAware(model) => model.period(),
        other => panic!("a new model: {other:?}"),
    }
}

fn any_finite() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("finite", |value| value.is_finite())
}

fn any_positive() -> impl Strategy<Value = f64> {
    any_finite()
        .prop_map(f64::abs)
        .prop_filter("above zero", |value| *value > 0.0)
}

proptest! {
    #[test]
    fn phi_never_decreases_as_silence_grows(
        model in model(),
        start in -5.0..50.0_f64,
        growth in prop_oneof![0.0..1e-9_f64, 0.0..10.0_f64, 0.0..1e12_f64],
    ) {
        let (early, late) = (start * scale(&model), (start + growth) * scale(&model));
        let (before, after) = (model.phi(early), model.phi(late));
        // Rounding may take back a few units of the last digit.
        prop_assert!(before <= after + 1e-13 * after, "{before} at {early}, {after} at {late}");
    }

    #[test]
    fn phi_is_finite_for_any_finite_input(
        mean in any_positive(), deviation in any_positive(), loss in 0.0..1.0_f64,
        elapsed in any_finite(),
    ) {
        let models: [Model; 3] = [
            Normal::new(mean, deviation).unwrap().into(),
            Exponential::new(mean).unwrap().into(),
            LossAware::new(mean, deviation, loss).unwrap().into(),
        ];
        for model in models {
            let phi = model.phi(elapsed);
            prop_assert!(phi.is_finite() && phi >= 0.0, "{model:?}: {phi}");
            prop_assert!(model.elapsed_at(elapsed).is_finite(), "{model:?}");
        }
    }

    #[test]
    fn phi_of_the_inverse_is_phi(model in model(), exponent in -12.0..6.0_f64) {
        let phi = 10_f64.powf(exponent);
        let again = model.phi(model.elapsed_at(phi));
        prop_assert!((again - phi).abs() <= 1e-9 * phi, "{phi} there, {again} back");
    }

    #[test]
    fn loss_only_ever_lowers_phi_of_the_first_heartbeat(
        spread in 0.01..0.2_f64, loss in 0.0..1.0_f64, elapsed in 0.0..1.5_f64,
    ) {
        let normal = Normal::new(1.0, spread).unwrap();
        let lossy = LossAware::new(1.0, spread, loss).unwrap();
        // Up to here the second heartbeat adds almost nothing.
        let second = Normal::new(2.0, spread).unwrap().phi(elapsed);
        prop_assert!(lossy.phi(elapsed) <= normal.phi(elapsed) * (1.0 + 1e-12) + second * 2.0);
    }

    #[test]
    fn counting_overdue_heartbeats_agrees_with_summing_them(
        spread in 0.01..30.0_f64, loss in 1e-6..0.999_f64, elapsed in 0.0..300.0_f64,
    ) {
        // -log10(loss + (1 - loss) Q), heartbeat by heartbeat, until they are too far ahead to
        // matter.
        let mut sum = 0.0;
        for k in 1..=(elapsed + 12.0 * spread) as u32 + 12 {
            let q = 10_f64.powf(-Normal::new(f64::from(k), spread).unwrap().phi(elapsed));
            sum -= (loss + (1.0 - loss) * q).log10();
        }
        let phi = LossAware::new(1.0, spread, loss).unwrap().phi(elapsed);
        prop_assert!((phi - sum).abs() <= 1e-10 * sum + 1e-11, "{phi}, summed {sum}");
    }

    #[test]
    fn the_mean_stays_within_the_observations(
        samples in prop::collection::vec(0.0..1000.0_f64, 0..300), window in 0..200_u32,
    ) {
        let mut estimator = Estimator::new(500.0, 100.0, 0.1).unwrap().with_window(window);
        let (mut low, mut high) = (500.0_f64, 500.0_f64);
        for sample in samples {
            estimator.observe(sample);
            (low, high) = (low.min(sample), high.max(sample));
            prop_assert!(estimator.mean() >= low - 1e-9 && estimator.mean() <= high + 1e-9);
            prop_assert!(estimator.deviation() >= 0.1);
            prop_assert!(estimator.deviation() <= 100.0_f64.max(high - low) + 1e-9);
        }
    }

    #[test]
    fn any_heartbeats_give_a_finite_phi(
        loss in prop::option::of(0.0..1.0_f64),
        times in prop::collection::vec(any::<Duration>(), 0..50),
        now in any::<Duration>(),
    ) {
        let kind = loss.map_or(ModelKind::Normal, |loss| ModelKind::LossAware { loss });
        let mut detector = PhiDetector::new(PhiConfig::default().with_model(kind)).unwrap();
        for time in times {
            detector.heartbeat(time);
            let phi = detector.phi(now);
            prop_assert!(phi.is_finite() && phi >= 0.0);
            if let Some(at) = detector.suspect_at(8.0) {
                prop_assert!(detector.phi(at) >= 8.0);
            }
        }
    }
}
