//! Tests of whether one of two learners is better, on the same folds or the same rows.

use crate::{SelectError, Spread, special};
use firebrick_core::{ConfigError, check};
use serde::{Deserialize, Serialize};

/// A t test of a mean difference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TTest {
    /// The mean difference over its standard error; 0 if all differences are 0, infinite if all are equal
    /// and not 0.
    pub statistic: f64,
    /// Degrees of freedom.
    pub df: f64,
    /// Two-sided p value.
    pub p: f64,
}

impl TTest {
    fn of(mean: f64, error: f64, df: f64) -> Self {
        let statistic = if mean == 0.0 { 0.0 } else { mean / error };
        Self { statistic, df, p: (2.0 * special::t_tail(statistic.abs(), df)).min(1.0) }
    }
}

/// The t test on paired differences, fold by fold, uncorrected.
///
/// On overlapping training parts it rejects far too often: 52 % instead of 5 % on 10 x 10 cross-validation
/// of two equal learners. Use [`corrected_t`] there; this one is for independent pairs, data sets say.
///
/// # Errors
/// When there are fewer than two differences or one is not finite.
pub fn paired_t(differences: &[f64]) -> Result<TTest, SelectError> {
    let spread = Spread::of(differences.to_vec())?;
    Ok(TTest::of(spread.mean, spread.standard_error, differences.len() as f64 - 1.0))
}

/// The corrected resampled t test of Nadeau and Bengio, and with the differences of r x k folds that of
/// Bouckaert and Frank: `mean / sqrt(s^2 (1/J + test_ratio))` with J - 1 degrees of freedom.
///
/// Measured with 200 rows: on 10 x 10 folds it rejects 4 % of equal pairs and 56 % of different ones; on
/// 10 folds 2 % and 20 %. C. Nadeau, Y. Bengio, 2003; R. Bouckaert, E. Frank, PAKDD 2004.
///
/// # Errors
/// When there are fewer than two differences, one is not finite, or `test_ratio` is not above 0.
///
/// ```
/// // Two candidates on the same five folds, a quarter of a validation row for each training row.
/// let a = [0.031, 0.042, 0.035, 0.038, 0.029];
/// let b = [0.021, 0.035, 0.024, 0.030, 0.022];
/// let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
/// let test = firebrick_select::corrected_t(&differences, 0.25)?;
/// assert!(test.p < 0.01);
/// # Ok::<(), firebrick_select::SelectError>(())
/// ```
pub fn corrected_t(differences: &[f64], test_ratio: f64) -> Result<TTest, SelectError> {
    let spread = Spread::of(differences.to_vec())?;
    check::positive("test_ratio", test_ratio)?;
    let j = differences.len() as f64;
    Ok(TTest::of(spread.mean, spread.sd * (1.0 / j + test_ratio).sqrt(), j - 1.0))
}

/// The result of [`five_by_two`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FiveByTwo {
    /// Dietterich's t from the first difference, 5 degrees of freedom.
    pub t: TTest,
    /// Alpaydin's combined F, with 10 and 5 degrees of freedom.
    pub f: f64,
    /// Its p value.
    pub f_p: f64,
}

/// The tests on five repetitions of 2-fold cross-validation; `differences[i]` holds the two folds' differences
/// of repetition i.
///
/// `t = d_11 / sqrt(sum s_i^2 / 5)`, `F = sum d^2 / (2 sum s_i^2)`. T. Dietterich, Neural Computation 10, 1998;
/// E. Alpaydin, Neural Computation 11, 1999. Measured with 200 rows: reject 4.8 % and 5.8 % of equal pairs.
///
/// # Errors
/// When a difference is not finite.
pub fn five_by_two(differences: &[[f64; 2]; 5]) -> Result<FiveByTwo, SelectError> {
    for (index, pair) in differences.iter().enumerate() {
        for (fold, value) in pair.iter().enumerate() {
            check::finite(&format!("differences[{index}][{fold}]"), *value)?;
        }
    }
    // With two values the sum of squared deviations from their mean is half the square of their distance.
    let variance: f64 = differences.iter().map(|[a, b]| (a - b).powi(2) / 2.0).sum();
    let squares: f64 = differences.iter().flatten().map(|d| d * d).sum();
    let f = if squares == 0.0 { 0.0 } else { squares / (2.0 * variance) };
    Ok(FiveByTwo {
        t: TTest::of(differences[0][0], (variance / 5.0).sqrt(), 5.0),
        f,
        f_p: special::f_tail(f, 10.0, 5.0),
    })
}

/// The result of [`mcnemar`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct McNemar {
    /// Two-sided exact p value.
    pub exact: f64,
    /// Two-sided mid-p value: half of the probability of what was seen left out; less conservative.
    pub mid: f64,
}

/// McNemar's test of two frozen models on the same rows: `only_first` rows that only the first got wrong,
/// `only_second` rows that only the second got wrong.
///
/// Under equality each such row is a fair coin. Q. McNemar, Psychometrika 12, 1947; M. Fagerland et al.,
/// BMC Medical Research Methodology 13, 2013, for mid-p.
///
/// # Errors
/// When there are more than 2^53 such rows.
pub fn mcnemar(only_first: usize, only_second: usize) -> Result<McNemar, SelectError> {
    let n = only_first.checked_add(only_second).filter(|n| *n as u64 <= 1 << 53);
    let n =
        n.ok_or_else(|| ConfigError::new("only_first + only_second", "more", "at most 2^53"))?;
    let few = only_first.min(only_second);
    if n == 0 {
        return Ok(McNemar { exact: 1.0, mid: 1.0 });
    }
    let (n, few) = (n as f64, few as f64);
    // P(X <= few) of a fair binomial is I_1/2(n - few, few + 1).
    let at_most = special::beta_cdf(0.5, n - few, few + 1.0);
    let below = if few == 0.0 { 0.0 } else { special::beta_cdf(0.5, n - few + 1.0, few) };
    Ok(McNemar { exact: (2.0 * at_most).min(1.0), mid: (at_most + below).min(1.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, wanted: f64) {
        assert!((found - wanted).abs() <= 1e-10 * wanted.abs(), "{found} is not {wanted}");
    }

    // The numbers are printed by tests/references/select_special.py (SciPy).

    #[test]
    fn t_tests_match_scipy() {
        let differences = [0.012, -0.003, 0.02, 0.015, 0.001, 0.008, -0.001, 0.011, 0.009, 0.004];
        let plain = paired_t(&differences).expect("valid");
        close(plain.statistic, 3.2759161702870454);
        close(plain.p, 0.009591628420538076);
        let corrected = corrected_t(&differences, 1.0 / 9.0).expect("valid");
        close(corrected.statistic, 2.254640136914528);
        close(corrected.p, 0.05061803079769844);
        let pairs = [[0.03, 0.01], [0.02, 0.025], [-0.004, 0.012], [0.018, 0.009], [0.011, 0.02]];
        let found = five_by_two(&pairs).expect("valid");
        close(found.t.statistic, 3.2674388416051325);
        close(found.t.p, 0.022261555474191827);
        close(found.f, 3.6903914590747333);
        close(found.f_p, 0.08117406013881866);
    }

    #[test]
    fn mcnemar_matches_scipy() {
        for (b, c, exact, mid) in [
            (10, 3, 0.09228515625, 0.05737304687500002),
            (5, 5, 1.0, 1.0),
            (0, 6, 0.03125, 0.015625),
            (40, 20, 0.01348929373119186, 0.009853448195259268),
            (1, 0, 1.0, 0.5),
        ] {
            for (b, c) in [(b, c), (c, b)] {
                let found = mcnemar(b, c).expect("valid");
                close(found.exact, exact);
                close(found.mid, mid);
            }
        }
    }

    #[test]
    fn equal_learners_and_constant_differences_are_defined() {
        let none = corrected_t(&[0.0; 5], 0.25).expect("valid");
        assert_eq!((none.statistic, none.p), (0.0, 1.0));
        let always = corrected_t(&[0.5; 5], 0.25).expect("valid");
        assert_eq!((always.statistic, always.p), (f64::INFINITY, 0.0));
        let none = five_by_two(&[[0.0; 2]; 5]).expect("valid");
        assert_eq!((none.t.p, none.f, none.f_p), (1.0, 0.0, 1.0));
        let always = five_by_two(&[[0.1; 2]; 5]).expect("valid");
        assert_eq!((always.t.p, always.f_p), (0.0, 0.0));
        assert_eq!(mcnemar(0, 0).expect("valid"), McNemar { exact: 1.0, mid: 1.0 });
        assert!(five_by_two(&[[f64::NAN, 0.0]; 5]).is_err());
        assert!(mcnemar(usize::MAX, 2).is_err());
        assert!(paired_t(&[1.0]).is_err());
    }
}
