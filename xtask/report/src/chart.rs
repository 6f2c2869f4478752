//! Figures of lines, as SVG.

use std::fmt::Write;

use crate::{
    svg::{document, escape},
    table::number,
};

/// Lines over an axis, with a legend.
#[derive(Debug, Clone, Default)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// From left to right.
    pub x: Axis,
    /// From below.
    pub y: Axis,
    /// The lines.
    pub series: Vec<Series>,
}

/// A direction of a chart.
#[derive(Debug, Clone, Default)]
pub struct Axis {
    /// What it counts, with the unit.
    pub label: String,
    /// Each step is so many times the one before. What is not above zero is not drawn then.
    pub logarithmic: bool,
    /// With a logarithm: zero is drawn all the same, a step below the least.
    pub zero: bool,
}

/// A line of a chart.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// In the legend.
    pub name: String,
    /// Ascending in x.
    pub points: Vec<(f64, f64)>,
    /// Drawn in the colour that stands out.
    pub ours: bool,
}

impl Axis {
    /// An axis in even steps.
    pub fn linear(label: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            logarithmic: false,
            zero: false,
        }
    }

    /// An axis in powers.
    pub fn logarithmic(label: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            logarithmic: true,
            zero: false,
        }
    }

    /// The same with a place for zero, a step below the least.
    pub fn with_zero(mut self) -> Self {
        self.zero = true;
        self
    }

    fn takes(&self, value: f64) -> bool {
        value.is_finite() && (!self.logarithmic || value > 0.0 || (self.zero && value == 0.0))
    }
}

impl Chart {
    /// Draws it.
    pub fn draw(&self) -> String {
        let mut body = String::new();
        let height = self.draw_into(&mut body, TOP);
        document(&self.title, height, &body)
    }

    /// Draws several of them below each other, under a title.
    pub fn draw_all(title: &str, charts: &[Self]) -> String {
        let mut body = String::new();
        let mut y = TOP;
        for chart in charts {
            let _ = writeln!(
                body,
                r#"<text x="{MARGIN}" y="{:.0}" class="panel">{}</text>"#,
                y + 8.0,
                escape(&chart.title)
            );
            y = chart.draw_into(&mut body, y + 24.0);
        }
        document(title, y, &body)
    }

    /// Draws it from `top` on and says where it ends.
    fn draw_into(&self, body: &mut String, top: f64) -> f64 {
        let drawn = |(x, y): &(f64, f64)| self.x.takes(*x) && self.y.takes(*y);
        let points = || {
            let all = self.series.iter().flat_map(|series| &series.points);
            all.copied().filter(drawn)
        };
        let xs = Scale::new(&self.x, points().map(|p| p.0), false, (LEFT, RIGHT));
        let ys = Scale::new(
            &self.y,
            points().map(|p| p.1),
            true,
            (top + PLOT_HEIGHT, top),
        );
        let bottom = top + PLOT_HEIGHT;
        for tick in &ys.ticks {
            let at = ys.at(*tick);
            let _ = writeln!(
                body,
                r#"<line x1="{LEFT}" y1="{at:.1}" x2="{RIGHT}" y2="{at:.1}" class="grid"/><text x="{}" y="{:.1}" class="label">{}</text>"#,
                LEFT - 8.0,
                at + 4.0,
                short(*tick)
            );
        }
        for tick in &xs.ticks {
            let at = xs.at(*tick);
            let _ = writeln!(
                body,
                r#"<line x1="{at:.1}" y1="{bottom}" x2="{at:.1}" y2="{}" class="axis"/><text x="{at:.1}" y="{}" class="middle">{}</text>"#,
                bottom + 5.0,
                bottom + 19.0,
                short(*tick)
            );
        }
        let _ = writeln!(
            body,
            r#"<line x1="{LEFT}" y1="{bottom}" x2="{RIGHT}" y2="{bottom}" class="axis"/><text x="{}" y="{}" class="middle">{}</text><text transform="translate(16 {}) rotate(-90)" class="middle">{}</text>"#,
            (LEFT + RIGHT) / 2.0,
            bottom + 38.0,
            escape(&self.x.label),
            (top + bottom) / 2.0,
            escape(&self.y.label)
        );
        // Ours last, so that it lies above the others.
        let mut order: Vec<usize> = (0..self.series.len()).collect();
        order.sort_by_key(|at| self.series[*at].ours);
        for at in order {
            self.draw_series(body, at, &xs, &ys);
        }
        for (row, at) in (0..self.series.len()).enumerate() {
            let y = top + 10.0 + 20.0 * row as f64;
            let _ = writeln!(
                body,
                r#"<line x1="{}" y1="{y}" x2="{}" y2="{y}" {}/><text x="{}" y="{}">{}</text>"#,
                RIGHT + 16.0,
                RIGHT + 44.0,
                self.stroke(at),
                RIGHT + 50.0,
                y + 4.0,
                escape(&self.series[at].name)
            );
        }
        let legend = top + 20.0 * self.series.len() as f64;
        (bottom + 56.0).max(legend + 20.0)
    }

    fn draw_series(&self, body: &mut String, at: usize, xs: &Scale, ys: &Scale) {
        let series = &self.series[at];
        let mut path = String::new();
        let mut dots = String::new();
        for (x, y) in &series.points {
            if !self.x.takes(*x) || !self.y.takes(*y) {
                continue;
            }
            let (px, py) = (xs.at(*x), ys.at(*y));
            let _ = write!(path, "{px:.1},{py:.1} ");
            let _ = write!(
                dots,
                r#"<circle cx="{px:.1}" cy="{py:.1}" r="3" fill="{}"><title>{}: {}, {}</title></circle>"#,
                self.colour(at),
                escape(&series.name),
                number(*x),
                number(*y)
            );
        }
        let _ = writeln!(
            body,
            r#"<polyline points="{}" fill="none" {}/>{dots}"#,
            path.trim_end(),
            self.stroke(at)
        );
    }

    fn stroke(&self, at: usize) -> String {
        let series = &self.series[at];
        let width = if series.ours { 3.0 } else { 1.8 };
        let before = self.series[..at].iter().filter(|it| it.ours == series.ours);
        let dash = match before.count() / if series.ours { 1 } else { PEERS.len() } {
            0 => "",
            1 => r#" stroke-dasharray="7 4""#,
            _ => r#" stroke-dasharray="2 4""#,
        };
        format!(
            r#"stroke="{}" stroke-width="{width}"{dash}"#,
            self.colour(at)
        )
    }

    fn colour(&self, at: usize) -> &'static str {
        if self.series[at].ours {
            return OURS;
        }
        let before = self.series[..at].iter().filter(|it| !it.ours).count();
        PEERS[before % PEERS.len()]
    }
}

/// Values to pixels.
#[derive(Debug)]
struct Scale {
    logarithmic: bool,
    low: f64,
    high: f64,
    pixels: (f64, f64),
    ticks: Vec<f64>,
}

impl Scale {
    fn new(
        axis: &Axis,
        values: impl Iterator<Item = f64>,
        from_zero: bool,
        pixels: (f64, f64),
    ) -> Self {
        let on_scale = values.filter(|value| !axis.logarithmic || *value > 0.0);
        let (mut low, mut high) = on_scale.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| {
            (l.min(v), h.max(v))
        });
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        let ticks = if axis.logarithmic {
            let mut ticks = powers(&mut low, &mut high);
            if axis.zero {
                low /= 10.0;
                ticks.insert(0, 0.0);
            }
            ticks
        } else {
            if from_zero {
                low = low.min(0.0);
            }
            even_steps(&mut low, &mut high)
        };
        Self {
            logarithmic: axis.logarithmic,
            low,
            high,
            pixels,
            ticks,
        }
    }

    fn at(&self, value: f64) -> f64 {
        let share = match self.logarithmic {
            true => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        self.pixels.0 + share * (self.pixels.1 - self.pixels.0)
    }
}

/// Some five round values, and the ends moved out to the first and the last of them.
fn even_steps(low: &mut f64, high: &mut f64) -> Vec<f64> {
    if *high <= *low {
        *high = *low + 1.0;
    }
    let rough = (*high - *low) / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * power);
    let step = steps.into_iter().find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(10.0 * power);
    let (first, last) = ((*low / step).floor(), (*high / step).ceil());
    (*low, *high) = (first * step, last * step);
    (first as i64..=last as i64)
        .map(|n| n as f64 * step)
        .collect()
}

/// The powers of ten, with 2 and 5 between them where there are few; the ends lie on one of them.
fn powers(low: &mut f64, high: &mut f64) -> Vec<f64> {
    let all = |digits: &[f64]| -> Vec<f64> {
        (-12..=15)
            .flat_map(|power| digits.iter().map(move |digit| digit * 10_f64.powi(power)))
            .collect()
    };
    let between = |marks: Vec<f64>| {
        let first = marks.iter().rposition(|mark| *mark <= *low * 1.001);
        let last = marks.iter().position(|mark| *mark >= *high * 0.999);
        let (first, last) = (first.unwrap_or(0), last.unwrap_or(marks.len() - 1));
        marks[first..=last.max(first + 1).min(marks.len() - 1)].to_vec()
    };
    let tens = between(all(&[1.0]));
    let ticks = if tens.len() > 4 {
        tens
    } else {
        between(all(&[1.0, 2.0, 5.0]))
    };
    (*low, *high) = (ticks[0], ticks[ticks.len() - 1]);
    ticks
}

/// As short as an axis needs it.
fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        large if large >= 999_999.0 => (value / 1e6, "M"),
        medium if medium >= 9_999.0 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{}{unit}", if text.is_empty() { "0" } else { text })
}

const OURS: &str = "#c2410c";
const PEERS: [&str; 6] = [
    "#475569", "#2563eb", "#0d9488", "#9333ea", "#ca8a04", "#db2777",
];
const MARGIN: f64 = 16.0;
const TOP: f64 = 52.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 560.0;
const PLOT_HEIGHT: f64 = 260.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::svg::assert_well_formed;

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
        assert_well_formed(&svg);
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert_eq!(svg.matches("<circle").count(), 4);
        // Ours is drawn last and named first.
        assert!(svg.rfind("<polyline").unwrap() > svg.find("a &amp; b: 2").unwrap());
        assert!(svg.find(">rpcnet</text>").unwrap() < svg.find(">a &amp; b</text>").unwrap());
        let both = Chart::draw_all("two", &[chart.clone(), chart]);
        assert_well_formed(&both);
        assert_eq!(both.matches("<polyline").count(), 4);
    }

    #[test]
    fn what_a_logarithm_has_no_place_for_is_left_out() {
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
    fn ticks_are_round_and_hold_all_values() {
        let (mut low, mut high) = (0.0, 17.7);
        assert_eq!(
            even_steps(&mut low, &mut high),
            [0.0, 5.0, 10.0, 15.0, 20.0]
        );
        assert_eq!((low, high), (0.0, 20.0));
        let (mut low, mut high) = (2.0, 1_000.0);
        let ticks = powers(&mut low, &mut high);
        assert_eq!(ticks[..4], [2.0, 5.0, 10.0, 20.0]);
        assert_eq!((low, high), (2.0, 1_000.0));
        let (mut low, mut high) = (3.0, 3.0);
        assert!(powers(&mut low, &mut high).len() >= 2 && low < high);
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
