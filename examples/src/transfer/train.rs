//! One training: AdamW in one fused pass, a cosine from the rate to 0, batches in an order that the seed fixes.

use crate::net::Classifier;
use burn::module::ParamGroup;
use burn::optim::GradientsParams;
use firebrick::optim::AdamWConfig;
use firebrick::optim::schedule::{CosineConfig, Schedule};
use firebrick::prelude::{Labelled, Seed, TensorBatches};
use firebrick::train::Batches;

/// How long and how fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pace {
    pub(crate) steps: usize,
    pub(crate) batch: usize,
    pub(crate) rate: f64,
    /// The head's rate over that of the layers below.
    pub(crate) head: f64,
}

/// Trains all parameters of `model`.
pub(crate) fn fit<M: Classifier>(
    mut model: M,
    data: &Labelled<4>,
    pace: Pace,
    seed: Seed,
) -> Result<M, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let rule = AdamWConfig::new();
    let mut optimizer = rule.fused().map_err(|error| text(&error))?;
    if pace.head != 1.0 {
        let head = ParamGroup::from_regex(M::HEAD).map_err(|error| format!("{error:?}"))?;
        let own = rule.build().map_err(|error| text(&error))?;
        let with = optimizer.with_scaled_group("head", head, own, pace.head);
        optimizer = with.map_err(|(_, error)| text(&error))?;
    }
    let schedule = CosineConfig::new(pace.rate, pace.steps).build();
    let schedule = schedule.map_err(|error| text(&error))?;
    let batches = TensorBatches::new(data.clone(), pace.batch.min(data.len()), seed);
    let batches = batches.map_err(|error| text(&error))?.drop_last(true);
    let mut step = 0;
    for epoch in 1.. {
        for batch in batches.epoch(epoch) {
            if step == pace.steps {
                return Ok(model);
            }
            let loss = model.loss(batch.inputs, batch.targets);
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            model = optimizer.step(schedule.rate(step as u64), model, gradients);
            step += 1;
        }
    }
    Ok(model)
}

/// Share of the images that `model`, in evaluation mode, gets right.
pub(crate) fn accuracy<M: Classifier>(model: &M, data: &Labelled<4>) -> Result<f64, String> {
    let (model, data) = (model.valid(), data.on_plain_device());
    let mut right = 0.0;
    for start in (0..data.len()).step_by(250) {
        let rows = start..data.len().min(start + 250);
        let logits = model.logits(data.inputs.clone().slice([rows.clone()]));
        let hits = logits.argmax(1).squeeze_dim::<1>(1).equal(data.targets.clone().slice([rows]));
        let hits = hits.float().sum().try_into_scalar::<f64>();
        right += hits.map_err(|error| format!("{error:?}"))?;
    }
    Ok(right / data.len() as f64)
}
