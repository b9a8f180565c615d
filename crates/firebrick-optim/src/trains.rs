//! Which parameters of a module train.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use std::collections::HashSet;

/// Whether a parameter stands on an autodiff device and takes no gradient: a frozen one, or a running statistic.
pub(crate) fn is_frozen<const D: usize>(param: &Param<Tensor<D>>) -> bool {
    param.base().is_autodiff() && !param.is_require_grad()
}

/// Whether a parameter trains, or would on an autodiff device: off it nothing takes a gradient, but burn remembers.
pub(crate) fn trains<const D: usize>(param: &Param<Tensor<D>>) -> bool {
    if param.base().is_autodiff() {
        param.is_require_grad()
    } else {
        param.clone().train().is_require_grad()
    }
}

/// The parameters of `module` that train.
pub(crate) fn trained<M: Module>(module: &M) -> HashSet<ParamId> {
    struct List(HashSet<ParamId>);
    impl ModuleVisitor for List {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if trains(param) {
                self.0.insert(param.id);
            }
        }
    }
    let mut list = List(HashSet::new());
    module.visit(&mut list);
    list.0
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::module::ParamGroup;
    use burn::nn::BatchNormConfig;
    use firebrick_backend::testing::devices;

    #[test]
    fn what_trains_is_known_off_autodiff_too() {
        for plain in devices() {
            let device = plain.clone().autodiff();
            let model = BatchNormConfig::new(2).init(&device);
            let both: HashSet<_> = [model.gamma.id, model.beta.id].into();
            assert_eq!((trained(&model), trained(&model.valid())), (both.clone(), both));
            let model = model.freeze_group(ParamGroup::from_path("beta"));
            let one: HashSet<_> = [model.gamma.id].into();
            assert!(is_frozen(&model.beta) && !is_frozen(&model.valid().beta));
            assert_eq!((trained(&model), trained(&model.valid())), (one.clone(), one));
            assert_eq!(trained(&BatchNormConfig::new(2).init(&plain)).len(), 2);
        }
    }
}
