//! `Fit` against the loop that one would write by hand, with the same model, data, optimizer and number of steps.
//!
//! Both read the loss of each step and judge the model once, at the end.

use crate::harness::{BenchError, Case, Harness};
use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorReadError};
use firebrick::optim::AdamWConfig;
use firebrick::prelude::{Fit, FitConfig, Labelled, Learn, Seed, TensorBatches};
use firebrick::stabilize::{
    ClipGlobalNormConfig, Guard, LossSpikeConfig, MonitorConfig, Scheme, SkipNonFiniteConfig,
    Watch, initialize,
};
use firebrick::train::{Batches, Optimize, Score, TrainError};
use std::hint::black_box;
use std::time::{Duration, Instant};

const ROWS: usize = 2048;
const BATCH: usize = 64;
/// What is measured is a few percent, and a turn of 45 ms is that much off on a busy machine.
const ROUNDS: usize = 121;
/// Of the digits of 8 x 8 pixels, and of those of 28 x 28.
const WIDTHS: [[usize; 4]; 2] = [[64, 128, 64, 10], [784, 128, 64, 10]];

#[derive(Module, Debug)]
struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    fn new(widths: &[usize], device: &Device) -> Self {
        let layer = |pair: &[usize]| LinearConfig::new(pair[0], pair[1]).init(device);
        let model = Self { layers: widths.windows(2).map(layer).collect() };
        initialize(model, Scheme::KaimingNormal, Seed(1))
    }

    fn forward(
        &self,
        inputs: Tensor<2>,
        mut see: impl FnMut(usize, Tensor<2>) -> Tensor<2>,
    ) -> Tensor<2> {
        let mut hidden = inputs;
        for (depth, layer) in self.layers.iter().enumerate() {
            hidden = layer.forward(hidden);
            if depth + 1 < self.layers.len() {
                hidden = see(depth, relu(hidden));
            }
        }
        hidden
    }
}

fn loss(logits: Tensor<2>, targets: Tensor<1, burn::tensor::Int>) -> Tensor<1> {
    CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, targets)
}

impl Learn for Mlp {
    type Batch = Labelled<2>;

    fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
        loss(self.forward(batch.inputs, |_, hidden| hidden), batch.targets)
    }

    fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
        Score::classification(self.forward(batch.inputs, |_, hidden| hidden), batch.targets)
    }

    fn watch(&self, batch: Labelled<2>, watch: &mut Watch) -> Tensor<1> {
        let see = |depth: usize, hidden| watch.see(format!("layers.{depth}"), hidden);
        loss(self.forward(batch.inputs, see), batch.targets)
    }
}

fn area(error: impl std::fmt::Display) -> BenchError {
    BenchError::Area(error.to_string())
}

fn data(width: usize, device: &Device) -> Result<TensorBatches<2>, BenchError> {
    let mut stream = Seed(2).stream("bench");
    let pixels: Vec<f32> = (0..ROWS * width).map(|_| stream.uniform() as f32).collect();
    let classes: Vec<i32> = (0..ROWS).map(|_| stream.below(10) as i32).collect();
    let inputs = Tensor::<1>::from_floats(pixels.as_slice(), device).reshape([ROWS, width]);
    let data = Labelled { inputs, targets: Tensor::from_ints(classes.as_slice(), device) };
    TensorBatches::new(data, BATCH, Seed(3)).map_err(area)
}

/// The loop that one would write.
fn by_hand<O: Optimize>(
    mut model: Mlp,
    data: &TensorBatches<2>,
    mut optimizer: O,
    mut before: impl FnMut(&Mlp, &mut GradientsParams),
    epochs: usize,
) -> Result<Duration, TrainError> {
    let start = Instant::now();
    let mut sum = 0.0;
    for epoch in 1..=epochs {
        for batch in data.epoch(epoch) {
            let loss = model.loss(batch);
            sum += loss.clone().inner().try_into_scalar::<f64>()?;
            let mut gradients = GradientsParams::from_grads(loss.backward(), &model);
            before(&model, &mut gradients);
            model = optimizer.step(1e-3, model, gradients);
        }
    }
    let judged = model.valid();
    for batch in data.whole() {
        sum += judged.score(batch)?.loss();
    }
    black_box(sum);
    Ok(start.elapsed())
}

fn fitted<O: Optimize, G: Guard>(
    model: Mlp,
    data: &TensorBatches<2>,
    optimizer: O,
    guards: G,
    config: FitConfig,
) -> Result<Duration, TrainError> {
    let fit = Fit::new(config, optimizer).rate(|_| 1e-3).guards(guards);
    let start = Instant::now();
    let fitted = fit.run(model, data, None)?;
    black_box(fitted.train.loss());
    Ok(start.elapsed())
}

pub(crate) fn run(bench: &mut Harness) -> Result<(), BenchError> {
    let device = Device::flex().autodiff();
    let epochs = if bench.quick() { 1 } else { 8 };
    let steps = (epochs * ROWS / BATCH) as f64;
    let config = FitConfig::new(epochs)
        .with_progress(false)
        .with_judge_training(true)
        .with_judge_every(epochs);
    let skip = SkipNonFiniteConfig::new().init().map_err(area)?;
    let clip = ClipGlobalNormConfig::new(1.0).init().map_err(area)?;
    let spike = LossSpikeConfig::new().with_threshold(1e6).init().map_err(area)?;
    let monitor = |every| MonitorConfig::new().with_every(every).init().map_err(area);
    let fused = AdamWConfig::new().fused().map_err(area)?;
    let burns = burn::optim::AdamWConfig::new().init();
    for widths in WIDTHS {
        let data = data(widths[0], &device)?;
        let model = || Mlp::new(&widths, &device);
        macro_rules! row {
            ($name:expr, $optimizer:expr, $guards:expr, $config:expr) => {
                row!($name, $optimizer, $guards, $config, |_: &Mlp, _: &mut GradientsParams| {})
            };
            ($name:expr, $optimizer:expr, $guards:expr, $config:expr, $before:expr) => {
                let name = format!("{}, {} inputs", $name, widths[0]);
                if bench.wants(&name) {
                    let (mut ours, mut hand) = (None, None);
                    let (one, other) = ($optimizer.clone(), $optimizer.clone());
                    bench.row(
                        Case::new(name, "us/step")
                            .scale(1e6 / steps)
                            .rounds(ROUNDS)
                            .ours(|| {
                                let config = $config.clone();
                                keep(
                                    fitted(model(), &data, one.clone(), $guards, config),
                                    &mut ours,
                                )
                            })
                            .peer("by hand", || {
                                let run = by_hand(model(), &data, other.clone(), $before, epochs);
                                keep(run, &mut hand)
                            }),
                    )?;
                    if let Some(error) = ours.or(hand) {
                        return Err(area(error));
                    }
                }
            };
        }
        row!("fit, fused AdamW", fused, (), config);
        row!("fit, burn's AdamW", burns, (), config);
        let mut own = clip.clone();
        let mut clipped = |model: &Mlp, gradients: &mut GradientsParams| {
            own.clip(model, gradients);
        };
        row!("fit, clipped as by hand", fused, clip.clone(), config, &mut clipped);
        for every in [1, 10] {
            let config = config.clone().with_record_every(every).with_watch_every(every as u64);
            let name = format!("all monitors, every {every}");
            row!(name, fused, monitor(every).ok(), config);
            let name = format!("monitors and guards, every {every}");
            let guards = || (monitor(every).ok(), skip.clone(), spike.clone(), clip.clone());
            row!(name, fused, guards(), config);
        }
        // What each costs alone.
        row!("skipping broken steps", fused, skip.clone(), config);
        row!("spike detection", fused, spike.clone(), config);
        row!("clipping", fused, clip.clone(), config);
        row!("gradients and updates, every 1", fused, monitor(1).ok(), config);
        let watched = config.clone().with_watch_every(1);
        row!("activations and errors, every 1", fused, (), watched);
        let recorded = config.clone().with_record_every(1);
        row!("a record, every 1", fused, (), recorded);
    }
    bench.note(
        "the small MLP INPUTS-128-64-10, batches of 64; a row's ratio is what Fit costs over the loop by hand, which does \
         nothing but steps; only where it says so it clips as well",
    );
    Ok(())
}

/// The time, or the first error and an absurd time.
fn keep(result: Result<Duration, TrainError>, error: &mut Option<TrainError>) -> Duration {
    match result {
        Ok(time) => time,
        Err(failed) => {
            error.get_or_insert(failed);
            Duration::from_secs(3600)
        }
    }
}
