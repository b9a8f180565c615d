//! Leave p rows or p groups out, in lexicographic order, each split made when it is asked for.

use crate::classes::Dense;
use crate::splitter::no_split;
use crate::{RowSet, Rows, Spec, Split, SplitError, Splits, Splitter, Warning};
use firebrick_core::Seed;

/// Splits that a scheme may give before it must be told that they are meant.
pub const DEFAULT_CAP: u128 = 100_000;

/// The number of combinations of `q` out of `n`, or none when it exceeds 128 bits.
#[must_use]
pub fn combinations(n: u64, q: u64) -> Option<u128> {
    if q > n {
        return Some(0);
    }
    let q = q.min(n - q);
    let mut count = 1u128;
    for i in 0..u128::from(q) {
        // Exact at every step: the product of i + 1 consecutive numbers is divisible by (i + 1)!.
        let factor = u128::from(n) - i;
        let common = gcd(count, i + 1);
        let (left, right) = (count / common, (i + 1) / common);
        count = left.checked_mul(factor / right)?;
    }
    Some(count)
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Combination number `index` of `q` out of `n` in lexicographic order.
pub(crate) fn combination(n: usize, q: usize, mut index: u128) -> Vec<usize> {
    let mut chosen = Vec::with_capacity(q);
    let mut next = 0;
    for place in 0..q {
        // Skip first elements while all combinations behind them come before `index`.
        while let Some(behind) = combinations((n - next - 1) as u64, (q - place - 1) as u64) {
            if index < behind {
                break;
            }
            index -= behind;
            next += 1;
        }
        chosen.push(next);
        next += 1;
    }
    chosen
}

/// Refuses more combinations than the cap.
pub(crate) fn check_cap(n: usize, q: usize, cap: u128) -> Result<usize, SplitError> {
    let count = combinations(n as u64, q as u64).unwrap_or(u128::MAX);
    if count > cap {
        return Err(SplitError::TooManySplits { count, cap });
    }
    usize::try_from(count).map_err(|_| SplitError::TooManySplits { count, cap })
}

/// Tests every combination of `p` rows: C(n, p) splits in lexicographic order.
///
/// Errors: [`SplitError::NoRows`], a `ConfigError` for `p` outside 1 to n - 1, [`SplitError::TooManySplits`] above
/// the cap of 100,000.
///
/// ```
/// use firebrick_split::{LeavePOut, Rows, Splits, Splitter};
///
/// let splits = LeavePOut::new(2).split(&Rows::new(4))?;
/// assert_eq!(splits.count(), 6);
/// assert_eq!(splits.get(4)?.valid.to_vec(), [1, 3]);
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeavePOut {
    p: usize,
    cap: u128,
}

impl LeavePOut {
    /// Every combination of `p` rows; `p = 1` is leave one out.
    #[must_use]
    pub fn new(p: usize) -> Self {
        Self { p, cap: DEFAULT_CAP }
    }

    /// Leave one out.
    #[must_use]
    pub fn one() -> Self {
        Self { p: 1, cap: u128::from(u32::MAX) }
    }

    /// With more splits allowed.
    #[must_use]
    pub fn with_cap(self, cap: u128) -> Self {
        Self { cap, ..self }
    }
}

/// Tests every combination of `p` groups, in lexicographic order of ascending codes.
///
/// Errors: [`SplitError::MissingColumn`], [`SplitError::TooFewGroups`] when `p` is not below the number of groups,
/// a `ConfigError` for `p = 0`, [`SplitError::TooManySplits`].
///
/// ```
/// use firebrick_split::{LeavePGroupsOut, Rows, Splits, Splitter};
///
/// let splits = LeavePGroupsOut::one().split(&Rows::new(5).with_groups(&[7, 3, 7, 3, 9]))?;
/// assert_eq!(splits.get(0)?.valid.to_vec(), [1, 3]);
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeavePGroupsOut {
    p: usize,
    cap: u128,
}

impl LeavePGroupsOut {
    /// Every combination of `p` groups.
    #[must_use]
    pub fn new(p: usize) -> Self {
        Self { p, cap: DEFAULT_CAP }
    }

    /// Leave one group out.
    #[must_use]
    pub fn one() -> Self {
        Self { p: 1, cap: u128::from(u32::MAX) }
    }

    /// With more splits allowed.
    #[must_use]
    pub fn with_cap(self, cap: u128) -> Self {
        Self { cap, ..self }
    }
}

/// Combinations of left-out rows or groups.
#[derive(Debug, Clone, PartialEq)]
pub struct LeaveOutSplits {
    n: usize,
    p: usize,
    count: usize,
    /// Group number of each row and number of groups; none where rows are left out one by one.
    groups: Option<(Vec<u32>, usize)>,
    warnings: Vec<Warning>,
}

impl Splitter for LeavePOut {
    type Output = LeaveOutSplits;

    fn split(&self, rows: &Rows<'_>) -> Result<LeaveOutSplits, SplitError> {
        rows.check()?;
        if self.p == 0 || self.p >= rows.n {
            let expected = format!("in [1, {}] for {} rows", rows.n.saturating_sub(1), rows.n);
            return Err(firebrick_core::ConfigError::new("p", self.p, expected).into());
        }
        let count = check_cap(rows.n, self.p, self.cap)?;
        let warnings = rows.ignored("leave_p_out", false, false);
        Ok(LeaveOutSplits { n: rows.n, p: self.p, count, groups: None, warnings })
    }

    fn spec(&self) -> Spec {
        Spec::new("leave_p_out", None).with("p", self.p)
    }

    fn reseeded(&self, _: Seed) -> Option<Self> {
        None
    }
}

impl Splitter for LeavePGroupsOut {
    type Output = LeaveOutSplits;

    fn split(&self, rows: &Rows<'_>) -> Result<LeaveOutSplits, SplitError> {
        rows.check()?;
        let column = rows.need_groups("leave_p_groups_out")?;
        firebrick_core::check::at_least("p", self.p, 1)?;
        let groups = Dense::by_code(column);
        if self.p >= groups.len() {
            let need = self.p.saturating_add(1);
            return Err(SplitError::TooFewGroups {
                groups: groups.len(),
                need,
                scheme: "leave_p_groups_out",
            });
        }
        let count = check_cap(groups.len(), self.p, self.cap)?;
        let numbers = column.iter().map(|&code| groups.number(code) as u32).collect();
        let warnings = rows.ignored("leave_p_groups_out", true, false);
        Ok(LeaveOutSplits {
            n: rows.n,
            p: self.p,
            count,
            groups: Some((numbers, groups.len())),
            warnings,
        })
    }

    fn spec(&self) -> Spec {
        Spec::new("leave_p_groups_out", None).with("p", self.p)
    }

    fn reseeded(&self, _: Seed) -> Option<Self> {
        None
    }
}

impl Splits for LeaveOutSplits {
    fn rows(&self) -> usize {
        self.n
    }

    fn count(&self) -> usize {
        self.count
    }

    fn get(&self, index: usize) -> Result<Split, SplitError> {
        if index >= self.count {
            return Err(no_split(index, self.count));
        }
        let Some((numbers, groups)) = &self.groups else {
            let out: Vec<u32> = combination(self.n, self.p, index as u128)
                .into_iter()
                .map(|row| row as u32)
                .collect();
            // The rows between those left out.
            let starts = std::iter::once(0).chain(out.iter().map(|row| row + 1));
            let ends = out.iter().copied().chain([self.n as u32]);
            let train: RowSet =
                starts.zip(ends).map(|(start, end)| start..end).collect::<Vec<_>>().into();
            return Ok(Split { train, valid: out.into() });
        };
        let mut out = vec![false; *groups];
        for group in combination(*groups, self.p, index as u128) {
            out[group] = true;
        }
        let (valid, train): (Vec<u32>, Vec<u32>) =
            (0..self.n as u32).partition(|&row| out[numbers[row as usize] as usize]);
        Ok(Split { train: train.into(), valid: valid.into() })
    }

    fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combinations_come_in_order_and_in_full() {
        for (n, q) in [(1, 1), (6, 3), (7, 2), (9, 9), (10, 1)] {
            let count = combinations(n as u64, q as u64).expect("small") as usize;
            let all: Vec<Vec<usize>> = (0..count).map(|i| combination(n, q, i as u128)).collect();
            assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(all.iter().all(|c| c.len() == q && c.is_sorted() && c.iter().all(|&x| x < n)));
        }
        assert_eq!(combinations(100, 50), Some(100_891_344_545_564_193_334_812_497_256));
        assert_eq!(combinations(3, 4), Some(0));
        assert_eq!(combinations(1000, 500), None);
    }

    #[test]
    fn what_cannot_be_left_out_is_refused() {
        for p in [0, 5, 6] {
            let error = LeavePOut::new(p).split(&Rows::new(5)).expect_err("must be refused");
            assert_eq!(error.to_string(), format!("`p` must be in [1, 4] for 5 rows, got {p}"));
        }
        let many = LeavePOut::new(3).split(&Rows::new(200)).expect_err("too many");
        assert_eq!(many, SplitError::TooManySplits { count: 1_313_400, cap: 100_000 });
        assert!(LeavePOut::new(3).with_cap(2_000_000).split(&Rows::new(200)).is_ok());
        assert!(LeavePOut::new(500).split(&Rows::new(1000)).is_err());
        let groups = [4, 4, 4];
        let rows = Rows::new(3).with_groups(&groups);
        let one = LeavePGroupsOut::one().split(&rows).expect_err("one group");
        assert_eq!(
            one,
            SplitError::TooFewGroups { groups: 1, need: 2, scheme: "leave_p_groups_out" }
        );
        assert!(LeavePGroupsOut::new(0).split(&rows).is_err());
        assert!(LeavePOut::one().split(&Rows::new(1)).is_err());
    }

    #[test]
    fn leave_one_out_is_k_fold_with_n_folds() {
        let loo = LeavePOut::one().split(&Rows::new(7)).expect("splits");
        let folds = crate::KFold::new(7).split(&Rows::new(7)).expect("splits");
        assert!(loo.iter().eq(folds.iter()));
    }
}
