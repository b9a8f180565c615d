//! Ghost batch norm: a large batch normalized in small parts.
//!
//! # Reference
//! E. Hoffer, I. Hubara, D. Soudry, "Train longer, generalize better", NeurIPS 2017 (arXiv 1705.08741).

use burn::config::Config;
use burn::module::Module;
use burn::nn::{BatchNorm, BatchNormConfig};
use burn::tensor::{Device, Tensor};
use firebrick_core::{ConfigError, check};

/// Configuration of [`GhostBatchNorm`].
#[derive(Config, Debug)]
pub struct GhostBatchNormConfig {
    /// Channels; at least 1.
    pub num_features: usize,
    /// Samples of a part, at least: 32 to 128 as a rule, 2 or more.
    #[config(default = 32)]
    pub ghost_size: usize,
    /// Added to the variance; above 0.
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// The share of the new in the running statistics, of each part; in [0, 1].
    #[config(default = 0.1)]
    pub momentum: f64,
}

impl GhostBatchNormConfig {
    /// Checks the values and builds the layer.
    ///
    /// # Errors
    /// When a value is out of its range.
    pub fn init(&self, device: &Device) -> Result<GhostBatchNorm, ConfigError> {
        check::at_least("num_features", self.num_features, 1)?;
        check::at_least("ghost_size", self.ghost_size, 2)?;
        check::positive("epsilon", self.epsilon)?;
        check::range("momentum", self.momentum, 0.0..=1.0)?;
        let norm = BatchNormConfig::new(self.num_features)
            .with_epsilon(self.epsilon)
            .with_momentum(self.momentum)
            .init(device);
        Ok(GhostBatchNorm { norm, ghost_size: self.ghost_size })
    }
}

/// Batch norm whose statistics are those of parts of the batch; in evaluation it is plain batch norm.
///
/// A batch is cut into as many parts of `ghost_size` as fit, the rest spread over them, so no part is smaller
/// unless the whole batch is.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_stabilize::GhostBatchNormConfig;
///
/// let device = Device::flex().autodiff();
/// let norm = GhostBatchNormConfig::new(1).with_ghost_size(2).init(&device)?;
/// let x = Tensor::<2>::from_floats([[1.0], [3.0], [100.0], [300.0]], &device);
/// let y: Vec<f32> = norm.forward(x).try_to_vec_as().expect("reads");
/// assert!((y[0] + 1.0).abs() < 1e-4 && (y[2] + 1.0).abs() < 1e-4); // each pair by itself
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Module, Debug)]
pub struct GhostBatchNorm {
    norm: BatchNorm,
    ghost_size: usize,
}

impl GhostBatchNorm {
    /// Normalizes `[batch, channels, ..]`.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let batch = input.dims()[0];
        let parts = (batch / self.ghost_size).max(1);
        let training = input.device().is_autodiff() && self.norm.training.is_enabled();
        if !training || parts == 1 {
            return self.norm.forward(input);
        }
        let bounds: Vec<usize> = (0..=parts).map(|part| part * batch / parts).collect();
        let normalized = bounds
            .windows(2)
            .map(|ends| self.norm.forward(input.clone().narrow(0, ends[0], ends[1] - ends[0])))
            .collect();
        Tensor::cat(normalized, 0)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::units::values;
    use burn::tensor::TensorData;
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;

    #[test]
    fn parts_are_normalized_apart_and_evaluation_is_plain() {
        for device in devices() {
            let device = device.autodiff();
            let norm =
                GhostBatchNormConfig::new(2).with_ghost_size(4).init(&device).expect("valid");
            let mut stream = Seed(1).stream("x");
            let data: Vec<f64> = (0..11 * 2 * 3).map(|_| 5.0 + stream.normal()).collect();
            let x = Tensor::<3>::from_data(TensorData::new(data, [11, 2, 3]), &device);
            let y = norm.forward(x.clone());
            // Eleven samples are two parts: five and six.
            for (start, size) in [(0, 5), (5, 6)] {
                let part = values(y.clone().narrow(0, start, size).narrow(1, 0, 1));
                let n = part.len() as f64;
                assert!((part.iter().sum::<f64>() / n).abs() < 1e-5);
                assert!((part.iter().map(|v| v * v).sum::<f64>() / n - 1.0).abs() < 1e-3);
            }
            let plain = norm.valid();
            let x = x.inner();
            assert_eq!(values(plain.forward(x.clone())), values(plain.norm.forward(x)));
        }
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let device = Device::flex();
        assert!(GhostBatchNormConfig::new(0).init(&device).is_err());
        assert!(GhostBatchNormConfig::new(2).with_ghost_size(1).init(&device).is_err());
        assert!(GhostBatchNormConfig::new(2).with_epsilon(0.0).init(&device).is_err());
        assert!(GhostBatchNormConfig::new(2).with_momentum(1.5).init(&device).is_err());
    }
}
