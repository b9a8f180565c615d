//! Embedding dropout: whole words of the table.
//!
//! # Formula
//! ```text
//! E'[v] = E[v] * m[v] / (1 - p)     one m for each word v, the same wherever it occurs in the batch
//! ```
//!
//! # Reference
//! Y. Gal, Z. Ghahramani, NIPS 2016, section 4.2; S. Merity, N. S. Keskar, R. Socher, ICLR 2018.

use super::{Noise, masked};
use crate::MaskSource;
use burn::config::Config;
use burn::module::Module;
use burn::nn::Embedding;
use burn::tensor::{Int, Tensor, module::embedding};
use firebrick_core::ConfigError;

/// Configuration of [`EmbeddingDropout`].
#[derive(Config, Debug)]
pub struct EmbeddingDropoutConfig {
    /// Probability of dropping a word, in [0, 1).
    #[config(default = 0.1)]
    pub prob: f64,
}

impl EmbeddingDropoutConfig {
    /// Checks the probability and builds the layer around `table`.
    ///
    /// # Errors
    /// When `prob` is outside [0, 1) or NaN.
    pub fn init(
        &self,
        table: Embedding,
        masks: &MaskSource,
    ) -> Result<EmbeddingDropout, ConfigError> {
        Ok(EmbeddingDropout { table, noise: Noise::new("prob", self.prob, masks)? })
    }
}

/// An embedding that drops whole words while training.
///
/// ```
/// use burn::nn::EmbeddingConfig;
/// use burn::tensor::{Device, Int, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_regularize::{EmbeddingDropoutConfig, MaskSource};
///
/// let device = Device::flex().autodiff();
/// let table = EmbeddingConfig::new(10, 4).init(&device);
/// let layer = EmbeddingDropoutConfig::new().init(table, &MaskSource::new(Seed(7)))?;
/// let words = Tensor::<2, Int>::from_ints([[1, 2, 1]], &device);
/// assert_eq!(layer.forward(words).dims(), [1, 3, 4]);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Module, Debug)]
pub struct EmbeddingDropout {
    /// The table whose rows are dropped.
    pub table: Embedding,
    noise: Noise,
}

impl EmbeddingDropout {
    /// Looks words `[n, t]` up: `[n, t, d]`. Indices outside the table are as undefined as in burn's layer.
    #[must_use]
    pub fn forward(&self, words: Tensor<2, Int>) -> Tensor<3> {
        let weight = self.table.weight.val();
        let Some(prob) = self.noise.active(&weight.device()) else {
            return self.table.forward(words);
        };
        let rows = weight.dims()[0];
        embedding(masked(weight, [rows, 1], prob, &self.noise.masks), words)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::nn::{EmbeddingConfig, Initializer};
    use burn::optim::GradientsParams;
    use burn::tensor::Device;
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;

    #[test]
    fn a_word_is_dropped_wherever_it_occurs_and_gets_no_gradient() {
        for device in devices() {
            let device = device.autodiff();
            let n = 1_000_000usize;
            let table =
                EmbeddingConfig::new(n, 2).with_initializer(Initializer::Ones).init(&device);
            let layer = EmbeddingDropoutConfig::new()
                .with_prob(0.2)
                .init(table, &MaskSource::new(Seed(1)))
                .expect("valid");
            let words = Tensor::<1, Int>::arange(0..n as i64, &device).unsqueeze::<2>();
            let output = layer.forward(Tensor::cat(vec![words.clone(), words], 1));
            let values: Vec<f32> = output.clone().try_to_vec_as().expect("reads");
            assert_eq!(values[..2 * n], values[2 * n..]);
            assert!(values.chunks(2).all(|word| word[0] == word[1]));
            let dropped = values.chunks(2).take(n).filter(|w| w[0] == 0.0).count() as f64;
            assert!((dropped / n as f64 - 0.2).abs() < 5.0 * (0.16 / n as f64).sqrt());
            let gradients = GradientsParams::from_grads(output.sum().backward(), &layer);
            let gradient = gradients.get::<2>(layer.table.weight.id).expect("has one");
            let gradient: Vec<f32> = gradient.try_to_vec_as().expect("reads");
            assert!(gradient.iter().zip(&values).all(|(g, v)| *g == 2.0 * v));
        }
    }

    #[test]
    fn evaluation_is_the_table_and_training_comes_back() {
        let device = Device::flex().autodiff();
        let table = EmbeddingConfig::new(50, 2).with_initializer(Initializer::Ones).init(&device);
        let layer = EmbeddingDropoutConfig::new().with_prob(0.5);
        let layer = layer.init(table, &MaskSource::new(Seed(1))).expect("valid");
        let words = Tensor::<1, Int>::arange(0..50, &device).unsqueeze::<2>();
        let evaluated: Vec<f32> =
            layer.valid().forward(words.clone().inner()).try_to_vec_as().expect("reads");
        assert_eq!(evaluated, [1.0; 100]);
        let back: Vec<f32> = layer.valid().train().forward(words).try_to_vec_as().expect("reads");
        assert!(back.contains(&0.0));
    }

    #[test]
    fn bad_probabilities_are_refused() {
        for prob in [1.0, -0.1, f64::NAN] {
            let table = EmbeddingConfig::new(2, 2).init(&Device::flex());
            let config = EmbeddingDropoutConfig::new().with_prob(prob);
            assert!(config.init(table, &MaskSource::new(Seed(0))).is_err());
        }
    }
}
