//! What is done to the weights after a step: constraints, and proximal steps of penalties with a kink.
//!
//! # Formula
//! ```text
//! max-norm      w_j <- w_j * min(1, c / ||w_j||)                           j: a unit
//! unit norm     w_j <- w_j / ||w_j||                                       0 stays 0
//! non-negative  w   <- max(w, 0)
//! proximal L1   w   <- sign(w) * max(|w| - lr * strength, 0)               true zeros
//! group lasso   w_g <- w_g * max(0, 1 - lr * strength * sqrt(n_g) / ||w_g||)   whole groups become 0
//! ```
//! A subgradient step on L1 or on a group's norm never reaches 0; the proximal step does. `n_g` is the number of
//! elements of the group.
//!
//! # Reference
//! N. Srivastava et al., JMLR 2014 (max-norm); R. Tibshirani, JRSS B 1996; M. Yuan, Y. Lin, "Model selection and
//! estimation in regression with grouped variables", JRSS B 2006; S. Scardapane et al., "Group sparse
//! regularization for deep neural networks", Neurocomputing 2017; N. Parikh, S. Boyd, "Proximal algorithms", 2014.
//!
//! # Differences
//! Keras adds an epsilon to the norm, so that weights inside the ball shrink a little with each step; here they
//! stay to the bit.

mod fused;

use crate::RegularizeError;
use crate::penalty::{PenaltyScope, Target};
use crate::units::{UnitAxis, axes_of};
use burn::config::Config;
use burn::module::{Module, ParamGroup};
use burn::tensor::Tensor;
use firebrick_backend::PathStack;
use firebrick_core::{ConfigError, check};
use serde::{Deserialize, Serialize};

/// A change of the weights after the optimizer's step. Tuples of one to four apply in their order, `None` does nothing.
pub trait Projection {
    /// The model after it; `lr` is the learning rate of the step, which proximal steps multiply by.
    ///
    /// Only trainable weights are changed: no biases, norms, embeddings or running statistics.
    ///
    /// # Errors
    /// When a weight's unit axis is unknown, or `lr` negative or not finite.
    fn project<M: Module>(&self, model: M, lr: f64) -> Result<M, RegularizeError>;
}

impl Projection for () {
    fn project<M: Module>(&self, model: M, _: f64) -> Result<M, RegularizeError> {
        Ok(model)
    }
}

impl<P: Projection> Projection for Option<P> {
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
            fn project<Model: Module>(&self, model: Model, lr: f64) -> Result<Model, RegularizeError> {
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
    /// The axis it works along, if it needs one.
    fn axis(&self, path: &PathStack, rank: usize) -> Result<usize, RegularizeError>;
    /// The rule for weights in host memory.
    fn kernel(&self, lr: f64) -> Kernel;
    /// The same by tensor operations.
    fn apply<const D: usize>(&self, weight: Tensor<D>, axis: usize, lr: f64) -> Tensor<D>;
}

/// What is done to the elements, or to the units, of a weight in host memory.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kernel {
    Nothing,
    NonNegative,
    /// The soft threshold.
    Soft(f32),
    MaxNorm(f64),
    UnitNorm,
    /// The threshold of a group of one element.
    Group(f64),
}

impl Kernel {
    fn by_unit(self) -> bool {
        matches!(self, Self::MaxNorm(_) | Self::UnitNorm | Self::Group(_))
    }

    /// Changes elements each on its own.
    #[inline(always)]
    fn elements(self, values: &mut [f32]) {
        match self {
            Self::NonNegative => {
                values.iter_mut().for_each(|w| *w = if *w < 0.0 { 0.0 } else { *w });
            }
            // Not `clamp`, whose check of its bounds keeps the loop from being vectorized; NaN stays NaN here too.
            Self::Soft(by) => values.iter_mut().for_each(|w| {
                *w -= if *w > by {
                    by
                } else if *w < -by {
                    -by
                } else {
                    *w
                };
            }),
            _ => {}
        }
    }

    /// What a unit of `size` elements is multiplied by; NaN stays visible.
    fn factor(self, norm: f64, size: usize) -> f32 {
        let factor = match self {
            Self::MaxNorm(max) if norm > max || norm.is_nan() => max / norm,
            Self::UnitNorm if norm != 0.0 => 1.0 / norm,
            Self::Group(threshold) => {
                let kept = 1.0 - threshold * (size as f64).sqrt() / norm;
                if kept < 0.0 { 0.0 } else { kept }
            }
            _ => 1.0,
        };
        factor as f32
    }
}

macro_rules! projection {
    ($name:ident) => {
        impl $name {
            /// The same on the weights of `group` alone.
            #[must_use]
            pub fn only(mut self, group: ParamGroup) -> Self {
                self.target = self.target.only(group);
                self
            }
        }

        impl Projection for $name {
            fn project<M: Module>(&self, model: M, lr: f64) -> Result<M, RegularizeError> {
                fused::project(model, check::non_negative("lr", lr)?, self, &self.target)
            }
        }
    };
}

/// Configuration of [`MaxNorm`].
#[derive(Config, Debug)]
pub struct MaxNormConfig {
    /// Largest norm of a unit's incoming weights, above 0; 2 to 4 are usual.
    #[config(default = 2.0)]
    pub max: f64,
    /// The axis that counts units.
    #[config(default = "UnitAxis::ByLayer")]
    pub axis: UnitAxis,
}

impl MaxNormConfig {
    /// Checks the bound.
    ///
    /// # Errors
    /// When `max` is not above 0.
    pub fn init(&self) -> Result<MaxNorm, ConfigError> {
        let max = check::positive("max", self.max)?;
        Ok(MaxNorm { max, axis: self.axis, target: Target::new(PenaltyScope::Weights) })
    }
}

/// Scales units whose weights have grown beyond a norm back to it.
///
/// ```
/// use burn::nn::{Initializer, LinearConfig};
/// use burn::tensor::Device;
/// use firebrick_regularize::{MaxNormConfig, Projection};
///
/// let layer = LinearConfig::new(4, 3).with_initializer(Initializer::Ones).init(&Device::flex().autodiff());
/// let layer = MaxNormConfig::new().with_max(1.0).init()?.project(layer, 0.1)?;
/// let weights: Vec<f32> = layer.weight.val().try_to_vec_as().unwrap();
/// assert_eq!(weights, [0.5; 12]); // four weights of 1 have norm 2
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct MaxNorm {
    max: f64,
    axis: UnitAxis,
    target: Target,
}
projection!(MaxNorm);

impl Rule for MaxNorm {
    fn axis(&self, path: &PathStack, rank: usize) -> Result<usize, RegularizeError> {
        self.axis.of(|| path.path(), path.owner(), rank)
    }
    fn kernel(&self, _: f64) -> Kernel {
        Kernel::MaxNorm(self.max)
    }
    fn apply<const D: usize>(&self, weight: Tensor<D>, axis: usize, _: f64) -> Tensor<D> {
        // 0 / 0 cannot happen: the bound is above 0.
        let factor = norms(&weight, axis).recip().mul_scalar(self.max).clamp_max(1.0);
        weight * factor
    }
}

/// Configuration of [`UnitNorm`].
#[derive(Config, Debug)]
pub struct UnitNormConfig {
    /// The axis that counts units.
    #[config(default = "UnitAxis::ByLayer")]
    pub axis: UnitAxis,
}

impl UnitNormConfig {
    /// Builds the constraint; there is nothing to refuse.
    #[must_use]
    pub fn init(&self) -> UnitNorm {
        UnitNorm { axis: self.axis, target: Target::new(PenaltyScope::Weights) }
    }
}

/// Scales the weights of every unit to norm 1.
#[derive(Debug, Clone)]
pub struct UnitNorm {
    axis: UnitAxis,
    target: Target,
}
projection!(UnitNorm);

impl Rule for UnitNorm {
    fn axis(&self, path: &PathStack, rank: usize) -> Result<usize, RegularizeError> {
        self.axis.of(|| path.path(), path.owner(), rank)
    }
    fn kernel(&self, _: f64) -> Kernel {
        Kernel::UnitNorm
    }
    fn apply<const D: usize>(&self, weight: Tensor<D>, axis: usize, _: f64) -> Tensor<D> {
        let norm = norms(&weight, axis);
        let zero = norm.clone().equal_scalar(0.0);
        weight / norm.mask_fill(zero, 1.0)
    }
}

/// Sets negative weights to 0; NaN stays visible.
#[derive(Debug, Clone)]
pub struct NonNegative {
    target: Target,
}
projection!(NonNegative);

impl NonNegative {
    /// The constraint on all weights.
    #[must_use]
    pub fn new() -> Self {
        Self { target: Target::new(PenaltyScope::Weights) }
    }
}

impl Default for NonNegative {
    fn default() -> Self {
        Self::new()
    }
}

impl Rule for NonNegative {
    fn axis(&self, _: &PathStack, _: usize) -> Result<usize, RegularizeError> {
        Ok(0)
    }
    fn kernel(&self, _: f64) -> Kernel {
        Kernel::NonNegative
    }
    fn apply<const D: usize>(&self, weight: Tensor<D>, _: usize, _: f64) -> Tensor<D> {
        let negative = weight.clone().lower_scalar(0.0);
        weight.mask_fill(negative, 0.0)
    }
}

/// Configuration of [`ProximalL1`].
#[derive(Config, Debug)]
pub struct ProximalL1Config {
    /// Factor of the penalty `strength * sum |w|`, at least 0; 1e-5 to 1e-3 are usual.
    pub strength: f64,
}

impl ProximalL1Config {
    /// Checks the strength.
    ///
    /// # Errors
    /// When it is negative, NaN or infinite.
    pub fn init(&self) -> Result<ProximalL1, ConfigError> {
        let strength = check::non_negative("strength", self.strength)?;
        Ok(ProximalL1 { strength, target: Target::new(PenaltyScope::Weights) })
    }
}

/// The proximal step of L1, or soft threshold: small weights become exactly 0.
///
/// It replaces the penalty [`L1`](crate::L1) in the loss; do not use both.
///
/// ```
/// use burn::nn::{Initializer, LinearConfig};
/// use burn::tensor::Device;
/// use firebrick_regularize::{ProximalL1Config, Projection};
///
/// let config = LinearConfig::new(4, 3).with_initializer(Initializer::Constant { value: 0.01 });
/// let layer = config.init(&Device::flex().autodiff());
/// let layer = ProximalL1Config::new(0.2).init()?.project(layer, 0.1)?; // threshold 0.02
/// let weights: Vec<f32> = layer.weight.val().try_to_vec_as().unwrap();
/// assert_eq!(weights, [0.0; 12]);
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ProximalL1 {
    strength: f64,
    target: Target,
}
projection!(ProximalL1);

impl Rule for ProximalL1 {
    fn axis(&self, _: &PathStack, _: usize) -> Result<usize, RegularizeError> {
        Ok(0)
    }
    fn kernel(&self, lr: f64) -> Kernel {
        Kernel::Soft((lr * self.strength) as f32)
    }
    fn apply<const D: usize>(&self, weight: Tensor<D>, _: usize, lr: f64) -> Tensor<D> {
        let threshold = lr * self.strength;
        let cut = weight.clone().clamp(-threshold, threshold);
        weight - cut
    }
}

/// What a group of the group lasso is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LassoGroups {
    /// The incoming weights of a unit or output channel: units are removed.
    Units,
    /// The outgoing weights of an input or input channel: inputs are removed, feature selection in layer 1.
    Inputs,
    /// The slices along this axis.
    Along(usize),
}

/// Configuration of [`GroupLasso`].
#[derive(Config, Debug)]
pub struct GroupLassoConfig {
    /// Factor of the penalty `strength * sum_g sqrt(n_g) ||w_g||`, at least 0.
    pub strength: f64,
    /// What a group is.
    #[config(default = "LassoGroups::Units")]
    pub groups: LassoGroups,
}

impl GroupLassoConfig {
    /// Checks the strength.
    ///
    /// # Errors
    /// When it is negative, NaN or infinite.
    pub fn init(&self) -> Result<GroupLasso, ConfigError> {
        let strength = check::non_negative("strength", self.strength)?;
        let target = Target::new(PenaltyScope::Weights);
        Ok(GroupLasso { strength, groups: self.groups, target })
    }
}

/// The proximal step of the group lasso: whole units or inputs become exactly 0.
///
/// To make a model smaller, the next layer's inputs and the batch norm of a removed unit must go too.
#[derive(Debug, Clone)]
pub struct GroupLasso {
    strength: f64,
    groups: LassoGroups,
    target: Target,
}
projection!(GroupLasso);

impl Rule for GroupLasso {
    fn axis(&self, path: &PathStack, rank: usize) -> Result<usize, RegularizeError> {
        match self.groups {
            LassoGroups::Units => UnitAxis::ByLayer.of(|| path.path(), path.owner(), rank),
            LassoGroups::Along(axis) => UnitAxis::At(axis).of(|| path.path(), path.owner(), rank),
            LassoGroups::Inputs => {
                let axes = axes_of(path.owner(), rank);
                axes.map(|axes| axes.input).ok_or_else(|| RegularizeError::UnitAxis {
                    path: path.path(),
                    owner: path.owner().to_owned(),
                })
            }
        }
    }
    fn kernel(&self, lr: f64) -> Kernel {
        match lr * self.strength {
            0.0 => Kernel::Nothing,
            threshold => Kernel::Group(threshold),
        }
    }
    fn apply<const D: usize>(&self, weight: Tensor<D>, axis: usize, lr: f64) -> Tensor<D> {
        let threshold = lr * self.strength;
        if threshold == 0.0 {
            return weight;
        }
        let size = weight.dims().iter().product::<usize>() / weight.dims()[axis].max(1);
        let shrink = norms(&weight, axis).recip().mul_scalar(-threshold * (size as f64).sqrt());
        weight * (shrink + 1.0).clamp_min(0.0)
    }
}

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
    use burn::module::Param;
    use burn::nn::conv::Conv1dConfig;
    use burn::nn::{BatchNormConfig, EmbeddingConfig, Linear, LinearConfig};
    use burn::optim::{GradientsParams, SgdConfig};
    use burn::tensor::{DType, Device};
    use firebrick_backend::testing::devices;

    const ROWS: [[f32; 2]; 3] = [[3.0, 0.1], [0.0, -0.2], [4.0, 0.2]];

    fn linear(device: &Device) -> Linear {
        let mut layer = LinearConfig::new(3, 2).init(device);
        layer.weight = Param::from_data(ROWS, device);
        layer
    }

    fn read<const D: usize>(param: &Param<Tensor<D>>) -> Vec<f32> {
        param.val().try_to_vec_as().expect("reads")
    }

    fn close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-6, "{found:?} {expected:?}");
        }
    }

    #[test]
    fn max_norm_acts_on_units_in_both_layouts() {
        for device in devices() {
            let device = device.autodiff();
            // Unit 0 has norm 5 and is scaled by 0.4; unit 1 has norm 0.3 and stays to the bit.
            let rule = MaxNormConfig::new().init().expect("valid");
            let layer = rule.project(linear(&device), 0.1).expect("a linear layer is known");
            close(&read(&layer.weight), &[1.2, 0.1, 0.0, -0.2, 1.6, 0.2]);
            assert_eq!(read(&layer.weight)[1], 0.1);
            let mut conv = Conv1dConfig::new(3, 2, 1).init(&device);
            conv.weight =
                Param::from_data([[[3.0], [0.0], [4.0]], [[0.1], [-0.2], [0.2]]], &device);
            let conv = rule.project(conv, 0.1).expect("a convolution is known");
            close(&read(&conv.weight), &[1.2, 0.0, 1.6, 0.1, -0.2, 0.2]);
            let wrong = MaxNormConfig::new().with_axis(UnitAxis::At(0)).init().expect("valid");
            let layer = wrong.project(linear(&device), 0.1).expect("an axis is named");
            assert_ne!(read(&layer.weight)[0], 1.2);
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
    fn unit_norm_non_negative_and_proximal_l1_by_hand() {
        for device in devices() {
            let device = device.autodiff();
            let unit = UnitNormConfig::new().init().project(linear(&device), 0.0).expect("known");
            close(&read(&unit.weight), &[0.6, 1.0 / 3.0, 0.0, -2.0 / 3.0, 0.8, 2.0 / 3.0]);
            let signs = NonNegative::new().project(linear(&device), 0.0).expect("known");
            assert_eq!(read(&signs.weight), [3.0, 0.1, 0.0, 0.0, 4.0, 0.2]);
            let l1 = ProximalL1Config::new(1.5).init().expect("valid");
            let l1 = l1.project(linear(&device), 0.1).expect("known");
            close(&read(&l1.weight), &[2.85, 0.0, 0.0, -0.05, 3.85, 0.05]);
            assert_eq!(read(&l1.weight)[1], 0.0);
        }
    }

    #[test]
    fn group_lasso_removes_whole_groups_and_shrinks_the_rest() {
        for device in devices() {
            let device = device.autodiff();
            let units = GroupLassoConfig::new(2.0).init().expect("valid");
            // Threshold 0.2 sqrt(3) = 0.34641: unit 1 (norm 0.3) goes, unit 0 keeps 1 - 0.34641 / 5.
            let layer = units.project(linear(&device), 0.1).expect("known");
            let keep = 1.0 - 0.2 * 3f32.sqrt() / 5.0;
            close(&read(&layer.weight), &[3.0 * keep, 0.0, 0.0, 0.0, 4.0 * keep, 0.0]);
            assert_eq!(read(&layer.weight)[3], 0.0);
            let inputs = GroupLassoConfig::new(2.0).with_groups(LassoGroups::Inputs);
            let layer = inputs.init().expect("valid").project(linear(&device), 0.1).expect("known");
            // Input 1 has norm 0.2 below 0.2 sqrt(2): it goes, the others stay.
            let weights = read(&layer.weight);
            assert_eq!(weights[2..4], [0.0, 0.0]);
            assert!(weights[0] > 2.7 && weights[4] > 3.7);
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
}
