//! Weights: for classes in a loss, for rows in a sampler, for probabilities after re-sampling.

use crate::classes::Dense;
use crate::resample::{check_labels, finish, shares};
use crate::shuffle::Words;
use crate::{Resampled, SplitError, Target, Train};
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
/// [`WeightedSampler::balanced`] and [`WeightedSampler::to_target`] find the weights for a class distribution, and
/// [`WeightedSampler::sample`] reports how far the draws are from it.
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
#[derive(Debug, Clone, PartialEq)]
pub struct WeightedSampler {
    /// Of 2^32 chances at each place: how many stay.
    stay: Vec<u64>,
    alias: Vec<u32>,
    /// The row number of each place.
    rows: Vec<u32>,
    /// Classes and the share of each that is aimed at, where labels were given.
    classes: Option<(Vec<u32>, Vec<f64>)>,
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
        Ok(Self { stay, alias, rows: train.rows().to_vec(), classes: None })
    }

    /// A sampler that draws every class equally often, and the rows of a class alike.
    ///
    /// # Errors
    /// [`SplitError::LengthMismatch`], [`SplitError::NoRows`].
    pub fn balanced<D>(train: &Train<D>, labels: &[u32]) -> Result<Self, SplitError> {
        Self::to_target(train, labels, &Target::Uniform)
    }

    /// A sampler whose draws follow a class distribution, and take the rows of a class alike.
    ///
    /// # Errors
    /// [`SplitError::LengthMismatch`], [`SplitError::NoRows`], a `ConfigError` for a label that does not occur or a share that
    /// is negative or not finite.
    pub fn to_target<D>(
        train: &Train<D>,
        labels: &[u32],
        target: &Target,
    ) -> Result<Self, SplitError> {
        check_labels(train, labels)?;
        let classes = Dense::by_appearance(labels);
        let shares = shares(target, &classes)?;
        let weight = |number: usize| shares[number] / classes.counts[number] as f64;
        let weights: Vec<f64> = labels.iter().map(|&code| weight(classes.number(code))).collect();
        let sampler = Self::new(train, &weights)?;
        Ok(Self { classes: Some((labels.to_vec(), shares)), ..sampler })
    }

    /// `count` draws with a report: places and row numbers ascending, repeated as often as they were drawn.
    ///
    /// The row numbers go into `Subset::new` (feature `burn`) and so into burn's loaders. Without labels the
    /// report knows one class only.
    #[must_use]
    pub fn sample(&self, count: usize, seed: Seed) -> Resampled {
        let mut places = self.draw(count, seed);
        places.sort_unstable();
        let none = vec![0; self.rows.len()];
        let (labels, shares) = match &self.classes {
            Some((labels, shares)) => (labels, shares.as_slice()),
            None => (&none, [1.0].as_slice()),
        };
        let classes = Dense::by_appearance(labels);
        let mut after = vec![0; classes.len()];
        places.iter().for_each(|&p| after[classes.number(labels[p as usize])] += 1);
        finish("weighted_sampler", &self.rows, &classes, shares, &after, places, seed)
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
    fn weights_stand_in_the_ratios_of_their_formulas() {
        // Classes of 4, 2 and 1 rows. Balanced weights need no scaling: 7 / (3 n_c).
        let labels = [0, 0, 0, 0, 1, 1, 2];
        let train = part(7);
        let of = |weighting| class_weights(&train, &labels, weighting).expect("valid");
        let near = |seen: f64, expected: f64| assert!((seen - expected).abs() < 1e-12, "{seen}");
        let balanced = of(Weighting::Balanced);
        for (class, expected) in [7.0 / 12.0, 7.0 / 6.0, 7.0 / 3.0].into_iter().enumerate() {
            assert_eq!(balanced[class].0, class as u32);
            near(balanced[class].1, expected);
        }
        let ratios = |weights: &[(u32, f64)]| [1, 2].map(|class| weights[class].1 / weights[0].1);
        let [one, two] = ratios(&of(Weighting::SquareRoot));
        near(one, 2f64.sqrt());
        near(two, 2.0);
        // (1 - 0.9^4) / (1 - 0.9^2) and / (1 - 0.9).
        let [one, two] = ratios(&of(Weighting::EffectiveNumber { beta: 0.9 }));
        near(one, 1.81);
        near(two, 3.439);
    }

    #[test]
    fn draws_to_a_target_say_how_far_they_are_from_it() {
        let labels: Vec<u32> = (0..200).map(|row| u32::from(row >= 180)).collect();
        let drawn =
            WeightedSampler::balanced(&part(200), &labels).expect("valid").sample(10_000, Seed(3));
        assert_eq!((drawn.rows.len(), drawn.report.target.clone()), (10_000, vec![0.5, 0.5]));
        assert!((drawn.report.distance_before - 0.4).abs() < 1e-12);
        // Five deviations of a share: 5 sqrt(0.25 / 10000).
        assert!(drawn.report.distance_after < 0.025, "{:?}", drawn.report);
        assert!(drawn.rows.iter().all(|row| (100..300).contains(row)));
        assert_eq!(
            drawn.report.dropped + drawn.report.repeated,
            10_000 - 200 + 2 * drawn.report.dropped
        );
        let only = WeightedSampler::to_target(&part(200), &labels, &Target::Shares(vec![(1, 1.0)]))
            .expect("valid")
            .sample(50, Seed(3));
        assert!(only.rows.iter().all(|&row| row >= 280) && only.report.distance_after == 0.0);
        let unknown =
            WeightedSampler::to_target(&part(200), &labels, &Target::Counts(vec![(7, 1)]));
        assert!(unknown.expect_err("no such label").to_string().contains("target label"));
        let plain = WeightedSampler::new(&part(3), &[1.0; 3]).expect("valid").sample(0, Seed(1));
        assert_eq!((plain.rows.len(), plain.report.dropped), (0, 3));
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
