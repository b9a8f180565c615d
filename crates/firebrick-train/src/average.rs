//! Averages of the weights: what is judged and given back instead of the weights of the last step.
//!
//! # Formulas
//! ```text
//! EMA    s <- d_t s + (1 - d_t) w,   d_t = min(d, (1 + t) / (10 + t)), t = 0 at the first step
//! SWA    s <- s + (w - s) / n        over the n weights from the start on
//! ```
//! Trainable parameters are averaged; running statistics are those of the last step, until
//! [`recalibration`](SwaConfig::recalibration) measures them anew. A skipped step does not count, the batches of
//! one accumulated step count as one. The average of weights in half precision is kept in f32, for its steps are
//! smaller than their last digit, and rounded where it is judged.
//!
//! # Reference
//! B. Polyak, A. Juditsky, "Acceleration of stochastic approximation by averaging", 1992; P. Izmailov et al.,
//! "Averaging weights leads to wider optima and better generalization", UAI 2018.

use burn::config::Config;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor};
use firebrick_backend::widened;
use firebrick_core::{ConfigError, check};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Configuration of the exponential moving average.
#[derive(Config, Debug)]
pub struct EmaConfig {
    /// How much of the average stays at each step, in [0, 1); 0.999 averages over about the last 1000 steps.
    #[config(default = 0.999)]
    pub decay: f64,
    /// Whether the decay rises from 0.1 with the steps, so that the average leaves the initial weights behind.
    #[config(default = true)]
    pub warm_up: bool,
}

/// Configuration of stochastic weight averaging.
#[derive(Config, Debug)]
pub struct SwaConfig {
    /// The step after which the first weights are taken; three quarters of the run are usual. The weights of the
    /// training itself are judged until then.
    pub start: u64,
    /// After every how many steps weights are taken; an epoch's steps are usual.
    #[config(default = 1)]
    pub every: u64,
    /// Over how many training batches the running statistics of batch norm are measured anew before the average is
    /// judged; 0 keeps those of the last step. They come out as the statistics over all these batches together, of
    /// which those of another size than the first are left out; 100 to 200 are enough.
    #[config(default = 100)]
    pub recalibration: usize,
}

/// Which average.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Averaging {
    /// The exponential moving average.
    Ema(EmaConfig),
    /// Stochastic weight averaging: the plain mean.
    Swa(SwaConfig),
}

impl Averaging {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        match self {
            Self::Ema(config) => check::range("decay", config.decay, 0.0..1.0).map(drop),
            Self::Swa(config) if config.every == 0 => {
                Err(ConfigError::new("every", 0, "at least 1"))
            }
            Self::Swa(_) => Ok(()),
        }
    }
}

/// The average and what has gone into it.
#[derive(Debug)]
pub(crate) struct Average<M> {
    kind: Averaging,
    /// In evaluation mode; what has been averaged of half precision stands in f32.
    pub(crate) model: M,
    /// Weights taken.
    pub(crate) taken: u64,
    /// The float type of each trainable parameter where it trains.
    trained: HashMap<ParamId, DType>,
}

impl<M: Module> Average<M> {
    /// An average that starts with `model`, which is in training mode.
    pub(crate) fn new(kind: Averaging, model: &M) -> Self {
        let mut average = Self { kind, model: model.valid(), taken: 0, trained: HashMap::new() };
        average.follow(model);
        average
    }

    /// Takes note of which parameters of `model` are trainable; their identities change where a record is loaded.
    pub(crate) fn follow(&mut self, model: &M) {
        struct Types(HashMap<ParamId, DType>);
        impl ModuleVisitor for Types {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if param.is_require_grad() {
                    self.0.insert(param.id, param.base().dtype());
                }
            }
        }
        let mut types = Types(HashMap::new());
        model.visit(&mut types);
        self.trained = types.0;
    }

    /// The averaged model, with running statistics of its own.
    pub(crate) fn weights(&self) -> M {
        struct Narrow<'a>(&'a HashMap<ParamId, DType>);
        impl ModuleMapper for Narrow<'_> {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                match self.0.get(&param.id) {
                    Some(&dtype) => param.map(|average| average.cast(dtype)),
                    None => param,
                }
            }
        }
        self.model.valid().map(&mut Narrow(&self.trained))
    }

    /// Takes the weights after optimizer step number `step`, counted from 1.
    pub(crate) fn take(&mut self, model: &M, step: u64) {
        let share = match &self.kind {
            Averaging::Ema(config) => {
                let t = self.taken as f64;
                let warm = if config.warm_up { (1.0 + t) / (10.0 + t) } else { 1.0 };
                1.0 - config.decay.min(warm)
            }
            Averaging::Swa(config) => {
                let due =
                    step >= config.start && (step - config.start).is_multiple_of(config.every);
                if !due {
                    return;
                }
                1.0 / (self.taken + 1) as f64
            }
        };
        self.taken += 1;
        let mut now = Collect(GradientsParams::new());
        // Brings the running statistics up to date.
        model.valid().visit(&mut now);
        let mut mix = Mix { now: now.0, share, trained: &self.trained };
        self.model = self.model.valid().map(&mut mix);
    }

    /// Whether the average is what is to be judged.
    pub(crate) fn counts(&self) -> bool {
        self.taken > 0
    }

    /// Over how many batches to measure running statistics.
    pub(crate) fn recalibration(&self) -> usize {
        match &self.kind {
            Averaging::Swa(config) if self.taken > 0 => config.recalibration,
            _ => 0,
        }
    }

    /// The same average, which no longer moves with this one.
    pub(crate) fn snapshot(&self) -> Self {
        Self {
            kind: self.kind.clone(),
            model: self.model.valid(),
            taken: self.taken,
            trained: self.trained.clone(),
        }
    }
}

/// All float values of a module by identity.
struct Collect(GradientsParams);

impl ModuleVisitor for Collect {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // What is trained: the value of a reparameterized weight is made of it, also of its average.
        self.0.register::<D>(param.id, param.base());
    }
}

struct Mix<'a> {
    now: GradientsParams,
    share: f64,
    trained: &'a HashMap<ParamId, DType>,
}

impl ModuleMapper for Mix<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(now) = self.now.remove::<D>(param.id) else { return param };
        if !self.trained.contains_key(&param.id) {
            return param.map(|_| now);
        }
        let (now, share) = (widened(now), self.share);
        param.map(|average| match widened(average) {
            average if share < 1.0 => average.clone() + (now - average).mul_scalar(share),
            // The weight itself, to the bit.
            _ => now,
        })
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{config, data, deep, net, weights};
    use crate::{Batches, Fit, Learn, TensorBatches};
    use burn::optim::SgdConfig;
    use burn::tensor::Device;
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;
    use firebrick_regularize::MaskSource;

    fn read(weight: Tensor<2>) -> Vec<f64> {
        weight.try_to_vec_as().expect("reads")
    }

    /// The weights after each of the 18 steps, and the average that `Fit` gives back.
    fn path(device: &Device, kind: Averaging) -> (Vec<Vec<f64>>, Vec<f64>) {
        let device = device.clone().autodiff();
        let train = data(&device, 1.0);
        let (mut model, mut optimizer) = (net(&device), SgdConfig::new().init());
        let mut path = vec![read(model.layer.weight.val().inner())];
        for batch in (1..=3).flat_map(|epoch| Batches::epoch(&train, epoch)) {
            let gradients = GradientsParams::from_grads(model.loss(batch).backward(), &model);
            model = optimizer.step(0.5, model, gradients);
            path.push(read(model.layer.weight.val().inner()));
        }
        let fitted = Fit::new(config(3), SgdConfig::new().init())
            .rate(|_| 0.5)
            .average(kind)
            .run(net(&device), &train, None)
            .expect("trains");
        (path, read(fitted.model.layer.weight.val()))
    }

    fn close(left: &[f64], right: &[f64]) {
        for (left, right) in left.iter().zip(right) {
            assert!((left - right).abs() < 1e-6, "{left} {right}");
        }
    }

    #[test]
    fn the_moving_average_is_the_closed_form() {
        for device in devices() {
            for (decay, warm_up) in [(0.9, false), (0.9, true), (0.3, true), (0.0, false)] {
                let kind = EmaConfig::new().with_decay(decay).with_warm_up(warm_up);
                let (path, average) = path(&device, Averaging::Ema(kind));
                let mut expected = path[0].clone();
                for (t, weights) in path[1..].iter().enumerate() {
                    let warm = (1.0 + t as f64) / (10.0 + t as f64);
                    let d = if warm_up { decay.min(warm) } else { decay };
                    for (average, weight) in expected.iter_mut().zip(weights) {
                        *average = d * *average + (1.0 - d) * weight;
                    }
                }
                close(&average, &expected);
            }
        }
    }

    #[test]
    fn the_plain_average_is_the_mean_of_what_was_taken() {
        for device in devices() {
            let kind = Averaging::Swa(SwaConfig::new(10).with_every(4));
            let (path, average) = path(&device, kind);
            let mean = |i: usize| (path[10][i] + path[14][i] + path[18][i]) / 3.0;
            close(&average, &(0..4).map(mean).collect::<Vec<_>>());
            let late = Averaging::Swa(SwaConfig::new(99));
            let (path, last) = self::path(&device, late);
            assert_eq!(last, path[18], "before its start the training's own weights count");
        }
    }

    #[test]
    fn of_a_reparameterized_weight_what_is_trained_is_averaged() {
        use firebrick_stabilize::{Select, normalize_weights, standardize_weights};
        let device = Device::flex().autodiff();
        let train = data(&device, 1.0);
        let weight = Select::path("layer.weight");
        for standardized in [false, true] {
            let start = || {
                if standardized {
                    standardize_weights(net(&device), &weight, 1e-6)
                } else {
                    normalize_weights(net(&device), &weight)
                }
            };
            let (mut model, mut optimizer) = (start().expect("fits"), SgdConfig::new().init());
            let mut expected = read(model.layer.weight.base().inner());
            for batch in (1..=3).flat_map(|epoch| Batches::epoch(&train, epoch)) {
                let gradients = GradientsParams::from_grads(model.loss(batch).backward(), &model);
                model = optimizer.step(0.5, model, gradients);
                for (mean, now) in expected.iter_mut().zip(read(model.layer.weight.base().inner()))
                {
                    *mean += 0.1 * (now - *mean);
                }
            }
            let kind = EmaConfig::new().with_decay(0.9).with_warm_up(false);
            let fitted = Fit::new(config(3), SgdConfig::new().init())
                .rate(|_| 0.5)
                .average(Averaging::Ema(kind))
                .run(start().expect("fits"), &train, None)
                .expect("trains");
            close(&read(fitted.model.layer.weight.base()), &expected);
        }
    }

    #[test]
    fn half_precision_is_averaged_in_f32() {
        #[derive(Module, Debug)]
        struct One {
            weight: Param<Tensor<1>>,
        }
        for device in devices() {
            for dtype in [DType::F16, DType::BF16] {
                if !device.supports_dtype(dtype) {
                    continue;
                }
                let ones = Tensor::<1>::ones([3], (&device.clone().autodiff(), dtype));
                let start = One { weight: Param::from_tensor(ones) };
                let twice = |weight: Tensor<1>| {
                    weight.set_require_grad(false).mul_scalar(2.0).set_require_grad(true)
                };
                let moved = One { weight: start.weight.clone().map(twice) };
                let kind = EmaConfig::new().with_decay(0.999).with_warm_up(false);
                let mut average = Average::new(Averaging::Ema(kind), &start);
                // Each step is an eighth of bf16's last digit.
                (1..=100).for_each(|step| average.take(&moved, step));
                let weight = average.weights().weight.val();
                assert_eq!(weight.dtype(), dtype);
                let expected = 2.0 - 0.999f64.powi(100);
                for weight in weight.try_to_vec_as::<f64>().expect("reads") {
                    assert!((weight - expected).abs() < 0.004, "{dtype:?} {weight} {expected}");
                }
            }
        }
    }

    #[test]
    fn the_statistics_of_the_average_are_its_own() {
        let (device, masks) = (Device::flex().autodiff(), MaskSource::new(Seed(8)));
        let model = deep(&device, &masks, 8);
        let kind = EmaConfig::new().with_decay(0.0);
        let mut average = Average::new(Averaging::Ema(kind), &model);
        average.take(&model, 1);
        let before = weights(&average.weights());
        assert_eq!(weights(&model.valid()), before);
        for batch in Batches::epoch(&data(&device, 1.0), 1) {
            let _ = model.loss(batch);
        }
        assert_ne!(weights(&model.valid()), before, "the training's have moved");
        assert_eq!(weights(&average.weights()), before);
    }

    #[test]
    fn averaging_does_not_touch_the_training() {
        let device = Device::flex().autodiff();
        let run = |kind: Option<Averaging>| {
            let masks = MaskSource::new(Seed(8));
            let mut fit = Fit::new(config(4), SgdConfig::new().init()).rate(|_| 0.3).masks(&masks);
            if let Some(kind) = kind {
                fit = fit.average(kind);
            }
            let fitted =
                fit.run(deep(&device, &masks, 8), &data(&device, 1.0), None).expect("trains");
            (weights(&fitted.model), masks.position())
        };
        let plain = run(None);
        // An average that keeps nothing is the training itself, running statistics included.
        assert_eq!(run(Some(Averaging::Ema(EmaConfig::new().with_decay(0.0)))), plain);
        // Measuring statistics draws masks, and puts them back.
        let (averaged, position) = run(Some(Averaging::Swa(SwaConfig::new(5))));
        assert_eq!(position, plain.1);
        assert_ne!(averaged, plain.0);
    }

    #[test]
    fn recalibrated_statistics_are_those_of_the_averaged_model() {
        // The average of one model with itself: measured anew, its statistics are the data's, not those of momentum.
        let device = Device::flex().autodiff();
        let run = |recalibration| {
            let masks = MaskSource::new(Seed(8));
            let kind = SwaConfig::new(1).with_recalibration(recalibration);
            let rows = data(&device, 1.0).data().clone();
            // One batch is the whole, so the mean over it has no noise.
            let whole = TensorBatches::new(rows, 40, Seed(1)).expect("valid");
            let fitted = Fit::new(config(1), SgdConfig::new().init())
                .rate(|_| 0.0)
                .average(Averaging::Swa(kind))
                .masks(&masks)
                .run(deep(&device, &masks, 8), &whole, None)
                .expect("trains");
            let statistics = weights(&fitted.model).into_iter();
            let mut statistics = statistics.filter(|(path, _)| path.ends_with("running_mean"));
            let mean = statistics.next();
            let (_, bytes) = mean.expect("batch norm has one");
            let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("four"));
            let mean: Vec<f32> = bytes.chunks(4).map(number).collect();
            let masks = MaskSource::new(Seed(8));
            let inputs = data(&device, 1.0).data().inputs.clone();
            let expected = deep(&device, &masks, 8).first(inputs).mean_dim(0);
            let expected: Vec<f32> = expected.try_to_vec_as().expect("reads");
            let gap = mean.iter().zip(&expected).map(|(mean, expected)| (mean - expected).abs());
            gap.fold(0.0, f32::max)
        };
        let (kept, measured) = (run(0), run(200));
        assert!(measured < 1e-5 && kept > 0.01, "{measured} {kept}");
    }

    #[test]
    fn bad_values_are_refused() {
        for decay in [1.0, -0.1, f64::NAN] {
            assert!(Averaging::Ema(EmaConfig::new().with_decay(decay)).check().is_err());
        }
        assert!(Averaging::Swa(SwaConfig::new(0).with_every(0)).check().is_err());
    }
}
