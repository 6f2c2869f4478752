//! Targets of the benchmarks: bounds, figures, and whether they are met.

use xtask_report::{format_table, ratio};

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Target {
    /// Names of the bounded figure, a cell of the table each.
    pub(crate) what: Vec<String>,
    pub(crate) bound: String,
    pub(crate) measured: String,
    pub(crate) met: bool,
}

impl Target {
    /// A bound for a ratio, which is met when `is_met` says so of what was measured and it.
    pub(crate) fn ratio(
        what: Vec<String>,
        (name, bound): (&str, f64),
        measured: f64,
        is_met: fn(&f64, &f64) -> bool,
    ) -> Self {
        Self {
            what,
            bound: format!("{name} {}", ratio(bound)),
            measured: ratio(measured),
            met: is_met(&measured, &bound),
        }
    }
}

/// Lines below the tables of a mode, and the number of targets among them that were missed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Notes {
    pub(crate) text: String,
    pub(crate) missed: usize,
}

impl Notes {
    /// A table of targets.
    pub(crate) fn table(heading: &[&str], targets: &[Target]) -> Self {
        Self {
            text: report(heading, targets),
            missed: targets.iter().filter(|target| !target.met).count(),
        }
    }

    /// Adds a line that begins with `what` and says whether the target is met.
    pub(crate) fn add_target(&mut self, what: &str, met: bool) {
        self.text += &format!("{what}{}\n", status(met));
        self.missed += usize::from(!met);
    }

    /// Adds lines that are no targets.
    pub(crate) fn add_text(&mut self, lines: &str) {
        self.text += lines;
    }
}

/// Table of targets under `heading`, which names all columns but the last, and how many are met.
/// Empty if there are none.
pub(crate) fn report<'a>(
    heading: &[&str],
    targets: impl IntoIterator<Item = &'a Target>,
) -> String {
    let mut lines = vec![heading.iter().map(|it| (*it).to_owned()).collect()];
    let mut met = 0;
    for target in targets {
        let mut line = target.what.clone();
        line.extend([target.bound.clone(), target.measured.clone()]);
        line.push(status(target.met).to_owned());
        lines.push(line);
        met += usize::from(target.met);
    }
    match lines.len() - 1 {
        0 => String::new(),
        total => format!("{}{met} of {total} targets met\n", format_table(&lines)),
    }
}

/// Word of a table for whether a target is met.
pub(crate) fn status(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}
