//! How a training is set up.

use crate::event::{Event, Flow};
use crate::{
    Averaging, CheckpointConfig, EarlyStoppingConfig, Optimize, RollbackConfig, Score, Warning,
};
use burn::config::Config;
use firebrick_core::History;
use firebrick_optim::schedule::Schedule;
use firebrick_regularize::{MaskSource, Penalty};
use firebrick_stabilize::{Guard, SkipNonFinite, SkipNonFiniteConfig};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Configuration of [`Fit`].
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `max_epochs` | required | at least 1 |
/// | `max_steps` | none | at least 1 |
/// | `accumulation` | 1 | at least 1 |
/// | `early_stopping` | none | needs validation data |
/// | `judge_every` | 1 epoch | at least 1 |
/// | `judge_every_steps` | 0: at the ends of epochs | any number of steps |
/// | `judge_training` | true | |
/// | `record_every` | 0: once an epoch | any number of steps |
/// | `progress` | true | |
#[derive(Config, Debug)]
pub struct FitConfig {
    /// Passes over the training data, at most.
    pub max_epochs: usize,
    /// Optimizer steps, at most.
    pub max_steps: Option<u64>,
    /// How many batches make one step: their mean loss, weighted by their samples. The last step of an epoch takes
    /// what is left.
    #[config(default = 1)]
    pub accumulation: usize,
    /// When to end before, and to return the weights of the best epoch.
    pub early_stopping: Option<EarlyStoppingConfig>,
    /// After every how many epochs the model is judged; after the last it always is.
    #[config(default = 1)]
    pub judge_every: usize,
    /// After every how many steps the model is judged besides; 0 for none. Each is a check of early stopping.
    #[config(default = 0)]
    pub judge_every_steps: u64,
    /// Every how many steps a record goes into the history besides the one an epoch; 0 for none.
    #[config(default = 0)]
    pub record_every: usize,
    /// Whether the training data are judged in evaluation mode too, one more forward pass; if not, `train_loss` is
    /// the mean of the losses of the steps taken in the epoch, and there is a `train_error` only at the end.
    #[config(default = true)]
    pub judge_training: bool,
    /// Whether to draw a progress bar when a terminal is there.
    #[config(default = true)]
    pub progress: bool,
}

/// Why a training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Outcome {
    /// All epochs or steps were run.
    Finished,
    /// The validation loss stopped improving.
    EarlyStopped,
    /// The weights, or the losses of a whole epoch, were not finite.
    Diverged,
    /// A guard or an observer asked for the end.
    Stopped,
    /// The interrupt flag was raised.
    Interrupted,
}

/// Where a resumed training went on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resumed {
    /// The checkpoint.
    pub path: PathBuf,
    /// Optimizer steps taken before it.
    pub step: u64,
    /// Later checkpoints that are damaged and were passed over.
    pub damaged: Vec<PathBuf>,
}

/// What a training gives back.
#[derive(Debug)]
#[non_exhaustive]
pub struct Fitted<M> {
    /// The model in evaluation mode, on the device without autodiff: that of the best epoch if early stopping
    /// watched, else the last that was judged. Call `train()` on it to go on training.
    pub model: M,
    /// The epoch that `model` is from, counted from 1; 0 if none was judged.
    pub epoch: usize,
    /// How many epochs were run.
    pub epochs: usize,
    /// How many optimizer steps were taken.
    pub steps: u64,
    /// Why it ended.
    pub outcome: Outcome,
    /// How `model` does on the training data.
    pub train: Score,
    /// How `model` does on the validation data, where there are any.
    pub validation: Option<Score>,
    /// What was written down on the way, also before a resume.
    pub history: History,
    /// What looked wrong without ending the training.
    pub warnings: Vec<Warning>,
    /// The checkpoint that the training went on from.
    pub resumed: Option<Resumed>,
}

/// The learning rate by step.
pub(crate) enum Rate {
    Closure(Box<dyn Fn(u64) -> f64 + Send>),
    Schedule(Box<dyn Schedule>),
}

impl Rate {
    pub(crate) fn at(&self, step: u64) -> f64 {
        match self {
            Self::Closure(rate) => rate(step),
            Self::Schedule(schedule) => schedule.rate(step),
        }
    }

    /// What tells one schedule from another; a closure has nothing.
    pub(crate) fn fingerprint(&self) -> Option<u64> {
        match self {
            Self::Closure(_) => None,
            Self::Schedule(schedule) => Some(schedule.fingerprint()),
        }
    }
}

type Observer = Box<dyn FnMut(&Event<'_>) -> Flow + Send>;

/// What the types of optimizer, guards and penalty do not touch.
pub(crate) struct Settings {
    pub(crate) config: FitConfig,
    pub(crate) rate: Rate,
    pub(crate) sink: Option<Box<dyn Write + Send>>,
    pub(crate) interrupt: Arc<AtomicBool>,
    pub(crate) observers: Vec<Observer>,
    pub(crate) masks: Vec<MaskSource>,
    pub(crate) checkpoints: Option<CheckpointConfig>,
    pub(crate) averaging: Option<Averaging>,
    pub(crate) rollback: Option<RollbackConfig>,
}

/// A training that is set up: optimizer, schedule, guards, penalty.
///
/// See the crate's page for an example.
pub struct Fit<O, G = SkipNonFinite, P = ()> {
    pub(crate) settings: Settings,
    pub(crate) optimizer: O,
    pub(crate) guards: Option<G>,
    pub(crate) penalty: P,
}

impl<O: std::fmt::Debug, G: std::fmt::Debug, P: std::fmt::Debug> std::fmt::Debug for Fit<O, G, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fit")
            .field("config", &self.settings.config)
            .field("optimizer", &self.optimizer)
            .field("guards", &self.guards)
            .field("penalty", &self.penalty)
            .finish_non_exhaustive()
    }
}

impl<O: Optimize> Fit<O> {
    /// A training at the constant learning rate 1e-3 that skips non-finite steps.
    #[must_use]
    pub fn new(config: FitConfig, optimizer: O) -> Self {
        let settings = Settings {
            config,
            rate: Rate::Closure(Box::new(|_| 1e-3)),
            sink: None,
            interrupt: Arc::default(),
            observers: Vec::new(),
            masks: Vec::new(),
            checkpoints: None,
            averaging: None,
            rollback: None,
        };
        Self { settings, optimizer, guards: SkipNonFiniteConfig::new().init().ok(), penalty: () }
    }
}

impl<O: Optimize, G: Guard, P: Penalty> Fit<O, G, P> {
    /// Sets the learning rate as a function of the step, counted from 0. A skipped step does not count.
    #[must_use]
    pub fn rate(mut self, rate: impl Fn(u64) -> f64 + Send + 'static) -> Self {
        self.settings.rate = Rate::Closure(Box::new(rate));
        self
    }

    /// Sets the learning rate by a schedule of firebrick, whose update 0 is the first step. A skipped step does not
    /// count.
    #[must_use]
    pub fn schedule(mut self, schedule: impl Schedule + 'static) -> Self {
        self.settings.rate = Rate::Schedule(Box::new(schedule));
        self
    }

    /// Sets what looks at each step before it is taken; replaces the default, which skips non-finite steps.
    #[must_use]
    pub fn guards<H: Guard>(self, guards: H) -> Fit<O, H, P> {
        let Self { settings, optimizer, penalty, .. } = self;
        Fit { settings, optimizer, guards: Some(guards), penalty }
    }

    /// Sets what is added to the loss once a step; recorded apart from it.
    #[must_use]
    pub fn penalty<Q: Penalty>(self, penalty: Q) -> Fit<O, G, Q> {
        let Self { settings, optimizer, guards, .. } = self;
        Fit { settings, optimizer, guards, penalty }
    }

    /// Writes each record of the history to `sink` as a JSON line at once; a resumed training writes what is new.
    #[must_use]
    pub fn history_to(mut self, sink: impl Write + Send + 'static) -> Self {
        self.settings.sink = Some(Box::new(sink));
        self
    }

    /// Ends the training after the current step once `flag` is true, with a checkpoint where there are any.
    #[must_use]
    pub fn interrupt(mut self, flag: Arc<AtomicBool>) -> Self {
        self.settings.interrupt = flag;
        self
    }

    /// Calls `observer` at each [`Event`]; what it returns may end the training. Several are called in their order.
    #[must_use]
    pub fn observe(mut self, observer: impl FnMut(&Event<'_>) -> Flow + Send + 'static) -> Self {
        self.settings.observers.push(Box::new(observer));
        self
    }

    /// Saves and restores the position of a mask source with each checkpoint; call it for each that the model draws
    /// from.
    #[must_use]
    pub fn masks(mut self, masks: &MaskSource) -> Self {
        self.settings.masks.push(masks.clone());
        self
    }

    /// Averages the weights as the training goes: the average is what is judged, compared by early stopping and
    /// given back. The training itself goes on with its own weights.
    ///
    /// ```
    /// use firebrick_optim::AdamConfig;
    /// use firebrick_train::{Averaging, EmaConfig, Fit, FitConfig};
    ///
    /// let fit = Fit::new(FitConfig::new(10), AdamConfig::new().fused()?)
    ///     .average(Averaging::Ema(EmaConfig::new().with_decay(0.99)));
    /// # let _ = fit;
    /// # Ok::<(), firebrick_core::ConfigError>(())
    /// ```
    #[must_use]
    pub fn average(mut self, averaging: Averaging) -> Self {
        self.settings.averaging = Some(averaging);
        self
    }

    /// Goes back to a snapshot when a guard asks for it; without, that ends the training.
    ///
    /// Each rollback is a record in the history, with `rollbacks`, `rolled_back_from_step` and `rate_factor`.
    #[must_use]
    pub fn rollback(mut self, config: RollbackConfig) -> Self {
        self.settings.rollback = Some(config);
        self
    }

    /// Saves the whole state as it goes, and resumes from it: a training that was interrupted and resumed gives on
    /// flex, to the last bit, what it would have given without.
    ///
    /// A checkpoint holds weights, running statistics, the optimizer's state, the numbers of step, epoch and batch,
    /// the average, the best model so far, the state of early stopping, the positions of mask sources and the history.
    /// To resume, set the training up as before, with a new model from the same code; only `max_epochs`, `max_steps`
    /// and `progress` may differ. What a closure, a guard, a penalty or an observer remembers is not in it, nor are
    /// the masks of burn's own `Dropout`, which come from a generator of the process.
    ///
    /// ```
    /// # use burn::{module::Module, nn::{Linear, LinearConfig, loss::CrossEntropyLossConfig}};
    /// # use burn::tensor::{Device, Tensor, TensorReadError};
    /// # use firebrick_core::Seed;
    /// # use firebrick_train::{Labelled, Learn, Score, TensorBatches};
    /// # #[derive(Module, Debug)]
    /// # struct Net { layer: Linear }
    /// # impl Learn for Net {
    /// #     type Batch = Labelled<2>;
    /// #     fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
    /// #         let logits = self.layer.forward(batch.inputs);
    /// #         CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, batch.targets)
    /// #     }
    /// #     fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
    /// #         Score::classification(self.layer.forward(batch.inputs), batch.targets)
    /// #     }
    /// # }
    /// # let device = Device::flex().autodiff();
    /// # let data = Labelled {
    /// #     inputs: Tensor::<2>::from_floats([[0., 1.], [1., 0.], [0., 2.], [2., 0.]], &device),
    /// #     targets: Tensor::from_ints([0, 1, 0, 1], &device),
    /// # };
    /// # let train = TensorBatches::new(data, 2, Seed(1))?;
    /// # let folder = tempfile::tempdir().map_err(firebrick_train::TrainError::History)?;
    /// # let folder = folder.path().to_owned();
    /// use firebrick_optim::AdamConfig;
    /// use firebrick_train::{CheckpointConfig, Fit, FitConfig};
    ///
    /// let run = |epochs| {
    ///     let checkpoints = CheckpointConfig::new(folder.clone()).with_resume(true);
    ///     let net = Net { layer: LinearConfig::new(2, 2).init(&device) };
    ///     Fit::new(FitConfig::new(epochs), AdamConfig::new().fused()?)
    ///         .checkpoints(checkpoints)
    ///         .run(net, &train, None)
    /// };
    /// let first = run(2)?;
    /// let second = run(5)?; // goes on where the first ended
    /// assert_eq!((first.steps, second.steps), (4, 10));
    /// assert_eq!(second.resumed.expect("from the folder").step, 4);
    /// # Ok::<(), firebrick_train::TrainError>(())
    /// ```
    #[must_use]
    pub fn checkpoints(mut self, config: CheckpointConfig) -> Self {
        self.settings.checkpoints = Some(config);
        self
    }
}
