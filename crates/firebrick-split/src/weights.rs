//! Weights: for classes in a loss, for rows in a sampler, for probabilities after re-sampling.

use crate::classes::Dense;
use crate::resample::check_labels;
use crate::shuffle::Words;
use crate::{SplitError, Train};
use firebrick_core::{Seed, check};

/// How a class's weight follows from its rows.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Weighting {
    /// `n / (C n_c)`.
    Balanced,
    /// `1 / sqrt(n_c)`.
    SquareRoot,
    /// `(1 - beta) / (1 - beta^n_c)`, the effective number of samples (Y. Cui et al., CVPR 2019); `beta` in [0, 1).
    EffectiveNumber {
        /// 0 gives equal weights, 0.99 to 0.9999 are usual.
        beta: f64,
    },
}

/// The weight of each class, in order of first appearance: (label, weight), scaled so that the mean over rows is 1.
///
/// # Errors
/// [`SplitError::LengthMismatch`], [`SplitError::NoRows`], a `ConfigError` for `beta` outside [0, 1).
///
/// ```
/// use firebrick_split::{Train, Weighting, class_weights};
///
/// let train = Train::new((), vec![0, 1, 2, 3]);
/// let weights = class_weights(&train, &[7, 7, 7, 9], Weighting::Balanced)?;
/// assert_eq!(weights, [(7, 4.0 / 6.0), (9, 2.0)]);
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
pub fn class_weights<D>(
    train: &Train<D>,
    labels: &[u32],
    weighting: Weighting,
) -> Result<Vec<(u32, f64)>, SplitError> {
    check_labels(train, labels)?;
    let classes = Dense::by_appearance(labels);
    let n = labels.len() as f64;
    let raw = |count: usize| -> Result<f64, SplitError> {
        let count = count as f64;
        Ok(match weighting {
            Weighting::Balanced => n / (classes.len() as f64 * count),
            Weighting::SquareRoot => 1.0 / count.sqrt(),
            Weighting::EffectiveNumber { beta } => {
                check::range("beta", beta, 0.0..1.0)?;
                // 1 - beta^n without cancellation for beta near 1.
                (1.0 - beta) / -libm::expm1(count * libm::log(beta))
            }
        })
    };
    let weights =
        classes.counts.iter().map(|&count| raw(count)).collect::<Result<Vec<f64>, _>>()?;
    let mean =
        weights.iter().zip(&classes.counts).map(|(w, &count)| w * count as f64).sum::<f64>() / n;
    Ok(classes.codes.iter().zip(weights).map(|(&code, w)| (code, w / mean)).collect())
}

/// Draws rows with replacement in proportion to weights, by an alias table of exact integers.
///
/// Any number of rows, constant time a draw. M. D. Vose, "A linear algorithm for generating random numbers with a given
/// distribution", IEEE TSE 1991.
///
/// ```
/// use firebrick_core::Seed;
/// use firebrick_split::{Train, WeightedSampler};
///
/// let train = Train::new((), vec![4, 5, 6]);
/// let sampler = WeightedSampler::new(&train, &[0.0, 1.0, 3.0])?;
/// let drawn = sampler.draw(1000, Seed(1));
/// assert!(!drawn.contains(&0) && drawn.len() == 1000);
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightedSampler {
    /// Of 2^32 chances at each place: how many stay.
    stay: Vec<u64>,
    alias: Vec<u32>,
}

impl WeightedSampler {
    /// A sampler over the rows of a training part.
    ///
    /// # Errors
    /// [`SplitError::LengthMismatch`], [`SplitError::NoRows`], a `ConfigError` for a weight that is negative or not finite
    /// (its row in the field), or when all are 0.
    pub fn new<D>(train: &Train<D>, weights: &[f64]) -> Result<Self, SplitError> {
        let n = train.rows().len();
        if n == 0 {
            return Err(SplitError::NoRows);
        }
        if weights.len() != n {
            return Err(SplitError::LengthMismatch { column: "weights", len: weights.len(), n });
        }
        let most = weights.iter().enumerate().try_fold(0.0f64, |most, (row, &weight)| {
            check::non_negative(&format!("weights[{row}]"), weight).map(|w| most.max(w))
        })?;
        check::positive("largest weight", most)?;
        // Integers of 53 bits at most, so that their sum is exact in 128 bits.
        let scaled: Vec<u128> =
            weights.iter().map(|w| (w / most * (1u64 << 53) as f64) as u128).collect();
        let sum: u128 = scaled.iter().sum();
        // Each place holds `sum` units; a place with less is filled up by one with more.
        let mut units: Vec<u128> = scaled.iter().map(|w| w * n as u128).collect();
        let mut alias: Vec<u32> = (0..n as u32).collect();
        let (mut small, mut large): (Vec<u32>, Vec<u32>) =
            (0..n as u32).partition(|&place| units[place as usize] < sum);
        let mut stay = vec![1u64 << 32; n];
        while let (Some(&low), Some(&high)) = (small.last(), large.last()) {
            small.pop();
            stay[low as usize] = ((units[low as usize] << 32) / sum) as u64;
            alias[low as usize] = high;
            units[high as usize] -= sum - units[low as usize];
            if units[high as usize] < sum {
                large.pop();
                small.push(high);
            }
        }
        Ok(Self { stay, alias })
    }

    /// `count` places of the training part, in the order drawn.
    #[must_use]
    pub fn draw(&self, count: usize, seed: Seed) -> Vec<u32> {
        let mut words = Words::new(seed.stream("split/weighted"));
        (0..count)
            .map(|_| {
                let place = words.below(self.stay.len() as u32);
                let chance = u64::from(words.next());
                if chance < self.stay[place as usize] { place } else { self.alias[place as usize] }
            })
            .collect()
    }
}

/// The probability of the positive class for the natural distribution, from the output `s` of a model that was trained
/// with negatives kept at rate `b`: `b s / (b s - s + 1)`.
///
/// # Errors
/// A `ConfigError` for `s` outside [0, 1] or `b` outside (0, 1].
///
/// ```
/// assert!((firebrick_split::corrected_probability(0.5, 0.1)? - 1.0 / 11.0).abs() < 1e-12);
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
pub fn corrected_probability(s: f64, b: f64) -> Result<f64, SplitError> {
    check::range("s", s, 0.0..=1.0)?;
    check::range("b", b, (std::ops::Bound::Excluded(0.0), std::ops::Bound::Included(1.0)))?;
    Ok(b * s / (b * s - s + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(n: u32) -> Train<()> {
        Train::new((), (100..100 + n).collect())
    }

    #[test]
    fn weights_have_mean_one() {
        let labels = [0, 0, 0, 0, 1, 1, 2];
        let train = part(7);
        for weighting in [
            Weighting::Balanced,
            Weighting::SquareRoot,
            Weighting::EffectiveNumber { beta: 0.999 },
            Weighting::EffectiveNumber { beta: 0.0 },
        ] {
            let weights = class_weights(&train, &labels, weighting).expect("valid");
            let mean: f64 =
                labels.iter().map(|&label| weights[label as usize].1).sum::<f64>() / 7.0;
            assert!((mean - 1.0).abs() < 1e-12);
        }
        let equal = class_weights(&train, &labels, Weighting::EffectiveNumber { beta: 0.0 })
            .expect("valid");
        assert!(equal.iter().all(|(_, weight)| (weight - 1.0).abs() < 1e-12));
        assert!(class_weights(&train, &labels, Weighting::EffectiveNumber { beta: 1.0 }).is_err());
    }

    #[test]
    fn weighted_draws_follow_their_weights() {
        let weights = [1.0, 0.0, 2.5, 0.5, 6.0];
        let sampler = WeightedSampler::new(&part(5), &weights).expect("valid");
        let mut counts = [0.0f64; 5];
        for place in sampler.draw(100_000, Seed(4)) {
            counts[place as usize] += 1.0;
        }
        assert_eq!(counts[1], 0.0);
        // Chi-square with 3 degrees of freedom: 0.9999 quantile 21.1.
        let chi: f64 = (0..5)
            .filter(|&i| weights[i] > 0.0)
            .map(|i| (counts[i] - 1e4 * weights[i]).powi(2) / (1e4 * weights[i]))
            .sum();
        assert!(chi < 21.1, "{chi}");
        assert!(
            WeightedSampler::new(&part(2), &[1.0, -1.0])
                .expect_err("negative")
                .to_string()
                .contains("weights[1]")
        );
        assert!(WeightedSampler::new(&part(2), &[1.0, f64::NAN]).is_err());
        assert!(WeightedSampler::new(&part(2), &[0.0, 0.0]).is_err());
        assert!(WeightedSampler::new(&part(2), &[1.0]).is_err());
    }
}
