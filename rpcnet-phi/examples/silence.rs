//! Phi of three models for the same silence: `cargo run -p rpcnet-phi --example silence`.
//!
//! A peer sends a heartbeat every second with a jitter of 100 ms, and one heartbeat in a hundred is
//! lost. Then the peer dies.

use rpcnet_phi::{Exponential, LossAware, Normal, ParameterError};

fn main() -> Result<(), ParameterError> {
    let normal = Normal::new(1.0, 0.1)?;
    let exponential = Exponential::new(1.0)?;
    let loss_aware = LossAware::new(1.0, 0.1, 0.01)?;

    println!("silence     normal  exponential  loss-aware");
    for tenths in [5, 9, 10, 11, 12, 15, 20, 25, 35, 50, 100_u32] {
        let elapsed = f64::from(tenths) / 10.0;
        println!(
            "{elapsed:5.1} s  {:9.2}  {:11.2}  {:10.2}",
            normal.phi(elapsed),
            exponential.phi(elapsed),
            loss_aware.phi(elapsed),
        );
    }
    println!(
        "phi = 8 after {:.2} s, {:.2} s and {:.2} s",
        normal.elapsed_at(8.0),
        exponential.elapsed_at(8.0),
        loss_aware.elapsed_at(8.0),
    );
    Ok(())
}
