//! Keeps the gradients of a burn model from vanishing and exploding.
//!
#![doc = include_str!("../README.md")]

mod clip;
mod guard;
mod init;
mod non_finite;
mod norm;

pub use clip::{ClipGlobalNorm, ClipGlobalNormConfig};
pub use guard::{Guard, Verdict};
pub use init::{Scheme, initialize};
pub use non_finite::{SkipNonFinite, SkipNonFiniteConfig};
pub use norm::{GradientNorms, NormType, TensorNorm, gradient_norms, scale_gradients};

#[cfg(all(test, feature = "flex"))]
mod tests {
    //! A model of one layer and gradients by hand, for the tests of every guard.

    use burn::module::Module;
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::GradientsParams;
    use burn::tensor::{Device, Tensor};

    #[derive(Module, Debug)]
    pub(crate) struct OneLayer {
        layer: Linear,
    }

    pub(crate) fn model(device: &Device) -> OneLayer {
        OneLayer { layer: LinearConfig::new(2, 1).init(&device.clone().autodiff()) }
    }

    pub(crate) fn gradients(
        model: &OneLayer,
        device: &Device,
        weight: &[f32; 2],
        bias: &[f32; 1],
    ) -> GradientsParams {
        let mut gradients = GradientsParams::new();
        let weight = Tensor::<1>::from_floats(*weight, device).reshape([2, 1]);
        gradients.register::<2>(model.layer.weight.id, weight);
        let id = model.layer.bias.as_ref().expect("the layer has a bias").id;
        gradients.register::<1>(id, Tensor::from_floats(*bias, device));
        gradients
    }

    pub(crate) fn values(model: &OneLayer, gradients: &GradientsParams) -> Vec<f32> {
        let weight = gradients.get::<2>(model.layer.weight.id).expect("present");
        let id = model.layer.bias.as_ref().expect("the layer has a bias").id;
        let bias = gradients.get::<1>(id).expect("present");
        let mut values: Vec<f32> = weight.try_to_vec_as().expect("reads");
        values.extend(bias.try_to_vec_as::<f32>().expect("reads"));
        values
    }
}
