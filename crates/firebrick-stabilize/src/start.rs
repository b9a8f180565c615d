//! Numbers that a start takes from the net and from the data.

use firebrick_core::check;

/// The factor of the weights of a residual branch with `layers` layers in a net of `branches` branches, the
/// last layer apart, which starts at 0: `branches^(-1 / (2 layers - 2))`.
///
/// H. Zhang, Y. Dauphin, T. Ma, "Fixup initialization: residual learning without normalization", ICLR 2019.
///
/// # Errors
/// When `branches` is 0 or `layers` below 2.
///
/// ```
/// assert_eq!(firebrick_stabilize::fixup_factor(16, 2)?, 0.25);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
pub fn fixup_factor(branches: usize, layers: usize) -> Result<f64, firebrick_core::ConfigError> {
    check::at_least("branches", branches, 1)?;
    check::at_least("layers", layers, 2)?;
    Ok((branches as f64).powf(-1.0 / (2 * layers - 2) as f64))
}

/// The biases of a softmax layer that predict the classes at their frequencies: `ln(count / total)`.
///
/// The loss then starts at the entropy of the classes. For a sigmoid, take the difference of the two.
///
/// # Errors
/// When there is no class or a count is not above 0 and finite.
///
/// ```
/// let bias = firebrick_stabilize::class_prior_bias(&[30.0, 10.0])?;
/// assert_eq!(bias, [0.75f64.ln(), 0.25f64.ln()]);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
pub fn class_prior_bias(counts: &[f64]) -> Result<Vec<f64>, firebrick_core::ConfigError> {
    check::at_least("number of classes", counts.len(), 1)?;
    for count in counts {
        check::positive("counts", *count)?;
    }
    let total: f64 = counts.iter().sum();
    Ok(counts.iter().map(|count| (count / total).ln()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helpers_check_their_input() {
        assert!(fixup_factor(4, 1).is_err() && fixup_factor(0, 2).is_err());
        assert!(class_prior_bias(&[]).is_err() && class_prior_bias(&[1.0, 0.0]).is_err());
    }
}
