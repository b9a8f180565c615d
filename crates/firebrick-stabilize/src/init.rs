//! Initial weights from the pinned generator: the same seed gives the same network on every platform.
//!
//! # Formulas
//! With `fan_in` inputs and `fan_out` outputs of a unit:
//! ```text
//! LeCun normal       variance 1 / fan_in
//! Xavier             variance gain^2 * 2 / (fan_in + fan_out)
//! Kaiming            variance gain^2 / fan_in           gain sqrt(2) for ReLU
//! ```
//! A uniform form with variance `v` draws from [-sqrt(3 v), sqrt(3 v)).
//!
//! # Reference
//! Y. LeCun et al., "Efficient BackProp", 1998; X. Glorot, Y. Bengio, AISTATS 2010; K. He et al., ICCV 2015.
//!
//! # Differences
//! burn draws lazily from a generator of the whole process, so its weights depend on what else was drawn and
//! in which order. burn also draws biases like weights; here they start at 0.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use firebrick_backend::{PathStack, Role};
use firebrick_core::{Philox, Seed};
use serde::{Deserialize, Serialize};

/// The distribution of initial weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Scheme {
    /// Normal, variance `1 / fan_in`: for SELU and for linear units.
    LecunNormal,
    /// Uniform, variance `2 / (fan_in + fan_out)`: for tanh and sigmoid.
    XavierUniform,
    /// Normal, variance `2 / (fan_in + fan_out)`.
    XavierNormal,
    /// Uniform, variance `2 / fan_in`: for ReLU.
    KaimingUniform,
    /// Normal, variance `2 / fan_in`: for ReLU.
    KaimingNormal,
}

impl Scheme {
    /// The variance of a weight between `fan_in` inputs and `fan_out` outputs.
    #[must_use]
    pub fn variance(self, fan_in: usize, fan_out: usize) -> f64 {
        let (fan_in, both) = (fan_in.max(1) as f64, (fan_in + fan_out).max(1) as f64);
        match self {
            Self::LecunNormal => 1.0 / fan_in,
            Self::XavierUniform | Self::XavierNormal => 2.0 / both,
            Self::KaimingUniform | Self::KaimingNormal => 2.0 / fan_in,
        }
    }

    fn draw(self, deviation: f64, stream: &mut Philox) -> f64 {
        match self {
            Self::XavierUniform | Self::KaimingUniform => {
                deviation * 3f64.sqrt() * (2.0 * stream.uniform() - 1.0)
            }
            Self::LecunNormal | Self::XavierNormal | Self::KaimingNormal => {
                deviation * stream.normal()
            }
        }
    }
}

/// Draws the weights of `model` anew by `scheme`, sets its biases to 0 and its embeddings to N(0, 1).
///
/// Scales and offsets of normalization layers and other vectors keep burn's constants. Each parameter draws
/// from a stream named by its path, so adding a layer leaves the others as they were.
///
/// ```
/// use burn::{nn::LinearConfig, tensor::Device};
/// use firebrick_core::Seed;
/// use firebrick_stabilize::{Scheme, initialize};
///
/// let device = Device::flex().autodiff();
/// let build = || initialize(LinearConfig::new(64, 32).init(&device), Scheme::KaimingNormal, Seed(7));
/// let (one, two) = (build(), build());
/// one.weight.val().into_data().assert_eq(&two.weight.val().into_data(), true);
/// ```
#[must_use]
pub fn initialize<M: Module>(model: M, scheme: Scheme, seed: Seed) -> M {
    model.map(&mut Draw { scheme, seed, path: PathStack::default() })
}

struct Draw {
    scheme: Scheme,
    seed: Seed,
    path: PathStack,
}

impl ModuleMapper for Draw {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.lazy_shape();
        let mut stream = self.seed.stream(&format!("init/{}", self.path.path()));
        let count = shape.num_elements();
        let values: Vec<f64> = match self.path.role(D) {
            Role::Weight => {
                let (fan_in, fan_out) = fans(self.path.owner(), shape.as_slice());
                let deviation = self.scheme.variance(fan_in, fan_out).sqrt();
                (0..count).map(|_| self.scheme.draw(deviation, &mut stream)).collect()
            }
            Role::Embedding => (0..count).map(|_| stream.normal()).collect(),
            Role::Bias => vec![0.0; count],
            _ => return param,
        };
        let trainable = param.is_require_grad();
        param.map(|old| {
            let (device, dtype) = (old.device(), old.dtype());
            let data = TensorData::new(values, shape);
            Tensor::from_data(data, (&device, dtype)).set_require_grad(trainable)
        })
    }
}

/// Inputs and outputs of a unit of a layer of type `owner` whose weight has `shape`.
///
/// burn stores `Linear` as [in, out], convolutions as [out, in / groups, kernel..] and transposed
/// convolutions as [in, out / groups, kernel..].
fn fans(owner: &str, shape: &[usize]) -> (usize, usize) {
    let [first, second, kernel @ ..] = shape else { return (1, 1) };
    let field: usize = kernel.iter().product();
    if owner.contains("Conv") && !owner.contains("Transpose") {
        (second * field, first * field)
    } else {
        (first * field, second * field)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::nn::conv::Conv2dConfig;
    use burn::nn::{BatchNormConfig, LinearConfig};
    use firebrick_backend::testing::devices;

    /// The largest distance between the sample's and the distribution's cumulative function.
    fn kolmogorov(mut sample: Vec<f64>, cumulative: impl Fn(f64) -> f64) -> f64 {
        sample.sort_by(f64::total_cmp);
        let n = sample.len() as f64;
        let gaps = sample.iter().enumerate().map(|(i, &x)| {
            let expected = cumulative(x);
            (expected - i as f64 / n).abs().max(((i + 1) as f64 / n - expected).abs())
        });
        gaps.fold(0.0, f64::max)
    }

    /// Abramowitz and Stegun 26.2.17, absolute error below 7.5e-8.
    fn normal_cumulative(x: f64) -> f64 {
        let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
        let series = t
            * (0.319_381_530
                + t * (-0.356_563_782
                    + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
        let tail = (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt() * series;
        if x >= 0.0 { 1.0 - tail } else { tail }
    }

    #[test]
    fn weights_follow_the_exact_distribution() {
        for device in devices() {
            let device = device.autodiff();
            for (scheme, variance) in [
                (Scheme::LecunNormal, 1.0 / 200.0),
                (Scheme::XavierUniform, 2.0 / 300.0),
                (Scheme::XavierNormal, 2.0 / 300.0),
                (Scheme::KaimingUniform, 2.0 / 200.0),
                (Scheme::KaimingNormal, 2.0 / 200.0),
            ] {
                let layer = initialize(LinearConfig::new(200, 100).init(&device), scheme, Seed(1));
                let weights: Vec<f64> = layer.weight.val().try_to_vec_as().expect("reads");
                let deviation = f64::sqrt(variance);
                let gap = match scheme {
                    Scheme::XavierUniform | Scheme::KaimingUniform => {
                        let bound = deviation * 3f64.sqrt();
                        kolmogorov(weights, |x| ((x + bound) / (2.0 * bound)).clamp(0.0, 1.0))
                    }
                    _ => kolmogorov(weights, |x| normal_cumulative(x / deviation)),
                };
                // The 0.9999 quantile of Kolmogorov's statistic is 2.23 / sqrt(n).
                assert!(gap < 2.23 / 20_000f64.sqrt(), "{scheme:?}: {gap}");
                let bias: Vec<f32> =
                    layer.bias.expect("has one").val().try_to_vec_as().expect("reads");
                assert_eq!(bias, [0.0; 100]);
            }
        }
    }

    #[test]
    fn fans_follow_burns_layouts() {
        assert_eq!(fans("Linear", &[3, 5]), (3, 5));
        assert_eq!(fans("Conv2d", &[8, 3, 5, 5]), (75, 200));
        assert_eq!(fans("ConvTranspose2d", &[3, 8, 5, 5]), (75, 200));
        assert_eq!(fans("Odd", &[4]), (1, 1));
    }

    #[test]
    fn parameters_stay_trainable_and_norms_stay_as_they_are() {
        let device = burn::tensor::Device::flex().autodiff();
        let model = (
            Conv2dConfig::new([3, 4], [3, 3]).init(&device),
            BatchNormConfig::new(4).init(&device),
            LinearConfig::new(4, 2).init(&device).no_grad(),
        );
        let model = initialize(model, Scheme::KaimingNormal, Seed(2));
        assert!(model.0.weight.is_require_grad() && !model.2.weight.is_require_grad());
        let gamma: Vec<f32> = model.1.gamma.val().try_to_vec_as().expect("reads");
        assert_eq!(gamma, [1.0; 4]);
        let loss = model.0.forward(Tensor::<4>::ones([1, 3, 5, 5], &device)).sum();
        assert!(model.0.weight.val().grad(&loss.backward()).is_some());
    }

    #[test]
    fn another_layer_leaves_the_first_as_it_was() {
        let device = burn::tensor::Device::flex();
        let short = vec![LinearConfig::new(3, 3).init(&device)];
        let long =
            vec![LinearConfig::new(3, 3).init(&device), LinearConfig::new(3, 3).init(&device)];
        let short = initialize(short, Scheme::XavierUniform, Seed(5));
        let long = initialize(long, Scheme::XavierUniform, Seed(5));
        short[0].weight.val().into_data().assert_eq(&long[0].weight.val().into_data(), true);
        let (first, second) = (long[0].weight.val(), long[1].weight.val());
        assert_ne!(
            first.try_to_vec_as::<f32>().expect("reads"),
            second.try_to_vec_as::<f32>().expect("reads")
        );
    }
}
