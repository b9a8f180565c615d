//! Layers and wrappers in the three places: a loop written by hand, burn-train's Learner, and `Fit`.
//!
//! It is the same training to the bit, its loss falls, and what each layer promises holds after it.

use crate::net::{cross_entropy, data};
use crate::places::{BATCH, InOrder, RATE, ROWS, loader, optimizer};
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, LstmConfig};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor, TensorData, TensorReadError};
use burn::train::metric::LossMetric;
use burn::train::{
    ClassificationOutput, InferenceStep, Learner, SupervisedTraining, TrainOutput, TrainStep,
};
use firebrick::backend::PathStack;
use firebrick::prelude::*;
use firebrick::regularize::{MaskSource, RegularizedLstm, RegularizedLstmConfig};
use firebrick::stabilize::*;
use firebrick::train::{Batches, Guarded, Score};
use std::collections::BTreeMap;

const EPOCHS: usize = 8;
const WIDTH: usize = 16;
const CAP: f64 = 4.0;

/// The last one normalizes what comes out, so that the frozen statistics fit it in training and in evaluation.
const KINDS: [ResidualKind; 9] = [
    ResidualKind::Plain,
    ResidualKind::PreNorm,
    ResidualKind::Sandwich,
    ResidualKind::BranchNorm,
    ResidualKind::Scaled,
    ResidualKind::LayerScale { initial: 0.1 },
    ResidualKind::Highway { bias: -1.0 },
    ResidualKind::DeepNorm { alpha: 2.0 },
    ResidualKind::PostNorm,
];

#[derive(Module, Debug)]
struct Layers {
    lift: Linear,
    standardized: Linear,
    ghost: GhostBatchNorm,
    skips: Vec<Residual>,
    branches: Vec<Linear>,
    frozen: BatchNorm,
    bounded: Linear,
}

impl Layers {
    fn new(device: &Device) -> Self {
        let linear = || LinearConfig::new(WIDTH, WIDTH).init(device);
        let skip =
            |kind: &ResidualKind| ResidualConfig::new(WIDTH, *kind).init(device).expect("valid");
        let ghost = GhostBatchNormConfig::new(WIDTH).with_ghost_size(BATCH / 2);
        let net = Self {
            lift: LinearConfig::new(8, WIDTH).init(device),
            standardized: linear(),
            ghost: ghost.init(device).expect("valid"),
            skips: KINDS.iter().map(skip).collect(),
            branches: KINDS.iter().map(|_| linear()).collect(),
            frozen: BatchNormConfig::new(WIDTH).init(device),
            bounded: LinearConfig::new(WIDTH, 3).init(device),
        };
        // Fixup for the branches, and LSUV for the first layer.
        let factor = fixup_factor(KINDS.len(), 2).expect("valid");
        let net = Initialize::new(Seed(3))
            .weights(Scheme::KaimingNormal)
            .scale(Select::path("branches"), factor)
            .apply(net)
            .expect("fits");
        let rows = data(ROWS, device).inputs;
        let lsuv = LsuvConfig::new().init().expect("valid");
        let look = |net: &Self, taps: &mut Taps| taps.see("lift", &net.lift.forward(rows.clone()));
        let (net, variances) = lsuv.apply(net, look).expect("works");
        assert!(variances.iter().all(|(_, variance)| (variance - 1.0).abs() < 0.1));
        let net = standardize_weights(net, &Select::path("standardized"), 1e-6).expect("fits");
        let net = normalize_weights(net, &Select::path("branches")).expect("fits");
        let net = spectral_norm(net, &Select::path("bounded"), 50).expect("fits");
        // Statistics of its own, or those that stay would be burn's 0 and 1.
        let hidden: Tensor<2> = Tensor::from_inner(net.valid().hidden(rows.inner()));
        let batches = (0..ROWS / BATCH).map(|k| hidden.clone().narrow(0, k * BATCH, BATCH));
        let forward = |norm: &BatchNorm, batch: Tensor<2>| drop(norm.forward(batch));
        let frozen = recalibrate(&net.frozen, batches, forward).expect("finite");
        Self { frozen: freeze_batch_norm(frozen.train()), ..net }
    }

    fn hidden(&self, inputs: Tensor<2>) -> Tensor<2> {
        let x = self.standardized.forward(relu(self.lift.forward(inputs)));
        let x = relu(self.ghost.forward(x));
        self.skips
            .iter()
            .zip(&self.branches)
            .fold(x, |x, (skip, branch)| skip.forward(x, |x| relu(branch.forward(x))))
    }

    fn forward(&self, inputs: Tensor<2>) -> Tensor<2> {
        let logits = self.bounded.forward(self.frozen.forward(self.hidden(inputs)));
        soft_cap(logits, CAP).expect("valid")
    }
}

fn loss(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    cross_entropy(logits.clone(), targets) + z_loss(logits, 1e-3).expect("valid")
}

impl Learn for Layers {
    type Batch = Labelled<2>;

    fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
        loss(self.forward(batch.inputs), batch.targets)
    }

    fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
        Score::classification(self.forward(batch.inputs), batch.targets)
    }
}

type Chain = (SkipNonFinite, ClipGlobalNorm);

fn guards() -> Chain {
    (
        SkipNonFiniteConfig::new().init().expect("valid"),
        ClipGlobalNormConfig::new(1.0).init().expect("valid"),
    )
}

/// The trained model in evaluation mode, and the loss of each step.
fn by_hand(device: &Device) -> (Layers, Vec<f64>) {
    let data = InOrder(data(ROWS, device));
    let (mut model, mut optimizer, mut guards) = (Layers::new(device), optimizer(), guards());
    let mut losses = Vec::new();
    for batch in (1..=EPOCHS).flat_map(|epoch| data.epoch(epoch)) {
        let loss = model.loss(batch);
        let value = f64::from(loss.clone().inner().into_scalar::<f32>());
        let mut gradients = GradientsParams::from_grads(loss.backward(), &model);
        assert_eq!(guards.before_step(&model, &mut gradients, value), Verdict::Proceed);
        model = optimizer.step(RATE, model, gradients);
        losses.push(value);
    }
    (model.valid(), losses)
}

fn fitted(device: &Device) -> (Layers, Vec<f64>) {
    let config = FitConfig::new(EPOCHS).with_progress(false).with_record_every(1);
    let fitted = Fit::new(config, optimizer())
        .rate(|_| RATE)
        .guards(guards())
        .run(Layers::new(device), &InOrder(data(ROWS, device)), None)
        .expect("trains");
    (fitted.model, fitted.history.series("batch_loss"))
}

/// The user's model in the Learner.
#[derive(Module, Debug)]
struct User {
    net: Layers,
    #[module(skip)]
    guards: Guarded<Chain>,
}

impl User {
    fn output(&self, batch: Labelled<2>) -> ClassificationOutput {
        let output = self.net.forward(batch.inputs);
        let loss = loss(output.clone(), batch.targets.clone());
        ClassificationOutput::new(loss, output, batch.targets)
    }
}

impl TrainStep for User {
    type Input = Labelled<2>;
    type Output = ClassificationOutput;

    fn step(&self, batch: Labelled<2>) -> TrainOutput<ClassificationOutput> {
        let output = self.output(batch);
        let gradients = self.guards.before_backward(output.loss.clone()).backward();
        TrainOutput::new(self, gradients, output)
    }

    fn optimize(
        self,
        optimizer: &mut ModuleOptimizer,
        rate: ModuleLearningRate,
        gradients: GradientsParams,
    ) -> Self {
        self.guards.clone().optimize(self, optimizer, rate, gradients)
    }
}

impl InferenceStep for User {
    type Input = Labelled<2>;
    type Output = ClassificationOutput;

    fn step(&self, batch: Labelled<2>) -> ClassificationOutput {
        self.output(batch)
    }
}

fn learned(device: &Device) -> Layers {
    let folder = tempfile::tempdir().expect("a folder for the run");
    let (train, valid) = (loader(BATCH, device), loader(BATCH, &Device::flex()));
    let model = User { net: Layers::new(device), guards: Guarded::new(guards()) };
    let result = SupervisedTraining::new(folder.path(), train, valid)
        .metrics((LossMetric::new(),))
        .num_epochs(EPOCHS)
        .with_application_logger(None)
        .launch(Learner::new(model, optimizer(), RATE));
    assert!(result.error.is_none());
    result.model.net
}

/// Every float parameter and statistic by path; of a weight in other coordinates what is learned.
#[derive(Default)]
struct Values {
    path: PathStack,
    found: BTreeMap<String, Vec<f64>>,
}

impl ModuleVisitor for Values {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let values = param.val().try_to_vec_as().expect("reads");
        self.found.insert(self.path.path(), values);
    }
}

pub(crate) fn values<M: Module>(net: &M) -> BTreeMap<String, Vec<f64>> {
    let mut values = Values::default();
    net.visit(&mut values);
    values.found
}

/// The weights of each unit of a Linear.
fn units(weight: Tensor<2>) -> Vec<Vec<f64>> {
    let [inputs, _] = weight.dims();
    let values: Vec<f64> = weight.transpose().try_to_vec_as().expect("reads");
    values.chunks(inputs).map(<[f64]>::to_vec).collect()
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

/// The largest singular value of a matrix given by its columns, by power iteration.
fn largest_singular_value(columns: &[Vec<f64>]) -> f64 {
    let mut vector: Vec<f64> = (0..columns.len()).map(|i| 1.0 - 0.6 * i as f64).collect();
    let mut square = 0.0;
    for _ in 0..1000 {
        let next: Vec<f64> = columns
            .iter()
            .map(|row| {
                columns.iter().zip(&vector).map(|(column, v)| dot(row, column) * v).sum::<f64>()
            })
            .collect();
        square = dot(&next, &next).sqrt();
        vector = next.iter().map(|v| v / square).collect();
    }
    square.sqrt()
}

/// What the layers promise, of a trained model in evaluation mode that started as `start`.
fn check(end: &Layers, start: &Layers) {
    let (found, before) = (values(end), values(start));
    let standardized = units(end.standardized.weight.val());
    assert_eq!(standardized.len(), WIDTH);
    for unit in standardized {
        let mean = unit.iter().sum::<f64>() / WIDTH as f64;
        assert!(mean.abs() < 1e-5, "standardized: mean {mean}");
        let variance = dot(&unit, &unit) / WIDTH as f64;
        assert!((variance - 1.0).abs() < 1e-3, "standardized: variance {variance}");
    }
    for (index, branch) in end.branches.iter().enumerate() {
        let path = format!("branches.{index}.weight.weight_norm.lengths");
        let lengths = &found[&path];
        assert_ne!(lengths, &before[&path], "the lengths are learned");
        for (unit, length) in units(branch.weight.val()).iter().zip(lengths) {
            let norm = dot(unit, unit).sqrt();
            assert!((norm - length.abs()).abs() < 1e-4 * (1.0 + norm), "{path}: {norm} {length}");
        }
    }
    let sigma = largest_singular_value(&units(end.bounded.weight.val()));
    assert!((sigma - 1.0).abs() < 0.02, "the largest singular value is {sigma}");
    for name in ["running_mean", "running_var", "gamma", "beta"] {
        let path = format!("frozen.{name}");
        assert_eq!(found[&path], before[&path], "{path} is frozen");
    }
    assert!(found["frozen.running_mean"].iter().any(|&mean| mean != 0.0));
    assert_ne!(found["ghost.norm.running_mean"], before["ghost.norm.running_mean"]);
    let scaled = KINDS.iter().position(|kind| *kind == ResidualKind::Scaled).expect("is there");
    let path = format!("skips.{scaled}.scale");
    assert!(before[&path] == [0.0] && found[&path] != [0.0], "the factor leaves 0");
    let rows = data(ROWS, &Device::flex()).inputs;
    let logits: Vec<f64> = end.forward(rows).try_to_vec_as().expect("reads");
    assert!(logits.iter().all(|logit| logit.abs() <= CAP), "the logits are capped");
}

/// Recalibrated after training, the statistics are those of the data, but for those that are frozen.
fn check_recalibration(end: &Layers, device: &Device) {
    let batches: Vec<Tensor<2>> =
        InOrder(data(ROWS, device)).epoch(1).map(|batch| batch.inputs).collect();
    let forward = |net: &Layers, batch: Tensor<2>| drop(net.forward(batch));
    let fresh = recalibrate(&end.clone().train(), batches, forward).expect("finite");
    let (fresh, before) = (values(&fresh), values(end));
    for path in ["frozen.running_mean", "frozen.running_var"] {
        assert_eq!(fresh[path], before[path], "{path} is frozen");
    }
    let rows = data(ROWS, &Device::flex()).inputs;
    let seen = end.standardized.forward(relu(end.lift.forward(rows)));
    for (unit, mean) in units(seen).iter().zip(&fresh["ghost.norm.running_mean"]) {
        let expected = unit.iter().sum::<f64>() / ROWS as f64;
        let deviation = (dot(unit, unit) / ROWS as f64 - expected * expected).sqrt();
        // The second half of each batch counts a tenth more than the first.
        assert!((mean - expected).abs() < 0.05 * deviation, "{mean} {expected} {deviation}");
    }
}

#[test]
fn layers_train_alike_and_keep_their_promises_in_all_three_places() {
    let device = Device::flex().autodiff();
    let start = Layers::new(&device).valid();
    let (hand, losses) = by_hand(&device);
    let (fit, fit_losses) = fitted(&device);
    let learned = learned(&device);
    let steps = ROWS / BATCH;
    assert_eq!(losses.len(), EPOCHS * steps);
    assert_eq!(losses, fit_losses, "Fit has the losses of the loop by hand");
    assert!(losses.iter().all(|loss| loss.is_finite()), "{losses:?}");
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&losses[..steps]), mean(&losses[losses.len() - steps..]));
    assert!(last < 0.9 * first, "the loss falls: {first} {last}");
    // Statistics that move are left out: what they are after the last step is nobody's promise.
    let learns = |net: &Layers| {
        let mut values = values(net);
        values.retain(|path, _| !path.contains("running"));
        values
    };
    for (place, end) in [("by hand", &hand), ("Fit", &fit), ("the Learner", &learned)] {
        check(end, &start);
        assert_eq!(learns(end), learns(&hand), "{place} comes to the same weights");
        let whole = end.loss(data(ROWS, &Device::flex())).into_scalar::<f32>();
        assert!(f64::from(whole) < 0.9 * first, "{place}: {whole} in evaluation, {first} at first");
    }
    check_recalibration(&hand, &device);
}

/// The recipe for recurrent nets whole: chrono biases, orthogonal recurrence, clipping, variational dropout.
#[derive(Module, Debug)]
struct Recurrent {
    lstm: RegularizedLstm,
    head: Linear,
}

impl Recurrent {
    const HIDDEN: usize = 16;

    fn new(device: &Device) -> Self {
        let lstm = LstmConfig::new(2, Self::HIDDEN, true).init(device);
        let head = LinearConfig::new(Self::HIDDEN, 1).init(device);
        let (lstm, head) = initialize((lstm, head), Scheme::XavierUniform, Seed(5));
        let chrono = ForgetBias::Chrono { longest: 20.0 };
        let lstm = initialize_recurrent(lstm, chrono, Seed(6)).expect("fits");
        let config = RegularizedLstmConfig::new().with_input_prob(0.05).with_recurrent_prob(0.1);
        Self { lstm: config.init(lstm, &MaskSource::new(Seed(7))).expect("valid"), head }
    }

    fn forward(&self, inputs: Tensor<3>) -> Tensor<2> {
        let (_, state) = self.lstm.forward(inputs, None);
        self.head.forward(state.hidden)
    }

    fn loss(&self, inputs: Tensor<3>, targets: Tensor<2>) -> Tensor<1> {
        (self.forward(inputs) - targets).square().mean()
    }
}

/// Sequences of two features, and the sum over the first one with variance 1.
fn sequences(samples: usize, steps: usize, device: &Device) -> (Tensor<3>, Tensor<2>) {
    let mut stream = Seed(8).stream("sequences");
    let inputs: Vec<f64> = (0..samples * steps * 2).map(|_| stream.normal()).collect();
    let sum = |sequence: &[f64]| sequence.iter().step_by(2).sum::<f64>() / (steps as f64).sqrt();
    let targets: Vec<f64> = inputs.chunks(steps * 2).map(sum).collect();
    (
        Tensor::from_data(TensorData::new(inputs, [samples, steps, 2]), device),
        Tensor::from_data(TensorData::new(targets, [samples, 1]), device),
    )
}

#[test]
fn the_whole_recipe_trains_an_lstm() {
    let device = Device::flex().autodiff();
    let (inputs, targets) = sequences(64, 10, &device);
    let judge = |model: &Recurrent| {
        let loss = model.valid().loss(inputs.clone().inner(), targets.clone().inner());
        loss.into_scalar::<f32>()
    };
    let mut model = Recurrent::new(&device);

    let read = |linear: &Linear| -> Vec<f64> {
        linear.bias.as_ref().expect("has one").val().try_to_vec_as().expect("reads")
    };
    let lstm = &model.lstm.lstm;
    let forget = lstm.forget_gate.as_ref().expect("not coupled");
    for gate in [forget, &lstm.input_gate, &lstm.cell_gate, &lstm.output_gate] {
        let weight = gate.hidden_transform.weight.val().inner();
        let eye = Tensor::<2>::eye(Recurrent::HIDDEN, &Device::flex());
        let off = weight.clone().matmul(weight.transpose()) - eye;
        assert!(off.abs().max().into_scalar::<f32>() < 1e-5, "the recurrence is orthogonal");
    }
    let (forget, input) = (read(&forget.input_transform), read(&lstm.input_gate.input_transform));
    assert!(forget.iter().all(|bias| (0.0..19f64.ln() + 1e-6).contains(bias)), "{forget:?}");
    assert!(forget.iter().zip(&input).all(|(forget, input)| forget + input == 0.0));

    let seen = |model: &Recurrent| -> Vec<f64> {
        model.forward(inputs.clone()).try_to_vec_as().expect("reads")
    };
    assert_ne!(seen(&model), seen(&model), "other masks for each pass of a training");
    let start = judge(&model);
    assert_eq!(start.to_bits(), judge(&model).to_bits(), "no masks in evaluation");

    let mut optimizer = optimizer();
    let mut clip = ClipGlobalNormConfig::new(0.1).init().expect("valid");
    let mut clipped = 0;
    for _ in 0..150 {
        let loss = model.loss(inputs.clone(), targets.clone());
        let mut gradients = GradientsParams::from_grads(loss.backward(), &model);
        assert_eq!(clip.before_step(&model, &mut gradients, 0.0), Verdict::Proceed);
        clipped += usize::from(clip.last_norm().is_some_and(|norm| norm > 0.1));
        let norm = gradient_norms(&model, &gradients, NormType::Two).global;
        assert!(norm <= 0.1 * (1.0 + 1e-5), "{norm}");
        model = optimizer.step(0.02, model, gradients);
    }
    assert!(clipped > 0, "the bound is reached");
    let end = judge(&model);
    assert!(end < 0.6 * start, "the loss falls: {start} {end}");
}
