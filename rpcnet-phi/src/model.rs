//! Choice of an arrival model at run time.

use crate::{Exponential, LossAware, Normal};

/// Kind of arrival model that a [`PhiDetector`](crate::PhiDetector) fits to its observations.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum ModelKind {
    /// [`Normal`]: intervals are normally distributed. The default.
    #[default]
    Normal,
    /// [`Exponential`]: arrivals at random times.
    Exponential,
    /// [`LossAware`]: a steady period, some heartbeats of which are lost.
    LossAware {
        /// The probability that a heartbeat is lost, in `0.0..1.0`. A larger value suspects later,
        /// and gives fewer false alarms on a lossy network.
        loss: f64,
    },
}

/// A model of arrivals with its parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Model {
    /// Normally distributed intervals.
    Normal(Normal),
    /// Arrivals at random times.
    Exponential(Exponential),
    /// A steady period, some heartbeats of which are lost.
    LossAware(LossAware),
}

impl Model {
    /// -log10 of the probability that a living peer is silent for longer than `elapsed`.
    #[must_use]
    pub fn phi(&self, elapsed: f64) -> f64 {
        match self {
            Self::Normal(model) => model.phi(elapsed),
            Self::Exponential(model) => model.phi(elapsed),
            Self::LossAware(model) => model.phi(elapsed),
        }
    }

    /// The elapsed time at which [`phi`](Self::phi) reaches `phi`.
    #[must_use]
    pub fn elapsed_at(&self, phi: f64) -> f64 {
        match self {
            Self::Normal(model) => model.elapsed_at(phi),
            Self::Exponential(model) => model.elapsed_at(phi),
            Self::LossAware(model) => model.elapsed_at(phi),
        }
    }
}

impl From<Normal> for Model {
    fn from(model: Normal) -> Self {
        Self::Normal(model)
    }
}

impl From<Exponential> for Model {
    fn from(model: Exponential) -> Self {
        Self::Exponential(model)
    }
}

impl From<LossAware> for Model {
    fn from(model: LossAware) -> Self {
        Self::LossAware(model)
    }
}
