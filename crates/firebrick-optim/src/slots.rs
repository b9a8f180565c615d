//! Where the numbers of a state lie, and how they get there.

use crate::elementwise::Elementwise;
use crate::module::{Slots, State};
use crate::recurrence::Clock;
use crate::state::{RuleState, compute_dtype, fingerprint, placed, reshaped, starts};
use burn::tensor::{Tensor, TensorData};
use firebrick_backend::host::{HostTensor, is_host};

impl Slots {
    /// Brings the slots into host memory; false when the state of a tensor like this cannot be there.
    pub(crate) fn prepare<const D: usize>(
        &mut self,
        optimizer: &Elementwise,
        lr: f64,
        like: &Tensor<D>,
    ) -> bool {
        if let Self::Host(_) = self {
            return true;
        }
        let like = like.clone().inner();
        if !is_host(&like) {
            return false;
        }
        self.settle(optimizer, lr, &like);
        let Self::Line(lines) = self else { return false };
        if !lines.iter().all(is_host) {
            return false;
        }
        let lines = std::mem::take(lines).into_iter();
        *self = Self::Host(lines.filter_map(|slot| HostTensor::take(slot).ok()).collect());
        true
    }

    /// The slots in host memory, flat.
    pub(crate) fn take(&mut self) -> Vec<HostTensor> {
        if let Self::Host(slots) = self { std::mem::take(slots) } else { Vec::new() }
    }

    /// Brings the slots onto the device of `like` as flat tensors of the type in which it is stepped.
    fn settle<const D: usize>(&mut self, optimizer: &Elementwise, lr: f64, like: &Tensor<D>) {
        let device = like.device();
        let dtype = compute_dtype(like.dtype());
        let lines = match std::mem::take(self) {
            Self::New => starts(&**optimizer.rule(), lr, &like.shape().to_vec(), (&device, dtype)),
            Self::Saved(data) => {
                let flat = |data: TensorData| {
                    let n = data.num_elements();
                    Tensor::from_data(reshaped(data, [n]), (&device, dtype))
                };
                data.into_iter().map(flat).collect()
            }
            Self::Host(slots) => slots.into_iter().map(HostTensor::give::<1>).collect(),
            Self::Line(slots) => slots,
        };
        let lines = lines.into_iter().map(|slot| placed(slot, &device, dtype));
        *self = Self::Line(lines.collect());
    }
}

impl State {
    /// Steps one parameter without the fused pass over the module.
    pub(crate) fn step_line<const D: usize>(
        &mut self,
        optimizer: &Elementwise,
        clock: &Clock,
        scale: f64,
        tensor: Tensor<D>,
        grad: Tensor<D>,
    ) -> Tensor<D> {
        let shape = tensor.shape();
        self.slots.settle(optimizer, clock.lr, &tensor);
        if shape.num_elements() == 0 {
            // Its state is as empty, and saved with the others.
            return tensor;
        }
        let Slots::Line(slots) = std::mem::take(&mut self.slots) else { return tensor };
        let mut state = RuleState::<D> {
            time: self.time,
            rule: fingerprint(optimizer.name()),
            memory: std::mem::take(&mut self.memory),
            shape: shape.to_vec(),
            slots,
        };
        let new = optimizer.step_tensor(clock, scale, tensor, grad, &mut state);
        self.memory = state.memory;
        self.slots = Slots::Line(state.slots);
        new
    }
}
