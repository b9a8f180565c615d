//! Rules whose parameters share an estimate: what they add to it is summed over the module before any of them steps.

use crate::module::{Entry, FusedOptimizer, Slots};
use crate::recurrence::Clock;
use crate::state::{compute_dtype, placed, reshaped};
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Shape, Tensor};
use firebrick_backend::host::HostTensor;
use std::fmt;

/// What a [`TensorRule`](crate::TensorRule) shares among the parameters of a group.
///
/// Before each step the module-level optimizer adds up [`sums`](Self::sums) over the group's parameters that have a
/// gradient, and gives every parameter the memory that [`settle`](Self::settle) makes of them. burn's `Optimizer` sees one
/// tensor at a time; there the rule has to settle for that tensor alone.
pub trait Shared: fmt::Debug + Send + Sync {
    /// The memory of a group whose parameters have these, or of a new one.
    fn common(&self, memories: &mut dyn Iterator<Item = &[f64]>) -> Vec<f64>;

    /// What one parameter adds; `state` is none at its first step.
    fn sums(
        &self,
        clock: &Clock,
        memory: &[f64],
        param: &Tensor<1>,
        grad: &Tensor<1>,
        state: Option<&[Tensor<1>]>,
    ) -> Tensor<1>;

    /// The memory from which the parameters take this step.
    fn settle(&self, memory: &mut [f64], sums: &[f64]);

    /// The same for a parameter that does not take this step.
    fn pass(&self, memory: &mut [f64]);
}

impl FusedOptimizer {
    /// Settles what the parameters of each group share for the step to come.
    pub(crate) fn share<M: Module>(
        &mut self,
        lr: &ModuleLearningRate,
        module: &M,
        grads: &GradientsParams,
        scale: f64,
    ) {
        if self.groups.iter().all(|group| group.optimizer.rule().shared().is_none()) {
            return;
        }
        self.register(module);
        for group in 0..self.groups.len() {
            let rule = self.groups[group].optimizer.rule().clone();
            let Some(shared) = rule.shared() else { continue };
            let members = self.entries.iter().filter(|entry| entry.group == group);
            let mut memories = members
                .map(|entry| entry.state.memory.as_slice())
                .filter(|memory| !memory.is_empty());
            let mut memory = shared.common(&mut memories);
            let mut seen = vec![false; self.entries.len()];
            let mut collect = Collect {
                optimizer: self,
                group,
                shared,
                memory: &memory,
                lr,
                grads,
                scale,
                seen: &mut seen,
                parts: Vec::new(),
            };
            module.visit(&mut collect);
            let mut total: Vec<f64> = Vec::new();
            for part in collect.parts {
                let part: Vec<f64> =
                    part.into_data().convert::<f64>().try_into_vec().unwrap_or_default();
                total.resize(part.len(), 0.0);
                total.iter_mut().zip(part).for_each(|(total, part)| *total += part);
            }
            if total.is_empty() {
                continue;
            }
            shared.settle(&mut memory, &total);
            let mut resting = memory.clone();
            shared.pass(&mut resting);
            for (entry, steps) in self.entries.iter_mut().zip(seen) {
                if entry.group == group {
                    entry.state.memory = if steps { memory.clone() } else { resting.clone() };
                }
            }
        }
    }
}

impl Entry {
    /// The slots as flat tensors on `device`, of a type; none before the first step.
    fn lines(&self, device: &Device, dtype: DType) -> Option<Vec<Tensor<1>>> {
        match &self.state.slots {
            Slots::New => None,
            Slots::Saved(data) => {
                let line = |data: &burn::tensor::TensorData| {
                    let n = data.num_elements();
                    Tensor::from_data(reshaped(data.clone(), [n]), (device, dtype))
                };
                Some(data.iter().map(line).collect())
            }
            Slots::Host(slots) => {
                let line = |slot: &HostTensor| placed(slot.clone().give(), device, dtype);
                Some(slots.iter().map(line).collect())
            }
            Slots::Line(slots) => {
                Some(slots.iter().map(|slot| placed(slot.clone(), device, dtype)).collect())
            }
        }
    }
}

struct Collect<'a> {
    optimizer: &'a FusedOptimizer,
    group: usize,
    shared: &'a dyn Shared,
    memory: &'a [f64],
    lr: &'a ModuleLearningRate,
    grads: &'a GradientsParams,
    scale: f64,
    /// Which entries have added their part: a parameter may lie in several places.
    seen: &'a mut [bool],
    parts: Vec<Tensor<1>>,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(&at) = self.optimizer.index.get(&param.id) else { return };
        let entry = &self.optimizer.entries[at];
        if entry.group != self.group || self.seen[at] {
            return;
        }
        let Some(grad) = self.grads.get::<D>(param.id) else { return };
        if grad.dims() != param.dims() {
            return;
        }
        self.seen[at] = true;
        let (grad, tensor) = (grad.inner(), param.val().inner());
        let device = grad.device();
        let n = tensor.shape().num_elements();
        if n == 0 {
            return;
        }
        let dtype = compute_dtype(tensor.dtype());
        let line = |tensor: Tensor<D>| tensor.cast(dtype).reshape::<1, _>(Shape::from([n]));
        let group = &self.optimizer.groups[self.group];
        let lr = self.lr.lr_from_param(entry.id, Some(&entry.path)) * group.lr_factor;
        let mut clock = Clock::new(lr, entry.state.time + 1);
        clock.decays = entry.decays;
        let around = group.optimizer.around(&clock, self.scale);
        let (param, grad) = around.scaled(line(tensor.to_device(&device)), line(grad));
        let state = entry.lines(&device, dtype);
        let state = state.as_deref();
        self.parts.push(self.shared.sums(&clock, self.memory, &param, &grad, state));
    }
}
