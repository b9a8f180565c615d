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
//! [`Taps`](crate::Taps) too. All numbers of a step come in two reads, one before and one after it.

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
        Ok(Monitor { config: self.clone(), step: 0, before: None, values: BTreeMap::new() })
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
    #[serde(skip)]
    before: Option<Weights>,
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
        self.before = None;
        if !due {
            return Verdict::Proceed;
        }
        self.values.clear();
        let norms = measured.norms(model, gradients, NormType::Two);
        self.values.insert(names::GRADIENT_NORM.into(), norms.global);
        if self.config.layers {
            for (layer, norm) in norms.layers() {
                self.values.insert(format!("{}/{layer}", names::GRADIENT_NORM), norm);
            }
        }
        let by_id: HashMap<ParamId, f64> =
            norms.tensors.iter().map(|tensor| (tensor.id, tensor.norm)).collect();
        let mut count = Count::new(gradients, self.config.zeros);
        model.visit(&mut count);
        let sizes: Vec<f64> = count
            .weights
            .iter()
            .filter_map(|(id, elements)| Some(by_id.get(id)? / (*elements as f64).sqrt()))
            .collect();
        if let Some(slope) = depth_slope(&sizes) {
            self.values.insert("grad_slope".into(), slope);
        }
        if self.config.zeros && count.elements > 0 {
            let zeros = count.host as f64 + read(count.found).into_iter().sum::<f64>();
            self.values.insert("zero_gradients".into(), zeros / count.elements as f64);
        }
        if self.config.updates {
            let mut weights = Weights::default();
            model.visit(&mut weights);
            self.before = Some(weights);
        }
        Verdict::Proceed
    }

    fn after_step<M: Module>(&mut self, model: &M) {
        let Some(before) = self.before.take() else { return };
        let mut after = Weights::default();
        model.visit(&mut after);
        let (mut paths, mut sums) = (Vec::new(), Vec::new());
        for ((path, old), (_, new)) in before.found.into_iter().zip(after.found) {
            match (old, new) {
                (Values::Host(old), Values::Host(new)) if old.len() == new.len() => {
                    self.note_ratio(&path, change(old.as_slice(), new.as_slice()));
                }
                (Values::Device(old), Values::Device(new)) if old.dims() == new.dims() => {
                    paths.push(path);
                    let moved = (new - old.clone()).abs().mean();
                    sums.push(Tensor::cat(vec![moved, old.abs().mean()], 0));
                }
                _ => {}
            }
        }
        for (path, pair) in paths.iter().zip(read(sums).chunks_exact(2)) {
            self.note_ratio(path, (pair[0], pair[1]));
        }
    }

    fn record(&self, record: &mut Record) {
        record.values.extend(self.values.clone());
    }
}

/// Counts the elements of gradients and, on the device, the zeros among them.
struct Count<'a> {
    gradients: &'a GradientsParams,
    zeros: bool,
    path: PathStack,
    seen: HashSet<ParamId>,
    /// Parameters that are weights, in order, with their number of elements.
    weights: Vec<(ParamId, usize)>,
    elements: usize,
    /// Zeros in host memory.
    host: usize,
    /// Zeros elsewhere, still on the device.
    found: Vec<Tensor<1>>,
}

impl<'a> Count<'a> {
    fn new(gradients: &'a GradientsParams, zeros: bool) -> Self {
        Self {
            gradients,
            zeros,
            path: PathStack::default(),
            seen: HashSet::new(),
            weights: Vec::new(),
            elements: 0,
            host: 0,
            found: Vec::new(),
        }
    }
}

impl ModuleVisitor for Count<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = self.gradients.get::<D>(param.id) else { return };
        let elements = gradient.shape().num_elements();
        if elements == 0 || !self.seen.insert(param.id) {
            return;
        }
        self.elements += elements;
        if self.path.role(D) == Role::Weight {
            self.weights.push((param.id, elements));
        }
        if !self.zeros {
            return;
        }
        let gradient = match HostTensor::take(gradient) {
            Ok(host) => {
                self.host += zeros(host.as_slice());
                return;
            }
            Err(gradient) => gradient,
        };
        // A mean rather than a sum, so that f32 counts exactly enough beyond 2^24.
        let share = gradient.equal_scalar(0.0).float().cast(FloatDType::F32).mean();
        self.found.push(share.mul_scalar(elements as f64));
    }
}

/// Weights, flat, on the device without autodiff.
#[derive(Debug)]
enum Values {
    Host(HostTensor),
    Device(Tensor<1>),
}

/// The trainable weights of a model.
#[derive(Debug, Default)]
struct Weights {
    path: PathStack,
    found: Vec<(String, Values)>,
}

impl ModuleVisitor for Weights {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let value = param.val();
        let value = if value.is_autodiff() { value.inner() } else { value };
        let elements = value.shape().num_elements();
        if elements > 0 {
            let values = match HostTensor::take(value) {
                Ok(host) => Values::Host(host),
                Err(value) => Values::Device(value.reshape([elements])),
            };
            self.found.push((self.path.path(), values));
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
                assert_eq!(monitor.before.is_some(), step % 2 == 0);
                monitor.after_step(&model);
            }
            assert_eq!(monitor.values()["grad_norm"], 6.0);
            assert!(MonitorConfig::new().with_every(0).init().is_err());
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
