//! What each piece of a recipe does in a step of training.

use crate::model::{Net, PLACES, as_images};
use crate::recipe::{Piece, Recipe};
use crate::training::TrainingError;
use burn::module::ParamGroup;
use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor};
use firebrick::core::ConfigError;
use firebrick::prelude::*;
use firebrick::regularize::*;

type Batch = (Tensor<2>, Tensor<2>);
type OnWeights = Box<dyn Fn(&Net) -> Option<Tensor<1>>>;
type OnBatch = Box<dyn Fn(&Net, Batch) -> Result<Tensor<1>, RegularizeError>>;
type AfterStep = Box<dyn Fn(Net, f64) -> Result<Net, RegularizeError>>;
type Guise = Box<dyn Fn(&Net) -> Net>;
type OnImages = Box<dyn Fn(Tensor<4>) -> Result<Tensor<4>, RegularizeError>>;

/// The pieces of a recipe by where they act; what is missing is the plain way.
pub(crate) struct Pieces {
    label_noise: Option<LabelNoise>,
    smoothing: LabelSmoothing,
    images: Option<OnImages>,
    /// The network that a batch goes through, instead of the one that learns.
    guise: Option<Guise>,
    /// In the place of the cross entropy.
    loss: OnBatch,
    terms: Vec<OnBatch>,
    penalties: Vec<OnWeights>,
    gradients: Option<GradientNoise>,
    constraints: Vec<AfterStep>,
    schedule: DropSchedule,
    masks: MaskSource,
    classes: usize,
}

impl Pieces {
    /// The pieces of `recipe` for a run of `steps`; `masks` are those of the network.
    pub(crate) fn new(
        recipe: &Recipe,
        classes: usize,
        steps: usize,
        seed: Seed,
        masks: &MaskSource,
    ) -> Result<Self, TrainingError> {
        let mut made = Self {
            label_noise: None,
            smoothing: LabelSmoothingConfig::new().with_smoothing(0.0).init()?,
            images: None,
            guise: None,
            loss: Box::new(|net, (inputs, targets)| {
                soft_cross_entropy(net.forward(inputs), targets)
            }),
            terms: Vec::new(),
            penalties: Vec::new(),
            gradients: None,
            constraints: Vec::new(),
            schedule: DropSchedule::Constant,
            masks: masks.clone(),
            classes,
        };
        for &piece in recipe.pieces {
            made.add(piece, steps as u64, seed)?;
        }
        Ok(made)
    }

    fn add(&mut self, piece: Piece, steps: u64, seed: Seed) -> Result<(), TrainingError> {
        // One source a purpose, so that what a recipe adds leaves the draws of the others as they are.
        let source = |purpose: &str| MaskSource::named(seed, purpose);
        match piece {
            Piece::L2(strength) => self.penalty(L2Config::new(strength).init()?),
            Piece::L1(strength) => self.penalty(L1Config::new(strength).init()?),
            Piece::ElasticNet(strength) => self.penalty(ElasticNetConfig::new(strength).init()?),
            Piece::Orthogonal(strength) => self.penalty(OrthogonalConfig::new(strength).init()?),
            Piece::Spectral(strength) => self.penalty(SpectralConfig::new(strength).init(seed)?),
            Piece::Concrete(_) => self.penalties.push(Box::new(Net::concrete_term)),
            Piece::Activity(strength) => {
                let penalty = ActivityPenaltyConfig::new(strength).init()?;
                self.term(move |net, (inputs, _)| {
                    let mut hidden = None;
                    net.through(inputs, |place, state| {
                        hidden = (place > 0).then(|| state.clone());
                        Ok::<_, RegularizeError>(state)
                    })?;
                    let hidden = hidden.ok_or(RegularizeError::Empty { what: "the network" })?;
                    Ok(penalty.term(hidden))
                });
            }
            Piece::Confidence(strength) => {
                let penalty = ConfidencePenaltyConfig::new().with_strength(strength).init()?;
                self.term(move |net, (inputs, _)| Ok(penalty.term(net.forward(inputs))));
            }
            Piece::Jacobian(strength) => {
                let config = JacobianPenaltyConfig::new(strength, true);
                let penalty = config.init(&source("directions"))?;
                self.term(move |net, (inputs, _)| penalty.term(inputs, |x| net.forward(x)));
            }
            Piece::InputGradient(strength) => {
                let config = GradientPenaltyConfig::new(true).with_target(GradientTarget::Zero);
                let penalty = config.with_strength(strength).init()?;
                self.term(move |net, (inputs, targets)| {
                    penalty.term(inputs, |x| {
                        let log_p = burn::tensor::activation::log_softmax(net.forward(x), 1);
                        (log_p * targets.clone()).sum_dim(1).neg()
                    })
                });
            }
            Piece::ProximalL1(strength) => {
                self.constraint(ProximalL1Config::new(strength).init()?);
            }
            Piece::GroupLasso(strength) => {
                self.constraint(GroupLassoConfig::new(strength).init()?);
            }
            Piece::MaxNorm(max) => self.constraint(MaxNormConfig::new().with_max(max).init()?),
            Piece::UnitNorm => self.constraint(UnitNormConfig::new().init()),
            Piece::NonNegative => self.constraint(NonNegative::new()),
            Piece::Curriculum(_) => self.schedule = DropSchedule::curriculum(steps),
            Piece::EarlyDropout(_) => self.schedule = DropSchedule::Early { until: steps / 2 },
            Piece::LateDropout(_) => self.schedule = DropSchedule::Late { from: steps / 2 },
            Piece::WeightDrop(prob) => {
                let config = WeightDropConfig::new().with_prob(prob);
                let drop = config.init(ParamGroup::all(), &self.masks)?;
                self.guise = Some(Box::new(move |net| drop.apply(net)));
            }
            Piece::WeightNoise(std) => {
                let noise = WeightNoiseConfig::new(std).init(&self.masks)?;
                self.guise = Some(Box::new(move |net| noise.apply(net)));
            }
            Piece::GradientNoise(eta) => {
                let config = GradientNoiseConfig::new().with_eta(eta);
                self.gradients = Some(config.init(&source("gradient noise"))?);
            }
            Piece::LabelNoise(prob) => {
                let config = LabelNoiseConfig::new(prob, self.classes);
                self.label_noise = Some(config.init(&source("label noise"))?);
            }
            Piece::Smoothing(share) => {
                self.smoothing = LabelSmoothingConfig::new().with_smoothing(share).init()?;
            }
            Piece::Mixup(alpha) => {
                let mixup = MixupConfig::new().with_alpha(alpha).init(&source("mixing"))?;
                self.loss = Box::new(move |net, (inputs, targets)| {
                    let mixed = mixup.mix(inputs, targets)?;
                    soft_cross_entropy(net.forward(mixed.input), mixed.targets)
                });
            }
            Piece::CutMix(alpha) => {
                let cutmix = CutMixConfig::new().with_alpha(alpha).init(&source("mixing"))?;
                self.loss = Box::new(move |net, (inputs, targets)| {
                    let shape = inputs.dims();
                    let mixed = cutmix.mix(as_images(inputs), targets)?;
                    soft_cross_entropy(net.forward(mixed.input.reshape(shape)), mixed.targets)
                });
            }
            Piece::ManifoldMixup(alpha) => {
                let config = ManifoldMixupConfig::new(PLACES).with_alpha(alpha);
                let mixup = config.init(&source("mixing"))?;
                self.loss = Box::new(move |net, (inputs, targets)| {
                    let plan = mixup.plan(inputs.dims()[0]);
                    let logits = net.through(inputs, |place, state| plan.at(place, state))?;
                    soft_cross_entropy(logits, plan.mix.apply(targets)?)
                });
            }
            Piece::RDrop(alpha) => {
                let rdrop = RDropConfig::new().with_alpha(alpha).init()?;
                self.loss = Box::new(move |net, (inputs, targets)| {
                    let logits = net.forward(Tensor::cat(vec![inputs.clone(), inputs], 0));
                    let (first, second) = rdrop.split(logits)?;
                    let loss = rdrop.loss(first, second, targets)?;
                    Ok(loss.cross_entropy + loss.divergence)
                });
            }
            Piece::AugMix(severity) => {
                let augmix = AugMixConfig::new().with_severity(severity);
                let augmix = augmix.init(&source("labelled views"))?;
                self.loss = Box::new(move |net, (inputs, targets)| {
                    let shape = inputs.dims();
                    let view = || augmix.images(as_images(inputs.clone())).reshape(shape);
                    let logits = net.forward(Tensor::cat(vec![inputs.clone(), view(), view()], 0));
                    let part = |at: usize| logits.clone().narrow(0, at * shape[0], shape[0]);
                    let divergence = jensen_shannon(part(0), part(1), part(2))?;
                    Ok(soft_cross_entropy(part(0), targets)? + divergence.mul_scalar(12.0))
                });
            }
            Piece::Augment => {
                let weak = weak(&source("labelled views"))?;
                self.images = Some(Box::new(move |images| weak.labelled(images)));
            }
            Piece::RandAugment(magnitude) => {
                let config = RandAugmentConfig::new().with_magnitude(magnitude);
                let policy = config.init(&source("labelled views"))?;
                self.images = Some(Box::new(move |images| Ok(policy.images(images))));
            }
            // Layers of the network.
            Piece::Dropout(_)
            | Piece::Gaussian(_)
            | Piece::Alpha(_)
            | Piece::DropConnect(_)
            | Piece::DropBlock(_)
            | Piece::DropPath(_)
            | Piece::InputNoise(_)
            | Piece::Network(_) => {}
            // What predicts, and which rows there are.
            Piece::Ema(_)
            | Piece::Swa
            | Piece::Snapshots
            | Piece::Soup
            | Piece::Ensemble(_)
            | Piece::Bagging(_)
            | Piece::Without(_)
            | Piece::Rows(_) => {}
        }
        Ok(())
    }

    fn penalty(&mut self, penalty: impl Penalty + 'static) {
        self.penalties.push(Box::new(move |net| penalty.term(net)));
    }

    fn constraint(&mut self, rule: impl Projection + 'static) {
        self.constraints.push(Box::new(move |net, rate| rule.project(net, rate)));
    }

    fn term(&mut self, term: impl Fn(&Net, Batch) -> Result<Tensor<1>, RegularizeError> + 'static) {
        self.terms.push(Box::new(term));
    }

    /// Sets the strength of the noise for `step`.
    pub(crate) fn before(&self, step: u64) -> Result<(), ConfigError> {
        self.schedule.apply(step, &self.masks)
    }

    /// The loss on rows with labels, and how many of them were changed.
    pub(crate) fn loss(
        &self,
        net: &Net,
        rows: Labelled<2>,
    ) -> Result<(Tensor<1>, usize), RegularizeError> {
        let shape = rows.inputs.dims();
        let (inputs, changed) = match &self.images {
            Some(change) => (change(as_images(rows.inputs))?.reshape(shape), shape[0]),
            None => (rows.inputs, 0),
        };
        let targets = self.smoothing.targets(self.labels(rows.targets)?, self.classes)?;
        let guise = self.guise.as_ref().map(|guise| guise(net));
        let through = guise.as_ref().unwrap_or(net);
        let mut loss = (self.loss)(through, (inputs.clone(), targets.clone()))?;
        for term in &self.terms {
            loss = loss + term(through, (inputs.clone(), targets.clone()))?;
        }
        Ok((loss, changed))
    }

    fn labels(&self, labels: Tensor<1, Int>) -> Result<Tensor<1, Int>, RegularizeError> {
        match &self.label_noise {
            Some(noise) => noise.apply(labels),
            None => Ok(labels),
        }
    }

    /// The terms that depend on the weights alone, apart from the loss.
    pub(crate) fn on_weights(&self, net: &Net) -> Option<Tensor<1>> {
        self.penalties.iter().filter_map(|penalty| penalty(net)).reduce(|sum, term| sum + term)
    }

    /// What is done to the gradients before the optimizer's step.
    pub(crate) fn on_gradients(&self, net: &Net, gradients: &mut GradientsParams, step: u64) {
        if let Some(noise) = &self.gradients {
            noise.add(net, gradients, step);
        }
    }

    /// What is done to the weights after it.
    pub(crate) fn after(&self, net: Net, rate: f64) -> Result<Net, RegularizeError> {
        self.constraints.iter().try_fold(net, |net, rule| rule(net, rate))
    }
}

/// The gentle change, that labelled rows and the targets of others undergo; it keeps a digit the digit it is.
pub(crate) fn weak(masks: &MaskSource) -> Result<ImageAugment, ConfigError> {
    let affine = ImageOp::Affine { degrees: 10.0, translate: 0.0, scale: (0.9, 1.1), shear: 8.0 };
    let shift = Step::preserving(ImageOp::Shift { max: 1 }).with_prob(0.5);
    ImageAugment::new(vec![Step::preserving(affine), shift], masks)
}

/// The change that a prediction has to withstand.
pub(crate) fn strong(masks: &MaskSource) -> Result<ImageAugment, ConfigError> {
    let affine = ImageOp::Affine { degrees: 20.0, translate: 0.1, scale: (0.8, 1.2), shear: 15.0 };
    let steps = [affine, ImageOp::Brightness { max: 0.4 }, ImageOp::Cutout { size: 3 }]
        .map(Step::preserving);
    ImageAugment::new(steps.to_vec(), masks)
}
