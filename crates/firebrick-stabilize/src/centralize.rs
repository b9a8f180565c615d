//! Gradient centralization: each unit's gradient loses its mean.
//!
//! # Rule
//! ```text
//! g_i <- g_i - mean(g_i)        for each unit i of each weight with at least two axes
//! ```
//! # Reference
//! H. Yong, J. Huang, X. Hua, L. Zhang, "Gradient centralization", ECCV 2020 (arXiv 2004.01461).

use crate::Guard;
use crate::guard::remembers;
use crate::transform::{Transform, transforms};
use crate::units::{over_units, unit_axis};
use burn::module::Param;
use burn::tensor::Tensor;
use firebrick_backend::{PathStack, Role, widened};
use serde::{Deserialize, Serialize};

/// Subtracts from each unit's gradient its mean; biases, norms and embeddings stay as they are.
///
/// ```
/// use burn::{nn::LinearConfig, optim::GradientsParams, tensor::{Device, Tensor}};
/// use firebrick_stabilize::{CentralizeGradients, Guard};
///
/// let device = Device::flex();
/// let model = LinearConfig::new(2, 1).with_bias(false).init(&device.clone().autodiff());
/// let mut gradients = GradientsParams::new();
/// gradients.register::<2>(model.weight.id, Tensor::from_floats([[1.0], [5.0]], &device));
/// CentralizeGradients.before_step(&model, &mut gradients, 0.0);
/// let centred = gradients.get::<2>(model.weight.id).expect("present").into_data();
/// assert_eq!(centred.as_slice::<f32>(), Ok(&[-2.0, 2.0][..]));
/// ```
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct CentralizeGradients;

impl Transform for CentralizeGradients {
    fn apply<const D: usize>(
        &mut self,
        path: &PathStack,
        _: &Param<Tensor<D>>,
        gradient: Tensor<D>,
    ) -> Tensor<D> {
        if path.role(D) != Role::Weight {
            return gradient;
        }
        let axis = unit_axis(path.owner(), D);
        let dtype = gradient.dtype();
        let gradient = widened(gradient);
        let mean = over_units(gradient.clone(), axis, |tensor, axis| tensor.mean_dim(axis));
        (gradient - mean).cast(dtype)
    }
}

impl Guard for CentralizeGradients {
    transforms!();
    remembers!(CentralizeGradients);
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::units::values;
    use burn::nn::LinearConfig;
    use burn::nn::conv::Conv1dConfig;
    use burn::optim::GradientsParams;
    use firebrick_backend::testing::devices;

    #[test]
    fn a_layer_and_its_transposed_twin_agree() {
        for device in devices() {
            let tracked = device.clone().autodiff();
            let linear = LinearConfig::new(3, 2).init(&tracked);
            let conv = Conv1dConfig::new(3, 2, 1).init(&tracked);
            let model = (linear, conv);
            let units = Tensor::<2>::from_floats([[1.0, 2.0, 6.0], [0.0, 0.0, 9.0]], &device);
            let mut grads = GradientsParams::new();
            grads.register::<2>(model.0.weight.id, units.clone().transpose());
            grads.register::<3>(model.1.weight.id, units.reshape([2, 3, 1]));
            let bias = model.0.bias.as_ref().expect("has one").id;
            grads.register::<1>(bias, Tensor::from_floats([1.0, 3.0], &device));
            CentralizeGradients.before_step(&model, &mut grads, 0.0);
            let expected = [-2.0, -1.0, 3.0, -3.0, -3.0, 6.0];
            let linear = grads.get::<2>(model.0.weight.id).expect("present").transpose();
            assert_eq!(values(linear), expected);
            assert_eq!(values(grads.get::<3>(model.1.weight.id).expect("present")), expected);
            assert_eq!(values(grads.get::<1>(bias).expect("present")), [1.0, 3.0]);
        }
    }
}
