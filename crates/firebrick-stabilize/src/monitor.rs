//! Watches gradients and updates, every so many steps, into the history.
//!
//! | record | what | cost |
//! | --- | --- | --- |
//! | `grad_norm` | global norm before clipping | shared with the guards of the chain, else one pass over the gradients |
//! | `grad_norm/<layer>` | norm of each layer | none |
//! | `grad_slope` | slope of ln(norm / sqrt(elements)) over the weights' depth | none |
//! | `zero_gradients` | share of gradient elements that are 0 | one pass over the gradients |
//! | `update_ratio/<parameter>` | log10 of mean abs update over mean abs weight | two passes over the weights and memory for them: a copy in host memory is written at each look, on a device the optimizer writes new ones |
//!
//! Healthy: slope within 0.5 either way, fewer than 0.7 zeros, update ratios between -4 and -1, best near -3
//! (A. Karpathy, CS231n; X. Zhang et al., "AutoTrainer", ICSE 2021). The slope of
//! weight gradients is blind to faults that shrink activations and blow up errors alike: watch activations by
//! [`Taps`](crate::Taps) too. From gradients and weights in host memory nothing is read. From a device all numbers
//! before the step come in one read, which is also that of the norms where the monitor stands first in its chain, and
//! all after it in another. Names are made at the first look; a step at which nothing is looked at costs nothing.

use crate::guard::{alone, remembers};
use crate::norm::{Gathered, layer};
use crate::read::read;
use crate::reduce::zeros;
use crate::updates::{After, Before};
use crate::{Guard, Measured, NormType, TensorNorm, Verdict, depth_slope};
use burn::config::Config;
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{FloatDType, Tensor};
use firebrick_backend::host::HostTensor;
use firebrick_backend::{Role, parameters};
use firebrick_core::{ConfigError, Record, check, names};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::iter::Enumerate;
use std::slice::Iter;

/// Configuration of [`Monitor`].
#[derive(Config, Debug)]
pub struct MonitorConfig {
    /// Every how many steps it looks; at least 1.
    #[config(default = 10)]
    pub every: usize,
    /// Whether the norm of every layer is recorded.
    #[config(default = true)]
    pub layers: bool,
    /// Whether zeros are counted.
    #[config(default = true)]
    pub zeros: bool,
    /// Whether updates are compared with weights.
    #[config(default = true)]
    pub updates: bool,
}

impl MonitorConfig {
    /// Checks the values and builds the monitor.
    ///
    /// # Errors
    /// When `every` is 0.
    pub fn init(&self) -> Result<Monitor, ConfigError> {
        check::at_least("every", self.every, 1)?;
        Ok(Monitor {
            config: self.clone(),
            step: 0,
            places: Places::default(),
            before: Before::default(),
            values: BTreeMap::new(),
        })
    }
}

/// Measures and changes nothing: it always proceeds. Put it first, so that it sees gradients before clipping.
///
/// ```
/// use firebrick_stabilize::{ClipGlobalNormConfig, MonitorConfig};
/// let guards = (MonitorConfig::new().init()?, ClipGlobalNormConfig::new(1.0).init()?);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Serialize, Deserialize)]
pub struct Monitor {
    config: MonitorConfig,
    step: usize,
    /// Those of the model that was looked at last.
    #[serde(skip)]
    places: Places,
    /// The weights before the step whose update is compared with them.
    #[serde(skip)]
    before: Before,
    values: BTreeMap<String, f64>,
}

impl Monitor {
    /// What was measured last, by name.
    #[must_use]
    pub fn values(&self) -> &BTreeMap<String, f64> {
        &self.values
    }
}

impl Guard for Monitor {
    alone!();
    remembers!(Monitor);

    fn before_step_sharing<M: Module>(
        &mut self,
        model: &M,
        gradients: &mut GradientsParams,
        _: f64,
        measured: &mut Measured,
    ) -> Verdict {
        let Self { config, step, places, before, values } = self;
        let due = step.is_multiple_of(config.every);
        *step += 1;
        before.clear();
        if !due {
            return Verdict::Proceed;
        }
        values.clear();
        let known = measured.knows(NormType::Two);
        let mut seen = Look::at(model, gradients, config, &places.all, before, known);
        if !seen.fits {
            *places = Places::of(model);
            seen = Look::at(model, gradients, config, &places.all, before, known);
        }
        let found = match seen.gathered {
            Some(gathered) => measured.learn(gathered, seen.found),
            None => read(seen.found),
        };
        let norms = measured.nameless(model, gradients, NormType::Two);
        values.insert(names::GRADIENT_NORM.into(), norms.global);
        // Both stand in the order of the walk.
        let mut all = places.all.iter();
        let placed = norms.tensors.iter();
        let placed = placed.filter_map(|norm| Some((all.find(|at| at.id == norm.id)?, norm)));
        let tensors: Vec<(&Place, &TensorNorm)> = placed.collect();
        if config.layers {
            // As a rule the parameters of a layer stand together.
            let mut starts = vec![(usize::MAX, 0); places.layers.len()];
            for (index, (place, _)) in tensors.iter().enumerate() {
                let (start, end) = &mut starts[place.layer];
                (*start, *end) = ((*start).min(index), index + 1);
            }
            for (layer, (start, end)) in starts.into_iter().enumerate() {
                let Some(span) = tensors.get(start..end) else { continue };
                let own = span.iter().filter(|(place, _)| place.layer == layer);
                let norm = NormType::Two.combine(own.map(|(_, tensor)| tensor.norm));
                values.insert(places.layers[layer].clone(), norm);
            }
        }
        let weights = tensors.iter().filter(|(place, _)| place.weight);
        let sizes: Vec<f64> =
            weights.map(|(_, tensor)| tensor.norm / (tensor.elements as f64).sqrt()).collect();
        if let Some(slope) = depth_slope(&sizes) {
            values.insert("grad_slope".into(), slope);
        }
        let elements: usize = tensors.iter().map(|(_, tensor)| tensor.elements).sum();
        if config.zeros && elements > 0 {
            let zeros = seen.zeros as f64 + found.into_iter().sum::<f64>();
            values.insert("zero_gradients".into(), zeros / elements as f64);
        }
        Verdict::Proceed
    }

    fn after_step<M: Module>(&mut self, model: &M) {
        if self.before.is_empty() {
            return;
        }
        for (place, (moved, size)) in After::of(model, &self.before) {
            // Weights that start at 0 have no ratio.
            if size > 0.0
                && let Some(place) = self.places.all.get(place)
            {
                self.values.insert(place.ratio.clone(), (moved / size).log10());
            }
        }
        self.before.clear();
    }

    fn record(&self, record: &mut Record) {
        let values = self.values.iter().map(|(name, &value)| (name.clone(), value));
        record.values.extend(values);
    }
}

/// The float parameters in the order of a walk, and the names of what is said of them, which cost more than the numbers
/// of a small tensor.
#[derive(Debug, Default)]
struct Places {
    all: Vec<Place>,
    /// The name of each layer's norm.
    layers: Vec<String>,
}

#[derive(Debug)]
struct Place {
    id: ParamId,
    /// The name of its update ratio.
    ratio: String,
    /// Which layer it belongs to.
    layer: usize,
    weight: bool,
    /// Whether the walk met it for the first time: a shared one has several places.
    first: bool,
}

impl Places {
    fn of<M: Module>(model: &M) -> Self {
        let (mut seen, mut known, mut places) = (HashSet::new(), HashMap::new(), Self::default());
        for parameter in parameters(model) {
            let name = format!("{}/{}", names::GRADIENT_NORM, layer(&parameter.path));
            let layer = *known.entry(name.clone()).or_insert(places.layers.len());
            if layer == places.layers.len() {
                places.layers.push(name);
            }
            places.all.push(Place {
                id: parameter.id,
                ratio: format!("update_ratio/{}", parameter.path),
                layer,
                weight: parameter.role == Role::Weight,
                first: seen.insert(parameter.id),
            });
        }
        places
    }
}

/// Looks at gradients and weights in one walk.
struct Look<'a> {
    gradients: &'a GradientsParams,
    config: &'a MonitorConfig,
    places: Enumerate<Iter<'a, Place>>,
    before: &'a mut Before,
    seen: Seen,
}

/// What a walk saw.
struct Seen {
    /// Whether the walk met what the places say.
    fits: bool,
    /// The gradients, where their norms are not known yet.
    gathered: Option<Gathered>,
    /// Zeros in host memory.
    zeros: usize,
    /// Zeros elsewhere, still on the device.
    found: Vec<Tensor<1>>,
}

impl Look<'_> {
    fn at<M: Module>(
        model: &M,
        gradients: &GradientsParams,
        config: &MonitorConfig,
        places: &[Place],
        before: &mut Before,
        known: bool,
    ) -> Seen {
        before.clear();
        let gathered = (!known).then(|| Gathered::new(NormType::Two, gradients.len()));
        let seen = Seen { fits: true, gathered, zeros: 0, found: Vec::new() };
        let places = places.iter().enumerate();
        let mut look = Look { gradients, config, places, before, seen };
        model.visit(&mut look);
        look.seen.fits &= look.places.next().is_none();
        look.seen
    }

    fn look<const D: usize>(&mut self, id: ParamId, gradient: Tensor<D>) {
        let Seen { gathered, zeros: count, found, .. } = &mut self.seen;
        match HostTensor::take(gradient) {
            Ok(gradient) => {
                if self.config.zeros {
                    *count += zeros(gradient.as_slice());
                }
                if let Some(gathered) = gathered {
                    gathered.take_host(id, String::new(), gradient);
                }
            }
            Err(gradient) => {
                if self.config.zeros {
                    // A mean rather than a sum, so that f32 counts exactly enough beyond 2^24.
                    let elements = gradient.shape().num_elements() as f64;
                    let share = gradient.clone().equal_scalar(0.0).cast(FloatDType::F32);
                    found.push(share.mean().mul_scalar(elements));
                }
                if let Some(gathered) = gathered {
                    gathered.take_device(id, String::new(), gradient);
                }
            }
        }
    }
}

impl ModuleVisitor for Look<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let place = self.places.next().filter(|(_, place)| place.id == param.id);
        let Some((index, place)) = place.filter(|_| self.seen.fits) else {
            self.seen.fits = false;
            return;
        };
        if self.config.updates && param.is_require_grad() {
            self.before.take(index, param);
        }
        if !place.first {
            return;
        }
        let Some(gradient) = self.gradients.get::<D>(param.id) else { return };
        if gradient.shape().num_elements() > 0
            && (self.config.zeros || self.seen.gathered.is_some())
        {
            self.look(param.id, gradient);
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::ClipGlobalNormConfig;
    use crate::tests::{gradients, model};
    use burn::optim::SgdConfig;
    use firebrick_backend::testing::devices;

    #[test]
    fn every_value_has_its_closed_form() {
        for device in devices() {
            let model = crate::initialize(
                model(&device),
                crate::Scheme::Constant { value: 0.5 },
                firebrick_core::Seed(1),
            );
            let mut guards = (
                MonitorConfig::new().with_every(1).init().expect("valid"),
                ClipGlobalNormConfig::new(1e9).init().expect("valid"),
            );
            let mut grads = gradients(&model, &device, &[3.0, 0.0], &[4.0]);
            assert_eq!(guards.before_step(&model, &mut grads, 1.0), Verdict::Proceed);
            let mut optimizer = SgdConfig::new().init();
            let model = optimizer.step(0.01, model, grads);
            guards.after_step(&model);
            let mut record = Record::new(1, 1);
            guards.record(&mut record);
            let close = |name: &str, expected: f64| {
                let value = record.get(name).unwrap_or_else(|| panic!("{name} in {record:?}"));
                assert!((value - expected).abs() < 1e-5, "{name} {value}");
            };
            close("grad_norm", 5.0);
            close("grad_norm/layer", 5.0);
            close("zero_gradients", 1.0 / 3.0);
            // The weights (0.5, 0.5) move by (0.03, 0).
            close("update_ratio/layer.weight", (0.015f64 / 0.5).log10());
            assert_eq!(record.get("update_ratio/layer.bias"), None);
        }
    }

    #[test]
    fn it_looks_only_when_due() {
        for device in devices() {
            let model = model(&device);
            let mut monitor = MonitorConfig::new().with_every(2).init().expect("valid");
            for (step, weight) in [3.0, 30.0, 6.0].into_iter().enumerate() {
                let mut grads = gradients(&model, &device, &[weight, 0.0], &[0.0]);
                monitor.before_step(&model, &mut grads, 1.0);
                assert_eq!(monitor.before.is_empty(), step % 2 == 1);
                monitor.after_step(&model);
            }
            assert_eq!(monitor.values()["grad_norm"], 6.0);
            assert!(MonitorConfig::new().with_every(0).init().is_err());
        }
    }

    #[test]
    fn a_device_is_read_once_before_the_step_and_once_after() {
        use crate::read::READS;
        use burn::nn::LinearConfig;
        use burn::tensor::DType;
        for device in devices() {
            // No host path knows f64, so that every back-end is read like a device.
            if !device.supports_dtype(DType::F64) {
                continue;
            }
            let tracked = device.clone().autodiff();
            let mut model = LinearConfig::new(2, 1).with_bias(false).init(&tracked);
            let weight = Tensor::<2>::from_data([[0.5f32], [0.5]], (&tracked, DType::F64));
            model.weight = Param::from_tensor(weight);
            let mut grads = GradientsParams::new();
            let gradient = Tensor::<2>::from_data([[3.0f32], [0.0]], (&device, DType::F64));
            grads.register::<2>(model.weight.id, gradient);
            let mut guards = (
                MonitorConfig::new().with_every(1).init().expect("valid"),
                ClipGlobalNormConfig::new(1e9).init().expect("valid"),
            );
            let start = READS.get();
            guards.before_step(&model, &mut grads, 1.0);
            assert_eq!(READS.get() - start, 1);
            model.weight = model
                .weight
                .map(|old| old.set_require_grad(false).mul_scalar(0.9).set_require_grad(true));
            guards.after_step(&model);
            assert_eq!(READS.get() - start, 2);
            let values = guards.0.values();
            assert!((values["grad_norm"] - 3.0).abs() < 1e-12);
            assert_eq!(values["zero_gradients"], 0.5);
            assert!((values["update_ratio/weight"] + 1.0).abs() < 1e-6, "{values:?}");
        }
    }

    #[test]
    fn the_slope_is_that_of_the_weights_over_depth() {
        use burn::nn::LinearConfig;
        for device in devices() {
            let layers: Vec<_> =
                (0..3).map(|_| LinearConfig::new(2, 2).init(&device.clone().autodiff())).collect();
            let mut grads = GradientsParams::new();
            for (depth, layer) in layers.iter().enumerate() {
                let value = 0.1f64.powi(depth as i32);
                grads.register::<2>(layer.weight.id, Tensor::full([2, 2], value, &device));
            }
            let mut monitor = MonitorConfig::new().init().expect("valid");
            monitor.before_step(&layers, &mut grads, 1.0);
            assert!((monitor.values()["grad_slope"] - 0.1f64.ln()).abs() < 1e-5);
        }
    }
}
