//! Comparison of the models with a table computed in 80-digit arithmetic.

use rpcnet_phi::{Exponential, LossAware, Model, Normal};

const TABLE: &str = include_str!("../data/phi_reference.csv");

#[test]
fn every_row_of_the_reference_table_is_met() {
    let mut rows = 0;
    for line in TABLE.lines().filter(|line| !line.starts_with('#')).skip(1) {
        let mut fields = line.split(',');
        let kind = fields.next().unwrap();
        let numbers: Vec<f64> = fields.map(|field| field.parse().unwrap()).collect();
        let [mean, deviation, loss, elapsed, expected] = numbers[..] else {
            panic!("{line}")
        };
        let model: Model = match kind {
            "normal" => Normal::new(mean, deviation).unwrap().into(),
            "exponential" => Exponential::new(mean).unwrap().into(),
            "loss_aware" => LossAware::new(mean, deviation, loss).unwrap().into(),
            other => panic!("unknown model {other}"),
        };

        let phi = model.phi(elapsed);
        let tolerance = if expected < 1e-5 { 1e-9 } else { 1e-12 };
        let error = (phi - expected).abs() / expected;
        assert!(error <= tolerance, "{line}: phi is {phi}, off by {error:e}");

        let again = model.phi(model.elapsed_at(expected));
        let error = (again - expected).abs() / expected;
        assert!(
            error <= 1e-9,
            "{line}: there and back is {again}, off by {error:e}"
        );
        rows += 1;
    }
    assert_eq!(rows, 185, "the table has changed");
}
