//! Figures: panels of bars, as SVG.

use std::fmt::Write;

use super::{
    cells::{Cell, payload},
    rows::Row,
    subjects::OURS,
    table::number,
};

/// Bars with a scale of their own, from zero.
#[derive(Debug, Clone)]
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) bars: Vec<Bar>,
}

/// One bar.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    pub(crate) label: String,
    /// `None`: there is none.
    pub(crate) value: Option<f64>,
    /// Drawn in the colour that stands out.
    pub(crate) ours: bool,
}

/// Calls per second of the smallest payload, a panel for each number in flight.
pub(crate) fn calls(rows: &[Row], cells: &[Cell]) -> String {
    let smallest = cells
        .iter()
        .map(|cell| cell.payload_bytes)
        .min()
        .unwrap_or_default();
    let panels: Vec<Panel> = cells
        .iter()
        .filter(|cell| cell.payload_bytes == smallest)
        .map(|cell| Panel {
            title: format!("{} in flight", cell.in_flight),
            bars: rows
                .iter()
                .filter(|row| row.is_of(*cell))
                .map(|row| Bar {
                    label: row.subject.to_owned(),
                    value: row.figures.map(|figures| figures.calls_per_s),
                    ours: row.subject.starts_with(OURS) && !row.subject.ends_with("0.1.0"),
                })
                .collect(),
        })
        .collect();
    let title = format!("calls per second, echo of {}", payload(smallest));
    draw(&title, &panels)
}

/// Draws panels below each other.
pub(crate) fn draw(title: &str, panels: &[Panel]) -> String {
    let mut body = String::new();
    let mut y = TOP;
    for panel in panels {
        let _ = writeln!(
            body,
            r#"<text x="{MARGIN}" y="{}" class="panel">{}</text>"#,
            y + 14,
            escape(&panel.title)
        );
        y += 24;
        let longest = panel
            .bars
            .iter()
            .filter_map(|bar| bar.value)
            .fold(f64::MIN_POSITIVE, f64::max);
        for bar in &panel.bars {
            let value = bar.value.unwrap_or_default();
            let width = BAR_WIDTH_MAX * value / longest;
            let class = if bar.ours { "ours" } else { "peer" };
            let told = bar.value.map_or_else(|| "failed".to_owned(), number);
            let _ = writeln!(
                body,
                r#"<text x="{}" y="{}" class="label">{}</text><rect x="{BARS_X}" y="{y}" width="{width:.1}" height="16" class="{class}"/><text x="{:.1}" y="{}">{}</text>"#,
                BARS_X - 8,
                y + 12,
                escape(&bar.label),
                f64::from(BARS_X) + width + 6.0,
                y + 12,
                escape(&told),
            );
            y += 20;
        }
        y += 14;
    }
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" font-family="sans-serif" font-size="12">
<style>text {{ fill: #1f2328 }} .title {{ font-size: 16px; font-weight: bold }} .panel {{ font-weight: bold }} .label {{ text-anchor: end }} .ours {{ fill: #c2410c }} .peer {{ fill: #94a3b8 }}</style>
<rect width="{WIDTH}" height="{y}" fill="#ffffff"/>
<text x="{MARGIN}" y="26" class="title">{}</text>
{body}</svg>
"##,
        escape(title)
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

const WIDTH: u32 = 720;
const MARGIN: u32 = 16;
const TOP: u32 = 44;
const BARS_X: u32 = 150;
const BAR_WIDTH_MAX: f64 = 460.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rows::tests::row;

    /// Every element that opens is closed, in order, and attributes are quoted.
    fn assert_well_formed(svg: &str) {
        let mut open = Vec::new();
        for piece in svg.split('<').skip(1) {
            let (tag, text) = piece.split_once('>').expect("a tag ends");
            assert!(!text.contains('>'), "{text}");
            assert!(tag.matches('"').count().is_multiple_of(2), "{tag}");
            let name = tag
                .trim_start_matches('/')
                .split([' ', '/'])
                .next()
                .unwrap();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name.to_owned()));
            } else if !tag.ends_with('/') {
                open.push(name.to_owned());
            }
        }
        assert_eq!(open, [""; 0]);
    }

    #[test]
    fn a_figure_is_well_formed_and_has_a_bar_for_each_row() {
        let mut failed = row("rpcnet-0.1.0", (32, 64), 1, 1.0);
        failed.figures = None;
        let rows = [
            row("rpcnet", (32, 64), 400_000, 50.0),
            row("tarpc-tcp", (32, 64), 100_000, 100.0),
            failed,
            row("rpcnet", (1024, 64), 300_000, 50.0),
        ];
        let cells = [32, 1024].map(|payload_bytes| Cell {
            payload_bytes,
            in_flight: 64,
        });
        let svg = calls(&rows, &cells);
        assert_well_formed(&svg);
        assert_eq!(svg.matches("class=\"peer\"").count(), 2);
        assert_eq!(svg.matches("class=\"ours\"").count(), 1);
        assert!(svg.contains("width=\"460.0\"") && svg.contains("width=\"115.0\""));
        assert!(svg.contains("failed"));
    }

    #[test]
    fn names_cannot_break_it() {
        let panel = Panel {
            title: "<a & \"b\">".into(),
            bars: vec![],
        };
        assert_well_formed(&draw("x < y", &[panel]));
    }
}
