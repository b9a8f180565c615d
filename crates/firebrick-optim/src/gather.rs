//! Taking parameters out of a module for one pass, and putting them back.

use crate::kernel;
use crate::module::FusedOptimizer;
use crate::recurrence::{Around, Clock, DynRule};
use crate::state::reshaped;
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::{ModuleMapper, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use firebrick_backend::Placeholders;
use firebrick_backend::host::{HostTensor, Tracking};
use std::sync::Arc;

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
    rule: Arc<dyn DynRule>,
    clock: Clock,
    around: Around,
    param: Option<HostTensor>,
    grad: Option<HostTensor>,
    pub(crate) slots: Vec<HostTensor>,
    pub(crate) memory: Vec<f64>,
    tracking: Tracking,
    /// How many places of the module hold this parameter.
    places: usize,
}

impl Work {
    pub(crate) fn elements(&self) -> usize {
        self.grad.as_ref().map_or(0, HostTensor::len)
    }

    pub(crate) fn run(&mut self) {
        if let (Some(param), Some(grad)) = (&mut self.param, self.grad.take()) {
            let Self { rule, clock, around, memory, slots, .. } = self;
            kernel::step_host(&**rule, clock, around, memory, param, &grad, slots);
        }
    }
}

/// Takes parameters, gradients and states out of the module, or steps them at once where there is no host storage.
pub(crate) struct Gather<'a> {
    pub(crate) optimizer: &'a mut FusedOptimizer,
    pub(crate) lr: &'a ModuleLearningRate,
    pub(crate) scale: f64,
    pub(crate) grads: &'a mut GradientsParams,
    pub(crate) work: Vec<Work>,
    /// For each place of the module that was emptied, in order: its work.
    pub(crate) order: Vec<usize>,
    pub(crate) cursor: usize,
    pub(crate) unknown: bool,
    pub(crate) away: Placeholders,
}

impl Gather<'_> {
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
}

impl ModuleMapper for Gather<'_> {
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
            let work = self.work.iter().rposition(|work| work.id == param.id);
            let Some((at, work)) = work.and_then(|at| Some((at, self.work.get_mut(at)?))) else {
                return param;
            };
            let Some(like) = &work.param else { return param };
            work.places += 1;
            self.order.push(at);
            let (id, _, mapper) = param.consume();
            return self.away.placeholder(id, mapper, like);
        }
        let Some(grad) = self.grads.remove::<D>(param.id) else { return param };
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
                    self.order.push(self.work.len());
                    self.work.push(Work {
                        id,
                        entry: at,
                        rule: group.optimizer.rule().clone(),
                        around: group.optimizer.around(&clock, self.scale),
                        clock,
                        param: Some(param),
                        grad: Some(grad),
                        slots: entry.state.slots.take(),
                        memory: std::mem::take(&mut entry.state.memory),
                        tracking,
                        places: 1,
                    });
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
    pub(crate) work: &'a mut [Work],
    pub(crate) order: &'a [usize],
    pub(crate) cursor: usize,
    pub(crate) away: Placeholders,
}

impl ModuleMapper for Return<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(work) = self.order.get(self.cursor).and_then(|&at| self.work.get_mut(at)) else {
            return param;
        };
        if work.id != param.id {
            return param;
        }
        self.cursor += 1;
        work.places = work.places.saturating_sub(1);
        let value = if work.places == 0 { work.param.take() } else { work.param.clone() };
        let (Some(value), Some(mapper)) = (value, self.away.mapper::<D>()) else { return param };
        Param::from_mapped_value(param.id, value.give_tracked::<D>(work.tracking), mapper)
    }
}
