//! A small search over learning rates: each recipe deserves its own.

use super::{Tune, Tuned};
use crate::TransferError;
use firebrick_regularize::Penalty;
use firebrick_stabilize::Guard;
use firebrick_train::{Learn, Outcome, Score, Source};

/// One rate that was tried.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Trial {
    /// The peak rate of the main phase.
    pub rate: f64,
    /// How the model came out on the training data.
    pub train: Score,
    /// How it came out on the validation data.
    pub validation: Score,
    /// Why its last phase ended.
    pub outcome: Outcome,
}

/// The best of several rates.
#[derive(Debug)]
#[non_exhaustive]
pub struct Searched<M> {
    /// All that were tried, in the order given.
    pub trials: Vec<Trial>,
    /// The number of the best.
    pub best: usize,
    /// Its run.
    pub tuned: Tuned<M>,
}

impl<G: Guard + Clone, P: Penalty + Clone> Tune<G, P> {
    /// Runs the recipe once for each of `rates` (its own [`rates`](super::Recipe::rates) where there are none) and
    /// keeps the one with the smallest error on `validation`, of equal ones that with the smaller loss.
    ///
    /// The validation score of the winner is optimistic: report it on data that were not used to choose.
    ///
    /// # Errors
    /// As [`run`](Self::run), when checkpoints are set, or when no rate ends with a finite loss.
    pub fn search<M: Learn<Batch = S::Batch>, S: Source>(
        &self,
        model: &M,
        train: &S,
        validation: &S,
        rates: &[f64],
    ) -> Result<Searched<M>, TransferError> {
        if self.checkpoints.is_some() {
            let error =
                firebrick_core::ConfigError::new("checkpoints", "a folder", "none in a search");
            return Err(error.into());
        }
        let own = self.recipe.rates();
        let rates = if rates.is_empty() { &own[..] } else { rates };
        let mut trials = Vec::new();
        let mut best: Option<(usize, Tuned<M>)> = None;
        let rank = |score: &Score| (score.error(), score.loss());
        for &rate in rates {
            let tuned = self.clone().rate(rate).run(model.clone(), train, Some(validation))?;
            let validation = tuned.validation.unwrap_or_default();
            let (train, outcome) = (tuned.train, tuned.outcome);
            trials.push(Trial { rate, train, validation, outcome });
            let better = validation.loss().is_finite()
                && best
                    .as_ref()
                    .is_none_or(|(at, _)| rank(&validation) < rank(&trials[*at].validation));
            if better {
                best = Some((trials.len() - 1, tuned));
            }
        }
        let (best, tuned) = best.ok_or_else(|| TransferError::Data {
            reason: "no rate of the search ends with a finite validation loss".into(),
        })?;
        Ok(Searched { trials, best, tuned })
    }
}
