//! Integration tests of the models and the detector.

mod properties;
mod reference;
