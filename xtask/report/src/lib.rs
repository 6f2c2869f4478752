//! How the measuring commands of `cargo xtask` show their results: tables for people, JSON for
//! programs, figures, and on a terminal how far they are.

mod bars;
mod chart;
mod json;
mod progress;
mod statistics;
mod svg;
mod table;

pub use bars::{Bar, Panel, draw_bars, draw_bars_or};
pub use chart::{Axis, Chart, Series};
pub use json::Document;
pub use progress::{Progress, WeightedProgress};
pub use statistics::{median, quantile};
pub use table::{format_table, number, ratio};
