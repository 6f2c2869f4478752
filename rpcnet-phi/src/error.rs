//! Errors of parameters.

use core::fmt;

/// An invalid parameter of a model, an estimator or a detector.
///
/// Always the caller's fault, and found at construction: nothing has changed, and the same value
/// will be rejected again.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum ParameterError {
    /// The parameter is infinite or not a number.
    NotFinite {
        /// The parameter.
        parameter: &'static str,
    },
    /// The parameter is not above zero.
    NotPositive {
        /// The parameter.
        parameter: &'static str,
        /// The value that was given.
        value: f64,
    },
    /// The loss is not in `0.0..1.0`. A loss of 1 means that no heartbeat ever arrives: silence
    /// would say nothing.
    LossOutOfRange {
        /// The value that was given.
        value: f64,
    },
}

impl fmt::Display for ParameterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFinite { parameter } => write!(f, "{parameter} must be a finite number"),
            Self::NotPositive { parameter, value } => {
                write!(f, "{parameter} must be above zero, it is {value}")
            }
            Self::LossOutOfRange { value } => {
                write!(f, "loss must be at least 0 and below 1, it is {value}")
            }
        }
    }
}

impl core::error::Error for ParameterError {}

pub(crate) const fn finite(parameter: &'static str, value: f64) -> Result<f64, ParameterError> {
    if value.is_finite() {
        Ok(value)
    } else {
        Err(ParameterError::NotFinite { parameter })
    }
}

pub(crate) const fn positive(parameter: &'static str, value: f64) -> Result<f64, ParameterError> {
    match finite(parameter, value) {
        Ok(value) if value > 0.0 => Ok(value),
        Ok(value) => Err(ParameterError::NotPositive { parameter, value }),
        Err(error) => Err(error),
    }
}

pub(crate) const fn loss(value: f64) -> Result<f64, ParameterError> {
    match finite("loss", value) {
        Ok(value) if value >= 0.0 && value < 1.0 => Ok(value),
        Ok(value) => Err(ParameterError::LossOutOfRange { value }),
        Err(error) => Err(error),
    }
}
