//! GBC: how much the classes overlap, as Gaussians in feature space.

use crate::score::{Features, Labels, ScoreError};

/// The shape of a class's Gaussian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClassShape {
    /// A variance for each feature.
    Diagonal,
    /// One variance for all features.
    Spherical,
}

/// Variance below which a class counts as constant in a feature, as a share of the feature's variance over all
/// classes: a distance in units of a variance of 0 would be infinite.
const VARIANCE_FLOOR: f64 = 1e-6;

/// GBC: the negative sum of Bhattacharyya coefficients over ordered pairs of classes.
///
/// ```text
/// D_ij = 1/8 (m_i - m_j)' S^-1 (m_i - m_j) + 1/2 log(det S / sqrt(det S_i det S_j)),   S = (S_i + S_j)/2
/// GBC = - sum_{i != j} exp(-D_ij)
/// ```
///
/// Variances are over n - 1; a feature that is constant over all samples takes no part; a class's variance is at
/// least 1e-6 of that over all samples. Between -classes (classes - 1) and 0, larger is better. The paper projects
/// the features on 64 principal components first.
///
/// # Errors
/// When rows and labels differ in number, a class has fewer than 3 samples, or all columns are constant.
///
/// # Source
/// M. Pándy, A. Agostinelli, J. Uijlings, V. Ferrari, T. Mensink, "Transferability Estimation using Bhattacharyya
/// Class Separability", CVPR 2022.
///
/// ```
/// use firebrick_transfer::score::{ClassShape, Features, Labels, gbc};
///
/// let labels = Labels::new(&[0, 0, 0, 1, 1, 1])?;
/// let apart = Features::new(vec![0.0, 0.1, 0.2, 9.0, 9.1, 9.2], 1)?;
/// let alike = Features::new(vec![0.0, 0.1, 0.2, 0.0, 0.1, 0.2], 1)?;
/// assert!(gbc(&apart, &labels, ClassShape::Diagonal)? > -1e-12);
/// assert!((gbc(&alike, &labels, ClassShape::Diagonal)? + 2.0).abs() < 1e-12);
/// # Ok::<(), firebrick_transfer::score::ScoreError>(())
/// ```
pub fn gbc(features: &Features, labels: &Labels, shape: ClassShape) -> Result<f64, ScoreError> {
    features.fit(labels)?;
    labels.at_least(3)?;
    features.varies()?;
    let whole = features.deviations();
    let live: Vec<usize> = (0..features.columns()).filter(|&k| whole[k] > 0.0).collect();
    let floor = |k: usize| VARIANCE_FLOOR * whole[k] * whole[k];
    let mean_floor = live.iter().map(|&k| floor(k)).sum::<f64>() / live.len() as f64;
    let classes: Vec<(Vec<f64>, Vec<f64>)> = labels
        .rows_by_class()
        .iter()
        .map(|rows| {
            let n = rows.len() as f64;
            let column = |k: usize| rows.iter().map(move |&row| features.row(row as usize)[k]);
            let means: Vec<f64> = live.iter().map(|&k| column(k).sum::<f64>() / n).collect();
            let mut variances: Vec<f64> = live
                .iter()
                .zip(&means)
                .map(|(&k, mean)| column(k).map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0))
                .collect();
            match shape {
                ClassShape::Diagonal => {
                    variances.iter_mut().zip(&live).for_each(|(v, &k)| *v = v.max(floor(k)));
                }
                ClassShape::Spherical => {
                    let mean = variances.iter().sum::<f64>() / live.len() as f64;
                    variances.fill(mean.max(mean_floor));
                }
            }
            (means, variances)
        })
        .collect();
    let mut sum = 0.0;
    for (i, (mean_i, var_i)) in classes.iter().enumerate() {
        for (mean_j, var_j) in &classes[i + 1..] {
            let distance: f64 = (0..live.len())
                .map(|k| {
                    let between = 0.5 * (var_i[k] + var_j[k]);
                    let apart = mean_i[k] - mean_j[k];
                    let shape = between.ln() - 0.5 * (var_i[k].ln() + var_j[k].ln());
                    apart * apart / (8.0 * between) + 0.5 * shape
                })
                .sum();
            sum += 2.0 * (-distance).exp();
        }
    }
    Ok(-sum)
}
