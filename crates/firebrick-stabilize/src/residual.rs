//! Residual connections in the forms that practice knows, around any branch.
//!
//! | kind | formula | source |
//! | --- | --- | --- |
//! | `Plain` | x + f(x) | K. He et al., CVPR 2016 |
//! | `PreNorm` | x + f(N(x)) | R. Xiong et al., ICML 2020: trains without warm-up |
//! | `PostNorm` | N(x + f(x)) | A. Vaswani et al., NeurIPS 2017: needs warm-up |
//! | `Sandwich` | x + N2(f(N1(x))) | M. Ding et al., NeurIPS 2021 |
//! | `BranchNorm` | x + N(f(x)) | OLMo 2, 2025 |
//! | `DeepNorm` | N(alpha x + f(x)) | H. Wang et al., 2022 (arXiv 2203.00555) |
//! | `Highway` | t f(x) + (1 - t) x,  t = sigmoid(W x + b) | R. Srivastava, K. Greff, J. Schmidhuber, 2015 |
//! | `Scaled` | x + a f(x),  a learned, 0 at the start | S. De, S. Smith, 2020 (SkipInit); T. Bachlechner et al., 2020 (ReZero) |
//! | `LayerScale` | x + gamma f(x),  gamma learned for each feature | H. Touvron et al., ICCV 2021 |

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation::sigmoid};
use firebrick_core::{ConfigError, check};
use serde::{Deserialize, Serialize};

/// How a branch is joined to what it branched from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ResidualKind {
    /// The sum.
    Plain,
    /// The branch sees a normalized input.
    PreNorm,
    /// The sum is normalized.
    PostNorm,
    /// The branch is normalized before and after.
    Sandwich,
    /// What the branch gives is normalized.
    BranchNorm,
    /// The sum is normalized, the skipped part counts `alpha` times; see [`deep_norm`].
    DeepNorm {
        /// The weight of the skipped part.
        alpha: f64,
    },
    /// A learned gate mixes both; its bias starts at `bias`, -1 to -4, so that it starts nearly closed.
    ///
    /// The bias is a vector of its own, `gate_bias`: initializers leave it closed, and weight decay does not open it.
    Highway {
        /// Where the gate's bias starts.
        bias: f64,
    },
    /// One learned factor that starts at 0.
    Scaled,
    /// One learned factor a feature that starts at `initial`: 0.1 up to 18 layers, 1e-5 up to 24, 1e-6 beyond.
    LayerScale {
        /// Where the factors start.
        initial: f64,
    },
}

/// Configuration of [`Residual`].
#[derive(Config, Debug)]
pub struct ResidualConfig {
    /// Size of the last axis, the features; at least 1.
    pub size: usize,
    /// Which form.
    pub kind: ResidualKind,
}

impl ResidualConfig {
    /// Checks the values and builds the module.
    ///
    /// # Errors
    /// When `size` is 0 or a number of the kind is not finite, or `alpha` not above 0.
    pub fn init(&self, device: &Device) -> Result<Residual, ConfigError> {
        check::at_least("size", self.size, 1)?;
        let norm = || Some(LayerNormConfig::new(self.size).init(device));
        let mut residual = Residual {
            before: None,
            after: None,
            gate: None,
            gate_bias: None,
            scale: None,
            kind: self.kind,
        };
        match self.kind {
            ResidualKind::Plain => {}
            ResidualKind::PreNorm => residual.before = norm(),
            ResidualKind::PostNorm | ResidualKind::BranchNorm => residual.after = norm(),
            ResidualKind::Sandwich => (residual.before, residual.after) = (norm(), norm()),
            ResidualKind::DeepNorm { alpha } => {
                check::positive("alpha", alpha)?;
                residual.after = norm();
            }
            ResidualKind::Highway { bias } => {
                check::finite("bias", bias)?;
                let gate = LinearConfig::new(self.size, self.size).with_bias(false);
                residual.gate = Some(gate.init(device));
                let bias = Tensor::full([self.size], bias, device);
                residual.gate_bias = Some(Param::from_tensor(bias));
            }
            ResidualKind::Scaled => {
                residual.scale = Some(Param::from_tensor(Tensor::zeros([1], device)));
            }
            ResidualKind::LayerScale { initial } => {
                check::finite("initial", initial)?;
                let scale = Tensor::full([self.size], initial, device);
                residual.scale = Some(Param::from_tensor(scale));
            }
        }
        Ok(residual)
    }
}

/// A residual connection; what it learns itself (norms, gate, factors) is part of the model.
///
/// ```
/// use burn::{nn::LinearConfig, tensor::{Device, Tensor}};
/// use firebrick_stabilize::{ResidualConfig, ResidualKind};
///
/// let device = Device::flex();
/// let layer = LinearConfig::new(4, 4).init(&device);
/// let skip = ResidualConfig::new(4, ResidualKind::Scaled).init(&device)?;
/// let x = Tensor::<2>::ones([2, 4], &device);
/// let y = skip.forward(x.clone(), |x| layer.forward(x));
/// y.into_data().assert_eq(&x.into_data(), true); // the identity at the start
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Module, Debug)]
pub struct Residual {
    before: Option<LayerNorm>,
    after: Option<LayerNorm>,
    gate: Option<Linear>,
    gate_bias: Option<Param<Tensor<1>>>,
    scale: Option<Param<Tensor<1>>>,
    #[module(skip)]
    kind: ResidualKind,
}

impl Residual {
    /// `x` joined with `branch` of it; the last axis holds the features, and the branch keeps the shape.
    pub fn forward<const D: usize>(
        &self,
        x: Tensor<D>,
        branch: impl FnOnce(Tensor<D>) -> Tensor<D>,
    ) -> Tensor<D> {
        let norm = |layer: &Option<LayerNorm>, x: Tensor<D>| match layer {
            Some(layer) => layer.forward(x),
            None => x,
        };
        let along_features = |vector: &Param<Tensor<1>>| -> Tensor<D> {
            let vector = vector.val();
            let mut shape = [1; D];
            shape[D - 1] = vector.dims()[0];
            vector.reshape(shape)
        };
        let changed = branch(norm(&self.before, x.clone()));
        match self.kind {
            ResidualKind::PostNorm => norm(&self.after, x + changed),
            ResidualKind::DeepNorm { alpha } => norm(&self.after, x.mul_scalar(alpha) + changed),
            _ => {
                let changed = norm(&self.after, changed);
                if let (Some(gate), Some(bias)) = (&self.gate, &self.gate_bias) {
                    let gate = sigmoid(gate.forward(x.clone()) + along_features(bias));
                    return x.clone() + gate * (changed - x);
                }
                match &self.scale {
                    Some(scale) => x + changed * along_features(scale),
                    None => x + changed,
                }
            }
        }
    }
}

/// The two numbers of DeepNorm for a net of `layers` layers of one kind (encoder or decoder only): `alpha`, the
/// weight of the skipped part, `(2 n)^(1/4)`; and `beta`, by which the weights of feed-forward, value and output
/// projections are multiplied at the start, `(8 n)^(-1/4)`.
///
/// # Errors
/// When `layers` is 0.
///
/// ```
/// let (alpha, beta) = firebrick_stabilize::deep_norm(8)?;
/// assert_eq!((alpha, beta), (2.0, 64f64.powf(-0.25)));
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
pub fn deep_norm(layers: usize) -> Result<(f64, f64), ConfigError> {
    let n = check::at_least("layers", layers, 1)? as f64;
    Ok(((2.0 * n).powf(0.25), (8.0 * n).powf(-0.25)))
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::units::values;
    use crate::{Scheme, initialize};
    use firebrick_backend::testing::devices;
    use firebrick_backend::{Role, parameters};
    use firebrick_core::Seed;

    #[test]
    fn an_initialized_gate_stays_closed_and_learns() {
        for device in devices() {
            let device = device.autodiff();
            let kind = ResidualKind::Highway { bias: -3.0 };
            let skip = ResidualConfig::new(2, kind).init(&device).expect("valid");
            let skip = initialize(skip, Scheme::KaimingNormal, Seed(1));
            let y = skip.forward(Tensor::<2>::zeros([1, 2], &device), |x| x + 8.0);
            for value in values(y.clone().inner()) {
                assert!((value - 8.0 / (1.0 + 3f64.exp())).abs() < 1e-5, "{value}");
            }
            let bias = skip.gate_bias.as_ref().expect("has one").val();
            assert!(bias.grad(&y.sum().backward()).is_some());
            let roles: Vec<Role> = parameters(&skip).into_iter().map(|p| p.role).collect();
            assert_eq!(roles, [Role::Weight, Role::Vector]);
        }
    }

    #[test]
    fn every_kind_follows_its_formula() {
        for device in devices() {
            let x = Tensor::<2>::from_floats([[1.0, 3.0]], &device);
            let run = |kind: ResidualKind| {
                let skip = ResidualConfig::new(2, kind).init(&device).expect("valid");
                values(skip.forward(x.clone(), |x| x * 2.0 + 1.0))
            };
            // N(1, 3) is (-1, 1) up to epsilon; the branch doubles and adds 1.
            for (kind, expected) in [
                (ResidualKind::Plain, [4.0, 10.0]),
                (ResidualKind::PreNorm, [0.0, 6.0]),
                (ResidualKind::PostNorm, [-1.0, 1.0]),
                (ResidualKind::Sandwich, [0.0, 4.0]),
                (ResidualKind::BranchNorm, [0.0, 4.0]),
                (ResidualKind::DeepNorm { alpha: 5.0 }, [-1.0, 1.0]),
                (ResidualKind::Scaled, [1.0, 3.0]),
                (ResidualKind::LayerScale { initial: 0.1 }, [1.3, 3.7]),
                (ResidualKind::Highway { bias: -30.0 }, [1.0, 3.0]),
            ] {
                for (value, expected) in run(kind).iter().zip(expected) {
                    assert!((value - expected).abs() < 1e-4, "{kind:?} {value} {expected}");
                }
            }
        }
    }

    #[test]
    fn what_it_learns_receives_gradients() {
        for device in devices() {
            let device = device.autodiff();
            for kind in [ResidualKind::Scaled, ResidualKind::LayerScale { initial: 1e-5 }] {
                let skip = ResidualConfig::new(3, kind).init(&device).expect("valid");
                let x = Tensor::<3>::ones([2, 2, 3], &device);
                let loss = skip.forward(x, |x| x * 2.0).sum();
                let scale = skip.scale.as_ref().expect("has one").val();
                let gradient = scale.grad(&loss.backward()).expect("takes part");
                assert_eq!(values(gradient).iter().sum::<f64>(), 24.0);
            }
        }
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let device = Device::flex();
        let refused = |size, kind| ResidualConfig::new(size, kind).init(&device).is_err();
        assert!(refused(0, ResidualKind::Plain));
        assert!(refused(2, ResidualKind::DeepNorm { alpha: 0.0 }));
        assert!(refused(2, ResidualKind::Highway { bias: f64::NAN }));
        assert!(refused(2, ResidualKind::LayerScale { initial: f64::INFINITY }));
        assert!(deep_norm(0).is_err());
    }
}
