//! Models and data for the tests.

use crate::settings::Settings;
use crate::{
    CheckpointConfig, EarlyStoppingConfig, Event, Fit, FitConfig, Fitted, Flow, Labelled, Learn,
    Optimize, Score, TensorBatches, TrainError,
};
use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorReadError, activation::relu};
use firebrick_core::Seed;
use firebrick_optim::schedule::CosineConfig;
use firebrick_regularize::{
    DropSchedule, InvertedDropout, InvertedDropoutConfig, L2Config, MaskSource, MaxNormConfig,
};
use firebrick_stabilize::{
    AutoClipConfig, ClipSpikesConfig, GradientNoiseConfig, LossSpikeConfig, MomentumResetConfig,
    MonitorConfig, NoiseScaleConfig, Scheme, SkipNonFiniteConfig, Watch, initialize,
};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The loss of the models here.
pub(crate) fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, targets)
}

/// One layer.
#[derive(Module, Debug)]
pub(crate) struct Net {
    pub(crate) layer: Linear,
}

impl Learn for Net {
    type Batch = Labelled<2>;

    fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
        cross_entropy(self.layer.forward(batch.inputs), batch.targets)
    }

    fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
        Score::classification(self.layer.forward(batch.inputs), batch.targets)
    }

    fn place(&self, batch: Labelled<2>, device: &Device) -> Option<Labelled<2>> {
        Some(batch.to_device(device))
    }
}

pub(crate) fn net(device: &Device) -> Net {
    initialize(Net { layer: LinearConfig::new(2, 2).init(device) }, Scheme::LecunNormal, Seed(4))
}

/// Everything that has a state: batch norm and seeded dropout.
#[derive(Module, Debug)]
pub(crate) struct Deep {
    first: Linear,
    norm: BatchNorm,
    dropout: InvertedDropout,
    pub(crate) last: Linear,
}

impl Deep {
    /// What batch norm sees.
    pub(crate) fn first(&self, inputs: Tensor<2>) -> Tensor<2> {
        self.first.forward(inputs)
    }

    fn forward(&self, inputs: Tensor<2>) -> Tensor<2> {
        let hidden = relu(self.norm.forward(self.first.forward(inputs)));
        self.last.forward(self.dropout.forward(hidden))
    }
}

impl Learn for Deep {
    type Batch = Labelled<2>;

    fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
        cross_entropy(self.forward(batch.inputs), batch.targets)
    }

    fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
        Score::classification(self.forward(batch.inputs), batch.targets)
    }

    fn place(&self, batch: Labelled<2>, device: &Device) -> Option<Labelled<2>> {
        Some(batch.to_device(device))
    }

    fn watch(&self, batch: Labelled<2>, watch: &mut Watch) -> Tensor<1> {
        let hidden = relu(self.norm.forward(self.first.forward(batch.inputs)));
        let hidden = watch.see("hidden", hidden);
        let logits = watch.see("logits", self.last.forward(self.dropout.forward(hidden)));
        cross_entropy(logits, batch.targets)
    }
}

pub(crate) fn deep(device: &Device, masks: &MaskSource, width: usize) -> Deep {
    let model = Deep {
        first: LinearConfig::new(2, width).init(device),
        norm: BatchNormConfig::new(width).init(device),
        dropout: InvertedDropoutConfig::new(0.3).init(masks).expect("valid"),
        last: LinearConfig::new(width, 2).init(device),
    };
    initialize(model, Scheme::LecunNormal, Seed(4))
}

/// Two classes on either side of a line, `scale` apart.
pub(crate) fn data(device: &Device, scale: f32) -> TensorBatches<2> {
    let rows: Vec<f32> = (0..40)
        .flat_map(|i| {
            let side = if i % 2 == 0 { scale } else { -scale };
            [side + 0.01 * i as f32, 0.5 * side]
        })
        .collect();
    let inputs = Tensor::<1>::from_floats(rows.as_slice(), device).reshape([40, 2]);
    let classes: Vec<i32> = (0..40).map(|i| i % 2).collect();
    let targets = Tensor::from_ints(classes.as_slice(), device);
    TensorBatches::new(Labelled { inputs, targets }, 7, Seed(5)).expect("valid")
}

pub(crate) fn config(epochs: usize) -> FitConfig {
    FitConfig::new(epochs).with_progress(false)
}

/// The bytes of a model's record, paths and identities aside.
pub(crate) fn weights<M: Module>(model: &M) -> Vec<(String, Vec<u8>)> {
    use burn::module::{ModuleVisitor, Param};
    use firebrick_backend::PathStack;
    #[derive(Default)]
    struct Read {
        path: PathStack,
        found: Vec<(String, Vec<u8>)>,
    }
    impl ModuleVisitor for Read {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let data = param.val().into_data();
            self.found.push((self.path.path(), data.as_bytes().to_vec()));
        }
    }
    let mut read = Read::default();
    model.visit(&mut read);
    read.found
}

/// Everything on: accumulation, early stopping, watching; see [`train`] for the rest.
pub(crate) fn full(epochs: usize) -> FitConfig {
    config(epochs)
        .with_accumulation(2)
        .with_record_every(2)
        .with_watch_every(3)
        .with_judge_every_steps(4)
        .with_early_stopping(Some(EarlyStoppingConfig::new(6)))
}

pub(crate) fn store(folder: &Path) -> CheckpointConfig {
    CheckpointConfig::new(folder.to_owned()).with_every_steps(1).with_resume(true)
}

/// Trains with a schedule, a penalty, dropout and its schedule, batch norm, guards that remember, a constraint and
/// momentum resets, until `stop_after` steps of this process where given.
pub(crate) fn train<O: Optimize>(
    optimizer: O,
    config: FitConfig,
    store: Option<CheckpointConfig>,
    stop_after: Option<u64>,
    width: usize,
) -> Result<Fitted<Deep>, TrainError> {
    train_with(optimizer, config, store, stop_after, width, |_| ())
}

/// The same with further settings.
pub(crate) fn train_with<O: Optimize>(
    optimizer: O,
    config: FitConfig,
    store: Option<CheckpointConfig>,
    stop_after: Option<u64>,
    width: usize,
    change: impl FnOnce(&mut Settings),
) -> Result<Fitted<Deep>, TrainError> {
    let device = Device::flex().autodiff();
    train_on(&device, optimizer, config, store, stop_after, width, change)
}

/// The same on `device`.
pub(crate) fn train_on<O: Optimize>(
    device: &Device,
    optimizer: O,
    config: FitConfig,
    store: Option<CheckpointConfig>,
    stop_after: Option<u64>,
    width: usize,
    change: impl FnOnce(&mut Settings),
) -> Result<Fitted<Deep>, TrainError> {
    let masks = MaskSource::new(Seed(8));
    let flag = Arc::new(AtomicBool::new(false));
    let raised = flag.clone();
    let mut taken = 0;
    let guards = (
        SkipNonFiniteConfig::new().init()?,
        MonitorConfig::new().with_every(2).init()?,
        AutoClipConfig::new().with_percentile(50.0).with_window(4).init()?,
        ClipSpikesConfig::new().with_theta(2.0).with_warm_up(2).init()?,
        LossSpikeConfig::new().with_threshold(1e6).with_min_samples(2).init()?,
        GradientNoiseConfig::new(1e-4).init()?,
    );
    let accumulates = config.accumulation > 1;
    let mut fit = Fit::new(config, optimizer)
        .schedule(CosineConfig::new(0.05, 40).build()?)
        .guards(guards)
        .penalty(L2Config::new(1e-3).init()?)
        .constrain(MaxNormConfig::new().with_max(1.5).init()?)
        .momentum_reset(MomentumResetConfig::new().with_interval(5).with_warm_up(2).init()?)
        .drop_schedule(&masks, DropSchedule::Ramp { over: 8 })?
        .masks(&masks)
        .interrupt(flag)
        .observe(move |event| {
            if matches!(event, Event::Step { .. }) {
                taken += 1;
                raised.store(Some(taken) == stop_after, Ordering::Relaxed);
            }
            Flow::Continue
        });
    if let Some(store) = store {
        fit = fit.checkpoints(store);
    }
    if accumulates {
        fit = fit.noise_scale(NoiseScaleConfig::new().init()?);
    }
    change(&mut fit.settings);
    let validation = data(device, 0.3);
    fit.run(deep(device, &masks, width), &data(device, 1.0), Some(&validation))
}

pub(crate) fn same<M: Module>(left: &Fitted<M>, right: &Fitted<M>) {
    assert_eq!(weights(&left.model), weights(&right.model));
    assert_eq!(left.history, right.history);
    assert_eq!((left.epoch, left.epochs, left.steps), (right.epoch, right.epochs, right.steps));
    assert_eq!((left.outcome, left.train), (right.outcome, right.train));
    assert_eq!(left.validation, right.validation);
}
