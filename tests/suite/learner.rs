//! The pieces inside burn-train's Learner, compared with the same steps in a loop written by hand and, where the piece
//! is the loop's, in `Fit`.

use crate::net::{Net, classified, data};
use crate::places::{BATCH, RATE, ROWS, Rows, loader, optimizer};
use burn::data::dataloader::DataLoader;
use burn::data::dataset::InMemDataset;
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams, ModuleOptimizer};
use burn::tensor::Device;
use burn::train::metric::LossMetric;
use burn::train::{
    ClassificationOutput, InferenceStep, Learner, SupervisedTraining, TrainOutput, TrainStep,
};
use firebrick::optim::schedule::CosineConfig;
use firebrick::prelude::*;
use firebrick::split::{KFold, Loaders, Rows as SplitRows, Splitter, Subset};
use firebrick::stabilize::{
    ClipGlobalNorm, Guard, MomentumReset, MomentumResetConfig, NoiseScale, NoiseScaleConfig,
    NormType, SkipNonFinite, Verdict, gradient_norms,
};
use firebrick::train::Batches;
use std::sync::{Arc, Mutex};

const EPOCHS: usize = 3;

type Guards = (SkipNonFinite, ClipGlobalNorm);

/// The user's model with the guards beside it: the Learner keeps no place for them.
#[derive(Module, Debug)]
struct Guarded {
    net: Net,
    #[module(skip)]
    guards: Arc<Mutex<Guards>>,
    #[module(skip)]
    norms: Arc<Mutex<Vec<f64>>>,
}

impl Guarded {
    fn new(device: &Device) -> Self {
        let guards = (
            SkipNonFiniteConfig::new().init().expect("valid"),
            ClipGlobalNormConfig::new(0.5).init().expect("valid"),
        );
        Self { net: Net::new(device), guards: Arc::new(Mutex::new(guards)), norms: Arc::default() }
    }
}

fn output(net: &Net, batch: Labelled<2>) -> ClassificationOutput {
    // One forward pass: a second one would draw other dropout masks.
    classified(net.forward(batch.inputs), batch.targets)
}

impl TrainStep for Guarded {
    type Input = Labelled<2>;
    type Output = ClassificationOutput;

    fn step(&self, batch: Labelled<2>) -> TrainOutput<ClassificationOutput> {
        let output = output(&self.net, batch);
        TrainOutput::new(self, output.loss.clone().backward(), output)
    }

    fn optimize(
        self,
        optimizer: &mut ModuleOptimizer,
        rate: ModuleLearningRate,
        mut gradients: GradientsParams,
    ) -> Self {
        let mut guards = self.guards.lock().expect("one thread trains").clone();
        // The loss was differentiated elsewhere; the gradients tell whether it was finite.
        let verdict = guards.before_step(&self, &mut gradients, 0.0);
        self.norms.lock().expect("one thread trains").extend(guards.1.last_norm());
        *self.guards.lock().expect("one thread trains") = guards;
        if verdict == Verdict::Proceed { optimizer.step(rate, self, gradients) } else { self }
    }
}

impl InferenceStep for Guarded {
    type Input = Labelled<2>;
    type Output = ClassificationOutput;

    fn step(&self, batch: Labelled<2>) -> ClassificationOutput {
        output(&self.net, batch)
    }
}

fn schedule() -> CosineConfig {
    CosineConfig::new(0.01, EPOCHS * ROWS / BATCH)
}

#[test]
fn guards_optimizer_and_schedule_work_inside_the_learner() {
    let device = Device::flex().autodiff();
    let folder = tempfile::tempdir().expect("a folder for the run");
    let (train, valid) = (loader(BATCH, &device), loader(BATCH, &Device::flex()));
    let model = Guarded::new(&device);
    let norms = model.norms.clone();
    let learner = Learner::new(model, optimizer(), schedule().init().expect("valid"));
    let result = SupervisedTraining::new(folder.path(), train, valid)
        .metrics((LossMetric::new(),))
        .num_epochs(EPOCHS)
        .with_application_logger(None)
        .launch(learner);
    assert!(result.error.is_none());

    let in_order = vec![(0..ROWS as u32).collect(); EPOCHS];
    let by_hand = by_hand(&data(ROWS, &device), &device, &in_order);
    assert_eq!(result.model.net.weights(), by_hand.0, "same steps, same bits");
    assert_eq!(*norms.lock().expect("training is over"), by_hand.1);
    assert!(by_hand.1.iter().any(|&norm| norm > 0.5), "some steps were clipped");

    let history =
        firebrick::diagnose::read_learner_logs(folder.path()).expect("the Learner's logs");
    assert_eq!(history.records.last().map(|record| record.epoch), Some(EPOCHS));
}

/// Views of a fold over burn's data set, shuffled anew for each epoch by the pinned generator.
#[test]
fn folds_and_pinned_epochs_work_inside_the_learner() {
    let device = Device::flex().autodiff();
    let folder = tempfile::tempdir().expect("a folder for the run");
    let rows = Arc::new(InMemDataset::new((0..ROWS as u32).collect()));
    let folds = KFold::new(4).with_shuffle(Seed(3)).split(&SplitRows::new(ROWS)).expect("splits");
    let (fold, seed) = (1, Seed(8));
    let batcher = Rows(data(ROWS, &Device::flex()));
    let loaders =
        Loaders::of_split(&rows, &folds, fold, batcher, BATCH, seed).expect("the rows exist");
    let train: Arc<dyn DataLoader<Labelled<2>>> =
        Arc::new(loaders.train.into_inner().with_device(device.clone()));
    let valid: Arc<dyn DataLoader<Labelled<2>>> =
        Arc::new(loaders.validation.into_inner().with_device(Device::flex()));
    let learner =
        Learner::new(Guarded::new(&device), optimizer(), schedule().init().expect("valid"));
    let result = SupervisedTraining::new(folder.path(), train, valid)
        .metrics((LossMetric::new(),))
        .num_epochs(EPOCHS)
        .with_application_logger(None)
        .launch(learner);
    assert!(result.error.is_none());

    // Every epoch takes the training rows of the fold, in an order that seed and epoch alone decide.
    let part = Subset::new(rows, folds.train(fold).expect("exists")).expect("the rows exist");
    let epochs: Vec<Vec<u32>> =
        (0..EPOCHS as u64).map(|epoch| part.shuffled(seed, epoch).row_numbers().to_vec()).collect();
    assert!(epochs[0] != epochs[1] && epochs[0].len() == ROWS - ROWS / 4);
    let (weights, _) = by_hand(&data(ROWS, &device), &device, &epochs);
    assert_eq!(result.model.net.weights(), weights, "same rows in the same order, same bits");
}

/// The same steps, epoch by epoch in the given order of rows.
fn by_hand(data: &Labelled<2>, device: &Device, epochs: &[Vec<u32>]) -> (Vec<f64>, Vec<f64>) {
    let (mut model, mut optimizer, mut norms) = (Guarded::new(device), optimizer(), Vec::new());
    let schedule = schedule().build().expect("valid");
    let mut guards = model.guards.lock().expect("one thread").clone();
    for (step, rows) in epochs.iter().flat_map(|rows| rows.chunks(BATCH)).enumerate() {
        let batch = data.select(rows);
        let mut gradients = GradientsParams::from_grads(model.net.loss(batch).backward(), &model);
        assert_eq!(guards.before_step(&model, &mut gradients, 0.0), Verdict::Proceed);
        norms.extend(guards.1.last_norm());
        model = optimizer.step(schedule.rate(step as u64), model, gradients);
    }
    (model.valid().net.weights(), norms)
}

/// Samples of a micro-batch: four an epoch, two a step.
const MICRO: usize = 40;
/// What each of the two counts.
const SHARE: f64 = 0.5;

/// What belongs to the loop rather than to a guard: momentum that is started anew, and the noise scale of the batches
/// that are accumulated to a step.
#[derive(Debug)]
struct Loop {
    step: u64,
    /// Of the gradients since the last step.
    norms: Vec<f64>,
    scale: NoiseScale,
    /// The noise scale and the norm test after each step.
    seen: Vec<[Option<f64>; 2]>,
}

fn reset() -> MomentumReset {
    MomentumResetConfig::new().with_interval(2).with_warm_up(2).init().expect("valid")
}

fn scale() -> NoiseScale {
    NoiseScaleConfig::new().with_decay(0.5).init().expect("valid")
}

impl Loop {
    fn new() -> Self {
        Self { step: 0, norms: Vec::new(), scale: scale(), seen: Vec::new() }
    }

    /// After `backward` of a micro-batch, whose loss was multiplied by its share.
    fn micro<M: Module>(&mut self, model: &M, gradients: &GradientsParams) {
        self.norms.push(gradient_norms(model, gradients, NormType::Two).global / SHARE);
    }

    fn step<M: Module>(
        &mut self,
        model: M,
        optimizer: &mut ModuleOptimizer,
        rate: f64,
        gradients: GradientsParams,
    ) -> M {
        let norm = gradient_norms(&model, &gradients, NormType::Two).global;
        let norms = std::mem::take(&mut self.norms);
        self.scale.observe(&norms, MICRO, norm).expect("two micro-batches");
        self.seen.push([self.scale.estimate(), self.scale.norm_test()]);
        if reset().due(self.step) {
            *optimizer = self::optimizer();
        }
        let rate = rate * reset().rate_factor(self.step);
        self.step += 1;
        optimizer.step(rate, model, gradients)
    }
}

/// The user's model with the loop's state beside it.
#[derive(Module, Debug)]
struct Looped {
    net: Net,
    #[module(skip)]
    held: Arc<Mutex<Loop>>,
}

impl TrainStep for Looped {
    type Input = Labelled<2>;
    type Output = ClassificationOutput;

    fn step(&self, batch: Labelled<2>) -> TrainOutput<ClassificationOutput> {
        let output = output(&self.net, batch);
        let gradients = output.loss.clone().mul_scalar(SHARE).backward();
        let output = TrainOutput::new(self, gradients, output);
        self.held.lock().expect("one thread trains").micro(self, &output.grads);
        output
    }

    fn optimize(
        self,
        optimizer: &mut ModuleOptimizer,
        rate: ModuleLearningRate,
        gradients: GradientsParams,
    ) -> Self {
        let held = self.held.clone();
        let mut held = held.lock().expect("one thread trains");
        held.step(self, optimizer, rate.base(), gradients)
    }
}

impl InferenceStep for Looped {
    type Input = Labelled<2>;
    type Output = ClassificationOutput;

    fn step(&self, batch: Labelled<2>) -> ClassificationOutput {
        output(&self.net, batch)
    }
}

/// Micro-batches of the shared data in their own order, every epoch.
struct Micro(Labelled<2>);

impl Batches for Micro {
    type Batch = Labelled<2>;
    fn epoch(&self, _: usize) -> impl Iterator<Item = Labelled<2>> {
        let rows: Vec<u32> = (0..ROWS as u32).collect();
        (0..ROWS / MICRO).map(move |batch| self.0.select(&rows[batch * MICRO..][..MICRO]))
    }
    fn batches_per_epoch(&self) -> usize {
        ROWS / MICRO
    }
    fn samples(&self, batch: &Labelled<2>) -> Option<usize> {
        Some(batch.len())
    }
    fn whole(&self) -> impl Iterator<Item = Labelled<2>> {
        std::iter::once(self.0.on_plain_device())
    }
}

#[test]
fn momentum_resets_and_the_noise_scale_work_in_all_three_places() {
    let device = Device::flex().autodiff();

    // By hand.
    let rows = Micro(data(ROWS, &device));
    let (mut model, mut hand, mut optimizer) = (Net::new(&device), Loop::new(), optimizer());
    let mut accumulator = GradientsAccumulator::<Net>::new();
    for epoch in 1..=EPOCHS {
        for (index, batch) in rows.epoch(epoch).enumerate() {
            let loss = model.loss(batch).mul_scalar(SHARE);
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            hand.micro(&model, &gradients);
            accumulator.accumulate(&model, gradients);
            if index % 2 == 1 {
                model = hand.step(model, &mut optimizer, RATE, accumulator.grads());
            }
        }
    }
    let weights = model.valid().weights();
    assert!((1..hand.step).any(|step| reset().due(step)), "the momentum is reset");
    assert!(hand.seen.iter().all(|[_, test]| test.is_some()), "{:?}", hand.seen);

    // In the Learner.
    let folder = tempfile::tempdir().expect("a folder for the run");
    let (train, valid) = (loader(MICRO, &device), loader(MICRO, &Device::flex()));
    let held = Arc::new(Mutex::new(Loop::new()));
    let model = Looped { net: Net::new(&device), held: held.clone() };
    let result = SupervisedTraining::new(folder.path(), train, valid)
        .metrics((LossMetric::new(),))
        .num_epochs(EPOCHS)
        .grads_accumulation(2)
        .with_application_logger(None)
        .launch(Learner::new(model, self::optimizer(), RATE));
    assert!(result.error.is_none());
    assert_eq!(held.lock().expect("training is over").seen, hand.seen);
    assert_eq!(result.model.net.weights(), weights, "same steps, same bits");

    // In Fit.
    let config = FitConfig::new(EPOCHS).with_accumulation(2).with_record_every(1);
    let fitted = Fit::new(config.with_progress(false), self::optimizer())
        .rate(|_| RATE)
        .momentum_reset(reset())
        .noise_scale(scale())
        .run(Net::new(&device), &rows, None)
        .expect("trains");
    let steps = fitted.history.records.iter().filter(|record| record.get("batch_loss").is_some());
    let seen: Vec<[Option<f64>; 2]> =
        steps.map(|record| ["noise_scale", "norm_test"].map(|name| record.get(name))).collect();
    assert_eq!(seen, hand.seen);
    assert_eq!(fitted.model.weights(), weights, "same steps, same bits");
}
