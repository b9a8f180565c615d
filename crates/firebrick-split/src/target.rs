//! Stratification of a continuous target: sorted blocks, or quantile bins.

use crate::kfold::check_k;
use crate::map::{Id, with_id};
use crate::shuffle::Words;
use crate::{FoldMap, Rows, Spec, SplitError, Splitter};
use firebrick_core::Seed;

/// Splits into `k` folds in which a continuous target is distributed alike.
///
/// Rows are sorted by target and cut into blocks of `k`; in each block a random permutation deals one row to
/// each fold. The distribution of the target in a fold follows that of all rows four times as closely as with four
/// quantile bins. Time O(n log n), memory 1 byte a row and 4 while sorting.
///
/// Errors: [`SplitError::BadFolds`], [`SplitError::MissingColumn`] without a target, [`SplitError::NotANumber`].
///
/// ```
/// use firebrick_core::Seed;
/// use firebrick_split::{Rows, Splitter, TargetKFold};
///
/// let target: Vec<f64> = (0..30).map(|row| f64::from(row).exp()).collect();
/// let folds = TargetKFold::new(3, Seed(1)).split(&Rows::new(30).with_target(&target))?;
/// let top: Vec<_> = (27..30).map(|row| folds.fold_of(row)).collect();
/// assert!(top[0] != top[1] && top[1] != top[2] && top[0] != top[2]);
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetKFold {
    k: usize,
    seed: Seed,
}

impl TargetKFold {
    /// `k` folds under `seed`.
    #[must_use]
    pub fn new(k: usize, seed: Seed) -> Self {
        Self { k, seed }
    }
}

/// Refuses NaN and infinities.
pub(crate) fn check_finite(column: &'static str, values: &[f64]) -> Result<(), SplitError> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(row) => Err(SplitError::NotANumber { column, row }),
        None => Ok(()),
    }
}

/// Rows by ascending value, equal values in row order.
fn sorted(values: &[f64]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..values.len() as u32).collect();
    // Adding zero makes -0 and 0 one value.
    order.sort_by(|&a, &b| (values[a as usize] + 0.0).total_cmp(&(values[b as usize] + 0.0)));
    order
}

impl Splitter for TargetKFold {
    type Output = FoldMap;

    fn split(&self, rows: &Rows<'_>) -> Result<FoldMap, SplitError> {
        let scheme = "target_k_fold";
        rows.check()?;
        check_k(self.k, rows.n)?;
        let target = rows.target.ok_or(SplitError::MissingColumn { column: "target", scheme })?;
        check_finite("target", target)?;
        let order = sorted(target);
        let warnings = rows.ignored(scheme, false, false);
        let mut words = Words::new(self.seed.stream("split/target_k_fold"));
        Ok(with_id!(self.k, I => {
            let mut ids = vec![I::new(0); rows.n];
            let mut folds: Vec<I> = (0..self.k).map(I::new).collect();
            for block in order.chunks(self.k) {
                words.shuffle(&mut folds);
                for (&row, &fold) in block.iter().zip(&folds) {
                    ids[row as usize] = fold;
                }
            }
            FoldMap::new(self.k, ids, self.spec(), rows.fingerprint, warnings)
        }))
    }

    fn spec(&self) -> Spec {
        Spec::new("target_k_fold", Some(self.seed)).with("k", self.k)
    }

    fn reseeded(&self, seed: Seed) -> Option<Self> {
        Some(Self { seed, ..self.clone() })
    }
}

/// The quantile bin of each value, for use as labels of a stratified scheme.
///
/// `bins` bins of equal numbers of rows; equal values share a bin; fewer bins when the values do not allow as
/// many or a bin would have fewer than `min_rows` rows.
///
/// # Errors
/// [`SplitError::NoRows`], [`SplitError::NotANumber`], a `ConfigError` for no bins.
///
/// ```
/// let bins = firebrick_split::quantile_bins(&[0.1, 9.0, 0.2, 7.0], 2, 1)?;
/// assert_eq!(bins, [0, 1, 0, 1]);
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
pub fn quantile_bins(values: &[f64], bins: usize, min_rows: usize) -> Result<Vec<u32>, SplitError> {
    Rows::new(values.len()).check()?;
    firebrick_core::check::at_least("bins", bins, 1)?;
    check_finite("values", values)?;
    let order = sorted(values);
    let n = values.len();
    let bins = bins.min(n / min_rows.max(1)).max(1);
    let mut result = vec![0u32; n];
    let (mut bin, mut wanted, mut filled) = (0u32, 0usize, 0usize);
    for (place, &row) in order.iter().enumerate() {
        let raw = place * bins / n;
        let tied = place > 0 && values[order[place - 1] as usize] == values[row as usize];
        if raw > wanted && !tied && filled >= min_rows {
            (bin, wanted, filled) = (bin + 1, raw, 0);
        }
        filled += 1;
        result[row as usize] = bin;
    }
    if filled < min_rows && bin > 0 {
        // The last bin is short: it joins the one before.
        result.iter_mut().filter(|b| **b == bin).for_each(|b| *b = bin - 1);
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_follow_the_distribution() {
        // Worst Kolmogorov-Smirnov distance of a fold, log-normal target, n 200, k 5: random 0.16, blocks 0.02.
        let mut worst: f64 = 0.0;
        for seed in 0..10 {
            let mut stream = Seed(seed).stream("test");
            let target: Vec<f64> = (0..200).map(|_| stream.normal().exp()).collect();
            let folds = TargetKFold::new(5, Seed(seed))
                .split(&Rows::new(200).with_target(&target))
                .expect("splits");
            let order = sorted(&target);
            for fold in 0..5 {
                let mut seen = 0.0;
                for (place, &row) in order.iter().enumerate() {
                    seen += f64::from(u8::from(folds.fold_of(row as usize) == Some(fold)));
                    worst = worst.max((seen / 40.0 - (place + 1) as f64 / 200.0).abs());
                }
            }
        }
        // A block holds one row of the fold: never more than one row off.
        assert!(worst <= 0.025 + 1e-12, "{worst}");
    }

    #[test]
    fn values_that_are_no_numbers_are_named() {
        let target = [1.0, f64::NAN, 2.0];
        let error = TargetKFold::new(2, Seed(0)).split(&Rows::new(3).with_target(&target));
        assert_eq!(error, Err(SplitError::NotANumber { column: "target", row: 1 }));
        assert!(TargetKFold::new(2, Seed(0)).split(&Rows::new(3)).is_err());
        assert!(quantile_bins(&[f64::INFINITY], 2, 1).is_err());
        assert!(quantile_bins(&[], 2, 1).is_err());
        assert!(quantile_bins(&[1.0], 0, 1).is_err());
    }

    #[test]
    fn bins_keep_equal_values_together_and_small_bins_away() {
        assert_eq!(quantile_bins(&[1.0, 1.0, 1.0, 2.0], 4, 1), Ok(vec![0, 0, 0, 1]));
        assert_eq!(
            quantile_bins(&[-0.0, 0.0, 3.0, 4.0, 5.0, 6.0], 3, 2),
            Ok(vec![0, 0, 1, 1, 2, 2])
        );
        assert_eq!(quantile_bins(&[3.0, 1.0, 2.0], 10, 20), Ok(vec![0, 0, 0]));
    }
}
