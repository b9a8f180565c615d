//! The ridge probe: a linear head in closed form, with its exact leave-one-out errors.

use crate::probe::Head;
use crate::score::linalg::{Svd, product};
use crate::score::{Features, Labels, LeaveOneOut, ScoreError, first_largest};
use faer::Mat;
use firebrick_core::{ConfigError, check};

/// Below this share left by the fit, a sample determines its own prediction, and the error without it is lost in
/// roundings.
const LEAST_LEFT: f64 = 1e-10;

/// Ridge regression from features to one-hot labels, with an intercept that is not shrunk.
///
/// ```text
/// W = argmin |Y - 1 b' - F W|^2 + lambda |W|^2,   F and Y centred by their means
/// error of sample i without it: e_i / (1 - h_ii),   h_ii = 1/n + sum_k u_ik^2 s_k^2 / (s_k^2 + lambda)
/// ```
///
/// exactly, for all samples and every lambda from one singular value decomposition. The lambda with the smallest sum
/// of squared leave-one-out errors wins, the larger among equals.
///
/// # Source
/// D. Allen, "The Relationship between Variable Selection and Data Augmentation and a Method for Prediction",
/// Technometrics 16, 1974; G. Golub, M. Heath, G. Wahba, Technometrics 21, 1979.
///
/// ```
/// use firebrick_transfer::probe::{RidgeProbe, default_lambdas};
/// use firebrick_transfer::score::{Features, Labels};
///
/// let features = Features::new(vec![1.0, 1.2, 0.9, -1.0, -0.8, -1.1], 1)?;
/// let labels = Labels::new(&[4, 4, 4, 9, 9, 9])?;
/// let probe = RidgeProbe::fit(&features, &labels, &default_lambdas(&features))?;
/// assert_eq!(probe.leave_one_out.accuracy, 1.0);
/// assert_eq!(probe.head.predict(&Features::new(vec![0.5], 1)?)?, [4]);
/// # Ok::<(), firebrick_transfer::score::ScoreError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RidgeProbe {
    /// The chosen lambda.
    pub lambda: f64,
    /// Fitted on all samples.
    pub head: Head,
    /// Which samples are right when they are left out. The choice of lambda makes it slightly optimistic.
    pub leave_one_out: LeaveOneOut,
    /// Sum of squared leave-one-out errors for each lambda; infinite where a sample determines its own prediction.
    pub errors: Vec<(f64, f64)>,
}

/// Nine lambdas from 1e-4 to 1e4 times the mean variance of a direction, `|F|^2 / min(n - 1, d)`.
#[must_use]
pub fn default_lambdas(features: &Features) -> Vec<f64> {
    let n = features.rows() as f64;
    let energy: f64 = features.deviations().iter().map(|s| n * s * s).sum();
    let directions = (features.rows() - 1).clamp(1, features.columns()) as f64;
    let unit = if energy > 0.0 { energy / directions } else { 1.0 };
    (-4..=4).map(|power| unit * 10f64.powi(power)).collect()
}

impl RidgeProbe {
    /// Fits the head for the best of `lambdas`.
    ///
    /// # Errors
    /// When rows and labels differ in number, there are fewer than 3 rows, all columns are constant, there is no
    /// lambda, or one that is not above 0.
    pub fn fit(features: &Features, labels: &Labels, lambdas: &[f64]) -> Result<Self, ScoreError> {
        features.fit(labels)?;
        features.varies()?;
        let (n, classes) = (features.rows(), labels.classes());
        if n < 3 {
            return Err(ScoreError::FewRows {
                field: "features".into(),
                found: n,
                needed: 3,
                why: "without one, two must remain to fit slope and intercept".into(),
            });
        }
        if lambdas.is_empty() {
            return Err(ConfigError::new("lambdas", "none", "at least one number above 0").into());
        }
        for (at, lambda) in lambdas.iter().enumerate() {
            check::positive(&format!("lambdas[{at}]"), *lambda)?;
        }
        let means = features.means();
        let svd = Svd::new(features.shifted(&means).mat())?;
        let shares: Vec<f64> = labels.counts().iter().map(|c| *c as f64 / n as f64).collect();
        let target = |row: usize, class: usize| {
            f64::from(u8::from(labels.index()[row] as usize == class)) - shares[class]
        };
        let centred = Mat::from_fn(n, classes, target);
        let along = product(svd.u.transpose(), centred.as_ref());
        let mut best: Option<(f64, f64, Vec<u32>)> = None;
        let mut errors = Vec::with_capacity(lambdas.len());
        for &lambda in lambdas {
            let (error, predicted) = leave_out(&svd, &along, &centred, &shares, lambda);
            errors.push((lambda, error));
            let better = best
                .as_ref()
                .is_none_or(|(least, at, _)| error < *least || (error == *least && lambda > *at));
            if better {
                best = Some((error, lambda, predicted));
            }
        }
        let Some((_, lambda, predicted)) = best else {
            return Err(ConfigError::new("lambdas", "none", "at least one number above 0").into());
        };
        let mut head = Head::new(features.columns(), labels);
        let shrunk = Mat::from_fn(svd.s.len(), classes, |k, class| {
            svd.s[k] / (svd.s[k] * svd.s[k] + lambda) * along[(k, class)]
        });
        let weights = product(svd.v.as_ref(), shrunk.as_ref());
        for class in 0..classes {
            head.bias[class] = shares[class];
            for k in 0..features.columns() {
                head.weights[k * classes + class] = weights[(k, class)];
                head.bias[class] -= means[k] * weights[(k, class)];
            }
        }
        let leave_one_out = LeaveOneOut::new(labels, &predicted);
        Ok(Self { lambda, head, leave_one_out, errors })
    }
}

/// The sum of squared errors and the predicted classes when each sample is left out.
fn leave_out(
    svd: &Svd,
    along: &Mat<f64>,
    centred: &Mat<f64>,
    shares: &[f64],
    lambda: f64,
) -> (f64, Vec<u32>) {
    let (n, classes) = centred.shape();
    let keep: Vec<f64> = svd.s.iter().map(|s| s * s / (s * s + lambda)).collect();
    let kept = Mat::from_fn(keep.len(), classes, |k, class| keep[k] * along[(k, class)]);
    let fitted = product(svd.u.as_ref(), kept.as_ref());
    let mut sum = 0.0;
    let mut predicted = Vec::with_capacity(n);
    let mut scores = vec![0.0; classes];
    for row in 0..n {
        let own: f64 = keep.iter().enumerate().map(|(k, w)| w * svd.u[(row, k)].powi(2)).sum();
        let left = 1.0 - 1.0 / n as f64 - own;
        if left < LEAST_LEFT {
            sum = f64::INFINITY;
        }
        for class in 0..classes {
            let error = (centred[(row, class)] - fitted[(row, class)]) / left.max(LEAST_LEFT);
            sum += error * error;
            scores[class] = centred[(row, class)] + shares[class] - error;
        }
        predicted.push(first_largest(&scores));
    }
    (sum, predicted)
}
