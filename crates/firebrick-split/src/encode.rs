//! Labels and groups of any type as codes: by first appearance, in ascending order, or from floats without NaN.

use crate::SplitError;
use std::collections::HashMap;
use std::hash::Hash;

/// A column as codes, with the value behind each code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded<T> {
    /// The code of each row.
    pub codes: Vec<u32>,
    /// The value of each code.
    pub values: Vec<T>,
}

/// Codes by first appearance: what labels want.
///
/// ```
/// let encoded = firebrick_split::encode::by_appearance(["cat", "dog", "cat"]);
/// assert_eq!((encoded.codes, encoded.values), (vec![0, 1, 0], vec!["cat", "dog"]));
/// ```
pub fn by_appearance<T: Eq + Hash + Clone>(column: impl IntoIterator<Item = T>) -> Encoded<T> {
    let mut known: HashMap<T, u32> = HashMap::new();
    let mut encoded = Encoded { codes: Vec::new(), values: Vec::new() };
    for value in column {
        let next = encoded.values.len() as u32;
        let code = *known.entry(value).or_insert_with_key(|value| {
            encoded.values.push(value.clone());
            next
        });
        encoded.codes.push(code);
    }
    encoded
}

/// Codes in ascending order of the values: what groups want.
///
/// ```
/// let encoded = firebrick_split::encode::sorted([30, 10, 30]);
/// assert_eq!((encoded.codes, encoded.values), (vec![1, 0, 1], vec![10, 30]));
/// ```
pub fn sorted<T: Ord + Clone>(column: impl IntoIterator<Item = T>) -> Encoded<T> {
    let column: Vec<T> = column.into_iter().collect();
    let mut values = column.clone();
    values.sort();
    values.dedup();
    let codes = column.iter().map(|value| values.partition_point(|other| other < value) as u32);
    Encoded { codes: codes.collect(), values }
}

/// Codes of floats in ascending order; -0 and 0 are one value.
///
/// # Errors
/// [`SplitError::NotANumber`] with the first row that is NaN: NaN is an error, not a class.
///
/// ```
/// use firebrick_split::{SplitError, encode};
/// assert_eq!(encode::floats("labels", &[1.5, -0.0, 0.0])?.codes, [1, 0, 0]);
/// assert!(encode::floats("labels", &[1.5, f64::NAN]).is_err());
/// # Ok::<(), SplitError>(())
/// ```
pub fn floats(name: &'static str, column: &[f64]) -> Result<Encoded<f64>, SplitError> {
    if let Some(row) = column.iter().position(|value| value.is_nan()) {
        return Err(SplitError::NotANumber { column: name, row });
    }
    let mut values: Vec<f64> = column.iter().map(|value| value + 0.0).collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    let codes = column.iter().map(|value| values.partition_point(|other| other < value) as u32);
    Ok(Encoded { codes: codes.collect(), values })
}
