//! The error of a configuration value: which field, what it was, what would be right.

use std::fmt::Display;

/// A configuration value outside its accepted range.
///
/// The message reads "`field` must be *expected*, got *value*".
///
/// ```
/// use firebrick_core::ConfigError;
///
/// let error = ConfigError::new("n_splits", 1, "at least 2");
/// assert_eq!(error.to_string(), "`n_splits` must be at least 2, got 1");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` must be {expected}, got {value}")]
#[non_exhaustive]
pub struct ConfigError {
    /// Name of the field, spelt as in the configuration.
    pub field: String,
    /// The value that was refused, as text, so that NaN and infinity survive.
    pub value: String,
    /// What would have been accepted.
    pub expected: String,
}

impl ConfigError {
    /// Refuses `value` of `field`; `expected` completes the sentence "must be ...".
    pub fn new(field: impl Display, value: impl Display, expected: impl Display) -> Self {
        Self { field: field.to_string(), value: value.to_string(), expected: expected.to_string() }
    }
}
