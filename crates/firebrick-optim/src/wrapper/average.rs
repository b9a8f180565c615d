//! Averages of the weights along the way: an exponential one, and the plain one of SWA.
//!
//! ```text
//! EMA:  e = d_t e + (1 - d_t) p,  d_t = min(d, (1 + t) / (10 + t)) while warming up
//! SWA:  a = a + (p - a) / n
//! ```
//! Running statistics are not averaged: the averaged model takes those of the model it is made from. For EMA they fit;
//! for SWA run the training data through the averaged model once, in training mode and without a step.
//!
//! # Reference
//! P. Izmailov et al., "Averaging weights leads to wider optima and better generalization", 2018, arXiv 1803.05407.

use super::pairs::{Pair, Store};
use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;
use firebrick_core::{ConfigError, check};

/// Configuration of [`Ema`].
#[derive(Config, Debug)]
pub struct EmaConfig {
    /// Share of the average that stays, d, in `[0, 1)`.
    #[config(default = 0.999)]
    pub decay: f64,
    /// Whether the share grows from 0.1, so that the first weights are soon forgotten.
    #[config(default = true)]
    pub warmup: bool,
}

impl EmaConfig {
    /// Starts at the weights of `model`.
    ///
    /// # Errors
    /// When the decay lies outside its range.
    pub fn init<M: Module>(&self, model: &M) -> Result<Ema, ConfigError> {
        let decay = check::range("decay", self.decay, 0.0..1.0)?;
        Ok(Ema { decay, warmup: self.warmup, updates: 0, average: Store::of(model) })
    }
}

/// The exponential moving average of a model's weights.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::tensor::Device;
/// use firebrick_optim::wrapper::EmaConfig;
///
/// let model = LinearConfig::new(4, 2).init(&Device::flex().autodiff());
/// let mut ema = EmaConfig::new().init(&model)?;
/// let model = ema.update(model); // after each step
/// let averaged = ema.model(&model); // to evaluate
/// # let _ = averaged;
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    warmup: bool,
    updates: u64,
    average: Store,
}

/// Moves what is stored towards the value by a share.
struct Approach(f64);

impl Pair for Approach {
    fn apply<const D: usize>(
        &mut self,
        value: Tensor<D>,
        stored: Tensor<D>,
    ) -> (Option<Tensor<D>>, Tensor<D>) {
        (None, stored.clone() + (value - stored).mul_scalar(self.0))
    }
}

impl Ema {
    /// Takes the weights of `model` into the average and gives the model back as it is.
    #[must_use]
    pub fn update<M: Module>(&mut self, model: M) -> M {
        self.updates += 1;
        let t = self.updates as f64;
        let warm = if self.warmup { (1.0 + t) / (10.0 + t) } else { 1.0 };
        self.average.apply(model, &mut Approach(1.0 - self.decay.min(warm)))
    }

    /// `model` with the averaged weights.
    #[must_use]
    pub fn model<M: Module>(&mut self, model: &M) -> M {
        self.average.put(model.clone())
    }
}

/// The plain average of the weights at chosen moments: stochastic weight averaging.
#[derive(Debug, Default)]
pub struct Swa {
    taken: u64,
    average: Store,
}

impl Swa {
    /// Nothing taken yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the weights of `model` into the average, as after each epoch from a chosen one on, and gives the model
    /// back as it is.
    #[must_use]
    pub fn update<M: Module>(&mut self, model: M) -> M {
        self.taken += 1;
        self.average.apply(model, &mut Approach(1.0 / self.taken as f64))
    }

    /// How many weights have been taken.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// `model` with the averaged weights; with its own before any was taken.
    #[must_use]
    pub fn model<M: Module>(&mut self, model: &M) -> M {
        self.average.put(model.clone())
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{grads, net, refused, values};
    use burn::tensor::Device;

    /// Weights after each of `n` steps, the start first.
    fn path(
        start: &crate::testing::Net,
        n: u64,
        mut each: impl FnMut(crate::testing::Net) -> crate::testing::Net,
    ) -> Vec<Vec<f32>> {
        let mut model = start.clone();
        let mut sgd = crate::SgdConfig::new().fused().expect("valid");
        let mut path = vec![values(&model)];
        for k in 0..n {
            let grads = grads(&model, k);
            model = each(sgd.step(0.1, model, grads));
            path.push(values(&model));
        }
        path
    }

    #[test]
    fn ema_is_the_recurrence() {
        let start = net(&Device::flex().autodiff());
        for warmup in [false, true] {
            let mut ema =
                EmaConfig::new().with_decay(0.8).with_warmup(warmup).init(&start).expect("valid");
            let path = path(&start, 3, |model| ema.update(model));
            let seen = values(&ema.model(&start));
            for (k, seen) in seen.iter().enumerate() {
                let mut e = f64::from(path[0][k]);
                for (t, step) in path[1..].iter().enumerate() {
                    let t = (t + 1) as f64;
                    let d = if warmup { ((1.0 + t) / (10.0 + t)).min(0.8) } else { 0.8 };
                    e = d * e + (1.0 - d) * f64::from(step[k]);
                }
                assert!((f64::from(*seen) - e).abs() < 1e-6, "{seen} {e}");
            }
        }
    }

    #[test]
    fn swa_is_the_mean() {
        let start = net(&Device::flex().autodiff());
        let mut swa = Swa::new();
        assert_eq!(values(&swa.model(&start)), values(&start));
        let mut swa = Swa::new();
        let path = path(&start, 4, |model| swa.update(model));
        assert_eq!(swa.taken(), 4);
        for (k, seen) in values(&swa.model(&start)).iter().enumerate() {
            let mean = path[1..].iter().map(|step| f64::from(step[k])).sum::<f64>() / 4.0;
            assert!((f64::from(*seen) - mean).abs() < 1e-6);
        }
    }

    #[test]
    fn bad_configurations_are_refused() {
        let model = net(&Device::flex());
        refused(EmaConfig::new().with_decay(1.0).init(&model), "`decay` must be in [0, 1), got 1");
    }
}
