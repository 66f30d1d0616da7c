//! Plots as inline SVG: lines with their names beside them, and no more ink than that.

use super::words::{escaped, time};
use std::fmt::Write;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 62.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 30.0;
/// Names of lines stand this far apart at least.
const NAME_HEIGHT: f64 = 15.0;
/// Points of a line; more cannot be seen.
const POINTS_MAX: usize = 960;
const LINES_MAX: usize = 4;

/// A line: its name and points.
pub(super) struct Line<'a> {
    pub name: &'a str,
    pub points: Vec<(f64, f64)>,
    pub has_area: bool,
}

/// An axis: from where to where, and the marks on it.
pub(super) struct Axis {
    from: f64,
    to: f64,
    is_log: bool,
    marks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 to at least `most`, in round steps.
    pub fn linear(most: f64, tell: impl Fn(f64) -> String) -> Axis {
        let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
        let rough = most / 4.0;
        let power = 10f64.powf(rough.log10().floor());
        let step =
            [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|s| s * power).find(|step| *step >= rough * 0.999);
        let step = step.unwrap_or(rough);
        let to = (most / step).ceil() * step;
        let marks =
            (0..=(to / step).round() as u32).map(|n| (f64::from(n) * step, tell(f64::from(n) * step)));
        Axis { from: 0.0, to, is_log: false, marks: marks.collect() }
    }

    /// Of the time of a run: 0 to its end, no further.
    pub fn span(end: f64, tell: impl Fn(f64) -> String) -> Axis {
        let mut axis = Axis::linear(end, tell);
        axis.to = if end > 0.0 { end } else { 1.0 };
        axis.marks.retain(|(at, _)| *at <= axis.to);
        axis
    }

    /// Powers of ten, with steps between them if they are few.
    pub fn log(least: f64, most: f64) -> Axis {
        let least = if least.is_finite() && least > 0.0 { least } else { 1.0 };
        let most = if most.is_finite() && most > least { most } else { least * 10.0 };
        let steps: &[f64] = if most / least > 300.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let (mut from, mut to) = (least, most);
        let mut marks = Vec::new();
        for power in (least.log10().floor() as i32)..=(most.log10().ceil() as i32) {
            for step in steps {
                let at = step * 10f64.powi(power);
                if at <= least * 1.0001 {
                    from = at;
                    marks.clear();
                }
                marks.push((at, time(at)));
                if at >= most * 0.9999 {
                    to = at;
                    return Axis { from, to, is_log: true, marks };
                }
            }
        }
        if let Some((at, _)) = marks.last() {
            to = to.max(*at);
        }
        from = from.min(least);
        Axis { from, to, is_log: true, marks }
    }

    /// Percentiles, each nine as wide as the one before: x is the share below.
    pub fn percentiles(nines: f64) -> Axis {
        let nines = nines.clamp(2.0, 6.0);
        let names = [
            (0.0, "0"),
            (0.5, "50 %"),
            (0.9, "90 %"),
            (0.99, "99 %"),
            (0.999, "99.9 %"),
            (0.9999, "99.99 %"),
            (0.99999, "99.999 %"),
        ];
        let marks = names
            .into_iter()
            .map(|(q, name)| (nine(q), name.to_owned()))
            .filter(|(at, _)| *at <= nines + 1e-9);
        Axis { from: 0.0, to: nines, is_log: false, marks: marks.collect() }
    }

    fn place(&self, value: f64) -> f64 {
        let (value, from, to) = match self.is_log {
            true => (value.max(self.from).ln(), self.from.ln(), self.to.ln()),
            false => (value, self.from, self.to),
        };
        let share = (value - from) / (to - from);
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// How many nines a share has: 0.99 has two.
pub(super) fn nine(share: f64) -> f64 {
    -(1.0 - share.clamp(0.0, 0.999_999_9)).log10()
}

/// Draws lines. `title` is what is read aloud instead.
pub(super) fn svg(title: &str, height: f64, x: &Axis, y: &Axis, lines: &[Line<'_>]) -> String {
    // Names stand at the right; 7.2 is about a letter's width.
    let names = lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0) as f64;
    let right = WIDTH - (names * 7.2 + 18.0).min(WIDTH / 3.0);
    let floor = height - BOTTOM;
    let at = |(a, b): (f64, f64)| (LEFT + x.place(a) * (right - LEFT), floor - y.place(b) * (floor - TOP));
    let mut out =
        format!(r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{}">"#, escaped(title));
    for (value, text) in &y.marks {
        let (_, py) = at((x.from, *value));
        let _ = write!(
            out,
            r#"<line class="grid" x1="{LEFT}" x2="{right:.1}" y1="{py:.1}" y2="{py:.1}"/><text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
            LEFT - 8.0,
            py + 4.0,
            escaped(text)
        );
    }
    for (value, text) in &x.marks {
        let (px, _) = at((*value, y.from));
        let _ = write!(
            out,
            r#"<text x="{px:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            height - 9.0,
            escaped(text)
        );
    }
    let mut labels = Vec::new();
    for (index, line) in lines.iter().take(LINES_MAX).enumerate() {
        let step = line.points.len().div_ceil(POINTS_MAX).max(1);
        let last = line.points.len().saturating_sub(1);
        let points = line.points.iter().enumerate().filter(|(n, _)| n % step == 0 || *n == last);
        let mut path = String::new();
        let (mut first, mut end) = (None, None);
        for (_, point) in points {
            let (px, py) = at(*point);
            let _ = write!(path, "{}{px:.1} {py:.1}", if path.is_empty() { "M" } else { "L" });
            first.get_or_insert(px);
            end = Some((px, py));
        }
        let (Some(first), Some((ex, ey))) = (first, end) else { continue };
        if line.has_area {
            let _ = write!(
                out,
                r#"<path class="area a0" d="{path}L{ex:.1} {floor:.1}L{first:.1} {floor:.1}Z"/>"#
            );
        }
        let _ = write!(out, r#"<path class="curve s{index}" d="{path}"/>"#);
        labels.push((ey, ex, index, line.name));
    }
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut below = TOP - NAME_HEIGHT;
    let mut places: Vec<f64> = labels
        .iter()
        .map(|(ey, ..)| {
            below = ey.max(below + NAME_HEIGHT);
            below
        })
        .collect();
    // What was pushed out at the bottom is pushed up again.
    let mut above = floor + NAME_HEIGHT;
    for place in places.iter_mut().rev() {
        *place = place.min(above - NAME_HEIGHT);
        above = *place;
    }
    for ((_, ex, index, name), py) in labels.iter().zip(&places) {
        let _ = write!(
            out,
            r#"<text class="name s{index}" x="{:.1}" y="{:.1}">{}</text>"#,
            ex + 8.0,
            py + 4.0,
            escaped(name)
        );
    }
    out.push_str("</svg>");
    out
}
