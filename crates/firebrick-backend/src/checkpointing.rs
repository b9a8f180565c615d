//! burn's gradient checkpointing, which every way through the device without autodiff forgets: `from_inner`, and a module's
//! `valid` and `train`. Where tensors of two strategies meet in one operation, burn panics.

use burn::backend::GradientCheckpointingStrategy;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::kind::Autodiff;
use burn::tensor::{Bool, Int, Tensor};

/// How the backward pass saves memory; `None` off autodiff.
pub type Strategy = Option<GradientCheckpointingStrategy>;

/// `plain`, which is off autodiff, as a constant of it for a tensor that left it and had this strategy.
///
/// Where `strategy` is `None`, `plain` stays as it is. See [`beside`] for the usual form.
#[must_use]
pub fn rejoin<const D: usize>(plain: Tensor<D>, strategy: Strategy) -> Tensor<D> {
    match strategy {
        Some(strategy) => plain.autodiff().with_gradient_checkpointing_strategy(strategy),
        None => plain,
    }
}

/// `value` without its graph, under autodiff where `other` is, with its strategy of gradient checkpointing.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_backend::checkpointing::beside;
///
/// let device = Device::flex().autodiff().gradient_checkpointing();
/// let input = Tensor::<2>::ones([2, 3], &device).require_grad();
/// let scale = beside(Tensor::<2>::full([1, 3], 2.0, &Device::flex()), &input);
/// let gradient = input.grad(&(input.clone() * scale).sum().backward()).unwrap();
/// assert_eq!(gradient.sum().into_scalar::<f32>(), 12.0);
/// ```
#[must_use]
pub fn beside<const D: usize, const E: usize>(value: Tensor<D>, other: &Tensor<E>) -> Tensor<D> {
    rejoin(value.inner(), other.gradient_checkpointing_strategy())
}

/// `value` in the place of a parameter's `old` one, which trains or does not: [`beside`] it, and a leaf again.
#[must_use]
pub fn in_place_of<const D: usize>(value: Tensor<D>, old: &Tensor<D>, trains: bool) -> Tensor<D> {
    let value = beside(value, old);
    if old.is_autodiff() { value.set_require_grad(trains) } else { value }
}

/// The strategy of the parameters of `model`; `None` also where it saves nothing, which nothing forgets.
#[must_use]
pub fn strategy<M: Module>(model: &M) -> Strategy {
    struct First(Strategy);
    impl ModuleVisitor for First {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let own = param.lazy_device().gradient_checkpointing_strategy();
            let own = own.filter(|own| *own != GradientCheckpointingStrategy::Disabled);
            self.0 = self.0.or(own);
        }
    }
    let mut first = First(None);
    model.visit(&mut first);
    first.0
}

/// `model`, which is under autodiff, with this strategy.
#[must_use]
pub fn with_strategy<M: Module>(model: M, strategy: Strategy) -> M {
    struct Give(GradientCheckpointingStrategy);
    impl Give {
        fn give<const D: usize, K: Autodiff>(&self, value: Tensor<D, K>) -> Tensor<D, K> {
            value.with_gradient_checkpointing_strategy(self.0)
        }
    }
    impl ModuleMapper for Give {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|value| self.give(value))
        }
        fn map_int<const D: usize>(
            &mut self,
            param: Param<Tensor<D, Int>>,
        ) -> Param<Tensor<D, Int>> {
            param.map(|value| self.give(value))
        }
        fn map_bool<const D: usize>(
            &mut self,
            param: Param<Tensor<D, Bool>>,
        ) -> Param<Tensor<D, Bool>> {
            param.map(|value| self.give(value))
        }
    }
    match strategy {
        Some(strategy) => model.map(&mut Give(strategy)),
        None => model,
    }
}

/// A copy of `model` in training mode, with running statistics of its own, which those of burn's clones are not.
///
/// ```
/// use burn::nn::BatchNormConfig;
/// use burn::tensor::{Device, Tensor};
/// use firebrick_backend::checkpointing::training_copy;
///
/// let device = Device::flex().autodiff().gradient_checkpointing();
/// let norm = BatchNormConfig::new(1).init(&device);
/// training_copy(&norm).forward(Tensor::<2>::full([2, 1], 3.0, &device));
/// assert_eq!(norm.running_mean.value_sync().into_scalar::<f32>(), 0.0);
/// ```
#[must_use]
pub fn training_copy<M: Module>(model: &M) -> M {
    with_strategy(model.valid().train(), strategy(model))
}
