//! What the tests of the rules share.

use crate::elementwise::Elementwise;
use crate::walk::Walk;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::optim::{GradientsParams, Optimizer};
use burn::tensor::{DType, Device, Tensor, TensorData};
use firebrick_backend::PathStack;
use firebrick_backend::checkpointing::in_place_of;
use firebrick_core::ConfigError;
use std::cell::RefCell;

/// The gradients of the golden trajectories, from (1, -0.5).
pub(crate) const GRADS: [[f64; 2]; 8] = [
    [0.5, 0.1],
    [-0.25, 0.3],
    [0.8, -0.2],
    [0.1, 0.05],
    [0.4, 0.4],
    [-0.6, 0.1],
    [0.2, -0.3],
    [0.3, 0.2],
];

/// The golden numbers of a rule that is Adam but for the direction, a function of the gradient and the corrected
/// moments; moments by their closed sums, not by the recurrence under test.
pub(crate) fn adam_like(lr: f64, direction: impl Fn(f64, f64, f64) -> f64) -> [f64; 4] {
    let mut p = [1.0, -0.5];
    let mut path = Vec::new();
    for (t, now) in GRADS.iter().enumerate() {
        for k in 0..2 {
            let mean = |b: f64, power: i32| {
                let sum = |f: &dyn Fn(usize) -> f64| (0..=t).map(f).sum::<f64>();
                let weight = |i: usize| b.powi((t - i) as i32);
                sum(&|i| weight(i) * GRADS[i][k].powi(power)) / sum(&weight)
            };
            p[k] -= lr * direction(now[k], mean(0.9, 1), mean(0.999, 2));
        }
        path.push(p);
    }
    [path[0][0], path[1][0], path[7][0], path[7][1]]
}

/// Checks (first coordinate after steps 1, 2, 8; second after 8) in f64, on f32 fused, on f32 by tensor operations
/// and on f64 tensors.
pub(crate) fn golden(optimizer: &Elementwise, lr: f64, expected: [f64; 4]) {
    let mut walk = Walk::new(optimizer, &[1.0, -0.5]);
    let path = GRADS.map(|grad| walk.step(lr, &grad).to_vec());
    let seen = [path[0][0], path[1][0], path[7][0], path[7][1]];
    for (seen, expected) in seen.iter().zip(expected) {
        assert!(
            (seen - expected).abs() < 6e-10,
            "{}: f64 {seen} against {expected}",
            optimizer.name()
        );
    }
    let all = optimizer.clone().with_decay_on(crate::DecayOn::All);
    let ops = all.clone().with_fused_pass(false);
    for (rule, dtype, bound) in
        [(&all, DType::F32, 2e-6), (&ops, DType::F32, 2e-6), (&ops, DType::F64, 1e-12)]
    {
        for (k, values) in tensor_path(rule, lr, dtype).iter().enumerate() {
            for (seen, expected) in values.iter().zip(&path[k]) {
                let off = (seen - expected).abs() / expected.abs().max(1.0);
                assert!(
                    off <= bound,
                    "{} {dtype:?} step {k}: {seen} against {expected}",
                    rule.name()
                );
            }
        }
    }
}

fn tensor_path(rule: &Elementwise, lr: f64, dtype: DType) -> Vec<Vec<f64>> {
    let device = Device::flex();
    let tensor =
        |values: [f64; 2]| Tensor::<1>::from_data(TensorData::from(values), (&device, dtype));
    let (mut param, mut state) = (tensor([1.0, -0.5]), None);
    GRADS
        .iter()
        .map(|&grad| {
            let (new, next) = rule.step(lr, param.clone(), tensor(grad), state.take());
            (param, state) = (new, next);
            param.clone().into_data().convert::<f64>().try_into_vec().expect("f64")
        })
        .collect()
}

/// Checks that a configuration is refused, and how.
pub(crate) fn refused<T>(result: Result<T, ConfigError>, message: &str) {
    match result {
        Ok(_) => panic!("accepted what must be refused: {message}"),
        Err(error) => assert_eq!(error.to_string(), message),
    }
}

/// A network with a parameter of each role.
#[derive(Module, Debug)]
pub(crate) struct Net {
    pub(crate) embedding: Embedding,
    pub(crate) norm: LayerNorm,
    pub(crate) linear: Linear,
}

/// The network with fixed values.
pub(crate) fn net(device: &Device) -> Net {
    net_of(device, DType::F32)
}

/// The network with fixed values of type `dtype`.
pub(crate) fn net_of(device: &Device, dtype: DType) -> Net {
    let net = Net {
        embedding: EmbeddingConfig::new(5, 3).init(device),
        norm: LayerNormConfig::new(3).init(device),
        linear: LinearConfig::new(3, 2).init(device),
    };
    net.map(&mut Fill(dtype, 0))
}

/// Fills a module with fixed values of a type, from a number on.
pub(crate) struct Fill(pub(crate) DType, pub(crate) u64);

impl ModuleMapper for Fill {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.1 += 1;
        let (dtype, seed) = (self.0, self.1);
        let trains = param.is_require_grad();
        param.map(|old| {
            let new = Tensor::from_data(draw(seed, &old.dims()), (&old.device(), dtype));
            if old.is_autodiff() { new.set_require_grad(trains) } else { new }
        })
    }
}

/// Casts a module.
pub(crate) struct Cast(pub(crate) DType);

impl ModuleMapper for Cast {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let trains = param.is_require_grad();
        param.map(|old| {
            let new = old.clone().inner().cast(self.0);
            in_place_of(new, &old, trains)
        })
    }
}

/// The errors that this thread has logged since the last call.
pub(crate) fn logged() -> Vec<String> {
    thread_local! {
        static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }
    struct Lines;
    impl log::Log for Lines {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
        }
        fn flush(&self) {}
    }
    // Another test may have set it.
    let _ = log::set_logger(&Lines);
    log::set_max_level(log::LevelFilter::Error);
    LINES.take()
}

fn draw(seed: u64, shape: &[usize]) -> TensorData {
    let mut stream = firebrick_core::Seed(seed).stream("test");
    let n = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|_| stream.normal() as f32).collect();
    TensorData::new(values, shape.to_vec())
}

struct Fresh<'a> {
    grads: &'a mut GradientsParams,
    seed: Option<u64>,
    named: Vec<(String, Vec<f32>)>,
}
impl ModuleVisitor for Fresh<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val().inner();
        let data = match &mut self.seed {
            Some(seed) => {
                *seed += 1;
                draw(*seed, &value.dims())
            }
            None => TensorData::zeros::<f32, _>(value.shape()),
        };
        let grad = Tensor::<D>::from_data(data, (&value.device(), value.dtype()));
        self.named.push((
            String::new(),
            grad.clone().into_data().convert::<f32>().try_into_vec().expect("f32"),
        ));
        self.grads.register(param.id, grad);
    }
}

fn fresh<M: Module>(model: &M, seed: Option<u64>) -> (GradientsParams, Vec<(String, Vec<f32>)>) {
    let mut grads = GradientsParams::new();
    let mut visitor = Fresh { grads: &mut grads, seed, named: Vec::new() };
    model.visit(&mut visitor);
    let named = visitor.named;
    (grads, named)
}

/// Gradients of step `k`, the same for the same step.
pub(crate) fn grads<M: Module>(model: &M, k: u64) -> GradientsParams {
    fresh(model, Some(1000 + 100 * k)).0
}

/// The values of [`grads`].
pub(crate) fn grad_values<M: Module>(model: &M, k: u64) -> Vec<(String, Vec<f32>)> {
    fresh(model, Some(1000 + 100 * k)).1
}

/// Gradients of zero.
pub(crate) fn zero_grads<M: Module>(model: &M) -> GradientsParams {
    fresh(model, None).0
}

/// All values with their paths.
pub(crate) fn named<M: Module>(model: &M) -> Vec<(String, Vec<f32>)> {
    struct Read(PathStack, Vec<(String, Vec<f32>)>);
    impl ModuleVisitor for Read {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let data = param.val().inner().into_data().convert::<f32>();
            self.1.push((self.0.path(), data.try_into_vec().expect("f32")));
        }
    }
    let mut read = Read(PathStack::default(), Vec::new());
    model.visit(&mut read);
    read.1
}

/// All values in order.
pub(crate) fn values<M: Module>(model: &M) -> Vec<f32> {
    named(model).into_iter().flat_map(|(_, values)| values).collect()
}
