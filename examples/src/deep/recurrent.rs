//! Recurrent nets on the adding problem: the sum of the two numbers of a sequence that are marked.

use crate::gates::Gates;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig, Lstm, LstmConfig, LstmState};
use burn::optim::GradientsParams;
use burn::tensor::activation::{relu, tanh};
use burn::tensor::{Device, Tensor};
use firebrick::optim::{AdamConfig, SgdConfig};
use firebrick::prelude::Seed;
use firebrick::stabilize::{
    ClipGlobalNormConfig, Distribution, Fan, ForgetBias, Guard, Initialize, Scheme, Select, Watch,
    initialize, initialize_recurrent,
};
use firebrick::train::Optimize;
use firebrick_examples::failure::Failure;

/// Sequences of `[samples, steps, 2]` and their sums `[samples, 1]`.
pub(crate) fn sequences(
    samples: usize,
    steps: usize,
    seed: Seed,
    device: &Device,
) -> (Tensor<3>, Tensor<2>) {
    let mut stream = seed.stream("adding problem");
    let (mut inputs, mut sums) = (Vec::new(), Vec::new());
    for _ in 0..samples {
        let half = (steps / 2) as u64;
        let marked = [stream.below(half), half + stream.below(half)];
        let mut sum = 0.0;
        for step in 0..steps as u64 {
            let value = stream.uniform() as f32;
            let mark = marked.contains(&step);
            sum += if mark { value } else { 0.0 };
            inputs.extend([value, f32::from(u8::from(mark))]);
        }
        sums.push(sum);
    }
    let inputs = Tensor::<1>::from_floats(inputs.as_slice(), device).reshape([samples, steps, 2]);
    (inputs, Tensor::<1>::from_floats(sums.as_slice(), device).reshape([samples, 1]))
}

/// h <- f(W x + U h)
#[derive(Module, Debug)]
pub(crate) struct Simple {
    input: Linear,
    hidden: Linear,
}

impl Simple {
    fn new(width: usize, device: &Device) -> Self {
        Self {
            input: LinearConfig::new(2, width).init(device),
            hidden: LinearConfig::new(width, width).with_bias(false).init(device),
        }
    }
}

/// One of the two cells, and a sum at the end.
#[derive(Module, Debug)]
pub(crate) struct Recurrent {
    simple: Option<Simple>,
    lstm: Option<Lstm>,
    last: Linear,
    width: usize,
    /// Whether the simple cell's f is ReLU; tanh if not.
    relu: bool,
}

impl Recurrent {
    /// A ReLU net whose recurrent matrix is `gain` times the identity.
    pub(crate) fn relu(
        width: usize,
        gain: f64,
        seed: Seed,
        device: &Device,
    ) -> Result<Self, Failure> {
        let mut net = Self::simple(width, device);
        net.relu = true;
        let rules = Initialize::new(seed)
            .at(
                Select::path("simple.input.weight"),
                Scheme::Fixed { deviation: 0.1, distribution: Distribution::Normal },
            )
            .at(Select::path("simple.hidden.weight"), Scheme::Identity { gain })
            .at(Select::path("last.weight"), Scheme::XavierUniform);
        rules.apply(net).map_err(Failure::run)
    }

    /// A tanh net with burn's default weights, of variance 1/(3n).
    pub(crate) fn tanh(width: usize, seed: Seed, device: &Device) -> Self {
        let scheme = Scheme::Scaled {
            gain: 1.0 / 3f64.sqrt(),
            fan: Fan::In,
            distribution: Distribution::Uniform,
        };
        initialize(Self::simple(width, device), scheme, seed)
    }

    /// An LSTM, its forget gates as given.
    pub(crate) fn lstm(
        width: usize,
        forget: ForgetBias,
        seed: Seed,
        device: &Device,
    ) -> Result<Self, Failure> {
        let lstm = Some(LstmConfig::new(2, width, true).init(device));
        let net = Self { simple: None, lstm, ..Self::simple(width, device) };
        let net = initialize(net, Scheme::XavierUniform, seed);
        initialize_recurrent(net, forget, seed).map_err(Failure::run)
    }

    fn simple(width: usize, device: &Device) -> Self {
        let last = LinearConfig::new(width, 1).init(device);
        Self { simple: Some(Simple::new(width, device)), lstm: None, last, width, relu: false }
    }

    /// The mean squared error; `see` is shown the memory after each step and gives it back.
    pub(crate) fn loss(
        &self,
        (inputs, sums): (Tensor<3>, Tensor<2>),
        mut see: impl FnMut(usize, Tensor<2>) -> Tensor<2>,
    ) -> Tensor<1> {
        let [samples, steps, _] = inputs.dims();
        let device = inputs.device();
        let gates = self.lstm.as_ref().and_then(Gates::of);
        let one = Tensor::<2>::ones([samples, 1], &device);
        let mut hidden = Tensor::<2>::zeros([samples, self.width], &device);
        let mut cell = hidden.clone();
        for step in 0..steps {
            let input = inputs.clone().narrow(1, step, 1).squeeze_dim::<2>(1);
            if let Some(net) = &self.simple {
                let sum = net.input.forward(input.clone()) + net.hidden.forward(hidden.clone());
                hidden = see(step, if self.relu { relu(sum) } else { tanh(sum) });
            }
            if let Some(gates) = &gates {
                let input = Tensor::cat(vec![input, one.clone()], 1);
                let state = gates.step(input, LstmState { cell, hidden });
                (cell, hidden) = (see(step, state.cell), state.hidden);
            }
        }
        (self.last.forward(hidden) - sums).square().mean()
    }
}

/// The size of the error of the memory after some of the steps, each as a multiple of that after the last.
pub(crate) fn errors(
    net: &Recurrent,
    steps: usize,
    seed: Seed,
    device: &Device,
) -> Vec<(usize, f64)> {
    let mut watch = Watch::default();
    let every = (steps / 20).max(1);
    let mut seen = Vec::new();
    let loss = net.loss(sequences(16, steps, seed, device), |step, memory| {
        if (step + 1) % every != 0 && step != 0 {
            return memory;
        }
        seen.push(step + 1);
        watch.see(step.to_string(), memory)
    });
    let (_, errors) = watch.read(&loss.backward());
    let last = errors.last().map_or(f64::NAN, |tap| tap.rms);
    seen.into_iter().zip(errors).map(|(step, tap)| (step, tap.rms / last)).collect()
}

/// How a recurrent training went.
#[derive(Debug, Clone)]
pub(crate) struct RecurrentRun {
    /// The loss of each step, to the first that is not finite.
    pub(crate) losses: Vec<f64>,
    /// The gradient's norm of each step, before clipping.
    pub(crate) norms: Vec<f64>,
    /// The [`errors`] of the last weights that gave a finite loss.
    pub(crate) errors: Vec<(usize, f64)>,
}

/// The losses of a training by Adam, clipped at 1; every step meets sequences that it has never seen.
pub(crate) fn learn(
    mut net: Recurrent,
    (length, steps): (usize, usize),
    seed: Seed,
    device: &Device,
) -> Result<Vec<f64>, Failure> {
    let mut optimizer = AdamConfig::new().fused().map_err(Failure::run)?;
    let mut clip = ClipGlobalNormConfig::new(1.0).init()?;
    let mut losses = Vec::new();
    for step in 0..steps {
        let data = sequences(64, length, seed.child(step as u64), device);
        let loss = net.loss(data, |_, hidden| hidden);
        losses.push(f64::from(loss.clone().inner().into_scalar::<f32>()));
        let gradients = GradientsParams::from_grads(loss.backward(), &net);
        let factor = clip.factor(&net, &gradients);
        net = optimizer.step_scaled(0.01, net, gradients, factor);
    }
    Ok(losses)
}

/// The mean of the last tenth; infinite where one is no number.
pub(crate) fn last(losses: &[f64]) -> f64 {
    let tail = losses.len().div_ceil(10);
    let mean = losses[losses.len() - tail..].iter().sum::<f64>() / tail as f64;
    if mean.is_finite() { mean } else { f64::INFINITY }
}

/// Trains by hand, clipped at `bound` where there is one.
pub(crate) fn train(
    mut net: Recurrent,
    (length, steps): (usize, usize),
    bound: Option<f64>,
    seed: Seed,
    device: &Device,
) -> Result<RecurrentRun, Failure> {
    let mut optimizer = SgdConfig::new().fused().map_err(Failure::run)?;
    // A bound that nothing exceeds still measures the norm.
    let mut clip = ClipGlobalNormConfig::new(bound.unwrap_or(f64::MAX)).init()?;
    let mut run = RecurrentRun { losses: Vec::new(), norms: Vec::new(), errors: Vec::new() };
    let mut last = net.clone();
    for step in 0..steps {
        let data = sequences(32, length, seed.child(step as u64), device);
        let loss = net.loss(data, |_, hidden| hidden);
        let value = f64::from(loss.clone().inner().into_scalar::<f32>());
        run.losses.push(value);
        let mut gradients = GradientsParams::from_grads(loss.backward(), &net);
        clip.before_step(&net, &mut gradients, value);
        run.norms.extend(clip.last_norm());
        if !value.is_finite() {
            break;
        }
        last = net.clone();
        net = Optimize::step(&mut optimizer, 0.01, net, gradients);
    }
    run.errors = errors(&last, length, seed, device);
    Ok(run)
}
