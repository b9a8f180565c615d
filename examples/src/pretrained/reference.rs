//! How far a network's outputs are from the reference implementation's, and how far they may be.

use serde_json::Value;

use super::failure::Failure;

/// What an output may differ by from the recorded one.
pub const ALLOWED: f64 = 1e-4;

/// What a reference implementation recorded: `text`, the content of the file called `name`.
///
/// # Errors
///
/// [`Failure::File`] for what is no JSON.
pub fn recorded(name: &str, text: &str) -> Result<Value, Failure> {
    let unusable =
        |error: serde_json::Error| Failure::File { path: name.into(), reason: error.to_string() };
    serde_json::from_str(text).map_err(unusable)
}

/// All numbers in a JSON value, those of lists in lists too, in their order.
#[must_use]
pub fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(list) => list.iter().flat_map(numbers).collect(),
        other => other.as_f64().into_iter().collect(),
    }
}

/// The largest absolute difference; infinite where one of the numbers is NaN, or there are not as many.
#[must_use]
pub fn largest_difference(output: &[f64], recorded: &[f64]) -> f64 {
    if output.len() != recorded.len() {
        return f64::INFINITY;
    }
    let differences = output.iter().zip(recorded).map(|(got, want)| (got - want).abs());
    // `f64::max` drops NaN, which is as far off as can be.
    differences.map(|off| if off.is_nan() { f64::INFINITY } else { off }).fold(0.0, f64::max)
}

/// Refuses a network that is not equal to the reference implementation.
///
/// # Errors
///
/// When `off` is above [`ALLOWED`] or NaN.
pub fn equal_to_reference(off: f64) -> Result<(), Failure> {
    if off <= ALLOWED { Ok(()) } else { Err(Failure::Unequal { off }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_number_is_infinitely_far_off() {
        assert_eq!(largest_difference(&[1.0, 2.0], &[1.0, 2.5]), 0.5);
        assert_eq!(largest_difference(&[], &[]), 0.0);
        for (output, recorded) in [
            (vec![f64::NAN, 1.0], vec![1.0, 1.0]),
            (vec![1.0, 1.0], vec![f64::NAN, 1.0]),
            (vec![f64::INFINITY], vec![f64::INFINITY]),
            (vec![1.0], vec![1.0, 1.0]),
        ] {
            assert_eq!(largest_difference(&output, &recorded), f64::INFINITY, "{output:?}");
        }
    }

    #[test]
    fn recorded_numbers_are_read_in_their_order() {
        let value = recorded("a.json", r#"{"rows": [[1, 2.5], [], [-3]], "name": "x"}"#);
        let value = value.expect("JSON");
        assert_eq!(numbers(&value["rows"]), [1.0, 2.5, -3.0]);
        assert!(numbers(&value["name"]).is_empty() && numbers(&value["absent"]).is_empty());
        let failure = recorded("a.json", "{").expect_err("cut off");
        assert!(failure.to_string().starts_with("a.json: "), "{failure}");
    }

    #[test]
    fn another_network_ends_the_program_with_an_error() {
        assert!(equal_to_reference(0.0).is_ok() && equal_to_reference(ALLOWED).is_ok());
        for off in [1.1e-4, f64::INFINITY, f64::NAN] {
            let failure = equal_to_reference(off).expect_err("refused");
            assert_eq!(failure.exit_code(), 1);
            assert!(failure.to_string().contains("more than 1e-4"), "{failure}");
        }
    }
}
