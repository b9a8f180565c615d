//! Every guard in the three places: a loop written by hand, burn-train's Learner on one device and on several, and `Fit`.
//!
//! One chain holds half of the guards each, so that two trainings a place cover all. The rate is constant, since the
//! Learner's moves on at a step that is skipped. Momentum resets and the noise scale, which are the loop's and no
//! guards, are in [`learner`](crate::learner); initial weights, pre-training and what is seen of hidden values in
//! [`starts`](crate::starts); layers in [`layers`](crate::layers).

use crate::net::{Net, classified, data};
use burn::data::dataloader::{DataLoader, DataLoaderBuilder, batcher::Batcher};
use burn::data::dataset::InMemDataset;
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer, MultiGradientsParams};
use burn::tensor::{Device, Tensor, TensorReadError};
use burn::train::metric::LossMetric;
use burn::train::{
    ClassificationOutput, ExecutionStrategy, InferenceStep, Learner, MultiDeviceOptim,
    SupervisedTraining, TrainOutput, TrainStep,
};
use firebrick::core::Record;
use firebrick::prelude::*;
use firebrick::stabilize::*;
use firebrick::train::{Batches, Guarded, Score};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

pub(crate) const BATCH: usize = 32;
pub(crate) const ROWS: usize = 160;
const EPOCHS: usize = 3;
pub(crate) const RATE: f64 = 0.01;

/// What the guards recorded, step by step, to the bit.
pub(crate) type Records = Vec<BTreeMap<String, u64>>;

pub(crate) fn bits(values: &BTreeMap<String, f64>) -> BTreeMap<String, u64> {
    values.iter().map(|(name, value)| (name.clone(), value.to_bits())).collect()
}

fn seen(guards: &impl Guard) -> BTreeMap<String, u64> {
    let mut record = Record::default();
    guards.record(&mut record);
    bits(&record.values)
}

/// The net one level down, as a user's model holds it: names and noise go by the path of a parameter.
#[derive(Module, Debug)]
struct Held {
    net: Net,
}

impl Learn for Held {
    type Batch = Labelled<2>;
    fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
        self.net.loss(batch)
    }
    fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
        self.net.score(batch)
    }
}

/// The rows of the shared data in their own order, every epoch.
pub(crate) struct InOrder(pub(crate) Labelled<2>);

impl InOrder {
    fn rows(&self, start: usize) -> Labelled<2> {
        self.0.select(&(start as u32..(start + BATCH) as u32).collect::<Vec<_>>())
    }
}

impl Batches for InOrder {
    type Batch = Labelled<2>;
    fn epoch(&self, _: usize) -> impl Iterator<Item = Labelled<2>> {
        (0..ROWS).step_by(BATCH).map(|start| self.rows(start))
    }
    fn batches_per_epoch(&self) -> usize {
        ROWS / BATCH
    }
    fn whole(&self) -> impl Iterator<Item = Labelled<2>> {
        std::iter::once(self.0.on_plain_device())
    }
}

/// Turns row numbers into batches of the shared data.
#[derive(Clone)]
pub(crate) struct Rows(pub(crate) Labelled<2>);

impl Batcher<u32, Labelled<2>> for Rows {
    fn batch(&self, rows: Vec<u32>, device: &Device) -> Labelled<2> {
        let batch = self.0.select(&rows);
        Labelled {
            inputs: burn::tensor::Tensor::from_data(batch.inputs.into_data(), device),
            targets: burn::tensor::Tensor::from_data(batch.targets.into_data(), device),
        }
    }
}

/// The Learner's loader of all rows in their order.
pub(crate) fn loader(batch: usize, device: &Device) -> Arc<dyn DataLoader<Labelled<2>>> {
    let rows = InMemDataset::new((0..ROWS as u32).collect());
    let builder = DataLoaderBuilder::new(Rows(data(ROWS, &Device::flex()))).batch_size(batch);
    builder.set_device(device.clone()).build(rows)
}

pub(crate) fn optimizer() -> ModuleOptimizer {
    AdamWConfig::new().init().expect("valid")
}

fn by_hand(mut guards: impl Guard, device: &Device) -> (Vec<f64>, Records) {
    let data = InOrder(data(ROWS, device));
    let mut model = Held { net: Net::new(device) };
    let (mut optimizer, mut records) = (optimizer(), Vec::new());
    for batch in (1..=EPOCHS).flat_map(|epoch| data.epoch(epoch)) {
        let loss = model.loss(batch);
        let value = loss.clone().inner().into_scalar::<f32>();
        let scaled = loss.mul_scalar(guards.loss_factor());
        let mut gradients = GradientsParams::from_grads(scaled.backward(), &model);
        let verdict = guards.before_step(&model, &mut gradients, value.into());
        if verdict == Verdict::Proceed {
            model = guards.revise(optimizer.step(RATE, model, gradients));
            guards.after_step(&model);
            records.push(seen(&guards));
        }
    }
    (model.valid().net.weights(), records)
}

fn fitted(guards: impl Guard, device: &Device) -> (Vec<f64>, Records) {
    let config = FitConfig::new(EPOCHS).with_progress(false).with_record_every(1);
    let fitted = Fit::new(config, optimizer())
        .rate(|_| RATE)
        .guards(guards)
        .run(Held { net: Net::new(device) }, &InOrder(data(ROWS, device)), None)
        .expect("trains");
    let steps = fitted.history.records.iter().filter(|record| record.get("batch_loss").is_some());
    let guards = |record: &Record| {
        let mut values = record.values.clone();
        values.remove("batch_loss");
        values.remove("lr");
        bits(&values)
    };
    let records = steps.map(guards).collect();
    (fitted.model.net.weights(), records)
}

macro_rules! place {
    ($test:ident, $chain:ty, $make:expr) => {
        mod $test {
            use super::*;

            /// The user's model with the guards beside it.
            #[derive(Module, Debug)]
            struct User {
                net: Net,
                #[module(skip)]
                guards: Guarded<$chain>,
                #[module(skip)]
                records: Arc<Mutex<Records>>,
            }

            impl User {
                fn note(&self, before: u64) {
                    if self.guards.skipped() == before {
                        let mut record = Record::default();
                        self.guards.record(&mut record);
                        self.records.lock().expect("whole").push(bits(&record.values));
                    }
                }
            }

            impl TrainStep for User {
                type Input = Labelled<2>;
                type Output = ClassificationOutput;

                fn step(&self, batch: Labelled<2>) -> TrainOutput<ClassificationOutput> {
                    let output = classified(self.net.forward(batch.inputs), batch.targets);
                    let gradients = self.guards.before_backward(output.loss.clone()).backward();
                    TrainOutput::new(self, gradients, output)
                }

                fn optimize(
                    self,
                    optimizer: &mut ModuleOptimizer,
                    rate: ModuleLearningRate,
                    gradients: GradientsParams,
                ) -> Self {
                    let (guards, before) = (self.guards.clone(), self.guards.skipped());
                    let model = guards.optimize(self, optimizer, rate, gradients);
                    model.note(before);
                    model
                }

                fn optimize_multi(
                    self,
                    optimizer: &mut ModuleOptimizer,
                    rate: ModuleLearningRate,
                    gradients: MultiGradientsParams,
                ) -> Self {
                    let (guards, before) = (self.guards.clone(), self.guards.skipped());
                    let model = guards.optimize_multi(self, optimizer, rate, gradients);
                    model.note(before);
                    model
                }
            }

            impl InferenceStep for User {
                type Input = Labelled<2>;
                type Output = ClassificationOutput;

                fn step(&self, batch: Labelled<2>) -> ClassificationOutput {
                    classified(self.net.forward(batch.inputs), batch.targets)
                }
            }

            fn learned(several: bool) -> (Vec<f64>, Records) {
                let device = Device::flex().autodiff();
                let folder = tempfile::tempdir().expect("a folder for the run");
                let records = Arc::new(Mutex::new(Vec::new()));
                let model = User {
                    net: Net::new(&device),
                    guards: Guarded::new($make()),
                    records: records.clone(),
                };
                let learner = Learner::new(model, optimizer(), RATE);
                let mut training = SupervisedTraining::new(
                    folder.path(),
                    loader(BATCH, &device),
                    loader(BATCH, &Device::flex()),
                )
                .metrics((LossMetric::new(),))
                .num_epochs(EPOCHS)
                .with_application_logger(None);
                if several {
                    let devices = vec![device.clone(), device];
                    let how = ExecutionStrategy::multi(devices, MultiDeviceOptim::OptimSharded);
                    training = training.with_training_strategy(how.into());
                }
                let result = training.launch(learner);
                assert!(result.error.is_none());
                let records = records.lock().expect("training is over").clone();
                (result.model.net.weights(), records)
            }

            #[test]
            fn by_hand_in_the_learner_and_in_fit_it_is_the_same_training() {
                let device = Device::flex().autodiff();
                let hand = by_hand($make(), &device);
                assert!(hand.1.len() > 10, "most steps are taken: {}", hand.1.len());
                for (place, other) in
                    [("Fit", fitted($make(), &device)), ("the Learner", learned(false))]
                {
                    for (step, (records, by_hand)) in other.1.iter().zip(&hand.1).enumerate() {
                        assert_eq!(records, by_hand, "{place}, step {step}");
                    }
                    assert_eq!(other.1.len(), hand.1.len(), "{place}");
                    assert_eq!(other.0, hand.0, "{place} comes to the same weights");
                }
                let plain = by_hand((), &device);
                assert_ne!(plain.0, hand.0, "the guards change the training");
            }

            #[test]
            fn several_devices_reach_the_guards_through_optimize_multi() {
                let (weights, records) = learned(true);
                assert!(weights.iter().all(|weight| weight.is_finite()));
                // The gradients of two devices make one step.
                assert!(!records.is_empty() && records.len() <= EPOCHS * ROWS / BATCH);
            }
        }
    };
}

place!(
    first_half,
    (
        LossScale,
        SkipNonFinite,
        Monitor,
        SaddleEscape,
        AdaptiveClip,
        CentralizeGradients,
        ClipValue,
        ClipTensorNorm
    ),
    || (
        LossScaleConfig::new().with_interval(4).init().expect("valid"),
        SkipNonFiniteConfig::new().init().expect("valid"),
        MonitorConfig::new().with_every(2).init().expect("valid"),
        SaddleEscapeConfig::new(1e9, 1e-3).with_wait(7).init().expect("valid"),
        AdaptiveClipConfig::new().init().expect("valid"),
        CentralizeGradients,
        ClipValueConfig::new(1e-3).init().expect("valid"),
        ClipTensorNormConfig::new(5e-3).init().expect("valid"),
    )
);

place!(
    second_half,
    (SkipOutliers, LossSpike, ClipSpikes, AutoClip, ZClip, ClipGlobalNorm, GradientNoise),
    || (
        SkipOutliersConfig::new()
            .with_window(8)
            .with_min_samples(4)
            .with_threshold(2.0)
            .init()
            .expect("valid"),
        LossSpikeConfig::new().with_min_samples(4).with_threshold(1e6).init().expect("valid"),
        ClipSpikesConfig::new().with_theta(2.0).with_warm_up(3).init().expect("valid"),
        AutoClipConfig::new().with_percentile(50.0).init().expect("valid"),
        ZClipConfig::new().with_warm_up(3).init().expect("valid"),
        ClipGlobalNormConfig::new(0.2).with_by_layer(true).init().expect("valid"),
        GradientNoiseConfig::new(1e-4).init().expect("valid"),
    )
);
