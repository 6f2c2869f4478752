//! Derived schemas against what serde itself writes and reads.

mod conformity;
mod derived;
