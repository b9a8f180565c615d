//! Averages of the weights along the way: an exponential one, and the plain one of SWA.
//!
//! ```text
//! EMA:  e = d_t e + (1 - d_t) p,  d_t = min(d, (1 + t) / (10 + t)) while warming up, t = 0 at the first update
//! SWA:  a = a + (p - a) / n
//! ```
//! Averages of parameters of 16 bits are kept in f32: a step of 1 / 1000 of the way is below their last digit.
//!
//! Running statistics are not averaged: the averaged model has a copy of those of the model it is made from. For EMA they
//! fit; for SWA measure them anew with `firebrick_stabilize::recalibrate`. A pass in training mode does not: of the old
//! ones it leaves 0.9 a batch.
//!
//! # Reference
//! P. Izmailov et al., "Averaging weights leads to wider optima and better generalization", 2018, arXiv 1803.05407.

use super::pairs::Store;
use crate::apart::apart;
use crate::error::OptimError;
use burn::config::Config;
use burn::module::Module;
use burn::tensor::Bytes;
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

impl Ema {
    /// Takes the weights of `model` into the average and gives the model back as it is.
    #[must_use]
    pub fn update<M: Module>(&mut self, model: M) -> M {
        let t = self.updates as f64;
        self.updates += 1;
        let warm = if self.warmup { (1.0 + t) / (10.0 + t) } else { 1.0 };
        self.average.approach(model, 1.0 - self.decay.min(warm), false)
    }

    /// `model`, also in evaluation mode, with the averaged weights and running statistics of its own.
    #[must_use]
    pub fn model<M: Module>(&self, model: &M) -> M {
        self.average.put(apart(model))
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
    /// another shape or element type there; f32 fits parameters of 16 bits.
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
        self.average.approach(model, 1.0 / self.taken as f64, false)
    }

    /// How many weights have been taken.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// `model`, also in evaluation mode, with the averaged weights and running statistics of its own; with its own
    /// weights before any was taken.
    #[must_use]
    pub fn model<M: Module>(&self, model: &M) -> M {
        self.average.put(apart(model))
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
    /// another shape or element type there; f32 fits parameters of 16 bits.
    pub fn from_bytes<M: Module>(self, bytes: Bytes, model: &M) -> Result<Self, OptimError> {
        let (average, taken) = Store::resumed(bytes, "swa", model)?;
        Ok(Self { taken, average })
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{Fill, grads, named, net, net_of, refused, values};
    use crate::wrapper::LookaheadConfig;
    use burn::tensor::{DType, Device, Tensor};
    use firebrick_backend::testing::devices;

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
        let swa = Swa::new().from_bytes(bytes, &model).expect("loads");
        assert_eq!((swa.taken(), values(&swa.model(&model))), (0, values(&model)));
    }

    #[test]
    fn swa_is_the_mean() {
        let start = net(&Device::flex().autodiff());
        let swa = Swa::new();
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
        let fresh = named(&model);
        for _ in 0..3 {
            let loss = (model.forward(x.clone()) * x.clone()).sum();
            let grads = burn::optim::GradientsParams::from_grads(loss.backward(), &model);
            model = sgd.step(0.01, model, grads);
            // burn keeps the statistics of the last pass apart until they are needed.
            drop(model.valid());
            let trained = named(&model);
            model = swa.update(ema.update(model));
            assert_eq!(named(&model), trained);
        }
        let trained = named(&model);
        for averaged in [ema.model(&model), swa.model(&model)] {
            let seen = named(&averaged);
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

    #[test]
    fn a_pass_of_the_averaged_model_leaves_the_statistics_of_training() {
        for device in devices() {
            let device = device.autodiff();
            let model = burn::nn::BatchNormConfig::new(1).init(&device);
            let mut ema = EmaConfig::new().init(&model).expect("valid");
            let (mut swa, lookahead) = (Swa::new(), LookaheadConfig::new().init(&model));
            let model = swa.update(ema.update(model));
            let slow = lookahead.expect("valid").slow(&model);
            for averaged in [ema.model(&model), swa.model(&model), slow] {
                assert!(averaged.gamma.is_require_grad() && averaged.training.is_enabled());
                drop(averaged.forward(Tensor::<2>::full([2, 1], 3.0, &device)));
                for (norm, mean) in [(&model, 0.0), (&averaged, 0.3)] {
                    let seen = norm.running_mean.value_sync().into_scalar::<f32>();
                    assert!((seen - mean).abs() < 1e-6, "{seen} {mean}");
                }
            }
        }
    }

    #[test]
    fn looking_at_an_empty_average_leaves_it_empty() {
        for device in devices() {
            let start = net(&device.autodiff());
            let mut swa = Swa::new();
            assert_eq!(values(&swa.model(&start)), values(&start));
            // Far away, so that nothing of the first weights could hide in what is taken.
            let there = start.clone().map(&mut Fill(DType::F32, 70));
            assert_eq!(values(&swa.model(&there)), values(&there));
            let there = swa.update(there);
            assert_eq!(values(&swa.model(&start)), values(&there));
        }
    }

    #[test]
    fn a_share_of_one_takes_the_weights_themselves() {
        let start = net(&Device::flex().autodiff());
        let mut ema = EmaConfig::new().with_decay(0.0).init(&start).expect("valid");
        let infinite = start.clone().map(&mut Full(f32::INFINITY));
        let _ = ema.update(infinite);
        let start = ema.update(start);
        assert_eq!(values(&ema.model(&start)), values(&start));
    }

    struct Full(f32);
    impl burn::module::ModuleMapper for Full {
        fn map_float<const D: usize>(
            &mut self,
            param: burn::module::Param<Tensor<D>>,
        ) -> burn::module::Param<Tensor<D>> {
            param.map(|old| old.full_like(self.0).detach().require_grad())
        }
    }

    #[test]
    fn a_model_in_evaluation_mode_is_averaged_too() {
        for device in devices() {
            let start = net(&device.autodiff());
            let ema = |model| EmaConfig::new().with_decay(0.5).init(model).expect("valid");
            let lookahead = LookaheadConfig::new().with_every(2).init(&start.valid());
            let (mut on, mut off, mut lookahead) =
                (ema(&start), ema(&start.valid()), lookahead.expect("valid"));
            let (mut swa, mut swa_off) = (Swa::new(), Swa::new());
            let fast = path(&start, 3, |model| {
                let _ = swa_off.update(off.update(model.valid()));
                lookahead.after_step(swa.update(on.update(model)))
            });
            for [on, off] in [
                [on.model(&start), on.model(&start.valid())],
                [on.model(&start), off.model(&start)],
                [swa.model(&start), swa.model(&start.valid())],
                [swa.model(&start), swa_off.model(&start.valid())],
            ] {
                assert_eq!(values(&on), values(&off));
                assert_ne!(values(&on), values(&start));
            }
            assert_eq!(values(&lookahead.slow(&start.valid())), fast[2]);
            assert!(!on.model(&start.valid()).linear.weight.val().is_autodiff());
        }
    }

    #[test]
    fn frozen_parameters_are_left_out() {
        let device = Device::flex().autodiff();
        let group = burn::module::ParamGroup::from_path("linear.bias");
        let start = net(&device).freeze_group(group);
        for model in [start.clone(), start.valid()] {
            let mut ema = EmaConfig::new().with_decay(0.5).init(&model).expect("valid");
            let moved = ema.update(model.map(&mut Fill(DType::F32, 70)));
            let averaged = ema.model(&moved);
            for ((path, seen), (_, moved)) in named(&averaged).into_iter().zip(named(&moved)) {
                assert_eq!(seen == moved, path == "linear.bias", "{path}");
            }
        }
    }

    #[test]
    fn averages_of_16_bits_move_by_less_than_a_digit() {
        for device in devices() {
            for dtype in [DType::F16, DType::BF16] {
                if !device.supports_dtype(dtype) {
                    continue;
                }
                let start = net_of(&device.clone().autodiff(), dtype);
                let there = start.clone().map(&mut Fill(dtype, 70));
                let config = EmaConfig::new().with_decay(0.999).with_warmup(false);
                let mut ema = config.init(&start).expect("valid");
                // Not moved yet, it is saved in the model's own type.
                let bytes = ema.into_bytes().expect("bytes");
                ema = ema.from_bytes(bytes, &start).expect("loads");
                for _ in 0..500 {
                    let _ = ema.update(there.clone());
                }
                let left = 0.999f32.powi(500);
                let seen = values(&ema.model(&start));
                for (seen, (a, b)) in seen.iter().zip(values(&start).iter().zip(values(&there))) {
                    let expected = b + (a - b) * left;
                    let digit = if dtype == DType::F16 { 1e-3 } else { 8e-3 };
                    let off = (seen - expected).abs();
                    assert!(off <= digit * expected.abs() + 1e-4, "{dtype:?} {seen} {expected}");
                }
                let averaged = ema.model(&start);
                assert_eq!(averaged.linear.weight.val().dtype(), dtype);
                let bytes = ema.into_bytes().expect("bytes");
                let mut again = ema.from_bytes(bytes.clone(), &start).expect("loads");
                assert_eq!(*again.into_bytes().expect("bytes"), *bytes);
                let _ = again.update(there);
                assert_ne!(*again.into_bytes().expect("bytes"), *bytes);
            }
        }
    }
}
