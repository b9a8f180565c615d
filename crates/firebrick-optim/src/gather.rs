//! Taking parameters out of a module for one pass, and putting them back.

use crate::kernel;
use crate::module::{FusedOptimizer, Slots};
use crate::recurrence::{Around, Clock, DynRule};
use crate::state::reshaped;
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::{ModuleMapper, Param, ParamId, ParamMapper};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use firebrick_backend::host::{HostTensor, is_host};
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
    context: Context,
    /// How many places of the module hold this parameter.
    places: usize,
}

impl Work {
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
    pub(crate) placeholder: Option<HostTensor>,
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

    fn empty<const D: usize>(
        &mut self,
        id: ParamId,
        mapper: ParamMapper<Tensor<D>>,
        like: &HostTensor,
        work: usize,
    ) -> Param<Tensor<D>> {
        self.order.push(work);
        let placeholder = self.placeholder.get_or_insert_with(|| like.empty_like());
        Param::from_mapped_value(id, placeholder.clone().give::<D>(), mapper)
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
            // A second place that holds a parameter of this step: it gets the same new value.
            let Some(work) = self.work.iter().rposition(|work| work.id == param.id) else {
                return param;
            };
            let Some(like) = self.work[work].param.as_ref().map(HostTensor::empty_like) else {
                return param;
            };
            self.work[work].places += 1;
            let (id, _, mapper) = param.consume();
            return self.empty(id, mapper, &like, work);
        }
        let Some(grad) = self.grads.remove::<D>(param.id) else { return param };
        entry.round = self.optimizer.round;
        let group = &self.optimizer.groups[entry.group];
        let lr = self.lr.lr_from_param(entry.id, Some(&entry.path)) * group.lr_factor;
        entry.state.time += 1;
        let mut clock = Clock::new(lr, entry.state.time);
        clock.decays = entry.decays;

        let (id, tensor, mapper) = param.consume();
        let context = Context::of(&tensor);
        let mut tensor = tensor.inner();
        let grad = grad.inner();
        let device = grad.device();
        if tensor.device() != device {
            tensor = tensor.to_device(&device);
        }
        if let Slots::New = entry.state.slots {
            entry.state.memory = group.optimizer.rule().memory();
        }
        let host = group.optimizer.fuses() && is_host(&tensor) && is_host(&grad);
        if host && let Some(slots) = entry.state.slots.take_host(&group.optimizer, lr, &tensor) {
            let around = group.optimizer.around(&clock, self.scale);
            let memory = std::mem::take(&mut entry.state.memory);
            let rule = group.optimizer.rule().clone();
            match (HostTensor::take(tensor), HostTensor::take(grad)) {
                (Ok(param), Ok(grad)) => {
                    let like = param.empty_like();
                    self.work.push(Work {
                        id,
                        entry: at,
                        rule,
                        clock,
                        around,
                        param: Some(param),
                        grad: Some(grad),
                        slots,
                        memory,
                        context,
                        places: 1,
                    });
                    return self.empty(id, mapper, &like, self.work.len() - 1);
                }
                (param, _) => {
                    let tensor = param.map_or_else(|tensor| tensor, HostTensor::give);
                    entry.state.slots = Slots::Host(slots);
                    return Param::from_mapped_value(id, context.restore(tensor, id), mapper);
                }
            }
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
        let Some(value) = value else { return param };
        let (id, _, mapper) = param.consume();
        Param::from_mapped_value(id, work.context.restore(value.give::<D>(), id), mapper)
    }
}
