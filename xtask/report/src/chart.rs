//! Charts of lines, as SVG.

use std::ops::Range;

use plotters::{
    coord::ranged1d::{AsRangedCoord, ValueFormatter},
    prelude::*,
};

use crate::canvas::{Area, OURS, canvas, colour};

/// Lines over an axis, with a legend.
#[derive(Debug, Clone, Default)]
pub struct Chart {
    /// Title of the figure, or of the panel.
    pub title: String,
    /// Axis from left to right.
    pub x: Axis,
    /// Axis from below.
    pub y: Axis,
    /// The lines.
    pub series: Vec<Series>,
}

/// Axis of a chart.
#[derive(Debug, Clone, Default)]
pub struct Axis {
    /// Quantity, with its unit.
    pub label: String,
    /// Logarithmic scale. Values that are not above zero are not drawn.
    pub logarithmic: bool,
    /// On a logarithmic scale: zero is drawn all the same, below the least value.
    pub zero: bool,
}

/// Line of a chart.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// Points, ascending in x.
    pub points: Vec<(f64, f64)>,
    /// Drawn in the colour that stands out.
    pub ours: bool,
}

impl Series {
    /// A line for each name, in the order in which they come; the one called `ours` is ours.
    pub fn by_name<'a>(
        points: impl IntoIterator<Item = (&'a str, (f64, f64))>,
        ours: &str,
    ) -> Vec<Self> {
        let mut series: Vec<Self> = Vec::new();
        for (name, point) in points {
            match series.iter_mut().find(|line| line.name == name) {
                Some(line) => line.points.push(point),
                None => series.push(Self {
                    name: name.to_owned(),
                    points: vec![point],
                    ours: name == ours,
                }),
            }
        }
        series
    }
}

impl Axis {
    /// Linear axis.
    pub fn linear(label: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            ..Self::default()
        }
    }

    /// Logarithmic axis.
    pub fn logarithmic(label: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            logarithmic: true,
            zero: false,
        }
    }

    /// The same axis with a place for zero, below the least value.
    #[must_use]
    pub fn with_zero(mut self) -> Self {
        self.zero = true;
        self
    }

    fn takes(&self, value: f64) -> bool {
        value.is_finite() && (!self.logarithmic || value > 0.0 || (self.zero && value == 0.0))
    }

    /// Range that holds the values.
    fn range(&self, values: impl Iterator<Item = f64>, from_zero: bool) -> Range<f64> {
        let on_scale = values.filter(|value| !self.logarithmic || *value > 0.0);
        let (low, high) = on_scale.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), it| {
            (low.min(it), high.max(it))
        });
        match (low <= high, self.logarithmic) {
            (false, _) => 1.0..10.0,
            (true, true) if self.zero => low / ZERO_BELOW..high * 1.2,
            (true, true) => low / 1.2..high * 1.2,
            (true, false) if from_zero => 0.0..(high * 1.05).max(f64::MIN_POSITIVE),
            (true, false) if low == high => low - 0.5..high + 0.5,
            (true, false) => low..high,
        }
    }
}

impl Chart {
    /// Draws the chart as a figure.
    pub fn draw(&self) -> String {
        canvas(&self.title, &[HEIGHT], |areas| self.plot(&areas[0]))
    }

    /// Draws several charts below each other, under a title.
    pub fn draw_all(title: &str, charts: &[Self]) -> String {
        let heights = vec![HEIGHT + 20; charts.len()];
        canvas(title, &heights, |areas| {
            for (chart, area) in charts.iter().zip(areas) {
                let area = area.titled(&chart.title, ("sans-serif", 13))?;
                chart.plot(&area)?;
            }
            Ok(())
        })
    }

    fn plot(&self, area: &Area<'_>) -> Result<(), DrawingError> {
        let points = || self.series.iter().flat_map(|series| self.drawn(series));
        let x = self.x.range(points().map(|it| it.0), false);
        let y = self.y.range(points().map(|it| it.1), true);
        let low = y.start;
        match (self.x.logarithmic, self.y.logarithmic) {
            (false, false) => self.plot_on(area, x, y, low),
            (true, false) => self.plot_on(area, x.log_scale(), y, low),
            (false, true) => self.plot_on(area, x, y.log_scale(), low),
            (true, true) => self.plot_on(area, x.log_scale(), y.log_scale(), low),
        }
    }

    fn plot_on<X, Y>(&self, area: &Area<'_>, x: X, y: Y, low: f64) -> Result<(), DrawingError>
    where
        X: AsRangedCoord<Value = f64, CoordDescType: ValueFormatter<f64>>,
        Y: AsRangedCoord<Value = f64, CoordDescType: ValueFormatter<f64>>,
    {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_right(LEGEND_WIDTH)
            .x_label_area_size(40)
            .y_label_area_size(64)
            .build_cartesian_2d(x, y)?;
        let zero = self.y.logarithmic && self.y.zero;
        let label = |value: &f64| match zero && *value <= 1.01 * low {
            true => "0".to_owned(),
            false => short(*value),
        };
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc(&self.x.label)
            .y_desc(&self.y.label)
            .x_label_formatter(&|value| short(*value))
            .y_label_formatter(&label)
            .draw()?;
        // Ours last, so that it lies above the others.
        let mut order: Vec<usize> = (0..self.series.len()).collect();
        order.sort_by_key(|at| self.series[*at].ours);
        for at in order {
            let points = self.drawn(&self.series[at]);
            let points: Vec<_> = points
                .map(|(x, y)| (x, if zero { y.max(low) } else { y }))
                .collect();
            let style = self.style(at);
            chart.draw_series(LineSeries::new(points.iter().copied(), style))?;
            let dot = |point| Circle::new(point, 3, style.color.filled());
            chart.draw_series(points.into_iter().map(dot))?;
        }
        let (width, _) = area.dim_in_pixel();
        let left = i32::try_from(width - LEGEND_WIDTH).unwrap_or_default() + 12;
        for (row, at) in (0..).zip(0..self.series.len()) {
            let y = 16 + 18 * row;
            let line = vec![(left, y), (left + 20, y)];
            area.draw(&PathElement::new(line, self.style(at)))?;
            let name = self.series[at].name.clone();
            area.draw(&Text::new(name, (left + 26, y - 6), ("sans-serif", 12)))?;
        }
        Ok(())
    }

    /// Points of a line that are on the scales of both axes.
    fn drawn(&self, series: &Series) -> impl Iterator<Item = (f64, f64)> {
        let takes = |(x, y): &(f64, f64)| self.x.takes(*x) && self.y.takes(*y);
        series.points.iter().copied().filter(takes)
    }

    /// Ours in its colour, the others in theirs, in turn.
    fn style(&self, at: usize) -> ShapeStyle {
        let before = self.series[..at].iter().filter(|it| !it.ours).count();
        match self.series[at].ours {
            true => OURS.stroke_width(3),
            false => colour(before).stroke_width(2),
        }
    }
}

/// Errors of drawing into a string, which do not occur.
pub(crate) type DrawingError = Box<dyn std::error::Error>;

/// Number as short as an axis needs it.
fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        large if large >= 999_999.0 => (value / 1e6, "M"),
        medium if medium >= 9_999.0 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

const HEIGHT: u32 = 330;
const LEGEND_WIDTH: u32 = 150;
/// Distance of zero from the least value on a logarithmic axis.
const ZERO_BELOW: f64 = 10.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, points: &[(f64, f64)], ours: bool) -> Series {
        Series {
            name: name.to_owned(),
            points: points.to_vec(),
            ours,
        }
    }

    #[test]
    fn a_chart_has_a_line_and_dots_for_each_series() {
        let chart = Chart {
            title: "latency < all".into(),
            x: Axis::logarithmic("nodes"),
            y: Axis::linear("s"),
            series: vec![
                line("rpcnet", &[(2.0, 4.0), (1_000.0, 4.4)], true),
                line("a & b", &[(2.0, 9.0), (1_000.0, 17.7)], false),
            ],
        };
        let svg = chart.draw();
        assert_eq!(svg.matches("<circle").count(), 4);
        assert!(svg.contains("a &amp; b") && svg.contains("latency &lt; all"));
        // Ours is drawn last, above the others.
        let circles: Vec<_> = svg.lines().filter(|it| it.contains("<circle")).collect();
        assert!(circles[0].contains("#475569"), "{circles:?}");
        assert!(circles[3].contains("#C2410C"), "{circles:?}");
        let both = Chart::draw_all("two", &[chart.clone(), chart]);
        assert_eq!(both.matches("<circle").count(), 8);
    }

    #[test]
    fn points_of_one_name_are_one_line() {
        let points = [("b", (1.0, 2.0)), ("a", (1.0, 3.0)), ("b", (2.0, 4.0))];
        let series = Series::by_name(points, "a");
        let names: Vec<_> = series.iter().map(|it| (&*it.name, it.ours)).collect();
        assert_eq!(names, [("b", false), ("a", true)]);
        assert_eq!(series[0].points, [(1.0, 2.0), (2.0, 4.0)]);
    }

    #[test]
    fn values_that_a_logarithm_has_no_place_for_are_left_out() {
        let chart = Chart {
            y: Axis::logarithmic("deaths"),
            series: vec![line("x", &[(1.0, 0.0), (2.0, 5.0), (3.0, f64::NAN)], true)],
            ..Chart::default()
        };
        let svg = chart.draw();
        assert_eq!(svg.matches("<circle").count(), 1);
        let mut with_zero = chart.clone();
        with_zero.y = with_zero.y.with_zero();
        assert_eq!(with_zero.draw().matches("<circle").count(), 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        let empty = Chart::default().draw();
        assert!(!empty.contains("NaN") && !empty.contains("inf"), "{empty}");
    }

    #[test]
    fn numbers_of_an_axis_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (2.5, "2.5"),
            (1_000.0, "1000"),
            (20_000.0, "20k"),
        ] {
            assert_eq!(short(value), text);
        }
    }
}
