//! Scales, axes and marks: what the figures have in common. Coordinates are those of a view box that is
//! 360 wide, so that letters keep a readable size from a phone to a wide screen.

use std::fmt::Write;

/// Width of every view box.
pub const WIDTH: f64 = 360.0;
const RIGHT: f64 = WIDTH - 14.0;

/// Text that is safe between tags and in quoted attributes.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(letter),
        }
    }
    safe
}

/// How numbers are written at an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unit {
    /// As it is.
    Plain,
    /// A share as a percentage.
    Percent,
    /// 1500 as 1.5k.
    Count,
}

impl Unit {
    /// The number as text.
    #[must_use]
    pub fn write(self, value: f64) -> String {
        match self {
            Self::Percent => format!("{} %", short(100.0 * value)),
            Self::Count if value >= 1e6 => format!("{}M", short(value / 1e6)),
            Self::Count if value >= 1e3 => format!("{}k", short(value / 1e3)),
            _ => short(value),
        }
    }
}

/// At most three significant digits, without noise at the end.
fn short(value: f64) -> String {
    let size = value.abs();
    if size >= 1e6 || (size > 0.0 && size < 1e-3) {
        return format!("{value:.0e}");
    }
    let digits = if size == 0.0 { 0 } else { (2 - size.log10().floor() as i32).clamp(0, 6) };
    let text = format!("{value:.*}", digits as usize);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
}

/// From data to coordinates, linear or logarithmic.
#[derive(Debug, Clone)]
pub struct Scale {
    low: f64,
    high: f64,
    log: bool,
    from: f64,
    to: f64,
}

impl Scale {
    /// From 0 (or the smallest value, if that is below) to a little above the largest.
    #[must_use]
    pub fn linear(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = bounds(values).unwrap_or((0.0, 1.0));
        let low = low.min(0.0);
        let high = if high > low { high } else { low + 1.0 };
        Self { low, high: high + 0.04 * (high - low), log: false, from: 0.0, to: 1.0 }
    }

    /// Exactly from `low` to `high`.
    #[must_use]
    pub fn exact(low: f64, high: f64) -> Self {
        Self {
            low,
            high: if high > low { high } else { low + 1.0 },
            log: false,
            from: 0.0,
            to: 1.0,
        }
    }

    /// Over the positive values, a tenth of a decade wider at both ends at least.
    #[must_use]
    pub fn log(values: impl Iterator<Item = f64>) -> Self {
        let positive = values.filter(|value| *value > 0.0).map(f64::log10);
        let (low, high) = bounds(positive).unwrap_or((0.0, 1.0));
        let more = (0.05 * (high - low)).max(0.1);
        Self { low: low - more, high: high + more, log: true, from: 0.0, to: 1.0 }
    }

    fn onto(mut self, from: f64, to: f64) -> Self {
        (self.from, self.to) = (from, to);
        self
    }

    /// The coordinate; none for what cannot be drawn.
    #[must_use]
    pub fn at(&self, value: f64) -> Option<f64> {
        let value = if self.log { value.log10() } else { value };
        let share = (value - self.low) / (self.high - self.low);
        share.is_finite().then(|| self.from + share.clamp(0.0, 1.0) * (self.to - self.from))
    }

    /// Round values inside, some four of them.
    #[must_use]
    pub fn ticks(&self) -> Vec<f64> {
        if self.log {
            return self.log_ticks();
        }
        let step = nice((self.high - self.low) / 4.0);
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last).take(12).map(|i| i as f64 * step).collect()
    }

    fn log_ticks(&self) -> Vec<f64> {
        let decades = self.high - self.low;
        let inside = |value: &f64| (self.low..=self.high).contains(&value.log10());
        let range = (self.low.floor() as i32)..=(self.high.ceil() as i32);
        let multiples: &[f64] = if decades < 1.0 {
            &[1.0, 2.0, 3.0, 5.0, 7.0]
        } else if decades < 2.5 {
            &[1.0, 3.0]
        } else {
            &[1.0]
        };
        let skip = ((decades / 5.0).ceil() as i32).max(1);
        range
            .filter(|power| power.rem_euclid(skip) == 0)
            .flat_map(|power| multiples.iter().map(move |m| m * 10f64.powi(power)))
            .filter(inside)
            .take(12)
            .collect()
    }
}

/// The smallest and largest finite value.
fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).fold(None, |found, value| {
        let (low, high) = found.unwrap_or((value, value));
        Some((value.min(low), value.max(high)))
    })
}

/// The next of 1, 2, 5 times a power of ten.
fn nice(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|m| m * power)
        .find(|s| *s >= step * 0.999)
        .unwrap_or(10.0 * power)
}

/// An SVG under construction.
#[derive(Debug)]
pub struct Chart {
    /// Along.
    pub x: Scale,
    /// Upwards.
    pub y: Scale,
    top: f64,
    bottom: f64,
    left: f64,
    body: String,
}

impl Chart {
    /// Axes with grid lines and names; the y axis's name stands above it.
    #[must_use]
    pub fn new(height: f64, x: (Scale, Unit, &str), y: (Scale, Unit, &str)) -> Self {
        let (top, bottom, left) = (22.0, height - 36.0, 46.0);
        let mut chart = Self {
            x: x.0.onto(left, RIGHT),
            y: y.0.onto(bottom, top),
            top,
            bottom,
            left,
            body: String::new(),
        };
        for tick in chart.y.ticks() {
            let Some(at) = chart.y.at(tick) else { continue };
            chart.rule("grid", (left, at), (RIGHT, at));
            chart.text("", "end", (left - 6.0, at + 4.0), &y.1.write(tick));
        }
        chart.x_axis(x.1, x.2);
        chart.text("", "start", (4.0, 11.0), y.2);
        chart
    }

    /// Only an x axis, with room for `rows` rows of `row` above it.
    #[must_use]
    pub fn rows(rows: usize, row: f64, x: (Scale, Unit, &str)) -> Self {
        let (top, left) = (2.0, 8.0);
        let bottom = top + rows as f64 * row;
        let mut chart = Self {
            x: x.0.onto(left, RIGHT),
            y: Scale::exact(0.0, rows as f64).onto(top, bottom),
            top,
            bottom,
            left,
            body: String::new(),
        };
        chart.x_axis(x.1, x.2);
        chart
    }

    fn x_axis(&mut self, unit: Unit, name: &str) {
        let mut free = f64::NEG_INFINITY;
        for tick in self.x.ticks() {
            let Some(at) = self.x.at(tick) else { continue };
            self.rule("grid", (at, self.top), (at, self.bottom));
            let text = unit.write(tick);
            let half = 3.9 * text.chars().count() as f64;
            // A label that would touch the one before is left out.
            if at - half > free {
                let at = at.clamp(half, WIDTH - half);
                self.text("", "middle", (at, self.bottom + 15.0), &text);
                free = at + half + 4.0;
            }
        }
        self.rule("axis", (self.left, self.bottom), (RIGHT, self.bottom));
        self.text("", "middle", ((self.left + RIGHT) / 2.0, self.bottom + 31.0), name);
    }

    /// Adds elements as they are.
    pub fn raw(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.body.write_fmt(arguments);
    }

    fn rule(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((a, b), (c, d)) = (from, to);
        self.raw(format_args!(
            "<line class=\"{class}\" x1=\"{a:.1}\" y1=\"{b:.1}\" x2=\"{c:.1}\" y2=\"{d:.1}\"/>"
        ));
    }

    /// `text` is escaped.
    pub fn text(&mut self, class: &str, anchor: &str, (x, y): (f64, f64), text: &str) {
        let text = escape(text);
        self.raw(format_args!(
            "<text class=\"{class}\" text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"
        ));
    }

    /// A line through the points that can be drawn; it breaks where one cannot.
    pub fn line(&mut self, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        let mut path = String::new();
        let mut open = false;
        let mut alone: Vec<(f64, f64)> = Vec::new();
        for (x, y) in points {
            let Some((x, y)) = self.x.at(x).zip(self.y.at(y)) else {
                open = false;
                continue;
            };
            let _ = write!(path, "{}{x:.1} {y:.1}", if open { 'L' } else { 'M' });
            if !open {
                alone.push((x, y));
            }
            open = true;
        }
        self.raw(format_args!("<path class=\"line {class}\" d=\"{path}\"/>"));
        if !path.contains('L') {
            alone.into_iter().for_each(|at| self.dot_at(class, at, 3.0));
        }
    }

    /// The area between two values at each x.
    pub fn band(&mut self, class: &str, points: &[(f64, f64, f64)]) {
        let upper = points.iter().filter_map(|p| self.x.at(p.0).zip(self.y.at(p.2)));
        let lower = points.iter().rev().filter_map(|p| self.x.at(p.0).zip(self.y.at(p.1)));
        let mut path = String::new();
        for (index, (x, y)) in upper.chain(lower).enumerate() {
            let _ = write!(path, "{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' });
        }
        if !path.is_empty() {
            self.raw(format_args!("<path class=\"band {class}\" d=\"{path}Z\"/>"));
        }
    }

    fn dot_at(&mut self, class: &str, (x, y): (f64, f64), r: f64) {
        self.raw(format_args!(
            "<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{r}\"/>"
        ));
    }

    /// A dot for training rows, a diamond for held-out ones: told apart without colour.
    pub fn mark(&mut self, class: &str, x: f64, y: f64) {
        let Some((x, y)) = self.x.at(x).zip(self.y.at(y)) else { return };
        if class == "held" {
            self.raw(format_args!(
                "<path class=\"dot held\" d=\"M{x:.1} {:.1}l4.2 4.2l-4.2 4.2l-4.2 -4.2Z\"/>",
                y - 4.2
            ));
        } else {
            self.dot_at(class, (x, y), 3.4);
        }
    }

    /// From `low` to `high` along one axis, at `other` of the other.
    pub fn error_bar(&mut self, class: &str, upright: bool, other: f64, low: f64, high: f64) {
        let (along, across) = if upright { (&self.y, &self.x) } else { (&self.x, &self.y) };
        let (Some(low), Some(high), Some(at)) = (along.at(low), along.at(high), across.at(other))
        else {
            return;
        };
        if upright {
            self.raw(format_args!(
                "<path class=\"bar {class}\" d=\"M{at:.1} {low:.1}V{high:.1}M{:.1} {low:.1}h6M{:.1} {high:.1}h6\"/>",
                at - 3.0,
                at - 3.0
            ));
        } else {
            self.raw(format_args!(
                "<path class=\"bar {class}\" d=\"M{low:.1} {at:.1}H{high:.1}M{low:.1} {:.1}v6M{high:.1} {:.1}v6\"/>",
                at - 3.0,
                at - 3.0
            ));
        }
    }

    /// The whole element, named and described for those who do not see it.
    #[must_use]
    pub fn finish(self, id: &str, title: &str, description: &str) -> String {
        svg(id, self.bottom + 38.0, title, description, &self.body)
    }
}

/// An SVG of the common width around `body`.
#[must_use]
pub fn svg(id: &str, height: f64, title: &str, description: &str, body: &str) -> String {
    let (title, description) = (escape(title), escape(description));
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\">\
         <title id=\"{id}-t\">{title}</title><desc id=\"{id}-d\">{description}</desc>{body}</svg>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(Scale::linear([0.0, 2.3].into_iter()).ticks(), [0.0, 1.0, 2.0]);
        let ticks = Scale::linear([0.01, 0.034].into_iter()).ticks();
        assert_eq!(
            ticks.iter().map(|t| Unit::Percent.write(*t)).collect::<Vec<_>>(),
            ["0 %", "1 %", "2 %", "3 %"]
        );
        let ticks = Scale::log([1e-4, 10.0].into_iter()).ticks();
        assert_eq!(ticks.len(), 6.min(ticks.len()), "{ticks:?}");
        assert!(Scale::linear(std::iter::empty()).ticks().len() > 1);
        assert!(Scale::log([0.0, -1.0, f64::NAN].into_iter()).ticks().len() > 1);
        assert!(Scale::linear([f64::MAX, f64::MIN].into_iter()).ticks().len() < 20);
    }

    #[test]
    fn numbers_are_short() {
        let all: Vec<String> =
            [0.0, 0.5, 0.0123, 12.0, 1234.5, 2e-5].map(|v| Unit::Plain.write(v)).into();
        assert_eq!(all, ["0", "0.5", "0.0123", "12", "1234", "2e-5"]);
        assert_eq!(Unit::Count.write(1500.0), "1.5k");
        assert_eq!(Unit::Count.write(2e6), "2M");
    }

    #[test]
    fn what_cannot_be_drawn_is_left_out() {
        let x = Scale::exact(0.0, 3.0);
        let y = Scale::linear([1.0].into_iter());
        let mut chart = Chart::new(100.0, (x, Unit::Plain, "x"), (y, Unit::Plain, "y"));
        chart.line("train", [(0.0, 1.0), (1.0, f64::NAN), (2.0, 0.5), (3.0, 0.2)].into_iter());
        chart.mark("held", f64::INFINITY, 1.0);
        let text = chart.finish("a", "<t>", "d & d");
        assert!(!text.contains("NaN") && !text.contains("inf"));
        assert!(text.contains("&lt;t&gt;") && text.contains("d &amp; d"));
    }
}
