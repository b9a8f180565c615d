//! Spike-aware clipping and momentum reset (SPAM), the parts that live outside the optimizer.
//!
//! # Rules
//! ```text
//! clip      g_i <- sign(g_i) sqrt(theta v_i)      where v_i > 0 and g_i^2 > theta v_i
//!           v_i <- beta_2 v_i + (1 - beta_2) g_i^2
//! reset     every `interval` steps the optimizer's state is zeroed, and the rate is multiplied by
//!           (1 - cos(pi (k + 1) / warm_up)) / 2 in the k-th step after it, k < warm_up
//! ```
//! # Reference
//! T. Huang et al., "SPAM: spike-aware Adam with momentum reset", ICLR 2025 (arXiv 2501.06842).
//!
//! # Differences
//! The paper clips inside Adam, by Adam's own second moment. burn's optimizers do not show theirs, so
//! [`ClipSpikes`] keeps a second one: as much memory again as the parameters take. The published code leaves
//! Adam's step counter running at a reset, so the bias correction of the fresh zeros is missing; a new
//! optimizer, as [`MomentumReset`] asks for, has it. An element whose gradients were all 0 so far has no size to be
//! judged by and passes: pulled back to 0, its moment would stay 0, and the element for ever.

use crate::transform::{Transform, transform};
use crate::{Guard, GuardStateError, Verdict, state};
use burn::config::Config;
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};
use firebrick_backend::{PathStack, widened};
use firebrick_core::{ConfigError, check};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// Configuration of [`ClipSpikes`].
#[derive(Config, Debug)]
pub struct ClipSpikesConfig {
    /// By how much the square of an element may exceed its second moment; above 1.
    #[config(default = 5000.0)]
    pub theta: f64,
    /// The share of the old second moment that stays; in [0, 1).
    #[config(default = 0.999)]
    pub beta_2: f64,
    /// How many steps only measure, since the moment starts at 0.
    #[config(default = 20)]
    pub warm_up: u64,
}

impl ClipSpikesConfig {
    /// Checks the values and builds the guard.
    ///
    /// # Errors
    /// When `theta` is not above 1 or `beta_2` outside [0, 1).
    pub fn init(&self) -> Result<ClipSpikes, ConfigError> {
        use std::ops::Bound::{Excluded, Unbounded};
        check::range("theta", self.theta, (Excluded(1.0), Unbounded))?;
        check::range("beta_2", self.beta_2, 0.0..1.0)?;
        Ok(ClipSpikes { config: self.clone(), step: 0, moments: HashMap::new() })
    }
}

/// Pulls single elements back that are far larger than they used to be.
///
/// Elements that are not finite stay as they are and never enter the moments. A loop that resets the optimizer's
/// state calls [`Guard::momentum_reset`], which forgets the moments here too.
///
/// ```
/// use firebrick_stabilize::{ClipSpikesConfig, SkipNonFiniteConfig};
/// let guards = (SkipNonFiniteConfig::new().init()?, ClipSpikesConfig::new().init()?);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ClipSpikes {
    config: ClipSpikesConfig,
    step: u64,
    /// The second moments by parameter, flattened.
    moments: HashMap<ParamId, Tensor<1>>,
}

impl Transform for ClipSpikes {
    fn apply<const D: usize>(
        &mut self,
        _: &PathStack,
        param: &Param<Tensor<D>>,
        gradient: Tensor<D>,
    ) -> Tensor<D> {
        let (shape, dtype) = (gradient.shape(), gradient.dtype());
        // The squares of half precision overflow from 256 on, and vanish below 2e-4.
        let gradient = widened(gradient.reshape([shape.num_elements()]));
        let old = self.moments.remove(&param.id);
        let old = old.filter(|moment| moment.dims() == gradient.dims());
        let clipped = match &old {
            Some(moment) if self.step >= self.config.warm_up => {
                let bound = (moment.clone() * self.config.theta).sqrt();
                let spiked = gradient.clone().abs().greater(bound.clone());
                let known = bound.clone().greater_scalar(0.0);
                let spiked = spiked.bool_and(known).bool_and(gradient.clone().is_finite());
                gradient.clone().mask_where(spiked, gradient.sign() * bound)
            }
            _ => gradient,
        };
        let square = clipped.clone().square();
        let beta = self.config.beta_2;
        let new = match old {
            Some(moment) => {
                let broken = square.clone().is_finite().bool_not();
                (moment.clone() * beta + square * (1.0 - beta)).mask_where(broken, moment)
            }
            None => {
                let broken = square.clone().is_finite().bool_not();
                (square * (1.0 - beta)).mask_fill(broken, 0.0)
            }
        };
        self.moments.insert(param.id, new);
        clipped.cast(dtype).reshape(shape)
    }
}

impl ClipSpikes {
    /// Forgets the second moments, as the paper does at each reset.
    pub fn reset(&mut self) {
        self.moments.clear();
        self.step = 0;
    }

    /// The second moment of a parameter, flattened, for a checkpoint.
    #[must_use]
    pub fn moment(&self, id: ParamId) -> Option<TensorData> {
        self.moments.get(&id).map(|moment| moment.to_data())
    }
}

impl Guard for ClipSpikes {
    fn before_step<M: Module>(
        &mut self,
        model: &M,
        gradients: &mut GradientsParams,
        _: f64,
    ) -> Verdict {
        transform(model, gradients, self);
        self.step += 1;
        Verdict::Proceed
    }

    fn momentum_reset(&mut self) {
        self.reset();
    }

    fn state(&self) -> Result<Vec<u8>, GuardStateError> {
        let mut saved = self.saved();
        for (id, moment) in &self.moments {
            let data = moment.try_to_data().map_err(|error| {
                GuardStateError::new(format!("the second moments cannot be read: {error:?}"))
            })?;
            saved.moments.insert(id.val(), data);
        }
        state::write(KIND, &saved)
    }

    fn take_over<M: Module>(&mut self, state: &[u8], model: &M) -> Result<(), GuardStateError> {
        let saved = state::read(KIND, &self.saved(), state)?;
        self.step = saved.step;
        let mut place = Place { saved: saved.moments, moments: HashMap::new() };
        model.visit(&mut place);
        self.moments = place.moments;
        Ok(())
    }
}

const KIND: &str = "ClipSpikes";

/// What of [`ClipSpikes`] is saved.
#[derive(Serialize, Deserialize)]
struct Saved {
    config: ClipSpikesConfig,
    step: u64,
    /// By the number of the parameter's identity.
    moments: BTreeMap<u64, TensorData>,
}

impl ClipSpikes {
    /// All but the moments.
    fn saved(&self) -> Saved {
        Saved { config: self.config.clone(), step: self.step, moments: BTreeMap::new() }
    }
}

/// Puts each moment where its parameter is.
struct Place {
    saved: BTreeMap<u64, TensorData>,
    moments: HashMap<ParamId, Tensor<1>>,
}

impl ModuleVisitor for Place {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(data) = self.saved.remove(&param.id.val()) else { return };
        let device = param.val().device().inner();
        let place = (&device, data.dtype());
        self.moments.insert(param.id, Tensor::from_data(data, place));
    }
}

/// Configuration of [`MomentumReset`].
#[derive(Config, Debug)]
pub struct MomentumResetConfig {
    /// How many steps lie between two resets; at least 1.
    #[config(default = 500)]
    pub interval: u64,
    /// How many steps after a reset the rate rises again; at most `interval`.
    #[config(default = 150)]
    pub warm_up: u64,
}

impl MomentumResetConfig {
    /// Checks the values and builds the schedule.
    ///
    /// # Errors
    /// When `interval` is 0 or `warm_up` exceeds it.
    pub fn init(&self) -> Result<MomentumReset, ConfigError> {
        if self.interval == 0 {
            return Err(ConfigError::new("interval", 0, "at least 1"));
        }
        if self.warm_up > self.interval {
            let expected = format!("at most `interval`, {}", self.interval);
            return Err(ConfigError::new("warm_up", self.warm_up, expected));
        }
        Ok(MomentumReset { interval: self.interval, warm_up: self.warm_up })
    }
}

/// When to start the optimizer's state anew, and how slowly to go on after it.
///
/// A pure function of the step, so nothing of it needs saving. The state itself is the loop's:
///
/// ```
/// use burn::optim::AdamConfig;
/// use firebrick_stabilize::MomentumResetConfig;
///
/// let reset = MomentumResetConfig::new().with_interval(4).with_warm_up(2).init()?;
/// let mut optimizer = AdamConfig::new().init();
/// let mut factors = Vec::new();
/// for step in 0..8 {
///     if reset.due(step) {
///         optimizer = AdamConfig::new().init();
///     }
///     factors.push(reset.rate_factor(step)); // the step is taken at this share of the rate
/// }
/// assert!((factors[4] - 0.5).abs() < 1e-12);
/// assert_eq!((factors[3], factors[5]), (1.0, 1.0));
/// # let _ = optimizer;
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct MomentumReset {
    interval: u64,
    warm_up: u64,
}

impl MomentumReset {
    /// Whether the state is to be zeroed before step `step`, counted from 0.
    #[must_use]
    pub fn due(&self, step: u64) -> bool {
        step > 0 && step.is_multiple_of(self.interval)
    }

    /// What the learning rate of step `step` is multiplied by.
    #[must_use]
    pub fn rate_factor(&self, step: u64) -> f64 {
        let since = step % self.interval;
        if step < self.interval || since >= self.warm_up {
            return 1.0;
        }
        let share = (since + 1) as f64 / self.warm_up as f64;
        0.5 * (1.0 - (std::f64::consts::PI * share).cos())
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::tests::{gradients, model, values};
    use burn::tensor::Device;
    use firebrick_backend::testing::devices;

    /// Gives the gradient of the weight, beside 1 of the bias, to one guard step by step: what it leaves of both.
    fn stepping(device: &Device) -> impl FnMut([f32; 2]) -> Vec<f32> {
        let (model, device) = (model(device), device.clone());
        let config = ClipSpikesConfig::new().with_theta(100.0).with_beta_2(0.5).with_warm_up(2);
        let mut guard = config.init().expect("valid");
        move |weight| {
            let mut grads = gradients(&model, &device, &weight, &[1.0]);
            guard.before_step(&model, &mut grads, 0.0);
            values(&model, &grads)
        }
    }

    #[test]
    fn a_spiked_element_is_pulled_back_and_its_neighbours_stay() {
        for device in devices() {
            let mut step = stepping(&device);
            assert_eq!(step([1.0, 2.0]), [1.0, 2.0, 1.0]); // v = 0.5, 2
            assert_eq!(step([1.0, 2.0]), [1.0, 2.0, 1.0]); // v = 0.75, 3
            let after = step([-50.0, 3.0]);
            assert!((after[0] + 75f32.sqrt()).abs() < 1e-5 && after[1] == 3.0, "{after:?}");
            // v = (0.75 + 75) / 2 and (3 + 9) / 2; a broken element changes neither itself nor the moment.
            assert!(step([f32::NAN, f32::INFINITY])[0].is_nan());
            let after = step([1000.0, 1000.0]);
            assert!((after[0] - 3787.5f32.sqrt()).abs() < 1e-3, "{after:?}");
            assert!((after[1] - 600f32.sqrt()).abs() < 1e-3, "{after:?}");
        }
    }

    #[test]
    fn an_element_that_was_0_so_far_is_not_held_there() {
        for device in devices() {
            let mut step = stepping(&device);
            for _ in 0..4 {
                assert_eq!(step([0.0, 0.0]), [0.0, 0.0, 1.0]);
            }
            assert_eq!(step([1.0, 0.0]), [1.0, 0.0, 1.0]); // v = 0.5, 0
            assert_eq!(step([1.0, 5.0]), [1.0, 5.0, 1.0]); // v = 0.75, 12.5
            let after = step([-1000.0, 1000.0]);
            assert!((after[0] + 75f32.sqrt()).abs() < 1e-5, "{after:?}");
            assert!((after[1] - 1250f32.sqrt()).abs() < 1e-4, "{after:?}");
        }
    }

    #[test]
    fn half_precision_is_judged_like_f32() {
        use burn::tensor::DType;
        for device in devices() {
            if !device.supports_dtype(DType::F16) {
                continue;
            }
            let model = model(&device);
            let id = firebrick_backend::parameters(&model)[0].id;
            // The squares of the first overflow, those of the second vanish.
            for size in [1000.0, 1e-4] {
                let config =
                    ClipSpikesConfig::new().with_theta(100.0).with_beta_2(0.5).with_warm_up(2);
                let mut guard = config.init().expect("valid");
                let mut step = |values: [f64; 2]| {
                    let mut grads = GradientsParams::new();
                    let values = [[values[0]], [values[1]]];
                    let gradient = Tensor::<2>::from_data(values, (&device, DType::F16));
                    grads.register::<2>(id, gradient);
                    guard.before_step(&model, &mut grads, 0.0);
                    let after = grads.get::<2>(id).expect("present");
                    assert_eq!(after.dtype(), DType::F16);
                    after.try_to_vec_as::<f64>().expect("reads")
                };
                for _ in 0..2 {
                    let _ = step([size, size]);
                }
                // v = 0.75 size^2: the bound is 8.66 times the size.
                let after = step([-20.0 * size, 2.0 * size]);
                assert!((after[0] / size + 75f64.sqrt()).abs() < 0.01, "{after:?}");
                assert!((after[1] / size - 2.0).abs() < 0.01, "{after:?}");
            }
        }
    }

    #[test]
    fn a_momentum_reset_reaches_the_guard_through_a_chain() {
        for device in devices() {
            let model = model(&device);
            let config = ClipSpikesConfig::new().with_theta(100.0).with_beta_2(0.5).with_warm_up(1);
            let mut guards =
                ((config.init().expect("valid"),), Some(config.init().expect("valid")));
            let mut grads = gradients(&model, &device, &[1.0, 2.0], &[1.0]);
            guards.before_step(&model, &mut grads, 0.0);
            let id = firebrick_backend::parameters(&model)[0].id;
            assert!(guards.0.0.moment(id).is_some());
            guards.momentum_reset();
            assert!(guards.0.0.moment(id).is_none());
            assert!(guards.1.as_ref().is_some_and(|guard| guard.moment(id).is_none()));
            // The warm-up has begun anew too: a step that would have been a spike passes.
            let mut grads = gradients(&model, &device, &[1e3, 2e3], &[1.0]);
            guards.before_step(&model, &mut grads, 0.0);
            assert_eq!(values(&model, &grads), [1e3, 2e3, 1.0]);
        }
    }

    #[test]
    fn nothing_is_due_before_the_first_interval() {
        let reset = MomentumResetConfig::new().init().expect("valid");
        assert!(!reset.due(0) && !reset.due(499) && reset.due(500) && reset.due(1000));
        assert_eq!(reset.rate_factor(0), 1.0);
        assert!((reset.rate_factor(574) - 0.5).abs() < 1e-12);
        assert_eq!(reset.rate_factor(650), 1.0);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        assert!(ClipSpikesConfig::new().with_theta(1.0).init().is_err());
        assert!(ClipSpikesConfig::new().with_beta_2(1.0).init().is_err());
        assert!(MomentumResetConfig::new().with_interval(0).init().is_err());
        assert!(MomentumResetConfig::new().with_warm_up(501).init().is_err());
        let none = MomentumResetConfig::new().with_warm_up(0).init().expect("valid");
        assert_eq!(none.rate_factor(500), 1.0);
    }
}
