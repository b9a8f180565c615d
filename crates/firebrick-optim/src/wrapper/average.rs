//! Averages of the weights along the way: an exponential one, and the plain one of SWA.
//!
//! ```text
//! EMA:  e = d_t e + (1 - d_t) p,  d_t = min(d, (1 + t) / (10 + t)) while warming up, t = 0 at the first update
//! SWA:  a = a + (p - a) / n
//! ```
//! Running statistics are not averaged: the averaged model takes those of the model it is made from. For EMA they fit;
//! for SWA run the training data through the averaged model once, in training mode and without a step.
//!
//! # Reference
//! P. Izmailov et al., "Averaging weights leads to wider optima and better generalization", 2018, arXiv 1803.05407.

use super::pairs::{Pair, Store};
use crate::error::OptimError;
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Bytes, Tensor};
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
        let t = self.updates as f64;
        self.updates += 1;
        let warm = if self.warmup { (1.0 + t) / (10.0 + t) } else { 1.0 };
        self.average.apply(model, &mut Approach(1.0 - self.decay.min(warm)))
    }

    /// `model` with the averaged weights.
    #[must_use]
    pub fn model<M: Module>(&mut self, model: &M) -> M {
        self.average.put(model.clone())
    }

    /// The state as bytes, in the format of burn's records: the average, and how many updates it has seen.
    ///
    /// # Errors
    /// When the format cannot hold it.
    pub fn into_bytes(&self) -> Result<Bytes, OptimError> {
        self.average.record("ema", self.updates)
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
        let (average, updates) = Store::resumed(bytes, "ema", model)?;
        Ok(Self { updates, average, ..self })
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

    /// The state as bytes, in the format of burn's records: the average, and how many weights it is of.
    ///
    /// # Errors
    /// When the format cannot hold it.
    pub fn into_bytes(&self) -> Result<Bytes, OptimError> {
        self.average.record("swa", self.taken)
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
        let (average, taken) = Store::resumed(bytes, "swa", model)?;
        Ok(Self { taken, average })
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
                    let t = t as f64;
                    let d = if warmup { ((1.0 + t) / (10.0 + t)).min(0.8) } else { 0.8 };
                    e = d * e + (1.0 - d) * f64::from(step[k]);
                }
                assert!((f64::from(*seen) - e).abs() < 1e-6, "{seen} {e}");
            }
        }
    }

    /// d_0 = 1 / 10: nine tenths of the first weights are in the average after one update.
    #[test]
    fn the_warm_up_starts_at_a_tenth() {
        let start = net(&Device::flex().autodiff());
        let mut ema = EmaConfig::new().init(&start).expect("valid");
        let path = path(&start, 1, |model| ema.update(model));
        for (k, seen) in values(&ema.model(&start)).iter().enumerate() {
            let expected = 0.1 * f64::from(path[0][k]) + 0.9 * f64::from(path[1][k]);
            assert!((f64::from(*seen) - expected).abs() < 1e-6, "{seen} {expected}");
        }
    }

    #[test]
    fn resuming_is_exact() {
        let start = net(&Device::flex().autodiff());
        let (mut ema, mut swa) = (EmaConfig::new().init(&start).expect("valid"), Swa::new());
        let mut sgd = crate::SgdConfig::new().fused().expect("valid");
        let mut model = start.clone();
        for k in 0..3 {
            let grads = grads(&model, k);
            model = swa.update(ema.update(sgd.step(0.1, model, grads)));
        }
        let (a, b) = (ema.into_bytes().expect("bytes"), swa.into_bytes().expect("bytes"));
        let fresh = EmaConfig::new().init(&start).expect("valid");
        let mut other_ema = fresh.from_bytes(a, &model).expect("loads");
        let mut other_swa = Swa::new().from_bytes(b, &model).expect("loads");
        assert_eq!(other_swa.taken(), 3);
        for k in 3..7 {
            let grads = grads(&model, k);
            model = swa.update(ema.update(sgd.step(0.1, model, grads)));
            model = other_swa.update(other_ema.update(model));
            assert_eq!(values(&ema.model(&model)), values(&other_ema.model(&model)), "step {k}");
            assert_eq!(values(&swa.model(&model)), values(&other_swa.model(&model)), "step {k}");
        }
    }

    #[test]
    fn an_empty_average_comes_back_empty() {
        let model = net(&Device::flex().autodiff());
        let bytes = Swa::new().into_bytes().expect("bytes");
        let mut swa = Swa::new().from_bytes(bytes, &model).expect("loads");
        assert_eq!((swa.taken(), values(&swa.model(&model))), (0, values(&model)));
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
    fn running_statistics_are_the_models_own_and_training_is_left_alone() {
        let device = Device::flex().autodiff();
        let mut model = burn::nn::BatchNormConfig::new(2).init(&device);
        let mut ema = EmaConfig::new().init(&model).expect("valid");
        let mut swa = Swa::new();
        let mut sgd = crate::SgdConfig::new().fused().expect("valid");
        let x = Tensor::<2>::from_floats([[1.0, 3.0], [3.0, 7.0], [8.0, -1.0]], &device);
        let fresh = crate::testing::named(&model);
        for _ in 0..3 {
            let loss = (model.forward(x.clone()) * x.clone()).sum();
            let grads = burn::optim::GradientsParams::from_grads(loss.backward(), &model);
            model = sgd.step(0.01, model, grads);
            // burn keeps the statistics of the last pass apart until they are needed.
            drop(model.valid());
            let trained = crate::testing::named(&model);
            model = swa.update(ema.update(model));
            assert_eq!(crate::testing::named(&model), trained);
        }
        let trained = crate::testing::named(&model);
        for averaged in [ema.model(&model), swa.model(&model)] {
            let seen = crate::testing::named(&averaged);
            assert_eq!(seen.len(), 4);
            for ((seen, trained), fresh) in seen.iter().zip(&trained).zip(&fresh) {
                assert_ne!(trained, fresh, "everything has moved");
                assert_eq!(seen == trained, seen.0.contains("running"), "{}", seen.0);
            }
        }
    }

    #[test]
    fn bad_configurations_are_refused() {
        let model = net(&Device::flex());
        refused(EmaConfig::new().with_decay(1.0).init(&model), "`decay` must be in [0, 1), got 1");
    }
}
