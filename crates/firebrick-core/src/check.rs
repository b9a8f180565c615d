//! Range checks that refuse NaN and infinity and say what would have been accepted.
//!
//! Each returns the value itself, so that a check reads as part of an expression.

use crate::ConfigError;
use std::ops::{Bound, RangeBounds};

/// Checks that `value` is finite and lies in `range`.
///
/// # Errors
/// When the value is NaN, infinite or outside; the message prints the range as an interval.
///
/// ```
/// use firebrick_core::check;
/// assert_eq!(check::range("momentum", 0.9, 0.0..1.0), Ok(0.9));
/// assert!(check::range("momentum", f64::NAN, 0.0..1.0).is_err());
/// ```
pub fn range(field: &str, value: f64, range: impl RangeBounds<f64>) -> Result<f64, ConfigError> {
    if value.is_finite() && range.contains(&value) {
        return Ok(value);
    }
    let low = match range.start_bound() {
        Bound::Included(low) => format!("[{low}"),
        Bound::Excluded(low) => format!("({low}"),
        Bound::Unbounded => "(-inf".into(),
    };
    let high = match range.end_bound() {
        Bound::Included(high) => format!("{high}]"),
        Bound::Excluded(high) => format!("{high})"),
        Bound::Unbounded => "inf)".into(),
    };
    Err(ConfigError::new(field, value, format_args!("in {low}, {high}")))
}

/// Checks that `value` is finite and above 0.
///
/// # Errors
/// When it is NaN, infinite, zero or negative.
pub fn positive(field: &str, value: f64) -> Result<f64, ConfigError> {
    range(field, value, (Bound::Excluded(0.0), Bound::Unbounded))
}

/// Checks that `value` is finite and not below 0.
///
/// # Errors
/// When it is NaN, infinite or negative.
pub fn non_negative(field: &str, value: f64) -> Result<f64, ConfigError> {
    range(field, value, 0.0..)
}

/// Checks that `value` is finite.
///
/// # Errors
/// When it is NaN or infinite.
pub fn finite(field: &str, value: f64) -> Result<f64, ConfigError> {
    range(field, value, ..)
}

/// Checks that `value` is at least `min`.
///
/// # Errors
/// When it is smaller.
pub fn at_least(field: &str, value: usize, min: usize) -> Result<usize, ConfigError> {
    if value >= min {
        Ok(value)
    } else {
        Err(ConfigError::new(field, value, format_args!("at least {min}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(result: Result<f64, ConfigError>) -> String {
        result.expect_err("must be refused").to_string()
    }

    #[test]
    fn intervals_print_their_ends() {
        assert_eq!(message(range("a", 1.0, 0.0..1.0)), "`a` must be in [0, 1), got 1");
        assert_eq!(message(range("a", 2.0, 0.0..=1.0)), "`a` must be in [0, 1], got 2");
        assert_eq!(message(positive("a", 0.0)), "`a` must be in (0, inf), got 0");
        assert_eq!(message(non_negative("a", -0.5)), "`a` must be in [0, inf), got -0.5");
        assert_eq!(message(finite("a", f64::INFINITY)), "`a` must be in (-inf, inf), got inf");
        let short = at_least("k", 1, 2).expect_err("must be refused").to_string();
        assert_eq!(short, "`k` must be at least 2, got 1");
    }

    #[test]
    fn nothing_non_finite_passes() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(range("a", value, ..).is_err());
            assert!(positive("a", value).is_err());
            assert!(non_negative("a", value).is_err());
        }
    }
}
