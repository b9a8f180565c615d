//! Taking parameters out of a module for one pass, and putting them back.

use crate::flow::Flow;
use crate::kernel;
use crate::module::FusedOptimizer;
use crate::recurrence::{Around, Clock, DynRule};
use crate::state::{fits, reshaped};
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::{ModuleMapper, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use firebrick_backend::Placeholders;
use firebrick_backend::host::{HostTensor, Tracking};
use rayon::Scope;

/// What a parameter was to autodiff.
#[derive(Clone)]
struct Context {
    autodiff: bool,
    require_grad: bool,
    distributed: bool,
    checkpointing: Option<burn::backend::GradientCheckpointingStrategy>,
}

impl Context {
    fn of<const D: usize>(tensor: &Tensor<D>) -> Self {
        let autodiff = tensor.is_autodiff();
        Self {
            autodiff,
            require_grad: tensor.is_require_grad(),
            distributed: autodiff && tensor.is_distributed(),
            checkpointing: tensor.gradient_checkpointing_strategy(),
        }
    }

    fn restore<const D: usize>(&self, tensor: Tensor<D>, id: ParamId) -> Tensor<D> {
        if !self.autodiff {
            return tensor;
        }
        let mut tensor = Tensor::from_inner(tensor);
        if let Some(strategy) = self.checkpointing {
            tensor = tensor.with_gradient_checkpointing_strategy(strategy);
        }
        if self.require_grad {
            tensor = tensor.require_grad();
        }
        if self.distributed { tensor.set_distributed(id) } else { tensor }
    }
}

/// One parameter on its way through the pass.
pub(crate) struct Work {
    id: ParamId,
    pub(crate) entry: usize,
    pub(crate) group: usize,
    clock: Clock,
    around: Around,
    param: Option<HostTensor>,
    grad: Option<HostTensor>,
    pub(crate) slots: Vec<HostTensor>,
    pub(crate) memory: Vec<f64>,
    tracking: Tracking,
}

impl Work {
    pub(crate) fn run(&mut self, rule: &dyn DynRule) {
        if let (Some(param), Some(grad)) = (&mut self.param, self.grad.take()) {
            let Self { clock, around, memory, slots, .. } = self;
            kernel::step_host(rule, clock, around, memory, param, &grad, slots);
        }
    }
}

/// Where the work of a parameter lies: its batch, and its place there.
pub(crate) type At = (usize, usize);

/// Takes parameters, gradients and states out of the module, or steps them at once where there is no host storage.
///
/// What has been taken goes to other threads in batches while the walk goes on.
pub(crate) struct Gather<'a, 'scope> {
    pub(crate) optimizer: &'a mut FusedOptimizer,
    pub(crate) lr: &'a ModuleLearningRate,
    pub(crate) scale: f64,
    pub(crate) grads: &'a mut GradientsParams,
    pub(crate) flow: &'scope Flow<'scope, Work>,
    pub(crate) scope: &'a Scope<'scope>,
    /// Whether other threads take part.
    pub(crate) several: bool,
    /// What is not enough for a batch yet, and its number of elements.
    pub(crate) open: Vec<Work>,
    pub(crate) elements: usize,
    /// Batches before it.
    pub(crate) batches: usize,
    /// For each place of the module that was emptied, in order: its work.
    pub(crate) order: Vec<At>,
    /// The work of parameters that lie in several places, once for each further place.
    pub(crate) again: Vec<At>,
    pub(crate) cursor: usize,
    pub(crate) unknown: bool,
    pub(crate) away: Placeholders,
}

impl Gather<'_, '_> {
    /// Modules are walked in the same order every time, so the entry is nearly always the next one.
    fn find(&mut self, id: ParamId) -> Option<usize> {
        let next = self.optimizer.entries.get(self.cursor);
        let at = if next.is_some_and(|entry| entry.id == id) {
            self.cursor
        } else {
            *self.optimizer.index.get(&id)?
        };
        self.cursor = at + 1;
        Some(at)
    }

    /// Adds to the open batch, which goes to other threads where there is enough for several.
    fn add(&mut self, work: Work, elements: usize) {
        let at = (self.batches, self.open.len());
        self.optimizer.entries[work.entry].work = Some(at);
        self.order.push(at);
        self.open.push(work);
        self.elements += elements;
        if self.several && self.elements > kernel::CHUNK {
            let room = Vec::with_capacity(self.open.len());
            self.flow.push(self.scope, std::mem::replace(&mut self.open, room));
            self.batches += 1;
            self.elements = 0;
        }
    }

    /// Steps here what is left of the last batch.
    pub(crate) fn finish(&mut self) {
        if !self.open.is_empty() {
            self.flow.here(std::mem::take(&mut self.open));
            self.batches += 1;
        }
    }
}

impl ModuleMapper for Gather<'_, '_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(at) = self.find(param.id) else {
            // Running statistics have no gradient and are no concern of ours.
            if let Some(grad) = self.grads.remove::<D>(param.id) {
                self.grads.register::<D>(param.id, grad);
                self.unknown = true;
            }
            return param;
        };
        let entry = &mut self.optimizer.entries[at];
        if entry.round == self.optimizer.round {
            // A second place that holds a parameter of this step: it gets the same new value, and is tied at the end.
            self.optimizer.tied = true;
            let Some(at) = entry.work else { return param };
            let (id, tensor, mapper) = param.consume();
            return match HostTensor::take_tracked(tensor) {
                Ok((like, _)) => {
                    self.order.push(at);
                    self.again.push(at);
                    self.away.placeholder(id, mapper, &like)
                }
                Err(tensor) => Param::from_mapped_value(id, tensor, mapper),
            };
        }
        let Some(grad) = self.grads.remove::<D>(param.id) else { return param };
        let shape = param.dims();
        if !fits(&entry.path, shape, &grad) {
            return param;
        }
        entry.meet(&shape);
        entry.round = self.optimizer.round;
        let group = &self.optimizer.groups[entry.group];
        let lr = self.lr.lr_from_param(entry.id, Some(&entry.path)) * group.lr_factor;
        entry.state.time += 1;
        let mut clock = Clock::new(lr, entry.state.time);
        clock.decays = entry.decays;
        if entry.state.memory.is_empty() {
            entry.state.memory = group.optimizer.rule().memory();
        }

        let (id, mut tensor, mapper) = param.consume();
        let mut grad = grad;
        if group.optimizer.fuses() && entry.state.slots.prepare(&group.optimizer, lr, &tensor) {
            match (HostTensor::take_tracked(tensor), HostTensor::take(grad)) {
                (Ok((param, tracking)), Ok(grad)) => {
                    let placeholder = self.away.placeholder(id, mapper, &param);
                    let elements = param.len();
                    let work = Work {
                        id,
                        entry: at,
                        group: entry.group,
                        around: group.optimizer.around(&clock, self.scale),
                        clock,
                        param: Some(param),
                        grad: Some(grad),
                        slots: entry.state.slots.take(),
                        memory: std::mem::take(&mut entry.state.memory),
                        tracking,
                    };
                    self.add(work, elements);
                    return placeholder;
                }
                (param, other) => {
                    tensor =
                        param.map_or_else(|tensor| tensor, |(host, was)| host.give_tracked(was));
                    grad = other.map_or_else(|grad| grad, HostTensor::give);
                }
            }
        }
        let context = Context::of(&tensor);
        let grad = grad.inner();
        let mut tensor = tensor.inner();
        let device = grad.device();
        if tensor.device() != device {
            tensor = tensor.to_device(&device);
        }
        let tensor = entry.state.step_line(&group.optimizer, &clock, self.scale, tensor, grad);
        Param::from_mapped_value(id, context.restore(tensor, id), mapper)
    }
}

/// Moves parameters to the point that is evaluated.
pub(crate) struct Evaluate<'a>(pub(crate) &'a FusedOptimizer);

impl ModuleMapper for Evaluate<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let entry = self.0.index.get(&param.id).and_then(|&at| self.0.entries.get(at));
        let Some(entry) = entry.filter(|entry| entry.state.time > 0) else { return param };
        let Some((slot, weight)) = self.0.rule_of(entry).evaluation() else { return param };
        let Some(data) = entry.slots().into_iter().nth(slot) else { return param };
        if data.num_elements() != param.shape().num_elements() {
            // The average of ASGD has not begun: it is the parameter.
            return param;
        }
        let (id, tensor, mapper) = param.consume();
        let context = Context::of(&tensor);
        let tensor = tensor.inner();
        let (device, dtype) = (tensor.device(), tensor.dtype());
        let other = Tensor::<D>::from_data(reshaped(data, tensor.shape()), (&device, dtype));
        let point = tensor.clone() + (other - tensor) * weight;
        Param::from_mapped_value(id, context.restore(point, id), mapper)
    }
}

/// Puts the stepped parameters back.
pub(crate) struct Return<'a> {
    pub(crate) flow: &'a Flow<'a, Work>,
    /// The batches that were needed so far.
    pub(crate) batches: Vec<Vec<Work>>,
    pub(crate) order: &'a [At],
    pub(crate) again: Vec<At>,
    pub(crate) cursor: usize,
    pub(crate) away: Placeholders,
}

impl Return<'_> {
    fn work(&mut self, (batch, place): At) -> Option<&mut Work> {
        while self.batches.len() <= batch {
            self.batches.push(self.flow.finish(self.batches.len()));
        }
        self.batches[batch].get_mut(place)
    }
}

impl ModuleMapper for Return<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(&at) = self.order.get(self.cursor) else { return param };
        let again = self.again.iter().position(|other| *other == at);
        let Some(work) = self.work(at).filter(|work| work.id == param.id) else { return param };
        let tracking = work.tracking;
        let value = if again.is_some() { work.param.clone() } else { work.param.take() };
        self.cursor += 1;
        if let Some(again) = again {
            self.again.swap_remove(again);
        }
        let (Some(value), Some(mapper)) = (value, self.away.mapper::<D>()) else { return param };
        Param::from_mapped_value(param.id, value.give_tracked::<D>(tracking), mapper)
    }
}
