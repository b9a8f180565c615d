//! What a checkpoint holds, and how a run takes it over.

use crate::bits::Bits;
use crate::checkpoint::{CheckpointError, Section};
use crate::judge::{Data, Judged, finite};
use crate::lookahead::lookahead_at;
use crate::plateau::PlateauState;
use crate::running::Run;
use crate::stop;
use crate::{Fit, Learn, Optimize, Outcome, Resumed, Score, Source, TrainError, Warning};
use burn::module::{Module, ModuleVisitor, Param};
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Tensor};
use firebrick_backend::PathStack;
use firebrick_core::History;
use firebrick_regularize::{Penalty, Projection};
use firebrick_stabilize::{Guard, NoiseScale};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The section "state".
#[derive(Serialize, Deserialize)]
struct Saved {
    parameters: Vec<Row>,
    configuration: Map<String, Value>,
    epoch: usize,
    batch: usize,
    step: u64,
    epochs: usize,
    outcome: Option<Outcome>,
    losses: Vec<Bits>,
    penalties: Vec<Bits>,
    seen_finite: bool,
    judged_at: Option<u64>,
    history: History,
    stopping: Option<stop::State>,
    plateau: Option<PlateauState>,
    best: Option<Best>,
    masks: Vec<u64>,
    /// Weights in the average.
    averaged: Option<u64>,
    rollbacks: u64,
    rate_factor: Bits,
    noise_scale: Option<NoiseScale>,
}

/// A parameter of the model that a checkpoint is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    path: String,
    shape: Vec<usize>,
    dtype: String,
    trainable: bool,
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.trainable { "trainable" } else { "not trainable" };
        write!(f, "`{}` {:?} {}, {kind}", self.path, self.shape, self.dtype)
    }
}

#[derive(Serialize, Deserialize)]
struct Best {
    epoch: usize,
    step: u64,
    train: Option<Score>,
    validation: Option<Score>,
    /// Whether it is the model itself, or its point to evaluate, so that its weights are not there twice.
    current: bool,
}

const STATE: &str = "state";
const MODEL: &str = "model";
const BEST: &str = "best";
const AVERAGE: &str = "average";
const LOOKAHEAD: &str = "lookahead";
const OPTIMIZER: &str = "optimizer";
const GUARDS: &str = "guards";

fn section(section: &'static str, reason: impl std::fmt::Display) -> CheckpointError {
    CheckpointError::Section { section, reason: reason.to_string() }
}

impl<O: Optimize, G: Guard, P: Penalty, C: Projection> Fit<O, G, P, C> {
    /// Writes a checkpoint, unless the weights are not finite.
    pub(crate) fn save<M: Learn, S: Source>(
        &mut self,
        model: &M,
        data: &Data<'_, S>,
        run: &mut Run<M>,
    ) -> Result<(), TrainError> {
        if run.store.is_none() {
            return Ok(());
        }
        run.saved_at = Some(run.place());
        // Only what is in training mode has weights to be replaced.
        let slow = run.lookahead.as_ref().map(|lookahead| lookahead.slow(model).valid());
        // Brings the running statistics up to date, and does not share them with the live model.
        let model = model.valid();
        if !finite(&model)? {
            run.warn(Warning::NotHealthy { step: run.step });
            return Ok(());
        }
        let sections = self.sections(&model, slow.as_ref(), data, run)?;
        let Some(store) = &mut run.store else { return Ok(()) };
        match store.save(&sections) {
            Ok(path) => run.saved.push(path),
            Err(error) if store.config.stop_on_failure => return Err(error.into()),
            Err(error) => {
                run.failures += 1;
                run.warn(Warning::NotSaved { reason: error.to_string() });
                run.not_saved.push(error);
            }
        }
        Ok(())
    }

    fn sections<M: Learn, S: Source>(
        &self,
        model: &M,
        slow: Option<&M>,
        data: &Data<'_, S>,
        run: &Run<M>,
    ) -> Result<Vec<Section>, CheckpointError> {
        let best = run.best.as_ref().map(|best| Best {
            epoch: best.epoch,
            step: best.step,
            train: best.train,
            validation: best.validation,
            current: best.passes == run.passes && run.average.is_none() && slow.is_none(),
        });
        let saved = Saved {
            parameters: rows(model),
            configuration: self.configuration(data),
            epoch: run.epoch,
            batch: run.batch,
            step: run.step,
            epochs: run.epochs,
            // An interrupted training is to go on, one that ran all its epochs may be given more.
            outcome: run.outcome.filter(|outcome| *outcome == Outcome::EarlyStopped),
            losses: run.losses.iter().copied().map(Bits).collect(),
            penalties: run.penalties.iter().copied().map(Bits).collect(),
            seen_finite: run.seen_finite,
            judged_at: run.judged_at,
            history: run.history.clone(),
            stopping: run.stopping.as_ref().map(|rule| rule.state().clone()),
            plateau: self.settings.rate.state(),
            masks: self.settings.masks.iter().map(|masks| masks.position()).collect(),
            averaged: run.average.as_ref().map(|average| average.taken),
            rollbacks: run.rollbacks,
            rate_factor: Bits(run.rate_factor),
            noise_scale: self.settings.noise_scale.clone(),
            best,
        };
        let state = serde_json::to_vec(&saved).map_err(|error| section(STATE, error))?;
        let optimizer = self.optimizer.state().map_err(|error| section(OPTIMIZER, error))?;
        let mut sections = vec![
            (STATE.to_owned(), state),
            (MODEL.to_owned(), record(model, MODEL)?),
            (OPTIMIZER.to_owned(), optimizer),
        ];
        if let Some(guards) = &self.guards {
            let state = guards.state().map_err(|error| section(GUARDS, error))?;
            sections.push((GUARDS.to_owned(), state));
        }
        if let Some(average) = &run.average {
            sections.push((AVERAGE.to_owned(), record(&average.model, AVERAGE)?));
        }
        if let Some(slow) = slow {
            sections.push((LOOKAHEAD.to_owned(), record(slow, LOOKAHEAD)?));
        }
        if let (Some(Best { current: false, .. }), Some(best)) = (&saved.best, &run.best) {
            sections.push((BEST.to_owned(), record(&best.model, BEST)?));
        }
        Ok(sections)
    }

    /// What must be the same when a training is resumed.
    fn configuration<S: Source>(&self, data: &Data<'_, S>) -> Map<String, Value> {
        let config = &self.settings.config;
        let mut map = Map::new();
        let mut add = |name: &str, value: Value| map.insert(name.to_owned(), value);
        add("accumulation", json!(config.accumulation));
        add("early_stopping", json!(config.early_stopping));
        add("judge_every", json!(config.judge_every));
        add("judge_every_steps", json!(config.judge_every_steps));
        add("judge_training", json!(config.judge_training));
        add("record_every", json!(config.record_every));
        add("watch_every", json!(config.watch_every));
        add("schedule", json!(self.settings.rate.fingerprint()));
        add("monitor", json!(self.settings.rate.monitor()));
        add("training data", json!(data.train.fingerprint()));
        add("batches an epoch", json!(data.train.length()));
        add("validation data", json!(data.validation.map(S::fingerprint)));
        add("validation batches", json!(data.validation.map(S::length)));
        add("averaging", json!(self.settings.averaging));
        add("rollback", json!(self.settings.rollback));
        add("mask sources", json!(self.settings.masks.len()));
        let schedules = self.settings.drop_schedules.iter().map(|(_, schedule)| schedule);
        add("drop schedules", json!(schedules.collect::<Vec<_>>()));
        add("momentum reset", json!(self.settings.momentum_reset));
        // The estimator's state is in the checkpoint, its configuration must be the same.
        let noise = self.settings.noise_scale.as_ref();
        add("noise scale", noise.map_or(Value::Null, |noise| json!(noise)["config"].clone()));
        add("sharpness", json!(self.settings.sharpness));
        add("lookahead", json!(self.settings.lookahead));
        add("devices", json!(self.settings.devices.as_ref().map(Vec::len)));
        // burn's own do not tell, and take over the state of the same rule.
        if let Some(rules) = self.optimizer.fingerprint() {
            add("optimizer", json!(rules));
        }
        map
    }

    /// Goes on from the last whole checkpoint of the folder, if there is one.
    pub(crate) fn resume<M: Learn, S: Source>(
        &mut self,
        mut model: M,
        data: &Data<'_, S>,
        run: &mut Run<M>,
    ) -> Result<M, TrainError> {
        let Some(store) = &run.store else { return Ok(model) };
        let Some((path, sections, damaged)) = store.last()? else { return Ok(model) };
        let part = |name: &'static str| {
            let found = sections.iter().find(|(section, _)| section == name);
            found.map(|(_, bytes)| bytes.as_slice()).ok_or_else(|| section(name, "it is missing"))
        };
        let saved: Saved =
            serde_json::from_slice(part(STATE)?).map_err(|error| section(STATE, error))?;
        same_model(&saved.parameters, &rows(&model))?;
        same_configuration(&saved.configuration, &self.configuration(data))?;

        // A forward pass before this would otherwise write its statistics over the loaded ones.
        let _ = model.valid();
        model = load(model, part(MODEL)?, MODEL)?;
        let taken_over = self.optimizer.take_over(part(OPTIMIZER)?, &model);
        taken_over.map_err(|error| section(OPTIMIZER, error))?;
        if let Some(guards) = &mut self.guards {
            let taken_over = guards.take_over(part(GUARDS)?, &model);
            taken_over.map_err(|error| section(GUARDS, error))?;
        }
        run.best = match saved.best {
            Some(best) => {
                let mut of_best = self.optimizer.evaluation(&model).valid();
                if !best.current {
                    of_best = load(of_best, part(BEST)?, BEST)?;
                }
                Some(Judged {
                    model: of_best,
                    epoch: best.epoch,
                    step: best.step,
                    // Nothing has run through the model in this process yet.
                    passes: if best.current { run.passes } else { u64::MAX },
                    train: best.train,
                    validation: best.validation,
                })
            }
            None => None,
        };
        if let (Some(average), Some(taken)) = (&mut run.average, saved.averaged) {
            average.model = load(average.model.valid(), part(AVERAGE)?, AVERAGE)?;
            average.taken = taken;
            average.follow(&model);
        }
        if let Some(config) = &self.settings.lookahead {
            let slow = load(model.valid(), part(LOOKAHEAD)?, LOOKAHEAD)?;
            run.lookahead = Some(lookahead_at(config, slow, saved.step)?);
        }
        if let (Some(rule), Some(state)) = (&mut run.stopping, saved.stopping) {
            rule.set_state(state);
        }
        let restored = self.settings.rate.restore(saved.plateau.as_ref());
        restored.map_err(|error| section(STATE, error))?;
        for (masks, position) in self.settings.masks.iter().zip(saved.masks) {
            masks.seek(position);
        }
        self.settings.noise_scale = saved.noise_scale;
        run.rollbacks = saved.rollbacks;
        run.rate_factor = saved.rate_factor.0;
        run.epoch = saved.epoch;
        run.batch = saved.batch;
        run.step = saved.step;
        run.epochs = saved.epochs;
        run.outcome = saved.outcome;
        run.losses = saved.losses.into_iter().map(|Bits(loss)| loss).collect();
        run.penalties = saved.penalties.into_iter().map(|Bits(penalty)| penalty).collect();
        run.seen_finite = saved.seen_finite;
        run.judged_at = saved.judged_at;
        run.history = saved.history;
        run.saved_at = Some(run.place());
        for path in &damaged {
            run.warn(Warning::Damaged { path: path.display().to_string() });
        }
        run.resumed = Some(Resumed { path, step: run.step, damaged });
        Ok(model)
    }
}

fn record<M: Module>(model: &M, name: &'static str) -> Result<Vec<u8>, CheckpointError> {
    let bytes = model.clone().into_record().into_bytes();
    Ok(bytes.map_err(|error| section(name, error))?.to_vec())
}

fn load<M: Module>(model: M, bytes: &[u8], name: &'static str) -> Result<M, CheckpointError> {
    let record = ModuleRecord::from_bytes(Bytes::from_bytes_vec(bytes.to_vec()));
    let record = record.map_err(|error| section(name, error))?;
    model.try_load_record(record).map_err(|error| section(name, error))
}

fn same_model(saved: &[Row], now: &[Row]) -> Result<(), CheckpointError> {
    let other = |difference: String| Err(CheckpointError::OtherModel { difference });
    for (saved, now) in saved.iter().zip(now) {
        if saved != now {
            return other(format!("it has {saved} where the model has {now}"));
        }
    }
    match (saved.get(now.len()), now.get(saved.len())) {
        (Some(row), _) => other(format!("it has {row} more")),
        (_, Some(row)) => other(format!("it lacks {row}")),
        _ => Ok(()),
    }
}

fn same_configuration(
    saved: &Map<String, Value>,
    now: &Map<String, Value>,
) -> Result<(), CheckpointError> {
    for (field, now) in now {
        if let Some(saved) = saved.get(field)
            && saved != now
        {
            return Err(CheckpointError::OtherConfiguration {
                field: field.clone(),
                saved: saved.to_string(),
                now: now.to_string(),
            });
        }
    }
    Ok(())
}

/// The float parameters of a model, trainability as configured, whether it is in evaluation mode or not.
fn rows<M: Module>(model: &M) -> Vec<Row> {
    struct List {
        path: PathStack,
        rows: Vec<Row>,
    }
    impl ModuleVisitor for List {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            self.rows.push(Row {
                path: self.path.path(),
                shape: value.dims().to_vec(),
                dtype: format!("{:?}", value.dtype()),
                trainable: param.is_require_grad(),
            });
        }
    }
    let mut list = List { path: PathStack::default(), rows: Vec::new() };
    model.valid().train().visit(&mut list);
    list.rows
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use crate::settings::Settings;
    use crate::testing::{
        config, cross_entropy, data, deep, full, net, same, store, train, train_with, weights,
    };
    use crate::{
        Averaging, CheckpointError, EarlyStoppingConfig, EmaConfig, Event, Fit, FitConfig, Fitted,
        Flow, Labelled, Learn, Optimize, Outcome, Retry, RollbackConfig, Score, SwaConfig,
        TensorBatches, TrainError, Warning, verify,
    };
    use burn::module::Module;
    use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
    use burn::optim::{AdamWConfig as BurnAdamWConfig, GradientsParams, SgdConfig};
    use burn::tensor::{Device, Tensor, TensorReadError};
    use firebrick_core::{Seed, names};
    use firebrick_optim::wrapper::{LookaheadConfig, SamConfig};
    use firebrick_optim::{AdamWConfig, ScheduleFreeAdamWConfig};
    use firebrick_regularize::{DropSchedule, InvertedDropout, InvertedDropoutConfig, MaskSource};
    use firebrick_stabilize::{Guard, GuardStateError, Scheme, Verdict, initialize};
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn resumes_exactly<O: Optimize>(
        optimizer: impl Fn() -> O,
        pieces: &[u64],
        change: impl Fn(&mut Settings),
    ) {
        let whole = train_with(optimizer(), full(6), None, None, 8, &change).expect("trains");
        assert!(whole.steps >= 12);
        for &pieces in pieces {
            let folder = tempfile::tempdir().expect("writable");
            let file = folder.path().join("history.jsonl");
            let piece = || {
                let store = Some(store(folder.path()));
                train_with(optimizer(), full(6), store, Some(pieces), 8, |settings| {
                    change(settings);
                    settings.history_file = Some(file.clone());
                })
            };
            let mut last = piece().expect("trains");
            while last.outcome == Outcome::Interrupted {
                last = piece().expect("resumes");
            }
            same(&last, &whole);
            assert!(last.resumed.is_some());
            // A training that is over stays as it is.
            same(&piece().expect("is over"), &whole);
            let lines = std::fs::read_to_string(&file).expect("readable");
            assert_eq!(lines, whole.history.to_json_lines());
        }
    }

    fn fused() -> firebrick_optim::FusedOptimizer {
        AdamWConfig::new().fused().expect("valid")
    }

    #[test]
    fn an_interrupted_training_equals_the_whole_one_to_the_bit() {
        // 6 batches an epoch, so every place in it and the places between epochs are met.
        resumes_exactly(fused, &[1, 2, 5], |_| ());
        resumes_exactly(|| BurnAdamWConfig::new().init(), &[1, 2, 5], |_| ());
    }

    #[test]
    fn averages_and_points_to_evaluate_are_resumed_to_the_bit() {
        let ema = Averaging::Ema(EmaConfig::new().with_decay(0.9));
        resumes_exactly(fused, &[1, 4], |settings| settings.averaging = Some(ema.clone()));
        let swa = Averaging::Swa(SwaConfig::new(5).with_every(2).with_recalibration(3));
        resumes_exactly(fused, &[1, 4], |settings| settings.averaging = Some(swa.clone()));
        let free = || ScheduleFreeAdamWConfig::new().fused().expect("valid");
        resumes_exactly(free, &[1, 4], |_| ());
    }

    #[test]
    fn what_is_put_around_the_optimizer_is_resumed_to_the_bit() {
        let sam = SamConfig::new().with_alpha(0.4);
        resumes_exactly(fused, &[1, 4], |settings| settings.sharpness = Some(sam.clone()));
        let lookahead = LookaheadConfig::new().with_every(3);
        resumes_exactly(fused, &[1, 4], |settings| settings.lookahead = Some(lookahead.clone()));
        let devices = vec![Device::flex().autodiff(); 2];
        resumes_exactly(fused, &[1, 2], |settings| settings.devices = Some(devices.clone()));
    }

    /// Asks for a rollback at its seventh call, and a checkpoint knows how many there were.
    struct Seventh(u64);

    impl Guard for Seventh {
        fn before_step<M: Module>(&mut self, _: &M, _: &mut GradientsParams, _: f64) -> Verdict {
            self.0 += 1;
            if self.0 == 7 { Verdict::Rollback } else { Verdict::Proceed }
        }

        fn state(&self) -> Result<Vec<u8>, GuardStateError> {
            Ok(self.0.to_le_bytes().to_vec())
        }

        fn take_over<M: Module>(&mut self, state: &[u8], _: &M) -> Result<(), GuardStateError> {
            let bytes = <[u8; 8]>::try_from(state).map_err(|_| GuardStateError::new("8 bytes"))?;
            self.0 = u64::from_le_bytes(bytes);
            Ok(())
        }
    }

    #[test]
    fn a_training_that_went_back_is_resumed_to_the_bit() {
        let run = |stop_after: Option<u64>, folder: Option<&Path>| {
            let (device, masks) = (Device::flex().autodiff(), MaskSource::new(Seed(8)));
            let flag = Arc::new(AtomicBool::new(false));
            let raised = flag.clone();
            let mut calls = 0;
            let stopping = Some(EarlyStoppingConfig::new(9));
            let config = config(4).with_judge_every_steps(2).with_early_stopping(stopping);
            let lower = RollbackConfig::new().with_every(4).with_margin(0);
            let mut fit = Fit::new(config, fused())
                .rate(|step| 0.05 / (step + 1) as f64)
                .guards(Seventh(0))
                .rollback(lower.with_retry(Retry::LowerRate(0.5)))
                .lookahead(LookaheadConfig::new().with_every(3))
                .masks(&masks)
                .interrupt(flag)
                .observe(move |event| {
                    if matches!(event, Event::Step { .. }) {
                        calls += 1;
                        raised.store(Some(calls) == stop_after, Ordering::Relaxed);
                    }
                    Flow::Continue
                });
            if let Some(folder) = folder {
                fit = fit.checkpoints(store(folder));
            }
            let validation = data(&device, 0.3);
            let model = deep(&device, &masks, 8);
            fit.run(model, &data(&device, 1.0), Some(&validation)).expect("runs")
        };
        let whole = run(None, None);
        // Six steps, back to the fourth, and on at half the rate.
        assert_eq!(whole.history.last("rolled_back_from_step"), Some(6.0));
        assert_eq!((whole.history.last("rate_factor"), whole.steps), (Some(0.5), 24));
        // The first is interrupted by the rollback itself.
        for stop in [7, 8, 9, 13] {
            let folder = tempfile::tempdir().expect("writable");
            let first = run(Some(stop), Some(folder.path()));
            assert_eq!(first.outcome, Outcome::Interrupted);
            same(&run(None, Some(folder.path())), &whole);
        }
    }

    /// Batch norm behind dropout: what is measured anew depends on the strength.
    #[derive(Module, Debug)]
    struct Behind {
        dropout: InvertedDropout,
        norm: BatchNorm,
        last: Linear,
    }

    impl Behind {
        fn forward(&self, inputs: Tensor<2>) -> Tensor<2> {
            self.last.forward(self.norm.forward(self.dropout.forward(inputs)))
        }
    }

    impl Learn for Behind {
        type Batch = Labelled<2>;
        fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
            cross_entropy(self.forward(batch.inputs), batch.targets)
        }
        fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
            Score::classification(self.forward(batch.inputs), batch.targets)
        }
    }

    #[test]
    fn a_training_resumed_at_the_end_of_an_epoch_is_judged_at_its_strength_of_dropout() {
        let run = |stop_after: Option<u64>, folder: Option<&Path>| {
            let (device, masks) = (Device::flex().autodiff(), MaskSource::new(Seed(8)));
            let flag = Arc::new(AtomicBool::new(false));
            let raised = flag.clone();
            let mut fit = Fit::new(config(3), fused())
                .rate(|_| 0.05)
                .average(Averaging::Swa(SwaConfig::new(2).with_recalibration(4)))
                .drop_schedule(&masks, DropSchedule::Ramp { over: 100 })
                .expect("valid")
                .masks(&masks)
                .interrupt(flag)
                .observe(move |event| {
                    if let Event::Step { step, .. } = event {
                        raised.store(Some(*step) == stop_after, Ordering::Relaxed);
                    }
                    Flow::Continue
                });
            if let Some(folder) = folder {
                fit = fit.checkpoints(store(folder));
            }
            let model = Behind {
                dropout: InvertedDropoutConfig::new(0.5).init(&masks).expect("valid"),
                norm: BatchNormConfig::new(2).init(&device),
                last: LinearConfig::new(2, 2).init(&device),
            };
            let model = initialize(model, Scheme::LecunNormal, Seed(4));
            let validation = data(&device, 0.3);
            fit.run(model, &data(&device, 1.0), Some(&validation)).expect("runs")
        };
        let whole = run(None, None);
        // The last steps of the first two epochs, whose judgements come after the resume.
        for stop in [6, 12] {
            let folder = tempfile::tempdir().expect("writable");
            let first = run(Some(stop), Some(folder.path()));
            assert_eq!((first.outcome, first.steps), (Outcome::Interrupted, stop));
            same(&run(None, Some(folder.path())), &whole);
        }
    }

    #[test]
    fn other_validation_data_watching_and_optimizers_are_refused() {
        let (device, folder) = (Device::flex().autodiff(), tempfile::tempdir().expect("writable"));
        let run = |validation: Option<&TensorBatches<2>>, rule: AdamWConfig, config: FitConfig| {
            let fit = Fit::new(config, rule.fused().expect("valid"));
            let fit = fit.checkpoints(store(folder.path()));
            let result = fit.run(net(&device), &data(&device, 1.0), validation);
            result.map(drop).map_err(|error| error.to_string())
        };
        let (validation, rule) = (data(&device, 0.3), AdamWConfig::new);
        run(Some(&validation), rule(), config(1)).expect("trains");
        run(Some(&validation), rule(), config(2)).expect("resumes");
        let rows: Vec<u32> = (0..20).collect();
        let fewer = TensorBatches::new(validation.data().select(&rows), 7, Seed(5));
        let fewer = fewer.expect("valid");
        let other = TensorBatches::new(validation.data().clone(), 7, Seed(6)).expect("valid");
        for (validation, rule, config, field) in [
            (Some(&fewer), rule(), config(3), "`validation "),
            (Some(&other), rule(), config(3), "`validation data` was"),
            (None, rule(), config(3), "`validation "),
            (Some(&validation), rule(), config(3).with_watch_every(2), "`watch_every` was 0, is 2"),
            (Some(&validation), rule().with_beta_2(0.9), config(3), "`optimizer` was"),
            (Some(&validation), rule().with_weight_decay(0.5), config(3), "`optimizer` was"),
        ] {
            let error = run(validation, rule, config).expect_err("refused");
            assert!(error.contains(field), "{error}");
        }
        run(Some(&validation), rule(), config(3)).expect("resumes");
    }

    #[test]
    fn another_noise_scale_is_refused() {
        use firebrick_stabilize::NoiseScaleConfig;
        let folder = tempfile::tempdir().expect("writable");
        let run = |decay| {
            train_with(fused(), full(2), Some(store(folder.path())), None, 8, |settings| {
                let noise = NoiseScaleConfig::new().with_decay(decay).init();
                settings.noise_scale = Some(noise.expect("valid"));
            })
        };
        run(0.9).expect("trains");
        let error = run(0.8).expect_err("another decay").to_string();
        assert_eq!(
            error,
            "the checkpoint is of another configuration: `noise scale` was {\"decay\":0.9}, is \
             {\"decay\":0.8}"
        );
    }

    #[test]
    fn guards_of_another_configuration_are_refused() {
        use firebrick_stabilize::{AutoClipConfig, Guard, ZClipConfig};
        fn run(folder: &Path, guards: impl Guard) -> Result<(), TrainError> {
            let device = Device::flex().autodiff();
            let fit = Fit::new(config(1), SgdConfig::new().init()).guards(guards);
            fit.checkpoints(store(folder)).run(net(&device), &data(&device, 1.0), None).map(drop)
        }
        let folder = tempfile::tempdir().expect("writable");
        let auto = |window| (AutoClipConfig::new().with_window(window).init().expect("valid"),);
        run(folder.path(), auto(9)).expect("trains");
        run(folder.path(), auto(9)).expect("is over");
        let message = |error: Result<(), TrainError>| error.expect_err("refused").to_string();
        let other = message(run(folder.path(), auto(8)));
        assert!(other.contains("guards") && other.contains("`window`"), "{other}");
        let other = message(run(folder.path(), (ZClipConfig::new().init().expect("valid"),)));
        assert!(other.contains("a AutoClip, not of a ZClip"), "{other}");
    }

    #[test]
    fn more_epochs_go_on_where_the_last_ended() {
        let fused = || AdamWConfig::new().fused().expect("valid");
        let whole = train(fused(), full(6), None, None, 8).expect("trains");
        let folder = tempfile::tempdir().expect("writable");
        let some = |config| train(fused(), config, Some(store(folder.path())), None, 8);
        some(full(6).with_max_steps(Some(4))).expect("trains");
        some(full(3)).expect("resumes");
        same(&some(full(6)).expect("resumes"), &whole);
    }

    /// A folder with checkpoints of a training over two epochs, and the last file.
    fn trained(folder: &Path) -> PathBuf {
        let fused = AdamWConfig::new().fused().expect("valid");
        train(fused, full(2), Some(store(folder)), None, 8).expect("trains");
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
            .expect("readable")
            .map(|entry| entry.expect("readable").path())
            .collect();
        files.sort();
        assert_eq!(files.len(), 3);
        files.pop().expect("three")
    }

    fn again(
        folder: &Path,
        config: FitConfig,
        width: usize,
    ) -> Result<Fitted<crate::testing::Deep>, TrainError> {
        let fused = AdamWConfig::new().fused().expect("valid");
        train(fused, config, Some(store(folder)), None, width)
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let folder = tempfile::tempdir().expect("writable");
        trained(folder.path());
        let error = again(folder.path(), full(6), 9).expect_err("another width");
        assert_eq!(
            error.to_string(),
            "the checkpoint is of another model: it has `first.weight` [2, 8] F32, trainable where \
             the model has `first.weight` [2, 9] F32, trainable"
        );
        let other = full(6).with_accumulation(3);
        let error = again(folder.path(), other, 8).expect_err("another configuration");
        assert_eq!(
            error.to_string(),
            "the checkpoint is of another configuration: `accumulation` was 2, is 3"
        );
        let momentum =
            SgdConfig::new().with_momentum(Some(burn::optim::momentum::MomentumConfig::new()));
        for result in [
            train(SgdConfig::new().init(), full(6), Some(store(folder.path())), None, 8),
            train(momentum.init(), full(6), Some(store(folder.path())), None, 8),
        ] {
            assert!(matches!(
                result,
                Err(TrainError::Checkpoint(CheckpointError::Section { section: "optimizer", .. }))
            ));
        }
        let error = train(
            AdamWConfig::new().fused().expect("valid"),
            full(6),
            Some(store(folder.path()).with_resume(false)),
            None,
            8,
        );
        assert!(matches!(error, Err(TrainError::Checkpoint(CheckpointError::Occupied { .. }))));
    }

    #[test]
    fn a_damaged_last_checkpoint_is_passed_over_and_told() {
        let whole = {
            let fused = AdamWConfig::new().fused().expect("valid");
            train(fused, full(6), None, None, 8).expect("trains")
        };
        let folder = tempfile::tempdir().expect("writable");
        let last = trained(folder.path());
        let mut bytes = std::fs::read(&last).expect("readable");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&last, bytes).expect("writable");
        assert!(matches!(verify(&last), Err(CheckpointError::Damaged { .. })));
        let fitted = again(folder.path(), full(6), 8).expect("resumes from the one before");
        same(&fitted, &whole);
        assert!(matches!(fitted.warnings.as_slice(), [Warning::Damaged { .. }]));
        assert_eq!(fitted.resumed.expect("resumed").damaged, [last]);
    }

    #[test]
    fn a_failed_checkpoint_ends_or_is_counted_as_asked() {
        for stop in [true, false] {
            let folder = tempfile::tempdir().expect("writable");
            // A folder stands where the second file is to be written.
            std::fs::create_dir_all(folder.path().join("checkpoint-0000000001.fbck/in the way"))
                .expect("writable");
            let config = store(folder.path()).with_stop_on_failure(stop).with_every_steps(3);
            let fused = AdamWConfig::new().fused().expect("valid");
            let result = train(fused, full(2), Some(config), None, 8);
            if stop {
                assert!(matches!(result, Err(TrainError::Checkpoint(CheckpointError::Io { .. }))));
            } else {
                let fitted = result.expect("goes on");
                assert_eq!(fitted.outcome, Outcome::Finished);
                assert!(fitted.history.last("checkpoint_failures") >= Some(1.0));
                assert!(matches!(fitted.warnings.as_slice(), [Warning::NotSaved { .. }, ..]));
            }
        }
    }

    #[test]
    fn a_broken_run_leaves_its_last_good_checkpoint() {
        let folder = tempfile::tempdir().expect("writable");
        let (device, masks) = (Device::flex().autodiff(), MaskSource::new(Seed(8)));
        let fitted = Fit::new(config(9), SgdConfig::new().init())
            // Nothing skips, and the third epoch's rate leaves no number.
            .guards(())
            .rate(|step| if step < 12 { 0.1 } else { f64::MAX })
            .masks(&masks)
            .checkpoints(store(folder.path()))
            .run(deep(&device, &masks, 8), &data(&device, 1.0), None)
            .expect("runs");
        assert_eq!((fitted.outcome, fitted.epochs), (Outcome::Diverged, 3));
        assert_eq!(fitted.epoch, 2, "the model is the last good one");
        assert!(fitted.history.last(names::TRAIN_LOSS).expect("judged").is_nan());
        assert!(fitted.warnings.contains(&Warning::NotHealthy { step: 13 }));
        let good = weights(&fitted.model);
        let resumed = Fit::new(config(2), SgdConfig::new().init())
            .guards(())
            .rate(|_| 0.1)
            .masks(&masks)
            .checkpoints(store(folder.path()))
            .run(deep(&device, &masks, 8), &data(&device, 1.0), None)
            .expect("the last good state is there");
        assert_eq!(weights(&resumed.model), good);
    }
}
