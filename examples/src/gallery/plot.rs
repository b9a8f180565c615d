//! SVG paths: contour lines, walks, curves. Colours are left to the page's style sheet, so that they follow
//! the reader's light or dark mode.

use crate::surface::{Goal, Surface};
use std::collections::HashSet;
use std::fmt::Write;

/// A rectangle of the plane mapped to a drawing of `width` by `height`, its first axis to the right, the second up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    /// Left, right, bottom, top.
    pub(crate) window: [f64; 4],
    pub(crate) width: f64,
    pub(crate) height: f64,
}

impl Frame {
    /// Where a point lies in the drawing.
    pub(crate) fn place(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let [left, right, bottom, top] = self.window;
        [(x - left) / (right - left) * self.width, (top - y) / (top - bottom) * self.height]
    }

    /// A polyline, without the points that lie within half a unit of the last one drawn or, like the one before, in a
    /// unit square where the line has been; ends where it leaves the neighbourhood of the drawing.
    pub(crate) fn line(&self, points: &[[f64; 2]]) -> String {
        let mut path = String::new();
        let mut last: Option<[f64; 2]> = None;
        let (mut visited, mut on_old_ground) = (HashSet::new(), false);
        for &point in points {
            let [x, y] = self.place(point);
            if !x.is_finite() || !y.is_finite() {
                break;
            }
            let (far_x, far_y) = (4.0 * self.width, 4.0 * self.height);
            let (x, y) = (x.clamp(-far_x, far_x), y.clamp(-far_y, far_y));
            if last.is_some_and(|[u, v]| (x - u).hypot(y - v) < 0.5) {
                continue;
            }
            let fresh = visited.insert((x.round() as i64, y.round() as i64));
            if std::mem::replace(&mut on_old_ground, !fresh) && !fresh {
                continue;
            }
            let verb = if last.is_none() { 'M' } else { 'L' };
            // Writing to a string cannot fail.
            let _ = write!(path, "{verb}{x:.1} {y:.1}");
            last = Some([x, y]);
            if x.abs() >= far_x || y.abs() >= far_y {
                break;
            }
        }
        path
    }

    /// A line through the lowest and highest point of each unit of the width, for curves with far more points than
    /// the drawing has columns.
    pub(crate) fn envelope(&self, points: &[[f64; 2]]) -> String {
        let column = |point: &[f64; 2]| self.place(*point)[0].floor();
        let mut kept: Vec<[f64; 2]> = Vec::new();
        for group in points.chunk_by(|a, b| column(a) == column(b)) {
            let by_height = |a: &usize, b: &usize| group[*a][1].total_cmp(&group[*b][1]);
            let lowest = (0..group.len()).min_by(by_height).unwrap_or(0);
            let highest = (0..group.len()).max_by(by_height).unwrap_or(0);
            kept.push(group[lowest.min(highest)]);
            if lowest != highest {
                kept.push(group[lowest.max(highest)]);
            }
        }
        self.line(&kept)
    }

    /// The contour lines of a surface as short segments, found by marching squares.
    pub(crate) fn contours(&self, surface: &Surface) -> String {
        const CELLS: usize = 64;
        let [left, right, bottom, top] = self.window;
        let corner = |i: usize, j: usize| {
            let share = |k: usize| k as f64 / CELLS as f64;
            [left + (right - left) * share(i), bottom + (top - bottom) * share(j)]
        };
        let mut path = String::new();
        for level in levels(surface) {
            for i in 0..CELLS {
                for j in 0..CELLS {
                    let corners =
                        [corner(i, j), corner(i + 1, j), corner(i + 1, j + 1), corner(i, j + 1)];
                    let heights = corners.map(|point| (surface.value)(point) - level);
                    self.cell(&mut path, &corners, &heights);
                }
            }
        }
        path
    }

    /// The piece of the line at height 0 in one cell: between the crossings on its edges.
    fn cell(&self, path: &mut String, corners: &[[f64; 2]; 4], heights: &[f64; 4]) {
        let mut crossings = Vec::with_capacity(4);
        for edge in 0..4 {
            let next = (edge + 1) % 4;
            let (from, to) = (heights[edge], heights[next]);
            if (from < 0.0) != (to < 0.0) {
                let share = from / (from - to);
                let at = |axis: usize| {
                    corners[edge][axis] + share * (corners[next][axis] - corners[edge][axis])
                };
                crossings.push(self.place([at(0), at(1)]));
            }
        }
        for pair in crossings.chunks_exact(2) {
            let ([a, b], [c, d]) = (pair[0], pair[1]);
            let _ = write!(path, "M{a:.1} {b:.1}L{c:.1} {d:.1}");
        }
    }
}

/// The heights of the contour lines: evenly spaced where the surface has no floor, else in geometric progression.
fn levels(surface: &Surface) -> Vec<f64> {
    match surface.goal {
        Goal::Leave => (-5..=5).map(|k| f64::from(k) * 0.45).collect(),
        Goal::Minimum(_) => {
            let highest = (surface.value)(surface.start).max(1.0);
            (0..8).map(|k| highest * 3.2f64.powi(1 - k)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surface::{SADDLE, SURFACES};

    fn frame(surface: &Surface) -> Frame {
        Frame { window: surface.window, width: 300.0, height: 200.0 }
    }

    /// The pairs of numbers in a path.
    fn numbers(path: &str) -> Vec<[f64; 2]> {
        let text = path.replace(['M', 'L'], " ");
        let all: Vec<f64> =
            text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        all.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect()
    }

    #[test]
    fn contour_points_lie_at_their_levels() {
        for surface in SURFACES {
            let frame = frame(surface);
            let points = numbers(&frame.contours(surface));
            assert!(points.len() > 500, "{}: {}", surface.id, points.len());
            let [left, right, bottom, top] = surface.window;
            let levels = levels(surface);
            let (mut near, mut all) = (0, 0);
            for [x, y] in points {
                assert!((0.0..=300.0).contains(&x) && (0.0..=200.0).contains(&y));
                let point = [left + x / 300.0 * (right - left), top - y / 200.0 * (top - bottom)];
                let value = (surface.value)(point);
                let slope = (surface.gradient)(point);
                // A cell is at most 0.12 wide: the straight lines miss by at most the slope over a cell.
                let reach = 0.12 * (slope[0].hypot(slope[1]) + 1.0);
                let hit = levels.iter().any(|level| (value - level).abs() < reach);
                (near, all) = (near + usize::from(hit), all + 1);
            }
            assert!(near * 100 >= all * 99, "{}: {near} of {all}", surface.id);
        }
    }

    #[test]
    fn envelopes_keep_the_extremes_of_each_column() {
        let frame = Frame { window: [0.0, 10.0, 0.0, 10.0], width: 10.0, height: 10.0 };
        let points: Vec<[f64; 2]> =
            (0..1000).map(|i| [f64::from(i) / 100.0, f64::from(i * 7 % 10)]).collect();
        let kept = numbers(&frame.envelope(&points));
        assert!(kept.len() <= 20, "{}", kept.len());
        // In units of the drawing the heights 0 and 9 are 10 and 1; neighbours of the same height count once.
        assert!(kept.iter().all(|point| point[1] == 10.0 || point[1] == 1.0), "{kept:?}");
        assert!(kept.len() >= 10 && kept.windows(2).all(|pair| pair[0][1] != pair[1][1]));
    }

    #[test]
    fn lines_start_where_they_start_and_end_at_the_first_nonsense() {
        let frame = frame(&SADDLE);
        let [left, _, _, top] = SADDLE.window;
        let path = frame.line(&[[left, top], [left, top], [f64::NAN, 0.0], [0.0, 0.0]]);
        assert_eq!(path, "M0.0 0.0");
        let far = frame.line(&[[0.0, 0.0], [1e9, 0.0], [0.0, 0.0]]);
        assert_eq!(numbers(&far).len(), 2, "ends where it leaves: {far}");
    }
}
