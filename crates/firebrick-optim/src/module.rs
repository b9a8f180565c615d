//! The module-level optimizer: all parameters of a module in one parallel pass.

use crate::apart::apart;
use crate::elementwise::Elementwise;
use crate::error::OptimError;
use crate::flow::Flow;
use crate::gather::{At, Evaluate, Gather, Return, Work};
use crate::groups::{GroupRow, GroupTable};
use crate::kernel::SHARED;
use crate::recurrence::DynRule;
use crate::tie::tie;
use crate::trains::trained;
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::{Module, ParamGroup, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};
use firebrick_backend::host::HostTensor;
use firebrick_backend::{Placeholders, Role, parameters};
use firebrick_core::check;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Steps a whole module with element-wise rules: on flex and ndarray in f32 as ONE parallel pass over everything.
///
/// The call is that of burn's `ModuleOptimizer`. Other back-ends and element types go parameter by parameter, by
/// tensor operations. Weight decay knows the layers: by default it applies to weights of linear layers and
/// convolutions, never to biases, norm scales and embeddings; [`table`](Self::table) shows it,
/// [`Elementwise::with_decay_on`] changes it.
///
/// A clone of the model that is alive during a step costs one new buffer per parameter and no copy; a clone of a
/// gradient costs nothing. Clones of one layer in a module (tied weights) stay tied.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::optim::GradientsParams;
/// use burn::tensor::{Device, Tensor};
/// use firebrick_optim::AdamWConfig;
///
/// let device = Device::flex().autodiff();
/// let mut model = LinearConfig::new(4, 2).init(&device);
/// let mut optimizer = AdamWConfig::new().fused()?;
/// print!("{}", optimizer.table(&model));
/// for _ in 0..3 {
///     let loss = model.forward(Tensor::<2>::ones([3, 4], &device)).square().mean();
///     let grads = GradientsParams::from_grads(loss.backward(), &model);
///     model = optimizer.step(1e-3, model, grads);
/// }
/// // Save after the model and load into the same model: the next step is the same to the last bit.
/// let bytes = optimizer.into_bytes()?;
/// let resumed = AdamWConfig::new().fused()?.from_bytes(bytes, &model)?;
/// # let _ = resumed;
/// # Ok::<(), firebrick_optim::OptimError>(())
/// ```
#[derive(Clone)]
pub struct FusedOptimizer {
    pub(crate) groups: Vec<Group>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) index: HashMap<ParamId, usize>,
    pub(crate) round: u64,
    /// Whether a parameter has been met in more than one place.
    pub(crate) tied: bool,
}

#[derive(Clone)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) members: ParamGroup,
    pub(crate) optimizer: Elementwise,
    pub(crate) lr_factor: f64,
}

/// What is kept for one parameter.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) id: ParamId,
    pub(crate) path: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) group: usize,
    pub(crate) decays: bool,
    /// The last round in which it was stepped.
    pub(crate) round: u64,
    /// Where its work lies while the module is walked.
    pub(crate) work: Option<At>,
    pub(crate) state: State,
}

impl Entry {
    /// A parameter of another shape than before comes from another model: the state was not its own.
    pub(crate) fn meet(&mut self, shape: &[usize]) {
        if self.shape != shape {
            self.shape = shape.to_vec();
            self.state = State::default();
        }
    }
}

#[derive(Clone, Default)]
pub(crate) struct State {
    pub(crate) time: u64,
    pub(crate) memory: Vec<f64>,
    pub(crate) slots: Slots,
}

/// The numbers of the state, flat.
#[derive(Clone, Default)]
pub(crate) enum Slots {
    #[default]
    New,
    /// Read from a record, not yet on the parameter's device.
    Saved(Vec<TensorData>),
    Host(Vec<HostTensor>),
    Line(Vec<Tensor<1>>),
}

impl FusedOptimizer {
    pub(crate) fn new(optimizer: Elementwise) -> Self {
        let all =
            Group { name: "all".into(), members: ParamGroup::all(), optimizer, lr_factor: 1.0 };
        Self {
            groups: vec![all],
            entries: Vec::new(),
            index: HashMap::new(),
            round: 0,
            tied: false,
        }
    }

    /// Gives the parameters of `members` a rule of their own; where several groups match, the last one counts.
    ///
    /// State that these parameters already have is dropped.
    #[must_use]
    pub fn with_group(self, name: &str, members: ParamGroup, optimizer: Elementwise) -> Self {
        self.with_scaled_group(name, members, optimizer, 1.0).unwrap_or_else(|(whole, _)| whole)
    }

    /// As [`with_group`](Self::with_group), with the learning rate of the step multiplied by `lr_factor`.
    ///
    /// # Errors
    /// Gives the optimizer back as it was when the factor is negative, NaN or infinite.
    #[allow(clippy::result_large_err)] // the error carries the optimizer back
    pub fn with_scaled_group(
        mut self,
        name: &str,
        members: ParamGroup,
        optimizer: Elementwise,
        lr_factor: f64,
    ) -> Result<Self, (Self, OptimError)> {
        if let Err(error) = check::non_negative("lr_factor", lr_factor) {
            return Err((self, error.into()));
        }
        let stays = |entry: &Entry| !members.matches(&entry.id, Some(&entry.path));
        self.entries.retain(stays);
        self.reindex();
        self.groups.push(Group { name: name.into(), members, optimizer, lr_factor });
        Ok(self)
    }

    /// Which parameter of `module` is stepped how: a row for each that trains, at the first place where it lies.
    #[must_use]
    pub fn table<M: Module>(&self, module: &M) -> GroupTable {
        // Each of these once, however often it is met.
        let mut left = trained(module);
        let rows = parameters(module).into_iter().filter(|parameter| left.remove(&parameter.id));
        let row = |parameter: firebrick_backend::ParameterInfo| {
            let group = &self.groups[self.group_of(&parameter.id, &parameter.path)];
            let decays = group.optimizer.decay_on().applies(parameter.role);
            let strength = group.optimizer.strength(&parameter.shape);
            GroupRow {
                path: parameter.path,
                role: parameter.role,
                shape: parameter.shape,
                group: group.name.clone(),
                rule: group.optimizer.name().into(),
                lr_factor: group.lr_factor,
                weight_decay: if decays { strength } else { 0.0 },
            }
        };
        GroupTable { rows: rows.map(row).collect() }
    }

    /// Updates the parameters of `module` that have a gradient.
    ///
    /// A parameter without a gradient keeps its value and its state; so does one whose gradient has another shape, and the
    /// log says so. A parameter that has another shape than at the last step starts anew.
    #[must_use]
    pub fn step<M: Module>(
        &mut self,
        lr: impl Into<ModuleLearningRate>,
        module: M,
        grads: GradientsParams,
    ) -> M {
        self.step_scaled(lr, module, grads, 1.0)
    }

    /// As [`step`](Self::step), with every gradient multiplied by `scale` on the way: the factor of global-norm
    /// clipping, or of a mean over accumulated batches, costs no pass of its own.
    #[must_use]
    pub fn step_scaled<M: Module>(
        &mut self,
        lr: impl Into<ModuleLearningRate>,
        module: M,
        grads: GradientsParams,
        scale: f64,
    ) -> M {
        self.round += 1;
        let lr = lr.into();
        self.share(&lr, &module, &grads, scale);
        let mut grads = grads;
        let mut module = module;
        // Once a step and not once a parameter: counting references would go back and forth between the threads.
        let rules: Vec<_> = self.groups.iter().map(|g| g.optimizer.rule().clone()).collect();
        let run = |work: &mut Work| work.run(&*rules[work.group]);
        loop {
            let known = self.entries.len();
            let elements = |entry: &Entry| entry.shape.iter().product::<usize>();
            let several = self.entries.iter().map(elements).sum::<usize>() > SHARED;
            let flow = Flow::new(&run);
            let (stepped, done, unknown) = rayon::in_place_scope(|scope| {
                let mut gather = Gather {
                    optimizer: self,
                    lr: &lr,
                    scale,
                    grads: &mut grads,
                    flow: &flow,
                    scope,
                    several,
                    open: Vec::new(),
                    elements: 0,
                    batches: 0,
                    order: Vec::with_capacity(known),
                    again: Vec::new(),
                    cursor: 0,
                    unknown: false,
                    away: Placeholders::default(),
                };
                let module = module.map(&mut gather);
                gather.finish();
                let Gather { batches, order, again, unknown, away, .. } = gather;
                if batches == 0 {
                    return (module, Vec::new(), unknown);
                }
                let mut back = Return {
                    flow: &flow,
                    batches: Vec::with_capacity(batches),
                    order: &order,
                    again,
                    cursor: 0,
                    away,
                };
                (module.map(&mut back), back.batches, unknown)
            });
            module = stepped;
            for done in done.into_iter().flatten() {
                let entry = &mut self.entries[done.entry];
                entry.work = None;
                entry.state.memory = done.memory;
                entry.state.slots = Slots::Host(done.slots);
            }
            if !unknown || !self.register(&module) {
                return if self.tied { tie(module) } else { module };
            }
        }
    }

    /// Steps that the parameter called `path` has taken.
    #[must_use]
    pub fn steps_of(&self, path: &str) -> Option<u64> {
        self.entries.iter().find(|entry| entry.path == path).map(|entry| entry.state.time)
    }

    /// The rules of its groups with their numbers, and the factors of their rates, in words: what a saved state does not
    /// hold. The rate of a step comes with it and is not among them.
    #[must_use]
    pub fn rules(&self) -> String {
        let rules =
            self.groups.iter().map(|group| (&group.name, &group.optimizer, group.lr_factor));
        format!("{:?}", rules.collect::<Vec<_>>())
    }

    /// The model to evaluate: the same as `module`, but for rules that train one point and evaluate another
    /// (Schedule-Free, ASGD), whose parameters are at the averaged point. `module` goes on training.
    ///
    /// It has running statistics of its own. They are those of the trained point: where it is another one, measure them
    /// anew with `firebrick_stabilize::recalibrate`.
    #[must_use]
    pub fn evaluation<M: Module>(&self, module: &M) -> M {
        apart(module).map(&mut Evaluate(self))
    }

    fn group_of(&self, id: &ParamId, path: &str) -> usize {
        self.groups.iter().rposition(|group| group.members.matches(id, Some(path))).unwrap_or(0)
    }

    fn reindex(&mut self) {
        self.index = self.entries.iter().enumerate().map(|(at, entry)| (entry.id, at)).collect();
    }

    /// Takes note of the parameters that are new; whether there was one.
    pub(crate) fn register<M: Module>(&mut self, module: &M) -> bool {
        let before = self.entries.len();
        for parameter in parameters(module) {
            if let Some(&at) = self.index.get(&parameter.id) {
                self.entries[at].meet(&parameter.shape);
                continue;
            }
            if parameter.role == Role::Buffer {
                continue;
            }
            let group = self.group_of(&parameter.id, &parameter.path);
            self.index.insert(parameter.id, self.entries.len());
            self.entries.push(Entry {
                id: parameter.id,
                group,
                decays: self.groups[group].optimizer.decay_on().applies(parameter.role),
                path: parameter.path,
                shape: parameter.shape,
                round: 0,
                work: None,
                state: State::default(),
            });
        }
        self.entries.len() > before
    }

    pub(crate) fn rule_of(&self, entry: &Entry) -> &Arc<dyn DynRule> {
        self.groups[entry.group].optimizer.rule()
    }
}

impl fmt::Debug for FusedOptimizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups: Vec<_> =
            self.groups.iter().map(|group| (&group.name, &group.optimizer)).collect();
        f.debug_struct("FusedOptimizer")
            .field("groups", &groups)
            .field("parameters", &self.entries.len())
            .finish()
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{self, Net};
    use crate::{AdamConfig, AdamWConfig, DecayOn, SgdConfig};
    use burn::tensor::{DType, Device};

    #[test]
    fn both_doors_agree_to_the_last_bit() {
        let rule = AdamConfig::new().with_weight_decay(0.1).build().expect("valid");
        let (mut a, mut b) =
            (testing::net(&Device::flex().autodiff()), testing::net(&Device::flex().autodiff()));
        let (mut fused, mut burn) = (rule.fused(), rule.init_for(&b));
        for k in 0..5 {
            let (left, right) = (testing::grads(&a, k), testing::grads(&b, k));
            a = fused.step(0.01, a, left);
            b = burn.step(0.01, b, right);
            assert_eq!(testing::values(&a), testing::values(&b), "step {k}");
        }
    }

    #[test]
    fn tensor_operations_agree_with_the_pass() {
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
            let device = Device::flex();
            let rule = AdamWConfig::new().with_weight_decay(0.1).build().expect("valid");
            let mut results = Vec::new();
            for rule in [rule.clone(), rule.with_fused_pass(false)] {
                let mut optimizer = rule.fused();
                let mut model = testing::net_of(&device, dtype);
                for k in 0..5 {
                    let grads = testing::grads(&model, k);
                    model = optimizer.step(0.01, model, grads);
                }
                results.push(testing::values(&model));
            }
            for (a, b) in results[0].iter().zip(&results[1]) {
                assert!((a - b).abs() <= 1e-6, "{dtype:?}: {a} {b}");
            }
        }
    }

    #[test]
    fn decay_leaves_biases_norms_and_embeddings_alone() {
        let shrink = |rule: Elementwise| {
            let model = testing::net(&Device::flex().autodiff());
            let grads = testing::zero_grads(&model);
            let before = testing::named(&model);
            let model = rule.fused().step(0.1, model, grads);
            let after = testing::named(&model);
            let shrunk = before.into_iter().zip(after).filter(|((_, old), (_, new))| old != new);
            shrunk.map(|((name, _), _)| name).collect::<Vec<_>>()
        };
        let rule = SgdConfig::new().with_weight_decay(0.5).build().expect("valid");
        assert_eq!(shrink(rule.clone()), ["linear.weight"]);
        let matrices = rule.clone().with_decay_on(DecayOn::Matrices);
        assert_eq!(shrink(matrices), ["embedding.weight", "linear.weight"]);
        let nothing = rule.clone().with_decay_on(DecayOn::Nothing);
        assert_eq!(shrink(nothing), [] as [&str; 0]);
        let all = rule.with_decay_on(DecayOn::All);
        assert_eq!(shrink(all).len(), 5);
    }

    #[test]
    fn groups_have_their_own_rule_rate_and_decay() {
        let model = testing::net(&Device::flex().autodiff());
        let sgd = SgdConfig::new().build().expect("valid");
        let head = ParamGroup::from_regex("^linear").expect("regex");
        let mut optimizer = AdamWConfig::new()
            .fused()
            .expect("valid")
            .with_scaled_group("head", head.clone(), sgd, 0.5)
            .expect("valid");
        let table = optimizer.table(&model);
        assert_eq!(table.rows.len(), 5);
        let row = table.rows.iter().find(|row| row.path == "linear.weight").expect("there");
        assert_eq!(
            (row.group.as_str(), row.rule.as_str(), row.lr_factor, row.weight_decay),
            ("head", "sgd", 0.5, 0.0)
        );
        assert!(table.to_string().contains("linear.weight     weight     [3, 2]"), "{table}");
        let before = testing::named(&model);
        let grads = testing::grads(&model, 0);
        let g = testing::grad_values(&model, 0);
        let after = testing::named(&optimizer.step(0.1, model, grads));
        let at = before.iter().position(|(name, _)| name == "linear.bias").expect("there");
        for k in 0..2 {
            assert_eq!(after[at].1[k], before[at].1[k] - 0.05f32 * g[at].1[k]);
        }
        let bad = AdamWConfig::new().fused().expect("valid");
        let rule = SgdConfig::new().build().expect("valid");
        assert!(bad.with_scaled_group("x", head, rule, f64::NAN).is_err());
    }

    /// Schedule-Free at a constant rate: the point to evaluate is the plain mean of z_1 to z_t.
    #[test]
    fn the_point_to_evaluate_is_the_average_also_after_resuming() {
        let rule = crate::ScheduleFreeSgdConfig::new().build().expect("valid");
        let mut model = testing::net(&Device::flex().autodiff());
        let mut optimizer = rule.fused();
        let mut z: Vec<f64> = testing::values(&model).into_iter().map(f64::from).collect();
        let mut sum = vec![0.0; z.len()];
        assert_eq!(testing::values(&optimizer.evaluation(&model)), testing::values(&model));
        for k in 0..4 {
            let grads = testing::grads(&model, k);
            let named = testing::grad_values(&model, k);
            model = optimizer.step(0.1, model, grads);
            let values = named.into_iter().flat_map(|(_, values)| values);
            for ((z, sum), g) in z.iter_mut().zip(&mut sum).zip(values) {
                *z -= 0.1 * f64::from(g);
                *sum += *z;
            }
            let average = testing::values(&optimizer.evaluation(&model));
            for (seen, sum) in average.iter().zip(&sum) {
                assert!((f64::from(*seen) - sum / (k + 1) as f64).abs() < 1e-5, "step {k}: {seen}");
            }
            assert!(k == 0 || average != testing::values(&model), "two points");
            let bytes = optimizer.into_bytes().expect("bytes");
            let again = rule.fused().from_bytes(bytes, &model).expect("loads");
            assert_eq!(testing::values(&again.evaluation(&model)), average, "step {k}");
        }
    }

    #[test]
    fn a_shared_parameter_is_not_written_and_the_result_is_the_same() {
        let rule = AdamConfig::new().build().expect("valid");
        let run = |keep: bool| {
            let mut optimizer = rule.fused();
            let mut model = testing::net(&Device::flex().autodiff());
            let mut kept = Vec::new();
            for k in 0..3 {
                if keep {
                    kept.push((model.clone(), testing::values(&model)));
                }
                let grads = testing::grads(&model, k);
                model = optimizer.step(0.01, model, grads);
            }
            for (model, values) in kept {
                assert_eq!(testing::values(&model), values);
            }
            testing::values(&model)
        };
        assert_eq!(run(true), run(false));
    }

    #[test]
    fn tied_weights_stay_tied() {
        let device = Device::flex().autodiff();
        let layer = burn::nn::LinearConfig::new(3, 3).init(&device);
        let mut model = vec![layer.clone(), layer];
        let mut optimizer = AdamConfig::new().fused().expect("valid");
        for k in 0..3 {
            let grads = testing::grads(&model, k);
            model = optimizer.step(0.1, model, grads);
            let [a, b] = [&model[0], &model[1]].map(testing::values);
            assert_eq!(a, b);
        }
        assert_eq!(optimizer.steps_of("0.weight"), Some(3));
    }

    #[test]
    fn a_parameter_without_gradient_keeps_value_and_state() {
        let mut model = testing::net(&Device::flex().autodiff());
        let mut optimizer = AdamConfig::new().fused().expect("valid");
        let grads = testing::grads(&model, 0);
        model = optimizer.step(0.1, model, grads);
        let before = testing::values(&model);
        model = optimizer.step(0.1, model, GradientsParams::new());
        assert_eq!(testing::values(&model), before);
        assert_eq!(optimizer.steps_of("linear.weight"), Some(1));
    }

    #[test]
    fn the_scale_multiplies_every_gradient() {
        let device = Device::flex().autodiff();
        let sgd = || SgdConfig::new().fused().expect("valid");
        let a: Net = testing::net(&device);
        let b = a.clone();
        let (left, right) = (testing::grads(&a, 0), testing::grads(&b, 0));
        let a = sgd().step_scaled(0.1, a, left, 0.25);
        let b = sgd().step(0.025, b, right);
        for (a, b) in testing::values(&a).into_iter().zip(testing::values(&b)) {
            assert!((a - b).abs() < 1e-7);
        }
    }

    #[test]
    fn the_table_has_one_row_for_each_parameter_that_trains() {
        use burn::nn::{BatchNormConfig, LinearConfig};
        let paths = |table: GroupTable| -> Vec<String> {
            table.rows.into_iter().map(|row| row.path).collect()
        };
        let adam = AdamConfig::new().fused().expect("valid");
        for device in [Device::flex(), Device::flex().autodiff()] {
            let layer = LinearConfig::new(2, 2).with_bias(false).init(&device);
            let norm = BatchNormConfig::new(2).init(&device);
            let model = (layer.clone(), norm, layer);
            let all = ["0.weight", "1.gamma", "1.beta"];
            assert_eq!(paths(adam.table(&model)), all);
            assert_eq!(paths(adam.table(&model.valid())), all);
            let group = ParamGroup::from_path("1.beta");
            let model = model.freeze_group(group);
            assert_eq!(paths(adam.table(&model)), all[..2]);
        }
    }

    #[test]
    fn the_table_shows_the_decay_of_vectors_that_have_their_own() {
        let config = crate::MarsConfig::new().with_vector_weight_decay(Some(0.1));
        for (corrected, vectors) in [(false, 0.1), (true, 0.02)] {
            let config = config.clone().with_weight_decay(0.02).with_correct_vectors(corrected);
            let rule = config.build().expect("valid").with_decay_on(DecayOn::All);
            let table = rule.fused().table(&testing::net(&Device::flex().autodiff()));
            assert_eq!(table.rows.len(), 5);
            for row in table.rows {
                let expected = if row.shape.len() < 2 { vectors } else { 0.02 };
                assert_eq!(row.weight_decay, expected, "{}", row.path);
            }
        }
    }

    #[test]
    fn a_pass_of_the_evaluated_model_leaves_the_statistics_of_training() {
        for device in firebrick_backend::testing::devices() {
            let device = device.autodiff();
            let model = burn::nn::BatchNormConfig::new(1).init(&device);
            let optimizer = AdamConfig::new().fused().expect("valid");
            let evaluated = optimizer.evaluation(&model);
            drop(evaluated.forward(Tensor::<2>::full([2, 1], 3.0, &device)));
            let mean =
                |norm: &burn::nn::BatchNorm| norm.running_mean.value_sync().into_scalar::<f32>();
            assert_eq!(mean(&model), 0.0);
            assert!((mean(&evaluated) - 0.3).abs() < 1e-6);
        }
    }
}
