//! The logistic probe: multinomial logistic regression to convergence.

use crate::probe::Head;
use crate::probe::newton::Problem;
use crate::score::{Features, Labels, ScoreError, first_largest};
use faer::Mat;
use firebrick_core::{ConfigError, Seed, check};
use firebrick_split::{Rows, Splits, Splitter, StratifiedKFold};
use serde::{Deserialize, Serialize};

/// Configuration of [`LogisticProbe`].
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `l2` | 1e-2 | above 0 |
/// | `standardise` | true | |
/// | `tolerance` | 1e-8 | above 0 |
/// | `max_iterations` | 200 | at least 1 |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogisticConfig {
    /// Weight of the squared weights; `1 / (C n)` in scikit-learn's terms.
    pub l2: f64,
    /// Whether the penalty is on the weights of standardised features.
    pub standardise: bool,
    /// Largest entry of the gradient at which the fit is done.
    pub tolerance: f64,
    /// Newton steps, at most.
    pub max_iterations: usize,
}

impl Default for LogisticConfig {
    fn default() -> Self {
        Self { l2: 1e-2, standardise: true, tolerance: 1e-8, max_iterations: 200 }
    }
}

/// Multinomial logistic regression on frozen features: the linear probe.
///
/// ```text
/// min over W, b of  1/n sum_i CE(softmax(x_i W + b), y_i) + l2/2 |W|^2
/// ```
///
/// by a truncated Newton method, which converges to rounding in some ten steps. The bias is not shrunk. What stands
/// in [`head`](Self::head) applies to the features as they are, standardised or not.
///
/// # Source
/// S. Kornblith, J. Shlens, Q. Le, "Do Better ImageNet Models Transfer Better?", CVPR 2019, for the probe; J.
/// Nocedal, S. Wright, "Numerical Optimization", 2006, chapter 7, for the method.
///
/// ```
/// use firebrick_transfer::probe::{LogisticConfig, LogisticProbe};
/// use firebrick_transfer::score::{Features, Labels};
///
/// let features = Features::new(vec![1.0, 1.2, 0.9, -1.0, -0.8, -1.1], 1)?;
/// let labels = Labels::new(&[4, 4, 4, 9, 9, 9])?;
/// let probe = LogisticProbe::fit(&features, &labels, &LogisticConfig::default())?;
/// assert!(probe.converged && probe.head.accuracy(&features, &[4, 4, 4, 9, 9, 9])? == 1.0);
/// # Ok::<(), firebrick_transfer::score::ScoreError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LogisticProbe {
    /// The weight of the squared weights.
    pub l2: f64,
    /// The linear head.
    pub head: Head,
    /// The loss, penalty included.
    pub loss: f64,
    /// Largest entry of the gradient at the end.
    pub slope: f64,
    /// Newton steps taken.
    pub iterations: usize,
    /// Whether the gradient fell below the tolerance.
    pub converged: bool,
}

impl LogisticProbe {
    /// Fits with one penalty.
    ///
    /// # Errors
    /// When rows and labels differ in number, all columns are constant, or the configuration is out of range.
    pub fn fit(
        features: &Features,
        labels: &Labels,
        config: &LogisticConfig,
    ) -> Result<Self, ScoreError> {
        features.fit(labels)?;
        features.varies()?;
        check::positive("l2", config.l2)?;
        check::positive("tolerance", config.tolerance)?;
        check::at_least("max_iterations", config.max_iterations, 1)?;
        let (n, d, width) = (features.rows(), features.columns(), labels.classes());
        let (means, scales) = if config.standardise {
            let scale = |s: &f64| if *s > 0.0 { 1.0 / s } else { 0.0 };
            (features.means(), features.deviations().iter().map(scale).collect())
        } else {
            (vec![0.0; d], vec![1.0; d])
        };
        let inputs = Mat::from_fn(n, d + 1, |row, k| {
            if k < d { (features.row(row)[k] - means[k]) * scales[k] } else { 1.0 }
        });
        let problem =
            Problem { inputs: inputs.as_ref(), classes: labels.index(), width, l2: config.l2 };
        // The bias that is best without features, the log shares.
        let start = Mat::from_fn(d + 1, width, |k, class| {
            if k < d { 0.0 } else { (labels.counts()[class] as f64 / n as f64).ln() }
        });
        let found = problem.minimise(start, config.tolerance, config.max_iterations);
        let mut head = Head::new(d, labels);
        for class in 0..width {
            head.bias[class] = found.weights[(d, class)];
            for k in 0..d {
                let weight = found.weights[(k, class)] * scales[k];
                head.weights[k * width + class] = weight;
                head.bias[class] -= means[k] * weight;
            }
        }
        Ok(Self {
            l2: config.l2,
            head,
            loss: found.loss,
            slope: found.slope,
            iterations: found.iterations,
            converged: found.slope <= config.tolerance,
        })
    }

    /// Fits with the penalty of `grid` that has the smallest mean cross-entropy in stratified cross-validation; the
    /// larger among equals.
    ///
    /// # Errors
    /// As [`fit`](Self::fit), and when the grid is empty or a class has fewer samples than there are folds.
    pub fn fit_grid(
        features: &Features,
        labels: &Labels,
        config: &LogisticConfig,
        grid: &[f64],
        folds: usize,
        seed: Seed,
    ) -> Result<Self, ScoreError> {
        features.fit(labels)?;
        labels.at_least(folds)?;
        let values = labels.values();
        let rows = Rows::new(values.len()).with_labels(&values);
        let splits = StratifiedKFold::new(folds).with_shuffle(seed).split(&rows)?;
        let mut losses = vec![0.0; grid.len()];
        for split in splits.iter() {
            let (train, held): (Vec<u32>, Vec<u32>) =
                (split.train.into_vec(), split.valid.into_vec());
            let part = |rows: &[u32]| rows.iter().map(|&r| values[r as usize]).collect::<Vec<_>>();
            let (inside, outside) = (features.select(&train)?, features.select(&held)?);
            let inside_labels = Labels::new(&part(&train))?;
            for (loss, &l2) in losses.iter_mut().zip(grid) {
                let config = LogisticConfig { l2, ..config.clone() };
                let probe = Self::fit(&inside, &inside_labels, &config)?;
                *loss += probe.cross_entropy(&outside, &part(&held))?;
            }
        }
        let mut best: Option<(f64, f64)> = None;
        for (&loss, &l2) in losses.iter().zip(grid) {
            if best.is_none_or(|(least, at)| loss < least || (loss == least && l2 > at)) {
                best = Some((loss, l2));
            }
        }
        let Some((_, l2)) = best else {
            return Err(ConfigError::new("grid", "none", "at least one number above 0").into());
        };
        Self::fit(features, labels, &LogisticConfig { l2, ..config.clone() })
    }

    /// The logits of each row, `[rows, classes]`.
    ///
    /// # Errors
    /// As [`Head::logits`].
    pub fn logits(&self, features: &Features) -> Result<Vec<f64>, ScoreError> {
        self.head.logits(features)
    }

    /// The sum of the rows' cross-entropies; infinite for a label that the head has no output for.
    ///
    /// # Errors
    /// As [`Head::logits`].
    pub fn cross_entropy(&self, features: &Features, labels: &[u32]) -> Result<f64, ScoreError> {
        let logits = self.head.logits(features)?;
        let rows = logits.chunks_exact(self.head.names.len());
        let loss = |(row, label): (&[f64], &u32)| {
            let largest = row[first_largest(row) as usize];
            let sum: f64 = row.iter().map(|logit| (logit - largest).exp()).sum();
            let own = self.head.names.iter().position(|name| name == label);
            own.map_or(f64::INFINITY, |at| largest + sum.ln() - row[at])
        };
        Ok(rows.zip(labels).map(loss).sum())
    }
}
