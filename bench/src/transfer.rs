//! One epoch of fine-tuning a small convolutional network: the head on cached features, on a frozen body that runs each
//! time, and everything; against torch's linear probe and full fine-tuning of the same network.

use crate::harness::{BenchError, Case, Harness};
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData, TensorReadError, activation::relu};
use firebrick::core::Seed;
use firebrick::optim::{AdamWConfig, FusedOptimizer};
use firebrick::train::{Batches, Labelled, Learn, Score, TensorBatches};
use firebrick::transfer::{Groups, Headed, Mode, Plan, Switches, features};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Images of 14 x 14 pixels, ten classes, batches of 32; the peer in `bench/peers/transfer.py` has the same.
const SIDE: usize = 14;
const CLASSES: usize = 10;
const BATCH: usize = 32;

fn samples(bench: &Harness) -> usize {
    if bench.quick() { 128 } else { 512 }
}

fn area(error: impl std::fmt::Display) -> BenchError {
    BenchError::Area(error.to_string())
}

#[derive(Module, Debug)]
struct Cnn {
    low: Conv2d,
    high: Conv2d,
    dense: Linear,
    pool: MaxPool2d,
    head: Linear,
}

impl Cnn {
    fn new(device: &Device) -> Self {
        let conv = |inputs, outputs| {
            let conv = Conv2dConfig::new([inputs, outputs], [3, 3]);
            conv.with_padding(PaddingConfig2d::Same).init(device)
        };
        Self {
            low: conv(1, 16),
            high: conv(16, 32),
            dense: LinearConfig::new(32 * 9, 64).init(device),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            head: LinearConfig::new(64, CLASSES).init(device),
        }
    }

    fn features(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.pool.forward(relu(self.low.forward(images)));
        let x = self.pool.forward(relu(self.high.forward(x)));
        relu(self.dense.forward(x.flatten(1, 3)))
    }
}

fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, burn::tensor::Int>) -> Tensor<1> {
    CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, targets)
}

impl Learn for Cnn {
    type Batch = Labelled<4>;

    fn loss(&self, batch: Labelled<4>) -> Tensor<1> {
        cross_entropy(self.head.forward(self.features(batch.inputs)), batch.targets)
    }

    fn score(&self, batch: Labelled<4>) -> Result<Score, TensorReadError> {
        Score::classification(self.head.forward(self.features(batch.inputs)), batch.targets)
    }
}

impl Headed for Cnn {
    fn embed(&self, batch: Labelled<4>) -> Labelled<2> {
        Labelled { inputs: self.features(batch.inputs), targets: batch.targets }
    }

    fn head(&self) -> &Linear {
        &self.head
    }

    fn with_head(mut self, head: Linear) -> Self {
        self.head = head;
        self
    }
}

fn images(samples: usize, device: &Device) -> Result<TensorBatches<4>, BenchError> {
    let mut stream = Seed(1).stream("images");
    let pixels: Vec<f32> = (0..samples * SIDE * SIDE).map(|_| stream.uniform() as f32).collect();
    let inputs = Tensor::from_data(TensorData::new(pixels, [samples, 1, SIDE, SIDE]), device);
    let classes: Vec<i64> = (0..samples).map(|row| (row % CLASSES) as i64).collect();
    let targets = Tensor::from_data(classes.as_slice(), device);
    TensorBatches::new(Labelled { inputs, targets }, BATCH, Seed(2)).map_err(area)
}

/// A model in training, epoch by epoch.
struct Training<M> {
    model: Option<M>,
    optimizer: FusedOptimizer,
    epoch: usize,
}

impl<M: Module> Training<M> {
    fn new(model: M, frozen: usize) -> Result<Self, BenchError> {
        let switches = Switches::of(&model);
        let plan = Plan::new(Groups::propose(&model).map_err(area)?);
        let plan = plan.with_first(frozen, Mode::Frozen).map_err(area)?;
        let model = plan.apply(model, &switches).map_err(area)?;
        let rule = AdamWConfig::new().build().map_err(area)?;
        let optimizer = plan.optimizer(&model, &rule).map_err(area)?;
        Ok(Self { model: Some(model), optimizer, epoch: 0 })
    }

    /// One epoch of steps.
    fn epoch<B: Batches>(
        &mut self,
        data: &B,
        loss: impl Fn(&M, B::Batch) -> Tensor<1>,
    ) -> Duration {
        self.epoch += 1;
        let start = Instant::now();
        for batch in data.epoch(self.epoch) {
            let Some(model) = self.model.take() else { break };
            let gradients = GradientsParams::from_grads(loss(&model, batch).backward(), &model);
            self.model = Some(self.optimizer.step(1e-3, model, gradients));
        }
        start.elapsed()
    }
}

pub(crate) fn run(bench: &mut Harness) -> Result<(), BenchError> {
    let device = Device::flex().autodiff();
    let data = images(samples(bench), &device)?;
    let source = Cnn::new(&device);
    let cached = features(&source, &data).map_err(area)?;
    let cached = Labelled { inputs: Tensor::from_inner(cached.inputs), targets: cached.targets };
    let cached = TensorBatches::new(cached, BATCH, Seed(2)).map_err(area)?;
    let copy = || source.valid().train();
    let head_loss = |head: &Linear, batch: Labelled<2>| {
        cross_entropy(head.forward(batch.inputs), batch.targets)
    };

    let name = "head, cached features";
    if bench.wants(name) {
        let mut ours = Training::new(copy().head, 0)?;
        let mut uncached = Training::new(copy(), 3)?;
        bench.row(
            Case::new(name, "ms/epoch")
                .scale(1e3)
                .ours(|| ours.epoch(&cached, head_loss))
                .peer("uncached", || uncached.epoch(&data, Cnn::loss))
                .python("torch"),
        )?;
    }
    let name = "head, frozen body each time";
    if bench.wants(name) {
        let mut ours = Training::new(copy(), 3)?;
        let mut parts = Training::new(copy().head, 0)?;
        let body = copy().valid();
        let mut full = Training::new(copy(), 0)?;
        bench.row(
            Case::new(name, "ms/epoch")
                .scale(1e3)
                .ours(|| ours.epoch(&data, Cnn::loss))
                .peer("forward + head", || {
                    let start = Instant::now();
                    for batch in data.epoch(1) {
                        black_box(body.features(batch.inputs.inner()));
                    }
                    start.elapsed() + parts.epoch(&cached, head_loss)
                })
                .peer("full", || full.epoch(&data, Cnn::loss))
                .python("torch"),
        )?;
    }
    let name = "full fine-tuning";
    if bench.wants(name) {
        let mut ours = Training::new(copy(), 0)?;
        bench.row(
            Case::new(name, "ms/epoch")
                .scale(1e3)
                .ours(|| ours.epoch(&data, Cnn::loss))
                .python("torch"),
        )?;
    }
    bench.note(
        "`forward + head` runs the body in evaluation mode, without any graph: what a frozen prefix has to cost",
    );
    Ok(())
}
