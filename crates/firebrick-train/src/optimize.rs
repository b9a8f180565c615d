//! What can take a step: burn's optimizers and firebrick's.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsParams, ModuleOptimizer, OptimizerRecord};
use burn::tensor::{Bytes, Tensor};
use burn_pack::{Reader, Scalar};
use firebrick_optim::FusedOptimizer;
use firebrick_stabilize::scale_gradients;
use std::collections::BTreeMap;

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

    /// The numbers of the rule, in words: what a [`state`](Self::state) does not hold, and must be the same where a
    /// training is resumed. Not the learning rate of a step. `None`, the default, where they cannot be told; then they
    /// are not compared.
    fn fingerprint(&self) -> Option<String> {
        None
    }

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

    fn take_over<M: Module>(&mut self, state: &[u8], model: &M) -> Result<(), OptimizerStateError> {
        let bytes = Bytes::from_bytes_vec(state.to_vec());
        same_rules(self, bytes.clone(), model)?;
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

/// Refuses the state of a parameter that another of firebrick's rules steps now: burn asks no more than whether there
/// are as many numbers.
fn same_rules<M: Module>(
    optimizer: &ModuleOptimizer,
    saved: Bytes,
    model: &M,
) -> Result<(), OptimizerStateError> {
    /// Gradients of zero for the parameters whose rule is known.
    struct Zeros<'a>(&'a BTreeMap<String, Scalar>, GradientsParams);
    impl ModuleVisitor for Zeros<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.is_require_grad() && self.0.contains_key(&format!("{}.rule", param.id.val())) {
                self.1.register::<D>(param.id, param.base().inner().zeros_like());
            }
        }
    }
    let read = |bytes| Reader::from_bytes(bytes).map_err(OptimizerStateError::new);
    let saved = read(saved)?;
    let mut zeros = Zeros(saved.scalars(), GradientsParams::new());
    model.visit(&mut zeros);
    if zeros.1.is_empty() {
        return Ok(());
    }
    // Whose rule is whose shows in what is kept after a step.
    let mut probe = optimizer.clone();
    let _ = probe.step(0.0, model.clone(), zeros.1);
    let now = read(probe.into_bytes().map_err(OptimizerStateError::new)?)?;
    for (name, rule) in now.scalars() {
        let Some(id) = name.strip_suffix(".rule") else { continue };
        if saved.scalars().get(name).is_some_and(|saved| saved != rule) {
            let path = saved.metadata().get(id).map_or(id, String::as_str);
            let reason =
                format_args!("`{path}` was stepped by another rule than the one that steps it now");
            return Err(OptimizerStateError::new(reason));
        }
    }
    Ok(())
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

    fn fingerprint(&self) -> Option<String> {
        Some(self.rules())
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
    use firebrick_optim::{
        AdamConfig, AdamWConfig, AsgdConfig, ScheduleFreeAdamWConfig, YogiConfig,
    };
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
    fn the_state_of_another_rule_with_as_many_numbers_is_refused() {
        let device = Device::flex().autodiff();
        let adam = || AdamConfig::new().init().expect("valid");
        let model = net(&device);
        let batch = Batches::epoch(&data(&device, 1.0), 1).next().expect("there is one");
        let gradients = GradientsParams::from_grads(model.loss(batch).backward(), &model);
        let mut optimizer = adam();
        let model = Optimize::step(&mut optimizer, 0.1, model, gradients);
        let state = Optimize::state(&optimizer).expect("bytes");
        let mut yogi = YogiConfig::new().init().expect("valid");
        let error = yogi.take_over(&state, &model).expect_err("it is Adam's").to_string();
        assert!(error.contains("was stepped by another rule"), "{error}");
        assert!(yogi.to_record().is_empty());
        let mut again = adam();
        again.take_over(&state, &model).expect("it is its own");
        assert_eq!(again.to_record().len(), optimizer.to_record().len());
    }

    #[test]
    fn a_rule_is_told_by_its_numbers_and_not_by_its_steps() {
        let device = Device::flex().autodiff();
        let told = |config: AdamWConfig| config.fused().expect("valid").fingerprint();
        let usual = told(AdamWConfig::new());
        assert!(usual.is_some());
        assert_ne!(told(AdamWConfig::new().with_beta_2(0.99)), usual);
        assert_ne!(told(AdamWConfig::new().with_weight_decay(0.1)), usual);
        let mut optimizer = AdamWConfig::new().fused().expect("valid");
        let model = net(&device);
        let batch = Batches::epoch(&data(&device, 1.0), 1).next().expect("there is one");
        let gradients = GradientsParams::from_grads(model.loss(batch).backward(), &model);
        let _ = Optimize::step(&mut optimizer, 0.1, model, gradients);
        assert_eq!(optimizer.fingerprint(), usual);
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
