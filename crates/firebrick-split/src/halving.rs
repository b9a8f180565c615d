//! Successive halving: many candidates on few rows, then fewer on more, the rows of each rung within those of the next.

use crate::{Resampled, SplitError, Train, learning_curve};
use firebrick_core::{Seed, check};
use serde::{Deserialize, Serialize};

/// One rung: so many candidates train on so many rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    /// Candidates that train.
    pub candidates: usize,
    /// Rows that each trains on.
    pub rows: usize,
}

/// Successive halving in integers: rung i trains `max(1, candidates div eta^i)` candidates on `least eta^i` rows, until one
/// candidate is left or more than `most` rows would be needed.
///
/// Where the last rung still has several candidates, `most` was too small for them all. K. Jamieson, A. Talwalkar,
/// "Non-stochastic best arm identification and hyperparameter optimization", AISTATS 2016.
///
/// ```
/// use firebrick_core::Seed;
/// use firebrick_split::{Halving, Train, survivors};
///
/// let labels: Vec<u32> = (0..400).map(|row| row % 2).collect();
/// let train = Train::new((), (0..400).collect());
/// let halving = Halving::new(9, 40, 400);
/// let rungs = halving.rungs()?;
/// assert_eq!(rungs.iter().map(|r| (r.candidates, r.rows)).collect::<Vec<_>>(), [(9, 40), (3, 120), (1, 360)]);
/// let samples = halving.samples(&train, &labels, Seed(1))?;
/// let mut alive: Vec<usize> = (0..9).collect();
/// for (sample, next) in samples.iter().zip(&rungs[1..]) {
///     // The loss of candidate c after training on sample.rows.
///     let losses: Vec<f64> = alive.iter().map(|&c| (c as f64 - 4.0).abs() / sample.rows.len() as f64).collect();
///     alive = survivors(&losses, next.candidates).into_iter().map(|place| alive[place]).collect();
/// }
/// assert_eq!(alive, [4]);
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halving {
    candidates: usize,
    least: usize,
    most: usize,
    eta: usize,
}

impl Halving {
    /// From `candidates` on `least` rows each to few on at most `most`, a third of them from rung to rung.
    #[must_use]
    pub fn new(candidates: usize, least: usize, most: usize) -> Self {
        Self { candidates, least, most, eta: 3 }
    }

    /// With one of `eta` candidates kept, on `eta` times the rows; 3 by default.
    #[must_use]
    pub fn with_eta(self, eta: usize) -> Self {
        Self { eta, ..self }
    }

    /// The rungs, the widest first.
    ///
    /// # Errors
    /// A `ConfigError` for no candidates, for `least` of 0, for `most` below it, and for `eta` below 2.
    pub fn rungs(&self) -> Result<Vec<Rung>, SplitError> {
        check::at_least("candidates", self.candidates, 1)?;
        let rows = powers(self.least, self.most, self.eta)?;
        let counts = std::iter::successors(Some(self.candidates), |&count| {
            (count > 1).then(|| (count / self.eta).max(1))
        });
        Ok(counts.zip(rows).map(|(candidates, rows)| Rung { candidates, rows }).collect())
    }

    /// The training rows of each rung: stratified, and each within the next, so that a candidate that goes on sees what it
    /// has seen and more.
    ///
    /// # Errors
    /// As [`Halving::rungs`] and [`learning_curve`].
    pub fn samples<D>(
        &self,
        train: &Train<D>,
        labels: &[u32],
        seed: Seed,
    ) -> Result<Vec<Resampled>, SplitError> {
        let sizes: Vec<usize> = self.rungs()?.iter().map(|rung| rung.rows).collect();
        learning_curve(train, labels, &sizes, seed)
    }
}

/// The brackets of Hyperband, the widest first: bracket s, from the largest s with `least eta^s <= most` down to 0, begins
/// with `ceil((s_max + 1) eta^s / (s + 1))` candidates on `most div eta^s` rows and halves to `most`.
///
/// L. Li et al., "Hyperband: a novel bandit-based approach to hyperparameter optimization", JMLR 2018. No logarithm of
/// floats: 243 and 1000 lose no bracket.
///
/// # Errors
/// As [`Halving::rungs`].
///
/// ```
/// let brackets = firebrick_split::hyperband(1, 81, 3)?;
/// let first: Vec<(usize, usize)> = brackets.iter().map(|rungs| (rungs[0].candidates, rungs[0].rows)).collect();
/// assert_eq!(first, [(81, 1), (34, 3), (15, 9), (8, 27), (5, 81)]);
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
pub fn hyperband(least: usize, most: usize, eta: usize) -> Result<Vec<Vec<Rung>>, SplitError> {
    let steps = powers(least, most, eta)?.len();
    let bracket = |s: usize| {
        // At most `most / least` times the number of brackets, which 128 bits hold.
        let all = steps as u128 * (eta as u128).pow(s as u32);
        let mut candidates = all.div_ceil(s as u128 + 1) as usize;
        let mut rungs = Vec::with_capacity(s + 1);
        for rung in (0..=s).rev() {
            rungs.push(Rung { candidates, rows: most / eta.pow(rung as u32) });
            candidates = (candidates / eta).max(1);
        }
        rungs
    };
    Ok((0..steps).rev().map(bracket).collect())
}

/// The places of the `keep` least losses, the best first: ties go to the earlier place, what is not a number comes last.
///
/// ```
/// assert_eq!(firebrick_split::survivors(&[0.3, f64::NAN, 0.1, 0.3], 3), [2, 0, 3]);
/// ```
#[must_use]
pub fn survivors(losses: &[f64], keep: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..losses.len()).collect();
    // Stable, so that ties stay in order.
    places.sort_by(|&a, &b| {
        let (a, b) = (losses[a], losses[b]);
        a.is_nan().cmp(&b.is_nan()).then(a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal))
    });
    places.truncate(keep);
    places
}

/// `least`, `least eta`, `least eta^2` and so on up to `most`.
fn powers(least: usize, most: usize, eta: usize) -> Result<Vec<usize>, SplitError> {
    check::at_least("least", least, 1)?;
    check::at_least("most", most, least)?;
    check::at_least("eta", eta, 2)?;
    let next = |&rows: &usize| rows.checked_mul(eta).filter(|&rows| rows <= most);
    Ok(std::iter::successors(Some(least), next).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// P30: the number of brackets is exact for every power of every base below 2^63, and beside it.
    #[test]
    fn no_bracket_is_lost_to_rounding() {
        let limit = usize::MAX / 2;
        for eta in 2..=100 {
            let powers = std::iter::successors(Some(1usize), |power| power.checked_mul(eta));
            for (exponent, power) in powers.take_while(|&power| power <= limit).enumerate() {
                let brackets = |most| hyperband(1, most, eta).expect("valid").len();
                assert_eq!(brackets(power), exponent + 1, "{eta}^{exponent}");
                assert_eq!(brackets(power + 1), exponent + 1 + usize::from(power + 1 == eta));
                if exponent > 0 {
                    assert_eq!(brackets(power - 1), exponent, "{eta}^{exponent} - 1");
                }
            }
        }
        // Where floats stop at three candidates and a third of the rows.
        let rungs = Halving::new(243, 20, 4860).rungs().expect("valid");
        let last = Rung { candidates: 1, rows: 4860 };
        assert_eq!((rungs.len(), rungs.last()), (6, Some(&last)));
        assert_eq!(hyperband(1, 1000, 10).expect("valid").len(), 4);
    }

    #[test]
    fn what_makes_no_rungs_is_refused() {
        for (halving, part) in [
            (Halving::new(0, 1, 9), "`candidates` must be at least 1, got 0"),
            (Halving::new(5, 0, 9), "`least` must be at least 1, got 0"),
            (Halving::new(5, 10, 9), "`most` must be at least 10, got 9"),
            (Halving::new(5, 1, 9).with_eta(1), "`eta` must be at least 2, got 1"),
        ] {
            assert_eq!(halving.rungs().expect_err(part).to_string(), part);
        }
        assert!(hyperband(2, 1, 3).is_err() && hyperband(1, 9, 0).is_err());
        let one = Halving::new(1, 5, 500).rungs().expect("valid");
        assert_eq!(one, [Rung { candidates: 1, rows: 5 }]);
        let labels = [0; 8];
        let train = Train::new((), (0..8).collect());
        assert!(Halving::new(9, 2, 18).samples(&train, &labels, Seed(0)).is_err(), "18 of 8 rows");
        assert!(survivors(&[], 3).is_empty());
        assert_eq!(survivors(&[f64::NAN, f64::INFINITY, -0.0, 0.0], 9), [2, 3, 1, 0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// P30: each rung keeps one of eta, rounded down but never none, on eta times the rows, and sees the rows of the
        /// rung before it, every class in proportion.
        #[test]
        fn rungs_keep_the_floor_and_nest(candidates in 1usize..400, least in 2usize..12, eta in 2usize..5, classes in 1u32..5, seed: u64) {
            let labels: Vec<u32> = (0..300u32).map(|row| row * row % 11 % classes).collect();
            let train = Train::new((), (100..400).collect());
            let halving = Halving::new(candidates, least, 300).with_eta(eta);
            let rungs = halving.rungs().expect("valid");
            prop_assert_eq!((rungs[0].candidates, rungs[0].rows), (candidates, least));
            for pair in rungs.windows(2) {
                prop_assert_eq!(pair[1].candidates, (pair[0].candidates / eta).max(1));
                prop_assert_eq!(pair[1].rows, pair[0].rows * eta);
            }
            let last = rungs[rungs.len() - 1];
            prop_assert!(last.rows <= 300 && (last.candidates == 1 || last.rows * eta > 300));
            let samples = halving.samples(&train, &labels, Seed(seed)).expect("draws");
            prop_assert_eq!(samples.len(), rungs.len());
            for (sample, rung) in samples.iter().zip(&rungs) {
                prop_assert_eq!(sample.rows.len(), rung.rows);
                for &(_, before, after) in &sample.report.classes {
                    prop_assert!((after * 300).abs_diff(before * rung.rows) < 300);
                }
            }
            for pair in samples.windows(2) {
                prop_assert!(pair[0].rows.iter().all(|row| pair[1].rows.binary_search(row).is_ok()));
            }
        }

        /// P30: who goes on does not depend on the order in which candidates are evaluated.
        #[test]
        fn survivors_are_the_least(losses in prop::collection::vec(0u8..6, 1..40), keep in 0usize..40) {
            let losses: Vec<f64> = losses.into_iter().map(|l| if l == 5 { f64::NAN } else { l.into() }).collect();
            let kept = survivors(&losses, keep);
            prop_assert_eq!(kept.len(), keep.min(losses.len()));
            let rank = |place: usize| (losses[place].is_nan(), losses[place].to_bits(), place);
            let worst = kept.iter().map(|&place| rank(place)).max();
            for place in (0..losses.len()).filter(|place| !kept.contains(place)) {
                prop_assert!(worst.is_none_or(|worst| worst < rank(place)));
            }
        }
    }
}
