//! Dynamic loss scaling, so that small gradients do not vanish in 16-bit floats.
//!
//! # Rule
//! ```text
//! backward of S * loss; gradients / S
//! a gradient is not finite: no step, S <- S * backoff
//! `interval` clean steps:   S <- S * growth
//! ```
//! Defaults are those of PyTorch's `GradScaler`.
//!
//! # Reference
//! P. Micikevicius et al., "Mixed precision training", ICLR 2018 (arXiv 1710.03740).

use crate::guard::{alone, remembers};
use crate::{Guard, Measured, Verdict};
use burn::config::Config;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use firebrick_core::{ConfigError, Record, check};
use serde::{Deserialize, Serialize};

/// Configuration of [`LossScale`].
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `initial` | 65536 | above 0 |
/// | `growth` | 2 | above 1 |
/// | `backoff` | 0.5 | (0, 1) |
/// | `interval` | 2000 steps | at least 1 |
/// | `min_scale` | 1 | above 0, at most `initial` |
/// | `max_consecutive` | 50 | at least 1 |
#[derive(Config, Debug)]
pub struct LossScaleConfig {
    /// The first scale.
    #[config(default = 65536.0)]
    pub initial: f64,
    /// What the scale is multiplied by after `interval` clean steps.
    #[config(default = 2.0)]
    pub growth: f64,
    /// What the scale is multiplied by after a step that overflowed.
    #[config(default = 0.5)]
    pub backoff: f64,
    /// How many clean steps in a row let the scale grow.
    #[config(default = 2000)]
    pub interval: usize,
    /// The scale never falls below this.
    #[config(default = 1.0)]
    pub min_scale: f64,
    /// How many steps in a row may overflow before the run is stopped.
    #[config(default = 50)]
    pub max_consecutive: usize,
}

impl LossScaleConfig {
    /// Checks the values and builds the guard.
    ///
    /// # Errors
    /// When a value is out of its range.
    pub fn init(&self) -> Result<LossScale, ConfigError> {
        use std::ops::Bound::{Excluded, Unbounded};
        check::positive("initial", self.initial)?;
        check::range("growth", self.growth, (Excluded(1.0), Unbounded))?;
        check::range("backoff", self.backoff, (Excluded(0.0), Excluded(1.0)))?;
        check::at_least("interval", self.interval, 1)?;
        check::positive("min_scale", self.min_scale)?;
        check::range("min_scale", self.min_scale, ..=self.initial)?;
        check::at_least("max_consecutive", self.max_consecutive, 1)?;
        Ok(LossScale {
            config: self.clone(),
            scale: self.initial,
            clean: 0,
            consecutive: 0,
            total: 0,
        })
    }
}

/// Scales the loss before `backward` and the gradients back after it, skipping steps that overflow.
///
/// It must be the first guard of a chain, so that all others see gradients of the true size. The loss that
/// guards are told is the unscaled one. bfloat16 needs none of this.
///
/// Keep the parameters in f32 and cast them in the forward pass: a gradient that is itself in 16 bits loses, when it is
/// scaled back, what the scale has saved.
///
/// ```
/// use burn::{nn::LinearConfig, optim::GradientsParams, tensor::{Device, Tensor}};
/// use firebrick_stabilize::{Guard, LossScaleConfig, Verdict};
///
/// let device = Device::flex().autodiff();
/// let model = LinearConfig::new(2, 1).init(&device);
/// let mut scaler = LossScaleConfig::new().init()?;
/// let loss = model.forward(Tensor::<2>::ones([4, 2], &device)).mean();
/// let value = loss.clone().into_scalar::<f32>();
/// let mut gradients = GradientsParams::from_grads(scaler.apply(loss).backward(), &model);
/// assert_eq!(scaler.before_step(&model, &mut gradients, value.into()), Verdict::Proceed);
/// let weight = gradients.get::<2>(model.weight.id).expect("present").into_data();
/// assert_eq!(weight.as_slice::<f32>(), Ok(&[1.0, 1.0][..]));
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LossScale {
    config: LossScaleConfig,
    scale: f64,
    clean: usize,
    consecutive: usize,
    total: u64,
}

impl LossScale {
    /// The present scale.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// The scaled loss, to be differentiated in place of `loss`.
    #[must_use]
    pub fn apply(&self, loss: Tensor<1>) -> Tensor<1> {
        loss.mul_scalar(self.scale)
    }

    /// How many steps were skipped so far.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.total
    }

    fn update(&mut self, finite: bool) -> Verdict {
        if finite {
            self.consecutive = 0;
            self.clean += 1;
            if self.clean == self.config.interval {
                self.clean = 0;
                let grown = self.scale * self.config.growth;
                self.scale = if grown.is_finite() { grown } else { self.scale };
            }
            return Verdict::Proceed;
        }
        self.clean = 0;
        self.total += 1;
        self.consecutive += 1;
        self.scale = (self.scale * self.config.backoff).max(self.config.min_scale);
        let over = self.consecutive > self.config.max_consecutive;
        if over { Verdict::Stop } else { Verdict::Skip }
    }
}

impl Guard for LossScale {
    alone!();
    remembers!(LossScale);

    fn loss_factor(&self) -> f64 {
        self.scale
    }

    fn before_step_sharing<M: Module>(
        &mut self,
        model: &M,
        gradients: &mut GradientsParams,
        _: f64,
        measured: &mut Measured,
    ) -> Verdict {
        let finite = measured.is_finite(model, gradients);
        if finite {
            measured.scale(model, gradients, self.scale.recip());
        }
        self.update(finite)
    }

    fn record(&self, record: &mut Record) {
        record.values.insert("loss_scale".into(), self.scale);
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::tests::{gradients, model, values};
    use crate::{ClipGlobalNormConfig, SkipNonFiniteConfig};
    use firebrick_backend::testing::devices;

    #[test]
    fn the_scale_follows_torchs_sequence() {
        let config = LossScaleConfig::new().with_initial(8.0).with_interval(2);
        let mut scaler = config.init().expect("valid");
        let scales: Vec<f64> = [true, true, true, false, true, true, false, false]
            .into_iter()
            .map(|finite| {
                scaler.update(finite);
                scaler.scale()
            })
            .collect();
        assert_eq!(scales, [8.0, 16.0, 16.0, 8.0, 8.0, 16.0, 8.0, 4.0]);
    }

    #[test]
    fn a_streak_of_overflows_ends_at_the_minimum_and_stops() {
        let config = LossScaleConfig::new().with_initial(4.0).with_max_consecutive(3);
        let mut scaler = config.init().expect("valid");
        let verdicts: Vec<Verdict> = (0..4).map(|_| scaler.update(false)).collect();
        assert_eq!(verdicts, [Verdict::Skip, Verdict::Skip, Verdict::Skip, Verdict::Stop]);
        assert_eq!((scaler.scale(), scaler.skipped()), (1.0, 4));
    }

    #[test]
    fn a_chain_clips_what_was_unscaled() {
        for device in devices() {
            let model = model(&device);
            let mut guards = (
                LossScaleConfig::new().with_initial(4.0).init().expect("valid"),
                SkipNonFiniteConfig::new().init().expect("valid"),
                ClipGlobalNormConfig::new(6.5).init().expect("valid"),
            );
            let mut grads = gradients(&model, &device, &[12.0, -16.0], &[48.0]);
            assert_eq!(guards.before_step(&model, &mut grads, 1.0), Verdict::Proceed);
            assert_eq!(guards.2.last_norm(), Some(13.0));
            assert!((values(&model, &grads)[2] - 6.0).abs() < 1e-5);
            let mut broken = gradients(&model, &device, &[f32::INFINITY, 0.0], &[0.0]);
            assert_eq!(guards.before_step(&model, &mut broken, 1.0), Verdict::Skip);
            assert_eq!(guards.0.scale(), 2.0);
        }
    }

    #[test]
    fn values_out_of_range_are_refused() {
        assert!(LossScaleConfig::new().with_initial(0.0).init().is_err());
        assert!(LossScaleConfig::new().with_growth(1.0).init().is_err());
        assert!(LossScaleConfig::new().with_backoff(1.0).init().is_err());
        assert!(LossScaleConfig::new().with_interval(0).init().is_err());
        assert!(LossScaleConfig::new().with_min_scale(1e9).init().is_err());
        assert!(LossScaleConfig::new().with_max_consecutive(0).init().is_err());
    }
}
