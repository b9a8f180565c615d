//! StochNorm: batch norm that takes, for each channel and step, either the batch's statistics or the running ones.
//!
//! # Formula
//! ```text
//! y_c = gamma_c z_c + beta_c,   z_c normalized by the running statistics with probability p, else by the batch's
//! ```
//! p 0.5 as a rule. Running statistics move as in batch norm; those used are the ones before the step.
//!
//! # Reference
//! Z. Kou et al., "Stochastic normalization", NeurIPS 2020.

use crate::TransferError;
use burn::config::Config;
use burn::module::Module;
use burn::nn::BatchNorm;
use burn::tensor::{Tensor, TensorData};
use firebrick_backend::checkpointing::beside;
use firebrick_core::check;
use firebrick_regularize::MaskSource;

/// Configuration of [`StochNorm`].
///
/// | field | symbol | default | range |
/// | --- | --- | --- | --- |
/// | `prob` | p | 0.5 | `[0, 1]`; 0 is batch norm, 1 is batch norm with frozen statistics that still move |
#[derive(Config, Debug)]
pub struct StochNormConfig {
    /// Probability with which a channel is normalized by the running statistics.
    #[config(default = 0.5)]
    pub prob: f64,
}

impl StochNormConfig {
    /// The layer in the place of `norm`, whose statistics, scale and offset it takes over.
    ///
    /// # Errors
    /// When `prob` is out of range.
    pub fn init(&self, norm: BatchNorm, masks: &MaskSource) -> Result<StochNorm, TransferError> {
        let prob = check::range("prob", self.prob, 0.0..=1.0)?;
        Ok(StochNorm { norm, prob, masks: masks.clone() })
    }
}

/// [StochNorm](self): in evaluation mode, and where it is frozen, the batch norm that it was made from.
///
/// ```
/// use burn::{nn::BatchNormConfig, tensor::{Device, Tensor}};
/// use firebrick_core::Seed;
/// use firebrick_regularize::MaskSource;
/// use firebrick_transfer::StochNormConfig;
///
/// let device = Device::flex().autodiff();
/// let norm = BatchNormConfig::new(3).init(&device);
/// let norm = StochNormConfig::new().init(norm, &MaskSource::new(Seed(1)))?;
/// let output = norm.forward(Tensor::<2>::ones([4, 3], &device));
/// assert_eq!(output.dims(), [4, 3]);
/// # Ok::<(), firebrick_transfer::TransferError>(())
/// ```
#[derive(Module, Debug)]
pub struct StochNorm {
    /// The batch norm.
    pub norm: BatchNorm,
    prob: f64,
    #[module(skip)]
    masks: MaskSource,
}

impl StochNorm {
    /// Normalizes `[batch, channels, ..]`.
    #[must_use]
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        if !input.is_autodiff() || !self.norm.training.is_enabled() || self.prob == 0.0 {
            return self.norm.forward(input);
        }
        let channels = self.norm.gamma.val().dims()[0];
        let mut shape = [1; D];
        shape[1] = channels;
        let wide = |tensor: Tensor<1>| tensor.reshape(shape);
        let still = |tensor: Tensor<1>| wide(beside(tensor, &input));
        let mean = still(self.norm.running_mean.value_sync());
        let variance = still(self.norm.running_var.value_sync());
        let moving = (input.clone() - mean) / (variance + self.norm.epsilon).sqrt();
        let moving = moving * wide(self.norm.gamma.val()) + wide(self.norm.beta.val());
        let chosen = self.masks.keep(channels, self.prob);
        let chosen: Vec<f32> = chosen.into_iter().map(|one| f32::from(u8::from(one))).collect();
        let device = input.clone().inner().device();
        let data = TensorData::new(chosen, [channels]);
        let chosen = still(Tensor::<1>::from_data(data, (&device, input.dtype())));
        let batch = self.norm.forward(input.clone());
        batch.clone() + (moving - batch) * chosen
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::values;
    use burn::nn::BatchNormConfig;
    use burn::tensor::Device;
    use firebrick_core::Seed;

    fn inputs(device: &Device) -> Tensor<2> {
        let numbers: Vec<f32> = (0..60 * 8).map(|i| ((i * 37 % 101) as f32) * 0.05 + 1.0).collect();
        Tensor::<1>::from_floats(numbers.as_slice(), device).reshape([60, 8])
    }

    #[test]
    fn each_channel_is_one_of_the_two_and_prob_counts() {
        let device = Device::flex().autodiff();
        let (mut from_running, steps) = (0usize, 200);
        let norm = BatchNormConfig::new(8).init(&device);
        let layer = StochNormConfig::new().with_prob(0.25).init(norm, &MaskSource::new(Seed(2)));
        let layer = layer.expect("valid");
        for _ in 0..steps {
            // A copy of its own, so that statistics are those of the start: mean 0 and variance 1.
            let copy = layer.valid().train();
            let output = values(copy.forward(inputs(&device)));
            let batch = values(copy.norm.valid().train().forward(inputs(&device)));
            let raw = values(inputs(&device));
            for channel in 0..8 {
                let is = |other: &[f64], scale: f64| {
                    (0..60).all(|row| {
                        let at = row * 8 + channel;
                        (output[at] - scale * other[at]).abs() < 1e-4
                    })
                };
                let running = is(&raw, 1.0 / (1.0f64 + 1e-5).sqrt());
                assert!(running || is(&batch, 1.0));
                from_running += usize::from(running);
            }
        }
        // 1600 draws with probability 1/4: five deviations.
        let share = from_running as f64 / 1600.0;
        assert!((share - 0.25).abs() < 5.0 * (0.25f64 * 0.75 / 1600.0).sqrt(), "{share}");
    }

    #[test]
    fn probability_zero_evaluation_and_freezing_are_batch_norm() {
        let device = Device::flex().autodiff();
        let make = |prob| {
            let norm = BatchNormConfig::new(8).init(&device);
            StochNormConfig::new()
                .with_prob(prob)
                .init(norm, &MaskSource::new(Seed(2)))
                .expect("valid")
        };
        let plain_norm = BatchNormConfig::new(8).init(&device);
        let expected = values(plain_norm.forward(inputs(&device)));
        assert_eq!(values(make(0.0).forward(inputs(&device))), expected);
        let layer = make(0.5);
        let _ = layer.forward(inputs(&device));
        let (mean, expected) =
            (layer.norm.running_mean.value_sync(), plain_norm.running_mean.value_sync());
        assert_eq!(values(mean), values(expected), "statistics move as in batch norm");
        let plain_inputs = inputs(&Device::flex());
        let evaluated = values(layer.valid().forward(plain_inputs.clone()));
        assert_eq!(evaluated, values(plain_norm.valid().forward(plain_inputs)));
        let frozen = layer.freeze();
        assert_eq!(values(frozen.forward(inputs(&device))), evaluated);
        assert!(
            StochNormConfig::new()
                .with_prob(1.5)
                .init(plain_norm, &MaskSource::new(Seed(1)))
                .is_err()
        );
    }
}
