//! Optimizers against burn's own and torch's: one step over all parameters of a model, gradients ready.
//!
//! The area's entry is [`run`]; its Python peer is `peers/optim.py`. Every rule is measured through the module-level door
//! (`FusedOptimizer`); Adam, AdamW, SGD, AdaGrad and RMSProp also through burn's `ModuleOptimizer`. As in torch,
//! the gradients outlive the step: our step reads shared ones. burn's own copies shared gradients, so it gets fresh ones,
//! made outside the time. Peer `copy` is a parallel copy of as many bytes as the step has to move: its ratio is our share of
//! the copy's bandwidth. Bytes are those of the state that a rule has for the shapes at hand, and of both passes where
//! sums over the tensor come first; rules by tensor operations count each tensor once, the least that any order of
//! operations moves.

use std::time::{Duration, Instant};

use burn::module::{Module, Param};
use burn::optim::{
    AdaGradConfig, AdamConfig, AdamWConfig, GradientsParams, LionConfig, ModuleOptimizer,
    RmsPropConfig, SgdConfig, momentum::MomentumConfig,
};
use burn::tensor::{Device, Distribution, Tensor};
use firebrick::optim::Elementwise;
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

/// Bytes that a step of a rule has to move for parameters of these shapes: parameter and gradient read, the parameter
/// written, state read and written; what the first of two passes reads comes on top.
fn bytes(name: &str, rule: &Elementwise, shapes: &[[usize; 2]]) -> f64 {
    let numbers = |shape: &[usize; 2]| {
        let parameters = shape.iter().product::<usize>();
        let state = rule.state_lengths(shape);
        let read: usize = state.iter().sum();
        // Of the gradients that AdaShift keeps, a step writes one.
        let written = if name == "adashift" { state[0] + parameters } else { read };
        // Parameter and gradient for the sums, and the slots that their terms need.
        let before = match (rule.passes(), name) {
            (1, _) => 0,
            (_, "lars") => 2 * parameters,
            (_, "stableadamw" | "cautiousadamw" | "cautiouslion" | "mars") => 3 * parameters,
            _ => 2 * parameters + read,
        };
        before + 3 * parameters + read + written
    };
    4.0 * shapes.iter().map(numbers).sum::<usize>() as f64
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
    // A small one: the digits of 28 x 28 pixels, biases as rows.
    let mlp = vec![[784, 128], [1, 128], [128, 64], [1, 64], [64, 10], [1, 10]];
    let beds: [(String, Vec<[usize; 2]>); 5] = [
        (format!("{large} x 1024^2"), vec![[1024, 1024]; large]),
        (format!("{count} x 64^2"), vec![[64, 64]; count]),
        (format!("one of {single}"), vec![[single / 1024, 1024]]),
        ("transformer".into(), mix),
        ("mlp".into(), mlp),
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
    let moved = bytes(card.name, &rule, shapes);
    let case =
        |name: String| Case::new(name, "ns/parameter").scale(1e9 / parameters as f64).bytes(moved);
    let mut theirs = burns(card.name).map(|optimizer| (Bed::new(shapes), optimizer));
    let mut copy = ParallelCopy::of(moved);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_state_that_there_is() {
        let moved = |name: &str, config: Value| {
            let rule = firebrick::optim::registry::create(name, &config).expect("valid");
            bytes(name, &rule, &[[64, 32]]) / (4.0 * 64.0 * 32.0)
        };
        // In numbers a parameter: Adam reads 4 and writes 3.
        assert_eq!(moved("adam", Value::Null), 7.0);
        assert_eq!(moved("sgd", Value::Null), 3.0);
        assert_eq!(moved("sgd", json!({"momentum": 0.9})), 5.0);
        // The average is the parameter for a million steps.
        assert_eq!(moved("asgd", Value::Null), 3.0);
        assert_eq!(moved("muon", Value::Null), 5.0);
        // A row and a column, read and written.
        assert_eq!(moved("adafactor", Value::Null), 3.0 + 2.0 * (64.0 + 32.0) / 2048.0);
        // Ten gradients read, one written; the second moment is a single number.
        assert_eq!(moved("adashift", Value::Null), 14.0 + 2.0 / 2048.0);
        // Two passes: parameter and gradient for LARS's sums, both moments beside them for LAMB's.
        assert_eq!(moved("lars", Value::Null), 2.0 + 5.0);
        assert_eq!(moved("lamb", Value::Null), 4.0 + 7.0);
        assert_eq!(moved("cautiouslion", Value::Null), 3.0 + 5.0);
        assert_eq!(moved("mars", Value::Null), 3.0 + 9.0);
        // Moments, the matrices L, R and their eigenvectors.
        let square = 2.0 * (64.0 * 64.0 + 32.0 * 32.0) / 2048.0;
        assert_eq!(moved("soap", Value::Null), 3.0 + 2.0 * (2.0 + square));
    }
}
