//! TransRate: how many bits it takes to code the features, less those when the class is known.

use crate::score::linalg::{eigen, small_gram};
use crate::score::{Features, Labels, ScoreError};
use firebrick_core::check;

/// TransRate: coding rate of the centred features less the mean coding rate within classes, in nats.
///
/// ```text
/// R(Z) = 1/2 log det(I + Z'Z / (n epsilon)),   TransRate = R(Z) - sum_c n_c/n R(Z_c)
/// ```
///
/// The classes weigh by their share; published code weighs all the same, which differs as soon as classes are not
/// balanced. `epsilon` is 1e-4 in the paper. The rate depends on the scale of the features: to compare networks,
/// bring them to one first, by [`Features::standardised`] for example. Larger is better.
///
/// # Errors
/// When rows and labels differ in number, `epsilon` is not above 0, or a decomposition does not converge.
///
/// # Source
/// L.-K. Huang, J. Huang, Y. Rong, Q. Yang, Y. Wei, "Frustratingly Easy Transferability Estimation", ICML 2022.
///
/// ```
/// use firebrick_transfer::score::{Features, Labels, trans_rate};
///
/// // One feature, +-1 by class: R(Z) = R(Z_c) = 1/2 log(1 + 1/epsilon).
/// let features = Features::new(vec![1.0, 1.0, -1.0, -1.0], 1)?;
/// assert!(trans_rate(&features, &Labels::new(&[0, 0, 1, 1])?, 1e-4)?.abs() < 1e-12);
/// # Ok::<(), firebrick_transfer::score::ScoreError>(())
/// ```
pub fn trans_rate(features: &Features, labels: &Labels, epsilon: f64) -> Result<f64, ScoreError> {
    features.fit(labels)?;
    check::positive("epsilon", epsilon)?;
    let centred = features.centred();
    let n = features.rows() as f64;
    let mut rate = coding_rate(&centred, epsilon)?;
    for rows in labels.rows_by_class() {
        let share = rows.len() as f64 / n;
        rate -= share * coding_rate(&centred.select(&rows)?, epsilon)?;
    }
    Ok(rate)
}

fn coding_rate(features: &Features, epsilon: f64) -> Result<f64, ScoreError> {
    let (values, _) = eigen(small_gram(features.mat()).as_ref())?;
    let scale = features.rows() as f64 * epsilon;
    Ok(0.5 * values.iter().map(|value| (value.max(0.0) / scale).ln_1p()).sum::<f64>())
}
