//! How a candidate is trained: in a fold, and once more when it was chosen.

use crate::candidate::{Candidate, Rule};
use crate::model::Net;
use burn::tensor::Device;
use firebrick::core::ConfigError;
use firebrick::optim::schedule::{LinearWarmupConfig, SequentialConfig};
use firebrick::optim::{AdamConfig, FusedOptimizer, SgdConfig};
use firebrick::prelude::*;
use firebrick::train::{Batches, Fitted, Outcome};
use firebrick_examples::data::Data;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const BATCH_SIZE: usize = 64;
const MAX_NORM: f64 = 1.0;
/// Share of the steps in which the rate rises to its peak.
const WARMUP: f64 = 0.05;

/// What all trainings of a run share.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// An autodiff device.
    pub(crate) device: Device,
    /// The horizon of the schedule, and the most epochs that are run.
    pub(crate) epochs: usize,
    /// Epochs without improvement after which a fold stops.
    pub(crate) patience: usize,
    pub(crate) interrupt: Arc<AtomicBool>,
}

/// How long a training lasts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Length {
    /// Until the validation loss stops improving.
    EarlyStopped,
    /// This many epochs of the schedule.
    Epochs(usize),
}

impl Plan {
    /// Trains `candidate` on `train`, judging it on `validation` after each epoch.
    pub(crate) fn fit(
        &self,
        candidate: &Candidate,
        train: &Data,
        validation: Option<&Data>,
        length: Length,
        seed: Seed,
    ) -> Result<Fitted<Net>, TrainError> {
        let scale = train.scale();
        let net = Net::new(candidate, train.width, train.classes, seed, &self.device)?;
        let batches =
            |data: &Data| TensorBatches::new(data.tensors(scale, &self.device), BATCH_SIZE, seed);
        let train = batches(train)?;
        let validation = validation.map(batches).transpose()?;
        let (epochs, stopping, every) = match length {
            Length::EarlyStopped => (self.epochs, Some(EarlyStoppingConfig::new(self.patience)), 0),
            Length::Epochs(epochs) => (epochs, None, train.batches_per_epoch().div_ceil(4)),
        };
        let config = FitConfig::new(epochs)
            .with_early_stopping(stopping)
            .with_record_every(every)
            .with_progress(false);
        let schedule = self.schedule(candidate, epochs * train.batches_per_epoch())?;
        let fitted = Fit::new(config, optimizer(candidate)?)
            .schedule(schedule)
            .guards((
                SkipNonFiniteConfig::new().init()?,
                ClipGlobalNormConfig::new(MAX_NORM).with_by_layer(every > 0).init()?,
            ))
            .interrupt(self.interrupt.clone())
            .run(net, &train, validation.as_ref())?;
        Ok(fitted)
    }

    /// A linear warm-up to the candidate's rate, then a cosine to 0 at the horizon.
    fn schedule(
        &self,
        candidate: &Candidate,
        steps: usize,
    ) -> Result<impl Schedule + use<>, ConfigError> {
        let warmup = ((steps as f64 * WARMUP) as usize).max(1);
        SequentialConfig::new(LinearWarmupConfig::new(candidate.rate, warmup).build()?)
            .then(
                warmup as u64,
                CosineConfig::new(candidate.rate, (steps - warmup).max(1)).build()?,
            )
            .build()
    }
}

fn optimizer(candidate: &Candidate) -> Result<FusedOptimizer, ConfigError> {
    match candidate.rule {
        Rule::Momentum => SgdConfig::new().with_momentum(0.9).fused(),
        Rule::Adam => AdamConfig::new().fused(),
        Rule::AdamW => AdamWConfig::new().with_weight_decay(candidate.weight_decay).fused(),
    }
}

/// In words, why a training gave no usable model; `None` where it did.
pub(crate) fn failure(fitted: &Fitted<Net>) -> Option<String> {
    match fitted.outcome {
        Outcome::Diverged | Outcome::Stopped => {
            Some(format!("the loss is not finite after epoch {}", fitted.epochs))
        }
        Outcome::Interrupted => Some("interrupted".into()),
        _ => None,
    }
}
