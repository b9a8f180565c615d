//! What a training starts from and what is seen on its way, in the three places: a loop written by hand, burn-train's
//! Learner, and `Fit`.
//!
//! Initial weights of every kind, layers that were pre-trained without labels, the recurrent recipe; activations and
//! errors by layer, clipping by the other two norms, and the curvature where the training ends.

use crate::layers::values;
use crate::net::{classified, cross_entropy, data};
use crate::places::{BATCH, InOrder, RATE, ROWS, Records, bits, loader, optimizer};
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::Module;
use burn::nn::activation::Activation;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, LstmConfig, Sigmoid};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::activation::{sigmoid, tanh};
use burn::tensor::{Device, Tensor, TensorReadError};
use burn::train::metric::LossMetric;
use burn::train::{
    ClassificationOutput, InferenceStep, Learner, SupervisedTraining, TrainOutput, TrainStep,
};
use firebrick::core::Record;
use firebrick::prelude::*;
use firebrick::regularize::{MaskSource, RegularizedLstm, RegularizedLstmConfig};
use firebrick::stabilize::*;
use firebrick::train::{Batches, DenoiseConfig, Guarded, Pretraining, RbmConfig, Score, pretrain};
use std::sync::{Arc, Mutex};

const EPOCHS: usize = 2;
const WIDTH: usize = 16;

#[derive(Module, Debug)]
struct Started {
    denoised: Vec<Linear>,
    machine: Vec<Linear>,
    lstm: RegularizedLstm,
    conv: Conv2d,
    sparse: Linear,
    orthogonal: Linear,
    identity: Linear,
    branch: Linear,
    norm: BatchNorm,
    head: Linear,
}

impl Started {
    fn new(device: &Device) -> Self {
        let linear = |inputs, outputs| LinearConfig::new(inputs, outputs).init(device);
        let lstm = LstmConfig::new(2, WIDTH, true).init(device);
        let recipe = RegularizedLstmConfig::new().with_recurrent_prob(0.1);
        let net = Self {
            denoised: vec![linear(8, 12), linear(12, WIDTH)],
            machine: vec![linear(8, WIDTH)],
            lstm: recipe.init(lstm, &MaskSource::new(Seed(7))).expect("valid"),
            conv: Conv2dConfig::new([2, 4], [1, 3]).init(device),
            sparse: linear(8, WIDTH),
            orthogonal: linear(WIDTH, WIDTH),
            identity: linear(WIDTH, WIDTH),
            branch: linear(WIDTH, WIDTH),
            norm: BatchNormConfig::new(WIDTH).init(device),
            head: linear(WIDTH, 3),
        };
        let cut = Scheme::Scaled {
            gain: 1.0,
            fan: Fan::Average,
            distribution: Distribution::TruncatedNormal,
        };
        let net = Initialize::new(Seed(3))
            .weights(Scheme::XavierNormal)
            .at(Select::layer("Conv2d"), Scheme::DeltaOrthogonal { gain: 1.0 })
            .at(Select::path("sparse"), Scheme::Sparse { nonzeros: 4, deviation: 0.5 })
            .at(Select::path("orthogonal"), Scheme::Orthogonal { gain: 1.0 })
            .at(Select::path("identity"), Scheme::Identity { gain: 1.0 })
            .at(Select::path("branch"), cut)
            .at(Select::path("norm.gamma"), Scheme::Constant { value: 0.0 })
            .at(Select::path("head"), Scheme::LecunNormal)
            .values("head.bias", class_prior_bias(&[54.0, 53.0, 53.0]).expect("counts"))
            .apply(net)
            .expect("fits");
        let chrono = ForgetBias::Chrono { longest: 4.0 };
        let net = initialize_recurrent(net, chrono, Seed(6)).expect("fits");

        let inputs = data(ROWS, device).inputs;
        let activation: Activation = Sigmoid::new().into();
        let alone = |layers, inputs, how: &Pretraining| {
            pretrain(layers, &activation, inputs, how, Seed(4)).expect("trains").layers
        };
        let denoise = Pretraining::Denoise(DenoiseConfig::new().with_epochs(2));
        let denoised = alone(net.denoised, inputs.clone(), &denoise);
        let machine = Pretraining::Rbm(RbmConfig::new().with_epochs(2));
        let machine = alone(net.machine, sigmoid(inputs), &machine);
        Self { denoised, machine, ..net }
    }

    fn hidden(
        &self,
        inputs: Tensor<2>,
        mut see: impl FnMut(&str, Tensor<2>) -> Tensor<2>,
    ) -> Tensor<2> {
        let [rows, _] = inputs.dims();
        let stack = |layers: &[Linear], inputs: Tensor<2>| {
            layers.iter().fold(inputs, |x, layer| sigmoid(layer.forward(x)))
        };
        let denoised = see("denoised", stack(&self.denoised, inputs.clone()));
        let machine = see("machine", stack(&self.machine, sigmoid(inputs.clone())));
        let (_, state) = self.lstm.forward(inputs.clone().reshape([rows, 4, 2]), None);
        let recurrent = see("lstm", state.hidden);
        let x = tanh(self.conv.forward(inputs.reshape([rows, 2, 1, 4]))).reshape([rows, 8]);
        let x = see("conv", x);
        let x = see("sparse", tanh(self.sparse.forward(x)));
        let x = see("orthogonal", tanh(self.orthogonal.forward(x)));
        let x = see("identity", tanh(self.identity.forward(x)));
        let x = x.clone() + self.norm.forward(tanh(self.branch.forward(x)));
        x + denoised + machine + recurrent
    }

    fn forward(
        &self,
        inputs: Tensor<2>,
        see: impl FnMut(&str, Tensor<2>) -> Tensor<2>,
    ) -> Tensor<2> {
        self.head.forward(self.hidden(inputs, see))
    }
}

impl Learn for Started {
    type Batch = Labelled<2>;

    fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
        cross_entropy(self.forward(batch.inputs, |_, hidden| hidden), batch.targets)
    }

    fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
        Score::classification(self.forward(batch.inputs, |_, hidden| hidden), batch.targets)
    }

    fn watch(&self, batch: Labelled<2>, watch: &mut Watch) -> Tensor<1> {
        cross_entropy(
            self.forward(batch.inputs, |name, hidden| watch.see(name, hidden)),
            batch.targets,
        )
    }
}

type Chain = (SkipNonFinite, ClipGlobalNorm, ClipGlobalNorm);

fn guards() -> Chain {
    let clip = |bound, norm_type| {
        ClipGlobalNormConfig::new(bound).with_norm_type(norm_type).init().expect("valid")
    };
    let skip = SkipNonFiniteConfig::new().init().expect("valid");
    (skip, clip(1.0, NormType::One), clip(0.005, NormType::Infinity))
}

/// The trained model in evaluation mode, and what was seen of its hidden values, step by step.
fn by_hand(device: &Device) -> (Started, Records, Vec<f64>) {
    let data = InOrder(data(ROWS, device));
    let (mut model, mut optimizer, mut guards) = (Started::new(device), optimizer(), guards());
    let (mut records, mut losses) = (Vec::new(), Vec::new());
    for batch in (1..=EPOCHS).flat_map(|epoch| data.epoch(epoch)) {
        let mut watch = Watch::default();
        let loss = model.watch(batch, &mut watch);
        let value = f64::from(loss.clone().inner().into_scalar::<f32>());
        let gradients = loss.backward();
        let mut record = Record::default();
        watch.record(&gradients, &mut record);
        records.push(bits(&record.values));
        let mut gradients = GradientsParams::from_grads(gradients, &model);
        assert_eq!(guards.before_step(&model, &mut gradients, value), Verdict::Proceed);
        model = optimizer.step(RATE, model, gradients);
        losses.push(value);
    }
    for clip in [&guards.1, &guards.2] {
        assert!(clip.clip_rate().is_some_and(|rate| rate > 0.0), "{clip:?}");
    }
    (model.valid(), records, losses)
}

fn fitted(device: &Device) -> (Started, Records, Vec<f64>) {
    let config = FitConfig::new(EPOCHS).with_progress(false).with_watch_every(1);
    let fitted = Fit::new(config, optimizer())
        .rate(|_| RATE)
        .guards(guards())
        .run(Started::new(device), &InOrder(data(ROWS, device)), None)
        .expect("trains");
    let hidden = ["activation", "dead/", "error_"];
    let steps = fitted.history.records.iter().filter(|record| record.get("batch_loss").is_some());
    let records = steps.map(|record| {
        let mut values = record.values.clone();
        values.retain(|name, _| hidden.iter().any(|start| name.starts_with(start)));
        bits(&values)
    });
    (fitted.model, records.collect(), fitted.history.series("batch_loss"))
}

/// The user's model in the Learner.
#[derive(Module, Debug)]
struct User {
    net: Started,
    #[module(skip)]
    guards: Guarded<Chain>,
    #[module(skip)]
    records: Arc<Mutex<Records>>,
}

impl TrainStep for User {
    type Input = Labelled<2>;
    type Output = ClassificationOutput;

    fn step(&self, batch: Labelled<2>) -> TrainOutput<ClassificationOutput> {
        let mut watch = Watch::default();
        let output = self.net.forward(batch.inputs, |name, hidden| watch.see(name, hidden));
        let output = classified(output, batch.targets);
        let gradients = self.guards.before_backward(output.loss.clone()).backward();
        let mut record = Record::default();
        watch.record(&gradients, &mut record);
        self.records.lock().expect("one thread trains").push(bits(&record.values));
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
        classified(self.net.forward(batch.inputs, |_, hidden| hidden), batch.targets)
    }
}

fn learned(device: &Device) -> (Started, Records) {
    let folder = tempfile::tempdir().expect("a folder for the run");
    let (train, valid) = (loader(BATCH, device), loader(BATCH, &Device::flex()));
    let records = Arc::new(Mutex::new(Vec::new()));
    let guards = Guarded::new(guards());
    let model = User { net: Started::new(device), guards, records: records.clone() };
    let result = SupervisedTraining::new(folder.path(), train, valid)
        .metrics((LossMetric::new(),))
        .num_epochs(EPOCHS)
        .with_application_logger(None)
        .launch(Learner::new(model, optimizer(), RATE));
    assert!(result.error.is_none());
    let records = records.lock().expect("training is over").clone();
    (result.model.net, records)
}

/// The spectrum of the loss over the last layer, of a model in evaluation mode.
fn curvature(end: &Started) -> Spectrum {
    let rows = data(ROWS, &Device::flex().autodiff());
    let hidden = end.hidden(rows.inputs.inner(), |_, hidden| hidden);
    let hidden: Tensor<2> = Tensor::from_inner(hidden);
    let over_head =
        |head: &Linear| cross_entropy(head.forward(hidden.clone()), rows.targets.clone());
    let probe = CurvatureConfig::new().init().expect("valid");
    probe.spectrum(&end.head.clone().train(), over_head).expect("the loss is smooth")
}

#[test]
fn what_a_training_starts_from_and_shows_is_the_same_in_all_three_places() {
    let device = Device::flex().autodiff();
    let start = values(&Started::new(&device).valid());
    assert!(start["norm.gamma"].iter().all(|&gamma| gamma == 0.0));
    assert_eq!(start["head.bias"][0], f64::from((54.0f64 / 160.0).ln() as f32));
    assert_eq!(start["sparse.weight"].iter().filter(|&&weight| weight != 0.0).count(), 4 * WIDTH);

    let (hand, seen, losses) = by_hand(&device);
    let steps = ROWS / BATCH;
    assert_eq!(seen.len(), EPOCHS * steps);
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&losses[steps..]) < mean(&losses[..steps]), "the loss falls: {losses:?}");
    for name in ["lstm", "conv", "identity"] {
        for number in ["activation_std", "dead", "error_rms"] {
            assert!(seen[0].contains_key(&format!("{number}/{name}")), "{number}/{name}");
        }
    }

    let (fit, fit_seen, fit_losses) = fitted(&device);
    let (learned, learned_seen) = learned(&device);
    assert_eq!(fit_losses, losses, "Fit has the losses of the loop by hand");
    let learns = |net: &Started| {
        let mut values = values(net);
        values.retain(|path, _| !path.contains("running"));
        values
    };
    assert_ne!(learns(&hand)["norm.gamma"], start["norm.gamma"], "the branch wakes up");
    let spectrum = curvature(&hand);
    assert!(spectrum.max > 0.0 && spectrum.min > -1e-3, "the loss over the head is convex");
    for (place, end, records) in
        [("Fit", &fit, &fit_seen), ("the Learner", &learned, &learned_seen)]
    {
        for (step, (records, by_hand)) in records.iter().zip(&seen).enumerate() {
            assert_eq!(records, by_hand, "{place}, step {step}");
        }
        assert_eq!(records.len(), seen.len(), "{place}");
        assert_eq!(learns(end), learns(&hand), "{place} comes to the same weights");
    }
    assert_eq!(curvature(&fit).ritz.len(), spectrum.ritz.len());
}
