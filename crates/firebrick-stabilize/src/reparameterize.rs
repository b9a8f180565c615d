//! Weights in other coordinates: standardized, of learned length, of bounded gain. All through burn's
//! reparameterization, so records, freezing and `materialize` know them.
//!
//! # Formulas
//! By unit i, with all inputs of the unit as one vector:
//! ```text
//! standardization     W_i = (V_i - mean(V_i)) / (deviation(V_i) + epsilon)
//! weight norm         W_i = g_i V_i / |V_i|                       g_i starts at |V_i|
//! spectral norm       W   = V / sigma,  sigma = u' V v            u, v by power iteration, constants
//! ```
//! # Reference
//! S. Qiao et al., "Micro-batch training with batch-channel normalization and weight standardization", 2019
//! (arXiv 1903.10520); T. Salimans, D. Kingma, NeurIPS 2016; T. Miyato et al., ICLR 2018.
//!
//! # Differences
//! PyTorch keeps `u` between steps and takes one iteration a forward pass, so its norm lags and is wrong at the
//! start. Here each forward pass iterates anew from a fixed vector: nothing to save, the same in training and
//! evaluation, `2 iterations` products of the weight with a vector. For convolutions sigma is that of the kernel
//! as a matrix `[out, in * field]`, as in PyTorch, not that of the operator.
//!
//! Means, lengths and sigma of a weight in half precision are computed in f32.

use crate::units::{over_units, unit_axis, unit_norms};
use crate::{Select, StabilizeError};
use burn::module::{Module, Param, Reparameterization, Reparameterizer};
use burn::tensor::{DType, Tensor, TensorData};
use firebrick_backend::{ParameterInfo, Role, parameters, widened};
use firebrick_core::{Seed, check};
use std::collections::HashMap;

/// A weight whose units have mean 0 and deviation 1.
#[derive(Module, Debug)]
pub struct WeightStandardization {
    axis: usize,
    epsilon: f64,
}

impl Reparameterization for WeightStandardization {
    const NAME: &'static str = "weight_standardization";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        let mean =
            |tensor: Tensor<D>| over_units(tensor, Some(self.axis), |t, axis| t.mean_dim(axis));
        let dtype = base.dtype();
        let base = widened(base);
        let centred = base.clone() - mean(base);
        // Below the smallest square that f32 holds well, so that a unit of equal weights has no NaN gradient.
        let variance = mean(centred.clone().square()).clamp_min(1e-20);
        (centred / (variance.sqrt() + self.epsilon)).cast(dtype)
    }
}

/// A weight of learned lengths and free directions.
#[derive(Module, Debug)]
pub struct WeightNorm {
    lengths: Param<Tensor<1>>,
    axis: usize,
}

impl Reparameterization for WeightNorm {
    const NAME: &'static str = "weight_norm";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        let dtype = base.dtype();
        let base = widened(base);
        let squares = over_units(base.clone().square(), Some(self.axis), |t, axis| t.sum_dim(axis));
        let lengths = self.lengths.val().cast(base.dtype());
        let mut shape = [1; D];
        shape[self.axis] = lengths.dims()[0];
        (base * (lengths.reshape(shape) / squares.clamp_min(1e-24).sqrt())).cast(dtype)
    }
}

/// The path of the lengths of the weight at `path`, if it has learned ones.
pub(crate) fn lengths_of(path: &str) -> String {
    format!("{path}.{}.lengths", WeightNorm::NAME)
}

/// A weight divided by its largest singular value.
#[derive(Module, Debug)]
pub struct SpectralNorm {
    start: Tensor<1>,
    axis: usize,
    iterations: usize,
}

impl Reparameterization for SpectralNorm {
    const NAME: &'static str = "spectral_norm";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        let units = base.dims()[self.axis];
        let rest = base.shape().num_elements() / units.max(1);
        let matrix: Tensor<2> = base.clone().swap_dims(0, self.axis).reshape([units, rest]);
        let matrix = widened(matrix);
        let fixed = matrix.clone().inner();
        let unit = |v: Tensor<2>| {
            let length = v.clone().square().sum_dim(0).sqrt().clamp_min(1e-12);
            v / length
        };
        let start = self.start.clone().inner();
        let mut u = unit(start.cast(fixed.dtype()).reshape([units, 1]));
        let mut v = unit(fixed.clone().transpose().matmul(u.clone()));
        for _ in 0..self.iterations {
            u = unit(fixed.clone().matmul(v));
            v = unit(fixed.clone().transpose().matmul(u.clone()));
        }
        // Without autodiff, `u` and `v` are constants beside any weight.
        let sigma = (u * matrix.matmul(v)).sum().clamp_min(1e-12);
        let dtype = base.dtype();
        (widened(base) / sigma.reshape([1; D])).cast(dtype)
    }
}

/// Standardizes the weights that `select` selects; put a normalization layer behind them. `epsilon` is 1e-6 as a
/// rule.
///
/// # Errors
/// When no weight is selected or `epsilon` is not above 0.
///
/// ```
/// use burn::{nn::conv::Conv2dConfig, tensor::Device};
/// use firebrick_stabilize::{Select, standardize_weights};
///
/// let conv = Conv2dConfig::new([3, 4], [3, 3]).init(&Device::flex());
/// let conv = standardize_weights(conv, &Select::path("weight"), 1e-6)?;
/// let mean = conv.weight.val().slice([0..1]).mean().into_scalar::<f32>();
/// assert!(mean.abs() < 1e-6);
/// # Ok::<(), firebrick_stabilize::StabilizeError>(())
/// ```
pub fn standardize_weights<M: Module>(
    model: M,
    select: &Select,
    epsilon: f64,
) -> Result<M, StabilizeError> {
    check::positive("epsilon", epsilon)?;
    let axes = selected(&model, select)?;
    Ok(model.apply_reparameterization(Standardize { axes, epsilon }))
}

/// Gives the weights that `select` selects a learned length for each unit, their present one at first.
///
/// Leave the base out of weight decay: its length has no effect on the output but on the learning rate.
///
/// # Errors
/// When no weight is selected.
pub fn normalize_weights<M: Module>(model: M, select: &Select) -> Result<M, StabilizeError> {
    let axes = selected(&model, select)?;
    Ok(model.apply_reparameterization(Normalize { axes }))
}

/// Divides the weights that `select` selects by their largest singular value in every forward pass; 20
/// `iterations` find it to a percent as a rule, from below.
///
/// # Errors
/// When no weight is selected or `iterations` is 0.
pub fn spectral_norm<M: Module>(
    model: M,
    select: &Select,
    iterations: usize,
) -> Result<M, StabilizeError> {
    check::at_least("iterations", iterations, 1)?;
    let axes = selected(&model, select)?;
    Ok(model.apply_reparameterization(Spectral { axes, iterations }))
}

/// The unit axes of the selected weights by path.
fn selected<M: Module>(
    model: &M,
    select: &Select,
) -> Result<HashMap<String, usize>, StabilizeError> {
    let list = parameters(model);
    let chosen = |p: &&ParameterInfo| {
        p.role == Role::Weight && p.elements() > 0 && select.selects(&p.path, &p.owner, p.role)
    };
    let axes: HashMap<String, usize> = list
        .iter()
        .filter(chosen)
        .filter_map(|p| Some((p.path.clone(), unit_axis(&p.owner, p.shape.len())?)))
        .collect();
    if axes.is_empty() {
        return Err(StabilizeError::NothingSelected {
            selection: format!("{select}, among weights,"),
            known: list.iter().map(|p| p.path.as_str()).collect::<Vec<_>>().join(", "),
        });
    }
    Ok(axes)
}

struct Standardize {
    axes: HashMap<String, usize>,
    epsilon: f64,
}

impl Reparameterizer for Standardize {
    type Reparam = WeightStandardization;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<Self::Reparam>) {
        let epsilon = self.epsilon;
        let reparam = self.axes.get(path).map(|&axis| WeightStandardization { axis, epsilon });
        (param, reparam)
    }
}

struct Normalize {
    axes: HashMap<String, usize>,
}

impl Reparameterizer for Normalize {
    type Reparam = WeightNorm;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<Self::Reparam>) {
        let reparam = self.axes.get(path).map(|&axis| {
            // Untracked, so that the lengths are leaves, on the device that the weight has.
            let base = param.val().set_require_grad(false);
            let (units, dtype) = (base.dims()[axis], base.dtype());
            let lengths: Tensor<1> = unit_norms(base, Some(axis)).reshape([units]);
            WeightNorm { lengths: Param::from_tensor(lengths.cast(dtype)), axis }
        });
        (param, reparam)
    }
}

struct Spectral {
    axes: HashMap<String, usize>,
    iterations: usize,
}

impl Reparameterizer for Spectral {
    type Reparam = SpectralNorm;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<Self::Reparam>) {
        let iterations = self.iterations;
        let reparam = self.axes.get(path).map(|&axis| {
            let base = param.val();
            let units = base.dims()[axis];
            // Random, so that it is orthogonal to no singular vector; fixed, so that a forward pass repeats.
            let mut stream = Seed(0).stream("spectral norm");
            let draws: Vec<f64> = (0..units).map(|_| stream.normal()).collect();
            let data = TensorData::new(draws, [units]);
            let device = base.device().inner();
            let start = Tensor::from_data(data, (&device, DType::F32));
            SpectralNorm { start, axis, iterations }
        });
        (param, reparam)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::units::values;
    use burn::nn::conv::{Conv1dConfig, ConvTranspose1dConfig};
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;
    use firebrick_backend::testing::devices;

    fn linear(device: &Device) -> Linear {
        // Units (3, 4) and (0, 2), stored as [in, out].
        let mut layer = LinearConfig::new(2, 2).with_bias(false).init(device);
        layer.weight = Param::from_tensor(Tensor::from_floats([[3.0, 0.0], [4.0, 2.0]], device));
        layer
    }

    fn weight() -> Select {
        Select::path("weight")
    }

    type Kind = fn(Linear) -> Result<Linear, StabilizeError>;

    const KINDS: [Kind; 3] = [
        |layer| standardize_weights(layer, &weight(), 1e-6),
        |layer| normalize_weights(layer, &weight()),
        |layer| spectral_norm(layer, &weight(), 20),
    ];

    #[test]
    fn weights_train_on_a_device_that_checkpoints_gradients() {
        for device in devices() {
            let plain = device.autodiff();
            let gradients = |device: &Device, kind: Kind| {
                let layer = kind(linear(device)).expect("fits");
                let x = Tensor::<2>::from_floats([[1.0, -2.0]], device);
                let gradients = layer.forward(x).square().sum().backward();
                let lengths = layer.weight.reparameterization::<WeightNorm>();
                let lengths = lengths.map(|norm| norm.lengths.val().grad(&gradients));
                let lengths = lengths.map(|gradient| values(gradient.expect("learned")));
                (values(layer.weight.base().grad(&gradients).expect("tracked")), lengths)
            };
            for kind in KINDS {
                let expected = gradients(&plain, kind);
                assert_eq!(gradients(&plain.clone().gradient_checkpointing(), kind), expected);
            }
        }
    }

    #[test]
    fn units_are_standardized_in_every_layout() {
        for device in devices() {
            let device = device.autodiff();
            let layer = standardize_weights(linear(&device), &weight(), 1e-6).expect("fits");
            for (value, expected) in values(layer.weight.val()).iter().zip([-1.0, -1.0, 1.0, 1.0]) {
                assert!((value - expected).abs() < 1e-5);
            }
            let loss = layer.forward(Tensor::<2>::ones([1, 2], &device)).sum();
            assert!(layer.weight.base().grad(&loss.backward()).is_some());
            let conv = Conv1dConfig::new(2, 3, 5).init(&device);
            let conv = standardize_weights(conv, &Select::layer("Conv1d"), 1e-6).expect("fits");
            let back = ConvTranspose1dConfig::new([2, 3], 5).init(&device);
            let back = standardize_weights(back, &weight(), 1e-6).expect("fits");
            for unit in [conv.weight.val().narrow(0, 1, 1), back.weight.val().narrow(1, 1, 1)] {
                let unit = values(unit);
                assert!(unit.iter().sum::<f64>().abs() < 1e-4);
                let square = unit.iter().map(|w| w * w).sum::<f64>() / unit.len() as f64;
                assert!((square - 1.0).abs() < 1e-3, "{square}");
            }
        }
    }

    #[test]
    fn weight_norm_starts_at_the_weights_and_learns_their_length() {
        for device in devices() {
            let device = device.autodiff();
            let layer = normalize_weights(linear(&device), &weight()).expect("fits");
            for (value, expected) in values(layer.weight.val()).iter().zip([3.0, 0.0, 4.0, 2.0]) {
                assert!((value - expected).abs() < 1e-5);
            }
            let norm = layer.weight.reparameterization::<WeightNorm>().expect("attached");
            let loss = layer.forward(Tensor::<2>::ones([1, 2], &device)).sum();
            let gradients = loss.backward();
            // d/dg of g (v1 + v2) / |v|: 7 / 5 and 2 / 2.
            let lengths = values(norm.lengths.val().grad(&gradients).expect("learned"));
            assert!((lengths[0] - 1.4).abs() < 1e-5 && (lengths[1] - 1.0).abs() < 1e-5);
            assert!(layer.weight.base().grad(&gradients).is_some());
        }
    }

    #[test]
    fn spectral_norm_divides_by_the_largest_singular_value() {
        for device in devices() {
            let device = device.autodiff();
            let layer = spectral_norm(linear(&device), &weight(), 20).expect("fits");
            // [[3, 0], [4, 2]]: singular values squared are (29 +- sqrt(29^2 - 4 * 36)) / 2.
            let sigma = ((29.0 + f64::sqrt(841.0 - 144.0)) / 2.0).sqrt();
            for (value, expected) in values(layer.weight.val()).iter().zip([3.0, 0.0, 4.0, 2.0]) {
                assert!((value - expected / sigma).abs() < 1e-5, "{value}");
            }
            let loss = layer.forward(Tensor::<2>::ones([1, 2], &device)).sum();
            // The whole weight scaled changes nothing: its inner product with the gradient is 0.
            let gradient = layer.weight.base().grad(&loss.backward()).expect("tracked");
            let product: f64 =
                values(gradient).iter().zip([3.0, 0.0, 4.0, 2.0]).map(|(g, w)| g * w).sum();
            assert!(product.abs() < 1e-5, "{product}");
            let merged = layer.valid().materialize();
            assert!((values(merged.weight.val())[0] - 3.0 / sigma).abs() < 1e-5);
        }
    }

    #[test]
    fn weights_of_every_type_are_their_f32_twins() {
        for device in devices() {
            for dtype in [DType::F64, DType::F16] {
                if !device.supports_dtype(dtype) {
                    continue;
                }
                // Large enough for squares to overflow in half precision.
                let tracked = device.clone().autodiff();
                let make = |dtype: DType| {
                    let mut layer = linear(&tracked);
                    let rows = [[300.0f32, 0.0], [400.0, 200.0]];
                    let weight = Tensor::<2>::from_data(rows, (&tracked, dtype));
                    layer.weight = Param::from_tensor(weight);
                    layer
                };
                for kind in KINDS {
                    let layer = kind(make(dtype)).expect("fits");
                    let twin = kind(make(DType::F32)).expect("fits");
                    assert_eq!(layer.weight.val().dtype(), dtype);
                    let close = |value: f64, twin: f64| (value - twin).abs() <= 1e-3 * twin.abs();
                    for (value, twin) in
                        values(layer.weight.val()).into_iter().zip(values(twin.weight.val()))
                    {
                        assert!(close(value, twin), "{dtype:?}: {value} {twin}");
                    }
                    let gradients = layer.weight.val().sum().backward();
                    let gradient = layer.weight.base().grad(&gradients).expect("tracked");
                    assert!(values(gradient).iter().all(|value| value.is_finite()));
                }
            }
        }
    }

    #[test]
    fn what_selects_no_weight_is_refused() {
        let layer = LinearConfig::new(2, 2).init(&Device::flex());
        let error = normalize_weights(layer.clone(), &Select::path("bias")).expect_err("refused");
        assert!(error.to_string().starts_with("path `bias`, among weights, selects no parameter"));
        assert!(spectral_norm(layer.clone(), &weight(), 0).is_err());
        assert!(standardize_weights(layer, &weight(), 0.0).is_err());
    }
}
