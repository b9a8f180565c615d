//! Intervals: of a cross-validated mean, and of an error rate on a hold-out.

use crate::{SelectError, Spread, special};
use firebrick_core::{ConfigError, check};

/// The Nadeau-Bengio interval of a mean over folds at `level`.
///
/// `mean +- t(J - 1) * sqrt(s^2 (1/J + test_ratio))` with `J` values and `test_ratio` validation rows a training
/// row: training parts overlap, so the plain standard error is too small. Measured for 10 folds of 100
/// rows at a nominal 90 %: the plain interval covers 0.80 to 0.85, this one 0.92 to 0.94. C. Nadeau,
/// Y. Bengio, "Inference for the generalization error", Machine Learning 52, 2003.
///
/// # Errors
/// When there are fewer than two values, one is not finite, `test_ratio` is not above 0, or `level` is not
/// in (0, 1).
///
/// ```
/// let (low, high) = firebrick_select::corrected_interval(&[0.02, 0.03, 0.025, 0.03, 0.02], 0.25, 0.9)?;
/// assert!(low < 0.025 && 0.025 < high);
/// # Ok::<(), firebrick_select::SelectError>(())
/// ```
pub fn corrected_interval(
    values: &[f64],
    test_ratio: f64,
    level: f64,
) -> Result<(f64, f64), SelectError> {
    let spread = Spread::of(values.to_vec())?;
    check::positive("test_ratio", test_ratio)?;
    let level = open_unit("level", level)?;
    let j = values.len() as f64;
    let t = special::t_quantile(0.5 + 0.5 * level, j - 1.0);
    let half = t * spread.sd * (1.0 / j + test_ratio).sqrt();
    Ok((spread.mean - half, spread.mean + half))
}

/// The Clopper-Pearson interval of an error rate, given `errors` among `n` independent rows: covers at least
/// `level` whatever the true rate. C. Clopper, E. Pearson, Biometrika 26, 1934.
///
/// # Errors
/// When `n` is 0, `errors` exceeds `n`, or `level` is not in (0, 1).
///
/// ```
/// let (low, high) = firebrick_select::clopper_pearson(7, 360, 0.95)?;
/// assert!((low - 0.00785).abs() < 1e-5 && (high - 0.03965).abs() < 1e-5);
/// # Ok::<(), firebrick_select::SelectError>(())
/// ```
pub fn clopper_pearson(errors: usize, n: usize, level: f64) -> Result<(f64, f64), SelectError> {
    let (e, n, outside) = counts(errors, n, level)?;
    let low = if errors == 0 { 0.0 } else { special::beta_quantile(outside, e, n - e + 1.0) };
    let high = if e == n { 1.0 } else { special::beta_quantile(1.0 - outside, e + 1.0, n - e) };
    Ok((low, high))
}

/// Wilson's score interval of an error rate: shorter than [`clopper_pearson`]'s, covers `level` on average
/// over the true rate only. E. Wilson, JASA 22, 1927.
///
/// # Errors
/// As for [`clopper_pearson`].
pub fn wilson(errors: usize, n: usize, level: f64) -> Result<(f64, f64), SelectError> {
    let (e, n, outside) = counts(errors, n, level)?;
    let z = special::normal_quantile(1.0 - outside);
    let (rate, square) = (e / n, z * z);
    let middle = (rate + square / (2.0 * n)) / (1.0 + square / n);
    let half = z / (1.0 + square / n) * (rate * (1.0 - rate) / n + square / (4.0 * n * n)).sqrt();
    let low = if errors == 0 { 0.0 } else { (middle - half).max(0.0) };
    Ok((low, if e == n { 1.0 } else { (middle + half).min(1.0) }))
}

fn counts(errors: usize, n: usize, level: f64) -> Result<(f64, f64, f64), SelectError> {
    check::at_least("n", n, 1)?;
    if errors > n {
        return Err(ConfigError::new("errors", errors, format_args!("at most n = {n}")).into());
    }
    Ok((errors as f64, n as f64, 0.5 - 0.5 * open_unit("level", level)?))
}

fn open_unit(field: &str, value: f64) -> Result<f64, ConfigError> {
    check::range(field, value, f64::MIN_POSITIVE..1.0)
        .map_err(|_| ConfigError::new(field, value, "in (0, 1)"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(found: f64, wanted: f64) {
        assert!((found - wanted).abs() <= 1e-10, "{found} is not {wanted}");
    }

    // The numbers are printed by tests/references/select_special.py (SciPy).

    #[test]
    fn rates_match_scipy() {
        for (errors, n, level, exact, score) in [
            (0, 20, 0.95, (0.0, 0.16843347098308548), (0.0, 0.16112515805281935)),
            (
                7,
                360,
                0.95,
                (0.007852543551016299, 0.03965096955471797),
                (0.009450116475484056, 0.03958623820087137),
            ),
            (20, 20, 0.9, (0.8608916593316243, 1.0), (0.8808421626390355, 1.0)),
            (
                180,
                360,
                0.99,
                (0.4311086388118517, 0.5688913611881483),
                (0.4327379368592695, 0.5672620631407306),
            ),
            (
                1,
                5,
                0.95,
                (0.005050763379468115, 0.7164179361180895),
                (0.036224108632430196, 0.6244653702374747),
            ),
        ] {
            let found = clopper_pearson(errors, n, level).expect("valid");
            close(found.0, exact.0);
            close(found.1, exact.1);
            let found = wilson(errors, n, level).expect("valid");
            close(found.0, score.0);
            close(found.1, score.1);
        }
    }

    #[test]
    fn the_corrected_interval_matches_scipy() {
        let values = [0.012, -0.003, 0.02, 0.015, 0.001, 0.008, -0.001, 0.011, 0.009, 0.004];
        let (low, high) = corrected_interval(&values, 1.0 / 9.0, 0.9).expect("valid");
        close(low, 0.0014208949356978732);
        close(high, 0.013779105064302126);
    }

    proptest! {
        /// J = k values: the naive interval times sqrt(1 + k / (k - 1)), since the ratio is 1 / (k - 1).
        #[test]
        fn the_correction_is_as_published(
            values in prop::collection::vec(-1.0..1.0f64, 2..12),
            level in 0.5..0.99f64,
        ) {
            let k = values.len() as f64;
            let spread = Spread::of(values.clone()).expect("finite");
            let (low, high) = corrected_interval(&values, 1.0 / (k - 1.0), level).expect("valid");
            let naive = special::t_quantile(0.5 + 0.5 * level, k - 1.0) * spread.standard_error;
            let wanted = naive * (1.0 + k / (k - 1.0)).sqrt();
            prop_assert!((high - spread.mean - wanted).abs() <= 1e-10 * (1.0 + wanted));
            prop_assert!((spread.mean - low - wanted).abs() <= 1e-10 * (1.0 + wanted));
        }
    }

    #[test]
    fn bad_input_is_refused() {
        let text =
            |result: Result<(f64, f64), SelectError>| result.expect_err("refused").to_string();
        assert_eq!(text(clopper_pearson(1, 0, 0.9)), "`n` must be at least 1, got 0");
        assert_eq!(text(clopper_pearson(9, 8, 0.9)), "`errors` must be at most n = 8, got 9");
        assert_eq!(text(wilson(1, 8, 1.0)), "`level` must be in (0, 1), got 1");
        assert_eq!(
            text(corrected_interval(&[1.0, 2.0], 0.0, 0.9)),
            "`test_ratio` must be in (0, inf), got 0"
        );
        assert_eq!(
            text(corrected_interval(&[1.0, f64::NAN], 0.1, 0.9)),
            "`values[1]` must be in (-inf, inf), got NaN"
        );
    }
}
