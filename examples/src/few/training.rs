//! One training by hand: what each piece of a recipe does to batch, loss and weights.

use crate::model::Net;
use crate::recipe::{Method, Recipe};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use firebrick::core::{ConfigError, Philox, Record};
use firebrick::optim::wrapper::{Ema, EmaConfig};
use firebrick::prelude::*;
use firebrick::regularize::{
    ConfidencePenaltyConfig, ImageAugment, ImageOp, L2Config, LabelSmoothing, LabelSmoothingConfig,
    MaskSource, MaxNormConfig, Mixup, MixupConfig, Penalty, Projection, ProximalL1Config,
    PseudoReport, RDropConfig, Ramp, RegularizeError, Step, fixmatch_loss, mean_teacher_loss,
    pi_model_loss, pseudo_label_loss, soft_cross_entropy, uda_loss,
};
use firebrick::train::Score;
use firebrick_examples::data::Data;

const RATE: f64 = 3e-3;
const BATCH: usize = 32;
/// Rows without labels for each one with.
const RATIO: usize = 3;
/// Confidence from which a prediction counts as a label; UDA's is lower, as its targets are soft.
const THRESHOLD: f64 = 0.95;
const UDA_THRESHOLD: f64 = 0.8;

/// Why a training gave no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrainingError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Regularize(#[from] RegularizeError),
    #[error("cannot read from the device: {0}")]
    Read(#[from] burn::tensor::TensorReadError),
    #[error("interrupted")]
    Interrupted,
}

/// Rows of one training: with labels, without, and those that judge it.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) labelled: Data,
    /// Their labels are used for the report on pseudo-labels alone.
    pub(crate) unlabelled: Data,
    pub(crate) test: Data,
}

/// What a training came to.
#[derive(Debug)]
pub(crate) struct Trained {
    pub(crate) train: Score,
    pub(crate) test: Score,
    /// What the predictions on the rows without labels were at the end.
    pub(crate) record: Record,
}

/// Row numbers in shuffled order, again and again.
struct Order {
    rows: Vec<u32>,
    at: usize,
    generator: Philox,
}

impl Order {
    fn new(rows: usize, seed: Seed, purpose: &str) -> Self {
        Self { rows: (0..rows as u32).collect(), at: rows, generator: seed.stream(purpose) }
    }

    fn next(&mut self, count: usize) -> Vec<u32> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count && !self.rows.is_empty() {
            if self.at == self.rows.len() {
                self.generator.shuffle(&mut self.rows);
                self.at = 0;
            }
            taken.push(self.rows[self.at]);
            self.at += 1;
        }
        taken
    }
}

/// The two strengths of augmentation; all of it keeps a digit the digit it is.
struct Views {
    weak: ImageAugment,
    strong: ImageAugment,
    side: usize,
}

impl Views {
    fn new(side: usize, masks: &MaskSource) -> Result<Self, ConfigError> {
        let weak = vec![
            Step::preserving(ImageOp::Affine {
                degrees: 10.0,
                translate: 0.0,
                scale: (0.9, 1.1),
                shear: 8.0,
            }),
            Step::preserving(ImageOp::Shift { max: 1 }).with_prob(0.5),
        ];
        let strong = vec![
            Step::preserving(ImageOp::Affine {
                degrees: 20.0,
                translate: 0.1,
                scale: (0.8, 1.2),
                shear: 15.0,
            }),
            Step::preserving(ImageOp::Brightness { max: 0.4 }),
            Step::preserving(ImageOp::Cutout { size: 3 }),
        ];
        Ok(Self {
            weak: ImageAugment::new(weak, masks)?,
            strong: ImageAugment::new(strong, masks)?,
            side,
        })
    }

    fn of(&self, augment: &ImageAugment, rows: Tensor<2>) -> Result<Tensor<2>, RegularizeError> {
        let shape = rows.dims();
        let images = rows.reshape([shape[0], 1, self.side, self.side]);
        Ok(augment.labelled(images)?.reshape(shape))
    }
}

/// Trains `recipe` for `steps` steps; `cancelled` is asked now and then.
pub(crate) fn train(
    recipe: &Recipe,
    rows: &Rows,
    steps: usize,
    seed: Seed,
    device: &Device,
    cancelled: impl Fn() -> bool,
) -> Result<Trained, TrainingError> {
    let (width, classes) = (rows.labelled.width, rows.labelled.classes);
    let scale = rows.labelled.scale();
    let labelled = rows.labelled.tensors(scale, device);
    let unlabelled = rows.unlabelled.tensors(scale, device);
    let masks = MaskSource::named(seed, "batch");
    let views = Views::new((width as f64).sqrt() as usize, &masks)?;
    let batch = Batch {
        smoothing: LabelSmoothingConfig::new().with_smoothing(recipe.smoothing).init()?,
        mixup: MixupConfig::new().with_alpha(recipe.mixup).init(&masks)?,
        views,
        classes,
    };
    let projections = projections(recipe)?;
    let penalty = L2Config::new(recipe.l2).init()?;
    let schedule = CosineConfig::new(RATE, steps).build()?;
    let mut net = Net::new(recipe, width, classes, seed, device)?;
    let mut optimizer = AdamWConfig::new().with_weight_decay(0.0).fused()?;
    let mut teacher = EmaConfig::new().with_decay(0.99).init(&net)?;
    let mut order = Order::new(rows.labelled.len(), seed, "labelled");
    let mut other = Order::new(rows.unlabelled.len(), seed, "unlabelled");
    let size = BATCH.min(rows.labelled.len());

    for step in 0..steps as u64 {
        if step.is_multiple_of(20) && cancelled() {
            return Err(TrainingError::Interrupted);
        }
        let mut loss = batch.loss(recipe, &net, labelled.select(&order.next(size)))?;
        if let Some(method) = recipe.method {
            let rows = unlabelled.select(&other.next(RATIO * size)).inputs;
            loss = loss + batch.unlabelled(method, &net, &mut teacher, rows, step, steps as u64)?;
        }
        if recipe.l2 > 0.0 {
            loss = penalty.term(&net).map_or(loss.clone(), |term| loss + term);
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &net);
        let rate = schedule.rate(step);
        net = projections.project(optimizer.step(rate, net, gradients), rate)?;
        if recipe.method == Some(Method::MeanTeacher) {
            net = teacher.update(net);
        }
    }

    let judged = match recipe.method {
        Some(Method::MeanTeacher) => teacher.model(&net).valid(),
        _ => net.valid(),
    };
    let score = |data: &Data| {
        let data = data.tensors(scale, &device.clone().inner());
        Score::classification(judged.forward(data.inputs), data.targets)
    };
    let mut record = Record::new(1, steps as u64);
    if recipe.method.is_some() {
        let labels: Vec<usize> = rows.unlabelled.labels.iter().map(|&l| l as usize).collect();
        let logits = judged.forward(unlabelled.inputs.inner());
        let threshold = if recipe.method == Some(Method::Uda) { UDA_THRESHOLD } else { THRESHOLD };
        let report = PseudoReport::of(logits, threshold, Some(&labels))?;
        record = record.with("kept_share", report.kept_share());
        for (name, value) in
            [("pseudo_accuracy", report.accuracy()), ("largest_share", report.largest_share())]
        {
            record = value.into_iter().fold(record, |record, value| record.with(name, value));
        }
    }
    Ok(Trained { train: score(&rows.labelled)?, test: score(&rows.test)?, record })
}

/// What is done to a batch and its loss.
struct Batch {
    smoothing: LabelSmoothing,
    mixup: Mixup,
    views: Views,
    classes: usize,
}

impl Batch {
    /// The loss on rows with labels.
    fn loss(
        &self,
        recipe: &Recipe,
        net: &Net,
        rows: Labelled<2>,
    ) -> Result<Tensor<1>, TrainingError> {
        let mut inputs = rows.inputs;
        let mut targets = self.smoothing.targets(rows.targets, self.classes)?;
        if recipe.augment {
            inputs = self.views.of(&self.views.weak, inputs)?;
        }
        if recipe.mixup > 0.0 {
            let mixed = self.mixup.mix(inputs, targets)?;
            (inputs, targets) = (mixed.input, mixed.targets);
        }
        if recipe.r_drop > 0.0 {
            let rdrop = RDropConfig::new().with_alpha(recipe.r_drop).init()?;
            let logits = net.forward(Tensor::cat(vec![inputs.clone(), inputs], 0));
            let (first, second) = rdrop.split(logits)?;
            let loss = rdrop.loss(first, second, targets)?;
            return Ok(loss.cross_entropy + loss.divergence);
        }
        let logits = net.forward(inputs);
        let loss = soft_cross_entropy(logits.clone(), targets)?;
        if recipe.confidence > 0.0 {
            let penalty = ConfidencePenaltyConfig::new().with_strength(recipe.confidence).init()?;
            return Ok(loss + penalty.term(logits));
        }
        Ok(loss)
    }

    /// The weighted loss on rows without labels.
    fn unlabelled(
        &self,
        method: Method,
        net: &Net,
        teacher: &mut Ema,
        rows: Tensor<2>,
        step: u64,
        steps: u64,
    ) -> Result<Tensor<1>, TrainingError> {
        let view = |augment| self.views.of(augment, rows.clone());
        let (weak, strong) = (&self.views.weak, &self.views.strong);
        // Targets need no graph.
        let target = |net: &Net| -> Result<Tensor<2>, TrainingError> {
            Ok(Tensor::from_inner(net.valid().forward(view(weak)?.inner())))
        };
        let gaussian = Ramp::Gaussian { over: steps / 2 };
        let (found, weight) = match method {
            Method::PseudoLabel => {
                let ramp = Ramp::Linear { from: steps / 10, to: steps / 2 };
                (pseudo_label_loss(net.forward(view(weak)?), THRESHOLD)?, ramp.factor(step))
            }
            Method::PiModel => {
                let found = pi_model_loss(net.forward(view(weak)?), net.forward(view(weak)?))?;
                (found, 20.0 * gaussian.factor(step))
            }
            Method::MeanTeacher => {
                let target = target(&teacher.model(net))?;
                let found = mean_teacher_loss(net.forward(view(weak)?), target)?;
                (found, 20.0 * gaussian.factor(step))
            }
            Method::Uda => {
                (uda_loss(target(net)?, net.forward(view(strong)?), 0.4, UDA_THRESHOLD)?, 1.0)
            }
            Method::FixMatch => {
                (fixmatch_loss(target(net)?, net.forward(view(strong)?), THRESHOLD)?, 1.0)
            }
        };
        Ok(found.loss.mul_scalar(weight))
    }
}

/// What is done to the weights after a step.
fn projections(recipe: &Recipe) -> Result<impl Projection, ConfigError> {
    let max_norm = (recipe.max_norm > 0.0)
        .then(|| MaxNormConfig::new().with_max(recipe.max_norm).init())
        .transpose()?;
    let l1 = (recipe.proximal_l1 > 0.0)
        .then(|| ProximalL1Config::new(recipe.proximal_l1).init())
        .transpose()?;
    Ok((max_norm, l1))
}
