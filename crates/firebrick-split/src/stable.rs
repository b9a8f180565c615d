//! Splits that store nothing: by the hash of an identity, and by a permutation that is computed.

use crate::{PartName, Size, SplitError};
use firebrick_core::{Philox, Seed};

/// Assigns each row to a part by a hash of its identity, so that rows that come and go move no others.
///
/// A row is in the test part when `h(seed, id) < 2^64 share`. Sizes hold in expectation only, with deviation
/// `sqrt(n p (1 - p))`.
///
/// ```
/// use firebrick_core::Seed;
/// use firebrick_split::{HashSplit, PartName};
///
/// let split = HashSplit::new(0.2, Seed(7))?;
/// let test = (0..10_000u64).filter(|id| split.part(&id.to_le_bytes()) == PartName::Test).count();
/// assert!((1_800..2_200).contains(&test)); // five deviations of 40
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashSplit {
    /// Hashes below the first are test rows, below the second validation rows; 2^64 is "all".
    bounds: [u128; 2],
    seed: Seed,
}

impl HashSplit {
    /// A test part of the given share, the rest for training.
    ///
    /// # Errors
    /// [`SplitError::BadSizes`] unless the share is strictly between 0 and 1.
    pub fn new(test: impl Into<Size>, seed: Seed) -> Result<Self, SplitError> {
        let test = bound(&test.into())?;
        Ok(Self { bounds: [test, test], seed })
    }

    /// With a validation part of the given share of all rows.
    ///
    /// # Errors
    /// [`SplitError::BadSizes`] unless the share is strictly between 0 and 1 and leaves rows for training.
    pub fn with_validation(self, validation: impl Into<Size>) -> Result<Self, SplitError> {
        let end = self.bounds[0] + bound(&validation.into())?;
        // Both shares were rounded down, by less than one each.
        if end + 2 > 1 << 64 {
            return Err(SplitError::BadSizes {
                reason: "nothing would be left to train on".into(),
            });
        }
        Ok(Self { bounds: [self.bounds[0], end], ..self })
    }

    /// The part of the row with this identity.
    #[must_use]
    pub fn part(&self, id: &[u8]) -> PartName {
        let words = Philox::new(self.seed.0, crate::hash_bytes(id)).block_at(0);
        let hash = u128::from(words[0]) | u128::from(words[1]) << 32;
        if hash < self.bounds[0] {
            PartName::Test
        } else if hash < self.bounds[1] {
            PartName::Validation
        } else {
            PartName::Train
        }
    }
}

/// A share of 2^64, rounded down.
fn bound(size: &Size) -> Result<u128, SplitError> {
    let reason =
        || SplitError::BadSizes { reason: format!("a hash split takes shares, got {size}") };
    let (num, den) = size.ratio()?.ok_or_else(reason)?;
    Ok((u128::from(num) << 64) / u128::from(den))
}

/// K-fold without memory: fold `i` of row `r` is `p(r) k div n` for a computed permutation `p`.
///
/// The permutation is a Feistel network of 12 rounds over the least even number of bits that holds `n`, walked
/// until it falls below `n`; every row's fold is a function of (seed, n, row) alone, and fold sizes differ by at
/// most one. For 10^9 rows and more, or rows that live elsewhere. It yields even permutations only and is not
/// uniform over assignments, which nobody can see for the 65,536 rows and more that it accepts.
///
/// Sources: M. Luby, C. Rackoff 1988; J. Black, P. Rogaway, "Ciphers with arbitrary finite domains", 2002.
///
/// ```
/// use firebrick_core::Seed;
/// use firebrick_split::FeistelFolds;
///
/// let folds = FeistelFolds::new(100_003, 5, Seed(7))?;
/// assert_eq!(folds.sizes(), [20_001, 20_001, 20_001, 20_000, 20_000]);
/// assert_eq!(folds.rows_of(2).count(), 20_001);
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeistelFolds {
    n: u64,
    k: u64,
    half: u32,
    keys: [u64; ROUNDS],
}

const ROUNDS: usize = 12;

impl FeistelFolds {
    /// `k` folds over `n` rows.
    ///
    /// # Errors
    /// [`SplitError::BadFolds`], and a `ConfigError` for fewer than 65,536 rows, where [`KFold`](crate::KFold) is
    /// exact, or more than 2^62.
    pub fn new(n: u64, k: usize, seed: Seed) -> Result<Self, SplitError> {
        if !(1 << 16..=1 << 62).contains(&n) {
            let expected = "in [65536, 2^62]; use KFold for fewer rows";
            return Err(firebrick_core::ConfigError::new("n", n, expected).into());
        }
        if !(2..=crate::MAX_FOLDS).contains(&k) {
            return Err(SplitError::BadFolds { k, n: n as usize, max: crate::MAX_FOLDS });
        }
        let half = (64 - (n - 1).leading_zeros()).div_ceil(2);
        let mut stream = seed.stream("split/feistel");
        let keys = std::array::from_fn(|_| stream.next_u64());
        Ok(Self { n, k: k as u64, half, keys })
    }

    #[inline]
    fn round(&self, half: u64, key: u64) -> u64 {
        // The multiplication and shifts of a 64-bit finalizer (splitmix64).
        let mut x = half.wrapping_add(key);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) & ((1 << self.half) - 1)
    }

    /// The place of `row` in the permutation; `row` must be below `n`.
    #[inline]
    fn place(&self, row: u64) -> u64 {
        let mask = (1u64 << self.half) - 1;
        let mut value = row;
        loop {
            let (mut left, mut right) = (value >> self.half, value & mask);
            for &key in &self.keys {
                (left, right) = (right, left ^ self.round(right, key));
            }
            value = left << self.half | right;
            if value < self.n {
                return value;
            }
        }
    }

    /// The row at `place` of the permutation.
    #[inline]
    fn row_at(&self, place: u64) -> u64 {
        let mask = (1u64 << self.half) - 1;
        let mut value = place;
        loop {
            let (mut left, mut right) = (value >> self.half, value & mask);
            for &key in self.keys.iter().rev() {
                (left, right) = (right ^ self.round(left, key), left);
            }
            value = left << self.half | right;
            if value < self.n {
                return value;
            }
        }
    }

    /// The fold of a row; none for a row that does not exist.
    #[must_use]
    #[inline]
    pub fn fold_of(&self, row: u64) -> Option<usize> {
        if row >= self.n {
            return None;
        }
        // Blocks of the permuted places, the first `n mod k` of them one longer, as in K-fold.
        let (size, longer) = (self.n / self.k, self.n % self.k);
        let place = self.place(row);
        let cut = longer * (size + 1);
        let fold = if place < cut { place / (size + 1) } else { longer + (place - cut) / size };
        Some(fold as usize)
    }

    /// Number of rows in each fold.
    #[must_use]
    pub fn sizes(&self) -> Vec<u64> {
        (0..self.k).map(|fold| self.n / self.k + u64::from(fold < self.n % self.k)).collect()
    }

    /// The rows of a fold, in no particular order; none for a fold that does not exist.
    pub fn rows_of(&self, fold: usize) -> impl Iterator<Item = u64> + '_ {
        let fold = (fold as u64).min(self.k);
        let start = |fold: u64| fold * (self.n / self.k) + fold.min(self.n % self.k);
        let places = if fold < self.k { start(fold)..start(fold + 1) } else { 0..0 };
        places.map(|place| self.row_at(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_come_and_go_move_no_others() {
        let split =
            HashSplit::new("0.2", Seed(1)).and_then(|s| s.with_validation("0.1")).expect("valid");
        let parts: Vec<PartName> = (0..40_000u64).map(|id| split.part(&id.to_le_bytes())).collect();
        for (id, part) in parts.iter().enumerate().rev().step_by(7) {
            assert_eq!(split.part(&(id as u64).to_le_bytes()), *part);
        }
        // Five deviations: sqrt(40000 * 0.2 * 0.8) = 80, sqrt(40000 * 0.1 * 0.9) = 60.
        let count = |wanted| parts.iter().filter(|&&part| part == wanted).count();
        assert!(count(PartName::Test).abs_diff(8_000) <= 400);
        assert!(count(PartName::Validation).abs_diff(4_000) <= 300);
        assert!(HashSplit::new(5usize, Seed(1)).is_err());
        assert!(HashSplit::new("0.6", Seed(1)).and_then(|s| s.with_validation("0.4")).is_err());
    }

    /// Recomputed by `tests/references/split_pinned.py`; other values would move rows of splits that exist.
    #[test]
    fn parts_and_folds_are_pinned() {
        let split =
            HashSplit::new("0.2", Seed(7)).and_then(|s| s.with_validation("0.1")).expect("valid");
        let parts: Vec<PartName> = (0..24u64).map(|id| split.part(&id.to_le_bytes())).collect();
        for (id, part) in parts.into_iter().enumerate() {
            let expected = match id {
                8 | 10 | 16 => PartName::Test,
                7 | 15 => PartName::Validation,
                _ => PartName::Train,
            };
            assert_eq!(part, expected, "{id}");
        }
        let small = FeistelFolds::new(100_003, 7, Seed(11)).expect("valid");
        let folds: Vec<usize> = (0..24).filter_map(|row| small.fold_of(row)).collect();
        assert_eq!(folds, [1, 6, 2, 2, 5, 1, 6, 1, 1, 0, 6, 3, 3, 1, 1, 0, 6, 5, 2, 1, 3, 1, 3, 3]);
        let large = FeistelFolds::new(1_000_000_000, 5, Seed((1 << 40) + 3)).expect("valid");
        let folds: Vec<usize> = (0..24).filter_map(|row| large.fold_of(row * 41_666_666)).collect();
        assert_eq!(folds, [1, 4, 2, 3, 4, 4, 2, 0, 4, 4, 1, 3, 2, 0, 1, 3, 2, 4, 2, 0, 1, 4, 3, 0]);
    }

    #[test]
    fn the_permutation_is_one() {
        for n in [1u64 << 16, (1 << 16) + 1, 100_003, 1 << 18] {
            let folds = FeistelFolds::new(n, 7, Seed(n)).expect("valid");
            let mut seen = vec![false; n as usize];
            let mut sizes = vec![0u64; 7];
            for row in 0..n {
                let place = folds.place(row);
                assert!(!std::mem::replace(&mut seen[place as usize], true));
                assert_eq!(folds.row_at(place), row);
                sizes[folds.fold_of(row).expect("exists")] += 1;
            }
            assert_eq!(sizes, folds.sizes());
            for fold in 0..7 {
                assert!(folds.rows_of(fold).take(100).all(|row| folds.fold_of(row) == Some(fold)));
            }
            assert_eq!((folds.fold_of(n), folds.rows_of(7).count()), (None, 0));
        }
    }

    #[test]
    fn neighbours_are_independent() {
        // Pairs of neighbouring rows over 5 x 5 folds: chi-square with 24 degrees of freedom, 0.9999 quantile 60.
        let folds = FeistelFolds::new(1 << 20, 5, Seed(9)).expect("valid");
        let mut counts = [0f64; 25];
        for row in (0..1u64 << 20).step_by(2) {
            let pair = [row, row + 1].map(|row| folds.fold_of(row).expect("exists"));
            counts[pair[0] * 5 + pair[1]] += 1.0;
        }
        let expected = f64::from(1 << 19) / 25.0;
        let chi: f64 = counts.iter().map(|count| (count - expected).powi(2) / expected).sum();
        assert!(chi < 60.0, "{chi}");
        assert!(
            FeistelFolds::new(1000, 5, Seed(0)).is_err()
                && FeistelFolds::new(1 << 20, 1, Seed(0)).is_err()
        );
    }
}
