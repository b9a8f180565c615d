//! Optimizers against burn's own and torch's: one step over all parameters of a model, gradients ready.
//!
//! The area's entry is [`run`]; its Python peer is `peers/optim.py`. Every rule is measured through the module-level door
//! (`FusedOptimizer`); Adam, AdamW, SGD, AdaGrad and RMSProp also through burn's `ModuleOptimizer`. As in torch,
//! the gradients outlive the step: our step reads shared ones. burn's own copies shared gradients, so it gets fresh ones,
//! made outside the time. Peer `copy` is a parallel copy of as many bytes as the step has to move: its ratio is our share of
//! the copy's bandwidth.

use std::time::{Duration, Instant};

use burn::module::{Module, Param};
use burn::optim::{
    AdaGradConfig, AdamConfig, AdamWConfig, GradientsParams, LionConfig, ModuleOptimizer,
    RmsPropConfig, SgdConfig, momentum::MomentumConfig,
};
use burn::tensor::{Device, Distribution, Tensor};
use firebrick::optim::registry::{CARDS, RuleCard};
use serde_json::{Value, json};

use crate::harness::{BenchError, Case, Harness};
use crate::machine::ParallelCopy;

const TORCH: [&str; 3] = ["torch_loop", "torch_foreach", "torch_fused"];

/// Matrices and nothing else.
#[derive(Module, Debug)]
struct Stack {
    weights: Vec<Param<Tensor<2>>>,
}

/// A model, and gradients for it.
struct Bed {
    model: Option<Stack>,
    grads: Vec<Tensor<2>>,
}

impl Bed {
    fn new(shapes: &[[usize; 2]]) -> Self {
        let device = Device::flex();
        let draw =
            |shape: [usize; 2]| Tensor::random(shape, Distribution::Normal(0.0, 0.02), &device);
        let weight = |&shape: &[usize; 2]| {
            Param::from_tensor(Tensor::from_inner(draw(shape)).require_grad())
        };
        let model = Stack { weights: shapes.iter().map(weight).collect() };
        Self { model: Some(model), grads: shapes.iter().map(|&shape| draw(shape)).collect() }
    }

    /// One timed step; `fresh` gradients belong to the step alone.
    fn step(
        &mut self,
        fresh: bool,
        mut run: impl FnMut(Stack, GradientsParams) -> Stack,
    ) -> Duration {
        let Some(model) = self.model.take() else { return Duration::ZERO };
        let mut grads = GradientsParams::new();
        for (weight, grad) in model.weights.iter().zip(&self.grads) {
            let grad = if fresh { grad.clone().add_scalar(0.0) } else { grad.clone() };
            grads.register(weight.id, grad);
        }
        let start = Instant::now();
        let model = run(model, grads);
        let time = start.elapsed();
        // A training step has a backward pass, which sweeps the leaves of former steps out of autodiff's tables.
        let leaf = Tensor::<1>::ones([1], &Device::flex().autodiff()).require_grad();
        drop(leaf.sum().backward());
        self.model = Some(model);
        time
    }
}

/// burn's own optimizer for a rule that it has, with the defaults of ours.
fn burns(name: &str) -> Option<ModuleOptimizer> {
    Some(match name {
        "sgd" => {
            let momentum = MomentumConfig::new().with_momentum(0.9).with_dampening(0.0);
            SgdConfig::new().with_momentum(Some(momentum)).init()
        }
        "adam" => AdamConfig::new().with_epsilon(1e-8).init(),
        "adamw" => AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(0.01).init(),
        "adagrad" => AdaGradConfig::new().with_epsilon(1e-10).init(),
        "rmsprop" => RmsPropConfig::new().with_momentum(0.0).with_epsilon(1e-8).init(),
        "lion" => LionConfig::new().init(),
        _ => return None,
    })
}

/// What each rule is measured with: its defaults, SGD with momentum.
fn config(card: &RuleCard) -> Value {
    if card.name == "sgd" { json!({"momentum": 0.9}) } else { Value::Null }
}

/// Bytes of an ideal step for a parameter: gradient and parameter read, parameter written, state read and written.
fn bytes(slots: usize) -> f64 {
    12.0 + 8.0 * slots as f64
}

/// Measures the area: `cargo xtask bench optim`.
pub(crate) fn run(bench: &mut Harness) -> Result<(), BenchError> {
    let quick = bench.quick();
    let (large, count, single) = if quick { (2, 50, 1 << 20) } else { (16, 500, 1 << 26) };
    // A transformer of 4 layers of width 256 with a vocabulary of 4,000, its vectors as columns.
    let mut mix = vec![[4000, 256], [256, 256]];
    for _ in 0..4 {
        mix.extend([[256, 256]; 4]);
        mix.extend([[256, 1024], [1024, 256]]);
        mix.extend([[1, 256]; 9]);
        mix.push([1, 1024]);
    }
    let beds: [(String, Vec<[usize; 2]>); 4] = [
        (format!("{large} x 1024^2"), vec![[1024, 1024]; large]),
        (format!("{count} x 64^2"), vec![[64, 64]; count]),
        (format!("one of {single}"), vec![[single / 1024, 1024]]),
        ("transformer".into(), mix),
    ];
    for (size, shapes) in &beds {
        for card in CARDS {
            // Rules that work on matrices are not the pass that the single giant is for.
            let heavy = card.name == "muon";
            if heavy && shapes.len() != 4 * 16 + 2 {
                continue;
            }
            row(bench, card, size, shapes)?;
        }
    }
    Ok(())
}

fn row(
    bench: &mut Harness,
    card: &RuleCard,
    size: &str,
    shapes: &[[usize; 2]],
) -> Result<(), BenchError> {
    let name = format!("{}, {size}", card.name);
    let door = format!("{}, {size}, burn's ModuleOptimizer", card.name);
    if !bench.wants(&name) && !bench.wants(&door) {
        return Ok(());
    }
    let parameters: usize = shapes.iter().map(|[rows, columns]| rows * columns).sum();
    let failed = |error: firebrick::optim::OptimError| BenchError::Area(error.to_string());
    let rule = card.create(&config(card)).map_err(failed)?;
    let case = |name: String| {
        Case::new(name, "ns/parameter")
            .scale(1e9 / parameters as f64)
            .bytes(bytes(rule.slots().len()) * parameters as f64)
    };
    let mut theirs = burns(card.name).map(|optimizer| (Bed::new(shapes), optimizer));
    let mut copy = ParallelCopy::of(bytes(rule.slots().len()) * parameters as f64);
    let (mut ours, mut fused) = (Bed::new(shapes), rule.fused());
    let mut whole =
        case(name).ours(|| ours.step(false, |model, grads| fused.step(1e-3, model, grads)));
    if let Some((bed, optimizer)) = &mut theirs {
        whole = whole
            .peer("burn", || bed.step(true, |model, grads| optimizer.step(1e-3, model, grads)));
    }
    whole = whole.peer("copy", || copy.run());
    for peer in TORCH {
        whole = whole.python(peer);
    }
    bench.row(whole)?;
    let Some((bed, optimizer)) = &mut theirs else { return Ok(()) };
    let (mut ours, mut init) = (Bed::new(shapes), rule.init());
    let through = case(door)
        .ours(|| ours.step(false, |model, grads| init.step(1e-3, model, grads)))
        .peer("burn", || bed.step(true, |model, grads| optimizer.step(1e-3, model, grads)));
    bench.row(through)
}
