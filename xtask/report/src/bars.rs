//! Figures of bars, as SVG.

use std::fmt::Write;

use crate::{
    svg::{document, escape},
    table::number,
};

/// Bars with a scale of their own, from zero.
#[derive(Debug, Clone)]
pub struct Panel {
    /// What they show.
    pub title: String,
    /// From the top.
    pub bars: Vec<Bar>,
}

/// One bar.
#[derive(Debug, Clone)]
pub struct Bar {
    /// To its left.
    pub label: String,
    /// `None`: there is none.
    pub value: Option<f64>,
    /// Drawn in the colour that stands out.
    pub ours: bool,
}

/// Draws panels below each other. Where there is no value it says `failed`.
pub fn draw_bars(title: &str, panels: &[Panel]) -> String {
    draw_bars_or(title, panels, "failed")
}

/// The same with another word for where there is no value.
pub fn draw_bars_or(title: &str, panels: &[Panel], none: &str) -> String {
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
            let told = bar.value.map_or_else(|| none.to_owned(), number);
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
    document(title, f64::from(y), &body)
}

const MARGIN: u32 = 16;
const TOP: u32 = 44;
const BARS_X: u32 = 190;
const BAR_WIDTH_MAX: f64 = 420.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::svg::assert_well_formed;

    #[test]
    fn names_cannot_break_it() {
        let panel = Panel {
            title: "<a & \"b\">".into(),
            bars: vec![],
        };
        assert_well_formed(&draw_bars("x < y", &[panel]));
    }
}
