//! Bicubic resampling of a grid of vectors, as PyTorch's `interpolate` does it.
//!
//! ```text
//! y_i = sum_j w((j + 1/2 - c_i) / f) x_j / sum_j w(...)      c_i = (i + 1/2) s,  s = old/new
//! ```
//!
//! `w` is the cubic convolution kernel (Keys, "Cubic convolution interpolation for digital image processing", 1981).
//! Without antialiasing its parameter is -3/4, `f = 1`, and taps beyond the border repeat the border; with it the
//! parameter is -1/2, `f = max(s, 1)`, and taps beyond the border are left out.

/// For each new place the old places that it mixes, and their weights.
fn taps(old: usize, new: usize, antialias: bool) -> Vec<Vec<(usize, f64)>> {
    let scale = old as f64 / new as f64;
    (0..new)
        .map(|place| {
            let center = (place as f64 + 0.5) * scale;
            if antialias {
                let stretch = scale.max(1.0);
                let support = 2.0 * stretch;
                let first = (center - support + 0.5).max(0.0) as usize;
                let end = ((center + support + 0.5) as usize).min(old);
                let weight = |tap: usize| cubic((tap as f64 + 0.5 - center) / stretch, -0.5);
                let total: f64 = (first..end).map(weight).sum();
                (first..end).map(|tap| (tap, weight(tap) / total)).collect()
            } else {
                let real = center - 0.5;
                let base = real.floor();
                let last = old as f64 - 1.0;
                let tap = |step: f64| {
                    ((base + step).clamp(0.0, last) as usize, cubic(real - base - step, -0.75))
                };
                [-1.0, 0.0, 1.0, 2.0].map(tap).to_vec()
            }
        })
        .collect()
}

/// The cubic convolution kernel with parameter `a`.
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

/// Resamples `grid`, vectors of length `width` row by row, from `old` to `new` rows and columns.
pub(super) fn bicubic(
    grid: &[f64],
    width: usize,
    old: [usize; 2],
    new: [usize; 2],
    antialias: bool,
) -> Vec<f64> {
    let (rows, columns) = (taps(old[0], new[0], antialias), taps(old[1], new[1], antialias));
    let mut wide = vec![0.0; old[0] * new[1] * width];
    for row in 0..old[0] {
        for (column, mix) in columns.iter().enumerate() {
            let to = (row * new[1] + column) * width;
            for &(tap, weight) in mix {
                let from = (row * old[1] + tap) * width;
                for channel in 0..width {
                    wide[to + channel] += weight * grid[from + channel];
                }
            }
        }
    }
    let mut out = vec![0.0; new[0] * new[1] * width];
    for (row, mix) in rows.iter().enumerate() {
        for &(tap, weight) in mix {
            let (from, to) = (tap * new[1] * width, row * new[1] * width);
            for place in 0..new[1] * width {
                out[to + place] += weight * wide[from + place];
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_size_is_the_identity() {
        let grid: Vec<f64> = (0..24).map(|i| f64::from(i) * 0.37 - 2.0).collect();
        for antialias in [false, true] {
            let got = bicubic(&grid, 2, [3, 4], [3, 4], antialias);
            assert!(got.iter().zip(&grid).all(|(a, b)| (a - b).abs() < 1e-12), "{antialias}");
        }
    }

    #[test]
    fn constants_stay_and_weights_sum_to_one() {
        for (old, new) in [(7, 3), (3, 7), (14, 16), (1, 4), (5, 1)] {
            for antialias in [false, true] {
                for mix in taps(old, new, antialias) {
                    let total: f64 = mix.iter().map(|(_, weight)| weight).sum();
                    assert!((total - 1.0).abs() < 1e-12, "{old} -> {new}: {total}");
                }
            }
        }
    }
}
