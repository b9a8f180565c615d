//! LogME: the evidence that features explain the labels, under a Bayesian ridge regression.

use crate::score::linalg::Svd;
use crate::score::{Features, Labels, ScoreError};

/// Noise variance that a perfect fit is taken to have, as a share of the target's mean square. Without a floor the
/// evidence of a perfect fit has no bound.
const NOISE_FLOOR: f64 = 1e-12;

/// LogME: log maximum evidence of a linear model from features to one-hot labels, a sample and class.
///
/// ```text
/// y_c = F w + e,   w ~ N(0, 1/alpha I),   e ~ N(0, 1/beta I)
/// L_c = n/2 log(beta) + k/2 log(alpha) - 1/2 sum_i log(alpha + beta s_i^2) - beta/2 |F m - y_c|^2
///       - alpha/2 |m|^2 - n/2 log(2 pi)
/// LogME = mean over classes of max L_c / n
/// ```
///
/// with `s_i` the k singular values of F that are not 0. The maximum is found along `alpha / beta`, for each value
/// of which the best `beta` has a closed form; published code iterates to it and stops early, at relative
/// differences of 1e-2 or less. Larger is better.
///
/// The term in `alpha` has the factor k, the rank. Published code has d there, which is the same while there are
/// more samples than features, and is off by `(d - k)/2 log(alpha)` a class when there are fewer.
///
/// There is no intercept: pass [`Features::centred`].
///
/// # Errors
/// When rows and labels differ in number, or the decomposition does not converge.
///
/// # Source
/// K. You, Y. Liu, J. Wang, M. Long, "LogME: Practical Assessment of Pre-trained Models for Transfer Learning",
/// ICML 2021.
///
/// ```
/// use firebrick_transfer::score::{Features, Labels, log_me};
///
/// let labels = Labels::new(&[0, 0, 1, 1])?;
/// let good = Features::new(vec![1.0, 0.9, -1.1, -1.0], 1)?;
/// let bad = Features::new(vec![1.0, -1.0, -1.1, 1.2], 1)?;
/// assert!(log_me(&good, &labels)? > log_me(&bad, &labels)?);
/// # Ok::<(), firebrick_transfer::score::ScoreError>(())
/// ```
pub fn log_me(features: &Features, labels: &Labels) -> Result<f64, ScoreError> {
    features.fit(labels)?;
    let svd = Svd::new(features.mat())?;
    let rank = svd.rank();
    let squares: Vec<f64> = svd.s[..rank].iter().map(|s| s * s).collect();
    let n = features.rows() as f64;
    let mut sum = 0.0;
    for (class, &count) in labels.counts().iter().enumerate() {
        // Coordinates of the one-hot target along U.
        let mut along = vec![0.0; rank];
        for (row, _) in
            labels.index().iter().enumerate().filter(|(_, index)| **index as usize == class)
        {
            along.iter_mut().enumerate().for_each(|(i, z)| *z += svd.u[(row, i)]);
        }
        let along: Vec<f64> = along.iter().map(|z| z * z).collect();
        sum += Evidence { n, squares: &squares, along: &along, total: count as f64 }.max();
    }
    Ok(sum / (n * labels.classes() as f64))
}

/// The evidence of one target as a function of `t = alpha / beta`.
struct Evidence<'a> {
    n: f64,
    /// Squared singular values.
    squares: &'a [f64],
    /// Squared coordinates of the target along the left singular vectors.
    along: &'a [f64],
    /// Squared norm of the target.
    total: f64,
}

impl Evidence<'_> {
    /// `n/2 log(n / E) - n/2 - n/2 log(2 pi) + 1/2 sum log(t / (t + s))` with `E = |Fm - y|^2 + t |m|^2`.
    fn at(&self, log_t: f64) -> f64 {
        let t = log_t.exp();
        let outside = (self.total - self.along.iter().sum::<f64>()).max(0.0);
        let mut energy = outside;
        let mut volume = 0.0;
        for (s, z) in self.squares.iter().zip(self.along) {
            energy += z * t / (s + t);
            volume -= (s / t).ln_1p();
        }
        let energy = energy.max(NOISE_FLOOR * self.total);
        0.5 * (self.n * ((self.n / energy).ln() - 1.0 - std::f64::consts::TAU.ln()) + volume)
    }

    fn max(&self) -> f64 {
        let largest = self.squares.first().copied().unwrap_or(1.0);
        // From all but no shrinkage to all but no signal; beyond either end the function is flat.
        let (low, steps, step) = (largest.ln() - 40.0, 160, 0.5);
        let grid = |i: usize| low + step * i as f64;
        let best = (0..=steps)
            .map(|i| (self.at(grid(i)), i))
            .fold((f64::NEG_INFINITY, 0), |best, next| if next.0 > best.0 { next } else { best });
        let (mut a, mut b) = (grid(best.1.saturating_sub(1)), grid((best.1 + 1).min(steps)));
        // Golden section; near a maximum the value is settled long before the place.
        let ratio = 0.5 * (5f64.sqrt() - 1.0);
        let (mut c, mut d) = (b - ratio * (b - a), a + ratio * (b - a));
        let (mut at_c, mut at_d) = (self.at(c), self.at(d));
        for _ in 0..60 {
            if at_c > at_d {
                (b, d, at_d) = (d, c, at_c);
                c = b - ratio * (b - a);
                at_c = self.at(c);
            } else {
                (a, c, at_c) = (c, d, at_d);
                d = a + ratio * (b - a);
                at_d = self.at(d);
            }
        }
        best.0.max(at_c).max(at_d)
    }
}
