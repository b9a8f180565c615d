//! The Fréchet distance between Gaussians fitted to two samples: FID, on whatever features.

use crate::score::linalg::{eigen, product};
use crate::score::{Features, ScoreError};
use faer::Mat;

/// Fréchet distance: `|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))`, covariances over n - 1.
///
/// Called FID where the features are those of an Inception network. It is biased upwards with few samples: compare
/// values at equal numbers of rows only.
///
/// # Errors
/// When the columns differ in number, a sample has fewer than 2 rows, or a decomposition does not converge.
///
/// # Source
/// M. Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", NIPS 2017.
///
/// ```
/// use firebrick_transfer::score::{Features, frechet_distance};
///
/// // Equal variances: the square of the distance of the means.
/// let one = Features::new(vec![0.0, 1.0, 2.0], 1)?;
/// let other = Features::new(vec![3.0, 4.0, 5.0], 1)?;
/// assert!((frechet_distance(&one, &other)? - 9.0).abs() < 1e-12);
/// # Ok::<(), firebrick_transfer::score::ScoreError>(())
/// ```
pub fn frechet_distance(first: &Features, second: &Features) -> Result<f64, ScoreError> {
    first.same_columns(second, "second")?;
    let (mean_1, cov_1) = gaussian(first, "first")?;
    let (mean_2, cov_2) = gaussian(second, "second")?;
    let d = first.columns();
    let means: f64 = mean_1.iter().zip(&mean_2).map(|(a, b)| (a - b) * (a - b)).sum();
    // tr (S1 S2)^(1/2) = tr (R S2 R)^(1/2) with R the root of S1: symmetric, so that eigenvalues are real.
    let (values, vectors) = eigen(cov_1.as_ref())?;
    let root = Mat::from_fn(d, d, |i, j| vectors[(i, j)] * values[j].max(0.0).sqrt());
    let root = product(root.as_ref(), vectors.transpose());
    let inner = product(product(root.as_ref(), cov_2.as_ref()).as_ref(), root.as_ref());
    let symmetric = Mat::from_fn(d, d, |i, j| 0.5 * (inner[(i, j)] + inner[(j, i)]));
    let (values, _) = eigen(symmetric.as_ref())?;
    let cross: f64 = values.iter().map(|value| value.max(0.0).sqrt()).sum();
    let trace: f64 = (0..d).map(|k| cov_1[(k, k)] + cov_2[(k, k)]).sum();
    Ok((means + trace - 2.0 * cross).max(0.0))
}

fn gaussian(features: &Features, field: &str) -> Result<(Vec<f64>, Mat<f64>), ScoreError> {
    let n = features.rows();
    if n < 2 {
        return Err(ScoreError::FewRows {
            field: field.into(),
            found: n,
            needed: 2,
            why: "one row has no covariance".into(),
        });
    }
    let means = features.means();
    let centred = features.shifted(&means);
    let mut covariance = product(centred.mat().transpose(), centred.mat());
    covariance *= faer::Scale(1.0 / (n as f64 - 1.0));
    Ok((means, covariance))
}
