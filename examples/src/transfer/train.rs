//! One training by a recipe of the library: AdamW, a cosine from the rate to 0, batches in an order that the seed fixes,
//! judged once, at the end.

use crate::net::SCHEME;
use firebrick::prelude::{AdamWConfig, FitConfig, Labelled, Learn, Seed, TensorBatches};
use firebrick::train::Batches;
use firebrick::transfer::{Recipe, TransferError, Tune};

/// How long and how fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pace {
    pub(crate) steps: usize,
    pub(crate) batch: usize,
    pub(crate) rate: f64,
}

/// A recipe at a pace.
#[derive(Debug, Clone)]
pub(crate) struct Training {
    pub(crate) recipe: Recipe,
    /// Whether the head is drawn anew at the start.
    pub(crate) fresh_head: bool,
    pub(crate) pace: Pace,
    pub(crate) seed: Seed,
}

impl Training {
    /// What `model` becomes on `data`, in evaluation mode, and the share of `judged` that it gets right.
    pub(crate) fn run<M: Learn<Batch = Labelled<4>>>(
        &self,
        model: M,
        data: &Labelled<4>,
        judged: &Labelled<4>,
    ) -> Result<(M, f64), TransferError> {
        let Self { recipe, fresh_head, pace, seed } = self;
        let batches = |data: &Labelled<4>| {
            TensorBatches::new(data.clone(), pace.batch.min(data.len()), *seed)
        };
        let (train, judged) = (batches(data)?.drop_last(true), batches(judged)?);
        let epochs = pace.steps.div_ceil(train.batches_per_epoch());
        let once = FitConfig::new(epochs)
            .with_max_steps(Some(pace.steps as u64))
            .with_judge_every(epochs)
            .with_judge_training(false)
            .with_progress(false);
        let tuned = Tune::new(recipe.clone(), epochs, AdamWConfig::new().build()?)
            .rate(pace.rate)
            .scheme(SCHEME)
            .fresh_head(*fresh_head)
            .seed(*seed)
            .fit(once)
            .run(model, &train, Some(&judged))?;
        Ok((tuned.model, 1.0 - tuned.validation.unwrap_or_default().error()))
    }
}
