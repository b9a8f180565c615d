//! Mean of the gradients of several batches.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

/// Accumulates gradients over batches and gives their mean, so that the rate need not know how many there were.
///
/// Each batch counts by its weight: the number of its samples when the loss is their mean. A last window with fewer
/// batches is a mean over those it has.
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
        struct Add<'a>(&'a mut GradientsParams, GradientsParams, f64);
        impl ModuleVisitor for Add<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let Some(grad) = self.1.remove::<D>(param.id) else { return };
                let grad = grad.mul_scalar(self.2);
                let sum = match self.0.remove::<D>(param.id) {
                    Some(sum) => sum + grad,
                    None => grad,
                };
                self.0.register::<D>(param.id, sum);
            }
        }
        model.visit(&mut Add(&mut self.sum, grads, weight));
    }

    /// The mean, `None` for an empty window; the next window starts empty.
    #[must_use]
    pub fn mean<M: Module>(&mut self, model: &M) -> Option<GradientsParams> {
        let weight = std::mem::take(&mut self.weight);
        let sum = std::mem::take(&mut self.sum);
        if weight == 0.0 {
            return None;
        }
        struct Scale(GradientsParams, f64);
        impl ModuleVisitor for Scale {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if let Some(grad) = self.0.remove::<D>(param.id) {
                    self.0.register::<D>(param.id, grad.mul_scalar(self.1));
                }
            }
        }
        let mut scale = Scale(sum, 1.0 / weight);
        model.visit(&mut scale);
        Some(scale.0)
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
}
