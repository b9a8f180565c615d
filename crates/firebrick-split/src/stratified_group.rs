//! Stratified group K-fold: whole groups, classes as even as they can be.

use crate::classes::Dense;
use crate::group::{check_groups, counting_sort, dominant};
use crate::map::{Id, with_id};
use crate::stratified::check_classes;
use crate::{FoldMap, Rows, Spec, SplitError, Splitter};
use firebrick_core::Seed;

/// How groups find their folds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum GroupMode {
    /// Least growth of the squared class shares, in exact integers; no fold is ever empty.
    #[default]
    Balanced,
    /// Bit for bit the folds of scikit-learn 1.9, whose ties are decided by rounding.
    SklearnCompat,
}

/// Splits into `k` folds of whole groups with class shares as even as greedy placement makes them.
///
/// `Balanced`: groups by descending size go to the fold `f` with the least sum over classes of
/// `F[f][c] g[c] / n_c^2`, where `F` counts the rows placed and `g` those of the group: the change of the sum
/// of squared class shares. Ties go to the fold with fewer rows, then the lower number; weights are the integers
/// `2^96 div n_c^2`. Among groups of equal size the lower code goes first, so that the order of the rows does not matter;
/// shuffled: at random.
///
/// `SklearnCompat`: the groups by descending deviation of their class counts, each to the fold that leaves the
/// least mean deviation of class shares between folds, in floating point exactly as NumPy sums.
/// Shuffled, the group order is drawn by the pinned generator, not NumPy's.
///
/// Time O(n + k P + G log G) for P pairs of group and class that occur (`Balanced`), O(n + G k^2 C) (`SklearnCompat`).
///
/// Errors: [`SplitError::MissingColumn`], [`SplitError::BadFolds`], [`SplitError::TooFewGroups`],
/// [`SplitError::ClassesTooSmall`], and in compat mode [`SplitError::EmptyFold`].
///
/// ```
/// use firebrick_split::{Rows, Splitter, StratifiedGroupKFold};
///
/// let labels = [1, 1, 1, 1, 1, 2, 1, 2, 2];
/// let groups = [0, 0, 1, 1, 2, 2, 2, 2, 3];
/// let rows = Rows::new(9).with_labels(&labels).with_groups(&groups);
/// // scikit-learn's rule leaves a fold empty here.
/// assert!(StratifiedGroupKFold::new(4).with_sklearn_compat().split(&rows).is_err());
/// assert!(StratifiedGroupKFold::new(4).split(&rows)?.sizes().iter().all(|&size| size > 0));
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StratifiedGroupKFold {
    k: usize,
    mode: GroupMode,
    shuffle: Option<Seed>,
    empty_folds: bool,
}

impl StratifiedGroupKFold {
    /// `k` folds of whole groups, balanced.
    #[must_use]
    pub fn new(k: usize) -> Self {
        Self { k, mode: GroupMode::Balanced, shuffle: None, empty_folds: false }
    }

    /// With the folds of scikit-learn.
    #[must_use]
    pub fn with_sklearn_compat(self) -> Self {
        Self { mode: GroupMode::SklearnCompat, ..self }
    }

    /// With the empty folds that scikit-learn gives: for comparison with what it recorded.
    pub(crate) fn with_empty_folds(self) -> Self {
        Self { empty_folds: true, ..self }
    }

    /// With a random order of groups that are alike, under `seed`.
    #[must_use]
    pub fn with_shuffle(self, seed: Seed) -> Self {
        Self { shuffle: Some(seed), ..self }
    }
}

/// The class numbers of all rows, by group and ascending within it: a group's counts are read off when wanted.
///
/// One byte a row up to 256 classes, where a table of (class, rows) pairs would take eight for most of them.
pub(crate) struct ClassCounts {
    starts: Vec<u32>,
    classes: Sorted,
}

enum Sorted {
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
}

/// Class numbers by group, each group's ascending.
fn sort<T: Copy + Ord + Send>(
    numbers: impl Iterator<Item = T>,
    empty: T,
    column: &[u32],
    groups: &Dense,
    starts: &[u32],
) -> Vec<T> {
    let mut cursors = starts.to_vec();
    let mut sorted = vec![empty; column.len()];
    for (number, &code) in numbers.zip(column) {
        let cursor = &mut cursors[groups.number(code)];
        sorted[*cursor as usize] = number;
        *cursor += 1;
    }
    for bounds in starts.windows(2) {
        sorted[bounds[0] as usize..bounds[1] as usize].sort_unstable();
    }
    sorted
}

/// Replaces `pairs` by (class number, rows) for each run of equal classes.
fn runs<T: Copy + Eq>(members: &[T], pairs: &mut Vec<(u32, u32)>, number: impl Fn(T) -> u32) {
    pairs.clear();
    pairs.extend(members.chunk_by(|a, b| a == b).map(|run| (number(run[0]), run.len() as u32)));
}

impl ClassCounts {
    pub(crate) fn new(labels: &[u32], classes: &Dense, column: &[u32], groups: &Dense) -> Self {
        let mut starts = Vec::with_capacity(groups.len() + 1);
        // Fewer than 2^32 rows, so every sum fits.
        let mut sum = 0u32;
        starts.push(sum);
        starts.extend(groups.counts.iter().map(|&count| {
            sum += count as u32;
            sum
        }));
        let numbers = labels.iter().map(|&label| classes.number(label));
        let classes = if classes.len() <= 1 << 8 {
            Sorted::U8(sort(numbers.map(|number| number as u8), 0, column, groups, &starts))
        } else if classes.len() <= 1 << 16 {
            Sorted::U16(sort(numbers.map(|number| number as u16), 0, column, groups, &starts))
        } else {
            Sorted::U32(sort(numbers.map(|number| number as u32), 0, column, groups, &starts))
        };
        Self { starts, classes }
    }

    /// Replaces `pairs` by (class number, rows) of a group, ascending by class, without the zeros.
    pub(crate) fn read(&self, group: usize, pairs: &mut Vec<(u32, u32)>) {
        let place = self.starts[group] as usize..self.starts[group + 1] as usize;
        match &self.classes {
            Sorted::U8(all) => runs(&all[place], pairs, u32::from),
            Sorted::U16(all) => runs(&all[place], pairs, u32::from),
            Sorted::U32(all) => runs(&all[place], pairs, |class| class),
        }
    }
}

/// The integer weights `2^96 div n_c^2`.
pub(crate) fn weights(classes: &Dense) -> Vec<u128> {
    classes.counts.iter().map(|&n| (1u128 << 96) / (n as u128 * n as u128)).collect()
}

/// The fold of each group. No score overflows: `F g w <= 2^94` for each class, as `F + g <= n_c`, and there
/// are fewer than 2^32 classes.
fn balanced<I: Id>(
    counts: &ClassCounts,
    classes: &Dense,
    order: &[u32],
    sizes: &[usize],
    k: usize,
) -> Vec<I> {
    let weights = weights(classes);
    let mut placed = vec![0u32; k * classes.len()];
    let mut rows = vec![0usize; k];
    let mut folds = vec![I::new(0); order.len()];
    let mut pairs = Vec::new();
    for &group in order {
        counts.read(group as usize, &mut pairs);
        let score = |fold: usize| -> u128 {
            pairs
                .iter()
                .map(|&(class, count)| {
                    let there = placed[class as usize * k + fold];
                    u128::from(there) * u128::from(count) * weights[class as usize]
                })
                .sum()
        };
        let best = (0..k).min_by_key(|&fold| (score(fold), rows[fold], fold)).unwrap_or(0);
        for &(class, count) in &pairs {
            placed[class as usize * k + best] += count;
        }
        rows[best] += sizes[group as usize];
        folds[group as usize] = I::new(best);
    }
    folds
}

/// NumPy's sum of a short row: sequential up to 7 values, eight accumulators from 8 on.
fn numpy_sum(values: &[f64]) -> f64 {
    if values.len() < 8 {
        return values.iter().fold(0.0, |sum, value| sum + value);
    }
    if values.len() > 128 {
        // Halves, the first a multiple of 8 long.
        let half = values.len() / 2 / 8 * 8;
        return numpy_sum(&values[..half]) + numpy_sum(&values[half..]);
    }
    let mut r = [0.0; 8];
    r.copy_from_slice(&values[..8]);
    let (chunks, tail) = values[8..].as_chunks::<8>();
    for chunk in chunks {
        for (sum, value) in r.iter_mut().zip(chunk) {
            *sum += value;
        }
    }
    let sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
    tail.iter().fold(sum, |sum, value| sum + value)
}

/// Population deviation of one group's class counts, as `np.std(axis=1)` computes it.
fn deviation(counts: &[f64]) -> f64 {
    let n = counts.len() as f64;
    let mean = numpy_sum(counts) / n;
    let squares: Vec<f64> = counts.iter().map(|count| (count - mean) * (count - mean)).collect();
    (numpy_sum(&squares) / n).sqrt()
}

/// Mean over classes of the deviation over folds of the class shares, as
/// `np.mean(np.std(counts / n_c, axis=0))` computes it.
fn spread_of(placed: &[f64], sizes: &[f64], k: usize) -> f64 {
    let classes = sizes.len();
    let mut column = vec![0.0; k];
    // Over folds NumPy adds row by row; a single column lies in memory like a row and is summed like one.
    let sum = |column: &[f64]| {
        if classes == 1 { numpy_sum(column) } else { column.iter().fold(0.0, |sum, v| sum + v) }
    };
    let deviations: Vec<f64> = (0..classes)
        .map(|class| {
            for (fold, value) in column.iter_mut().enumerate() {
                *value = placed[fold * classes + class] / sizes[class];
            }
            let mean = sum(&column) / k as f64;
            column.iter_mut().for_each(|value| *value = (*value - mean) * (*value - mean));
            (sum(&column) / k as f64).sqrt()
        })
        .collect();
    numpy_sum(&deviations) / classes as f64
}

fn compat<I: Id>(
    counts: &ClassCounts,
    classes: &Dense,
    shuffled: Vec<u32>,
    k: usize,
    empty_folds: bool,
) -> Result<Vec<I>, SplitError> {
    let width = classes.len();
    let row = |group: u32| {
        let (mut row, mut pairs) = (vec![0.0; width], Vec::new());
        counts.read(group as usize, &mut pairs);
        for (class, count) in pairs {
            row[class as usize] = f64::from(count);
        }
        row
    };
    let mut order: Vec<(f64, u32)> =
        shuffled.into_iter().map(|group| (deviation(&row(group)), group)).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    let sizes: Vec<f64> = classes.counts.iter().map(|&count| count as f64).collect();
    let mut placed = vec![0.0; k * width];
    let mut rows = vec![0.0; k];
    let mut folds = vec![I::new(0); order.len()];
    for (_, group) in order {
        let members = row(group);
        let (mut best, mut least, mut fewest) = (None, f64::INFINITY, f64::INFINITY);
        for (fold, &there) in rows.iter().enumerate() {
            let place = fold * width..(fold + 1) * width;
            placed[place.clone()].iter_mut().zip(&members).for_each(|(sum, count)| *sum += count);
            let value = spread_of(&placed, &sizes, k);
            placed[place].iter_mut().zip(&members).for_each(|(sum, count)| *sum -= count);
            let close = least.is_finite() && (value - least).abs() <= 1e-8 + 1e-5 * least.abs();
            if value < least || close && there < fewest {
                (best, least, fewest) = (Some(fold), value, there);
            }
        }
        let best = best.unwrap_or(0);
        let start = best * width;
        placed[start..start + width]
            .iter_mut()
            .zip(&members)
            .for_each(|(sum, count)| *sum += count);
        rows[best] += members.iter().sum::<f64>();
        folds[group as usize] = I::new(best);
    }
    match rows.iter().position(|&rows| rows == 0.0) {
        Some(fold) if !empty_folds => Err(SplitError::EmptyFold { fold, k }),
        _ => Ok(folds),
    }
}

impl Splitter for StratifiedGroupKFold {
    type Output = FoldMap;

    fn split(&self, rows: &Rows<'_>) -> Result<FoldMap, SplitError> {
        let name = "stratified_group_k_fold";
        rows.check()?;
        let (labels, column) = (rows.need_labels(name)?, rows.need_groups(name)?);
        // scikit-learn sorts labels and groups, and the order of classes decides roundings.
        let compatible = self.mode == GroupMode::SklearnCompat;
        let number = if compatible { Dense::by_code } else { Dense::by_appearance };
        // Groups by code, so that another order of the rows gives the same folds.
        let (classes, groups) = (number(labels), Dense::by_code(column));
        check_groups(self.k, rows.n, groups.len(), name)?;
        let mut warnings = rows.ignored(name, true, false);
        warnings.extend(check_classes(&classes, self.k)?);
        warnings.extend(dominant(&groups, rows.n, self.k));
        let counts = ClassCounts::new(labels, &classes, column, &groups);
        let mut order: Vec<u32> = (0..groups.len() as u32).collect();
        if let Some(seed) = self.shuffle {
            let stream = seed.stream("split/stratified_group_k_fold");
            crate::shuffle::Words::new(stream).shuffle(&mut order);
        }
        Ok(with_id!(self.k, I => {
            let folds: Vec<I> = if compatible {
                compat(&counts, &classes, order, self.k, self.empty_folds)?
            } else {
                counting_sort(&mut order, &groups.counts, |count| count);
                balanced(&counts, &classes, &order, &groups.counts, self.k)
            };
            let ids = groups.spread(column, &folds);
            FoldMap::new(self.k, ids, self.spec(), rows.fingerprint, warnings)
        }))
    }

    fn spec(&self) -> Spec {
        let mode = match self.mode {
            GroupMode::Balanced => "balanced",
            GroupMode::SklearnCompat => "sklearn_compat",
        };
        Spec::new("stratified_group_k_fold", self.shuffle).with("k", self.k).with("mode", mode)
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
    fn the_empty_fold_of_scikit_learn_is_an_error() {
        let labels = [1, 1, 1, 1, 1, 2, 1, 2, 2];
        let groups = [0, 0, 1, 1, 2, 2, 2, 2, 3];
        let rows = Rows::new(9).with_labels(&labels).with_groups(&groups);
        let compat = StratifiedGroupKFold::new(4).with_sklearn_compat();
        assert_eq!(compat.split(&rows), Err(SplitError::EmptyFold { fold: 2, k: 4 }));
    }

    #[test]
    fn a_group_larger_than_a_fold_is_reported_in_both_modes() {
        let groups = [3, 3, 3, 3, 8, 9];
        let rows = Rows::new(6).with_labels(&[0, 1, 0, 1, 0, 1]).with_groups(&groups);
        let balanced = StratifiedGroupKFold::new(2);
        for scheme in [balanced.clone(), balanced.with_sklearn_compat()] {
            let folds = scheme.split(&rows).expect("splits");
            let found = folds
                .warnings()
                .iter()
                .any(|w| matches!(w, crate::Warning::DominantGroup { group: 3, rows: 4, .. }));
            assert!(found, "{:?}", folds.warnings());
        }
    }

    #[test]
    fn single_rows_as_groups_stratify_as_well_as_without_groups() {
        let labels: Vec<u32> = (0..97).map(|row| row * row % 11 % 3).collect();
        let groups: Vec<u32> = (0..97).collect();
        let rows = Rows::new(97).with_labels(&labels).with_groups(&groups);
        let folds =
            StratifiedGroupKFold::new(5).with_shuffle(Seed(3)).split(&rows).expect("splits");
        for class in 0..3 {
            let counts: Vec<usize> = (0..5)
                .map(|fold| {
                    folds
                        .fold(fold)
                        .expect("exists")
                        .iter()
                        .filter(|&&row| labels[row as usize] == class)
                        .count()
                })
                .collect();
            let (min, max) =
                (counts.iter().min().expect("five"), counts.iter().max().expect("five"));
            assert!(max - min <= 1, "{counts:?}");
        }
    }

    #[test]
    fn long_sums_follow_numpy() {
        // NumPy 2: np.sum(0.1 * np.arange(n) * b), whose last bit shows the order of the additions.
        let sum =
            |n: u32, b: f64| numpy_sum(&(0..n).map(|i| 0.1 * f64::from(i) * b).collect::<Vec<_>>());
        assert_eq!(sum(9, 1.0), 3.600_000_000_000_000_5);
        assert_eq!(sum(300, 1.0), 4485.0);
        assert_eq!(sum(1000, 1.7), 84_915.000_000_000_01);
    }
}
