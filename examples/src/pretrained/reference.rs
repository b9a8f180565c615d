//! How far a network's outputs are from the reference implementation's, and how far they may be.

use super::failure::Failure;

/// What an output may differ by from the recorded one.
pub const ALLOWED: f64 = 1e-4;

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
    fn another_network_ends_the_program_with_an_error() {
        assert!(equal_to_reference(0.0).is_ok() && equal_to_reference(ALLOWED).is_ok());
        for off in [1.1e-4, f64::INFINITY, f64::NAN] {
            let failure = equal_to_reference(off).expect_err("refused");
            assert_eq!(failure.exit_code(), 1);
            assert!(failure.to_string().contains("more than 1e-4"), "{failure}");
        }
    }
}
