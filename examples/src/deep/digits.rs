//! Trainings of the deep net on the digits.

use crate::net::{Net, Plan};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use firebrick::optim::SgdConfig;
use firebrick::prelude::{Fit, FitConfig, Labelled, Learn, Seed, TensorBatches};
use firebrick::regularize::L2Config;
use firebrick::stabilize::{
    ClipGlobalNormConfig, MonitorConfig, NormType, Tap, Watch, gradient_norms,
};
use firebrick::train::{Batches, DenoiseConfig, Outcome, Pretraining, Reconstruction, pretrain};
use firebrick_examples::data::Data;
use firebrick_examples::failure::Failure;

/// One training: the net, and what is done to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Recipe {
    pub(crate) plan: Plan,
    pub(crate) rate: f64,
    pub(crate) momentum: f64,
    pub(crate) clip: Option<f64>,
    /// Strength of the L2 penalty.
    pub(crate) decay: f64,
    pub(crate) pretrained: bool,
    pub(crate) epochs: usize,
    /// Whether the rate falls to 0, so that the last step finds no net on its way from one place to another.
    pub(crate) falls: bool,
}

impl Recipe {
    pub(crate) fn new(plan: Plan, rate: f64, epochs: usize) -> Self {
        Self {
            plan,
            rate,
            momentum: 0.9,
            clip: None,
            decay: 0.0,
            pretrained: false,
            epochs,
            falls: false,
        }
    }
}

/// How a training went.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// Share of the training rows that are right; 0 where the weights broke.
    pub(crate) accuracy: f64,
    /// Mean loss of the held-out rows.
    pub(crate) held_out_loss: f64,
    /// Share of hidden units that never fire at the end; NaN where the weights broke.
    pub(crate) dead: f64,
    /// The Euclidean norm of all weights at the end.
    pub(crate) weights: f64,
    /// The gradient's norm of each hidden layer at the first step, from the input on.
    pub(crate) flow: Vec<f64>,
    /// The same at the end.
    pub(crate) flow_after: Vec<f64>,
}

/// The rows of one seed: those that are trained on, and others.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) train: TensorBatches<2>,
    pub(crate) held_out: TensorBatches<2>,
    width: usize,
    classes: usize,
}

impl Rows {
    /// `count` rows to train on and as many as 500 others, drawn by the seed.
    pub(crate) fn new(
        data: &Data,
        count: usize,
        seed: Seed,
        device: &Device,
    ) -> Result<Self, Failure> {
        let mut order: Vec<u32> = (0..data.len() as u32).collect();
        seed.stream("rows").shuffle(&mut order);
        let (train, rest) = order.split_at(count.min(order.len() / 2));
        let batches = |rows: &[u32]| {
            let rows: Labelled<2> = data.select(rows).tensors(data.scale(), device);
            TensorBatches::new(rows, 64, seed)
        };
        Ok(Self {
            train: batches(train)?,
            held_out: batches(&rest[..rest.len().min(500)])?,
            width: data.width,
            classes: data.classes,
        })
    }
}

/// Trains by `recipe`.
pub(crate) fn train(
    recipe: &Recipe,
    rows: &Rows,
    seed: Seed,
    device: &Device,
) -> Result<Run, Failure> {
    let mut net = Net::new(&recipe.plan, rows.width, rows.classes, seed, device);
    if recipe.pretrained
        && let Some(activation) = net.activation().cloned()
    {
        let how = Pretraining::Denoise(
            DenoiseConfig::new()
                .with_epochs(15)
                .with_rate(0.01)
                .with_reconstruction(Reconstruction::CrossEntropy),
        );
        let inputs = rows.train.data().inputs.clone();
        net.hidden = pretrain(net.hidden, &activation, inputs, &how, seed)?.layers;
    }
    let flow = flow(&net, rows, recipe.clip)?;
    let sgd = SgdConfig::new().with_momentum(recipe.momentum);
    let clip = recipe.clip.map(|bound| ClipGlobalNormConfig::new(bound).init()).transpose()?;
    // Nothing skips a broken step here: what is not guarded against shows.
    let guards = (MonitorConfig::new().with_updates(false).with_zeros(false).init()?, clip);
    let steps = (recipe.epochs * rows.train.batches_per_epoch()) as f64;
    let (highest, falls) = (recipe.rate, recipe.falls);
    let rate = move |step: u64| {
        if falls { highest * (1.0 - step as f64 / steps).max(0.0) } else { highest }
    };
    let config = FitConfig::new(recipe.epochs).with_progress(false).with_judge_every(recipe.epochs);
    let fitted = Fit::new(config, sgd.fused().map_err(Failure::run)?)
        .rate(rate)
        .guards(guards)
        .penalty(L2Config::new(recipe.decay).init()?)
        .run(net, &rows.train, Some(&rows.held_out))?;
    let broken = fitted.outcome == Outcome::Diverged;
    let error = fitted.train.error();
    let held_out = fitted.validation.unwrap_or_default();
    let net = fitted.model.train();
    Ok(Run {
        accuracy: if broken || !error.is_finite() { 0.0 } else { 1.0 - error },
        held_out_loss: held_out.loss(),
        dead: dead(&net, rows),
        weights: length(&net),
        flow,
        flow_after: self::flow(&net, rows, recipe.clip)?,
    })
}

/// What a step would see of each hidden layer's gradient, after clipping where that is done.
fn flow(net: &Net, rows: &Rows, clip: Option<f64>) -> Result<Vec<f64>, Failure> {
    // A copy: looking must not move running statistics.
    let net = net.valid().train();
    let loss = net.loss(rows.train.data().clone());
    let mut gradients = GradientsParams::from_grads(loss.backward(), &net);
    if let Some(bound) = clip {
        ClipGlobalNormConfig::new(bound).init()?.clip(&net, &mut gradients);
    }
    let norms = gradient_norms(&net, &gradients, NormType::Two);
    let weights = norms
        .tensors
        .iter()
        .filter(|tensor| tensor.path.starts_with("hidden.") && tensor.path.ends_with(".weight"));
    Ok(weights.map(|tensor| tensor.norm).collect())
}

/// The share of hidden units that are 0 for every row; NaN of a net that broke.
fn dead(net: &Net, rows: &Rows) -> f64 {
    let mut watch = Watch::default();
    let loss = net.valid().train().watch(rows.train.data().clone(), &mut watch);
    let (taps, _) = watch.read(&loss.backward());
    // A unit that gives NaN is not dead, and no better for it.
    let share = |tap: &Tap| if tap.rms.is_finite() { tap.dead } else { f64::NAN };
    taps.iter().map(share).sum::<f64>() / taps.len().max(1) as f64
}

fn length(net: &Net) -> f64 {
    let layers = net.hidden.iter().map(|layer| layer.weight.val());
    let squares = layers.map(|weight| weight.inner().square().sum().into_scalar::<f32>());
    squares.map(f64::from).sum::<f64>().sqrt()
}
