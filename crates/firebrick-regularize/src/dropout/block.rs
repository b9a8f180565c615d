//! DropBlock: contiguous squares of a feature map.
//!
//! # Formula
//! ```text
//! gamma = p H W / (b^2 (H - b + 1) (W - b + 1))     seeds ~ Bernoulli(gamma) where a whole block fits
//! m = 0 on the b x b square of every seed, else 1
//! y = x m * count(m) / sum(m)                       over the whole batch
//! ```
//! Blocks overlap, so the share dropped is a little below `p`; the factor uses the share that was really kept.
//! A block larger than the map is cut to its smaller side, as in torchvision. If nothing is kept, `y` is 0.
//!
//! # Reference
//! G. Ghiasi, T.-Y. Lin, Q. V. Le, "DropBlock: a regularization method for convolutional networks", NeurIPS
//! 2018. The paper ramps `p` up from 0: see [`DropSchedule`](crate::DropSchedule).

use super::{Noise, constant};
use crate::MaskSource;
use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;
use firebrick_core::{ConfigError, check};
use rayon::prelude::*;

/// Configuration of [`DropBlock`].
#[derive(Config, Debug)]
pub struct DropBlockConfig {
    /// Share of the map to drop, in [0, 1); 0.1 is usual.
    pub prob: f64,
    /// Side of a block, at least 1.
    #[config(default = 7)]
    pub block_size: usize,
}

impl DropBlockConfig {
    /// Checks the values and builds the layer.
    ///
    /// # Errors
    /// When `prob` is outside [0, 1) or NaN, or `block_size` is 0.
    pub fn init(&self, masks: &MaskSource) -> Result<DropBlock, ConfigError> {
        let block_size = check::at_least("block_size", self.block_size, 1)?;
        Ok(DropBlock { noise: Noise::new("prob", self.prob, masks)?, block_size })
    }
}

/// Zeroes squares of feature maps while training.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_regularize::{DropBlockConfig, MaskSource};
///
/// let layer = DropBlockConfig::new(0.1).with_block_size(3).init(&MaskSource::new(Seed(7)))?;
/// let output = layer.forward(Tensor::<4>::ones([2, 8, 10, 10], &Device::flex().autodiff()));
/// let mean: f32 = output.mean().into_scalar();
/// assert!((mean - 1.0).abs() < 1e-5); // by the share really kept
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Module, Debug)]
pub struct DropBlock {
    noise: Noise,
    block_size: usize,
}

impl DropBlock {
    /// Applies it to images `[n, c, h, w]`.
    #[must_use]
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let device = input.device();
        let Some(prob) = self.noise.active(&device) else { return input };
        let (shape, dtype) = (input.dims(), input.dtype());
        let [n, c, h, w] = shape;
        let size = self.block_size.min(h).min(w);
        if n * c * size == 0 {
            return input;
        }
        let (rows, columns) = (h - size + 1, w - size + 1);
        let gamma = prob * (h * w) as f64 / ((size * size * rows * columns) as f64);
        let keep = self.noise.masks.keep(n * c * rows * columns, 1.0 - gamma.min(1.0));
        let mut mask = vec![1f32; n * c * h * w];
        mask.par_chunks_mut(h * w).zip(keep.par_chunks(rows * columns)).for_each(|(map, keep)| {
            for (seed, _) in keep.iter().enumerate().filter(|&(_, &keep)| !keep) {
                let (top, left) = (seed / columns, seed % columns);
                for row in top..top + size {
                    map[row * w + left..row * w + left + size].fill(0.0);
                }
            }
        });
        let kept = mask.par_iter().filter(|&&unit| unit > 0.0).count();
        let scale = if kept == 0 { 0.0 } else { mask.len() as f64 / kept as f64 };
        mask.par_iter_mut().for_each(|unit| *unit *= scale as f32);
        input * constant(mask, shape, &device, dtype)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;

    fn layer(prob: f64, size: usize) -> DropBlock {
        let config = DropBlockConfig::new(prob).with_block_size(size);
        config.init(&MaskSource::new(Seed(7))).expect("valid")
    }

    /// P(kept) of a position: no seed among those whose block covers it.
    fn expected_share(h: usize, w: usize, size: usize, prob: f64) -> f64 {
        let (rows, columns) = (h - size + 1, w - size + 1);
        let gamma = prob * (h * w) as f64 / ((size * size * rows * columns) as f64);
        let covering = |at: usize, n: usize| at.min(n - 1) + 1 - (at + 1).saturating_sub(size);
        let share = |i: usize| {
            let cover = covering(i / w, rows) * covering(i % w, columns);
            (1.0 - gamma).powi(cover as i32)
        };
        (0..h * w).map(share).sum::<f64>() / (h * w) as f64
    }

    #[test]
    fn the_share_kept_follows_the_overlap_for_odd_and_even_blocks() {
        for device in devices() {
            for (size, h, w) in [(3, 10, 10), (2, 6, 9), (7, 14, 14), (1, 8, 8)] {
                // A million seeds are drawn, for maps in fours.
                let maps = 4 * 250_000usize.div_ceil((h - size + 1) * (w - size + 1));
                let ones = Tensor::<4>::ones([maps / 4, 4, h, w], &device.clone().autodiff());
                let output: Vec<f64> =
                    layer(0.2, size).forward(ones).try_to_vec_as().expect("reads");
                // Maps are independent: five standard errors of the mean over maps.
                let shares: Vec<f64> = output
                    .chunks(h * w)
                    .map(|m| m.iter().filter(|&&u| u > 0.0).count() as f64 / (h * w) as f64)
                    .collect();
                let mean = shares.iter().sum::<f64>() / maps as f64;
                let variance =
                    shares.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / (maps - 1) as f64;
                let expected = expected_share(h, w, size, 0.2);
                let bound = 5.0 * (variance / maps as f64).sqrt();
                assert!((mean - expected).abs() < bound, "{size}: {mean} {expected} {bound}");
                let total = output.iter().sum::<f64>() / output.len() as f64;
                assert!((total - 1.0).abs() < 1e-5, "{total}");
            }
        }
    }

    #[test]
    fn what_is_dropped_is_squares() {
        let ones = Tensor::<4>::ones([50, 2, 6, 6], &Device::flex().autodiff());
        let output: Vec<f32> = layer(0.1, 2).forward(ones).try_to_vec_as().expect("reads");
        for map in output.chunks(36) {
            for at in (0..36).filter(|&at| map[at] == 0.0) {
                let (row, column) = (at / 6, at % 6);
                let square = |top: usize, left: usize| {
                    [0, 1, 6, 7].iter().all(|offset| map[top * 6 + left + offset] == 0.0)
                };
                let covered = (row.saturating_sub(1)..=row.min(4))
                    .flat_map(|top| {
                        (column.saturating_sub(1)..=column.min(4)).map(move |l| (top, l))
                    })
                    .any(|(top, left)| square(top, left));
                assert!(covered, "position {at} stands alone");
            }
        }
    }

    #[test]
    fn small_and_empty_images_are_defined() {
        let device = Device::flex().autodiff();
        for shape in [[2, 1, 3, 5], [1, 1, 1, 1], [0, 3, 8, 8], [2, 3, 0, 4]] {
            let output = layer(0.3, 7).forward(Tensor::<4>::ones(shape, &device));
            assert_eq!(output.dims(), shape);
            let values: Vec<f32> = output.try_to_vec_as().expect("reads");
            assert!(values.iter().all(|v| v.is_finite()));
        }
    }

    #[test]
    fn gradients_evaluation_and_bad_values() {
        let device = Device::flex().autodiff();
        let input = Tensor::<4>::ones([4, 2, 8, 8], &device).require_grad();
        let output = layer(0.3, 3).forward(input.clone());
        let gradients = output.clone().sum().backward();
        let gradient: Vec<f32> =
            input.grad(&gradients).expect("has one").try_to_vec_as().expect("reads");
        assert_eq!(gradient, output.try_to_vec_as::<f32>().expect("reads"));
        assert!(gradient.contains(&0.0));
        let evaluated: Vec<f32> =
            layer(0.3, 3).valid().forward(input.clone()).try_to_vec_as().expect("reads");
        assert_eq!(evaluated, vec![1.0; 512]);
        let again: Vec<f32> =
            layer(0.3, 3).valid().train().forward(input).try_to_vec_as().expect("reads");
        assert!(again.contains(&0.0));
        let refused = DropBlockConfig::new(0.1).with_block_size(0).init(&MaskSource::new(Seed(0)));
        assert_eq!(
            refused.expect_err("refused").to_string(),
            "`block_size` must be at least 1, got 0"
        );
    }
}
