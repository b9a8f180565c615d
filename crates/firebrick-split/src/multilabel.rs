//! Several labels a row: iterative stratification with exact fold sizes.
//!
//! K. Sechidis, G. Tsoumakas, I. Vlahavas, "On the stratification of multi-label data", ECML PKDD 2011; pairs of labels:
//! P. Szymanski, T. Kajdanowicz, "A network perspective on stratification of multi-label data", 2017.

use crate::kfold::check_k;
use crate::map::{Id, with_id};
use crate::shuffle::Words;
use crate::{FoldMap, Rows, Spec, SplitError, Splitter, Warning};
use firebrick_core::Seed;
use std::collections::{BTreeSet, HashMap};

/// The labels of each row: any number of them.
///
/// ```
/// use firebrick_split::LabelSets;
///
/// let sets = LabelSets::from_rows([vec![0, 2], vec![], vec![1]])?;
/// assert_eq!((sets.rows(), sets.columns()), (3, 3));
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSets {
    starts: Vec<usize>,
    labels: Vec<u32>,
    columns: usize,
}

impl LabelSets {
    /// From the labels of each row; a label that is named twice counts once.
    ///
    /// # Errors
    /// A `ConfigError` for labels of 2^24 and above.
    pub fn from_rows<R: AsRef<[u32]>>(
        rows: impl IntoIterator<Item = R>,
    ) -> Result<Self, SplitError> {
        let mut sets = Self { starts: vec![0], labels: Vec::new(), columns: 0 };
        for row in rows {
            let start = sets.labels.len();
            sets.labels.extend_from_slice(row.as_ref());
            sets.labels[start..].sort_unstable();
            let mut kept = start;
            for place in start..sets.labels.len() {
                if place == start || sets.labels[place] != sets.labels[kept - 1] {
                    sets.labels[kept] = sets.labels[place];
                    kept += 1;
                }
            }
            sets.labels.truncate(kept);
            if let Some(&last) = sets.labels[start..].last() {
                if last >= 1 << 24 {
                    return Err(
                        firebrick_core::ConfigError::new("label", last, "below 2^24").into()
                    );
                }
                sets.columns = sets.columns.max(last as usize + 1);
            }
            sets.starts.push(sets.labels.len());
        }
        Ok(sets)
    }

    /// From a row-major matrix of zeros and ones.
    ///
    /// # Errors
    /// A `ConfigError` for no columns, [`SplitError::LengthMismatch`] when `columns` does not divide the values.
    pub fn from_indicators(values: &[bool], columns: usize) -> Result<Self, SplitError> {
        firebrick_core::check::at_least("columns", columns, 1)?;
        let n = values.len() / columns;
        if n * columns != values.len() {
            return Err(SplitError::LengthMismatch {
                column: "values",
                len: values.len(),
                n: n * columns,
            });
        }
        let set =
            |row: &[bool]| (0..columns as u32).filter(|&c| row[c as usize]).collect::<Vec<_>>();
        let mut sets = Self::from_rows(values.chunks_exact(columns).map(set))?;
        sets.columns = columns;
        Ok(sets)
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Number of label columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The labels of a row, ascending; none for a row that does not exist.
    #[must_use]
    pub fn row(&self, row: usize) -> &[u32] {
        match self.starts.get(row..row.saturating_add(2)) {
            Some(&[start, end]) => &self.labels[start..end],
            _ => &[],
        }
    }

    /// The label sets of some rows.
    #[must_use]
    pub fn select(&self, rows: &[u32]) -> Self {
        let mut sets = Self { starts: vec![0], labels: Vec::new(), columns: self.columns };
        for &row in rows {
            sets.labels.extend_from_slice(self.row(row as usize));
            sets.starts.push(sets.labels.len());
        }
        sets
    }

    /// A warning for each column that is never or always set.
    fn constant(&self) -> impl Iterator<Item = Warning> {
        let rows = self.rows();
        let mut counts = vec![0usize; self.columns];
        self.labels.iter().for_each(|&label| counts[label as usize] += 1);
        let constant = counts.into_iter().enumerate().filter(move |&(_, c)| c == 0 || c == rows);
        constant.map(move |(column, count)| Warning::ConstantLabel { column, count, rows })
    }

    /// Each row's pairs of labels as numbers of their own.
    fn pairs(&self) -> Self {
        let mut numbers: HashMap<(u32, u32), u32> = HashMap::new();
        let mut sets = Self { starts: vec![0], labels: Vec::new(), columns: 0 };
        for row in 0..self.rows() {
            let labels = self.row(row);
            for (place, &a) in labels.iter().enumerate() {
                for &b in &labels[place + 1..] {
                    let next = numbers.len() as u32;
                    sets.labels.push(*numbers.entry((a, b)).or_insert(next));
                }
            }
            sets.starts.push(sets.labels.len());
        }
        sets.columns = numbers.len();
        sets
    }
}

/// Splits rows with several labels each into `k` folds of exact size.
///
/// The rarest label that still has rows goes first; each of its rows goes to the fold `f` with the greatest
/// desire `size_f count_l - n assigned_fl`, in integers, ties to the fold with more room, then the lower
/// number, never to a full fold. Rows without labels come last. Second order: pairs of labels first, then single ones.
/// Time O(nnz (k + log L)).
///
/// Errors: [`SplitError::BadFolds`], [`SplitError::MissingColumn`] without label sets.
/// Warning: [`Warning::ConstantLabel`] for each column that is never or always set.
///
/// ```
/// use firebrick_split::{LabelSets, MultilabelKFold, Rows, Splitter};
///
/// let sets = LabelSets::from_rows((0..12u32).map(|row| vec![row % 2, 2 + row % 3]))?;
/// let folds = MultilabelKFold::new(3).split(&Rows::new(12).with_label_sets(&sets))?;
/// assert_eq!(folds.sizes(), [4, 4, 4]);
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultilabelKFold {
    k: usize,
    second_order: bool,
    shuffle: Option<Seed>,
}

impl MultilabelKFold {
    /// `k` folds, single labels as evidence.
    #[must_use]
    pub fn new(k: usize) -> Self {
        Self { k, second_order: false, shuffle: None }
    }

    /// With pairs of labels as evidence.
    #[must_use]
    pub fn with_second_order(self) -> Self {
        Self { second_order: true, ..self }
    }

    /// With the rows of a label in random order under `seed`.
    #[must_use]
    pub fn with_shuffle(self, seed: Seed) -> Self {
        Self { shuffle: Some(seed), ..self }
    }
}

/// Marks a row that has no part yet.
const FREE: u16 = u16::MAX;

struct Assignment<'a> {
    sizes: &'a [usize],
    room: Vec<usize>,
    parts: Vec<u16>,
}

impl Assignment<'_> {
    /// Assigns every free row that has an item, the rarest item first.
    fn run(&mut self, sets: &LabelSets, order: &[u32]) {
        let (n, k) = (sets.rows() as i128, self.sizes.len());
        let mut total = vec![0i128; sets.columns];
        let mut remaining = vec![0usize; sets.columns];
        let mut assigned = vec![0i128; sets.columns * k];
        let mut members = vec![Vec::new(); sets.columns];
        for &row in order {
            for &item in sets.row(row as usize) {
                total[item as usize] += 1;
                match self.parts[row as usize] {
                    FREE => {
                        remaining[item as usize] += 1;
                        members[item as usize].push(row);
                    }
                    part => assigned[item as usize * k + usize::from(part)] += 1,
                }
            }
        }
        let mut rarest: BTreeSet<(usize, u32)> = (0..sets.columns)
            .filter(|&item| remaining[item] > 0)
            .map(|item| (remaining[item], item as u32))
            .collect();
        while let Some(&(_, item)) = rarest.first() {
            for row in std::mem::take(&mut members[item as usize]) {
                if self.parts[row as usize] != FREE {
                    continue;
                }
                let desire = |part: usize| {
                    let place = item as usize * k + part;
                    self.sizes[part] as i128 * total[item as usize] - n * assigned[place]
                };
                let best = (0..k)
                    .filter(|&part| self.room[part] > 0)
                    .max_by_key(|&part| (desire(part), self.room[part], std::cmp::Reverse(part)));
                let Some(best) = best else { return };
                self.room[best] -= 1;
                self.parts[row as usize] = best as u16;
                for &other in sets.row(row as usize) {
                    let left = &mut remaining[other as usize];
                    rarest.remove(&(*left, other));
                    *left -= 1;
                    if *left > 0 {
                        rarest.insert((*left, other));
                    }
                    assigned[other as usize * k + best] += 1;
                }
            }
            rarest.remove(&(remaining[item as usize], item));
        }
    }

    /// Rows without labels, to wherever there is most room.
    fn rest(&mut self, order: &[u32]) {
        for &row in order {
            if self.parts[row as usize] == FREE {
                let best = (0..self.room.len())
                    .max_by_key(|&p| (self.room[p], std::cmp::Reverse(p)))
                    .unwrap_or(0);
                self.room[best] = self.room[best].saturating_sub(1);
                self.parts[row as usize] = best as u16;
            }
        }
    }
}

/// The part of each row, parts of exactly these sizes.
fn iterative(sets: &LabelSets, sizes: &[usize], second_order: bool, order: &[u32]) -> Vec<u16> {
    let mut assignment = Assignment { sizes, room: sizes.to_vec(), parts: vec![FREE; sets.rows()] };
    if second_order {
        assignment.run(&sets.pairs(), order);
    }
    assignment.run(sets, order);
    assignment.rest(order);
    assignment.parts
}

impl Splitter for MultilabelKFold {
    type Output = FoldMap;

    fn split(&self, rows: &Rows<'_>) -> Result<FoldMap, SplitError> {
        let scheme = "multilabel_k_fold";
        rows.check()?;
        check_k(self.k, rows.n)?;
        let sets =
            rows.label_sets.ok_or(SplitError::MissingColumn { column: "label_sets", scheme })?;
        let mut warnings = rows.ignored(scheme, false, false);
        warnings.extend(sets.constant());
        let mut order: Vec<u32> = (0..rows.n as u32).collect();
        if let Some(seed) = self.shuffle {
            Words::new(seed.stream("split/multilabel")).shuffle(&mut order);
        }
        let sizes: Vec<usize> =
            (0..self.k).map(|fold| rows.n / self.k + usize::from(fold < rows.n % self.k)).collect();
        let parts = iterative(sets, &sizes, self.second_order, &order);
        Ok(with_id!(self.k, I => {
            let ids: Vec<I> = parts.iter().map(|&part| I::new(part.into())).collect();
            FoldMap::new(self.k, ids, self.spec(), rows.fingerprint, warnings)
        }))
    }

    fn spec(&self) -> Spec {
        let order = if self.second_order { 2 } else { 1 };
        Spec::new("multilabel_k_fold", self.shuffle).with("k", self.k).with("order", order)
    }

    fn reseeded(&self, seed: Seed) -> Option<Self> {
        self.shuffle?;
        Some(self.clone().with_shuffle(seed))
    }
}

/// Hold-out for rows with several labels each: parts of exact size, labels spread by iterative stratification.
///
/// Errors: those of [`HoldOut`](crate::HoldOut) for sizes, [`SplitError::MissingColumn`] without label sets.
/// Warning: [`Warning::ConstantLabel`] for each column that is never or always set.
///
/// ```
/// use firebrick_split::{LabelSets, MultilabelHoldOut, Rows, Splitter};
///
/// let sets = LabelSets::from_rows((0..20u32).map(|row| vec![row % 2]))?;
/// let roles = MultilabelHoldOut::new(0.2).split(&Rows::new(20).with_label_sets(&sets))?;
/// assert_eq!(roles.test().iter().filter(|row| *row % 2 == 0).count(), 2);
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct MultilabelHoldOut {
    sizes: crate::HoldOut,
    second_order: bool,
    shuffle: Option<Seed>,
}

impl MultilabelHoldOut {
    /// A training and a test part.
    pub fn new(test: impl Into<crate::Size>) -> Self {
        Self { sizes: crate::HoldOut::new(test), second_order: false, shuffle: None }
    }

    /// With a validation part.
    #[must_use]
    pub fn with_validation(self, size: impl Into<crate::Size>) -> Self {
        Self { sizes: self.sizes.with_validation(size), ..self }
    }

    /// With pairs of labels as evidence.
    #[must_use]
    pub fn with_second_order(self) -> Self {
        Self { second_order: true, ..self }
    }

    /// With the rows of a label in random order under `seed`.
    #[must_use]
    pub fn with_shuffle(self, seed: Seed) -> Self {
        Self { shuffle: Some(seed), ..self }
    }
}

impl Splitter for MultilabelHoldOut {
    type Output = crate::Roles;

    fn split(&self, rows: &Rows<'_>) -> Result<crate::Roles, SplitError> {
        let scheme = "multilabel_hold_out";
        rows.check()?;
        let sizes = self.sizes.sizes(rows.n)?;
        let sets =
            rows.label_sets.ok_or(SplitError::MissingColumn { column: "label_sets", scheme })?;
        let mut order: Vec<u32> = (0..rows.n as u32).collect();
        if let Some(seed) = self.shuffle {
            Words::new(seed.stream("split/multilabel")).shuffle(&mut order);
        }
        let parts = iterative(sets, &sizes, self.second_order, &order);
        let ids: Vec<u8> = parts.iter().map(|&part| part as u8).collect();
        let mut warnings = rows.ignored(scheme, false, false);
        warnings.extend(sets.constant());
        Ok(crate::Roles::new(FoldMap::new(3, ids, self.spec(), rows.fingerprint, warnings)))
    }

    fn spec(&self) -> Spec {
        let inner = self.sizes.spec();
        let mut spec =
            Spec { algorithm: "multilabel_hold_out".into(), seed: self.shuffle, ..inner };
        spec = spec.with("order", if self.second_order { 2 } else { 1 });
        spec
    }

    fn reseeded(&self, seed: Seed) -> Option<Self> {
        self.shuffle?;
        Some(self.clone().with_shuffle(seed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Labels of very different frequency, some together.
    fn sets(n: usize, seed: u64) -> LabelSets {
        let mut stream = Seed(seed).stream("test");
        LabelSets::from_rows((0..n).map(|_| {
            (0..12u32)
                .filter(|&label| stream.uniform() < 0.6 / f64::from(label + 1))
                .collect::<Vec<_>>()
        }))
        .expect("small labels")
    }

    /// Mean distance of label shares in folds from those in all rows.
    fn distance(sets: &LabelSets, folds: &FoldMap) -> f64 {
        let k = folds.k();
        let mut counts = vec![vec![0.0; sets.columns()]; k];
        let mut total = vec![0.0; sets.columns()];
        for row in 0..sets.rows() {
            for &label in sets.row(row) {
                counts[folds.fold_of(row).expect("assigned")][label as usize] += 1.0;
                total[label as usize] += 1.0;
            }
        }
        let sizes = folds.sizes();
        (0..k)
            .flat_map(|fold| (0..sets.columns()).map(move |label| (fold, label)))
            .map(|(fold, label)| {
                (counts[fold][label] / sizes[fold] as f64 - total[label] / sets.rows() as f64).abs()
            })
            .sum::<f64>()
            / (k * sets.columns()) as f64
    }

    #[test]
    fn labels_are_spread_better_than_at_random() {
        // P22: exact sizes, and at most half the distance of a random split on average.
        let (mut ours, mut second, mut random) = (0.0, 0.0, 0.0);
        for seed in 0..10 {
            let sets = sets(403, seed);
            let rows = Rows::new(403).with_label_sets(&sets);
            let scheme = MultilabelKFold::new(5).with_shuffle(Seed(seed));
            let folds = scheme.split(&rows).expect("splits");
            assert_eq!(folds.sizes(), [81, 81, 81, 80, 80]);
            ours += distance(&sets, &folds);
            let pairs = scheme.with_second_order().split(&rows).expect("splits");
            assert_eq!(pairs.sizes(), [81, 81, 81, 80, 80]);
            second += distance(&sets, &pairs);
            let shuffled =
                crate::KFold::new(5).with_shuffle(Seed(seed)).split(&rows).expect("splits");
            random += distance(&sets, &shuffled);
        }
        assert!(ours < 0.5 * random, "{ours} against {random}");
        assert!(second < 0.6 * random, "{second} against {random}");
    }

    #[test]
    fn constant_labels_are_reported() {
        let sets = LabelSets::from_indicators(
            &[true, false, true, true, false, false, true, false, true],
            3,
        )
        .expect("3 x 3");
        let folds =
            MultilabelKFold::new(2).split(&Rows::new(3).with_label_sets(&sets)).expect("splits");
        assert_eq!(
            folds.warnings(),
            [
                Warning::ConstantLabel { column: 0, count: 3, rows: 3 },
                Warning::ConstantLabel { column: 1, count: 0, rows: 3 },
            ]
        );
        assert!(MultilabelKFold::new(2).split(&Rows::new(3)).is_err());
        assert!(MultilabelKFold::new(2).split(&Rows::new(4).with_label_sets(&sets)).is_err());
        assert!(LabelSets::from_indicators(&[true; 4], 3).is_err());
        assert!(LabelSets::from_rows([[u32::MAX]]).is_err());
    }

    #[test]
    fn unequal_parts_are_exact() {
        let sets = sets(300, 5);
        let rows = Rows::new(300).with_label_sets(&sets);
        for scheme in [MultilabelHoldOut::new(0.2), MultilabelHoldOut::new(0.2).with_second_order()]
        {
            let roles =
                scheme.with_validation("0.15").with_shuffle(Seed(2)).split(&rows).expect("splits");
            assert_eq!(roles.sizes(), [195, 45, 60]);
            let zeros =
                roles.test().iter().filter(|&&row| sets.row(row as usize).contains(&0)).count();
            let all = (0..300).filter(|&row| sets.row(row).contains(&0)).count();
            assert!(zeros.abs_diff(all / 5) <= 3, "{zeros} of {all}");
        }
    }
}
