//! Running statistics of batch norm: measured anew after the weights were averaged, or frozen.
//!
//! # Rule
//! Over batches with moments (m_k, v_k):
//! ```text
//! mean = mean_k(m_k)          variance = mean_k(v_k) + variance_k(m_k)
//! ```
//! # Reference
//! Y. Wu, J. Johnson, "Rethinking 'batch' in BatchNorm", 2021 (arXiv 2105.07576).

use crate::StabilizeError;
use crate::read::read;
use burn::module::{Flag, Module, ModuleMapper, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::tensor::{Tensor, TensorData};
use firebrick_backend::checkpointing::{strategy, with_strategy};
use firebrick_backend::{PathStack, Role};
use firebrick_core::{ConfigError, check};

/// The model in evaluation mode with running statistics measured over `batches`; call `train()` to go on.
///
/// `forward` runs a batch through a model in training mode; its result is dropped. To be used after averaging
/// weights, adding noise to them or leaving a sharpness-aware step. The model given is not touched, not even the
/// statistics that its clones share. About 200 batches are enough.
///
/// Statistics of frozen layers stay as they are. Every batch counts alike, so leave out a short last one. Dropout is on in training mode and shifts variances.
///
/// # Errors
/// Without a batch, or when a statistic comes out not finite.
///
/// ```
/// use burn::{nn::BatchNormConfig, tensor::{Device, Tensor}};
/// use firebrick_stabilize::recalibrate;
///
/// let device = Device::flex().autodiff();
/// let model = BatchNormConfig::new(1).init(&device);
/// let batches = [[[1.0], [3.0]], [[5.0], [7.0]]].map(|rows| Tensor::<2>::from_floats(rows, &device));
/// let model = recalibrate(&model, batches, |model, batch| drop(model.forward(batch)))?;
/// let mean = model.running_mean.value().into_scalar::<f32>();
/// let variance = model.running_var.value().into_scalar::<f32>();
/// assert!((mean - 4.0).abs() < 1e-4 && (variance - 5.0).abs() < 1e-4); // of 1, 3, 5, 7
/// # Ok::<(), firebrick_stabilize::StabilizeError>(())
/// ```
pub fn recalibrate<M: Module, B: Clone>(
    model: &M,
    batches: impl IntoIterator<Item = B>,
    forward: impl Fn(&M, B),
) -> Result<M, StabilizeError> {
    let base = model.valid();
    let mut batches = batches.into_iter().peekable();
    let Some(first) = batches.peek().cloned() else {
        return Err(ConfigError::new("number of batches", 0, "at least 1").into());
    };
    let old = statistics(&base);
    let strategy = strategy(model);
    let run = |start: &[f64], batch: B| {
        let copy = with_strategy(base.clone().map(&mut Set::new(start)).train(), strategy);
        forward(&copy, batch);
        statistics(&copy.valid())
    };
    // burn keeps old (1 - momentum) + new momentum: started from 0 it shows the new times the momentum, and the
    // difference to what comes of another start shows the momentum itself. What moves from neither is frozen.
    let mut frozen = vec![false; old.len()];
    let start = |frozen: &[bool], numbers: &[f64]| -> Vec<f64> {
        let values = frozen.iter().zip(old.iter().zip(numbers));
        values.map(|(&frozen, (&old, &number))| if frozen { old } else { number }).collect()
    };
    let zeros = vec![0.0; old.len()];
    let probe = |frozen: &[bool]| {
        let zero = run(&start(frozen, &zeros), first.clone());
        // Powers of two of the new one's size, so that every float type holds them, and a start that does not move comes
        // back as it is.
        let size = |value: &f64| value.abs().max(1.0).log2().floor().exp2();
        let other: Vec<f64> = zero.iter().map(size).collect();
        let moved = run(&start(frozen, &other), first.clone());
        (zero, moved, other)
    };
    let (mut zero, mut moved, mut other) = probe(&frozen);
    for (index, frozen) in frozen.iter_mut().enumerate() {
        *frozen = zero[index] == 0.0 && moved[index] == other[index];
    }
    if frozen.contains(&true) {
        // The layers after a frozen one saw what its own statistics would not have shown them.
        (zero, moved, other) = probe(&frozen);
    }
    let difference = moved.iter().zip(&zero).map(|(moved, zero)| moved - zero);
    let momentum: Vec<f64> =
        difference.zip(&other).map(|(kept, other)| 1.0 - kept / other).collect();
    let empty = start(&frozen, &zeros);
    let (mut count, mut sums, mut squares) = (0.0, vec![0.0; zero.len()], vec![0.0; zero.len()]);
    for batch in batches {
        let found = run(&empty, batch);
        count += 1.0;
        for (index, (value, momentum)) in found.iter().zip(&momentum).enumerate() {
            let value = value / momentum.max(f64::MIN_POSITIVE);
            sums[index] += value;
            squares[index] += value * value;
        }
    }
    let mut values: Vec<f64> = sums.iter().map(|sum| sum / count).collect();
    // A layer's variance, where it follows the mean, gains the spread of the batches' means.
    let mut start = 0;
    let mut all = buffers(&base).into_iter().peekable();
    while let Some((name, tensor)) = all.next() {
        let size = tensor.dims()[0];
        let variance =
            name.strip_suffix("running_mean").map(|layer| [layer, "running_var"].concat());
        let follows = |(next, tensor): &(String, Tensor<1>)| {
            variance.as_ref() == Some(next) && tensor.dims()[0] == size
        };
        if all.peek().is_some_and(follows) {
            for mean in start..start + size {
                let spread = squares[mean] / count - values[mean] * values[mean];
                values[mean + size] += spread.max(0.0);
            }
        }
        start += size;
    }
    for (value, (&frozen, &old)) in values.iter_mut().zip(frozen.iter().zip(&old)) {
        if frozen {
            *value = old;
        }
    }
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(StabilizeError::NotFinite {
            what: "a running statistic".into(),
            value: *value,
        });
    }
    // A copy of its own: clones of `base` share their statistics.
    Ok(base.train().map(&mut Set::new(&values)).valid())
}

/// Freezes every batch norm of `model`: statistics, scale and offset stay, and batches are normalized by the
/// running statistics, also in training.
///
/// For fine-tuning with small batches. Undone by `unfreeze_group` or `unfreeze`.
#[must_use]
pub fn freeze_batch_norm<M: Module>(model: M) -> M {
    struct Ids {
        path: PathStack,
        found: Vec<ParamId>,
    }
    impl Ids {
        fn note(&mut self, id: ParamId) {
            if self.path.owner() == "BatchNorm" {
                self.found.push(id);
            }
        }
    }
    impl ModuleVisitor for Ids {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.note(param.id);
        }
        fn visit_flag(&mut self, flag: &Param<Flag>) {
            self.note(flag.id);
        }
    }
    let mut ids = Ids { path: PathStack::default(), found: Vec::new() };
    model.visit(&mut ids);
    model.freeze_group(ParamGroup::from_ids(ids.found))
}

/// Checks that a batch can be normalized: more than one value a channel.
///
/// burn gives variance 0 for a single value, where PyTorch refuses; the output is then the offset alone.
///
/// # Errors
/// When `shape`, `[batch, channels, ..]`, has one value a channel or fewer.
///
/// ```
/// use firebrick_stabilize::check_batch_norm_input;
/// assert!(check_batch_norm_input(&[2, 3]).is_ok() && check_batch_norm_input(&[1, 3, 4, 4]).is_ok());
/// let error = check_batch_norm_input(&[1, 3]).unwrap_err().to_string();
/// assert_eq!(error, "`values per channel` must be at least 2, got 1");
/// ```
pub fn check_batch_norm_input(shape: &[usize]) -> Result<(), ConfigError> {
    let values = shape.iter().enumerate().filter(|(axis, _)| *axis != 1).map(|(_, size)| size);
    check::at_least("values per channel", values.product(), 2).map(drop)
}

/// Sets every running statistic, in the order in which [`statistics`] reads them.
struct Set<'a> {
    path: PathStack,
    values: &'a [f64],
}

impl<'a> Set<'a> {
    fn new(values: &'a [f64]) -> Self {
        Self { path: PathStack::default(), values }
    }
}

impl ModuleMapper for Set<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.path.role(D) != Role::Buffer {
            return param;
        }
        let shape = param.val().shape();
        let count = shape.num_elements();
        let Some((here, after)) = self.values.split_at_checked(count) else { return param };
        self.values = after;
        param.map(|old| {
            Tensor::from_data(TensorData::new(here.to_vec(), shape), (&old.device(), old.dtype()))
        })
    }
}

/// All running statistics, one after another.
fn statistics<M: Module>(model: &M) -> Vec<f64> {
    read(buffers(model).into_iter().map(|(_, tensor)| tensor).collect())
}

/// The running statistics with their names.
fn buffers<M: Module>(model: &M) -> Vec<(String, Tensor<1>)> {
    struct Gather {
        path: PathStack,
        found: Vec<(String, Tensor<1>)>,
    }
    impl ModuleVisitor for Gather {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if self.path.role(D) == Role::Buffer {
                let value = param.val().inner();
                let count = value.shape().num_elements();
                self.found.push((self.path.path(), value.reshape([count])));
            }
        }
    }
    let mut gather = Gather { path: PathStack::default(), found: Vec::new() };
    model.visit(&mut gather);
    gather.found
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::{Scheme, initialize};
    use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
    use burn::tensor::Device;
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;

    #[derive(Module, Debug)]
    struct Net {
        first: BatchNorm,
        layer: Linear,
        second: BatchNorm,
    }

    impl Net {
        fn new(device: &Device) -> Self {
            Self {
                first: BatchNormConfig::new(3).with_momentum(0.3).init(device),
                layer: LinearConfig::new(3, 2).init(device),
                second: BatchNormConfig::new(2).init(device),
            }
        }

        fn forward(&self, x: Tensor<2>) -> Tensor<2> {
            self.second.forward(self.layer.forward(self.first.forward(x)))
        }
    }

    fn rows(n: usize, device: &Device) -> Tensor<2> {
        let mut stream = Seed(5).stream("rows");
        let values: Vec<f64> =
            (0..n * 3).map(|i| stream.normal() * (1 + i % 3) as f64 + 4.0).collect();
        Tensor::from_data(TensorData::new(values, [n, 3]), device)
    }

    #[test]
    fn statistics_become_those_of_the_population_and_the_model_stays() {
        for device in devices() {
            let tracked = device.clone().autodiff();
            let model = Net::new(&tracked);
            let data = rows(40, &tracked);
            let _ = model.forward(data.clone());
            let before = statistics(&model.valid());
            let batches = (0..4).map(|k| data.clone().narrow(0, k * 10, 10));
            let fresh = recalibrate(&model, batches, |m, x| drop(m.forward(x))).expect("works");
            assert_eq!(statistics(&model.valid()), before);

            let plain = data.inner();
            let mean = fresh.first.running_mean.value() - plain.clone().mean_dim(0).reshape([3]);
            let variance = fresh.first.running_var.value() - plain.var_bias(0).reshape([3]);
            for error in read(vec![mean, variance]) {
                assert!(error.abs() < 1e-3, "{error}");
            }
            assert!(fresh.train().layer.weight.is_require_grad());
        }
    }

    #[test]
    fn a_running_mean_without_a_variance_is_a_mean() {
        /// Centres its inputs.
        #[derive(Module, Debug)]
        struct Centre {
            running_mean: burn::module::RunningState<Tensor<1>>,
        }
        impl Centre {
            fn forward(&self, x: Tensor<2>) -> Tensor<2> {
                let mean = x.clone().mean_dim(0);
                let old = self.running_mean.value_sync().mul_scalar(0.9);
                let new = mean.clone().reshape([3]).mul_scalar(0.1);
                self.running_mean.update((old + new).detach());
                x - mean
            }
        }
        for device in devices() {
            let device = device.autodiff();
            let zeros = Tensor::zeros([3], &device);
            let model = Centre { running_mean: burn::module::RunningState::new(zeros) };
            let data = rows(40, &device);
            let batches = (0..4).map(|k| data.clone().narrow(0, k * 10, 10));
            let fresh = recalibrate(&model, batches, |m, x| drop(m.forward(x))).expect("works");
            let mean = fresh.running_mean.value() - data.inner().mean_dim(0).reshape([3]);
            for error in read(vec![mean]) {
                assert!(error.abs() < 1e-3, "{error}");
            }
        }
    }

    #[test]
    fn what_is_frozen_stays_and_the_layers_after_it_see_it() {
        for device in devices() {
            let tracked = device.clone().autodiff();
            let model = Net::new(&tracked);
            let data = rows(40, &tracked);
            let _ = model.forward(data.clone() + 1.0);
            let model = model.valid().train();
            let model = Net { first: freeze_batch_norm(model.first), ..model };
            let before = statistics(&model.first.valid());
            let batches = (0..4).map(|k| data.clone().narrow(0, k * 10, 10));
            let fresh = recalibrate(&model, batches, |m, x| drop(m.forward(x))).expect("works");
            assert_eq!(statistics(&fresh.first), before);

            let seen = fresh.layer.forward(fresh.first.forward(data.inner()));
            let mean = fresh.second.running_mean.value() - seen.clone().mean_dim(0).reshape([2]);
            let variance = fresh.second.running_var.value() - seen.var_bias(0).reshape([2]);
            for error in read(vec![mean, variance]) {
                assert!(error.abs() < 1e-3, "{error}");
            }
        }
    }

    #[test]
    fn what_is_frozen_in_half_precision_stays_too() {
        use burn::module::RunningState;
        use burn::tensor::{DType, FloatDType};
        for device in devices() {
            if !device.supports_dtype(DType::F16) {
                continue;
            }
            let tracked = device.clone().autodiff();
            let half = |values: [f32; 3]| Tensor::<1>::from_data(values, (&tracked, DType::F16));
            let mut model = Net::new(&tracked);
            model.first.gamma = Param::from_tensor(half([1.0; 3]));
            model.first.beta = Param::from_tensor(half([0.0; 3]));
            model.first.running_mean = RunningState::new(half([1.5, -2.25, 0.5]));
            model.first.running_var = RunningState::new(half([3.0, 2.0, 1.0]));
            let model = Net { first: freeze_batch_norm(model.first), ..model };
            let before = statistics(&model.first.valid());
            let forward = |model: &Net, x: Tensor<2>| {
                let x = model.first.forward(x.cast(DType::F16)).cast(FloatDType::F32);
                drop(model.second.forward(model.layer.forward(x)));
            };
            let data = rows(40, &tracked);
            let batches = (0..4).map(|k| data.clone().narrow(0, k * 10, 10));
            let fresh = recalibrate(&model, batches, forward).expect("works");
            assert_eq!(statistics(&fresh.first), before);
            assert_ne!(statistics(&fresh.second), statistics(&model.second.valid()));
        }
    }

    #[test]
    fn a_model_that_checkpoints_gradients_has_the_same_statistics() {
        for device in devices() {
            let plain = device.autodiff();
            let found = |device: &Device| {
                let model = initialize(Net::new(device), Scheme::LecunNormal, Seed(1));
                let data = rows(40, device);
                let batches = (0..4).map(|k| data.clone().narrow(0, k * 10, 10));
                let forward = |model: &Net, x: Tensor<2>| drop(model.forward(x));
                statistics(&recalibrate(&model, batches, forward).expect("works"))
            };
            assert_eq!(found(&plain.clone().gradient_checkpointing()), found(&plain));
        }
    }

    #[test]
    fn frozen_statistics_do_not_move() {
        for device in devices() {
            let tracked = device.clone().autodiff();
            let model = freeze_batch_norm(Net::new(&tracked));
            assert!(model.layer.weight.is_require_grad() && !model.first.gamma.is_require_grad());
            let before = statistics(&model);
            let _ = model.forward(rows(8, &tracked));
            let _ = model.forward(rows(8, &tracked));
            assert_eq!(statistics(&model.valid()), before);
        }
    }

    #[test]
    fn no_batch_and_broken_batches_are_refused() {
        for device in devices() {
            let tracked = device.clone().autodiff();
            let model = Net::new(&tracked);
            let forward = |m: &Net, x: Tensor<2>| drop(m.forward(x));
            let error = recalibrate(&model, Vec::new(), forward).expect_err("refused").to_string();
            assert_eq!(error, "`number of batches` must be at least 1, got 0");
            let broken = vec![Tensor::<2>::full([4, 3], f32::NAN, &tracked)];
            let error = recalibrate(&model, broken, forward).expect_err("refused");
            assert!(matches!(error, StabilizeError::NotFinite { .. }));
        }
    }
}
