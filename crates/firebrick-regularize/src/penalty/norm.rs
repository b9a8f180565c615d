//! Penalties by norm: L2, L1 and elastic net, on weights only unless told otherwise.
//!
//! # Formulas
//! ```text
//! L2, half (default)   strength / 2 * sum w^2      gradient strength * w
//! L2, full             strength * sum w^2          gradient 2 * strength * w
//! L1                   strength * sum |w|          gradient strength * sign(w), 0 at 0
//! ```
//! The half form is the one whose `strength` equals PyTorch's `weight_decay` under plain SGD and the `lambda`
//! of "Dive into Deep Learning"; Keras' `l2` is the full form.
//!
//! # Reference
//! A. Krogh, J. A. Hertz, "A simple weight decay can improve generalization", NIPS 1991; R. Tibshirani,
//! "Regression shrinkage and selection via the lasso", JRSS B 1996.

use super::{Penalty, PenaltyScope, Target, sum_over};
use burn::config::Config;
use burn::module::{Module, ParamGroup};
use burn::tensor::Tensor;
use firebrick_core::{ConfigError, check};
use serde::{Deserialize, Serialize};

/// Which factor stands before the sum of squares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum L2Convention {
    /// `strength / 2`: the gradient is `strength * w`.
    Half,
    /// `strength`: the gradient is `2 * strength * w`.
    Full,
}

/// Configuration of [`L2`].
#[derive(Config, Debug)]
pub struct L2Config {
    /// Factor of the penalty, at least 0; 1e-4 to 1e-2 are usual.
    pub strength: f64,
    /// The factor before the sum.
    #[config(default = "L2Convention::Half")]
    pub convention: L2Convention,
    /// The parameters it applies to.
    #[config(default = "PenaltyScope::Weights")]
    pub scope: PenaltyScope,
}

impl L2Config {
    /// Checks the values and builds the penalty.
    ///
    /// # Errors
    /// When `strength` is negative, NaN or infinite.
    pub fn init(&self) -> Result<L2, ConfigError> {
        check::non_negative("strength", self.strength)?;
        let factor = match self.convention {
            L2Convention::Half => self.strength / 2.0,
            L2Convention::Full => self.strength,
        };
        Ok(L2 { factor, target: Target::new(self.scope) })
    }
}

/// The squared norm of the weights: makes the learned weights small.
#[derive(Debug, Clone)]
pub struct L2 {
    factor: f64,
    target: Target,
}

impl L2 {
    /// The same penalty on the parameters of `group` alone, within its scope.
    #[must_use]
    pub fn only(self, group: ParamGroup) -> Self {
        Self { target: self.target.only(group), ..self }
    }
}

impl Penalty for L2 {
    fn term<M: Module>(&self, model: &M) -> Option<Tensor<1>> {
        sum_over(model, &self.target, self.factor, &Square)
    }
}

struct Square;
impl super::Measure for Square {
    fn of<const D: usize>(&self, weight: Tensor<D>, _: &super::Site) -> Tensor<1> {
        weight.square().sum()
    }
}

struct Magnitude;
impl super::Measure for Magnitude {
    fn of<const D: usize>(&self, weight: Tensor<D>, _: &super::Site) -> Tensor<1> {
        weight.abs().sum()
    }
}

/// Configuration of [`L1`].
#[derive(Config, Debug)]
pub struct L1Config {
    /// Factor of the penalty, at least 0.
    pub strength: f64,
    /// The parameters it applies to.
    #[config(default = "PenaltyScope::Weights")]
    pub scope: PenaltyScope,
}

impl L1Config {
    /// Checks the values and builds the penalty.
    ///
    /// # Errors
    /// When `strength` is negative, NaN or infinite.
    pub fn init(&self) -> Result<L1, ConfigError> {
        check::non_negative("strength", self.strength)?;
        Ok(L1 { factor: self.strength, target: Target::new(self.scope) })
    }
}

/// The sum of the weights' magnitudes: draws weights towards 0 by the same amount whatever their size.
#[derive(Debug, Clone)]
pub struct L1 {
    factor: f64,
    target: Target,
}

impl L1 {
    /// The same penalty on the parameters of `group` alone, within its scope.
    #[must_use]
    pub fn only(self, group: ParamGroup) -> Self {
        Self { target: self.target.only(group), ..self }
    }
}

impl Penalty for L1 {
    fn term<M: Module>(&self, model: &M) -> Option<Tensor<1>> {
        sum_over(model, &self.target, self.factor, &Magnitude)
    }
}

/// Configuration of [`ElasticNet`].
#[derive(Config, Debug)]
pub struct ElasticNetConfig {
    /// Factor of the whole, at least 0.
    pub strength: f64,
    /// Share of L1, in [0, 1]: scikit-learn's `l1_ratio`.
    #[config(default = 0.5)]
    pub l1_ratio: f64,
    /// The parameters it applies to.
    #[config(default = "PenaltyScope::Weights")]
    pub scope: PenaltyScope,
}

impl ElasticNetConfig {
    /// Checks the values and builds the penalty.
    ///
    /// # Errors
    /// When `strength` is negative or not finite, or `l1_ratio` outside [0, 1].
    pub fn init(&self) -> Result<ElasticNet, ConfigError> {
        let strength = check::non_negative("strength", self.strength)?;
        let ratio = check::range("l1_ratio", self.l1_ratio, 0.0..=1.0)?;
        let target = Target::new(self.scope);
        Ok(ElasticNet(
            L1 { factor: strength * ratio, target: target.clone() },
            L2 { factor: strength * (1.0 - ratio) / 2.0, target },
        ))
    }
}

/// `strength * (l1_ratio * sum |w| + (1 - l1_ratio) / 2 * sum w^2)`: L1's selection with L2's grouping.
///
/// H. Zou, T. Hastie, "Regularization and variable selection via the elastic net", JRSS B 2005. Keras' `L1L2`
/// takes two free factors instead: use a tuple of [`L1`] and [`L2`].
#[derive(Debug, Clone)]
pub struct ElasticNet(L1, L2);

impl ElasticNet {
    /// The same penalty on the parameters of `group` alone, within its scope.
    #[must_use]
    pub fn only(self, group: ParamGroup) -> Self {
        Self(self.0.only(group.clone()), self.1.only(group))
    }
}

impl Penalty for ElasticNet {
    fn term<M: Module>(&self, model: &M) -> Option<Tensor<1>> {
        (self.0.clone(), self.1.clone()).term(model)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::module::Param;
    use burn::nn::{BatchNorm, BatchNormConfig, Embedding, EmbeddingConfig, Linear, LinearConfig};
    use burn::tensor::Device;
    use firebrick_backend::testing::devices;

    #[derive(Module, Debug)]
    struct Model {
        table: Embedding,
        layer: Linear,
        norm: BatchNorm,
    }

    fn model(device: &Device) -> Model {
        let mut model = Model {
            table: EmbeddingConfig::new(3, 2).init(device),
            layer: LinearConfig::new(2, 2).init(device),
            norm: BatchNormConfig::new(2).init(device),
        };
        model.layer.weight = Param::from_data([[1.0, -2.0], [0.0, 3.0]], device);
        model
    }

    fn value(penalty: &impl Penalty, model: &impl Module) -> f32 {
        penalty.term(model).expect("something is penalized").into_scalar()
    }

    #[test]
    fn values_follow_the_formulas_on_weights_alone() {
        for device in devices() {
            let model = model(&device.autodiff());
            let half = L2Config::new(0.1).init().expect("valid");
            let full =
                L2Config::new(0.1).with_convention(L2Convention::Full).init().expect("valid");
            let l1 = L1Config::new(0.1).init().expect("valid");
            assert!((value(&half, &model) - 0.7).abs() < 1e-6);
            assert!((value(&full, &model) - 1.4).abs() < 1e-6);
            assert!((value(&l1, &model) - 0.6).abs() < 1e-6);
            assert!((value(&(half, l1), &model) - 1.3).abs() < 1e-6);
        }
    }

    #[test]
    fn gradients_follow_the_formulas_and_touch_nothing_else() {
        for device in devices() {
            let model = model(&device.autodiff());
            for (penalty, expected) in [
                ((Some(L2Config::new(0.1).init().expect("valid")), None), [0.1, -0.2, 0.0, 0.3]),
                ((None, Some(L1Config::new(0.1).init().expect("valid"))), [0.1, -0.1, 0.0, 0.1]),
            ] {
                let gradients = penalty.term(&model).expect("a term").backward();
                let weight = model.layer.weight.val().grad(&gradients).expect("the weight has one");
                let weight: Vec<f32> = weight.try_to_vec_as().expect("reads");
                for (found, expected) in weight.iter().zip(expected) {
                    assert!((found - expected).abs() < 1e-6, "{weight:?}");
                }
                let bias = model.layer.bias.as_ref().expect("the layer has a bias");
                assert!(bias.val().grad(&gradients).is_none());
                assert!(model.norm.gamma.val().grad(&gradients).is_none());
                assert!(model.table.weight.val().grad(&gradients).is_none());
            }
        }
    }

    #[test]
    fn nothing_to_penalize_is_no_term() {
        let device = Device::flex().autodiff();
        let penalty = L2Config::new(0.1).init().expect("valid");
        assert!(penalty.term(&BatchNormConfig::new(2).init(&device)).is_none());
        assert!(penalty.term(&model(&device).no_grad()).is_none());
        assert!(().term(&model(&device)).is_none());
        let off = L2Config::new(0.0).init().expect("0 is allowed");
        assert!(off.term(&model(&device)).is_none());
    }

    #[test]
    fn a_shared_weight_counts_once_and_all_covers_the_rest() {
        let device = Device::flex().autodiff();
        let one = model(&device);
        let penalty = L2Config::new(0.1).init().expect("valid");
        let twice = (one.layer.clone(), one.layer.clone());
        assert!((value(&penalty, &twice) - 0.7).abs() < 1e-6);
        // The norm's scales are 1 and 1, its offsets 0; its running variance of 1 and 1 is no parameter.
        let all = L2Config::new(0.1).with_scope(PenaltyScope::All).init().expect("valid");
        assert!((value(&all, &one.norm) - 0.1).abs() < 1e-6);
    }

    #[test]
    fn elastic_net_mixes_by_its_ratio_and_groups_narrow() {
        let device = Device::flex().autodiff();
        let model = model(&device);
        // sum |w| = 6, sum w^2 = 14.
        let net = ElasticNetConfig::new(0.1).with_l1_ratio(0.25).init().expect("valid");
        assert!((value(&net, &model) - 0.1 * (0.25 * 6.0 + 0.375 * 14.0)).abs() < 1e-6);
        let ends = |ratio| ElasticNetConfig::new(0.1).with_l1_ratio(ratio).init().expect("valid");
        assert!((value(&ends(1.0), &model) - 0.6).abs() < 1e-6);
        assert!((value(&ends(0.0), &model) - 0.7).abs() < 1e-6);
        assert!(net.clone().only(ParamGroup::from_path("elsewhere")).term(&model).is_none());
        let named = net.only(ParamGroup::from_path("layer.weight"));
        assert!(named.term(&model).is_some());
        let refused = ElasticNetConfig::new(0.1).with_l1_ratio(1.5).init().expect_err("refused");
        assert_eq!(refused.to_string(), "`l1_ratio` must be in [0, 1], got 1.5");
    }

    #[test]
    fn half_precision_is_summed_in_single() {
        use burn::tensor::DType;
        let device = Device::flex().autodiff();
        for dtype in [DType::F16, DType::BF16, DType::F64] {
            let mut model = model(&device);
            let weight = Tensor::<2>::full([2, 2], 300.0, (&device, dtype)).require_grad();
            model.layer.weight = Param::from_tensor(weight);
            // The sum of squares is 360000, beyond f16; the term is not.
            let penalty = L2Config::new(1e-3).init().expect("valid");
            let term = penalty.term(&model).expect("a term");
            assert_eq!(term.dtype(), dtype);
            assert!((term.clone().into_scalar::<f64>() - 180.0).abs() < 0.5);
            let gradient = model.layer.weight.val().grad(&term.backward()).expect("has one");
            let gradient: Vec<f64> = gradient.try_to_vec_as().expect("reads");
            assert!(gradient.iter().all(|g| (g - 0.3).abs() < 1e-3), "{dtype:?} {gradient:?}");
        }
    }

    #[test]
    fn bad_strengths_are_refused() {
        for strength in [-1.0, f64::NAN, f64::INFINITY] {
            let message = format!("`strength` must be in [0, inf), got {strength}");
            assert_eq!(L2Config::new(strength).init().expect_err("refused").to_string(), message);
            assert_eq!(L1Config::new(strength).init().expect_err("refused").to_string(), message);
        }
    }
}
