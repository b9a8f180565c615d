//! Adapters: any scheme repeated under new seeds, and any scheme inside another's training parts.

use crate::splitter::no_split;
use crate::{RowSet, Rows, Spec, Split, SplitError, Splits, Splitter, Warning};
use firebrick_core::Seed;

/// Repeats a shuffled scheme; `Repeated<HoldOut>` is the shuffle split (Monte Carlo cross-validation).
///
/// Repetition `r` runs under the seed `seed.child(r)`, so asking for more repetitions leaves the first ones as
/// they were.
///
/// Errors: [`SplitError::NothingRandom`] when the scheme is not shuffled, at least one repetition is needed, and
/// what the scheme refuses.
///
/// ```
/// use firebrick_core::Seed;
/// use firebrick_split::{KFold, Repeated, Rows, Splits, Splitter};
///
/// let scheme = Repeated::new(KFold::new(5).with_shuffle(Seed(0)), 3, Seed(7));
/// let splits = scheme.split(&Rows::new(50))?;
/// assert_eq!(splits.count(), 15);
/// assert_eq!(splits.repetition(1).map(|folds| folds.count()), Some(5));
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Repeated<S> {
    inner: S,
    times: usize,
    seed: Seed,
}

/// Monte Carlo cross-validation: independent hold-outs, whose held-out parts overlap.
pub type ShuffleSplit = Repeated<crate::HoldOut>;

impl<S> Repeated<S> {
    /// `times` repetitions of `inner`, which must be shuffled; its own seed is replaced.
    pub fn new(inner: S, times: usize, seed: Seed) -> Self {
        Self { inner, times, seed }
    }
}

/// The repetitions of a scheme, one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct RepeatedSplits<O> {
    repetitions: Vec<O>,
    warnings: Vec<Warning>,
}

impl<O: Splits> RepeatedSplits<O> {
    /// The result of repetition `index`, if there is one of that number.
    #[must_use]
    pub fn repetition(&self, index: usize) -> Option<&O> {
        self.repetitions.get(index)
    }

    /// All repetitions in order.
    #[must_use]
    pub fn repetitions(&self) -> &[O] {
        &self.repetitions
    }
}

impl<S: Splitter> Splitter for Repeated<S> {
    type Output = RepeatedSplits<S::Output>;

    fn split(&self, rows: &Rows<'_>) -> Result<Self::Output, SplitError> {
        firebrick_core::check::at_least("times", self.times, 1)?;
        let mut repetitions = Vec::new();
        let mut warnings: Vec<Warning> = Vec::new();
        for r in 0..self.times {
            let scheme = self
                .inner
                .reseeded(self.seed.child(r as u64))
                .ok_or(SplitError::NothingRandom { scheme: "the repeated scheme" })?;
            let result = scheme.split(rows)?;
            for warning in result.warnings() {
                if !warnings.contains(warning) {
                    warnings.push(warning.clone());
                }
            }
            repetitions.push(result);
        }
        Ok(RepeatedSplits { repetitions, warnings })
    }

    fn spec(&self) -> Spec {
        let inner = self.inner.spec();
        let mut spec = Spec { seed: Some(self.seed), ..inner };
        spec.algorithm = format!("repeated_{}", spec.algorithm);
        spec.with("times", self.times)
    }

    fn reseeded(&self, seed: Seed) -> Option<Self> {
        Some(Self { inner: self.inner.reseeded(seed)?, times: self.times, seed })
    }
}

impl<O: Splits> Splits for RepeatedSplits<O> {
    fn rows(&self) -> usize {
        self.repetitions.first().map_or(0, Splits::rows)
    }

    fn count(&self) -> usize {
        self.repetitions.iter().map(Splits::count).sum()
    }

    fn get(&self, index: usize) -> Result<Split, SplitError> {
        let mut rest = index;
        for repetition in &self.repetitions {
            if rest < repetition.count() {
                return repetition.get(rest);
            }
            rest -= repetition.count();
        }
        Err(no_split(index, self.count()))
    }

    fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

/// One scheme inside the training parts of another: choose in the inner splits, judge by the outer ones.
///
/// The inner scheme sees the columns of the outer training rows only; where it is shuffled, outer split `i`
/// runs it under `seed.child(i)` of its own seed's stream. Inner splits are given in row numbers of the whole.
///
/// ```
/// use firebrick_split::{KFold, Nested, Rows, Splits, Splitter};
///
/// let nested = Nested::new(KFold::new(3), KFold::new(2)).split(&Rows::new(9))?;
/// let outer = nested.outer(0)?;
/// assert_eq!(outer.valid.to_vec(), [0, 1, 2]);
/// let inner = nested.inner(0)?;
/// assert_eq!(inner[0].valid.to_vec(), [3, 4, 5]);
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Nested<O, I> {
    outer: O,
    inner: I,
}

impl<O, I> Nested<O, I> {
    /// `inner` within each training part of `outer`.
    pub fn new(outer: O, inner: I) -> Self {
        Self { outer, inner }
    }
}

/// Outer splits, each with the inner splits of its training part.
#[derive(Debug, Clone, PartialEq)]
pub struct NestedSplits<O, I> {
    outer: O,
    inner: Vec<I>,
    warnings: Vec<Warning>,
}

impl<O: Splits, I: Splits> NestedSplits<O, I> {
    /// Outer split `index`: what to judge the whole procedure by.
    ///
    /// # Errors
    /// [`SplitError::NoSuchSplit`] when there is none of that number.
    pub fn outer(&self, index: usize) -> Result<Split, SplitError> {
        self.outer.get(index)
    }

    /// The inner splits of outer split `index`, in row numbers of the whole: what to choose by.
    ///
    /// # Errors
    /// [`SplitError::NoSuchSplit`] when there is none of that number.
    pub fn inner(&self, index: usize) -> Result<Vec<Split>, SplitError> {
        let inner = self.inner.get(index).ok_or_else(|| no_split(index, self.inner.len()))?;
        let train = self.outer.get(index)?.train.into_vec();
        let translate = |rows: RowSet| -> RowSet {
            rows.iter().map(|place| train[place as usize]).collect::<Vec<_>>().into()
        };
        (0..inner.count())
            .map(|i| {
                let split = inner.get(i)?;
                Ok(Split { train: translate(split.train), valid: translate(split.valid) })
            })
            .collect()
    }
}

impl<O: Splitter, I: Splitter> Splitter for Nested<O, I> {
    type Output = NestedSplits<O::Output, I::Output>;

    fn split(&self, rows: &Rows<'_>) -> Result<Self::Output, SplitError> {
        let outer = self.outer.split(rows)?;
        let mut warnings = outer.warnings().to_vec();
        let mut inner = Vec::new();
        for index in 0..outer.count() {
            let train = outer.get(index)?.train.into_vec();
            let columns = Columns::select(rows, &train);
            let seed = self.inner.spec().seed.map(|seed| seed.child(index as u64));
            let scheme = seed.and_then(|seed| self.inner.reseeded(seed));
            let result = match scheme {
                Some(scheme) => scheme.split(&columns.rows(train.len())),
                None => self.inner.split(&columns.rows(train.len())),
            }?;
            for warning in result.warnings() {
                if !warnings.contains(warning) {
                    warnings.push(warning.clone());
                }
            }
            inner.push(result);
        }
        Ok(NestedSplits { outer, inner, warnings })
    }

    fn spec(&self) -> Spec {
        let (outer, inner) = (self.outer.spec(), self.inner.spec());
        let mut spec =
            Spec::new(format!("nested_{}_{}", outer.algorithm, inner.algorithm), outer.seed);
        for (prefix, parameters) in [("outer", outer.parameters), ("inner", inner.parameters)] {
            for (name, value) in parameters {
                spec.parameters.insert(format!("{prefix}.{name}"), value);
            }
        }
        if let Some(seed) = inner.seed {
            spec = spec.with("inner.seed", seed);
        }
        spec
    }

    fn reseeded(&self, seed: Seed) -> Option<Self> {
        let (outer, inner) =
            (self.outer.reseeded(seed.child(0)), self.inner.reseeded(seed.child(1)));
        match (outer, inner) {
            (Some(outer), Some(inner)) => Some(Self { outer, inner }),
            _ => None,
        }
    }
}

/// As [`Splits`]: the outer splits.
impl<O: Splits, I: Splits> Splits for NestedSplits<O, I> {
    fn rows(&self) -> usize {
        self.outer.rows()
    }

    fn count(&self) -> usize {
        self.outer.count()
    }

    fn get(&self, index: usize) -> Result<Split, SplitError> {
        self.outer.get(index)
    }

    fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

/// The columns of some rows.
pub(crate) struct Columns {
    labels: Option<Vec<u32>>,
    groups: Option<Vec<u32>>,
    times: Option<Vec<i64>>,
    ends: Option<Vec<i64>>,
    target: Option<Vec<f64>>,
    label_sets: Option<crate::LabelSets>,
}

impl Columns {
    pub(crate) fn select(rows: &Rows<'_>, chosen: &[u32]) -> Self {
        fn pick<T: Copy>(column: Option<&[T]>, chosen: &[u32]) -> Option<Vec<T>> {
            column.map(|column| chosen.iter().map(|&row| column[row as usize]).collect())
        }
        Self {
            labels: pick(rows.labels, chosen),
            groups: pick(rows.groups, chosen),
            times: pick(rows.times, chosen),
            ends: pick(rows.ends, chosen),
            target: pick(rows.target, chosen),
            label_sets: rows.label_sets.map(|sets| sets.select(chosen)),
        }
    }

    pub(crate) fn rows(&self, n: usize) -> Rows<'_> {
        Rows {
            n,
            labels: self.labels.as_deref(),
            groups: self.groups.as_deref(),
            times: self.times.as_deref(),
            ends: self.ends.as_deref(),
            target: self.target.as_deref(),
            label_sets: self.label_sets.as_ref(),
            fingerprint: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HoldOut, KFold, StratifiedKFold};

    #[test]
    fn more_repetitions_leave_the_first_as_they_were() {
        let rows = Rows::new(30);
        let of =
            |times| Repeated::new(KFold::new(3).with_shuffle(Seed(1)), times, Seed(2)).split(&rows);
        let (few, many) = (of(2).expect("splits"), of(5).expect("splits"));
        assert_eq!(few.repetitions(), &many.repetitions()[..2]);
        assert_ne!(many.repetition(0), many.repetition(1));
        assert_eq!(many.get(7).expect("exists"), many.repetitions()[2].get(1).expect("exists"));
        assert_eq!(many.get(15), Err(SplitError::NoSuchSplit { index: 15, count: 15 }));
        assert_eq!(many.iter().count(), 15);
    }

    #[test]
    fn nothing_random_cannot_be_repeated() {
        let error =
            Repeated::new(KFold::new(3), 2, Seed(0)).split(&Rows::new(9)).expect_err("unshuffled");
        assert!(error.to_string().contains("with_shuffle"));
        assert!(
            Repeated::new(KFold::new(3).with_shuffle(Seed(0)), 0, Seed(0))
                .split(&Rows::new(9))
                .is_err()
        );
    }

    #[test]
    fn shuffle_splits_draw_anew() {
        let split =
            ShuffleSplit::new(HoldOut::new(0.25).with_train(0.5).with_shuffle(Seed(0)), 4, Seed(9));
        let splits = split.split(&Rows::new(40)).expect("splits");
        for split in splits.iter() {
            assert_eq!((split.train.len(), split.valid.len()), (20, 10));
            assert!(split.valid.iter().all(|row| !split.train.contains(row)));
        }
    }

    #[test]
    fn inner_splits_stay_inside_outer_training() {
        let labels: Vec<u32> = (0..60).map(|row| row % 3).collect();
        let inner = StratifiedKFold::new(4).with_shuffle(Seed(5));
        let nested = Nested::new(StratifiedKFold::new(5).with_shuffle(Seed(4)), inner)
            .split(&Rows::new(60).with_labels(&labels))
            .expect("splits");
        let mut places = Vec::new();
        for i in 0..nested.count() {
            let outer = nested.outer(i).expect("exists");
            let mut validated = Vec::new();
            for split in nested.inner(i).expect("exists") {
                assert!(
                    split
                        .valid
                        .iter()
                        .chain(split.train.iter())
                        .all(|row| outer.train.contains(row))
                );
                assert_eq!(split.train.len() + split.valid.len(), 48);
                validated.extend(split.valid.iter());
            }
            places.push(validated.clone());
            validated.sort_unstable();
            assert_eq!(validated, outer.train.to_vec());
        }
        assert!(places.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(nested.inner(5).is_err());
    }
}
