//! How the measuring commands of `cargo xtask` show their results: tables for people, JSON for
//! programs, figures, and on a terminal how far they are.

mod chart;
mod figure;
mod json;
mod progress;
mod statistics;
mod svg;
mod table;

pub use chart::{Axis, Chart, Series};
pub use figure::{Bar, Panel, draw, draw_or};
pub use json::Document;
pub use progress::{Gauge, Progress};
pub use statistics::{median, quantile};
pub use table::{align, number, ratio};
