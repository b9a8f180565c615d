//! The whole advice: a look, and where that leaves it open the measurement of the short list.

use crate::advise::measure::error_of_difference;
use crate::advise::{
    Advice, AdviseError, Adviser, Contender, Measured, Measurement, Target, Trial, Tuning, Verdict,
};
use firebrick_core::Seed;
use std::fmt::Display;

/// What [`Adviser::choose`] takes, and why.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Chosen {
    /// The recipe to take: the verdict's, or after a measurement the rule's where that stands, else the best.
    pub tuning: Tuning,
    /// What the look at the features said.
    pub advice: Advice,
    /// What the measurement found, in the order of the verdict's list; none where the look was sure.
    pub measurement: Option<Measurement>,
}

impl Adviser {
    /// Looks at the target and, where that leaves it open, measures the short list as `how` says, and picks.
    ///
    /// `contender` says how each recipe is to be run, `score` runs one on the rows of a trial, as in [`Measured::run`].
    /// Differences and regret are told against the choice of the revised rule, which is always on the list, and which
    /// stands unless the best is ahead of it by more than [`overturn`](crate::advise::AdviserConfig::overturn) standard
    /// errors: on few samples a measurement alone errs by more than the rule does.
    ///
    /// # Errors
    /// As [`look`](Self::look) and [`Measured::run`]; no training begins where the look fails.
    ///
    /// ```
    /// use firebrick_core::Seed;
    /// use firebrick_transfer::advise::{
    ///     Adviser, AdviserConfig, Contender, MeasureConfig, Measured, Target, Trial, Tuning,
    /// };
    /// use firebrick_transfer::score::Features;
    ///
    /// // Two samples of each class say nothing about similarity: it has to be measured.
    /// let labels = [0, 1, 0, 1];
    /// let seen = Features::new(vec![0.0, 1.0, 0.1, 1.1], 1)?;
    /// let raw = Features::new(vec![0.0, 0.2, 1.0, 0.9], 1)?;
    /// let contender = |recipe: Tuning| Contender {
    ///     name: recipe.to_string(), recipe, parameters: 100, steps: 50, rates: vec![1e-3],
    /// };
    /// // Stands for a training on `trial.train`: the share of `trial.held` that is right after it.
    /// let score = |trial: &Trial<Tuning>| {
    ///     Ok::<f64, String>(if trial.contender.recipe == Tuning::HeadOnly { 1.0 } else { 0.5 })
    /// };
    /// let chosen = Adviser::new(AdviserConfig::default())?.choose(
    ///     &Target::new(&seen, &labels, 2).raw(&raw),
    ///     &Measured::new(MeasureConfig::default())?,
    ///     contender,
    ///     Seed(1),
    ///     score,
    /// )?;
    /// assert_eq!(chosen.tuning, Tuning::HeadOnly);
    /// assert!(chosen.measurement.is_some_and(|found| found.regret_of_expected.is_some()));
    /// # Ok::<(), firebrick_transfer::advise::AdviseError>(())
    /// ```
    pub fn choose<E: Display>(
        &self,
        target: &Target<'_>,
        how: &Measured,
        contender: impl Fn(Tuning) -> Contender<Tuning>,
        seed: Seed,
        score: impl Fn(&Trial<'_, Tuning>) -> Result<f64, E> + Sync,
    ) -> Result<Chosen, AdviseError> {
        let advice = self.look(target)?;
        let list = match &advice.verdict {
            Verdict::Recipe(tuning) => {
                return Ok(Chosen { tuning: *tuning, advice, measurement: None });
            }
            Verdict::Measure(list) => list.clone(),
        };
        let contenders: Vec<_> = list.iter().map(|&tuning| contender(tuning)).collect();
        let rule = list.iter().position(|&tuning| tuning == advice.revised);
        let expected = rule.map(|at| contenders[at].name.as_str());
        let found = how.run(target.labels, &contenders, expected, seed, score)?;
        let best = found.entries[found.best].mean;
        let error = error_of_difference(best, target.labels.len() as f64);
        let stands = |at: &usize| {
            let entry = &found.entries[*at];
            !entry.dropped && entry.mean >= best - self.config().overturn * error
        };
        let tuning = list[rule.filter(stands).unwrap_or(found.choice)];
        Ok(Chosen { tuning, advice, measurement: Some(found) })
    }
}
