//! Hold-out in two or three parts, plain or stratified, with exact sizes.

use crate::apportion::apportion_classes;
use crate::classes::Dense;
use crate::group_holdout;
use crate::map::{Id, PartName};
use crate::shuffle::{Words, fill, fill_shuffled};
use crate::size::resolve;
use crate::stratified::deal;
use crate::stratified_group::ClassCounts;
use crate::{FoldMap, Roles, Rows, Size, Spec, SplitError, Splitter, Warning};
use firebrick_core::Seed;

/// What to do with classes that have fewer rows than there are parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Rare {
    /// Refuse them with [`SplitError::ClassTooSmall`].
    #[default]
    Error,
    /// Stratify them together, as one class.
    Pool,
    /// Split them as they come; a part may lack them.
    Ignore,
}

/// Splits into a training part and a validation part, a test part, or both.
///
/// Unshuffled: a prefix for training, then validation, then test. Shuffled: uniform over all assignments of
/// the sizes. Stratified: the shares of each class by largest remainder, the test part against the rest
/// first, then validation against training, so that part sizes are exact and each class is within one row of
/// its share at each stage. Rows that no part asks for are excluded. Time O(n + C log C).
///
/// Errors: [`SplitError::BadSizes`], [`SplitError::EmptyPart`], [`SplitError::ClassTooSmall`],
/// [`SplitError::PartTooSmall`], [`SplitError::MissingColumn`], [`SplitError::UnusedSetting`].
///
/// ```
/// use firebrick_core::Seed;
/// use firebrick_split::{HoldOut, Rows, Splitter};
///
/// let labels: Vec<u32> = (0..100).map(|row| u32::from(row % 10 == 0)).collect();
/// let roles = HoldOut::new(0.2)
///     .with_validation("0.15")
///     .with_stratified()
///     .with_shuffle(Seed(7))
///     .split(&Rows::new(100).with_labels(&labels))?;
/// assert_eq!(roles.sizes(), [65, 15, 20]);
/// assert_eq!(roles.test().iter().filter(|&&row| labels[row as usize] == 1).count(), 2);
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct HoldOut {
    train: Size,
    validation: Option<Size>,
    test: Option<Size>,
    stratified: bool,
    rare: Rare,
    min_per_class: usize,
    groups: Option<GroupUnit>,
    shuffle: Option<Seed>,
}

/// What the sizes of a hold-out by group count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum GroupUnit {
    /// Rows: 20 % of the rows, as nearly as whole groups allow.
    #[default]
    Rows,
    /// Groups: 20 % of the groups, as in scikit-learn, whatever their sizes.
    Groups,
}

impl HoldOut {
    /// A training and a test part.
    pub fn new(test: impl Into<Size>) -> Self {
        Self { test: Some(test.into()), ..Self::empty() }
    }

    /// A training and a validation part, without a test part.
    pub fn validation_only(validation: impl Into<Size>) -> Self {
        Self { validation: Some(validation.into()), ..Self::empty() }
    }

    fn empty() -> Self {
        Self {
            train: Size::Rest,
            validation: None,
            test: None,
            stratified: false,
            rare: Rare::Error,
            min_per_class: 0,
            groups: None,
            shuffle: None,
        }
    }

    /// With a validation part.
    #[must_use]
    pub fn with_validation(self, size: impl Into<Size>) -> Self {
        Self { validation: Some(size.into()), ..self }
    }

    /// With a training part of its own size; by default it is the rest.
    #[must_use]
    pub fn with_train(self, size: impl Into<Size>) -> Self {
        Self { train: size.into(), ..self }
    }

    /// With each class in the same share in all parts; needs labels.
    #[must_use]
    pub fn with_stratified(self) -> Self {
        Self { stratified: true, ..self }
    }

    /// With another rule for classes that have fewer rows than there are parts; for stratified parts without groups.
    #[must_use]
    pub fn with_rare(self, rare: Rare) -> Self {
        Self { rare, ..self }
    }

    /// With at least so many rows of each class in each part; for stratified parts without groups.
    #[must_use]
    pub fn with_min_per_class(self, rows: usize) -> Self {
        Self { min_per_class: rows, ..self }
    }

    /// With whole groups in one part; sizes count rows or groups. Needs groups.
    ///
    /// Groups are taken in random order, each if it still fits, then the best single exchange is made; what is
    /// missed is a warning. Stratified as well, sizes are rows, and groups go one by one to the part in which the
    /// sum of squared class shares grows least for its size; parts that come out empty receive the smallest group.
    #[must_use]
    pub fn with_groups(self, unit: GroupUnit) -> Self {
        Self { groups: Some(unit), ..self }
    }

    /// Rows (or groups) drawn at random under `seed`.
    #[must_use]
    pub fn with_shuffle(self, seed: Seed) -> Self {
        Self { shuffle: Some(seed), ..self }
    }

    /// Sizes of train, validation and test part among `n` rows; none of the asked parts is empty.
    pub(crate) fn sizes(&self, n: usize) -> Result<[usize; 3], SplitError> {
        let sizes = resolve(n, &self.train, self.validation.as_ref(), self.test.as_ref())?;
        let asked = [true, self.validation.is_some(), self.test.is_some()];
        for (part, name) in PARTS.into_iter().enumerate() {
            if asked[part] && sizes[part] == 0 {
                return Err(SplitError::EmptyPart { part: name, n, sizes });
            }
        }
        Ok(sizes)
    }

    fn stratify(
        &self,
        labels: &[u32],
        sizes: [usize; 3],
    ) -> Result<(Vec<u8>, Vec<Warning>), SplitError> {
        let parts = sizes.iter().filter(|&&size| size > 0).count();
        let need = parts.saturating_mul(self.min_per_class.max(1));
        let mut classes = Dense::by_appearance(labels);
        let small = classes.list(|count| count < need);
        let mut warnings = Vec::new();
        let mut pooled = None;
        match self.rare {
            _ if small.is_empty() => {}
            Rare::Error => return Err(SplitError::ClassTooSmall { need, classes: small }),
            Rare::Ignore => warnings.push(Warning::SmallClasses { k: parts, classes: small }),
            Rare::Pool => {
                let codes: std::collections::HashSet<u32> =
                    small.iter().map(|(code, _)| *code).collect();
                let stand_in = small[0].0;
                let column: Vec<u32> = labels
                    .iter()
                    .map(|code| if codes.contains(code) { stand_in } else { *code })
                    .collect();
                classes = Dense::by_appearance(&column);
                pooled = Some(column);
                warnings.push(Warning::PooledClasses { classes: small });
            }
        }
        let labels = pooled.as_deref().unwrap_or(labels);
        for (part, name) in PARTS.into_iter().enumerate() {
            let floor = self.min_per_class.saturating_mul(classes.len());
            if sizes[part] > 0 && sizes[part] < floor {
                let (size, classes, min_per_class) =
                    (sizes[part], classes.len(), self.min_per_class);
                return Err(SplitError::PartTooSmall { part: name, size, classes, min_per_class });
            }
        }
        let counts = apportion_classes(&classes.counts, sizes, self.min_per_class);
        let ids =
            deal(labels, &classes, 4, |class, part| counts[class][part], part_id, self.shuffle);
        Ok((ids, warnings))
    }
}

impl HoldOut {
    fn name(&self) -> &'static str {
        match (self.stratified, self.groups.is_some()) {
            (false, false) => "hold_out",
            (true, false) => "stratified_hold_out",
            (false, true) => "group_hold_out",
            (true, true) => "stratified_group_hold_out",
        }
    }

    /// Refuses promises about classes that only stratified parts without groups keep.
    fn check_used(&self) -> Result<(), SplitError> {
        if self.stratified && self.groups.is_none() {
            return Ok(());
        }
        let field = if self.min_per_class > 0 {
            "min_per_class"
        } else if self.rare != Rare::Error {
            "rare"
        } else {
            return Ok(());
        };
        let remedy = "it takes `with_stratified`, and no `with_groups`";
        Err(SplitError::UnusedSetting { field, scheme: self.name(), remedy })
    }

    /// Whole groups: their parts, spread over the rows.
    fn by_group(
        &self,
        rows: &Rows<'_>,
        unit: GroupUnit,
    ) -> Result<(Vec<u8>, Vec<Warning>), SplitError> {
        let name = self.name();
        let column = rows.need_groups(name)?;
        let groups = Dense::by_code(column);
        let need = 1 + usize::from(self.validation.is_some()) + usize::from(self.test.is_some());
        if groups.len() < need {
            return Err(SplitError::TooFewGroups { groups: groups.len(), need, scheme: name });
        }
        let by_groups = unit == GroupUnit::Groups && !self.stratified;
        let ones = vec![1; groups.len()];
        let weights = if by_groups { &ones } else { &groups.counts };
        let sizes = self.sizes(if by_groups { groups.len() } else { rows.n })?;
        // The last codes come first, so that without a shuffle the test part is at the end.
        let mut order: Vec<u32> = (0..groups.len() as u32).rev().collect();
        if let Some(seed) = self.shuffle {
            Words::new(seed.stream("split/group_hold_out")).shuffle(&mut order);
        }
        let parts = if self.stratified {
            let labels = rows.need_labels(name)?;
            let classes = Dense::by_appearance(labels);
            let counts = ClassCounts::new(labels, &classes, column, &groups);
            group_holdout::stratified(&counts, &classes, &groups.counts, &order, sizes)
        } else {
            group_holdout::fill(weights, &order, sizes)
        };
        let mut got = [0usize; 3];
        for (group, &part) in parts.iter().enumerate() {
            if part < 3 {
                got[usize::from(part)] += weights[group];
            }
        }
        let mut warnings = Vec::new();
        for (part, name) in PARTS.into_iter().enumerate() {
            if sizes[part] > 0 && got[part] == 0 {
                return Err(SplitError::EmptyPart { part: name, n: rows.n, sizes: got });
            }
            if got[part] != sizes[part] {
                warnings.push(Warning::SizeMissed {
                    part: name,
                    asked: sizes[part],
                    got: got[part],
                });
            }
        }
        Ok((groups.spread(column, &parts), warnings))
    }
}

const PARTS: [PartName; 3] = [PartName::Train, PartName::Validation, PartName::Test];

/// Parts 0, 1, 2 are train, validation and test; 3 is left out.
fn part_id(part: usize) -> u8 {
    if part < 3 { part as u8 } else { u8::EXCLUDED }
}

impl Splitter for HoldOut {
    type Output = Roles;

    fn split(&self, rows: &Rows<'_>) -> Result<Roles, SplitError> {
        rows.check()?;
        self.check_used()?;
        let name = self.name();
        let mut warnings = rows.ignored(name, self.groups.is_some(), false);
        if let Some(unit) = self.groups {
            let (ids, more) = self.by_group(rows, unit)?;
            warnings.extend(more);
            return Ok(Roles::new(FoldMap::new(3, ids, self.spec(), rows.fingerprint, warnings)));
        }
        let sizes = self.sizes(rows.n)?;
        let ids = if self.stratified {
            let (ids, more) = self.stratify(rows.need_labels(name)?, sizes)?;
            warnings.extend(more);
            ids
        } else {
            let left_out = rows.n - sizes.iter().sum::<usize>();
            let parts = sizes.into_iter().chain([left_out]).enumerate();
            let runs = parts.map(|(part, size)| (part_id(part), size));
            let mut ids = vec![0; rows.n];
            match self.shuffle {
                None => fill(&mut ids, runs),
                Some(seed) => fill_shuffled(&mut ids, runs, seed, "split/hold_out"),
            }
            ids
        };
        Ok(Roles::new(FoldMap::new(3, ids, self.spec(), rows.fingerprint, warnings)))
    }

    fn spec(&self) -> Spec {
        let mut spec = Spec::new(self.name(), self.shuffle).with("train", &self.train);
        if let Some(size) = &self.validation {
            spec = spec.with("validation", size);
        }
        if let Some(size) = &self.test {
            spec = spec.with("test", size);
        }
        if let Some(unit) = self.groups {
            spec = spec.with("groups", format!("{unit:?}").to_lowercase());
        } else if self.stratified {
            spec = spec.with("rare", format!("{:?}", self.rare).to_lowercase());
            spec = spec.with("min_per_class", self.min_per_class);
        }
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

    #[test]
    fn unshuffled_parts_are_blocks() {
        let roles =
            HoldOut::new(2usize).with_validation(3usize).split(&Rows::new(8)).expect("splits");
        assert_eq!(roles.train(), [0, 1, 2]);
        assert_eq!(roles.validation(), [3, 4, 5]);
        assert_eq!(roles.test(), [6, 7]);
        let left = HoldOut::new(2usize).with_train(5usize).split(&Rows::new(8)).expect("splits");
        assert_eq!(
            (left.train(), left.test(), left.map().excluded()),
            (vec![0, 1, 2, 3, 4], vec![5, 6], vec![7])
        );
    }

    #[test]
    fn empty_parts_are_refused() {
        for (split, n) in [
            (HoldOut::new(0usize), 5),
            (HoldOut::new(5usize), 5),
            (HoldOut::new(0.5), 1),
            (HoldOut::new(1usize).with_validation("0.01"), 5),
        ] {
            let error = split.split(&Rows::new(n)).expect_err("a part is empty");
            assert!(matches!(error, SplitError::EmptyPart { .. }), "{error}");
        }
        let error = HoldOut::new(5usize).split(&Rows::new(5)).expect_err("train is empty");
        assert_eq!(
            error.to_string(),
            "the train part would be empty: 5 rows, sizes train 0, validation 0, test 5"
        );
    }

    #[test]
    fn rare_classes_are_refused_pooled_or_ignored() {
        let mut labels = vec![0; 50];
        labels.extend([1, 2, 3, 3]);
        let rows = Rows::new(54).with_labels(&labels);
        let split = HoldOut::new(0.25).with_stratified();
        let error = split.split(&rows).expect_err("classes of one row");
        assert_eq!(error, SplitError::ClassTooSmall { need: 2, classes: vec![(1, 1), (2, 1)] });
        let pooled = split.clone().with_rare(Rare::Pool).split(&rows).expect("splits");
        assert_eq!(
            pooled.map().warnings(),
            [Warning::PooledClasses { classes: vec![(1, 1), (2, 1)] }]
        );
        assert_eq!(pooled.sizes(), [40, 0, 14]);
        assert!(split.clone().with_rare(Rare::Ignore).split(&rows).is_ok());
        let error =
            split.with_rare(Rare::Pool).with_min_per_class(8).with_rare(Rare::Ignore).split(&rows);
        assert!(
            matches!(error, Err(SplitError::PartTooSmall { size: 14, classes: 4, .. })),
            "{error:?}"
        );
    }

    #[test]
    fn promises_that_nothing_keeps_are_refused() {
        let (labels, groups) = ([0, 0, 0, 1, 1, 1, 0, 1], [0, 0, 1, 1, 2, 2, 3, 3]);
        let rows = Rows::new(8).with_labels(&labels).with_groups(&groups);
        let plain = HoldOut::new(0.25);
        let both = plain.clone().with_stratified().with_groups(GroupUnit::Rows);
        for (split, scheme) in [
            (plain.clone(), "hold_out"),
            (plain.clone().with_groups(GroupUnit::Groups), "group_hold_out"),
            (both, "stratified_group_hold_out"),
        ] {
            assert!(split.split(&rows).is_ok());
            let error = split.clone().with_min_per_class(1).split(&rows).expect_err("unused");
            assert!(
                matches!(error, SplitError::UnusedSetting { field: "min_per_class", scheme: s, .. } if s == scheme),
                "{error}"
            );
            for rare in [Rare::Pool, Rare::Ignore] {
                let error = split.clone().with_rare(rare).split(&rows).expect_err("unused");
                assert!(
                    matches!(error, SplitError::UnusedSetting { field: "rare", .. }),
                    "{error}"
                );
            }
        }
        let used = plain.with_stratified().with_rare(Rare::Pool).with_min_per_class(1);
        assert!(used.split(&rows).is_ok());
    }

    #[test]
    fn a_minimum_per_class_is_kept() {
        let mut labels = vec![0; 1000];
        labels.extend([1; 4]);
        let rows = Rows::new(1004).with_labels(&labels);
        let split = HoldOut::new("0.05").with_stratified().with_shuffle(Seed(1));
        let huge = split.clone().with_min_per_class(usize::MAX);
        assert!(matches!(huge.split(&rows), Err(SplitError::ClassTooSmall { .. })));
        let pooled = huge.with_rare(Rare::Pool).split(&rows);
        assert!(matches!(pooled, Err(SplitError::PartTooSmall { .. })));
        let ones = |roles: &Roles| roles.test().iter().filter(|&&row| row >= 1000).count();
        assert_eq!(ones(&split.split(&rows).expect("splits")), 0);
        let kept = split.with_min_per_class(2).split(&rows).expect("splits");
        assert_eq!((ones(&kept), kept.sizes()), (2, [953, 0, 51]));
    }
}
