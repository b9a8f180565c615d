//! Measuring the short list: the same folds and seeds for all, own learning rates, ties to the cheaper.

use crate::advise::contender::check_contenders;
use crate::advise::{
    AdviseError, Contender, Entry, MeasureConfig, Measurement, Paired, Tie, Trial,
};
use crate::score::{Labels, ScoreError};
use firebrick_core::Seed;
use firebrick_select::corrected_interval;
use firebrick_split::{Rows, Splits, Splitter, StratifiedKFold};
use rayon::prelude::*;
use std::fmt::Display;

/// Runs the short list over the folds of the labelled data and picks.
///
/// The score is the share of held-out rows that are right. The test set is not part of this: the mean of the winner
/// is optimistic, by a point or so with fifty samples.
///
/// ```
/// use firebrick_core::Seed;
/// use firebrick_transfer::advise::{Contender, MeasureConfig, Measured, Trial};
///
/// let contender = |name: &str, parameters| Contender {
///     name: name.into(), recipe: (), parameters, steps: 1, rates: vec![0.1],
/// };
/// let list = [contender("head only", 10), contender("full", 100)];
/// let labels: Vec<u32> = (0..20).map(|i| i % 2).collect();
/// // Equal scores: the cheaper one is taken.
/// let score = |_: &Trial<()>| Ok::<f64, String>(0.75);
/// let found = Measured::new(MeasureConfig::default())?.run(&labels, &list, Some("full"), Seed(1), score)?;
/// assert_eq!((found.chosen(), found.fits), ("head only", 10));
/// # Ok::<(), firebrick_transfer::advise::AdviseError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    config: MeasureConfig,
}

/// Rows to train on and rows to score on.
type Halves = (Vec<u32>, Vec<u32>);

/// Rows of a fold.
struct Part {
    train: Vec<u32>,
    held: Vec<u32>,
    seed: Seed,
    /// Inner folds, as row numbers of the whole.
    inner: Vec<Halves>,
}

impl Measured {
    /// A measurement.
    ///
    /// # Errors
    /// When the configuration is out of range.
    pub fn new(config: MeasureConfig) -> Result<Self, AdviseError> {
        config.check()?;
        Ok(Self { config })
    }

    /// Runs every contender on every fold by `score`, and chooses.
    ///
    /// The seed of a trial depends on its fold alone, so contenders meet the same rows and the same draws. With
    /// several rates a contender chooses one on inner folds of each training part, never on the held-out rows.
    /// `expected` names the rule's choice, to which differences are reported. Contenders run in parallel; the result
    /// does not depend on threads.
    ///
    /// # Errors
    /// When there is no contender, equal names, no rate or one that is not above 0, an `expected` that is not among
    /// them, one class, a class with fewer than 2 samples; when a training fails or its score is not in [0, 1].
    pub fn run<R: Sync, E: Display>(
        &self,
        labels: &[u32],
        contenders: &[Contender<R>],
        expected: Option<&str>,
        seed: Seed,
        score: impl Fn(&Trial<'_, R>) -> Result<f64, E> + Sync,
    ) -> Result<Measurement, AdviseError> {
        let expected = check_contenders(contenders, expected)?;
        let parts = self.parts(&Labels::new(labels)?, labels, seed)?;
        let mut table: Vec<Vec<(f64, f64)>> = vec![Vec::new(); contenders.len()];
        let mut running: Vec<usize> = (0..contenders.len()).collect();
        let mut fits = 0;
        for (fold, part) in parts.iter().enumerate() {
            let job = |&index: &usize| self.fold(&contenders[index], part, fold, &score);
            let results: Vec<_> = running.par_iter().map(job).collect();
            for (&index, result) in running.iter().zip(results) {
                let (value, rate, count) = result?;
                table[index].push((value, rate));
                fits += count;
            }
            if let Some(race) = self.config.race.filter(|_| fold > 0 && fold + 1 < parts.len()) {
                drop_behind(&mut running, &table, &parts[..=fold], race);
            }
        }
        Ok(self.summary(contenders, &table, &parts, expected, fits))
    }

    fn parts(&self, labels: &Labels, values: &[u32], seed: Seed) -> Result<Vec<Part>, ScoreError> {
        labels.at_least(2)?;
        let folds = self.config.folds.min(labels.rarest());
        let mut parts = Vec::new();
        for repeat in 0..self.config.repeats as u64 {
            let seed = seed.child(repeat);
            let rows = Rows::new(values.len()).with_labels(values);
            let splits = StratifiedKFold::new(folds).with_shuffle(seed).split(&rows)?;
            for (fold, split) in splits.iter().enumerate() {
                let seed = seed.child(fold as u64);
                let (train, held) = (split.train.into_vec(), split.valid.into_vec());
                let inner = self.inner(&train, values, seed)?;
                parts.push(Part { train, held, seed, inner });
            }
        }
        Ok(parts)
    }

    /// Inner folds; none where a class has one sample in the training part.
    fn inner(&self, train: &[u32], values: &[u32], seed: Seed) -> Result<Vec<Halves>, ScoreError> {
        let part: Vec<u32> = train.iter().map(|&row| values[row as usize]).collect();
        let folds = self.config.inner_folds.min(Labels::new(&part)?.rarest());
        if folds < 2 {
            return Ok(Vec::new());
        }
        let rows = Rows::new(part.len()).with_labels(&part);
        let splits = StratifiedKFold::new(folds).with_shuffle(seed.child(1)).split(&rows)?;
        let whole = |rows: Vec<u32>| rows.iter().map(|&row| train[row as usize]).collect();
        Ok(splits
            .iter()
            .map(|split| (whole(split.train.into_vec()), whole(split.valid.into_vec())))
            .collect())
    }

    /// Score, rate and number of fits of a contender on a fold.
    fn fold<R, E: Display>(
        &self,
        contender: &Contender<R>,
        part: &Part,
        fold: usize,
        score: impl Fn(&Trial<'_, R>) -> Result<f64, E>,
    ) -> Result<(f64, f64, usize), AdviseError> {
        let judge = |rate: f64, train: &[u32], held: &[u32], seed: Seed| {
            let name = || contender.name.clone();
            let trial = Trial { contender, rate, train, held, seed, fold };
            let value = score(&trial).map_err(|problem| AdviseError::Training {
                name: name(),
                rate,
                fold,
                problem: problem.to_string(),
            })?;
            if (0.0..=1.0).contains(&value) {
                return Ok(value);
            }
            Err(AdviseError::Score01 { name: name(), rate, fold, score: value.to_string() })
        };
        let mut fits = 1;
        let middle = contender.rates[(contender.rates.len() - 1) / 2];
        let mut best = (f64::NEG_INFINITY, middle);
        if contender.rates.len() > 1 && !part.inner.is_empty() {
            for &rate in &contender.rates {
                let mut sum = 0.0;
                for (index, (train, held)) in part.inner.iter().enumerate() {
                    sum += judge(rate, train, held, part.seed.child(2 + index as u64))?;
                    fits += 1;
                }
                if sum > best.0 {
                    best = (sum, rate);
                }
            }
        }
        let value = judge(best.1, &part.train, &part.held, part.seed)?;
        Ok((value, best.1, fits))
    }

    fn summary<R>(
        &self,
        contenders: &[Contender<R>],
        table: &[Vec<(f64, f64)>],
        parts: &[Part],
        expected: Option<usize>,
        fits: usize,
    ) -> Measurement {
        let scores: Vec<Vec<f64>> =
            table.iter().map(|row| row.iter().map(|(score, _)| *score).collect()).collect();
        let ratio = parts.iter().map(|part| part.held.len() as f64 / part.train.len() as f64);
        let ratio = ratio.sum::<f64>() / parts.len() as f64;
        let paired = |a: usize, b: usize| {
            let differences: Vec<f64> =
                scores[a].iter().zip(&scores[b]).map(|(a, b)| a - b).collect();
            let ends = corrected_interval(&differences, ratio, self.config.level).ok();
            Paired {
                mean: mean(&differences),
                low: ends.map(|ends| ends.0),
                high: ends.map(|ends| ends.1),
                folds: differences.len(),
            }
        };
        let full = |index: &usize| scores[*index].len() == parts.len();
        let cost = |index: usize| (contenders[index].parameters, contenders[index].steps, index);
        let finishers: Vec<usize> = (0..contenders.len()).filter(full).collect();
        let best = finishers.iter().copied().reduce(|best, next| {
            let (a, b) = (mean(&scores[best]), mean(&scores[next]));
            // Sums in another order differ by roundings; equals go to the cheaper.
            if b > a + 1e-12 || ((b - a).abs() <= 1e-12 && cost(next) < cost(best)) {
                next
            } else {
                best
            }
        });
        let best = best.unwrap_or(0);
        let as_good = |index: &usize| {
            let behind = paired(*index, best);
            match self.config.tie {
                Tie::Margin(margin) => behind.mean >= -margin - 1e-12,
                Tie::Interval => behind.high.is_none_or(|high| high >= 0.0),
            }
        };
        let choice = finishers.iter().copied().filter(as_good).min_by_key(|index| cost(*index));
        let choice = choice.unwrap_or(best);
        let rival = finishers
            .iter()
            .copied()
            .filter(|index| *index != choice)
            .max_by(|a, b| mean(&scores[*a]).total_cmp(&mean(&scores[*b])));
        let tie = rival.is_some_and(|rival| {
            let difference = paired(choice, rival);
            difference.low.is_none_or(|low| low <= 0.0)
                && difference.high.is_none_or(|high| high >= 0.0)
        });
        let entries = contenders.iter().enumerate().map(|(index, contender)| Entry {
            name: contender.name.clone(),
            mean: mean(&scores[index]),
            interval: corrected_interval(&scores[index], ratio, self.config.level).ok(),
            to_expected: expected.map(|expected| paired(index, expected)),
            to_best: paired(index, best),
            dropped: !full(&index),
            at_edge: at_edge(&contender.rates, &table[index]),
            rates: table[index].iter().map(|(_, rate)| *rate).collect(),
            scores: scores[index].clone(),
        });
        let entries: Vec<Entry> = entries.collect();
        let mut reason = format!(
            "right on {:.3} of held-out rows in {} folds",
            entries[choice].mean,
            parts.len()
        );
        if choice != best {
            let (name, behind) = (&entries[best].name, -entries[choice].to_best.mean);
            reason += &format!(", cheaper than {name} and at most {behind:.3} behind it");
        }
        if tie {
            reason += "; the difference to the next is within its interval: a tie";
        }
        Measurement {
            best,
            choice,
            tie,
            regret_of_expected: expected.map(|expected| paired(choice, expected).mean),
            fits,
            reason,
            entries,
        }
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Whether most folds chose an end of a grid of three or more.
fn at_edge(rates: &[f64], folds: &[(f64, f64)]) -> bool {
    if rates.len() < 3 {
        return false;
    }
    let low = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let high = rates.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let ends = folds.iter().filter(|(_, rate)| *rate == low || *rate == high).count();
    2 * ends > folds.len()
}

/// The standard error of the difference of two shares of about this size on so many rows.
pub(super) fn error_of_difference(share: f64, rows: f64) -> f64 {
    // A share of 0 or 1 has no spread; half a row keeps the error above 0.
    let share = share.clamp(0.5 / rows, 1.0 - 0.5 / rows);
    (2.0 * share * (1.0 - share) / rows).sqrt()
}

/// Drops whoever is more than `race` standard errors of the difference of two shares behind the best so far.
fn drop_behind(running: &mut Vec<usize>, table: &[Vec<(f64, f64)>], parts: &[Part], race: f64) {
    let rows: f64 = parts.iter().map(|part| part.held.len() as f64).sum();
    let so_far = |index: usize| {
        let row = &table[index];
        row.iter().map(|(score, _)| score).sum::<f64>() / row.len() as f64
    };
    let best = running.iter().map(|index| so_far(*index)).fold(f64::NEG_INFINITY, f64::max);
    let error = error_of_difference(best, rows);
    running.retain(|index| so_far(*index) >= best - race * error);
}
