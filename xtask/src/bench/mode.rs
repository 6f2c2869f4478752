//! Modes of `bench rpc` as data: what they measure, their table, JSON and figure.

use xtask_report::{Bar, Panel, draw_bars, format_table, number, ratio};

use super::{
    client_process::BenchSetup,
    options::Options,
    rows::{Figure, Row},
    subjects::Subject,
    targets::Notes,
};

#[derive(Debug)]
pub(crate) struct Mode {
    /// Subjects by default; all usual ones if this is empty.
    pub(crate) subjects: &'static [&'static str],
    /// Options that mean nothing in it, which are rejected.
    pub(crate) inapplicable: &'static [&'static str],
    /// Says what is special about how it is measured, and sets it up.
    pub(crate) prepare: fn(&Options, BenchSetup) -> BenchSetup,
    /// Rows to measure. Those of a group are measured in turn, round after round.
    pub(crate) groups: fn(&Options, &[Subject]) -> Vec<Vec<Row>>,
    /// Title of the table that a row is in, above the names of rows.
    pub(crate) table: fn(&Row) -> String,
    /// Name of a row, in the first column and beside its bar.
    pub(crate) name: fn(&Row) -> &str,
    pub(crate) columns: &'static [Column],
    pub(crate) fields: &'static [&'static [(&'static str, Figure)]],
    /// Title of the figure, which shows the rows of the first table.
    pub(crate) figure: fn(&[Row]) -> String,
    pub(crate) bars: &'static [(Panels, Figure)],
    pub(crate) stands_out: fn(&Row) -> bool,
    /// Lines below the tables: targets, and whether they are met.
    pub(crate) notes: fn(&[Row]) -> Notes,
}

#[derive(Debug)]
pub(crate) enum Column {
    /// Text that is known of a row before it is measured.
    Text(&'static str, fn(&Row) -> String),
    Number(&'static str, Figure),
    Ratio(&'static str, Figure),
    /// Text of what was measured.
    Measured(&'static str, fn(&Row) -> String),
    /// Ratio of ours to another subject in the same cell.
    Ours(&'static str, Figure),
    /// Ratio to the first row of the subject.
    First(&'static str, Figure),
}

#[derive(Debug)]
pub(crate) enum Panels {
    /// A panel for each cell.
    Cells,
    /// One panel of this title.
    One(&'static str),
}

impl Mode {
    /// Base of the modes: calls, with the rate as their figure.
    pub(crate) const CALLS: Self = Self {
        subjects: &[],
        inapplicable: &[],
        prepare: |_, setup| setup,
        groups: |_, _| Vec::new(),
        table: |_| "32 B".to_owned(),
        name: |row| row.subject.name,
        columns: &[],
        fields: &[super::rows::CALLS],
        figure: |_| String::new(),
        bars: &[(Panels::Cells, Row::per_s)],
        stands_out: Row::is_ours,
        notes: |_| Notes::default(),
    };

    /// The tables, then the notes.
    pub(crate) fn report(&self, rows: &[Row]) -> String {
        let tables = rows.chunk_by(|one, other| (self.table)(one) == (self.table)(other));
        let tables: String = tables.map(|rows| self.table(rows) + "\n").collect();
        tables + &(self.notes)(rows).text
    }

    /// Number of targets that were missed.
    pub(crate) fn missed_targets(&self, rows: &[Row]) -> usize {
        (self.notes)(rows).missed
    }

    fn table(&self, rows: &[Row]) -> String {
        let mut heading = vec![(self.table)(&rows[0])];
        heading.extend(self.columns.iter().map(|it| it.heading().to_owned()));
        let mut lines = vec![heading];
        let mut failures = String::new();
        for row in rows {
            let name = (self.name)(row);
            let mut line = vec![name.to_owned()];
            for column in self.columns {
                if let (false, Some(reason)) = (column.is_known(), &row.failed) {
                    line.push("failed".to_owned());
                    failures += &format!("  {name} failed at {}: {reason}\n", row.cell);
                    break;
                }
                line.push(column.cell(row, rows).unwrap_or_default());
            }
            lines.push(line);
        }
        format_table(&lines) + &failures
    }

    pub(crate) fn draw(&self, rows: &[Row]) -> String {
        let same_table = |one: &Row, other: &Row| (self.table)(one) == (self.table)(other);
        let rows = rows.chunk_by(same_table).next().unwrap_or_default();
        let mut panels: Vec<Panel> = Vec::new();
        for (titles, value) in self.bars {
            for row in rows {
                let title = match titles {
                    Panels::Cells => &row.cell,
                    Panels::One(title) => *title,
                };
                let bar = Bar {
                    label: (self.name)(row).to_owned(),
                    value: value(row),
                    ours: (self.stands_out)(row),
                };
                match panels.iter_mut().find(|panel| panel.title == title) {
                    Some(panel) => panel.bars.push(bar),
                    None => panels.push(Panel {
                        title: title.to_owned(),
                        bars: vec![bar],
                    }),
                }
            }
        }
        draw_bars(&(self.figure)(rows), &panels)
    }
}

impl Column {
    fn heading(&self) -> &'static str {
        match self {
            Self::Text(heading, _)
            | Self::Number(heading, _)
            | Self::Ratio(heading, _)
            | Self::Measured(heading, _)
            | Self::Ours(heading, _)
            | Self::First(heading, _) => heading,
        }
    }

    fn is_known(&self) -> bool {
        matches!(self, Self::Text(..))
    }

    fn cell(&self, row: &Row, rows: &[Row]) -> Option<String> {
        match self {
            Self::Text(_, of) | Self::Measured(_, of) => Some(of(row)),
            Self::Number(_, of) => of(row).map(number),
            Self::Ratio(_, of) => of(row).map(ratio),
            Self::Ours(_, of) => {
                let ours = rows.iter().find(|it| it.is_ours() && it.cell == row.cell)?;
                (!row.is_ours()).then_some(ratio(of(ours)? / of(row)?))
            }
            Self::First(_, of) => {
                let first = rows.iter().find(|it| it.subject == row.subject)?;
                Some(ratio(of(row)? / of(first)?))
            }
        }
    }
}

// Columns that several modes have.
pub(crate) const IN_FLIGHT: Column =
    Column::Text("in flight", |row| row.load.in_flight.to_string());
pub(crate) const RATE: Column = Column::Number("calls/s", Row::per_s);
pub(crate) const CPU: Column = Column::Number("CPU µs/call", Row::cpu_us_per_call);
pub(crate) const P50: Column = Column::Number("p50 µs", Row::p50_us);
pub(crate) const P99: Column = Column::Number("p99 µs", Row::p99_us);
pub(crate) const P999: Column = Column::Number("p99.9 µs", Row::p999_us);
pub(crate) const OURS_RATE: Column = Column::Ours("ours: rate", Row::per_s);
pub(crate) const OURS_P50: Column = Column::Ours("p50", Row::p50_us);
pub(crate) const OURS_CPU: Column = Column::Ours("CPU", Row::cpu_us_per_call);
pub(crate) const OURS_P99: Column = Column::Ours("ours: p99", Row::p99_us);
