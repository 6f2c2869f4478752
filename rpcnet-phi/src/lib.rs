//! Phi accrual failure detection: a suspicion level that grows with the silence of a peer.
//!
//! A timeout says that a peer is alive or dead, and is wrong on every network but the one it was
//! tuned on. An accrual detector gives a number that grows with the silence, relative to the peer's
//! own heartbeat period:
//!
//! > phi(t) = -log10 P(the next heartbeat comes later than t after the last one, if the peer is
//! > alive)
//!
//! To suspect a peer at phi = 1 is wrong one time in ten, at phi = 3 one time in a thousand, at phi
//! = 8 (the default) one time in a hundred million, as far as the model of the arrivals is right.
//! (Hayashibara, Défago, Yared, Katayama: *The phi accrual failure detector*, SRDS 2004.)
//!
//! ```
//! use core::time::Duration;
//! use rpcnet_phi::{PhiConfig, PhiDetector};
//!
//! // A heartbeat is expected every second, give or take 100 ms.
//! let config = PhiConfig::default()
//!     .with_prior_mean(Duration::from_secs(1))
//!     .with_prior_deviation(Duration::from_millis(100));
//! let mut detector = PhiDetector::new(config)?;
//!
//! // `now` is the time since a fixed origin: the start of the process or of a simulation.
//! for second in 1..=20 {
//!     detector.heartbeat(Duration::from_secs(second));
//! }
//! assert!(detector.phi(Duration::from_millis(20_900)) < 1.0);
//! assert!(detector.phi(Duration::from_millis(23_000)) > 8.0);
//!
//! // No polling: sleep until the instant at which phi crosses the threshold.
//! let crossing = detector.suspect_at(8.0).unwrap();
//! assert!(crossing > Duration::from_secs(21) && crossing < Duration::from_secs(22));
//! # Ok::<(), rpcnet_phi::ParameterError>(())
//! ```
//!
//! # The parts
//!
//! - The models [`Normal`], [`Exponential`] and [`LossAware`]: plain functions `phi(elapsed)` and
//!   their inverse `elapsed_at(phi)`, evaluated so that they neither overflow nor lose the far
//!   tail.
//! - [`Estimator`]: mean and deviation of the observations, with forgetting, in 40 bytes.
//! - [`PhiDetector`]: one peer, one estimator, one model; takes heartbeats, gives phi and the time
//!   at which it crosses a threshold.
//!
//! Models and estimator are free of units: seconds in, seconds out; milliseconds in, milliseconds
//! out.
//!
//! # What it does not do
//!
//! It reads no clock, keeps no table of peers, sends nothing and decides nothing: phi is evidence,
//! and what to do about it is the caller's decision. The crate is `no_std`, allocates nothing, and
//! depends on `libm` alone. It has no features.

#![no_std]

#[cfg(test)]
extern crate std;

mod config;
mod detector;
mod error;
mod estimator;
mod exponential;
mod loss_aware;
mod model;
mod normal;
mod tail;

pub use config::PhiConfig;
pub use detector::PhiDetector;
pub use error::ParameterError;
pub use estimator::Estimator;
pub use exponential::Exponential;
pub use loss_aware::LossAware;
pub use model::{Model, ModelKind};
pub use normal::Normal;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
