//! Group K-fold: whole groups, the largest first, each to the lightest fold.

use crate::classes::Dense;
use crate::map::{Id, MAX_FOLDS, with_id};
use crate::{FoldMap, Rows, Spec, SplitError, Splitter, Warning};
use firebrick_core::Seed;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Checks folds and groups: at least `k` groups, at least two folds.
pub(crate) fn check_groups(
    k: usize,
    n: usize,
    groups: usize,
    scheme: &'static str,
) -> Result<(), SplitError> {
    if !(2..=MAX_FOLDS).contains(&k) {
        return Err(SplitError::BadFolds { k, n, max: MAX_FOLDS });
    }
    if groups < k {
        return Err(SplitError::TooFewGroups { groups, need: k, scheme });
    }
    Ok(())
}

/// The warning for a group that is larger than a fold of `n / k` rows.
pub(crate) fn dominant(groups: &Dense, n: usize, k: usize) -> Option<Warning> {
    let (largest, &rows) = groups.counts.iter().enumerate().max_by_key(|(_, count)| **count)?;
    (rows as u128 * k as u128 > n as u128).then(|| Warning::DominantGroup {
        group: groups.codes[largest],
        rows,
        share: rows as f64 / n as f64,
    })
}

/// Splits into `k` folds of whole groups and of nearly equal numbers of rows.
///
/// Groups go by descending size, among equal sizes the larger code first, each to the fold with the fewest
/// rows, the lowest number on ties: the largest fold is at most 4/3 - 1/(3k) times what is possible
/// (R. L. Graham, "Bounds on multiprocessing timing anomalies", SIAM J. Appl. Math. 1969). Unshuffled it is
/// scikit-learn's `GroupKFold`. Shuffled: by descending power of two of the size, at random among groups
/// of one power, so that assignments differ between seeds and folds stay balanced; scikit-learn ignores sizes there.
/// Time O(n + G log G + G log k), memory 1 byte a row and 5 a group.
///
/// Errors: [`SplitError::MissingColumn`], [`SplitError::BadFolds`], [`SplitError::TooFewGroups`].
/// Warning: [`Warning::DominantGroup`].
///
/// ```
/// use firebrick_split::{GroupKFold, Rows, Splitter};
///
/// let groups = [0, 0, 0, 1, 1, 2, 3];
/// let folds = GroupKFold::new(2).split(&Rows::new(7).with_groups(&groups))?;
/// assert_eq!(folds.fold(0)?, [0, 1, 2, 5]); // groups 0 and 2
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupKFold {
    k: usize,
    shuffle: Option<Seed>,
}

impl GroupKFold {
    /// `k` folds of whole groups.
    #[must_use]
    pub fn new(k: usize) -> Self {
        Self { k, shuffle: None }
    }

    /// Groups of similar size drawn at random under `seed`.
    #[must_use]
    pub fn with_shuffle(self, seed: Seed) -> Self {
        Self { shuffle: Some(seed), ..self }
    }
}

/// The group numbers in the order in which they are placed.
fn order(counts: &[usize], shuffle: Option<Seed>) -> Vec<u32> {
    let mut order: Vec<u32> = (0..counts.len() as u32).rev().collect();
    match shuffle {
        // A stable sort keeps the later code first among equal sizes.
        None => counting_sort(&mut order, counts, |count| count),
        Some(seed) => {
            crate::shuffle::Words::new(seed.stream("split/group_k_fold")).shuffle(&mut order);
            counting_sort(&mut order, counts, |count| count.ilog2() as usize);
        }
    }
    order
}

/// Sorts group numbers by descending key, stable; in linear time while the keys are small.
pub(crate) fn counting_sort(order: &mut Vec<u32>, counts: &[usize], key: impl Fn(usize) -> usize) {
    let max = counts.iter().map(|&count| key(count)).max().unwrap_or(0);
    if max > counts.len().saturating_mul(2) {
        order.sort_by_key(|&group| Reverse(key(counts[group as usize])));
        return;
    }
    let mut starts = vec![0usize; max + 2];
    for &count in counts {
        starts[max - key(count) + 1] += 1;
    }
    for place in 1..starts.len() {
        starts[place] += starts[place - 1];
    }
    let mut sorted = vec![0u32; order.len()];
    for &group in order.iter() {
        let start = &mut starts[max - key(counts[group as usize])];
        sorted[*start] = group;
        *start += 1;
    }
    *order = sorted;
}

/// The fold of each group number.
fn assign<I: Id>(counts: &[usize], order: &[u32], k: usize) -> Vec<I> {
    let mut folds = vec![I::new(0); counts.len()];
    if k <= 16 {
        // Few folds: a scan beats a heap. Groups of one size go round the folds, which the processor predicts.
        let mut loads = vec![0usize; k];
        for &group in order {
            let mut lightest = 0;
            for fold in 1..k {
                if loads[fold] < loads[lightest] {
                    lightest = fold;
                }
            }
            loads[lightest] += counts[group as usize];
            folds[group as usize] = I::new(lightest);
        }
        return folds;
    }
    let mut heap: BinaryHeap<Reverse<(usize, usize)>> =
        (0..k).map(|fold| Reverse((0, fold))).collect();
    for &group in order {
        if let Some(mut top) = heap.peek_mut() {
            folds[group as usize] = I::new(top.0.1);
            top.0.0 += counts[group as usize];
        }
    }
    folds
}

impl Splitter for GroupKFold {
    type Output = FoldMap;

    fn split(&self, rows: &Rows<'_>) -> Result<FoldMap, SplitError> {
        rows.check()?;
        let column = rows.need_groups("group_k_fold")?;
        let groups = Dense::by_code(column);
        check_groups(self.k, rows.n, groups.len(), "group_k_fold")?;
        let mut warnings = rows.ignored("group_k_fold", true, false);
        warnings.extend(dominant(&groups, rows.n, self.k));
        let order = order(&groups.counts, self.shuffle);
        Ok(with_id!(self.k, I => {
            let folds = assign::<I>(&groups.counts, &order, self.k);
            let ids = groups.spread(column, &folds);
            FoldMap::new(self.k, ids, self.spec(), rows.fingerprint, warnings)
        }))
    }

    fn spec(&self) -> Spec {
        Spec::new("group_k_fold", self.shuffle).with("k", self.k)
    }

    fn reseeded(&self, seed: Seed) -> Option<Self> {
        self.shuffle?;
        Some(self.clone().with_shuffle(seed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_groups_and_a_dominant_one_are_reported() {
        let groups = [3, 3, 3, 3, 8, 9];
        let rows = Rows::new(6).with_groups(&groups);
        let error = GroupKFold::new(4).split(&rows).expect_err("three groups");
        assert_eq!(error.to_string(), "there are 3 groups, but group_k_fold needs at least 4");
        assert!(matches!(
            GroupKFold::new(1).split(&rows),
            Err(SplitError::BadFolds { k: 1, n: 6, .. })
        ));
        let folds = GroupKFold::new(2).split(&rows).expect("splits");
        assert!(matches!(folds.warnings(), [Warning::DominantGroup { group: 3, rows: 4, .. }]));
        assert!(folds.warnings()[0].to_string().contains("66.7 %"));
    }

    #[test]
    fn scan_and_heap_find_the_lightest() {
        let counts: Vec<usize> = (1..200).map(|i| i * 7919 % 83 + 1).collect();
        let by_size = order(&counts, None);
        for k in [2, 5, 16, 17] {
            let folds = assign::<u8>(&counts, &by_size, k);
            let mut loads = vec![0usize; k];
            for &group in &by_size {
                let lightest = (0..k).min_by_key(|&fold| (loads[fold], fold)).expect("folds");
                assert_eq!(usize::from(folds[group as usize]), lightest);
                loads[lightest] += counts[group as usize];
            }
        }
    }

    #[test]
    fn shuffled_folds_stay_balanced_and_differ() {
        // Sizes after Zipf's law: 2000 groups, the largest below a fold.
        let groups: Vec<u32> =
            (0..2000u32).flat_map(|g| vec![g; (2000 / (g as usize + 5)).max(1)]).collect();
        let rows = Rows::new(groups.len()).with_groups(&groups);
        let mut seen = std::collections::HashSet::new();
        for seed in 0..20 {
            let folds = GroupKFold::new(5).with_shuffle(Seed(seed)).split(&rows).expect("splits");
            let sizes = folds.sizes();
            let (min, max) = (sizes.iter().min().expect("five"), sizes.iter().max().expect("five"));
            assert!(max - min <= 2, "{sizes:?}");
            seen.insert(folds.id_bytes().into_owned());
        }
        assert_eq!(seen.len(), 20);
    }
}
