//! The leak audit: what makes a held-out part look better than new data would.
//!
//! After S. Kapoor, A. Narayanan, "Leakage and the reproducibility crisis in machine-learning-based science",
//! Patterns 2023: duplicates across parts (1.4), illegitimate features (2), time (3.1), groups (3.2), sampling (3.3).

mod adversarial;
mod columns;
mod duplicates;
mod model;
mod near;

use crate::{FoldMap, PartName, Roles, Rows, SplitError};
use firebrick_core::Seed;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// Nothing to object to.
    Clean,
    /// Look at it before believing the result.
    Warning,
    /// The held-out part leaks.
    Error,
    /// Not run, for the reason in `not_checked`.
    Skipped,
}

/// One check of the audit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// What it says.
    pub verdict: Verdict,
    /// How many rows (or groups, or features) it objects to.
    pub count: usize,
    /// Their share of those looked at.
    pub share: f64,
    /// Up to ten examples.
    pub examples: Vec<String>,
    /// Seconds it took.
    pub seconds: f64,
    /// What it did not look at.
    pub not_checked: String,
}

impl Check {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            verdict: Verdict::Clean,
            count: 0,
            share: 0.0,
            examples: Vec::new(),
            seconds: 0.0,
            not_checked: String::new(),
        }
    }

    fn skipped(name: &str, reason: &str) -> Self {
        Self { verdict: Verdict::Skipped, not_checked: reason.into(), ..Self::new(name) }
    }

    fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < 10 {
            self.examples.push(text());
        }
    }

    fn of(mut self, count: usize, looked_at: usize, verdict: Verdict) -> Self {
        self.count = count;
        self.share = count as f64 / looked_at.max(1) as f64;
        if count > 0 {
            self.verdict = verdict;
        }
        self
    }
}

/// All checks, and the rows that belong together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditReport {
    /// Number of rows.
    pub rows: usize,
    /// The checks in the order in which they ran.
    pub checks: Vec<Check>,
    /// Pairs of equal or nearly equal rows in different parts.
    pub pairs: Vec<(u32, u32)>,
}

impl AuditReport {
    /// The worst verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let has = |verdict| self.checks.iter().any(|check| check.verdict == verdict);
        [Verdict::Error, Verdict::Warning].into_iter().find(|&v| has(v)).unwrap_or(Verdict::Clean)
    }

    /// The check called `name`.
    #[must_use]
    pub fn check(&self, name: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.name == name)
    }

    /// Groups that keep together what belongs together: the given groups, merged wherever the audit found equal or
    /// nearly equal rows. Split by these with a group splitter and the duplicates are on one side.
    ///
    /// Without groups every row begins as its own. Codes are the lowest row number of each merged group.
    ///
    /// # Errors
    /// [`SplitError::LengthMismatch`] when there are not as many groups as rows.
    pub fn fix(&self, groups: Option<&[u32]>) -> Result<Vec<u32>, SplitError> {
        let mut parents: Vec<u32> = (0..self.rows as u32).collect();
        if let Some(groups) = groups {
            if groups.len() != self.rows {
                let len = groups.len();
                return Err(SplitError::LengthMismatch { column: "groups", len, n: self.rows });
            }
            let mut first = std::collections::HashMap::new();
            for (row, &group) in groups.iter().enumerate() {
                let root = *first.entry(group).or_insert(row as u32);
                parents[row] = root;
            }
        }
        for &(a, b) in &self.pairs {
            let (a, b) = (root(&mut parents, a), root(&mut parents, b));
            let (low, high) = (a.min(b), a.max(b));
            parents[high as usize] = low;
        }
        Ok((0..self.rows as u32).map(|row| root(&mut parents, row)).collect())
    }
}

/// The representative of a row, paths halved on the way.
fn root(parents: &mut [u32], mut row: u32) -> u32 {
    while parents[row as usize] != row {
        let above = parents[parents[row as usize] as usize];
        parents[row as usize] = above;
        row = above;
    }
    row
}

impl std::fmt::Display for AuditReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for check in &self.checks {
            let verdict = match check.verdict {
                Verdict::Clean => "clean",
                Verdict::Warning => "WARNING",
                Verdict::Error => "ERROR",
                Verdict::Skipped => "skipped",
            };
            write!(f, "{verdict:8}{:24}", check.name)?;
            if check.verdict == Verdict::Skipped {
                writeln!(f, "{}", check.not_checked)?;
                continue;
            }
            writeln!(f, "{} ({:.3} %), {:.3} s", check.count, 100.0 * check.share, check.seconds)?;
            for example in &check.examples {
                writeln!(f, "        {example}")?;
            }
            if !check.not_checked.is_empty() {
                writeln!(f, "        not checked: {}", check.not_checked)?;
            }
        }
        Ok(())
    }
}

/// An audit of a split: give it what there is, and run it.
///
/// ```
/// use firebrick_split::{Audit, HoldOut, Rows, Splitter, Verdict};
///
/// // The last row repeats the first, on the other side.
/// let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1.0, 2.0];
/// let roles = HoldOut::new(1usize).split(&Rows::new(4))?;
/// let report = Audit::of_roles(&roles).with_features(&values, 2).run()?;
/// assert_eq!(report.check("exact duplicates").map(|c| (c.verdict, c.count)), Some((Verdict::Error, 1)));
/// assert_eq!(report.fix(None)?, [0, 1, 2, 0]);
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Audit<'a> {
    /// What the caller calls labels and groups, by code, and times, by row.
    names: [&'a [String]; 3],
    /// 0 for training, 1 and 2 for held-out parts, anything else for rows in none.
    parts: Vec<u8>,
    features: Option<(&'a [f32], usize)>,
    texts: Option<&'a [&'a str]>,
    rows: Rows<'a>,
    horizon: u64,
    time_split: bool,
    seed: Seed,
}

impl<'a> Audit<'a> {
    fn new(parts: Vec<u8>) -> Self {
        Self {
            rows: Rows::new(parts.len()),
            parts,
            names: [&[]; 3],
            features: None,
            texts: None,
            horizon: 0,
            time_split: false,
            seed: Seed(0),
        }
    }

    /// Training against validation and test part.
    #[must_use]
    pub fn of_roles(roles: &Roles) -> Self {
        let part = |row| roles.map().fold_of(row).map_or(u8::MAX, |part| part as u8);
        Self::new((0..roles.map().rows()).map(part).collect())
    }

    /// Fold `fold` against all others.
    #[must_use]
    pub fn of_fold(map: &FoldMap, fold: usize) -> Self {
        let part = |row| match map.fold_of(row) {
            Some(other) if other == fold => 1,
            Some(_) => 0,
            None => u8::MAX,
        };
        Self::new((0..map.rows()).map(part).collect())
    }

    /// One split of any scheme over `n` rows.
    ///
    /// # Errors
    /// [`SplitError::RowsDiffer`] when a row of the split is not below `n`.
    pub fn of_split(split: &crate::Split, n: usize) -> Result<Self, SplitError> {
        let mut parts = vec![u8::MAX; n];
        for (rows, part) in [(&split.train, 0), (&split.valid, 1)] {
            for row in rows.iter() {
                let what = "the audit";
                let beyond = SplitError::RowsDiffer { what, len: n, n: row as usize + 1 };
                *parts.get_mut(row as usize).ok_or(beyond)? = part;
            }
        }
        Ok(Self::new(parts))
    }

    /// With a row-major matrix of features.
    #[must_use]
    pub fn with_features(self, values: &'a [f32], columns: usize) -> Self {
        Self { features: Some((values, columns)), ..self }
    }

    /// With a text for each row.
    #[must_use]
    pub fn with_texts(self, texts: &'a [&'a str]) -> Self {
        Self { texts: Some(texts), ..self }
    }

    /// With labels, groups and times, as far as `rows` has them.
    #[must_use]
    pub fn with_rows(self, rows: &Rows<'a>) -> Self {
        Self { rows: *rows, ..self }
    }

    /// With the caller's words for the examples: the name of each label code and of each group code, and the time of
    /// each row as it was written. What a list does not hold is shown as a number.
    #[must_use]
    pub fn with_names(
        self,
        labels: &'a [String],
        groups: &'a [String],
        times: &'a [String],
    ) -> Self {
        Self { names: [labels, groups, times], ..self }
    }

    /// For a split by time: training must end more than `horizon` before the held-out rows begin.
    #[must_use]
    pub fn with_time_split(self, horizon: u64) -> Self {
        Self { horizon, time_split: true, ..self }
    }

    /// With another seed for the samples that some checks draw.
    #[must_use]
    pub fn with_seed(self, seed: Seed) -> Self {
        Self { seed, ..self }
    }

    fn check_input(&self) -> Result<(), SplitError> {
        let n = self.parts.len();
        if let Some((values, columns)) = self.features {
            firebrick_core::check::at_least("columns", columns, 1)?;
            if n.checked_mul(columns) != Some(values.len()) {
                return Err(SplitError::LengthMismatch {
                    column: "features",
                    len: values.len(),
                    n: n * columns,
                });
            }
        }
        if let Some(texts) = self.texts
            && texts.len() != n
        {
            return Err(SplitError::LengthMismatch { column: "texts", len: texts.len(), n });
        }
        if self.rows.n != n {
            return Err(SplitError::RowsDiffer { what: "the audit", len: self.rows.n, n });
        }
        self.rows.check()?;
        for (part, wanted) in [(PartName::Train, 0..=0), (PartName::Validation, 1..=2)] {
            if !self.parts.iter().any(|part| wanted.contains(part)) {
                return Err(SplitError::NoSuchPart { part });
            }
        }
        Ok(())
    }

    /// What a label is called.
    fn label(&self, code: u32) -> String {
        let name = self.names[0].get(code as usize);
        name.map_or_else(|| code.to_string(), |name| format!("{name:?}"))
    }

    /// What a group is called.
    fn group(&self, code: u32) -> String {
        let name = self.names[1].get(code as usize);
        name.map_or_else(|| code.to_string(), |name| format!("{name:?}"))
    }

    /// How the time of a row was written.
    fn time(&self, row: usize, time: i64) -> String {
        self.names[2].get(row).cloned().unwrap_or_else(|| time.to_string())
    }

    fn held_out(&self, row: usize) -> bool {
        matches!(self.parts[row], 1 | 2)
    }

    fn across(&self, a: usize, b: usize) -> bool {
        self.parts[a] != self.parts[b] && self.parts[a] <= 2 && self.parts[b] <= 2
    }

    /// Only the search for equal rows across parts and equal rows with different labels.
    ///
    /// # Errors
    /// As [`Audit::run`].
    pub fn exact_duplicates(&self) -> Result<AuditReport, SplitError> {
        self.check_input()?;
        let start = Instant::now();
        let mut report =
            AuditReport { rows: self.parts.len(), checks: Vec::new(), pairs: Vec::new() };
        report.checks = duplicates::run(self, &mut report.pairs);
        let seconds = start.elapsed().as_secs_f64() / report.checks.len() as f64;
        report.checks.iter_mut().for_each(|check| check.seconds = seconds);
        Ok(report)
    }

    /// Runs every check for which there is input; the others are reported as skipped.
    ///
    /// # Errors
    /// [`SplitError::LengthMismatch`], [`SplitError::NoSuchPart`] when the split has no training or no held-out rows.
    pub fn run(&self) -> Result<AuditReport, SplitError> {
        self.check_input()?;
        let mut report =
            AuditReport { rows: self.parts.len(), checks: Vec::new(), pairs: Vec::new() };
        type Run<'b> = &'b dyn Fn(&mut Vec<(u32, u32)>) -> Vec<Check>;
        let steps: [Run<'_>; 6] = [
            &|pairs| duplicates::run(self, pairs),
            &|pairs| near::run(self, pairs),
            &|_| vec![columns::groups(self), columns::times(self)],
            &|_| vec![columns::order(self), columns::new_labels(self)],
            &|_| vec![model::single_feature(self)],
            &|_| vec![adversarial::adversarial(self)],
        ];
        for step in steps {
            let start = Instant::now();
            let mut checks = step(&mut report.pairs);
            let seconds = start.elapsed().as_secs_f64() / checks.len().max(1) as f64;
            checks.iter_mut().for_each(|check| check.seconds = seconds);
            report.checks.extend(checks);
        }
        report.pairs.sort_unstable();
        report.pairs.dedup();
        Ok(report)
    }
}

#[cfg(test)]
mod tests;
