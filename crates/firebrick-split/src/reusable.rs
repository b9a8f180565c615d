//! A hold-out that can be asked again and again without being worn out: Ladder and Thresholdout.

use crate::SplitError;
use firebrick_core::{Philox, Seed, check};

/// Answers the best loss so far, and moves only for real improvements.
///
/// A submission whose loss is below the best answer by more than `step` becomes the new answer, rounded to a
/// multiple of `step`; any other gets the old answer. With `step` near `1 / sqrt(n)` the answers stay within
/// `O(log(k n)^(1/3) / n^(1/3))` of the truth over `k` submissions, however adaptive.
/// A. Blum, M. Hardt, "The Ladder: a reliable leaderboard for machine learning competitions", ICML 2015.
///
/// ```
/// use firebrick_split::Ladder;
///
/// let mut ladder = Ladder::new(0.01)?;
/// assert_eq!(ladder.submit(0.253)?, 0.25);
/// assert_eq!(ladder.submit(0.247)?, 0.25); // no real improvement
/// assert_eq!(ladder.submit(0.2)?, 0.2);
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Ladder {
    step: f64,
    best: Option<f64>,
    submissions: u64,
}

impl Ladder {
    /// A ladder with this step.
    ///
    /// # Errors
    /// A `ConfigError` unless the step is positive and finite.
    pub fn new(step: f64) -> Result<Self, SplitError> {
        Ok(Self { step: check::positive("step", step)?, best: None, submissions: 0 })
    }

    /// A ladder with the step `1 / sqrt(n)` for `n` held-out rows.
    ///
    /// # Errors
    /// A `ConfigError` for no rows.
    pub fn for_rows(n: usize) -> Result<Self, SplitError> {
        Self::new(1.0 / (check::at_least("n", n, 1)? as f64).sqrt())
    }

    /// The answer to a submission with this loss on the held-out rows.
    ///
    /// # Errors
    /// A `ConfigError` when the loss is NaN or infinite.
    pub fn submit(&mut self, loss: f64) -> Result<f64, SplitError> {
        check::finite("loss", loss)?;
        self.submissions += 1;
        match self.best {
            Some(best) if loss >= best - self.step => Ok(best),
            _ => {
                let rounded = (loss / self.step).round() * self.step;
                self.best = Some(rounded);
                Ok(rounded)
            }
        }
    }

    /// How many submissions were answered.
    #[must_use]
    pub fn submissions(&self) -> u64 {
        self.submissions
    }
}

/// Answers with the training value unless the held-out value differs from it by more than a noisy threshold.
///
/// Each answer that reveals the held-out value costs one unit of the budget. Needs thousands of rows: the noise is
/// useless for hundreds.
/// C. Dwork et al., "The reusable holdout: preserving validity in adaptive data analysis", Science 2015.
///
/// ```
/// use firebrick_core::Seed;
/// use firebrick_split::Thresholdout;
///
/// let mut holdout = Thresholdout::new(0.04, 0.001, 2, Seed(7))?;
/// assert_eq!(holdout.ask(0.90, 0.89)?, 0.90); // close: the training value
/// let answer = holdout.ask(0.90, 0.70)?; // over-fitted: the held-out value with noise
/// assert!((answer - 0.70).abs() < 0.02 && holdout.budget() == 1);
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Thresholdout {
    threshold: f64,
    sigma: f64,
    total: u64,
    budget: u64,
    shift: f64,
    noise: Philox,
}

impl Thresholdout {
    /// A hold-out with this threshold, scale of the noise, and number of answers from the held-out rows.
    ///
    /// # Errors
    /// A `ConfigError` unless threshold and scale are positive and finite and the budget is at least 1.
    pub fn new(threshold: f64, sigma: f64, budget: u64, seed: Seed) -> Result<Self, SplitError> {
        check::positive("threshold", threshold)?;
        check::positive("sigma", sigma)?;
        if budget == 0 {
            return Err(firebrick_core::ConfigError::new("budget", 0, "at least 1").into());
        }
        let mut noise = seed.stream("split/thresholdout");
        let shift = laplace(&mut noise, 2.0 * sigma);
        Ok(Self { threshold, sigma, total: budget, budget, shift, noise })
    }

    /// The answer for a query whose mean is `training` on the training rows and `held_out` on the held-out rows.
    ///
    /// # Errors
    /// [`SplitError::BudgetSpent`] when no answer is left, a `ConfigError` for a value that is not finite.
    pub fn ask(&mut self, training: f64, held_out: f64) -> Result<f64, SplitError> {
        check::finite("training", training)?;
        check::finite("held_out", held_out)?;
        if self.budget == 0 {
            return Err(SplitError::BudgetSpent {
                budget: self.total,
                unit: "over-fitted answers",
            });
        }
        let jitter = laplace(&mut self.noise, 4.0 * self.sigma);
        if (held_out - training).abs() <= self.threshold + self.shift + jitter {
            return Ok(training);
        }
        self.budget -= 1;
        self.shift = laplace(&mut self.noise, 2.0 * self.sigma);
        Ok(held_out + laplace(&mut self.noise, self.sigma))
    }

    /// Answers from the held-out rows that are left.
    #[must_use]
    pub fn budget(&self) -> u64 {
        self.budget
    }
}

/// A draw from the Laplace distribution of this scale.
fn laplace(stream: &mut Philox, scale: f64) -> f64 {
    let u = stream.uniform() - 0.5;
    // 1 - 2|u| lies in (0, 1], but for u = -1/2 exactly.
    let tail = (1.0 - 2.0 * u.abs()).max(f64::MIN_POSITIVE);
    -scale * u.signum() * libm::log(tail)
}

/// A second validation part for iterative work, asked through a [`Ladder`] or a [`Thresholdout`]; the sealed test part
/// stays for one look.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ReusableHoldout {
    /// Losses, best so far.
    Ladder(Ladder),
    /// Means of any statistic, against their training value.
    Thresholdout(Thresholdout),
}

impl ReusableHoldout {
    /// The answer for a value on the training rows and the same on the held-out rows.
    ///
    /// # Errors
    /// As [`Ladder::submit`] and [`Thresholdout::ask`].
    pub fn ask(&mut self, training: f64, held_out: f64) -> Result<f64, SplitError> {
        match self {
            Self::Ladder(ladder) => ladder.submit(held_out),
            Self::Thresholdout(holdout) => holdout.ask(training, held_out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The majority attack: guess labels at random, keep the guesses that score above one half, vote.
    fn attack(mut ask: impl FnMut(f64) -> f64) -> f64 {
        let (n, queries) = (1000, 1000);
        let mut stream = Seed(6).stream("attack");
        let labels: Vec<bool> = (0..n).map(|_| stream.next_u32() & 1 == 1).collect();
        let mut votes = vec![0i32; n];
        let mut best = 1.0;
        for _ in 0..queries {
            let guess: Vec<bool> = (0..n).map(|_| stream.next_u32() & 1 == 1).collect();
            let errors = guess.iter().zip(&labels).filter(|(a, b)| a != b).count();
            let answer = ask(errors as f64 / n as f64);
            // What an attacker keeps: an answer better than chance and, from a ladder, better than before.
            if answer < 0.5 && answer < best + 1e-12 || answer < best {
                votes.iter_mut().zip(&guess).for_each(|(vote, &g)| *vote += if g { 1 } else { -1 });
            }
            best = answer.min(best);
        }
        let right =
            votes.iter().zip(&labels).filter(|(vote, label)| (**vote > 0) == **label).count();
        right as f64 / n as f64
    }

    #[test]
    fn a_ladder_withstands_the_majority_attack() {
        // An open hold-out is fooled: guesses better than chance are kept.
        let mut open = Vec::new();
        let fooled = {
            let (n, mut stream) = (1000, Seed(6).stream("open"));
            let labels: Vec<bool> = (0..n).map(|_| stream.next_u32() & 1 == 1).collect();
            let mut votes = vec![0i32; n];
            for _ in 0..1000 {
                let guess: Vec<bool> = (0..n).map(|_| stream.next_u32() & 1 == 1).collect();
                let right = guess.iter().zip(&labels).filter(|(a, b)| a == b).count();
                if right > n / 2 {
                    votes
                        .iter_mut()
                        .zip(&guess)
                        .for_each(|(vote, &g)| *vote += if g { 1 } else { -1 });
                }
                open.push(right);
            }
            votes.iter().zip(&labels).filter(|(vote, label)| (**vote > 0) == **label).count() as f64
                / n as f64
        };
        assert!(fooled > 0.65, "{fooled}");
        let mut ladder = Ladder::for_rows(1000).expect("rows");
        let held = attack(|loss| ladder.submit(loss).expect("finite"));
        assert!(held < 0.58, "{held}");
        assert_eq!(ladder.submissions(), 1000);
    }

    #[test]
    fn a_thresholdout_tells_the_majority_attack_nothing() {
        // Guesses have the training loss 1/2; what they have on 1000 held-out rows differs by noise alone.
        let mut holdout =
            Thresholdout::new(4.0 / 1000f64.sqrt(), 0.001, 3, Seed(2)).expect("valid");
        let held = attack(|loss| holdout.ask(0.5, loss).expect("not spent"));
        assert!(held < 0.58, "{held}");
        assert_eq!(holdout.budget(), 3, "no answer came from the held-out rows");
    }

    #[test]
    fn a_reusable_hold_out_asks_its_ladder() {
        let mut reusable = ReusableHoldout::Ladder(Ladder::new(0.01).expect("valid"));
        // The training value does not count; answers are the best so far, in steps.
        assert_eq!(reusable.ask(0.9, 0.253), Ok(0.25));
        assert_eq!(reusable.ask(0.0, 0.247), Ok(0.25));
        assert_eq!(reusable.ask(0.5, 0.2), Ok(0.2));
        assert!(reusable.ask(0.5, f64::NAN).is_err());
    }

    #[test]
    fn a_spent_budget_is_an_error() {
        let mut holdout = Thresholdout::new(0.04, 0.001, 2, Seed(1)).expect("valid");
        for _ in 0..100 {
            assert_eq!(holdout.ask(0.8, 0.8), Ok(0.8));
        }
        let mut reusable = ReusableHoldout::Thresholdout(holdout);
        assert!(reusable.ask(0.9, 0.5).is_ok_and(|answer| answer != 0.9));
        assert!(reusable.ask(0.9, 0.5).is_ok());
        let spent = reusable.ask(0.9, 0.5).expect_err("spent");
        assert_eq!(spent, SplitError::BudgetSpent { budget: 2, unit: "over-fitted answers" });
        assert!(Thresholdout::new(0.0, 0.1, 1, Seed(0)).is_err());
        assert!(Thresholdout::new(0.1, f64::NAN, 1, Seed(0)).is_err());
        assert!(Thresholdout::new(0.1, 0.1, 0, Seed(0)).is_err());
        assert!(Ladder::new(-1.0).is_err() && Ladder::for_rows(0).is_err());
        assert!(Ladder::new(0.1).expect("valid").submit(f64::NAN).is_err());
    }

    #[test]
    fn the_noise_is_laplace() {
        // Mean absolute value equals the scale; 20,000 draws, five standard errors of scale / sqrt(n).
        let mut stream = Seed(8).stream("laplace");
        let mean = (0..20_000).map(|_| laplace(&mut stream, 2.0).abs()).sum::<f64>() / 20_000.0;
        assert!((mean - 2.0).abs() < 5.0 * 2.0 / 20_000f64.sqrt(), "{mean}");
    }
}
