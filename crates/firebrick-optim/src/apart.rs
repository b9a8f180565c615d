//! A copy of a module that shares nothing which a forward pass writes.

use burn::module::{Flag, Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use std::any::Any;
use std::collections::HashMap;

/// As `module.clone()`, with running statistics of its own, brought up to date; those of burn's clones are shared.
pub(crate) fn apart<M: Module>(module: &M) -> M {
    // These two alone make the statistics anew. What else they change is put back.
    let copy = module.valid();
    let mut kept = Kept::default();
    module.visit(&mut kept);
    let copy = if kept.autodiff { copy.train() } else { copy };
    copy.map(&mut kept)
}

#[derive(Default)]
struct Kept {
    tensors: HashMap<ParamId, Box<dyn Any>>,
    flags: HashMap<ParamId, Flag>,
    autodiff: bool,
}

impl ModuleVisitor for Kept {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.base();
        self.autodiff |= tensor.is_autodiff();
        self.tensors.insert(param.id, Box::new(tensor));
    }

    fn visit_flag(&mut self, flag: &Param<Flag>) {
        self.flags.insert(flag.id, flag.val());
    }
}

impl ModuleMapper for Kept {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let kept = self.tensors.get(&param.id).and_then(|kept| kept.downcast_ref::<Tensor<D>>());
        let Some(kept) = kept.cloned() else { return param };
        param.map(|_| kept)
    }

    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        let Some(&kept) = self.flags.get(&flag.id) else { return flag };
        flag.map(|_| kept)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::nn::{BatchNorm, BatchNormConfig};
    use burn::tensor::Device;
    use firebrick_backend::testing::devices;

    fn mean(norm: &BatchNorm) -> Vec<f32> {
        norm.running_mean.value_sync().into_data().try_into_vec().expect("f32")
    }

    fn pass(norm: &BatchNorm, device: &Device) {
        drop(norm.forward(Tensor::<2>::from_floats([[1.0, 3.0], [3.0, 5.0]], device)));
    }

    #[test]
    fn neither_writes_the_statistics_of_the_other() {
        for device in devices() {
            let device = device.autodiff();
            let model = BatchNormConfig::new(2).init(&device);
            let copy = apart(&model);
            pass(&copy, &device);
            assert_eq!((mean(&model), mean(&copy)), (vec![0.0; 2], vec![0.2, 0.4]));
            pass(&model, &device);
            pass(&model, &device);
            assert_eq!(mean(&copy), [0.2, 0.4]);
            // What burn holds back of the last pass is in the copy too.
            assert_eq!(mean(&apart(&model)), mean(&model));
        }
    }

    #[test]
    fn what_trains_and_what_is_frozen_stays_so() {
        for device in devices() {
            for device in [device.clone().autodiff(), device.autodiff().gradient_checkpointing()] {
                let trains = BatchNormConfig::new(2).init(&device);
                let frozen = BatchNormConfig::new(2).init(&device).freeze();
                // Off for now; burn would turn it on again.
                let mut paused = BatchNormConfig::new(2).init(&device);
                paused.gamma = paused.gamma.map(|gamma| gamma.set_require_grad(false));
                let model = vec![trains, frozen, paused];
                for (old, new) in model.iter().zip(&apart(&model)) {
                    assert_eq!(new.gamma.is_require_grad(), old.gamma.is_require_grad());
                    assert_eq!(new.training.is_enabled(), old.training.is_enabled());
                    let strategy =
                        |norm: &BatchNorm| norm.beta.val().gradient_checkpointing_strategy();
                    assert_eq!(strategy(new), strategy(old));
                    let later = |norm: &BatchNorm| norm.valid().train().gamma.is_require_grad();
                    assert_eq!(later(new), later(old));
                    pass(new, &device);
                }
            }
        }
    }

    #[test]
    fn a_model_off_autodiff_stays_there_and_trains_again() {
        for device in devices() {
            let model = BatchNormConfig::new(2).init(&device.clone().autodiff());
            for model in [model.valid(), BatchNormConfig::new(2).init(&device)] {
                let copy = apart(&model);
                assert!(
                    !copy.gamma.val().is_autodiff() && copy.clone().train().gamma.is_require_grad()
                );
                assert_eq!(copy.training.is_enabled(), model.training.is_enabled());
            }
        }
    }
}
