//! Watches gradients and updates, every so many steps, into the history.
//!
//! | record | what | cost |
//! | --- | --- | --- |
//! | `grad_norm` | global norm before clipping | shared with the guards of the chain, else one pass over the gradients |
//! | `grad_norm/<layer>` | norm of each layer | none |
//! | `grad_slope` | slope of ln(norm / sqrt(elements)) over the weights' depth | none |
//! | `zero_gradients` | share of gradient elements that are 0 | one pass over the gradients |
//! | `update_ratio/<parameter>` | log10 of mean abs update over mean abs weight | two passes over the weights; the old weights are held for the step, so the optimizer writes new ones: one copy of the parameters |
//!
//! Healthy: slope within 0.5 either way, fewer than 0.7 zeros, update ratios between -4 and -1, best near -3
//! (A. Karpathy, CS231n; X. Zhang et al., "AutoTrainer", ICSE 2021). The slope of
//! weight gradients is blind to faults that shrink activations and blow up errors alike: watch activations by
//! [`Taps`](crate::Taps) too. From gradients and weights in host memory nothing is read. From a device all numbers
//! before the step come in one read, which is also that of the norms where the monitor stands first in its chain, and
//! all after it in another.

use crate::guard::{alone, remembers};
use crate::read::read;
use crate::reduce::{change, zeros};
use crate::{Guard, Measured, NormType, Verdict, depth_slope};
use burn::config::Config;
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{FloatDType, Tensor};
use firebrick_backend::host::HostTensor;
use firebrick_backend::{PathStack, Role};
use firebrick_core::{ConfigError, Record, check, names};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};

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
        Ok(Monitor { config: self.clone(), step: 0, before: Vec::new(), values: BTreeMap::new() })
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
    /// The weights before the step whose update is compared with them.
    #[serde(skip)]
    before: Vec<Held>,
    values: BTreeMap<String, f64>,
}

impl Monitor {
    fn note_ratio(&mut self, path: &str, (moved, size): (f64, f64)) {
        // Weights that start at 0 have no ratio.
        if size > 0.0 {
            self.values.insert(format!("update_ratio/{path}"), (moved / size).log10());
        }
    }

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
        let due = self.step.is_multiple_of(self.config.every);
        self.step += 1;
        self.before.clear();
        if !due {
            return Verdict::Proceed;
        }
        self.values.clear();
        let mut look = Look::new(gradients, &self.config);
        model.visit(&mut look);
        let found = std::mem::take(&mut look.found);
        let (norms, found) = measured.norms_with(model, gradients, NormType::Two, found);
        self.values.insert(names::GRADIENT_NORM.into(), norms.global);
        if self.config.layers {
            for (layer, norm) in norms.layers() {
                self.values.insert(format!("{}/{layer}", names::GRADIENT_NORM), norm);
            }
        }
        let by_id: HashMap<ParamId, f64> =
            norms.tensors.iter().map(|tensor| (tensor.id, tensor.norm)).collect();
        let sizes: Vec<f64> = look
            .weights
            .iter()
            .filter_map(|(id, elements)| Some(by_id.get(id)? / (*elements as f64).sqrt()))
            .collect();
        if let Some(slope) = depth_slope(&sizes) {
            self.values.insert("grad_slope".into(), slope);
        }
        if self.config.zeros && look.elements > 0 {
            let zeros = look.zeros as f64 + found.into_iter().sum::<f64>();
            self.values.insert("zero_gradients".into(), zeros / look.elements as f64);
        }
        self.before = look.held;
        Verdict::Proceed
    }

    fn after_step<M: Module>(&mut self, model: &M) {
        let held = std::mem::take(&mut self.before);
        if held.is_empty() {
            return;
        }
        let mut after = After { held: held.into_iter(), ..After::default() };
        model.visit(&mut after);
        let pairs = read(after.found);
        let there = pairs.chunks_exact(2).map(|pair| (pair[0], pair[1]));
        for (path, ratio) in after.ratios.into_iter().chain(after.paths.into_iter().zip(there)) {
            self.note_ratio(&path, ratio);
        }
    }

    fn record(&self, record: &mut Record) {
        record.values.extend(self.values.clone());
    }
}

/// Looks at gradients and weights in one walk.
struct Look<'a> {
    gradients: &'a GradientsParams,
    config: &'a MonitorConfig,
    path: PathStack,
    seen: HashSet<ParamId>,
    /// Parameters that are weights, in order, with their number of elements.
    weights: Vec<(ParamId, usize)>,
    /// Of all gradients together.
    elements: usize,
    /// Zeros in host memory.
    zeros: usize,
    /// Zeros elsewhere, still on the device.
    found: Vec<Tensor<1>>,
    held: Vec<Held>,
}

impl<'a> Look<'a> {
    fn new(gradients: &'a GradientsParams, config: &'a MonitorConfig) -> Self {
        Self {
            gradients,
            config,
            path: PathStack::default(),
            seen: HashSet::new(),
            weights: Vec::new(),
            elements: 0,
            zeros: 0,
            found: Vec::new(),
            held: Vec::new(),
        }
    }

    fn count<const D: usize>(&mut self, gradient: Tensor<D>, elements: usize) {
        let gradient = match HostTensor::take(gradient) {
            Ok(host) => {
                self.zeros += zeros(host.as_slice());
                return;
            }
            Err(gradient) => gradient,
        };
        // A mean rather than a sum, so that f32 counts exactly enough beyond 2^24.
        let share = gradient.equal_scalar(0.0).float().cast(FloatDType::F32).mean();
        self.found.push(share.mul_scalar(elements as f64));
    }
}

impl ModuleVisitor for Look<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.config.updates
            && param.is_require_grad()
            && let Some(values) = Values::of(param)
        {
            self.held.push(Held { id: param.id, path: self.path.path(), values });
        }
        let Some(gradient) = self.gradients.get::<D>(param.id) else { return };
        let elements = gradient.shape().num_elements();
        if elements == 0 || !self.seen.insert(param.id) {
            return;
        }
        self.elements += elements;
        if self.path.role(D) == Role::Weight {
            self.weights.push((param.id, elements));
        }
        if self.config.zeros {
            self.count(gradient, elements);
        }
    }
}

/// A trainable parameter as it was before the step.
#[derive(Debug)]
struct Held {
    id: ParamId,
    path: String,
    values: Values,
}

/// Numbers, flat, without autodiff.
#[derive(Debug)]
enum Values {
    Host(HostTensor),
    Device(Tensor<1>),
}

impl Values {
    /// `None` where there is none.
    fn of<const D: usize>(param: &Param<Tensor<D>>) -> Option<Self> {
        let value = param.val();
        let value = if value.is_autodiff() { value.inner() } else { value };
        let elements = value.shape().num_elements();
        (elements > 0).then(|| match HostTensor::take(value) {
            Ok(host) => Self::Host(host),
            Err(value) => Self::Device(value.reshape([elements])),
        })
    }
}

/// Compares the parameters after the step with what was held, which stands in the order of the same walk.
#[derive(Default)]
struct After {
    held: std::vec::IntoIter<Held>,
    /// Mean change and mean magnitude.
    ratios: Vec<(String, (f64, f64))>,
    /// The same of parameters that are not in host memory, still on the device.
    paths: Vec<String>,
    found: Vec<Tensor<1>>,
}

impl ModuleVisitor for After {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.held.as_slice().first().is_none_or(|next| next.id != param.id) {
            return;
        }
        let (Some(Held { path, values, .. }), Some(new)) = (self.held.next(), Values::of(param))
        else {
            return;
        };
        match (values, new) {
            (Values::Host(old), Values::Host(new)) if old.len() == new.len() => {
                self.ratios.push((path, change(old.as_slice(), new.as_slice())));
            }
            (Values::Device(old), Values::Device(new)) if old.dims() == new.dims() => {
                let moved = (new - old.clone()).abs().mean();
                self.paths.push(path);
                self.found.push(Tensor::cat(vec![moved, old.abs().mean()], 0));
            }
            _ => {}
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
