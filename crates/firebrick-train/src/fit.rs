//! How a training is set up.

use crate::event::{Event, Flow};
use crate::settings::{Rate, Settings};
use crate::{Averaging, CheckpointConfig, FitConfig, Optimize, RollbackConfig};
use burn::tensor::Device;
use firebrick_core::ConfigError;
use firebrick_optim::schedule::{Plateau, Schedule};
use firebrick_optim::wrapper::{LookaheadConfig, SamConfig};
use firebrick_regularize::{DropSchedule, MaskSource, Penalty, Projection};
use firebrick_stabilize::{Guard, MomentumReset, NoiseScale, SkipNonFinite, SkipNonFiniteConfig};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A training that is set up: optimizer, schedule, guards, penalty, constraint.
///
/// See the crate's page for an example.
pub struct Fit<O, G = SkipNonFinite, P = (), C = ()> {
    pub(crate) settings: Settings,
    pub(crate) optimizer: O,
    pub(crate) guards: Option<G>,
    pub(crate) penalty: P,
    pub(crate) constraint: C,
    /// The optimizer as it was given, where its state is to be started anew.
    pub(crate) fresh: Option<O>,
}

impl<O, G, P, C> std::fmt::Debug for Fit<O, G, P, C>
where
    O: std::fmt::Debug,
    G: std::fmt::Debug,
    P: std::fmt::Debug,
    C: std::fmt::Debug,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fit")
            .field("config", &self.settings.config)
            .field("optimizer", &self.optimizer)
            .field("guards", &self.guards)
            .field("penalty", &self.penalty)
            .field("constraint", &self.constraint)
            .finish_non_exhaustive()
    }
}

impl<O: Optimize> Fit<O> {
    /// A training at the constant learning rate 1e-3 that skips non-finite steps.
    #[must_use]
    pub fn new(config: FitConfig, optimizer: O) -> Self {
        let settings = Settings::new(config);
        let guards = SkipNonFiniteConfig::new().init().ok();
        Self { settings, optimizer, guards, penalty: (), constraint: (), fresh: None }
    }
}

impl<O: Optimize, G: Guard, P: Penalty, C: Projection> Fit<O, G, P, C> {
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

    /// Sets a learning rate that falls when what is judged no longer improves. The plateau is told after each judgement
    /// what stands in the history under the name `monitor`: the validation loss as a rule.
    ///
    /// ```
    /// use firebrick_core::names;
    /// use firebrick_optim::{SgdConfig, schedule::PlateauConfig};
    /// use firebrick_train::{Fit, FitConfig};
    ///
    /// let plateau = PlateauConfig::new(0.1).with_patience(3).build()?;
    /// let fit = Fit::new(FitConfig::new(10), SgdConfig::new().fused()?)
    ///     .plateau(plateau, names::VALIDATION_LOSS);
    /// # let _ = fit;
    /// # Ok::<(), firebrick_core::ConfigError>(())
    /// ```
    #[must_use]
    pub fn plateau(mut self, plateau: Plateau, monitor: impl Into<String>) -> Self {
        self.settings.rate = Rate::plateau(plateau, monitor.into());
        self
    }

    /// Sets what looks at each step before it is taken; replaces the default, which skips non-finite steps.
    #[must_use]
    pub fn guards<H: Guard>(self, guards: H) -> Fit<O, H, P, C> {
        let Self { settings, optimizer, penalty, constraint, .. } = self;
        Fit { settings, optimizer, guards: Some(guards), penalty, constraint, fresh: None }
    }

    /// Sets what is added to the loss once a step; recorded apart from it.
    #[must_use]
    pub fn penalty<Q: Penalty>(self, penalty: Q) -> Fit<O, G, Q, C> {
        let Self { settings, optimizer, guards, constraint, .. } = self;
        Fit { settings, optimizer, guards, penalty, constraint, fresh: None }
    }

    /// Sets what is done to the weights after each step that was taken, at the step's rate: max-norm, a proximal
    /// step, or several as a tuple. Averages and guards see the weights after it.
    ///
    /// ```
    /// use firebrick_optim::AdamConfig;
    /// use firebrick_regularize::MaxNormConfig;
    /// use firebrick_train::{Fit, FitConfig};
    ///
    /// let fit = Fit::new(FitConfig::new(10), AdamConfig::new().fused()?)
    ///     .constrain(MaxNormConfig::new().init()?);
    /// # let _ = fit;
    /// # Ok::<(), firebrick_core::ConfigError>(())
    /// ```
    #[must_use]
    pub fn constrain<D: Projection>(self, constraint: D) -> Fit<O, G, P, D> {
        let Self { settings, optimizer, guards, penalty, .. } = self;
        Fit { settings, optimizer, guards, penalty, constraint, fresh: None }
    }

    /// Sets the strength of the layers that draw from `masks` before each step, by the number of the step. Call it
    /// for each source that has a schedule.
    ///
    /// # Errors
    /// When a value of the schedule is out of range.
    pub fn drop_schedule(
        mut self,
        masks: &MaskSource,
        schedule: DropSchedule,
    ) -> Result<Self, ConfigError> {
        schedule.factor(0)?;
        self.settings.drop_schedules.push((masks.clone(), schedule));
        Ok(self)
    }

    /// Starts the optimizer's state anew every so many steps, and the rate up to its value again after each: the part
    /// of SPAM that no guard can do. The guards are told before they see the gradients of such a step.
    #[must_use]
    pub fn momentum_reset(mut self, reset: MomentumReset) -> Self {
        self.settings.momentum_reset = Some(reset);
        self
    }

    /// Estimates the gradient noise scale from the batches that are accumulated to one step, into each record as
    /// `noise_scale`; needs an accumulation of at least 2. Steps whose batches differ in size are not counted.
    #[must_use]
    pub fn noise_scale(mut self, estimator: NoiseScale) -> Self {
        self.settings.noise_scale = Some(estimator);
        self
    }

    /// Steps with the gradients where the loss is worst nearby: SAM, ASAM or GSAM, at twice the cost of a step.
    ///
    /// The batches of a step are read a second time, so the source must give an epoch the same each time. Over
    /// several batches the way up is that of all of them together. Loss, penalty, noise scale and what is watched are
    /// those of the first pass, and so are the running statistics of batch norm; masks are drawn anew for the second,
    /// whose gradients the guards see.
    ///
    /// ```
    /// use firebrick_optim::{SgdConfig, wrapper::SamConfig};
    /// use firebrick_train::{Fit, FitConfig};
    ///
    /// let fit = Fit::new(FitConfig::new(10), SgdConfig::new().with_momentum(0.9).fused()?)
    ///     .sharpness(SamConfig::new().with_rho(0.1));
    /// # let _ = fit;
    /// # Ok::<(), firebrick_core::ConfigError>(())
    /// ```
    #[must_use]
    pub fn sharpness(mut self, config: SamConfig) -> Self {
        self.settings.sharpness = Some(config);
        self
    }

    /// Pulls the weights part of the way back every few steps. The slow weights are what is judged and given back,
    /// unless there is an average; a constraint is put on the trained weights after the pull, and on the slow ones
    /// where they are judged.
    ///
    /// Not with an optimizer that evaluates a point of its own (Schedule-Free, ASGD), which the slow weights would
    /// hide.
    ///
    /// ```
    /// use firebrick_optim::{AdamWConfig, wrapper::LookaheadConfig};
    /// use firebrick_train::{Fit, FitConfig};
    ///
    /// let fit = Fit::new(FitConfig::new(10), AdamWConfig::new().fused()?)
    ///     .lookahead(LookaheadConfig::new().with_every(6));
    /// # let _ = fit;
    /// # Ok::<(), firebrick_core::ConfigError>(())
    /// ```
    #[must_use]
    pub fn lookahead(mut self, config: LookaheadConfig) -> Self {
        self.settings.lookahead = Some(config);
        self
    }

    /// Trains on several devices of this process: each step takes `accumulation` batches a device, batch `k` goes to
    /// device `k` modulo their number, and the gradients meet on the first, their mean weighted by samples.
    ///
    /// The model lives on the first device and is judged there; the others get a copy of it before each step. Running
    /// statistics are those of the first device's batches, as in torch's `DataParallel`. The model must say how a
    /// batch comes to a device: [`Learn::place`](crate::Learn::place). Apart from running statistics the steps are
    /// those of as many batches accumulated on one device.
    ///
    /// burn's own distributed training cannot stand behind it, as of burn 0.22.1: its collectives are there on CUDA
    /// and remote devices alone; its workers each step through a shard of their own, and where the shards differ by a
    /// batch, the one with the remainder waits for the others for ever; and `fork` moves the running statistics that
    /// the workers' models share.
    ///
    /// ```
    /// use burn::tensor::Device;
    /// use firebrick_optim::AdamWConfig;
    /// use firebrick_train::{Fit, FitConfig};
    ///
    /// let device = Device::flex().autodiff(); // or one for each card
    /// let fit = Fit::new(FitConfig::new(10), AdamWConfig::new().fused()?)
    ///     .devices(vec![device.clone(), device]);
    /// # let _ = fit;
    /// # Ok::<(), firebrick_core::ConfigError>(())
    /// ```
    #[must_use]
    pub fn devices(mut self, devices: Vec<Device>) -> Self {
        self.settings.devices = Some(devices);
        self
    }

    /// Writes each record of the history to `sink` as a JSON line at once; a resumed training writes what is new, so
    /// that what a killed one wrote after its last checkpoint comes twice. [`history_file`](Self::history_file) has
    /// each record once.
    #[must_use]
    pub fn history_to(mut self, sink: impl Write + Send + 'static) -> Self {
        self.settings.sink = Some(Box::new(sink));
        self
    }

    /// Writes each record of the history to the file at `path` as a JSON line at once. The file is begun anew when the
    /// training starts or is resumed, with the records of the checkpoint it goes on from: in the end it is the file of
    /// a training that was never interrupted.
    #[must_use]
    pub fn history_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.history_file = Some(path.into());
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
    /// the average, lookahead's slow weights, the best model so far, the state of a plateau, of early stopping and of
    /// the guards, the positions of mask sources and the history. To resume, set the training up as before, with a new
    /// model from the same code; only `max_epochs`, `max_steps` and `progress` may differ. What else differs is an
    /// error where it can be told; it cannot of closures, penalties, constraints and the numbers of burn's own
    /// optimizers. What a closure, a penalty or an observer remembers is not in it, nor are the masks of burn's own
    /// `Dropout`, which come from a generator of the process, nor the snapshots of a rollback: what goes back after a
    /// resume goes back no further than to it.
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

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{Deep, Net, config, data, deep, full, net, train, weights};
    use crate::{Batches, EarlyStoppingConfig, Fitted, Learn, Score, TrainError};
    use burn::optim::GradientsParams;
    use burn::tensor::Device;
    use firebrick_core::Seed;
    use firebrick_optim::wrapper::SamForm;
    use firebrick_optim::{AdamWConfig, FusedOptimizer};
    use firebrick_regularize::{MaxNormConfig, ProximalL1Config};
    use firebrick_stabilize::{
        LossScaleConfig, MomentumResetConfig, NoiseScaleConfig, SaddleEscapeConfig, Verdict,
    };
    use std::sync::Mutex;

    fn device() -> Device {
        Device::flex().autodiff()
    }

    fn adamw() -> FusedOptimizer {
        AdamWConfig::new().fused().expect("valid")
    }

    /// The 18 steps of three epochs by hand; `after` changes the model and the optimizer after each.
    fn by_hand(
        rate: impl Fn(u64) -> f64,
        mut before: impl FnMut(u64, &mut FusedOptimizer),
        mut after: impl FnMut(Net, f64) -> Net,
    ) -> Net {
        let (mut model, mut optimizer) = (net(&device()), adamw());
        let data = data(&device(), 1.0);
        for (step, batch) in (0..).zip((1..=3).flat_map(|epoch| Batches::epoch(&data, epoch))) {
            let gradients = GradientsParams::from_grads(model.loss(batch).backward(), &model);
            before(step, &mut optimizer);
            model = after(optimizer.step(rate(step), model, gradients), rate(step));
        }
        model
    }

    #[test]
    fn a_constraint_holds_after_every_step_and_gets_its_rate() {
        let pair = || {
            let proximal = ProximalL1Config::new(0.1).init().expect("valid");
            (proximal, MaxNormConfig::new().with_max(0.3).init().expect("valid"))
        };
        let rate = |step: u64| 0.1 / (step + 1) as f64;
        let expected =
            by_hand(rate, |_, _| (), |model, lr| pair().project(model, lr).expect("fits"));
        let fitted = Fit::new(config(3), adamw())
            .rate(rate)
            .constrain(pair())
            .run(net(&device()), &data(&device(), 1.0), None)
            .expect("trains");
        assert_eq!(weights(&fitted.model), weights(&expected));
        let norms = fitted.model.layer.weight.val().square().sum_dim(0).sqrt();
        let norms: Vec<f32> = norms.try_to_vec_as().expect("reads");
        assert!(norms.iter().all(|&norm| norm < 0.3 + 1e-6), "{norms:?}");
    }

    #[test]
    fn a_constraint_that_does_not_fit_is_told_before_any_work() {
        use burn::module::{Module, Param};
        use burn::tensor::{Tensor, TensorReadError};
        #[derive(Module, Debug)]
        struct Odd {
            table: Param<Tensor<3>>,
        }
        impl Learn for Odd {
            type Batch = crate::Labelled<2>;
            fn loss(&self, _: crate::Labelled<2>) -> Tensor<1> {
                panic!("no work may have begun")
            }
            fn score(&self, _: crate::Labelled<2>) -> Result<Score, TensorReadError> {
                panic!("no work may have begun")
            }
        }
        let model = Odd { table: Param::from_tensor(Tensor::ones([2, 2, 2], &device())) };
        let error = Fit::new(config(1), adamw())
            .constrain(MaxNormConfig::new().init().expect("valid"))
            .run(model, &data(&device(), 1.0), None)
            .expect_err("the axis is unknown");
        assert!(matches!(error, TrainError::Regularize(_)), "{error}");
    }

    #[test]
    fn momentum_is_reset_and_the_rate_rises_again() {
        let reset = MomentumResetConfig::new().with_interval(5).with_warm_up(3);
        let reset = reset.init().expect("valid");
        let start_anew = |step, optimizer: &mut FusedOptimizer| {
            if reset.due(step) {
                *optimizer = adamw();
            }
        };
        let expected = by_hand(|step| 0.1 * reset.rate_factor(step), start_anew, |model, _| model);
        let fitted = Fit::new(config(3), adamw())
            .rate(|_| 0.1)
            .momentum_reset(reset)
            .run(net(&device()), &data(&device(), 1.0), None)
            .expect("trains");
        assert_eq!(weights(&fitted.model), weights(&expected));
        // The history has the rates of the last steps of the epochs.
        let rates = [5, 11, 17].map(|step| 0.1 * reset.rate_factor(step));
        assert_eq!(fitted.history.series(firebrick_core::names::LEARNING_RATE), rates);
    }

    #[test]
    fn the_guards_hear_of_a_momentum_reset_before_its_step() {
        use burn::module::Module;
        /// Notes after how many steps it is told, and counts the steps.
        struct Heard(Arc<Mutex<Vec<u64>>>, u64);
        impl Guard for Heard {
            fn before_step<M: Module>(
                &mut self,
                _: &M,
                _: &mut GradientsParams,
                _: f64,
            ) -> Verdict {
                self.1 += 1;
                Verdict::Proceed
            }
            fn momentum_reset(&mut self) {
                self.0.lock().expect("one thread").push(self.1);
            }
        }
        let told = Arc::new(Mutex::new(Vec::new()));
        let reset = MomentumResetConfig::new().with_interval(5).with_warm_up(3);
        Fit::new(config(3), adamw())
            .guards(Heard(told.clone(), 0))
            .momentum_reset(reset.init().expect("valid"))
            .run(net(&device()), &data(&device(), 1.0), None)
            .expect("trains");
        assert_eq!(*told.lock().expect("over"), [5, 10, 15]);
    }

    #[test]
    fn sharpness_is_the_loop_by_hand() {
        let data = data(&device(), 1.0);
        let plain = SamConfig::new().with_rho(0.3);
        let adaptive = plain.clone().with_form(SamForm::Adaptive { eta: 0.01 });
        let surrogate = plain.clone().with_alpha(0.4);
        let mut seen = vec![weights(&by_hand(|_| 0.1, |_, _| (), |model, _| model))];
        for sharpness in [plain, adaptive, surrogate] {
            let sam = sharpness.init().expect("valid");
            let (mut model, mut optimizer) = (net(&device()), adamw());
            for batch in (1..=3).flat_map(|epoch| Batches::epoch(&data, epoch)) {
                let loss = model.loss(batch.clone());
                let gradients = GradientsParams::from_grads(loss.backward(), &model);
                let (up, snapshot) = sam.up(model, gradients);
                let gradients = GradientsParams::from_grads(up.loss(batch).backward(), &up);
                let (down, gradients) = sam.down(up, gradients, snapshot);
                model = optimizer.step(0.1, down, gradients);
            }
            let fitted = Fit::new(config(3), adamw())
                .rate(|_| 0.1)
                .sharpness(sharpness)
                .run(net(&device()), &data, None)
                .expect("trains");
            assert_eq!(weights(&fitted.model), weights(&model));
            assert!(!seen.contains(&weights(&model)), "each form takes a way of its own");
            seen.push(weights(&model));
        }
    }

    #[test]
    fn lookahead_is_the_loop_by_hand_and_its_slow_weights_are_given_back() {
        let config_of = |alpha| LookaheadConfig::new().with_every(4).with_alpha(alpha);
        let data = data(&device(), 1.0);
        let (mut model, mut optimizer) = (net(&device()), adamw());
        let mut lookahead = config_of(0.5).init(&model).expect("valid");
        for batch in (1..=3).flat_map(|epoch| Batches::epoch(&data, epoch)) {
            let gradients = GradientsParams::from_grads(model.loss(batch).backward(), &model);
            model = lookahead.after_step(optimizer.step(0.1, model, gradients));
        }
        let run = |alpha| {
            Fit::new(config(3), adamw()).rate(|_| 0.1).lookahead(config_of(alpha)).run(
                net(&device()),
                &data,
                None,
            )
        };
        let fitted = run(0.5).expect("trains");
        // Two steps after the last pull the slow weights are elsewhere.
        assert_eq!(weights(&fitted.model), weights(&lookahead.slow(&model)));
        assert_ne!(weights(&fitted.model), weights(&model));
        let error = run(1.5).expect_err("beyond the way").to_string();
        assert_eq!(error, "`alpha` must be in [0, 1], got 1.5");
    }

    #[test]
    fn a_scaled_loss_gives_the_same_steps() {
        // A power of two changes no bit on the way there and back.
        let scale = LossScaleConfig::new().with_interval(4).init().expect("valid");
        let expected = by_hand(|_| 0.1, |_, _| (), |model, _| model);
        let fitted = Fit::new(config(3), adamw())
            .rate(|_| 0.1)
            .guards((scale,))
            .run(net(&device()), &data(&device(), 1.0), None)
            .expect("trains");
        assert_eq!(weights(&fitted.model), weights(&expected));
        // 18 clean steps: doubled four times.
        assert_eq!(fitted.history.last("loss_scale"), Some(65536.0 * 16.0));
    }

    fn deep_run(fit: impl FnOnce(&MaskSource) -> Fit<FusedOptimizer>) -> Fitted<Deep> {
        let masks = MaskSource::new(Seed(8));
        let model = deep(&device(), &masks, 8);
        fit(&masks)
            .rate(|_| 0.05)
            .masks(&masks)
            .run(model, &data(&device(), 1.0), None)
            .expect("trains")
    }

    #[test]
    fn the_strength_of_dropout_follows_its_schedule() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let fitted = deep_run(|masks| {
            let (seen, watched) = (seen.clone(), masks.clone());
            Fit::new(config(2), adamw())
                .drop_schedule(masks, DropSchedule::Ramp { over: 4 })
                .expect("valid")
                .observe(move |event| {
                    if matches!(event, Event::Step { .. }) {
                        seen.lock().expect("one thread").push(watched.strength());
                    }
                    Flow::Continue
                })
        });
        let seen = seen.lock().expect("over");
        assert_eq!(seen[..6], [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]);
        assert_eq!(seen.len() as u64, fitted.steps);
        let bad = DropSchedule::Curriculum { gamma: f64::NAN };
        let masks = MaskSource::new(Seed(1));
        assert!(Fit::new(config(1), adamw()).drop_schedule(&masks, bad).is_err());
    }

    #[test]
    fn the_model_given_back_has_the_strength_at_which_it_was_judged() {
        let masks = MaskSource::new(Seed(8));
        // What is right for training is wrong for validation, so that an early epoch is the best.
        let (train, opposite) = (data(&device(), 1.0), data(&device(), -1.0));
        let config = config(9).with_early_stopping(Some(EarlyStoppingConfig::new(2)));
        let fitted = Fit::new(config, adamw())
            .rate(|_| 0.05)
            .drop_schedule(&masks, DropSchedule::Ramp { over: 100 })
            .expect("valid")
            .masks(&masks)
            .run(deep(&device(), &masks, 8), &train, Some(&opposite))
            .expect("trains");
        assert!(fitted.epoch < fitted.epochs, "{} {}", fitted.epoch, fitted.epochs);
        assert_eq!(masks.strength(), (6 * fitted.epoch - 1) as f64 / 100.0);
    }

    #[test]
    fn watching_and_the_noise_scale_are_recorded_and_change_nothing() {
        let plain = deep_run(|_| Fit::new(config(3).with_accumulation(3), adamw()));
        let watched = deep_run(|_| {
            Fit::new(config(3).with_accumulation(3).with_watch_every(2), adamw())
                .noise_scale(NoiseScaleConfig::new().init().expect("valid"))
        });
        assert_eq!(weights(&plain.model), weights(&watched.model));
        let history = &watched.history;
        // Two steps an epoch, of the second of which the batches differ in size.
        let steps: Vec<u64> = history
            .records
            .iter()
            .filter(|record| record.get("error_rms/hidden").is_some())
            .map(|record| record.step)
            .collect();
        assert_eq!(steps, [2, 4, 6]);
        for name in ["activation_std/hidden", "dead/hidden", "activation_slope", "error_slope"] {
            assert_eq!(history.series(name).len(), 3, "{name}");
        }
        assert!(plain.history.series("noise_scale").is_empty());
        let error = Fit::new(config(1), adamw())
            .noise_scale(NoiseScaleConfig::new().init().expect("valid"))
            .run(net(&device()), &data(&device(), 1.0), None)
            .expect_err("there are no micro-batches");
        assert!(error.to_string().starts_with("`accumulation` must be at least 2"), "{error}");
    }

    #[test]
    fn a_stuck_model_is_kicked_once() {
        let escape = SaddleEscapeConfig::new(1e9, 0.1).with_wait(100).init().expect("valid");
        let fitted = Fit::new(config(3), adamw())
            .rate(|_| 0.0)
            .guards((escape,))
            .run(net(&device()), &data(&device(), 1.0), None)
            .expect("trains");
        assert_eq!(fitted.history.last("saddle_kicks"), Some(1.0));
        assert_ne!(weights(&fitted.model), weights(&net(&device())));
    }

    #[test]
    fn a_kick_stays_within_the_constraint() {
        let escape = SaddleEscapeConfig::new(1e9, 50.0).with_wait(100).init().expect("valid");
        let fitted = Fit::new(config(1).with_max_steps(Some(1)), adamw())
            .rate(|_| 0.0)
            .guards((escape,))
            .constrain(MaxNormConfig::new().with_max(0.3).init().expect("valid"))
            .run(net(&device()), &data(&device(), 1.0), None)
            .expect("trains");
        assert_eq!(fitted.history.last("saddle_kicks"), Some(1.0));
        let norms = fitted.model.layer.weight.val().square().sum_dim(0).sqrt();
        let norms: Vec<f32> = norms.try_to_vec_as().expect("reads");
        assert!(norms.iter().all(|&norm| norm < 0.3 + 1e-6), "{norms:?}");
        assert!(norms.iter().any(|&norm| norm > 0.29), "the kick was far longer: {norms:?}");
    }

    #[test]
    fn everything_together_trains() {
        let fitted = train(adamw(), full(6), None, None, 8).expect("trains");
        assert!(fitted.history.last("noise_scale").is_some());
        assert!(fitted.history.last("update_ratio/last.weight").is_some());
        assert!(fitted.history.last("clip_bound").is_some());
    }
}
