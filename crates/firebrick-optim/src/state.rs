//! The state of one parameter under an element-wise rule, and how it is saved.

use crate::elementwise::Elementwise;
use crate::recurrence::DynRule;
use burn::optim::{RecordState, StateSink, StateSource};
use burn::tensor::{DType, Device, Shape, Tensor, TensorData};

/// What an element-wise rule keeps for one parameter of rank `D`: how many steps it has taken, the rule's own
/// scalars, and one tensor per slot.
#[derive(Debug, Clone)]
pub struct RuleState<const D: usize> {
    /// Steps taken.
    pub(crate) time: u64,
    /// Fingerprint of the rule's name.
    pub(crate) rule: u64,
    pub(crate) memory: Vec<f64>,
    /// Shape of the parameter.
    pub(crate) shape: Vec<usize>,
    /// Flat.
    pub(crate) slots: Vec<Tensor<1>>,
}

/// FNV-1a with 64 bits.
pub(crate) fn fingerprint(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The type in which a rule computes for a parameter of `dtype`: f32 for 16 bits, else the same.
pub(crate) fn compute_dtype(dtype: DType) -> DType {
    if matches!(dtype, DType::F16 | DType::BF16) { DType::F32 } else { dtype }
}

/// On a device, in a type; what is so already stays as it is.
pub(crate) fn placed<const D: usize>(
    tensor: Tensor<D>,
    device: &Device,
    dtype: DType,
) -> Tensor<D> {
    // The narrower type travels: not every device has f64.
    let tensor = if dtype == DType::F64 { tensor } else { tensor.cast(dtype) };
    let tensor = if tensor.device() == *device { tensor } else { tensor.to_device(device) };
    tensor.cast(dtype)
}

/// Whether a gradient belongs to a parameter of this shape; a step has no error to give, so that the log has it.
pub(crate) fn fits<const D: usize>(name: &str, shape: [usize; D], grad: &Tensor<D>) -> bool {
    let fits = grad.dims() == shape;
    if !fits {
        let given = grad.dims();
        log::error!(
            "{name}: shape {shape:?}, but a gradient of shape {given:?}: it is not stepped"
        );
    }
    fits
}

/// The same numbers under another shape of the same size.
pub(crate) fn reshaped(data: TensorData, shape: impl Into<Shape>) -> TensorData {
    let (bytes, _, dtype) = data.into_parts();
    TensorData::from_bytes(bytes, shape, dtype)
}

/// The slots of `rule` before the first step of a tensor of this shape.
pub(crate) fn starts(
    rule: &dyn DynRule,
    lr: f64,
    shape: &[usize],
    options: (&Device, DType),
) -> Vec<Tensor<1>> {
    let slot = |(start, n)| match n {
        // Data, for it is no operation: one on an empty tensor may be fused with those on tensors of one element, and then
        // nothing is written.
        0 => Tensor::from_data(TensorData::new(Vec::<f32>::new(), [0]), options),
        _ => Tensor::full([n], start, options),
    };
    rule.start(lr).into_iter().zip(rule.lengths(shape)).map(slot).collect()
}

impl<const D: usize> RuleState<D> {
    pub(crate) fn new(optimizer: &Elementwise, lr: f64, like: &Tensor<D>) -> Self {
        let rule = optimizer.rule();
        let shape = like.shape().to_vec();
        let options = (&like.device(), compute_dtype(like.dtype()));
        let slots = starts(&**rule, lr, &shape, options);
        Self { time: 0, rule: fingerprint(rule.name()), memory: rule.memory(), shape, slots }
    }

    /// Steps taken.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.time
    }

    /// The tensors, flat, in the order of [`Elementwise::slots`].
    #[must_use]
    pub fn slots(&self) -> &[Tensor<1>] {
        &self.slots
    }

    /// Whether this is the state of `optimizer` for a tensor like `tensor`; a step has no error to give, so that the
    /// log has it.
    pub(crate) fn fits(&self, optimizer: &Elementwise, tensor: &Tensor<D>) -> bool {
        let rule = optimizer.rule();
        let (name, shape) = (rule.name(), tensor.shape().to_vec());
        let lengths: Vec<usize> = self.slots.iter().map(|slot| slot.dims()[0]).collect();
        let fits = self.rule == fingerprint(name)
            && self.memory.len() == rule.memory().len()
            && self.shape == shape
            && rule.fits(&shape, &lengths);
        if !fits {
            let saved = &self.shape;
            log::error!(
                "{name}: shape {shape:?}, but a state of another rule, or of shape {saved:?}: it starts anew"
            );
        }
        fits
    }

    /// The same on the device of `tensor`, in the type in which it is stepped.
    pub(crate) fn beside(self, tensor: &Tensor<D>) -> Self {
        let (device, dtype) = (tensor.device(), compute_dtype(tensor.dtype()));
        let slots = self.slots.into_iter().map(|slot| placed(slot, &device, dtype));
        Self { slots: slots.collect(), ..self }
    }

    pub(crate) fn moved_to(self, device: &Device) -> Self {
        let moved = |slot: Tensor<1>| {
            let dtype = slot.dtype();
            placed(slot, device, dtype)
        };
        Self { slots: self.slots.into_iter().map(moved).collect(), ..self }
    }
}

impl<const D: usize> RecordState for RuleState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_scalar(prefix, "time", self.time.into());
        out.push_scalar(prefix, "rule", self.rule.into());
        out.push_scalar(prefix, "slots", (self.slots.len() as u64).into());
        for (k, slot) in self.slots.iter().enumerate() {
            out.push_tensor(prefix, &format!("slot_{k}"), slot.to_data());
        }
        for (k, &size) in self.shape.iter().enumerate() {
            out.push_scalar(prefix, &format!("shape_{k}"), (size as u64).into());
        }
        out.push_scalar(prefix, "memory", (self.memory.len() as u64).into());
        for (k, &value) in self.memory.iter().enumerate() {
            out.push_scalar(prefix, &format!("memory_{k}"), value.into());
        }
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        let whole = |src: &mut StateSource, name: &str| -> Option<u64> {
            src.take_scalar(prefix, name)?.try_into().ok()
        };
        let (time, rule) = (whole(src, "time")?, whole(src, "rule")?);
        let slots = (0..whole(src, "slots")?)
            .map(|k| {
                let data = src.take_tensor(prefix, &format!("slot_{k}"))?;
                let dtype = data.dtype();
                (data.rank() == 1).then(|| Tensor::from_data(data, (device, dtype)))
            })
            .collect::<Option<_>>()?;
        let memory = (0..whole(src, "memory")?)
            .map(|k| src.take_scalar(prefix, &format!("memory_{k}"))?.try_into().ok())
            .collect::<Option<_>>()?;
        let shape = (0..D)
            .map(|k| whole(src, &format!("shape_{k}")).map(|size| size as usize))
            .collect::<Option<_>>()?;
        Some(Self { time, rule, memory, shape, slots })
    }
}
