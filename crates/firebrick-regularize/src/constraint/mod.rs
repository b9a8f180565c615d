//! What is done to the weights after a step: constraints, and proximal steps of penalties with a kink.
//!
//! Each rule has a file of its own with its formula and reference. A rule says along which axis of a weight it works, what
//! becomes of weights in host memory (a `Kernel`, which `fused` runs over all of them in one pass), and the same by
//! tensor operations for weights that lie elsewhere.

mod fused;
mod group_lasso;
mod kernel;
mod max_norm;
mod non_negative;
mod pass;
mod proximal_l1;
mod unit_norm;

pub use group_lasso::{GroupLasso, GroupLassoConfig, LassoGroups};
pub use max_norm::{MaxNorm, MaxNormConfig};
pub use non_negative::NonNegative;
pub use proximal_l1::{ProximalL1, ProximalL1Config};
pub use unit_norm::{UnitNorm, UnitNormConfig};

use crate::RegularizeError;
use crate::units::Axis;
use burn::module::Module;
use burn::tensor::Tensor;
use kernel::Kernel;

/// A change of the weights after the optimizer's step. Tuples of one to four apply in their order, `None` does nothing.
pub trait Projection {
    /// Whether [`project`](Self::project) would take this model and learning rate.
    ///
    /// `project` takes the model and, where it fails, does not give it back: a loop that must not lose its model asks here
    /// first. The answer depends on the layers of the model and on `lr`, not on the values of the weights.
    ///
    /// ```
    /// use burn::nn::LinearConfig;
    /// use burn::tensor::Device;
    /// use firebrick_regularize::{MaxNormConfig, NonNegative, Projection};
    ///
    /// let rules = (MaxNormConfig::new().init()?, NonNegative::new());
    /// let model = LinearConfig::new(4, 3).init(&Device::flex().autodiff());
    /// assert!(rules.check(&model, f64::NAN).is_err()); // a rate that a schedule got wrong
    /// rules.check(&model, 0.1)?;
    /// let model = rules.project(model, 0.1)?; // cannot fail
    /// # let _ = model;
    /// # Ok::<(), firebrick_regularize::RegularizeError>(())
    /// ```
    ///
    /// # Errors
    /// As those of `project`; none unless a rule says otherwise.
    fn check<M: Module>(&self, _model: &M, _lr: f64) -> Result<(), RegularizeError> {
        Ok(())
    }

    /// The model after it; `lr` is the learning rate of the step, which proximal steps multiply by.
    ///
    /// Only trainable weights are changed: no biases, norms, embeddings or running statistics. Of places that share a
    /// parameter (tied weights) the first is changed and the others get its value, so that they stay one parameter to
    /// autodiff; a group that names some of them alone changes those, and unties them.
    ///
    /// # Errors
    /// When a weight's unit axis is unknown, or `lr` negative or not finite. The model is gone then; [`check`](Self::check)
    /// tells beforehand.
    fn project<M: Module>(&self, model: M, lr: f64) -> Result<M, RegularizeError>;
}

impl Projection for () {
    fn project<M: Module>(&self, model: M, _: f64) -> Result<M, RegularizeError> {
        Ok(model)
    }
}

impl<P: Projection> Projection for Option<P> {
    fn check<M: Module>(&self, model: &M, lr: f64) -> Result<(), RegularizeError> {
        self.as_ref().map_or(Ok(()), |rule| rule.check(model, lr))
    }
    fn project<M: Module>(&self, model: M, lr: f64) -> Result<M, RegularizeError> {
        match self {
            Some(rule) => rule.project(model, lr),
            None => Ok(model),
        }
    }
}

macro_rules! in_order {
    ($($rule:ident $index:tt),+) => {
        impl<$($rule: Projection),+> Projection for ($($rule,)+) {
            fn check<Model: Module>(&self, model: &Model, lr: f64) -> Result<(), RegularizeError> {
                $(self.$index.check(model, lr)?;)+
                Ok(())
            }
            fn project<Model: Module>(&self, model: Model, lr: f64) -> Result<Model, RegularizeError> {
                // Before the first one has done its work.
                self.check(&model, lr)?;
                $(let model = self.$index.project(model, lr)?;)+
                Ok(model)
            }
        }
    };
}
in_order!(A 0);
in_order!(A 0, B 1);
in_order!(A 0, B 1, C 2);
in_order!(A 0, B 1, C 2, D 3);

/// What a projection makes of one weight.
trait Rule {
    /// The axis it works along.
    fn axis(&self) -> Axis;
    /// The rule for weights in host memory.
    fn kernel(&self, lr: f64) -> Kernel;
    /// The same by tensor operations.
    fn apply<const D: usize>(&self, weight: Tensor<D>, axis: usize, lr: f64) -> Tensor<D>;
}

/// The public side of a rule: on a group alone, and on a model.
macro_rules! projection {
    ($name:ident) => {
        impl $name {
            /// The same on the weights of `group` alone.
            #[must_use]
            pub fn only(mut self, group: burn::module::ParamGroup) -> Self {
                self.target = self.target.only(group);
                self
            }
        }

        impl $crate::Projection for $name {
            fn check<M: burn::module::Module>(
                &self,
                model: &M,
                lr: f64,
            ) -> Result<(), $crate::RegularizeError> {
                firebrick_core::check::non_negative("lr", lr)?;
                $crate::places::Places::of(model, &self.target, self.axis()).map(drop)
            }
            fn project<M: burn::module::Module>(
                &self,
                model: M,
                lr: f64,
            ) -> Result<M, $crate::RegularizeError> {
                let lr = firebrick_core::check::non_negative("lr", lr)?;
                $crate::constraint::fused::project(model, lr, self, &self.target)
            }
        }
    };
}
use projection;

/// The norm of every slice along `axis`, with the other axes of length 1.
fn norms<const D: usize>(weight: &Tensor<D>, axis: usize) -> Tensor<D> {
    let mut squares = weight.clone().square();
    for other in (0..D).filter(|&other| other != axis) {
        squares = squares.sum_dim(other);
    }
    squares.sqrt()
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::UnitAxis;
    use burn::module::{Param, ParamGroup};
    use burn::nn::{BatchNormConfig, EmbeddingConfig, Linear, LinearConfig};
    use burn::optim::{GradientsParams, SgdConfig};
    use burn::tensor::{DType, Device};
    use firebrick_backend::testing::devices;

    const ROWS: [[f32; 2]; 3] = [[3.0, 0.1], [0.0, -0.2], [4.0, 0.2]];

    pub(super) fn linear(device: &Device) -> Linear {
        let mut layer = LinearConfig::new(3, 2).init(device);
        layer.weight = Param::from_data(ROWS, device);
        layer
    }

    pub(super) fn read<const D: usize>(param: &Param<Tensor<D>>) -> Vec<f32> {
        param.val().try_to_vec_as().expect("reads")
    }

    pub(super) fn close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-6, "{found:?} {expected:?}");
        }
    }

    #[test]
    fn the_weight_still_trains_afterwards_and_nothing_else_is_touched() {
        for device in devices() {
            let device = device.autodiff();
            let model = (
                linear(&device),
                BatchNormConfig::new(2).init(&device),
                EmbeddingConfig::new(4, 2).init(&device),
            );
            let (bias, table) = (model.0.bias.as_ref().map(read), read(&model.2.weight));
            let id = model.0.weight.id;
            let rules =
                (MaxNormConfig::new().with_max(0.5).init().expect("valid"), NonNegative::new());
            let model = rules.project(model, 0.1).expect("known layers");
            assert_eq!(model.0.bias.as_ref().map(read), bias);
            assert_eq!(read(&model.2.weight), table);
            assert_eq!(
                model.1.running_var.value_sync().try_to_vec_as::<f32>().expect("reads"),
                [1.0; 2]
            );
            let loss = model.0.forward(Tensor::<2>::ones([1, 3], &device)).sum();
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            assert!(gradients.get::<2>(id).is_some());
            let before = read(&model.0.weight);
            let model = SgdConfig::new().init().step(0.5, model, gradients);
            assert_ne!(read(&model.0.weight), before);
        }
    }

    #[test]
    fn tuples_of_any_length_apply_in_order_and_options_may_be_absent() {
        let device = Device::flex().autodiff();
        let positive = NonNegative::new();
        let unit = UnitNormConfig::new().init();
        let soft = ProximalL1Config::new(1.0).init().expect("valid");
        // Column (0.1, -0.2, 0.2): without its negative weight it has the norm sqrt(0.05).
        let side = 0.05f32.sqrt();
        let both = [0.6, 0.1 / side, 0.0, 0.0, 0.8, 0.2 / side];
        let after = |rule: &dyn Fn(Linear) -> Result<Linear, RegularizeError>| {
            read(&rule(linear(&device)).expect("known").weight)
        };
        close(&after(&|m| (positive.clone(),).project(m, 0.1)), &[3.0, 0.1, 0.0, 0.0, 4.0, 0.2]);
        close(&after(&|m| (positive.clone(), unit.clone()).project(m, 0.1)), &both);
        let cut: Vec<f32> = both.iter().map(|w: &f32| (w - 0.1).max(0.0)).collect();
        let three = (positive.clone(), unit.clone(), soft.clone());
        close(&after(&|m| three.project(m, 0.1)), &cut);
        let again: Vec<f32> = cut.iter().map(|w| (w - 0.1).max(0.0)).collect();
        let four = (positive.clone(), unit.clone(), soft.clone(), soft.clone());
        close(&after(&|m| four.project(m, 0.1)), &again);
        // The other way round the unit norm comes first: order matters.
        let turned = after(&|m| (unit.clone(), positive.clone()).project(m, 0.1));
        close(&turned, &[0.6, 1.0 / 3.0, 0.0, 0.0, 0.8, 2.0 / 3.0]);
        let some = (None::<UnitNorm>, Some(positive.clone()));
        close(&after(&|m| some.project(m, 0.1)), &[3.0, 0.1, 0.0, 0.0, 4.0, 0.2]);
        let none = after(&|m| None::<ProximalL1>.project(m, 0.1));
        assert_eq!(none, [3.0, 0.1, 0.0, -0.2, 4.0, 0.2]);
    }

    #[test]
    fn a_model_without_weights_passes() {
        let device = Device::flex().autodiff();
        let rules = (
            MaxNormConfig::new().init().expect("valid"),
            UnitNormConfig::new().init(),
            ProximalL1Config::new(0.1).init().expect("valid"),
            GroupLassoConfig::new(0.1).init().expect("valid"),
        );
        let empty = rules.project(Vec::<Linear>::new(), 0.1).expect("nothing to change");
        assert!(empty.is_empty());
        let norm = rules.project(BatchNormConfig::new(2).init(&device), 0.1).expect("no weight");
        assert_eq!(read(&norm.gamma), [1.0; 2]);
        assert_eq!(read(&norm.beta), [0.0; 2]);
    }

    #[test]
    fn zero_units_half_precision_and_no_strength_are_defined() {
        let device = Device::flex().autodiff();
        let mut zero = linear(&device);
        zero.weight = Param::from_data([[0.0f32, 1.0], [0.0, 0.0], [0.0, 0.0]], &device);
        let zero = UnitNormConfig::new().init().project(zero, 0.0).expect("known");
        let zero = MaxNormConfig::new().init().expect("valid").project(zero, 0.0).expect("known");
        let lasso = GroupLassoConfig::new(0.0).init().expect("valid");
        let zero = lasso.project(zero, 0.1).expect("known");
        let lasso = GroupLassoConfig::new(0.1).init().expect("valid");
        let zero = lasso.project(zero, 0.1).expect("known");
        assert!(read(&zero.weight).iter().all(|w| w.is_finite()));
        assert_eq!(read(&zero.weight)[0], 0.0);
        let mut half = linear(&device);
        // The square of 300 overflows f16.
        let weight = Tensor::<2>::full([3, 2], 300.0, (&device, DType::F16)).require_grad();
        half.weight = Param::from_tensor(weight);
        let half = MaxNormConfig::new().init().expect("valid").project(half, 0.0).expect("known");
        assert_eq!(half.weight.val().dtype(), DType::F16);
        assert!(read(&half.weight).iter().all(|w| (w - 2.0 / 3f32.sqrt()).abs() < 1e-3));
    }

    #[test]
    fn unknown_layers_groups_and_bad_values() {
        #[derive(Module, Debug)]
        struct Own {
            matrix: Param<Tensor<2>>,
        }
        let device = Device::flex().autodiff();
        let own = || Own { matrix: Param::from_data(ROWS, &device) };
        let rule = MaxNormConfig::new().init().expect("valid");
        let error = rule.project(own(), 0.1).expect_err("unknown").to_string();
        assert!(error.contains("`matrix` in a layer of type `Own`"), "{error}");
        let named = MaxNormConfig::new().with_axis(UnitAxis::At(1)).init().expect("valid");
        assert!(named.project(own(), 0.1).is_ok());
        assert!(rule.clone().only(ParamGroup::from_path("other")).project(own(), 0.1).is_ok());
        assert!(ProximalL1Config::new(0.1).init().expect("valid").project(own(), -0.1).is_err());
        assert!(MaxNormConfig::new().with_max(0.0).init().is_err());
        let out = MaxNormConfig::new().with_axis(UnitAxis::At(2)).init().expect("valid");
        assert!(out.project(own(), 0.1).is_err());
    }

    #[test]
    fn what_project_refuses_is_told_beforehand_and_loses_nothing() {
        #[derive(Module, Debug)]
        struct Two {
            known: Linear,
            own: Param<Tensor<2>>,
        }
        let device = Device::flex().autodiff();
        let max = || MaxNormConfig::new().init().expect("valid");
        let positive = NonNegative::new;
        let two = Two { known: linear(&device), own: Param::from_data(ROWS, &device) };
        // The first rule fits and the second one does not.
        let rules = (positive(), max());
        let error = rules.check(&two, 0.1).expect_err("an unknown layer");
        assert_eq!(Err(error), rules.project(two.clone(), 0.1).map(drop));
        assert!(Some(max()).check(&two, 0.1).is_err() && None::<MaxNorm>.check(&two, 0.1).is_ok());
        for lr in [f64::NAN, -0.1, f64::INFINITY] {
            let error = (positive(), positive()).check(&two, lr).expect_err("no rate").to_string();
            assert!(error.starts_with("`lr` must be"), "{error}");
        }
        let named = max().only(ParamGroup::from_path("known.weight"));
        (positive(), named.clone()).check(&two, 0.1).expect("what is left is known");
        assert!((positive(), named).project(two, 0.1).is_ok());
    }

    #[test]
    fn every_rule_takes_half_precision() {
        fn check(rule: &impl Projection, start: f32, expected: f32) {
            let device = Device::flex().autodiff();
            for dtype in [DType::F16, DType::BF16] {
                let mut layer = LinearConfig::new(3, 2).with_bias(false).init(&device);
                let weight = Tensor::<2>::full([3, 2], start, (&device, dtype)).require_grad();
                layer.weight = Param::from_tensor(weight);
                let layer = rule.project(layer, 0.1).expect("a linear layer is known");
                assert_eq!(layer.weight.val().dtype(), dtype);
                assert!(layer.weight.is_require_grad());
                assert!(read(&layer.weight).iter().all(|w| (w - expected).abs() < 4e-3));
            }
        }
        // A unit of three weights of 0.5 has the norm sqrt(0.75).
        let third = 1.0 / 3f32.sqrt();
        check(&MaxNormConfig::new().with_max(0.5).init().expect("valid"), 0.5, 0.5 * third);
        check(&UnitNormConfig::new().init(), 0.5, third);
        check(&NonNegative::new(), -0.5, 0.0);
        check(&ProximalL1Config::new(1.0).init().expect("valid"), 0.5, 0.4);
        // The threshold is 0.1 sqrt(3), a fifth of the norm.
        check(&GroupLassoConfig::new(1.0).init().expect("valid"), 0.5, 0.4);
    }

    #[test]
    fn a_group_narrows_every_rule_and_frozen_weights_stay() {
        #[derive(Module, Debug)]
        struct Two {
            first: Linear,
            second: Linear,
        }
        fn check(all: &impl Projection, narrowed: &impl Projection) {
            let device = Device::flex().autodiff();
            let two = || Two { first: linear(&device), second: linear(&device) };
            let start = read(&two().first.weight);
            let changed = all.project(two(), 0.1).expect("known");
            assert_ne!(read(&changed.first.weight), start);
            assert_eq!(read(&changed.first.weight), read(&changed.second.weight));
            let half = narrowed.project(two(), 0.1).expect("known");
            assert_eq!(read(&half.first.weight), start);
            assert_eq!(read(&half.second.weight), read(&changed.second.weight));
            let frozen = all.project(two().no_grad(), 0.1).expect("known");
            assert_eq!(read(&frozen.first.weight), start);
        }
        let group = || ParamGroup::from_path("second.weight");
        let max = MaxNormConfig::new().init().expect("valid");
        check(&max, &max.clone().only(group()));
        let unit = UnitNormConfig::new().init();
        check(&unit, &unit.clone().only(group()));
        check(&NonNegative::new(), &NonNegative::new().only(group()));
        let l1 = ProximalL1Config::new(1.0).init().expect("valid");
        check(&l1, &l1.clone().only(group()));
        let lasso = GroupLassoConfig::new(1.0).init().expect("valid");
        check(&lasso, &lasso.clone().only(group()));
    }
}
