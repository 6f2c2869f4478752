//! Panels of bars, as SVG.

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{
    canvas::{OURS, canvas},
    table::number,
};

/// Bars with a scale of their own, from zero.
#[derive(Debug, Clone)]
pub struct Panel {
    /// Title of the panel.
    pub title: String,
    /// Bars, from the top.
    pub bars: Vec<Bar>,
}

/// Bar of a panel.
#[derive(Debug, Clone)]
pub struct Bar {
    /// Text to its left.
    pub label: String,
    /// Length; `None` if there is no value.
    pub value: Option<f64>,
    /// Drawn in the colour that stands out.
    pub ours: bool,
}

/// Draws panels below each other, with `failed` in place of missing values.
pub fn draw_bars(title: &str, panels: &[Panel]) -> String {
    draw_bars_or(title, panels, "failed")
}

/// Draws panels below each other, with `none` in place of missing values.
pub fn draw_bars_or(title: &str, panels: &[Panel], none: &str) -> String {
    let height = |panel: &Panel| 30 + 20 * u32::try_from(panel.bars.len()).unwrap_or_default();
    let heights: Vec<u32> = panels.iter().map(height).collect();
    canvas(title, &heights, |areas| {
        let style = |horizontal| {
            let font = ("sans-serif", 12).into_text_style(&(0, 0));
            font.pos(Pos::new(horizontal, VPos::Center))
        };
        for (panel, area) in panels.iter().zip(areas) {
            let title = ("sans-serif", 13).into_text_style(area);
            area.draw(&Text::new(panel.title.as_str(), (16, 4), title))?;
            let values = panel.bars.iter().filter_map(|bar| bar.value);
            let longest = values.fold(f64::MIN_POSITIVE, f64::max);
            for (row, bar) in (0..).zip(&panel.bars) {
                let y = 34 + 20 * row;
                let length = LENGTH_MAX * bar.value.unwrap_or_default() / longest;
                let end = LEFT + length.round() as i32;
                let value = bar.value.map_or_else(|| none.to_owned(), number);
                let colour = if bar.ours { OURS } else { PEER };
                let label = bar.label.as_str();
                area.draw(&Text::new(label, (LEFT - 8, y), style(HPos::Right)))?;
                area.draw(&Rectangle::new(
                    [(LEFT, y - 8), (end, y + 8)],
                    colour.filled(),
                ))?;
                area.draw(&Text::new(value, (end + 6, y), style(HPos::Left)))?;
            }
        }
        Ok(())
    })
}

const PEER: RGBColor = RGBColor(0x94, 0xa3, 0xb8);
const LEFT: i32 = 190;
const LENGTH_MAX: f64 = 420.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_have_lengths_in_proportion_and_names_are_escaped() {
        let bar = |value, ours| Bar {
            label: "<a & \"b\">".into(),
            value,
            ours,
        };
        let bars = vec![
            bar(Some(2.0), true),
            bar(Some(1.0), false),
            bar(None, false),
        ];
        let title = "x < y".to_owned();
        let svg = draw_bars("a < b", &[Panel { title, bars }]);
        assert!(
            svg.contains("a &lt; b") && svg.contains("x &lt; y"),
            "{svg}"
        );
        assert!(
            svg.contains("width=\"420\"") && svg.contains("width=\"210\""),
            "{svg}"
        );
        assert!(svg.contains("#C2410C") && svg.contains("failed"), "{svg}");
    }
}
