//! Gradient centralization: the mean of each unit's gradient is taken out.
//!
//! # Reference
//! H. Yong et al., "Gradient centralization: a new optimization technique for deep neural networks", 2020,
//! arXiv 2004.01461.

use crate::rule::FanOut;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use firebrick_backend::{PathStack, Role, widened};

/// Subtracts from each gradient with two axes or more, for each output unit, its mean over the other axes.
///
/// `fan_out` says along which axis the units lie: [`FanOut::Burn`] for burn's layers, where it is the last one of a
/// linear layer's weight, the second one of a transposed convolution, and the first one of all others: each row of an
/// embedding is a unit, so that a row without gradient stays. To be called between backward and the step.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::optim::GradientsParams;
/// use burn::tensor::{Device, Tensor};
/// use firebrick_optim::{FanOut, wrapper::centralize};
///
/// let device = Device::flex().autodiff();
/// let model = LinearConfig::new(4, 2).init(&device);
/// let loss = model.forward(Tensor::<2>::ones([3, 4], &device)).square().mean();
/// let mut grads = GradientsParams::from_grads(loss.backward(), &model);
/// centralize(&model, &mut grads, FanOut::Burn);
/// ```
pub fn centralize<M: Module>(model: &M, grads: &mut GradientsParams, fan_out: FanOut) {
    struct Center<'a> {
        grads: &'a mut GradientsParams,
        fan_out: FanOut,
        path: PathStack,
    }
    impl ModuleVisitor for Center<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if D < 2 {
                return;
            }
            let Some(grad) = self.grads.remove::<D>(param.id) else { return };
            let matrix = D == 2 && self.path.role(D) == Role::Weight;
            let units = match self.fan_out {
                FanOut::Burn if matrix || self.path.owner().starts_with("ConvTranspose") => 1,
                FanOut::Burn | FanOut::First => 0,
                FanOut::Last => D - 1,
            };
            let dtype = grad.dtype();
            let grad = widened(grad);
            let mut mean = grad.clone();
            for axis in (0..D).filter(|&axis| axis != units) {
                mean = mean.mean_dim(axis);
            }
            self.grads.register::<D>(param.id, (grad - mean).cast(dtype));
        }
    }
    model.visit(&mut Center { grads, fan_out, path: PathStack::default() });
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::nn::LinearConfig;
    use burn::nn::conv::Conv2dConfig;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn the_mean_of_each_unit_is_zero_on_the_right_axis() {
        let device = Device::flex();
        let model = (
            LinearConfig::new(3, 2).init(&device),
            Conv2dConfig::new([2, 4], [3, 3]).init(&device),
        );
        let mut grads = GradientsParams::new();
        let draw = |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Default, &device);
        grads.register(model.0.weight.id, draw([3, 2]));
        let bias = model.0.bias.as_ref().expect("bias").id;
        grads.register(bias, Tensor::<1>::ones([2], &device));
        grads.register(
            model.1.weight.id,
            Tensor::<4>::random([4, 2, 3, 3], Distribution::Default, &device),
        );
        centralize(&model, &mut grads, FanOut::Burn);
        let linear = grads.get::<2>(model.0.weight.id).expect("there");
        assert!(linear.clone().mean_dim(0).abs().max().into_scalar::<f32>() < 1e-6);
        assert!(linear.mean_dim(1).abs().max().into_scalar::<f32>() > 1e-3);
        let conv = grads.get::<4>(model.1.weight.id).expect("there").reshape([4, 18]);
        assert!(conv.mean_dim(1).abs().max().into_scalar::<f32>() < 1e-6);
        let bias: Tensor<1> = grads.get(bias).expect("there");
        assert_eq!(bias.into_data().try_into_vec::<f32>().expect("f32"), [1.0, 1.0]);
    }

    #[test]
    fn the_axis_of_the_units_may_be_given() {
        let device = Device::flex();
        let model = LinearConfig::new(4, 2).with_bias(false).init(&device);
        let id = model.weight.id;
        let rows = |fan_out: FanOut| {
            let mut grads = GradientsParams::new();
            let values = [[1.0, 5.0], [2.0, 4.0], [9.0, 3.0], [0.0, 8.0]];
            grads.register(id, Tensor::<2>::from_floats(values, &device));
            centralize(&model, &mut grads, fan_out);
            let grad: Tensor<2> = grads.get(id).expect("there");
            grad.into_data().try_into_vec::<f32>().expect("f32")
        };
        assert_eq!(rows(FanOut::First), [-2.0, 2.0, -1.0, 1.0, 3.0, -3.0, -4.0, 4.0]);
        assert_eq!(rows(FanOut::Last), [-2.0, 0.0, -1.0, -1.0, 6.0, -2.0, -3.0, 3.0]);
        assert_eq!(rows(FanOut::Burn), rows(FanOut::Last));
    }

    #[test]
    fn a_row_of_an_embedding_without_gradient_stays() {
        for device in firebrick_backend::testing::devices() {
            let model = burn::nn::EmbeddingConfig::new(3, 3).init(&device);
            let mut grads = GradientsParams::new();
            let rows = [[0.0, 0.0, 0.0], [1.0, 2.0, 6.0], [0.0, 0.0, 0.0]];
            grads.register(model.weight.id, Tensor::<2>::from_floats(rows, &device));
            centralize(&model, &mut grads, FanOut::Burn);
            let grad: Tensor<2> = grads.get(model.weight.id).expect("there");
            let seen = grad.into_data().try_into_vec::<f32>().expect("f32");
            assert_eq!(seen, [0.0, 0.0, 0.0, -2.0, -1.0, 3.0, 0.0, 0.0, 0.0]);
        }
    }

    #[test]
    fn units_of_a_transposed_convolution_lie_along_its_second_axis() {
        let device = Device::flex();
        let model = burn::nn::conv::ConvTranspose1dConfig::new([2, 3], 2).init(&device);
        let mut grads = GradientsParams::new();
        let grad = Tensor::<3>::random([2, 3, 2], Distribution::Default, &device);
        grads.register(model.weight.id, grad);
        centralize(&model, &mut grads, FanOut::Burn);
        let grad: Tensor<3> = grads.get(model.weight.id).expect("there");
        let units = grad.swap_dims(0, 1).reshape([3, 4]);
        assert!(units.mean_dim(1).abs().max().into_scalar::<f32>() < 1e-6);
    }
}
