//! Mean of the gradients of several batches.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor};
use firebrick_backend::widened;
use std::collections::HashMap;

/// Accumulates gradients over batches and gives their mean, so that the rate need not know how many there were.
///
/// Each batch counts by its weight: the number of its samples when the loss is their mean. A last window with fewer
/// batches is a mean over those it has. Gradients of 16 bits are summed in f32; their mean is of their own type.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::optim::GradientsParams;
/// use burn::tensor::{Device, Tensor};
/// use firebrick_optim::{SgdConfig, wrapper::Accumulator};
///
/// let device = Device::flex().autodiff();
/// let model = LinearConfig::new(4, 2).init(&device);
/// let mut optimizer = SgdConfig::new().fused()?;
/// let mut window = Accumulator::new();
/// for samples in [8, 8, 3] {
///     let loss = model.forward(Tensor::<2>::ones([samples, 4], &device)).square().mean();
///     window.add(&model, GradientsParams::from_grads(loss.backward(), &model), samples as f64);
/// }
/// if let Some(grads) = window.mean(&model) {
///     let model = optimizer.step(0.1, model, grads);
///     # let _ = model;
/// }
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Default)]
pub struct Accumulator {
    sum: GradientsParams,
    /// What the gradients were of.
    types: HashMap<ParamId, DType>,
    weight: f64,
}

impl Accumulator {
    /// An empty window.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the gradients of a batch of `weight`; a weight that is not above 0 and finite adds nothing.
    pub fn add<M: Module>(&mut self, model: &M, grads: GradientsParams, weight: f64) {
        if !(weight > 0.0 && weight.is_finite()) {
            return;
        }
        self.weight += weight;
        struct Add<'a>(&'a mut Accumulator, GradientsParams, f64);
        impl ModuleVisitor for Add<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let Some(grad) = self.1.remove::<D>(param.id) else { return };
                self.0.types.insert(param.id, grad.dtype());
                let grad = widened(grad).mul_scalar(self.2);
                let sum = match self.0.sum.remove::<D>(param.id) {
                    Some(sum) => sum + grad,
                    None => grad,
                };
                self.0.sum.register::<D>(param.id, sum);
            }
        }
        model.visit(&mut Add(self, grads, weight));
    }

    /// The mean, `None` for an empty window; the next window starts empty.
    #[must_use]
    pub fn mean<M: Module>(&mut self, model: &M) -> Option<GradientsParams> {
        let window = std::mem::take(self);
        if window.weight == 0.0 {
            return None;
        }
        struct Mean(Accumulator);
        impl ModuleVisitor for Mean {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let Accumulator { sum, types, weight } = &mut self.0;
                // A parameter in several places is divided once.
                let Some(dtype) = types.remove(&param.id) else { return };
                let Some(whole) = sum.remove::<D>(param.id) else { return };
                let mean = whole.mul_scalar(weight.recip());
                sum.register::<D>(param.id, mean.cast(dtype));
            }
        }
        let mut mean = Mean(window);
        model.visit(&mut mean);
        Some(mean.0.sum)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    fn loss_grads(model: &Linear, rows: std::ops::Range<usize>) -> GradientsParams {
        let device = Device::flex().autodiff();
        let values: Vec<f32> = (0..20).map(|k| (k as f32 * 0.37).sin()).collect();
        let data = Tensor::<1>::from_floats(values.as_slice(), &device).reshape([10, 2]);
        let loss = model.forward(data.slice([rows, 0..2])).square().sum_dim(1).mean();
        GradientsParams::from_grads(loss.backward(), model)
    }

    #[test]
    fn three_uneven_batches_are_the_whole_one() {
        let model = LinearConfig::new(2, 3).init(&Device::flex().autodiff());
        let mut window = Accumulator::new();
        assert!(window.mean(&model).is_none());
        for rows in [0..4, 4..8, 8..10] {
            let weight = rows.len() as f64;
            window.add(&model, loss_grads(&model, rows), weight);
        }
        window.add(&model, loss_grads(&model, 0..1), f64::NAN);
        let mean = window.mean(&model).expect("gradients");
        let whole = loss_grads(&model, 0..10);
        let id = model.weight.id;
        let off = mean.get::<2>(id).expect("weight") - whole.get::<2>(id).expect("weight");
        assert!(off.abs().max().into_scalar::<f32>() < 1e-6);
        assert!(window.mean(&model).is_none());
    }

    #[test]
    fn half_precision_neither_overflows_nor_stops_counting() {
        for device in firebrick_backend::testing::devices() {
            for dtype in [DType::F16, DType::BF16] {
                if !device.supports_dtype(dtype) {
                    continue;
                }
                let model = LinearConfig::new(2, 3).init(&device);
                let id = model.weight.id;
                for (value, weight, batches) in [(300.0, 256.0, 2), (1.0, 1.0, 1000)] {
                    let mut window = Accumulator::new();
                    for _ in 0..batches {
                        let mut grads = GradientsParams::new();
                        let grad = Tensor::<2>::full([2, 3], value, (&device, dtype));
                        grads.register(id, grad);
                        window.add(&model, grads, weight);
                    }
                    let mean: Tensor<2> = window.mean(&model).expect("two").get(id).expect("there");
                    assert_eq!(mean.dtype(), dtype);
                    let mean: Vec<f64> = mean.try_to_vec_as().expect("reads");
                    assert_eq!(mean, [value; 6], "{dtype:?}");
                }
            }
        }
    }

    #[test]
    fn a_layer_in_two_places_is_divided_once() {
        let device = Device::flex();
        let layer = LinearConfig::new(1, 1).with_bias(false).init(&device);
        let id = layer.weight.id;
        let model = vec![layer.clone(), layer];
        let mut window = Accumulator::new();
        for _ in 0..2 {
            let mut grads = GradientsParams::new();
            grads.register(id, Tensor::<2>::full([1, 1], 6.0, &device));
            window.add(&model, grads, 2.0);
        }
        let mean: Tensor<2> = window.mean(&model).expect("two").get(id).expect("there");
        assert_eq!(mean.into_scalar::<f32>(), 6.0);
    }
}
