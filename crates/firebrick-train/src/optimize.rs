//! What can take a step: burn's optimizers and firebrick's.

use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer, OptimizerRecord};
use burn::tensor::Bytes;
use firebrick_optim::FusedOptimizer;
use firebrick_stabilize::scale_gradients;

/// Why the state of an optimizer cannot be saved or taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the optimizer's state does not fit: {reason}")]
#[non_exhaustive]
pub struct OptimizerStateError {
    /// What is wrong with it.
    pub reason: String,
}

impl OptimizerStateError {
    /// An error for this reason.
    pub fn new(reason: impl std::fmt::Display) -> Self {
        Self { reason: reason.to_string() }
    }
}

/// Steps a whole module.
///
/// Implemented for burn's `ModuleOptimizer`, and so for every optimizer of burn and of firebrick, and for
/// firebrick's `FusedOptimizer`, which steps all parameters in one pass. A clone is a snapshot: what the original
/// does afterwards leaves it as it is. burn's cannot tell an averaged point: take Schedule-Free and ASGD `fused`.
pub trait Optimize: Clone {
    /// One step of `model` with its `gradients` at learning rate `lr`.
    fn step<M: Module>(&mut self, lr: f64, model: M, gradients: GradientsParams) -> M;

    /// [`step`](Self::step) with every gradient multiplied by `scale`, which global-norm clipping asks for; an
    /// optimizer that can do that on its way saves a pass over the gradients.
    fn step_scaled<M: Module>(
        &mut self,
        lr: f64,
        model: M,
        mut gradients: GradientsParams,
        scale: f64,
    ) -> M {
        if scale != 1.0 {
            scale_gradients(&model, &mut gradients, scale);
        }
        self.step(lr, model, gradients)
    }

    /// The whole state, to the bit.
    ///
    /// # Errors
    /// When the format cannot hold it.
    fn state(&self) -> Result<Vec<u8>, OptimizerStateError>;

    /// Takes over a [`state`](Self::state) that an optimizer of the same kind gave for `model`, whose parameters
    /// have the identities they had then.
    ///
    /// # Errors
    /// When the bytes are no such state, or that of another kind of optimizer. Nothing is changed then.
    fn take_over<M: Module>(&mut self, state: &[u8], model: &M) -> Result<(), OptimizerStateError>;

    /// The model to judge and to give back: `model` itself, but for rules that train one point and evaluate another
    /// (Schedule-Free, ASGD), whose averaged point it is. `model` goes on training.
    ///
    /// Running statistics of batch norm are those of the trained point.
    #[must_use]
    fn evaluation<M: Module>(&self, model: &M) -> M {
        model.clone()
    }
}

impl Optimize for ModuleOptimizer {
    fn step<M: Module>(&mut self, lr: f64, model: M, gradients: GradientsParams) -> M {
        ModuleOptimizer::step(self, lr, model, gradients)
    }

    fn state(&self) -> Result<Vec<u8>, OptimizerStateError> {
        Ok(self.into_bytes().map_err(OptimizerStateError::new)?.to_vec())
    }

    fn take_over<M: Module>(&mut self, state: &[u8], _: &M) -> Result<(), OptimizerStateError> {
        let bytes = Bytes::from_bytes_vec(state.to_vec());
        let record = OptimizerRecord::from_bytes(bytes).map_err(OptimizerStateError::new)?;
        // burn leaves out what another kind of optimizer cannot read, without a word; the text counts both kinds
        // of entries.
        let saved = format!("{record:?}");
        let loaded = self.clone().load_record(record);
        let kept = format!("{:?}", loaded.to_record());
        if kept != saved {
            let reason =
                format_args!("another optimizer saved it: {saved}, of which this one knows {kept}");
            return Err(OptimizerStateError::new(reason));
        }
        *self = loaded;
        Ok(())
    }
}

impl Optimize for FusedOptimizer {
    fn step<M: Module>(&mut self, lr: f64, model: M, gradients: GradientsParams) -> M {
        FusedOptimizer::step(self, lr, model, gradients)
    }

    fn step_scaled<M: Module>(
        &mut self,
        lr: f64,
        model: M,
        gradients: GradientsParams,
        scale: f64,
    ) -> M {
        FusedOptimizer::step_scaled(self, lr, model, gradients, scale)
    }

    fn state(&self) -> Result<Vec<u8>, OptimizerStateError> {
        Ok(self.into_bytes().map_err(OptimizerStateError::new)?.to_vec())
    }

    fn take_over<M: Module>(&mut self, state: &[u8], model: &M) -> Result<(), OptimizerStateError> {
        let bytes = Bytes::from_bytes_vec(state.to_vec());
        *self = self.clone().from_bytes(bytes, model).map_err(OptimizerStateError::new)?;
        Ok(())
    }

    fn evaluation<M: Module>(&self, model: &M) -> M {
        FusedOptimizer::evaluation(self, model)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{config, data, net, weights};
    use crate::{Batches, Fit, Learn, Score};
    use burn::optim::SgdConfig;
    use burn::tensor::Device;
    use firebrick_core::names;
    use firebrick_optim::{AdamWConfig, AsgdConfig, ScheduleFreeAdamWConfig};
    use firebrick_stabilize::ClipGlobalNormConfig;

    #[test]
    fn a_clipped_step_is_that_of_clipped_gradients_whoever_multiplies() {
        let device = Device::flex().autodiff();
        let train = data(&device, 1.0);
        let rule = AdamWConfig::new().with_weight_decay(0.1).build().expect("valid");
        let clip = || ClipGlobalNormConfig::new(0.05).init().expect("valid");
        let (mut model, mut optimizer, mut clipped) = (net(&device), rule.fused(), clip());
        for batch in (1..=3).flat_map(|epoch| Batches::epoch(&train, epoch)) {
            let loss = model.loss(batch);
            let mut gradients = GradientsParams::from_grads(loss.backward(), &model);
            let norm = clipped.clip(&model, &mut gradients);
            assert!(norm > 0.05, "{norm}");
            model = Optimize::step(&mut optimizer, 0.01, model, gradients);
        }
        let expected = weights(&model.valid());
        // The one takes the factor, for the other the gradients are multiplied.
        let fit = || config(3);
        let fused = Fit::new(fit(), rule.fused()).rate(|_| 0.01).guards(clip());
        let fused = fused.run(net(&device), &train, None).expect("trains");
        assert_eq!(weights(&fused.model), expected);
        let burns = Fit::new(fit(), rule.init_for(&net(&device))).rate(|_| 0.01).guards(clip());
        let burns = burns.run(net(&device), &train, None).expect("trains");
        assert_eq!(weights(&burns.model), expected);
        assert_eq!(burns.history.last("clip_rate"), Some(1.0));
    }

    #[test]
    fn the_point_to_evaluate_is_judged_and_given_back() {
        let device = Device::flex().autodiff();
        let train = data(&device, 1.0);
        let free = || ScheduleFreeAdamWConfig::new().fused().expect("valid");
        let asgd = || AsgdConfig::new().with_t0(4.0).fused().expect("valid");
        let rules: [&dyn Fn() -> FusedOptimizer; 2] = [&free, &asgd];
        for rule in rules {
            let (mut model, mut optimizer) = (net(&device), rule());
            for batch in (1..=3).flat_map(|epoch| Batches::epoch(&train, epoch)) {
                let gradients = GradientsParams::from_grads(model.loss(batch).backward(), &model);
                model = Optimize::step(&mut optimizer, 0.1, model, gradients);
            }
            let point = Optimize::evaluation(&optimizer, &model).valid();
            let mut score = Score::default();
            for batch in Batches::whole(&train) {
                score = score + point.score(batch).expect("reads");
            }
            let fitted = Fit::new(config(3), rule()).rate(|_| 0.1);
            let fitted = fitted.run(net(&device), &train, None).expect("trains");
            assert_eq!(weights(&fitted.model), weights(&point));
            assert_ne!(weights(&fitted.model), weights(&model));
            assert_eq!(fitted.train, score);
            assert_eq!(fitted.history.last(names::TRAIN_LOSS), Some(score.loss()));
            // burn's door cannot tell it.
            let burns: ModuleOptimizer = SgdConfig::new().init();
            assert_eq!(weights(&burns.evaluation(&model)), weights(&model));
        }
    }
}
