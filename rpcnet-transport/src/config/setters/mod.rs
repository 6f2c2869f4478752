//! Setters of the configuration, by group: meaning, unit, default and price of each setting.

mod general;
mod lanes;
mod limits;
mod quic;
