//! Linear CKA: how alike two representations of the same inputs are.

use crate::score::linalg::product;
use crate::score::{Features, ScoreError};

/// Linear centred kernel alignment of two representations of the same samples.
///
/// ```text
/// CKA = |Y'X|_F^2 / (|X'X|_F |Y'Y|_F),   X and Y centred
/// ```
///
/// 1 for representations that differ by a rotation and a scale, 0 for uncorrelated ones. It compares two
/// representations of the same inputs, not two data sets: use it to see how far fine-tuning moved each layer. With
/// few samples it is large for any two: 0.2 and more at n = d.
///
/// # Errors
/// When the two differ in rows, or one is constant.
///
/// # Source
/// S. Kornblith, M. Norouzi, H. Lee, G. Hinton, "Similarity of Neural Network Representations Revisited", ICML 2019.
///
/// ```
/// use firebrick_transfer::score::{Features, cka};
///
/// let one = Features::new(vec![1.0, 2.0, 4.0], 1)?;
/// let same = Features::new(vec![-2.0, -4.0, -8.0], 1)?;
/// assert!((cka(&one, &same)? - 1.0).abs() < 1e-15);
/// # Ok::<(), firebrick_transfer::score::ScoreError>(())
/// ```
pub fn cka(first: &Features, second: &Features) -> Result<f64, ScoreError> {
    if first.rows() != second.rows() {
        return Err(ScoreError::Shape {
            field: "second".into(),
            expected: format!("as many rows as the first, {}", first.rows()),
            found: second.rows(),
        });
    }
    for (features, field) in [(first, "first"), (second, "second")] {
        if features.varies().is_err() {
            let columns = features.columns();
            return Err(ScoreError::Constant { field: field.into(), columns });
        }
    }
    let (x, y) = (first.centred(), second.centred());
    let n = first.rows();
    let squared = |a: &Features, b: &Features| -> f64 {
        // |A'B|_F^2 = tr(AA' BB'): the smaller side is cheaper.
        if n < a.columns().min(b.columns()) {
            let left = product(a.mat(), a.mat().transpose());
            let right = product(b.mat(), b.mat().transpose());
            (0..n).flat_map(|j| (0..n).map(move |i| (i, j))).map(|at| left[at] * right[at]).sum()
        } else {
            product(a.mat().transpose(), b.mat()).squared_norm_l2()
        }
    };
    Ok(squared(&x, &y) / (squared(&x, &x) * squared(&y, &y)).sqrt())
}
