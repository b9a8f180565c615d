//! Lookahead: every k steps the weights go back part of the way; steadies any optimizer.
//!
//! ```text
//! every k steps:  slow += alpha (fast - slow);  fast = slow
//! ```
//! Evaluate at the slow weights: right after such a step they are the model's own.
//!
//! # Reference
//! M. Zhang et al., "Lookahead optimizer: k steps forward, 1 step back", 2019, arXiv 1907.08610.

use super::pairs::{Pair, Store};
use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;
use firebrick_core::{ConfigError, check};

/// Configuration of [`Lookahead`].
#[derive(Config, Debug)]
pub struct LookaheadConfig {
    /// Steps between two pulls, k, at least 1.
    #[config(default = 5)]
    pub every: usize,
    /// Share of the way that is kept, alpha, in `[0, 1]`.
    #[config(default = 0.5)]
    pub alpha: f64,
}

impl LookaheadConfig {
    /// Starts with the weights of `model` as the slow ones.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn init<M: Module>(&self, model: &M) -> Result<Lookahead, ConfigError> {
        Ok(Lookahead {
            every: check::at_least("every", self.every, 1)?,
            alpha: check::range("alpha", self.alpha, 0.0..=1.0)?,
            steps: 0,
            slow: Store::of(model),
        })
    }
}

/// Holds the slow weights.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::optim::GradientsParams;
/// use burn::tensor::{Device, Tensor};
/// use firebrick_optim::{AdamWConfig, wrapper::LookaheadConfig};
///
/// let device = Device::flex().autodiff();
/// let mut model = LinearConfig::new(4, 2).init(&device);
/// let mut optimizer = AdamWConfig::new().fused()?;
/// let mut lookahead = LookaheadConfig::new().init(&model)?;
/// for _ in 0..10 {
///     let loss = model.forward(Tensor::<2>::ones([3, 4], &device)).square().mean();
///     let grads = GradientsParams::from_grads(loss.backward(), &model);
///     model = optimizer.step(1e-3, model, grads);
///     model = lookahead.after_step(model);
/// }
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Lookahead {
    every: usize,
    alpha: f64,
    steps: usize,
    slow: Store,
}

impl Lookahead {
    /// To be called after each step of the optimizer.
    #[must_use]
    pub fn after_step<M: Module>(&mut self, model: M) -> M {
        self.steps += 1;
        if !self.steps.is_multiple_of(self.every) {
            return model;
        }
        struct Pull(f64);
        impl Pair for Pull {
            fn apply<const D: usize>(
                &mut self,
                fast: Tensor<D>,
                slow: Tensor<D>,
            ) -> (Option<Tensor<D>>, Tensor<D>) {
                let slow = slow.clone() + (fast - slow).mul_scalar(self.0);
                (Some(slow.clone()), slow)
            }
        }
        self.slow.apply(model, &mut Pull(self.alpha))
    }

    /// `model` at the slow weights, as they were after the last pull.
    #[must_use]
    pub fn slow<M: Module>(&mut self, model: &M) -> M {
        self.slow.put(model.clone())
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{grads, net, refused, values};
    use burn::tensor::Device;

    #[test]
    fn every_second_step_goes_half_way_back() {
        let start = net(&Device::flex().autodiff());
        let mut lookahead = LookaheadConfig::new().with_every(2).init(&start).expect("valid");
        let mut sgd = crate::SgdConfig::new().fused().expect("valid");
        let (w0, mut model) = (values(&start), start);
        let mut fast = Vec::new();
        for k in 0..2 {
            let grads = grads(&model, k);
            model = sgd.step(0.1, model, grads);
            fast = values(&model);
            model = lookahead.after_step(model);
            assert_eq!(values(&model) == fast, k == 0);
        }
        for ((slow, w0), fast) in values(&model).iter().zip(&w0).zip(&fast) {
            assert!((slow - (w0 + 0.5 * (fast - w0))).abs() < 1e-7);
        }
        assert_eq!(values(&lookahead.slow(&model)), values(&model));
        // The gradient still reaches the parameters.
        assert!(model.linear.weight.is_require_grad());
    }

    #[test]
    fn bad_configurations_are_refused() {
        let model = net(&Device::flex());
        refused(
            LookaheadConfig::new().with_every(0).init(&model),
            "`every` must be at least 1, got 0",
        );
        refused(
            LookaheadConfig::new().with_alpha(1.5).init(&model),
            "`alpha` must be in [0, 1], got 1.5",
        );
    }
}
