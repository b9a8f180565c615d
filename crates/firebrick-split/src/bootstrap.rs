//! The bootstrap: rows drawn with replacement, judged on those that were not drawn.

use crate::splitter::no_split;
use crate::{Rows, Spec, Split, SplitError, Splits, Splitter, Warning};
use firebrick_core::{ConfigError, Seed, check};

/// Draws `n` rows with replacement to train on, and tests on the rows out of the bag (36.8 % on average).
///
/// A replicate without rows out of the bag is drawn again and counted in a warning. Replicate `r` depends on the
/// seed and `r` alone. Training lists are ascending and hold repeated rows repeatedly.
///
/// Errors: [`SplitError::NoRows`], a `ConfigError` for no replicate or a single row.
///
/// ```
/// use firebrick_core::Seed;
/// use firebrick_split::{Bootstrap, Rows, Splits, Splitter};
///
/// let splits = Bootstrap::new(50, Seed(7)).split(&Rows::new(20))?;
/// let split = splits.get(0)?;
/// assert_eq!(split.train.len(), 20);
/// assert!(split.valid.iter().all(|row| !split.train.contains(row)));
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    replicates: usize,
    seed: Seed,
}

impl Bootstrap {
    /// `replicates` draws under `seed`.
    #[must_use]
    pub fn new(replicates: usize, seed: Seed) -> Self {
        Self { replicates, seed }
    }
}

/// Bootstrap replicates, each drawn when it is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct BootstrapSplits {
    n: usize,
    scheme: Bootstrap,
    warnings: Vec<Warning>,
}

impl Bootstrap {
    /// How often each row is drawn in replicate `index`, and how many draws were discarded before.
    fn draw(&self, n: usize, index: usize) -> (Vec<u32>, usize) {
        let mut words =
            crate::shuffle::Words::new(self.seed.child(index as u64).stream("split/bootstrap"));
        let mut discarded = 0;
        loop {
            let mut counts = vec![0u32; n];
            for _ in 0..n {
                counts[words.below(n as u32) as usize] += 1;
            }
            if counts.contains(&0) {
                return (counts, discarded);
            }
            discarded += 1;
        }
    }
}

impl Splitter for Bootstrap {
    type Output = BootstrapSplits;

    fn split(&self, rows: &Rows<'_>) -> Result<BootstrapSplits, SplitError> {
        rows.check()?;
        check::at_least("replicates", self.replicates, 1)?;
        check::at_least("n", rows.n, 2)?;
        let mut warnings = rows.ignored("bootstrap", false, false);
        // Beyond 40 rows an empty bag has probability below 1e-15.
        if rows.n <= 40 {
            let redrawn = (0..self.replicates).map(|r| self.draw(rows.n, r).1).sum();
            if redrawn > 0 {
                warnings.push(Warning::Redrawn { redrawn });
            }
        }
        Ok(BootstrapSplits { n: rows.n, scheme: self.clone(), warnings })
    }

    fn spec(&self) -> Spec {
        Spec::new("bootstrap", Some(self.seed)).with("replicates", self.replicates)
    }

    fn reseeded(&self, seed: Seed) -> Option<Self> {
        Some(Self { seed, ..self.clone() })
    }
}

impl BootstrapSplits {
    /// How often each row is drawn in replicate `index`.
    ///
    /// # Errors
    /// [`SplitError::NoSuchSplit`] when there is none of that number.
    pub fn counts(&self, index: usize) -> Result<Vec<u32>, SplitError> {
        if index >= self.scheme.replicates {
            return Err(no_split(index, self.scheme.replicates));
        }
        Ok(self.scheme.draw(self.n, index).0)
    }
}

impl Splits for BootstrapSplits {
    fn rows(&self) -> usize {
        self.n
    }

    fn count(&self) -> usize {
        self.scheme.replicates
    }

    fn get(&self, index: usize) -> Result<Split, SplitError> {
        let counts = self.counts(index)?;
        let mut train = Vec::with_capacity(self.n);
        let mut valid = Vec::new();
        for (row, &count) in counts.iter().enumerate() {
            match count {
                0 => valid.push(row as u32),
                _ => train.extend(std::iter::repeat_n(row as u32, count as usize)),
            }
        }
        Ok(Split { train: train.into(), valid: valid.into() })
    }

    fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

/// Estimates of the error of the model trained on all rows.
///
/// B. Efron, R. Tibshirani, "Improvements on cross-validation: the .632+ bootstrap method", JASA 1997.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BootstrapEstimate {
    /// Mean over rows of the mean loss in the replicates that left the row out.
    pub leave_one_out: f64,
    /// `0.368 err + 0.632 e1`.
    pub e632: f64,
    /// `(1 - w) err + w min(e1, gamma)` with `w = 0.632 / (1 - 0.368 R)`.
    pub e632_plus: f64,
    /// The relative over-fitting rate `R`, between 0 and 1.
    pub overfitting: f64,
    /// Rows that no replicate left out; they do not enter `leave_one_out`.
    pub never_left_out: usize,
}

impl BootstrapEstimate {
    /// From the resubstitution error `err` (loss on the rows trained on), the loss of each row in each replicate that
    /// left it out, as (row, loss), and the no-information error `gamma`.
    ///
    /// `R = clip((min(e1, gamma) - err) / (gamma - err), 0, 1)`, and 0 where `gamma` does not exceed `err`.
    ///
    /// # Errors
    /// [`SplitError::NotANumber`] for a loss that is not finite, [`SplitError::NoSuchSplit`] for a row beyond `n`,
    /// [`SplitError::NoRows`] when no loss is given.
    pub fn new(
        n: usize,
        err: f64,
        out_of_bag: impl IntoIterator<Item = (u32, f64)>,
        gamma: f64,
    ) -> Result<Self, SplitError> {
        check::finite("err", err)?;
        check::finite("gamma", gamma)?;
        let mut sums = vec![(0.0f64, 0u32); n];
        for (row, loss) in out_of_bag {
            if !loss.is_finite() {
                return Err(SplitError::NotANumber { column: "out_of_bag", row: row as usize });
            }
            let sum = sums.get_mut(row as usize).ok_or_else(|| no_split(row as usize, n))?;
            *sum = (sum.0 + loss, sum.1 + 1);
        }
        let means: Vec<f64> = sums
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(sum, count)| sum / f64::from(*count))
            .collect();
        if means.is_empty() {
            return Err(SplitError::NoRows);
        }
        let e1 = means.iter().sum::<f64>() / means.len() as f64;
        let capped = e1.min(gamma);
        let overfitting =
            if gamma > err { ((capped - err) / (gamma - err)).clamp(0.0, 1.0) } else { 0.0 };
        let w = 0.632 / (1.0 - 0.368 * overfitting);
        Ok(Self {
            leave_one_out: e1,
            e632: 0.368 * err + 0.632 * e1,
            e632_plus: (1.0 - w) * err + w * capped,
            overfitting,
            never_left_out: n - means.len(),
        })
    }
}

/// The no-information error of a classifier: the error if labels and predictions were independent,
/// `sum over classes of p_c (1 - q_c)`.
///
/// # Errors
/// [`SplitError::Unpaired`] when they differ in number, [`SplitError::NoRows`] when there are none.
pub fn no_information_error(labels: &[u32], predictions: &[u32]) -> Result<f64, SplitError> {
    if labels.len() != predictions.len() {
        return Err(SplitError::Unpaired {
            left: "labels",
            left_len: labels.len(),
            right: "predictions",
            right_len: predictions.len(),
        });
    }
    if labels.is_empty() {
        return Err(SplitError::NoRows);
    }
    let mut counts = std::collections::BTreeMap::new();
    for (&label, &prediction) in labels.iter().zip(predictions) {
        counts.entry(label).or_insert((0u64, 0u64)).0 += 1;
        counts.entry(prediction).or_insert((0, 0)).1 += 1;
    }
    let n = labels.len() as f64;
    Ok(counts.values().map(|&(p, q)| p as f64 / n * (1.0 - q as f64 / n)).sum())
}

/// The no-information error of any loss: its mean over all pairs of a target and a prediction; O(n^2).
///
/// # Errors
/// A `ConfigError` when there is no target or no prediction.
pub fn no_information_loss<T, P>(
    targets: &[T],
    predictions: &[P],
    loss: impl Fn(&T, &P) -> f64,
) -> Result<f64, SplitError> {
    if targets.is_empty() || predictions.is_empty() {
        return Err(ConfigError::new("targets and predictions", 0, "at least one of each").into());
    }
    let sum: f64 =
        targets.iter().map(|t| predictions.iter().map(|p| loss(t, p)).sum::<f64>()).sum();
    Ok(sum / (targets.len() as f64 * predictions.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_follow_their_formulas() {
        // err 0, e1 0.5, gamma 0.5: R = 1, w = 0.632 / 0.632 = 1.
        let all = (0..4).map(|row| (row, 0.5));
        let total = BootstrapEstimate::new(4, 0.0, all, 0.5).expect("finite");
        assert_eq!((total.leave_one_out, total.overfitting), (0.5, 1.0));
        assert!((total.e632 - 0.316).abs() < 1e-12 && (total.e632_plus - 0.5).abs() < 1e-12);
        // No over-fitting: both agree.
        let none =
            BootstrapEstimate::new(2, 0.2, [(0, 0.1), (0, 0.3), (1, 0.2)], 0.5).expect("finite");
        assert!((none.e632_plus - 0.2).abs() < 1e-12 && none.overfitting.abs() < 1e-12);
        // Means are over rows, not over losses.
        let uneven = BootstrapEstimate::new(3, 0.0, [(0, 1.0), (0, 1.0), (0, 1.0), (2, 0.0)], 0.5)
            .expect("finite");
        assert_eq!((uneven.leave_one_out, uneven.never_left_out), (0.5, 1));
        // Worse than chance is capped, and a loss below err gives R = 0.
        let worse = BootstrapEstimate::new(1, 0.1, [(0, 0.9)], 0.5).expect("finite");
        assert!((worse.e632_plus - 0.5).abs() < 1e-12);
        let better = BootstrapEstimate::new(1, 0.4, [(0, 0.1)], 0.5).expect("finite");
        assert_eq!(better.overfitting, 0.0);
        assert!(BootstrapEstimate::new(1, 0.4, [(0, f64::NAN)], 0.5).is_err());
        assert!(BootstrapEstimate::new(1, 0.4, [(1, 0.0)], 0.5).is_err());
        assert!(BootstrapEstimate::new(1, 0.4, [], 0.5).is_err());
    }

    #[test]
    fn no_information_is_independence() {
        let error = no_information_error(&[0, 0, 0, 1], &[0, 1, 1, 1]).expect("paired");
        // p = (3/4, 1/4), q = (1/4, 3/4): 3/4 * 3/4 + 1/4 * 1/4.
        assert!((error - 0.625).abs() < 1e-12);
        let pairs = no_information_loss(&[0, 0, 0, 1], &[0, 1, 1, 1], |t, p| f64::from(t != p));
        assert_eq!(pairs, Ok(0.625));
        assert!(
            no_information_error(&[0], &[]).is_err() && no_information_error(&[], &[]).is_err()
        );
    }

    #[test]
    fn one_nearest_neighbour_on_noise_is_what_632_plus_is_for() {
        // 60 rows of random labels: 1-NN has err 0, truth 0.5. Published behaviour: .632 near 0.32, .632+ near 0.45.
        let mut stream = Seed(11).stream("test");
        let n = 60;
        let features: Vec<[f64; 2]> =
            (0..n).map(|_| [stream.uniform(), stream.uniform()]).collect();
        let labels: Vec<u32> = (0..n).map(|_| stream.below(2) as u32).collect();
        let splits = Bootstrap::new(100, Seed(3)).split(&Rows::new(n)).expect("splits");
        let mut losses = Vec::new();
        for split in splits.iter() {
            for row in split.valid.iter() {
                let distance = |other: &u32| {
                    let (a, b) = (features[row as usize], features[*other as usize]);
                    (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)
                };
                let nearest = split.train.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
                let nearest = nearest.expect("training rows") as usize;
                losses.push((row, f64::from(labels[nearest] != labels[row as usize])));
            }
        }
        let gamma = no_information_error(&labels, &labels).expect("paired");
        let estimate = BootstrapEstimate::new(n, 0.0, losses, gamma).expect("finite");
        assert!(estimate.e632 < 0.40 && estimate.e632_plus > 0.38, "{estimate:?}");
        assert!(estimate.e632_plus > estimate.e632);
    }

    #[test]
    fn small_bags_are_drawn_again_and_counted() {
        let splits = Bootstrap::new(400, Seed(1)).split(&Rows::new(3)).expect("splits");
        assert!(splits.iter().all(|split| !split.valid.is_empty()));
        // n!/n^n = 2/9 of the draws: about 114 before 400 succeed, with deviation 12.
        assert!(
            matches!(splits.warnings(), [Warning::Redrawn { redrawn }] if (50..180).contains(redrawn))
        );
        assert!(Bootstrap::new(0, Seed(1)).split(&Rows::new(3)).is_err());
        assert!(Bootstrap::new(1, Seed(1)).split(&Rows::new(1)).is_err());
    }
}
