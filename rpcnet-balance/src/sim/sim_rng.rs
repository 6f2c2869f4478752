//! Random numbers of the simulation, with their distributions.

use std::time::Duration;

use crate::rng::{GOLDEN, Rng, mix};

/// Random number generator of the simulation.
#[derive(Debug)]
pub(super) struct SimRng(Rng);

impl SimRng {
    /// The generator of one of many streams of a seed.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        Self(Rng::seeded(mix(seed ^ mix(stream ^ GOLDEN))))
    }

    pub(super) const fn next_u64(&mut self) -> u64 {
        self.0.next()
    }

    /// A number in `0..bound`.
    pub(super) const fn below(&mut self, bound: usize) -> usize {
        self.0.below(bound)
    }

    /// Uniform, above 0, at most 1.
    pub(super) const fn unit(&mut self) -> f64 {
        ((self.0.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Exponential, with mean 1.
    pub(super) fn exponential(&mut self) -> f64 {
        -self.unit().ln()
    }

    /// Normal, with mean 0 and deviation 1 (Box and Muller, 1958).
    pub(super) fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// A uniform fraction of a duration.
    pub(super) fn fraction_of(&mut self, of: Duration) -> Duration {
        of.mul_f64(self.unit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_deviations_are_as_named() {
        let mut rng = SimRng::new(7, 0);
        let n = 100_000;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let shares: Vec<f64> = (0..n).map(|_| rng.unit()).collect();
        assert!((mean(&shares) - 0.5).abs() < 0.01);
        assert!(shares.iter().all(|share| *share > 0.0 && *share <= 1.0));
        let exponentials: Vec<f64> = (0..n).map(|_| rng.exponential()).collect();
        assert!((mean(&exponentials) - 1.0).abs() < 0.02);
        let normals: Vec<f64> = (0..n).map(|_| rng.normal()).collect();
        let squares: Vec<f64> = normals.iter().map(|x| x * x).collect();
        assert!(mean(&normals).abs() < 0.02 && (mean(&squares) - 1.0).abs() < 0.03);
    }

    #[test]
    fn streams_of_a_seed_differ() {
        let first = |seed, stream| SimRng::new(seed, stream).next_u64();
        assert_ne!(first(1, 0), first(1, 1));
        assert_ne!(first(1, 0), first(2, 0));
        assert_eq!(first(1, 1), first(1, 1));
    }
}
