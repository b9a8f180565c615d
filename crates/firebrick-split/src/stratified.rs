//! Stratified K-fold by a closed form: every fold has its share of every class.

use crate::classes::{BLOCK, Dense, SMALL};
use crate::kfold::check_k;
use crate::map::{Id, with_id};
use crate::shuffle::{fill, fill_shuffled};
use crate::{FoldMap, Rows, Spec, SplitError, Splitter, Warning};
use firebrick_core::Seed;
use rayon::prelude::*;

/// Splits into `k` folds with equal shares of every class.
///
/// With the classes in order of first appearance, `n_c` rows of class `c` and `s_c` rows of the classes
/// before it, fold `i` receives `n_c div k + [((i - s_c) mod k) < n_c mod k]` rows of class `c`: sizes differ by
/// at most one, in all and in each class, whatever the classes are called. Unshuffled, each class goes in
/// row order, as in scikit-learn's `StratifiedKFold`; shuffled, uniformly within the class.
/// Time O(n + k C), memory 1 byte a row and k C.
///
/// Note: folds that are made alike differ less than fresh samples would, so the deviation between folds
/// understates the uncertainty.
///
/// Errors: [`SplitError::MissingColumn`], [`SplitError::BadFolds`], [`SplitError::ClassesTooSmall`] when
/// every class has fewer than `k` rows. Warning: [`Warning::SmallClasses`] when some have.
///
/// ```
/// use firebrick_core::Seed;
/// use firebrick_split::{Rows, Splitter, StratifiedKFold};
///
/// let labels: Vec<u32> = (0..20).map(|row| u32::from(row >= 10)).collect();
/// let folds = StratifiedKFold::new(3).with_shuffle(Seed(1)).split(&Rows::new(20).with_labels(&labels))?;
/// assert_eq!(folds.sizes(), [7, 7, 6]);
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StratifiedKFold {
    k: usize,
    shuffle: Option<Seed>,
}

impl StratifiedKFold {
    /// `k` folds, each class in row order.
    #[must_use]
    pub fn new(k: usize) -> Self {
        Self { k, shuffle: None }
    }

    /// Rows drawn at random within each class under `seed`.
    #[must_use]
    pub fn with_shuffle(self, seed: Seed) -> Self {
        Self { shuffle: Some(seed), ..self }
    }
}

/// Rows of a class with `count` rows that fold `fold` of `k` receives, `before` rows being in earlier classes.
pub(crate) fn share(fold: usize, k: usize, count: usize, before: usize) -> usize {
    count / k + usize::from((fold + k - before % k) % k < count % k)
}

/// The warning or error for classes with fewer than `k` rows.
pub(crate) fn check_classes(classes: &Dense, k: usize) -> Result<Option<Warning>, SplitError> {
    let small = classes.list(|count| count < k);
    if small.len() == classes.len() {
        return Err(SplitError::ClassesTooSmall { k, classes: small });
    }
    Ok((!small.is_empty()).then_some(Warning::SmallClasses { k, classes: small }))
}

/// Deals each class's part numbers to its rows: `counts(class, part)` rows of a class go to a part.
pub(crate) fn deal<I: Id>(
    labels: &[u32],
    classes: &Dense,
    parts: usize,
    counts: impl Fn(usize, usize) -> usize + Sync,
    part_id: impl Fn(usize) -> I + Sync,
    shuffle: Option<Seed>,
) -> Vec<I> {
    let mut scratch: Vec<I> = vec![part_id(0); labels.len()];
    let mut rest = scratch.as_mut_slice();
    let mut segments = Vec::with_capacity(classes.len());
    for &count in &classes.counts {
        let (segment, behind) = rest.split_at_mut(count);
        segments.push(segment);
        rest = behind;
    }
    segments.into_par_iter().enumerate().for_each(|(class, segment)| {
        let runs = (0..parts).map(|part| (part_id(part), counts(class, part)));
        match shuffle {
            None => fill(segment, runs),
            // Each class has its own stream, so the number of threads does not show.
            Some(seed) => {
                let seed = seed.child(class as u64);
                fill_shuffled(segment, runs, seed, "split/stratified");
            }
        }
    });
    gather(labels, classes, &scratch)
}

/// Gives each row the next id of its class; `scratch` holds those of the first class, then of the second, and so on.
fn gather<I: Id>(labels: &[u32], classes: &Dense, scratch: &[I]) -> Vec<I> {
    let mut starts = Vec::with_capacity(classes.len());
    let mut sum = 0;
    for count in &classes.counts {
        starts.push(sum);
        sum += count;
    }
    let mut ids = vec![I::new(0); labels.len()];
    let Some(blocks) = &classes.blocks else {
        for (id, &label) in ids.iter_mut().zip(labels) {
            let cursor = &mut starts[classes.number(label)];
            *id = scratch[*cursor];
            *cursor += 1;
        }
        return ids;
    };
    // Where each block begins in each class follows from the counts of the blocks before it. The cursors stand by code,
    // in an array whose length the compiler knows.
    let mut cursors = [0u32; SMALL];
    classes
        .codes
        .iter()
        .zip(starts)
        .for_each(|(&code, start)| cursors[code as usize] = start as u32);
    let starts = blocks.iter().map(|counts| {
        let of_block = cursors;
        cursors.iter_mut().zip(counts).for_each(|(cursor, count)| *cursor += count);
        of_block
    });
    let starts: Vec<[u32; SMALL]> = starts.collect();
    let blocks = ids.par_chunks_mut(BLOCK).zip(labels.par_chunks(BLOCK)).zip(starts);
    blocks.for_each(|((ids, labels), mut cursors)| {
        for (id, &label) in ids.iter_mut().zip(labels) {
            let cursor = &mut cursors[label as usize % SMALL];
            *id = scratch[*cursor as usize];
            *cursor = cursor.wrapping_add(1);
        }
    });
    ids
}

impl Splitter for StratifiedKFold {
    type Output = FoldMap;

    fn split(&self, rows: &Rows<'_>) -> Result<FoldMap, SplitError> {
        rows.check()?;
        let labels = rows.need_labels("stratified_k_fold")?;
        let k = self.k;
        check_k(k, rows.n)?;
        let classes = Dense::by_appearance(labels);
        let mut warnings = rows.ignored("stratified_k_fold", false, false);
        warnings.extend(check_classes(&classes, k)?);
        let before: Vec<usize> = classes
            .counts
            .iter()
            .scan(0, |sum, count| {
                let before = *sum;
                *sum += count;
                Some(before)
            })
            .collect();
        let counts = |class: usize, fold| share(fold, k, classes.counts[class], before[class]);
        Ok(with_id!(k, I => {
            let ids = deal(labels, &classes, k, counts, I::new, self.shuffle);
            FoldMap::new(k, ids, self.spec(), rows.fingerprint, warnings)
        }))
    }

    fn spec(&self) -> Spec {
        Spec::new("stratified_k_fold", self.shuffle).with("k", self.k)
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
    fn small_classes_warn_and_only_small_classes_fail() {
        let labels = [5, 5, 5, 9, 9, 5];
        let rows = Rows::new(6).with_labels(&labels);
        let folds = StratifiedKFold::new(3).split(&rows).expect("splits");
        assert_eq!(folds.warnings(), [Warning::SmallClasses { k: 3, classes: vec![(9, 2)] }]);
        let error = StratifiedKFold::new(5).split(&rows).expect_err("both are small");
        assert_eq!(error, SplitError::ClassesTooSmall { k: 5, classes: vec![(5, 4), (9, 2)] });
        assert!(error.to_string().ends_with("5 folds: 5 (4 rows), 9 (2 rows)"), "{error}");
        let missing = StratifiedKFold::new(3).split(&Rows::new(6)).expect_err("no labels");
        assert!(missing.to_string().contains("Rows::with_labels"));
    }

    /// Small codes are counted and dealt block by block, large ones row by row.
    #[test]
    fn renamed_classes_give_the_same_folds_over_many_blocks() {
        let n = 2 * BLOCK + 12_345;
        let mut stream = Seed(3).stream("test");
        let labels: Vec<u32> =
            (0..n).map(|_| (stream.below(40) * stream.below(40)) as u32).collect();
        let renamed: Vec<u32> = labels.iter().map(|label| label + SMALL as u32).collect();
        for splitter in [StratifiedKFold::new(7), StratifiedKFold::new(7).with_shuffle(Seed(5))] {
            let split = |labels| splitter.split(&Rows::new(n).with_labels(labels)).expect("splits");
            assert_eq!(split(&labels[..]).ids, split(&renamed[..]).ids);
        }
    }
}
