//! Lookahead: every k steps the weights go back part of the way; steadies any optimizer.
//!
//! ```text
//! every k steps:  slow += alpha (fast - slow);  fast = slow
//! ```
//! Evaluate at the slow weights: right after such a step they are the model's own.
//!
//! # Reference
//! M. Zhang et al., "Lookahead optimizer: k steps forward, 1 step back", 2019, arXiv 1907.08610.

use super::pairs::Store;
use crate::apart::apart;
use crate::error::OptimError;
use burn::config::Config;
use burn::module::Module;
use burn::tensor::Bytes;
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
        self.slow.approach(model, self.alpha, true)
    }

    /// `model`, also in evaluation mode, at the slow weights as they were after the last pull, with running statistics of
    /// its own.
    #[must_use]
    pub fn slow<M: Module>(&self, model: &M) -> M {
        self.slow.put(apart(model))
    }

    /// The state as bytes, in the format of burn's records: the slow weights, and how many steps were taken.
    ///
    /// # Errors
    /// When the format cannot hold it.
    pub fn into_bytes(&self) -> Result<Bytes, OptimError> {
        self.slow.record("lookahead", self.steps as u64)
    }

    /// Takes over what [`into_bytes`](Self::into_bytes) gave, for the parameters of `model`; what follows is the same
    /// to the last bit. The configuration is that of `self`.
    ///
    /// A parameter is found as by [`FusedOptimizer::from_bytes`](crate::FusedOptimizer::from_bytes).
    ///
    /// # Errors
    /// When the bytes are no record of this wrapper, or a parameter is only in the record or only in `model`, or has
    /// another shape or element type there.
    pub fn from_bytes<M: Module>(self, bytes: Bytes, model: &M) -> Result<Self, OptimError> {
        let (slow, steps) = Store::resumed(bytes, "lookahead", model)?;
        Ok(Self { steps: steps as usize, slow, ..self })
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
    fn resuming_is_exact() {
        let start = net(&Device::flex().autodiff());
        let config = LookaheadConfig::new().with_every(3);
        let mut lookahead = config.init(&start).expect("valid");
        let mut sgd = crate::SgdConfig::new().fused().expect("valid");
        let mut model = start;
        for k in 0..4 {
            let grads = grads(&model, k);
            model = lookahead.after_step(sgd.step(0.1, model, grads));
        }
        let bytes = lookahead.into_bytes().expect("bytes");
        let other = config.init(&model).expect("valid");
        let mut resumed = other.from_bytes(bytes.clone(), &model).expect("loads");
        let mut twin = model.clone();
        for k in 4..10 {
            let (a, b) = (grads(&model, k), grads(&twin, k));
            model = lookahead.after_step(sgd.step(0.1, model, a));
            twin = resumed.after_step(sgd.step(0.1, twin, b));
            assert_eq!(values(&model), values(&twin), "step {k}");
            assert_eq!(values(&lookahead.slow(&model)), values(&resumed.slow(&twin)), "step {k}");
        }
        // A model built anew has numbers of its own, and the same paths.
        let anew = net(&Device::flex().autodiff());
        let found = resumed.from_bytes(bytes, &anew).expect("loads");
        assert_ne!(values(&found.slow(&anew)), values(&anew));
    }

    #[test]
    fn a_record_of_another_model_or_wrapper_is_refused() {
        use crate::testing::{Net, net_of};
        use crate::wrapper::EmaConfig;
        use burn::nn::LinearConfig;
        use burn::tensor::DType;
        let device = Device::flex().autodiff();
        let model = net(&device);
        let lookahead = |model: &Net| LookaheadConfig::new().init(model).expect("valid");
        let bytes = lookahead(&model).into_bytes().expect("bytes");
        let layer = LinearConfig::new(3, 2).init(&device);
        let of_layer = LookaheadConfig::new().init(&layer).expect("valid");
        let missing = of_layer.into_bytes().expect("bytes");
        let error = of_layer.from_bytes(bytes.clone(), &layer).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "the record holds nothing for `weight`, which the module has"
        );
        let error = lookahead(&model).from_bytes(missing, &model).expect_err("refused");
        assert!(matches!(error, OptimError::MissingParameter { .. }), "{error}");
        let half = net_of(&device, DType::F64);
        let error = lookahead(&half).from_bytes(bytes.clone(), &half).expect_err("refused");
        assert!(error.to_string().contains("was saved as F32, the parameter is F64"), "{error}");
        let ema = EmaConfig::new().init(&model).expect("valid");
        let error = ema.from_bytes(bytes, &model).expect_err("refused");
        assert!(error.to_string().ends_with("it is not one of ema"), "{error}");
        let layers = |last: usize| {
            let first = LinearConfig::new(3, 2).init(&device);
            vec![first, LinearConfig::new(2, last).init(&device)]
        };
        let (narrow, wide) = (layers(2), layers(4));
        let of_narrow = LookaheadConfig::new().init(&narrow).expect("valid");
        let bytes = of_narrow.into_bytes().expect("bytes");
        let one = vec![narrow[0].clone()];
        let error = of_narrow.from_bytes(bytes.clone(), &one).expect_err("refused");
        assert!(matches!(error, OptimError::NoSuchParameter { .. }), "{error}");
        let of_wide = LookaheadConfig::new().init(&wide).expect("valid");
        let error = of_wide.from_bytes(bytes, &wide).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "the record's state of `1.weight` has shape [2, 2], the parameter has [2, 4]"
        );
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
