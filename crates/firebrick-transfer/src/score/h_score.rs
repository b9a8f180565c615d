//! The H-score: variance between classes, seen through the inverse covariance of the features.

use crate::score::linalg::Svd;
use crate::score::{Features, Labels, ScoreError};

/// How the covariance of the features is estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Covariance {
    /// As it is, over n. Refused where the centred features span the samples: the score is classes - 1 there, for
    /// any labels.
    Empirical,
    /// Shrunk towards a multiple of the identity by the weight of Ledoit and Wolf; the covariance between classes
    /// is multiplied by 1 less that weight.
    LedoitWolf,
}

/// H-score: `tr(cov(f)^-1 cov(E[f | y]))`.
///
/// With [`Covariance::LedoitWolf`] `tr(S^-1 (1 - w) B)`, where `S = (1 - w) C + w tr(C)/d I`. Between 0 and
/// classes - 1, larger is better. Covariances are over n.
///
/// # Errors
/// When rows and labels differ in number, all columns are constant, or, for [`Covariance::Empirical`], there are
/// too few rows for the rank of the features.
///
/// # Source
/// Y. Bao et al., "An Information-Theoretic Approach to Transferability in Task Transfer Learning", ICIP 2019;
/// S. Ibrahim, N. Ponomareva, R. Mazumder, "Newer is not always better: Rethinking transferability metrics", ECML
/// PKDD 2022; O. Ledoit, M. Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", 2004.
///
/// ```
/// use firebrick_transfer::score::{Covariance, Features, Labels, h_score};
///
/// let features = Features::new(vec![1.0, 1.0, -1.0, -1.0], 1)?;
/// let labels = Labels::new(&[0, 0, 1, 1])?;
/// assert!((h_score(&features, &labels, Covariance::Empirical)? - 1.0).abs() < 1e-14);
/// # Ok::<(), firebrick_transfer::score::ScoreError>(())
/// ```
pub fn h_score(
    features: &Features,
    labels: &Labels,
    covariance: Covariance,
) -> Result<f64, ScoreError> {
    features.fit(labels)?;
    features.varies()?;
    let centred = features.centred();
    let (n, d) = (features.rows(), features.columns());
    let svd = Svd::new(centred.mat())?;
    let weight = match covariance {
        Covariance::LedoitWolf => ledoit_wolf_weight(&centred, &svd),
        Covariance::Empirical if svd.rank() + 1 >= n => {
            // The rank is n - 1 at most: more rows raise it until every column that varies has its say.
            let live = features.deviations().iter().filter(|deviation| **deviation > 0.0).count();
            return Err(ScoreError::FewRows {
                field: "features".into(),
                found: n,
                needed: live + 2,
                why: format!(
                    "their rank is {}, so that the plain covariance explains any labels; shrink it by \
                     `Covariance::LedoitWolf`",
                    svd.rank()
                ),
            });
        }
        Covariance::Empirical => 0.0,
    };
    let variances: Vec<f64> = svd.s.iter().map(|s| s * s / n as f64).collect();
    let mean = variances.iter().sum::<f64>() / d as f64;
    // Class means in the coordinates of V, where the covariance is diagonal.
    let mut sum = 0.0;
    for rows in labels.rows_by_class() {
        let share = rows.len() as f64 / n as f64;
        for (k, plain) in variances.iter().enumerate().take(svd.rank()) {
            let along = rows.iter().map(|&row| svd.u[(row as usize, k)]).sum::<f64>();
            let along = along * svd.s[k] / rows.len() as f64;
            sum += share * along * along / ((1.0 - weight) * plain + weight * mean);
        }
    }
    Ok((1.0 - weight) * sum)
}

/// The weight of the identity that minimises the expected squared error of the shrunk covariance.
fn ledoit_wolf_weight(centred: &Features, svd: &Svd) -> f64 {
    let (n, d) = (centred.rows() as f64, centred.columns() as f64);
    let squares: Vec<f64> = svd.s.iter().map(|s| s * s / n).collect();
    let mean = squares.iter().sum::<f64>() / d;
    // |C - mean I|^2 / d.
    let spread = squares.iter().map(|v| v * v).sum::<f64>() / d - mean * mean;
    // sum over rows of |x x' - C|^2 = |x|^4 - 2 x'Cx + |C|^2, over n^2 d; the middle terms sum to -2 n |C|^2.
    let fourth: f64 = (0..centred.rows())
        .map(|row| centred.row(row).iter().map(|x| x * x).sum::<f64>().powi(2))
        .sum();
    let noise = (fourth / n - squares.iter().map(|v| v * v).sum::<f64>()) / (n * d);
    if spread <= 0.0 { 0.0 } else { (noise / spread).clamp(0.0, 1.0) }
}
