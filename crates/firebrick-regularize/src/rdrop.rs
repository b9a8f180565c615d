//! R-Drop: two dropout masks for one batch must agree.
//!
//! # Formula
//! ```text
//! L = CE(p1, y) + CE(p2, y) + alpha / 2 * (KL(p1 || p2) + KL(p2 || p1))      means over the batch
//! ```
//! Two masks are needed: put the batch through the model twice at once, as `cat([x, x])`, and
//! [`split`](RDrop::split) the logits. A class that both rule out, with a logit of minus infinity, adds 0.
//!
//! # Reference
//! X. Liang et al., "R-Drop: regularized dropout for neural networks", NeurIPS 2021.

use crate::RegularizeError;
use crate::target::{impossible, same_rows, soft_cross_entropy};
use burn::config::Config;
use burn::tensor::{Tensor, activation::log_softmax};
use firebrick_backend::widened;
use firebrick_core::{ConfigError, check};

/// Configuration of [`RDrop`].
#[derive(Config, Debug)]
pub struct RDropConfig {
    /// Factor of the divergence, at least 0; 1 to 5 are usual.
    #[config(default = 1.0)]
    pub alpha: f64,
}

impl RDropConfig {
    /// Checks the factor.
    ///
    /// # Errors
    /// When `alpha` is negative, NaN or infinite.
    pub fn init(&self) -> Result<RDrop, ConfigError> {
        Ok(RDrop { alpha: check::non_negative("alpha", self.alpha)? })
    }
}

/// The loss of R-Drop.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_regularize::RDropConfig;
///
/// let device = Device::flex();
/// let rdrop = RDropConfig::new().init()?;
/// let logits = Tensor::<2>::zeros([4, 3], &device); // of a batch of two, twice
/// let (first, second) = rdrop.split(logits)?;
/// let loss = rdrop.loss(first, second, Tensor::<2>::full([2, 3], 1.0 / 3.0, &device))?;
/// assert!((loss.cross_entropy.into_scalar::<f64>() - 2.0 * 3f64.ln()).abs() < 1e-6);
/// assert_eq!(loss.divergence.into_scalar::<f32>(), 0.0);
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct RDrop {
    alpha: f64,
}

/// The parts of the loss, each of shape `[1]`; train on their sum.
#[derive(Debug, Clone)]
pub struct RDropLoss {
    /// The two cross entropies together.
    pub cross_entropy: Tensor<1>,
    /// The weighted divergence: report it apart.
    pub divergence: Tensor<1>,
}

impl RDrop {
    /// The two halves of the logits of a doubled batch.
    ///
    /// # Errors
    /// When the number of rows is odd or 0.
    pub fn split(&self, logits: Tensor<2>) -> Result<(Tensor<2>, Tensor<2>), RegularizeError> {
        let n = logits.dims()[0];
        if n == 0 || !n.is_multiple_of(2) {
            return Err(RegularizeError::Shape {
                what: "the logits of a doubled batch",
                expected: "of an even number of rows".into(),
                found: logits.dims().to_vec(),
            });
        }
        Ok((logits.clone().narrow(0, 0, n / 2), logits.narrow(0, n / 2, n / 2)))
    }

    /// The loss of logits under two masks against target distributions, all `[n, k]`.
    ///
    /// # Errors
    /// When the shapes differ or the batch is empty.
    pub fn loss(
        &self,
        first: Tensor<2>,
        second: Tensor<2>,
        targets: Tensor<2>,
    ) -> Result<RDropLoss, RegularizeError> {
        let n = same_rows("the second logits", &first, &second)? as f64;
        let first = widened(first);
        let second = second.cast(first.dtype());
        let cross_entropy = soft_cross_entropy(first.clone(), targets.clone())?
            + soft_cross_entropy(second.clone(), targets)?;
        let (p, q) = (log_softmax(first, 1), log_softmax(second, 1));
        let neither = impossible(&p).bool_and(impossible(&q));
        let apart = p.clone().mask_fill(neither.clone(), 0.0) - q.clone().mask_fill(neither, 0.0);
        // KL(p || q) + KL(q || p) = sum (p - q)(log p - log q).
        let both = ((p.exp() - q.exp()) * apart).sum();
        Ok(RDropLoss { cross_entropy, divergence: both.mul_scalar(self.alpha / 2.0 / n) })
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device, TensorData};
    use firebrick_backend::testing::devices;

    #[test]
    fn both_parts_follow_the_formula() {
        for device in devices() {
            let (a, b) = ([1.0f64, -0.5, 0.2], [0.3f64, 0.8, -1.0]);
            let p = |z: [f64; 3]| {
                let total: f64 = z.iter().map(|z| z.exp()).sum();
                z.map(|z| z.exp() / total)
            };
            let kl = |p: [f64; 3], q: [f64; 3]| {
                p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum::<f64>()
            };
            let row = |z: [f64; 3]| Tensor::<2>::from_floats([z.map(|z| z as f32)], &device);
            let target = Tensor::<2>::from_floats([[0.0, 1.0, 0.0]], &device);
            let rdrop = RDropConfig::new().with_alpha(3.0).init().expect("valid");
            let loss = rdrop.loss(row(a), row(b), target).expect("valid");
            let divergence: f64 = loss.divergence.into_scalar();
            let expected = 1.5 * (kl(p(a), p(b)) + kl(p(b), p(a)));
            assert!((divergence - expected).abs() < 1e-6, "{divergence} {expected}");
            let entropy: f64 = loss.cross_entropy.into_scalar();
            assert!((entropy + p(a)[1].ln() + p(b)[1].ln()).abs() < 1e-6);
        }
    }

    #[test]
    fn float_types_may_differ_and_a_class_that_both_rule_out_adds_nothing() {
        for device in devices() {
            if !device.supports_dtype(DType::F64) {
                continue;
            }
            let device = device.autodiff();
            let leaf = |row: &[f32], dtype: DType| {
                let data = TensorData::new(row.to_vec(), [1, row.len()]);
                Tensor::<2>::from_data(data, (&device, dtype)).require_grad()
            };
            let rdrop = RDropConfig::new().init().expect("valid");
            let run = |first: &Tensor<2>, second: &Tensor<2>, targets: Tensor<2>| {
                let loss = rdrop.loss(first.clone(), second.clone(), targets).expect("valid");
                let value = loss.divergence.clone().into_scalar::<f64>();
                let gradients = (loss.cross_entropy + loss.divergence).backward();
                let read = |leaf: &Tensor<2>| {
                    let gradient = leaf.grad(&gradients).expect("has one");
                    gradient.try_to_vec_as::<f64>().expect("reads")
                };
                (value, read(first), read(second))
            };
            let (f32s, f64s, out) = (DType::F32, DType::F64, f32::NEG_INFINITY);
            let first = leaf(&[1.0, -0.5], f32s);
            let second = leaf(&[0.25, 0.75], f64s);
            let (plain, a, b) = run(&first, &second, leaf(&[0.5, 0.5], f64s));
            let first = leaf(&[1.0, out, -0.5], f64s);
            let second = leaf(&[0.25, out, 0.75], f32s);
            let (masked, c, d) = run(&first, &second, leaf(&[0.5, 0.0, 0.5], f32s));
            assert!(plain > 0.1 && (plain - masked).abs() < 1e-6, "{plain} {masked}");
            for (without, with) in [(a, c), (b, d)] {
                assert_eq!(with[1], 0.0);
                assert!((without[0] - with[0]).abs() < 1e-6, "{without:?} {with:?}");
                assert!((without[1] - with[2]).abs() < 1e-6, "{without:?} {with:?}");
            }
        }
    }

    #[test]
    fn odd_batches_and_bad_values_are_refused() {
        let rdrop = RDropConfig::new().init().expect("valid");
        assert!(rdrop.split(Tensor::zeros([3, 2], &Device::flex())).is_err());
        assert!(rdrop.split(Tensor::zeros([0, 2], &Device::flex())).is_err());
        let two = || Tensor::<2>::zeros([2, 2], &Device::flex());
        assert!(rdrop.loss(two(), Tensor::zeros([1, 2], &Device::flex()), two()).is_err());
        assert!(RDropConfig::new().with_alpha(-1.0).init().is_err());
    }
}
