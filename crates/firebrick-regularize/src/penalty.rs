//! Penalties on the loss: L2 and L1, on weights only unless told otherwise.
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

use burn::config::Config;
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use firebrick_backend::{PathStack, Role};
use firebrick_core::{ConfigError, check};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// A term added to the loss that depends on the parameters alone.
///
/// Add it once per optimizer step, also under gradient accumulation, and report it apart from the loss, so
/// that training and validation losses stay comparable. Penalties add up as tuples.
pub trait Penalty {
    /// The term, of shape [1] and differentiable; `None` where no parameter is penalized.
    ///
    /// Frozen parameters and running statistics never take part, a shared parameter does once.
    fn term<M: Module>(&self, model: &M) -> Option<Tensor<1>>;
}

/// Which parameters a penalty applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PenaltyScope {
    /// Weights alone: no biases, norm scales or embeddings.
    Weights,
    /// Every trainable parameter.
    All,
}

impl PenaltyScope {
    fn covers(self, role: Role) -> bool {
        match self {
            Self::Weights => role == Role::Weight,
            Self::All => role != Role::Buffer,
        }
    }
}

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
        Ok(L2 { factor, scope: self.scope })
    }
}

/// The squared norm of the weights: makes the learned weights small.
#[derive(Debug, Clone)]
pub struct L2 {
    factor: f64,
    scope: PenaltyScope,
}

impl Penalty for L2 {
    fn term<M: Module>(&self, model: &M) -> Option<Tensor<1>> {
        sum(model, self.scope, self.factor, Kind::Square)
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
        Ok(L1 { factor: self.strength, scope: self.scope })
    }
}

/// The sum of the weights' magnitudes: draws weights towards 0 by the same amount whatever their size.
#[derive(Debug, Clone)]
pub struct L1 {
    factor: f64,
    scope: PenaltyScope,
}

impl Penalty for L1 {
    fn term<M: Module>(&self, model: &M) -> Option<Tensor<1>> {
        sum(model, self.scope, self.factor, Kind::Magnitude)
    }
}

impl Penalty for () {
    fn term<M: Module>(&self, _: &M) -> Option<Tensor<1>> {
        None
    }
}

impl<P: Penalty> Penalty for Option<P> {
    fn term<M: Module>(&self, model: &M) -> Option<Tensor<1>> {
        self.as_ref().and_then(|penalty| penalty.term(model))
    }
}

macro_rules! add_up {
    ($($penalty:ident $index:tt),+) => {
        impl<$($penalty: Penalty),+> Penalty for ($($penalty,)+) {
            fn term<Model: Module>(&self, model: &Model) -> Option<Tensor<1>> {
                [$( self.$index.term(model) ),+].into_iter().flatten().reduce(|sum, term| sum + term)
            }
        }
    };
}
add_up!(A 0);
add_up!(A 0, B 1);
add_up!(A 0, B 1, C 2);
add_up!(A 0, B 1, C 2, D 3);

#[derive(Clone, Copy)]
enum Kind {
    Square,
    Magnitude,
}

fn sum<M: Module>(model: &M, scope: PenaltyScope, factor: f64, kind: Kind) -> Option<Tensor<1>> {
    struct Sum {
        scope: PenaltyScope,
        kind: Kind,
        path: PathStack,
        seen: HashSet<ParamId>,
        total: Option<Tensor<1>>,
    }
    impl ModuleVisitor for Sum {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if !param.is_require_grad()
                || !self.scope.covers(self.path.role(D))
                || !self.seen.insert(param.id)
            {
                return;
            }
            let term = match self.kind {
                Kind::Square => param.val().square().sum(),
                Kind::Magnitude => param.val().abs().sum(),
            };
            self.total = Some(match self.total.take() {
                Some(total) => total + term,
                None => term,
            });
        }
    }
    // A factor of 0 would still cost a pass, and make 0 * inf a NaN.
    if factor == 0.0 {
        return None;
    }
    let mut sum =
        Sum { scope, kind, path: PathStack::default(), seen: HashSet::new(), total: None };
    model.visit(&mut sum);
    sum.total.map(|total| total.mul_scalar(factor))
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
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
    fn bad_strengths_are_refused() {
        for strength in [-1.0, f64::NAN, f64::INFINITY] {
            let message = format!("`strength` must be in [0, inf), got {strength}");
            assert_eq!(L2Config::new(strength).init().expect_err("refused").to_string(), message);
            assert_eq!(L1Config::new(strength).init().expect_err("refused").to_string(), message);
        }
    }
}
