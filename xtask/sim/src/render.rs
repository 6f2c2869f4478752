//! Tables and figures of scenarios.

use xtask_report::{Bar, Panel, Series, format_table, number};

use crate::{
    detector::OURS,
    scenario::{Cell, Columns, Row, Scenario},
};

/// A number, or that it never came to it.
pub(crate) fn number_or_never(figure: Option<f64>) -> String {
    figure.map_or_else(|| "never".to_owned(), number)
}

/// All rows, in all columns.
pub(crate) fn table<S: Scenario>(scenario: &S, cells: &[Cell<S>]) -> String {
    let Columns(columns) = scenario.columns();
    let first = ["detector", "nodes"].map(str::to_owned);
    let headings = columns.iter().map(|(heading, _)| (*heading).to_owned());
    let mut lines = vec![first.into_iter().chain(headings).collect::<Vec<_>>()];
    for Cell { row, .. } in cells {
        let first = [row.detector.clone(), row.nodes.to_string()];
        let texts = columns.iter().map(|(_, text)| text(row));
        lines.push(first.into_iter().chain(texts).collect());
    }
    format_table(&lines)
}

/// A line for each detector.
pub(crate) fn series_by_detector<'a, S: Scenario + 'a>(
    cells: impl Iterator<Item = &'a Cell<S>>,
    x: impl Fn(&Row<S::Case, S::Figures>) -> f64,
    y: impl Fn(&Row<S::Case, S::Figures>) -> Option<f64>,
) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::new();
    for Cell { row, .. } in cells {
        let Some(y) = y(row) else { continue };
        let line = match series.iter_mut().find(|line| line.name == row.detector) {
            Some(line) => line,
            None => {
                series.push(Series {
                    name: row.detector.clone(),
                    points: Vec::new(),
                    ours: row.detector == OURS,
                });
                series.last_mut().expect("pushed")
            }
        };
        line.points.push((x(row), y));
    }
    series
}

/// A panel with a bar for each detector.
pub(crate) fn panel_by_detector<'a, S: Scenario + 'a>(
    title: impl Into<String>,
    cells: impl Iterator<Item = &'a Cell<S>>,
    value: impl Fn(&Row<S::Case, S::Figures>) -> Option<f64>,
) -> Panel {
    Panel {
        title: title.into(),
        bars: cells
            .map(|Cell { row, .. }| Bar {
                label: row.detector.clone(),
                value: value(row),
                ours: row.detector == OURS,
            })
            .collect(),
    }
}
