//! Runs a recipe: phase by phase, each a training of firebrick-train.

use super::carried::RuleAt;
use super::{Headed, OptimizerState, Phase, Recipe, Shape, TORCH_DEFAULT};
use crate::TransferError;
use crate::group::{Groups, Mode, NormMode};
use crate::near::Anchor;
use burn::module::Module;
use firebrick_core::{ConfigError, History, Seed};
use firebrick_optim::Elementwise;
use firebrick_regularize::{MaskSource, Penalty};
use firebrick_stabilize::{Guard, Scheme, SkipNonFinite, SkipNonFiniteConfig};
use firebrick_train::{CheckpointConfig, FitConfig, Learn, Outcome, Score, Source, Warning};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A recipe with everything that a run of it needs.
///
/// The model that is given in is not changed, also not the statistics that its clones share. Its gradient
/// checkpointing strategy is not kept.
///
/// See the crate's page for an example.
#[derive(Debug, Clone)]
pub struct Tune<G = Option<SkipNonFinite>, P = ()> {
    pub(super) recipe: Recipe,
    pub(super) epochs: usize,
    pub(super) rule: Elementwise,
    pub(super) rate: Option<f64>,
    pub(super) groups: Option<Groups>,
    pub(super) shape: Option<Shape>,
    pub(super) state: Option<OptimizerState>,
    pub(super) norms: Option<NormMode>,
    pub(super) scheme: Scheme,
    pub(super) fresh_head: bool,
    pub(super) seed: Seed,
    pub(super) fit: FitConfig,
    pub(super) guards: G,
    pub(super) penalty: P,
    pub(super) pull: Option<(Anchor, f64)>,
    pub(super) momentum: Option<RuleAt>,
    pub(super) masks: Vec<MaskSource>,
    pub(super) checkpoints: Option<CheckpointConfig>,
    pub(super) interrupt: Arc<AtomicBool>,
    /// What was done to the model before the first phase, as text.
    pub(super) before: Option<String>,
}

/// How one phase went.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PhaseReport {
    /// Name of the phase.
    pub name: String,
    /// Elements of the parameters that trained.
    pub trainable: usize,
    /// Whether it trained the head on cached features.
    pub cached: bool,
    /// Epochs that were run.
    pub epochs: usize,
    /// Optimizer steps taken.
    pub steps: u64,
    /// Why it ended.
    pub outcome: Outcome,
    /// How its model does on the training data.
    pub train: Score,
    /// How its model does on the validation data.
    pub validation: Option<Score>,
    /// What looked wrong.
    pub warnings: Vec<Warning>,
}

/// What a recipe gives back.
#[derive(Debug)]
#[non_exhaustive]
pub struct Tuned<M> {
    /// The model in evaluation mode; `train()` gives it with the switches that it came with, nothing frozen.
    pub model: M,
    /// How each phase went; phases after one that was interrupted or diverged are missing.
    pub phases: Vec<PhaseReport>,
    /// Why the last phase ended.
    pub outcome: Outcome,
    /// Optimizer steps taken in all phases.
    pub steps: u64,
    /// How `model` does on the training data.
    pub train: Score,
    /// How `model` does on the validation data.
    pub validation: Option<Score>,
    /// What was written down, steps and epochs counted through all phases; `phase` counts from 1.
    pub history: History,
}

impl Tune {
    /// A run of `recipe` with the optimizer `rule`, its default rate, groups as proposed; `epochs` are those of
    /// the recipe's main phase.
    #[must_use]
    pub fn new(recipe: Recipe, epochs: usize, rule: Elementwise) -> Self {
        Self {
            recipe,
            epochs,
            rule,
            rate: None,
            groups: None,
            shape: None,
            state: None,
            norms: None,
            scheme: TORCH_DEFAULT,
            fresh_head: false,
            seed: Seed(0),
            fit: FitConfig::new(1).with_progress(false),
            guards: SkipNonFiniteConfig::new().init().ok(),
            penalty: (),
            pull: None,
            momentum: None,
            masks: Vec::new(),
            checkpoints: None,
            interrupt: Arc::default(),
            before: None,
        }
    }
}

impl<G: Guard + Clone, P: Penalty + Clone> Tune<G, P> {
    /// Sets the peak rate of the main phase.
    #[must_use]
    pub fn rate(mut self, rate: f64) -> Self {
        self.rate = Some(rate);
        self
    }

    /// Sets the layer groups, from the input to the head.
    #[must_use]
    pub fn groups(mut self, groups: Groups) -> Self {
        self.groups = Some(groups);
        self
    }

    /// Sets the course of the rate in every phase.
    #[must_use]
    pub fn shape(mut self, shape: Shape) -> Self {
        self.shape = Some(shape);
        self
    }

    /// Sets what becomes of the optimizer's state where a phase begins.
    #[must_use]
    pub fn optimizer_state(mut self, state: OptimizerState) -> Self {
        self.state = Some(state);
        self
    }

    /// Sets what the normalization layers of groups do that are not frozen.
    #[must_use]
    pub fn norms(mut self, norm: NormMode) -> Self {
        self.norms = Some(norm);
        self
    }

    /// Sets how weights are drawn anew; [`TORCH_DEFAULT`] unless said otherwise.
    #[must_use]
    pub fn scheme(mut self, scheme: Scheme) -> Self {
        self.scheme = scheme;
        self
    }

    /// Whether the last group is drawn anew at the start: for new classes under an old head.
    #[must_use]
    pub fn fresh_head(mut self, fresh: bool) -> Self {
        self.fresh_head = fresh;
        self
    }

    /// Sets the seed of what is drawn anew and of the order of cached features.
    #[must_use]
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = seed;
        self
    }

    /// Sets what else each phase's training takes: early stopping, accumulation, how often it is judged.
    /// `max_epochs` is the recipe's; `max_steps` counts in each phase.
    #[must_use]
    pub fn fit(mut self, config: FitConfig) -> Self {
        self.fit = config;
        self
    }

    /// Sets what looks at each step before it is taken.
    #[must_use]
    pub fn guards<H: Guard + Clone>(self, guards: H) -> Tune<H, P> {
        self.with(guards, |penalty| penalty)
    }

    /// Sets what is added to the loss once a step: L2-SP, for one.
    #[must_use]
    pub fn penalty<Q: Penalty + Clone>(self, penalty: Q) -> Tune<G, Q> {
        let guards = self.guards.clone();
        self.with(guards, |_| penalty)
    }

    fn with<H, Q>(self, guards: H, penalty: impl FnOnce(P) -> Q) -> Tune<H, Q> {
        Tune {
            guards,
            penalty: penalty(self.penalty),
            recipe: self.recipe,
            epochs: self.epochs,
            rule: self.rule,
            rate: self.rate,
            groups: self.groups,
            shape: self.shape,
            state: self.state,
            norms: self.norms,
            scheme: self.scheme,
            fresh_head: self.fresh_head,
            seed: self.seed,
            fit: self.fit,
            pull: self.pull,
            momentum: self.momentum,
            masks: self.masks,
            checkpoints: self.checkpoints,
            interrupt: self.interrupt,
            before: self.before,
        }
    }

    /// Draws trainable weights to the source's beside each step, `w = w - lr strength (w - w0)`: the decoupled L2-SP, and
    /// the right one under Adam. The rate has the factors of the groups. A cached head is not drawn.
    #[must_use]
    pub fn pull(mut self, anchor: &Anchor, strength: f64) -> Self {
        self.pull = Some((anchor.clone(), strength));
        self
    }

    /// Moves the momentum with the schedule, where that has one ([`Shape::OneCycle`]): `rule` gives the optimizer at each
    /// momentum, of the kind that the recipe was given.
    ///
    /// ```
    /// use firebrick_optim::AdamWConfig;
    /// use firebrick_transfer::{Recipe, Tune};
    ///
    /// let fastai = AdamWConfig::new().with_beta_2(0.99).with_epsilon(1e-5);
    /// let tune = Tune::new(Recipe::fine_tune(), 5, fastai.build()?)
    ///     .momentum(move |momentum| fastai.clone().with_beta_1(momentum).build());
    /// # let _ = tune;
    /// # Ok::<(), firebrick_core::ConfigError>(())
    /// ```
    #[must_use]
    pub fn momentum(
        mut self,
        rule: impl Fn(f64) -> Result<Elementwise, ConfigError> + Send + Sync + 'static,
    ) -> Self {
        self.momentum = Some(RuleAt(Arc::new(rule)));
        self
    }

    /// Saves and restores the position of a mask source with each checkpoint.
    #[must_use]
    pub fn masks(mut self, masks: &MaskSource) -> Self {
        self.masks.push(masks.clone());
        self
    }

    /// Saves the run as it goes, and resumes from it: the phases in `transfer.json`, each phase's training in a folder
    /// of its own. A run that was interrupted, also in the middle of a thaw, gives on flex, to the last bit, what it
    /// would have given without. A folder that holds a run is refused, unchanged, without
    /// [`resume`](CheckpointConfig::resume), and with it where that run is another one.
    #[must_use]
    pub fn checkpoints(mut self, config: CheckpointConfig) -> Self {
        self.checkpoints = Some(config);
        self
    }

    /// Ends the run after the current step once `flag` is true.
    #[must_use]
    pub fn interrupt(mut self, flag: Arc<AtomicBool>) -> Self {
        self.interrupt = flag;
        self
    }

    /// The recipe.
    #[must_use]
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// What a run on `model` will do.
    ///
    /// # Errors
    /// As [`Recipe::phases`].
    pub fn phases<M: Module>(&self, model: &M) -> Result<Vec<Phase>, TransferError> {
        let groups = match &self.groups {
            Some(groups) => groups.clone(),
            None => Groups::propose(model)?,
        };
        let rate = self.rate.unwrap_or_else(|| self.recipe.rate());
        let mut phases = self.recipe.phases(&groups, model, self.epochs, rate)?;
        for phase in &mut phases {
            phase.shape = self.shape.unwrap_or(phase.shape);
            phase.state = self.state.unwrap_or(phase.state);
            if let Some(norm) = self.norms {
                let plan = phase.plan.clone();
                let moving = plan.groups().names().into_iter().zip(plan.treatments());
                for (name, treatment) in moving {
                    if treatment.mode != Mode::Frozen {
                        phase.plan = phase.plan.clone().with_norm(name, norm)?;
                    }
                }
            }
        }
        Ok(phases)
    }

    /// Runs the recipe on `train`, judging on `validation` after every epoch.
    ///
    /// # Errors
    /// Before any work when the groups do not fit the model, a value is out of range, or the folder holds another
    /// run; later as `Fit::run` of firebrick-train.
    pub fn run<M: Learn<Batch = S::Batch>, S: Source>(
        &self,
        model: M,
        train: &S,
        validation: Option<&S>,
    ) -> Result<Tuned<M>, TransferError> {
        self.go(model, train.length(), |stage, model, _| {
            self.fit_phase(stage, model, train, validation)
        })
    }

    /// As [`run`](Self::run), with phases that train the head alone run on features that are computed once.
    ///
    /// The head is trained under cross-entropy, whatever else the model's own loss has, and a dropout right in front
    /// of it is off. A last group that holds more than the head is trained as [`run`](Self::run) does.
    ///
    /// # Errors
    /// As [`run`](Self::run), and when features are not finite.
    pub fn run_cached<M: Headed<Batch = S::Batch>, S: Source>(
        &self,
        model: M,
        train: &S,
        validation: Option<&S>,
    ) -> Result<Tuned<M>, TransferError> {
        self.go(model, train.length(), |stage, model, trainable| {
            let head = model.head();
            let bias = head.bias.as_ref().map_or(0, |bias| bias.val().dims()[0]);
            let [inputs, outputs] = head.weight.val().dims();
            if stage.phase.plan.trains_only_the_head() && inputs * outputs + bias == trainable {
                self.head_phase(stage, model, train, validation)
            } else {
                self.fit_phase(stage, model, train, validation)
            }
        })
    }
}
