//! Tables and figures of scenarios.

use xtask_report::{Axis, Bar, Chart, Panel, Series};

use crate::{
    detector::OURS,
    experiment::Cell,
    row::{self, Column, Row},
};

/// Table of all rows: detector, nodes and these columns. The field `case` is the case's label.
pub(crate) fn table(columns: &[Column], cells: &[Cell]) -> String {
    let first = [
        Column::new("detector", "detector"),
        Column::plain("nodes", "nodes"),
    ];
    let with_case = |cell: &Cell| cell.row.clone().with("case", &*cell.case);
    let rows: Vec<Row> = cells.iter().map(with_case).collect();
    row::table(&[&first, columns].concat(), &rows, "never")
}

/// Chart of a field over the number of nodes, with a line for each detector.
pub(crate) fn chart_over_nodes<'a>(
    title: &str,
    y: &str,
    field: &str,
    cells: impl IntoIterator<Item = &'a Cell>,
) -> Chart {
    let point = |cell: &'a Cell| {
        let point = (cell.number("nodes")?, cell.number(field)?);
        Some((&*cell.subject, point))
    };
    Chart {
        title: title.to_owned(),
        x: Axis::logarithmic("nodes"),
        y: Axis::linear(y),
        series: Series::by_name(cells.into_iter().filter_map(point), OURS),
    }
}

/// Panels of each case that has them: one for each pair of a title and a field, with a bar for each
/// detector.
pub(crate) fn panels_by_case(cells: &[Cell], fields: &[(&str, &str)]) -> Vec<Panel> {
    let mut panels = Vec::new();
    for cells in cells.chunk_by(|a, b| a.case == b.case) {
        let case = &cells[0].case;
        for (title, field) in fields {
            if cells[0].row.get(field).is_none() {
                continue;
            }
            let title = match title.is_empty() {
                true => case.clone(),
                false => format!("{case}: {title}"),
            };
            panels.push(panel(title, cells, field));
        }
    }
    panels
}

/// Panel of a field, with a bar for each detector.
pub(crate) fn panel(title: String, cells: &[Cell], field: &str) -> Panel {
    let bar = |cell: &Cell| Bar {
        label: cell.subject.clone(),
        value: cell.number(field),
        ours: cell.is_ours(),
    };
    Panel {
        title,
        bars: cells.iter().map(bar).collect(),
    }
}
