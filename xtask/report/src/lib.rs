//! Results of the commands of `cargo xtask`: tables for people, JSON for programs, figures,
//! progress.
//!
//! The feature `figures` (default) brings charts, bars and progress, with plotters and indicatif.

#[cfg(feature = "figures")]
mod bars;
#[cfg(feature = "figures")]
mod canvas;
#[cfg(feature = "figures")]
mod chart;
mod json;
mod latencies;
#[cfg(feature = "figures")]
mod progress;
mod statistics;
mod table;

#[cfg(feature = "figures")]
pub use bars::{Bar, Panel, draw_bars, draw_bars_or};
#[cfg(feature = "figures")]
pub use chart::{Axis, Chart, Series};
pub use json::Document;
pub use latencies::{Latencies, Quantiles};
#[cfg(feature = "figures")]
pub use progress::{Progress, WeightedProgress};
pub use statistics::{median, quantile};
pub use table::{format_table, number, ratio};
