//! How the phases of a recipe are run, one training of firebrick-train after another.

use super::carried::{Around, Carried, Moving};
use super::features::{Headed, Probe, check_classes, features};
use super::{OptimizerState, Phase, PhaseReport, Tune, Tuned, redraw};
use crate::TransferError;
use crate::freeze::Switches;
use crate::group::{Groups, Mode, Plan, places};
use burn::module::{Module, ParamGroup};
use firebrick_backend::checkpointing::{beside, strategy, training_copy, with_strategy};
use firebrick_core::{ConfigError, History, check};
use firebrick_optim::FusedOptimizer;
use firebrick_optim::schedule::Schedule;
use firebrick_regularize::Penalty;
use firebrick_stabilize::Guard;
use firebrick_train::{Fit, Labelled, Learn, Outcome, Source, TensorBatches, TrainError};
use std::sync::Arc;

/// A phase that is about to run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stage<'a> {
    index: usize,
    pub(super) phase: &'a Phase,
    /// The phase's plan, or that of its head alone.
    plan: &'a Plan,
    /// The plan and the optimizer of the phase before.
    before: Option<&'a (Plan, FusedOptimizer)>,
    trainable: usize,
}

/// A phase that has run.
#[derive(Debug)]
pub(super) struct Done<M> {
    model: M,
    optimizer: FusedOptimizer,
    report: PhaseReport,
    history: History,
}

impl<G: Guard + Clone, P: Penalty + Clone> Tune<G, P> {
    /// Runs all phases, each by `fit`, which gets the number of elements that train.
    pub(super) fn go<M: Module>(
        &self,
        model: M,
        batches: usize,
        fit: impl Fn(&Stage<'_>, M, usize) -> Result<Done<M>, TransferError>,
    ) -> Result<Tuned<M>, TransferError> {
        // Nothing is trained before every phase is known to be possible.
        let phases = self.possible(&model, batches)?;
        let switches = Switches::of(&model);
        // A copy of its own, in training mode: clones share running statistics.
        let mut model = training_copy(&model);
        if self.fresh_head
            && let Some(first) = phases.first()
        {
            model = self.redrawn(model, &[first.plan.groups().head()], &first.plan, u64::MAX)?;
        }
        self.claim(&phases)?;
        let mut before: Option<(Plan, FusedOptimizer)> = None;
        let mut tuned: Option<Tuned<M>> = None;
        for (index, phase) in phases.iter().enumerate() {
            let anew = phase.plan.in_mode(Mode::Reinitialised);
            model = self.redrawn(model, &anew, &phase.plan, index as u64)?;
            model = phase.plan.apply(model, &switches)?;
            let trainable = phase.plan.table(&model)?.trainable();
            let plan = &phase.plan;
            let stage = Stage { index, phase, plan, before: before.as_ref(), trainable };
            let done = fit(&stage, model, trainable)?;
            before = Some((plan.clone(), done.optimizer));
            model = done.model;
            let ended = matches!(
                done.report.outcome,
                Outcome::Diverged | Outcome::Stopped | Outcome::Interrupted
            );
            let thawed = Plan::new(plan.groups().clone()).apply(model.clone(), &switches)?;
            tuned = Some(Tuned::after(tuned, thawed.valid(), done.report, &done.history));
            if ended {
                break;
            }
        }
        tuned.ok_or_else(|| TransferError::NothingToTrain { reason: "there is no phase".into() })
    }

    /// The phases on `model`, each of them known to be possible.
    pub(super) fn possible<M: Module>(
        &self,
        model: &M,
        batches: usize,
    ) -> Result<Vec<Phase>, TransferError> {
        let phases = self.phases(model)?;
        let switches = Switches::of(model);
        let copy = training_copy(model);
        for phase in &phases {
            phase.shape.schedule(phase.rate, self.steps(phase, batches))?;
            phase.plan.apply(copy.clone(), &switches)?;
        }
        Ok(phases)
    }

    /// Optimizer steps of a phase.
    fn steps(&self, phase: &Phase, batches: usize) -> u64 {
        let epoch = batches.div_ceil(self.fit.accumulation.max(1));
        let steps = (phase.epochs * epoch).max(1) as u64;
        self.fit.max_steps.map_or(steps, |max| steps.min(max.max(1)))
    }

    /// Trains what the stage's plan trains.
    pub(super) fn fit_phase<M: Learn<Batch = S::Batch>, S: Source>(
        &self,
        stage: &Stage<'_>,
        model: M,
        train: &S,
        validation: Option<&S>,
    ) -> Result<Done<M>, TransferError> {
        let phase = stage.phase;
        let steps = self.steps(phase, train.length());
        let optimizer = self.optimizer(stage, &model)?;
        let around = self.around(stage, &model, steps)?;
        let (optimizer, slot) = Carried::new(optimizer, around);
        let mut config = self.fit.clone();
        config.max_epochs = phase.epochs;
        let mut fit = Fit::new(config, optimizer)
            .schedule(phase.shape.schedule(phase.rate, steps)?)
            .guards(self.guards.clone())
            .penalty(self.penalty.clone())
            .interrupt(self.interrupt.clone());
        for masks in &self.masks {
            fit = fit.masks(masks);
        }
        if let Some(config) = &self.checkpoints {
            let mut config = config.clone();
            config.directory = config.directory.join(format!("phase-{}", stage.index + 1));
            fit = fit.checkpoints(config);
        }
        let strategy = strategy(&model);
        let fitted = fit.run(model, train, validation)?;
        let report = PhaseReport {
            name: phase.name.clone(),
            trainable: stage.trainable,
            cached: false,
            epochs: fitted.epochs,
            steps: fitted.steps,
            outcome: fitted.outcome,
            train: fitted.train,
            validation: fitted.validation,
            warnings: fitted.warnings,
        };
        let model = with_strategy(fitted.model.train(), strategy);
        let (optimizer, history) = (slot.take(), fitted.history);
        Ok(Done { model, optimizer, report, history })
    }

    /// Trains the head on features that are computed once.
    pub(super) fn head_phase<M: Headed<Batch = S::Batch>, S: Source>(
        &self,
        stage: &Stage<'_>,
        model: M,
        train: &S,
        validation: Option<&S>,
    ) -> Result<Done<M>, TransferError> {
        let first = train.read(1, 0).next().transpose().map_err(TrainError::Data)?;
        let size = first.and_then(|(_, samples)| samples).unwrap_or(32);
        let cached = |source: &S| {
            let Labelled { inputs, targets } = features(&model, source)?;
            check_classes(&targets, Some(model.head().weight.val().dims()[1]))?;
            let inputs = beside(inputs, &model.head().weight.val());
            let data = Labelled { inputs, targets };
            Ok::<_, TransferError>(TensorBatches::new(data, size, self.seed)?)
        };
        let (train, validation) = (cached(train)?, validation.map(cached).transpose()?);
        let probe = Probe { head: model.head().clone() };
        let rate = stage.plan.treatment(stage.plan.groups().head())?.rate;
        let plan = Plan::new(Groups::propose(&probe)?).with_rates(&[rate])?;
        let stage = Stage { plan: &plan, ..*stage };
        let Done { model: probe, optimizer, mut report, history } =
            self.fit_phase(&stage, probe, &train, validation.as_ref())?;
        report.cached = true;
        Ok(Done { model: model.with_head(probe.head), optimizer, report, history })
    }

    /// What is done around each step of a stage.
    fn around<M: Module>(
        &self,
        stage: &Stage<'_>,
        model: &M,
        steps: u64,
    ) -> Result<Around, TransferError> {
        // A head alone has other paths than the source.
        let own = std::ptr::eq(stage.plan, &stage.phase.plan);
        let pull = match &self.pull {
            Some((anchor, strength)) if own => {
                let strength = check::non_negative("strength", *strength)?;
                Some((anchor.clone(), strength, stage.plan.clone()))
            }
            _ => None,
        };
        let schedule: Arc<dyn Schedule> =
            stage.phase.shape.schedule(stage.phase.rate, steps)?.into();
        let momentum = match (&self.momentum, schedule.momentum(0)) {
            (Some(rule), Some(momentum)) => {
                let at_start = (rule.0)(momentum)?;
                if at_start.name() != self.rule.name() {
                    let expected = format!("{}, as the recipe has it", self.rule.name());
                    return Err(ConfigError::new("rule", at_start.name(), expected).into());
                }
                let counted = places(model).into_iter().find(|place| place.trains());
                let counted = counted.map(|place| place.path).unwrap_or_default();
                let (rule, plan) = (rule.clone(), stage.plan.clone());
                Some(Moving { rule, schedule, counted, plan })
            }
            _ => None,
        };
        Ok(Around { pull, momentum })
    }

    /// The optimizer of a stage, with what is to be kept of the state of the one before.
    fn optimizer<M: Module>(
        &self,
        stage: &Stage<'_>,
        model: &M,
    ) -> Result<FusedOptimizer, TransferError> {
        let new = stage.plan.optimizer(model, &self.rule)?;
        let Some((plan, old)) = stage.before else { return Ok(new) };
        let kept = |path: &str, trained: bool| {
            let anew = stage.phase.plan.groups().group_of(path);
            let anew = anew.is_some_and(|name| {
                stage.phase.plan.treatment(name).is_ok_and(|t| t.mode == Mode::Reinitialised)
            });
            match stage.phase.state {
                OptimizerState::Fresh => false,
                OptimizerState::Keep => !anew,
                OptimizerState::DropThawed => trained && !anew,
            }
        };
        let places = places(model);
        let dropped: Vec<_> = places
            .iter()
            .filter(|place| !kept(&place.path, plan.trains(place)))
            .map(|place| place.id)
            .collect();
        if dropped.len() == places.len() {
            return Ok(new);
        }
        // A group that is set anew forgets the state of its members.
        let old =
            old.clone().with_group("dropped", ParamGroup::from_ids(dropped), self.rule.clone());
        Ok(new.from_bytes(old.into_bytes()?, model)?)
    }

    /// Draws the groups called `names` anew.
    fn redrawn<M: Module>(
        &self,
        model: M,
        names: &[&str],
        plan: &Plan,
        phase: u64,
    ) -> Result<M, TransferError> {
        if names.is_empty() {
            return Ok(model);
        }
        let chosen =
            |path: &str| plan.groups().group_of(path).is_some_and(|group| names.contains(&group));
        redraw(model, chosen, self.scheme, self.seed.child(phase))
    }
}

impl<M> Tuned<M> {
    /// What there is after one phase more.
    fn after(before: Option<Self>, model: M, report: PhaseReport, history: &History) -> Self {
        let (mut phases, mut whole, steps) = match before {
            Some(before) => (before.phases, before.history, before.steps),
            None => (Vec::new(), History::default(), 0),
        };
        let epochs: usize = phases.iter().map(|report: &PhaseReport| report.epochs).sum();
        let number = phases.len() + 1;
        for record in &history.records {
            let mut record = record.clone().with("phase", number as f64);
            record.epoch += epochs;
            record.step += steps;
            whole.push(record);
        }
        let (outcome, train, validation) = (report.outcome, report.train, report.validation);
        let steps = steps + report.steps;
        phases.push(report);
        Self { model, phases, outcome, steps, train, validation, history: whole }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{Net, bits, data, device, dropout_on, net, net_with, recipes};
    use crate::{Recipe, Shape};
    use firebrick_core::{Seed, names};
    use firebrick_optim::{AdamWConfig, Elementwise, SgdConfig};
    use firebrick_regularize::MaskSource;
    use firebrick_train::{CheckpointConfig, FitConfig};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    fn adamw() -> Elementwise {
        AdamWConfig::new().build().expect("valid")
    }

    /// The paths whose bits differ.
    fn moved(before: &Net, after: &Net) -> Vec<String> {
        let pairs = bits(before).into_iter().zip(bits(after));
        pairs.filter(|((_, old), (_, new))| old != new).map(|((path, _), _)| path).collect()
    }

    #[test]
    fn every_recipe_learns_and_moves_only_what_it_says() {
        let train = data(&device(), 1.0);
        for recipe in recipes() {
            let source = net(&device());
            let before = bits(&source);
            let tune = Tune::new(recipe.clone(), 8, adamw()).seed(Seed(3));
            let tuned = tune.run(source.clone(), &train, Some(&train)).expect("trains");
            assert_eq!(tuned.outcome, Outcome::Finished, "{recipe}");
            let losses = tuned.history.series(names::TRAIN_LOSS);
            assert!(losses.last() < losses.first(), "{recipe}: {losses:?}");
            let moved = moved(&source, &tuned.model);
            let only = |prefix: &str| {
                assert!(
                    !moved.is_empty() && moved.iter().all(|path| path.starts_with(prefix)),
                    "{moved:?}"
                );
            };
            match &recipe {
                Recipe::HeadOnly => only("head"),
                Recipe::OneGroup { .. } => assert!(
                    moved
                        .iter()
                        .all(|path| { path.starts_with("first") || path.starts_with("norm") })
                ),
                Recipe::BitFit { .. } => assert!(moved.iter().all(|path| {
                    path.ends_with("bias")
                        || path.starts_with("head")
                        || path.contains(".gamma")
                        || path.contains(".beta")
                })),
                Recipe::LastK { .. } | Recipe::FreezeFirst { .. } => {
                    assert!(
                        !moved
                            .iter()
                            .any(|path| path.starts_with("first") || path.starts_with("norm"))
                    );
                }
                _ => assert_eq!(moved.len(), bits(&source).len(), "{recipe}: {moved:?}"),
            }
            assert_eq!(bits(&source), before, "the source stays, statistics included");
            assert!(dropout_on(&tuned.model.train()));
            assert_eq!(tuned.history.last("phase"), Some(tuned.phases.len() as f64));
            assert!(tuned.history.last(names::VALIDATION_ERROR).is_some());
            assert_eq!(tuned.steps, tuned.phases.iter().map(|phase| phase.steps).sum::<u64>());
        }
    }

    #[test]
    fn recipes_under_gradient_checkpointing_are_those_without() {
        for recipe in recipes() {
            let run = |device: &burn::tensor::Device| {
                let train = data(device, 1.0);
                let tune = Tune::new(recipe.clone(), 3, adamw()).seed(Seed(3)).fresh_head(true);
                bits(&tune.run(net(device), &train, Some(&train)).expect("trains").model)
            };
            assert_eq!(run(&device().gradient_checkpointing()), run(&device()), "{recipe}");
        }
    }

    #[test]
    fn a_run_repeats_and_its_seed_counts() {
        let train = data(&device(), 1.0);
        let run = |seed| {
            let masks = MaskSource::new(Seed(1));
            let tune = Tune::new(Recipe::Scratch, 2, adamw()).seed(Seed(seed));
            bits(&tune.run(net_with(&device(), &masks), &train, None).expect("trains").model)
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    /// Runs a recipe until `stop` steps of this process, where given.
    fn resumable(
        recipe: &Recipe,
        folder: Option<&std::path::Path>,
        stop: Option<u64>,
    ) -> Tuned<Net> {
        #[derive(Debug, Clone)]
        struct StopAt {
            flag: Arc<AtomicBool>,
            at: Option<u64>,
            taken: Arc<AtomicU64>,
        }
        impl Guard for StopAt {
            fn before_step<M: Module>(
                &mut self,
                _: &M,
                _: &mut burn::optim::GradientsParams,
                _: f64,
            ) -> firebrick_stabilize::Verdict {
                firebrick_stabilize::Verdict::Proceed
            }
            fn after_step<M: Module>(&mut self, _: &M) {
                let taken = self.taken.fetch_add(1, Ordering::Relaxed) + 1;
                self.flag.store(self.at.is_some_and(|at| taken >= at), Ordering::Relaxed);
            }
        }
        let (flag, masks) = (Arc::new(AtomicBool::new(false)), MaskSource::new(Seed(1)));
        let guard = StopAt { flag: flag.clone(), at: stop, taken: Arc::default() };
        let mut tune = Tune::new(recipe.clone(), 3, adamw())
            .seed(Seed(5))
            .guards(guard)
            .interrupt(flag)
            .fresh_head(true)
            .masks(&masks);
        if let Some(folder) = folder {
            tune = tune.checkpoints(CheckpointConfig::new(folder.to_owned()).with_resume(true));
        }
        let train = data(&device(), 1.0);
        tune.run(net_with(&device(), &masks), &train, Some(&train)).expect("trains")
    }

    #[test]
    fn a_resumed_thaw_is_the_uninterrupted_one_to_the_bit() {
        for recipe in
            [Recipe::gradual(), Recipe::lp_ft(), Recipe::Rifle { cycles: 2 }, Recipe::fine_tune()]
        {
            let whole = resumable(&recipe, None, None);
            // 6 steps an epoch: in the first phase, at its end, and in the middle of the next.
            for stop in [1, 6, 9, 17] {
                let folder = tempfile::tempdir().expect("a folder");
                let cut = resumable(&recipe, Some(folder.path()), Some(stop));
                assert_eq!((cut.outcome, cut.steps), (Outcome::Interrupted, stop), "{recipe}");
                // Once more, in the second process.
                resumable(&recipe, Some(folder.path()), Some(4));
                let resumed = resumable(&recipe, Some(folder.path()), None);
                assert_eq!(bits(&resumed.model), bits(&whole.model), "{recipe}, {stop}");
                assert_eq!(resumed.history, whole.history, "{recipe}, {stop}");
                assert_eq!((resumed.train, resumed.validation), (whole.train, whole.validation));
                assert_eq!(resumed.phases.len(), whole.phases.len());
            }
        }
    }

    #[test]
    fn the_state_of_thawed_groups_is_dropped_unless_asked_for() {
        let model = net(&device());
        let groups = Groups::propose(&model).expect("has groups");
        let first = Plan::new(groups.clone());
        let head = Plan::new(groups).with_first(2, Mode::Frozen).expect("there");
        let tune = Tune::new(Recipe::full(), 1, adamw());
        let phase = |state| {
            let plan = first.clone();
            Phase {
                state,
                ..Recipe::full().phases(plan.groups(), &model, 1, 0.1).expect("fits").remove(0)
            }
        };
        // Everything has moments, then the head alone trained, then all thaws.
        let mut old = head.optimizer(&model, &adamw()).expect("fits");
        let batch = firebrick_train::Batches::epoch(&data(&device(), 1.0), 1).next().expect("one");
        let gradients =
            burn::optim::GradientsParams::from_grads(model.loss(batch).backward(), &model);
        let model = old.step(0.1, model.clone(), gradients);
        let steps = |state| {
            let phase = phase(state);
            let before = (head.clone(), old.clone());
            let stage = Stage {
                index: 1,
                phase: &phase,
                plan: &phase.plan,
                before: Some(&before),
                trainable: 1,
            };
            let optimizer = tune.optimizer(&stage, &model).expect("fits");
            ["first.weight", "norm.gamma", "head.weight"]
                .map(|path| optimizer.steps_of(path).unwrap_or(0))
        };
        assert_eq!(steps(OptimizerState::DropThawed), [0, 0, 1]);
        assert_eq!(steps(OptimizerState::Keep), [1, 1, 1]);
        assert_eq!(steps(OptimizerState::Fresh), [0, 0, 0]);
    }

    #[test]
    fn cached_features_train_the_same_head() {
        let train = data(&device(), 1.0);
        let tune = Tune::new(Recipe::HeadOnly, 8, adamw()).seed(Seed(5));
        let plain = tune.run(net(&device()), &train, Some(&train)).expect("trains");
        let cached = tune.run_cached(net(&device()), &train, Some(&train)).expect("trains");
        assert!(!plain.phases[0].cached && cached.phases[0].cached);
        assert_eq!((plain.phases[0].trainable, cached.phases[0].trainable), (12, 12));
        assert_eq!(moved(&net(&device()), &cached.model), ["head.weight", "head.bias"]);
        // The same batches in the same order: rounding of a matrix product of other height remains.
        let weight = |net: &Net| crate::testing::values(net.head.weight.val());
        for (plain, cached) in weight(&plain.model).into_iter().zip(weight(&cached.model)) {
            assert!((plain - cached).abs() < 1e-5, "{plain} {cached}");
        }
        let both = Tune::new(Recipe::lp_ft(), 3, adamw()).run_cached(net(&device()), &train, None);
        let both = both.expect("trains");
        assert_eq!(both.phases.iter().map(|phase| phase.cached).collect::<Vec<_>>(), [true, false]);
        // A last group that is more than the head is not cached.
        let groups =
            Groups::propose(&net(&device())).expect("has").merge(&["second", "head"], "top");
        let wide = tune.groups(groups.expect("fine")).run_cached(net(&device()), &train, None);
        assert!(!wide.expect("trains").phases[0].cached);
    }

    #[test]
    fn one_class_and_classes_that_the_head_does_not_have_are_refused() {
        let whole = data(&device(), 1.0);
        let refused = |classes: Vec<i64>| {
            let inputs = whole.data().inputs.clone();
            let targets = burn::tensor::Tensor::from_data(classes.as_slice(), &device());
            let data = TensorBatches::new(Labelled { inputs, targets }, 7, Seed(5)).expect("valid");
            let tune = Tune::new(Recipe::HeadOnly, 1, adamw());
            let cached = tune.run_cached(net(&device()), &data, None).expect_err("refused");
            let solved = crate::fit_head(net(&device()), &data, |_| Ok(net(&device()).head));
            assert_eq!(solved.expect_err("refused").to_string(), cached.to_string());
            cached.to_string()
        };
        assert!(refused(vec![1; 40]).contains("every sample is of class 1"));
        let mut classes = vec![0; 40];
        classes[7] = 2;
        assert!(refused(classes).contains("class 2 is none of the head's, 0 to 1"));
    }

    #[test]
    fn a_strong_pull_keeps_the_source_and_a_moving_momentum_moves() {
        let train = data(&device(), 1.0);
        let source = net(&device());
        let anchor = crate::Anchor::of(&source).without("head").expect("there");
        let run = |strength: f64| {
            let tune = Tune::new(Recipe::full(), 4, adamw()).pull(&anchor, strength);
            let tuned = tune.run(source.clone(), &train, None).expect("trains");
            let groups = Groups::propose(&source).expect("has groups");
            crate::drift(&anchor, &tuned.model, &groups).expect("reads")[0].1
        };
        let (free, held) = (run(0.0), run(300.0));
        assert!(held < 0.5 * free, "{held} {free}");
        assert!(
            Tune::new(Recipe::full(), 1, adamw())
                .pull(&anchor, f64::NAN)
                .run(source.clone(), &train, None)
                .is_err()
        );
        let with = |moving: bool| {
            let tune = Tune::new(Recipe::fine_tune(), 2, adamw()).seed(Seed(1));
            let rule = |momentum| AdamWConfig::new().with_beta_1(momentum).build();
            let tune = if moving { tune.momentum(rule) } else { tune };
            tune.run(source.clone(), &train, None).expect("trains").train.loss()
        };
        assert_ne!(with(true), with(false));
        let sgd = |_| SgdConfig::new().build();
        let other =
            Tune::new(Recipe::fine_tune(), 1, adamw()).momentum(sgd).run(source, &train, None);
        assert!(other.is_err(), "another kind of rule");
    }

    #[test]
    fn bad_input_is_refused_before_any_work() {
        let train = data(&device(), 1.0);
        let source = net(&device());
        let before = bits(&source);
        let refused =
            |tune: Tune| tune.run(source.clone(), &train, None).expect_err("refused").to_string();
        let tune = |recipe| Tune::new(recipe, 2, adamw());
        assert_eq!(
            refused(Tune::new(Recipe::full(), 0, adamw())),
            "`epochs` must be at least 1, got 0"
        );
        assert!(refused(tune(Recipe::full()).rate(f64::NAN)).contains("`rate`"));
        assert!(refused(tune(Recipe::LastK { k: 0 })).contains("`k` must be from 1 to 3"));
        assert!(refused(tune(Recipe::freeze_first(3))).contains("`first`, `second`, `head`"));
        assert!(
            refused(tune(Recipe::OneGroup { group: Some("conv".into()) }))
                .contains("no group is called `conv`")
        );
        assert!(refused(tune(Recipe::Rifle { cycles: 3 })).contains("`cycles`"));
        assert!(refused(tune(Recipe::Adapters)).contains("no weight of the model has an adapter"));
        assert!(
            refused(tune(Recipe::full()).shape(Shape::Triangle { cut: 2.0, ratio: 1.0 }))
                .contains("`cut`")
        );
        let decay = |decay| Recipe::LayerDecay { decay, min_scale: 0.0, no_opt_scale: 0.0 };
        assert!(refused(tune(decay(f64::INFINITY))).contains("`decay`"));
        assert!(refused(tune(decay(0.0))).contains("`decay`"));
        let other = Groups::new([("body", vec!["layers"]), ("head", vec!["head"])]).expect("fine");
        assert!(refused(tune(Recipe::full()).groups(other)).contains("`layers` of group `body`"));
        let stopping = FitConfig::new(1)
            .with_early_stopping(Some(firebrick_train::EarlyStoppingConfig::new(3)));
        assert!(refused(tune(Recipe::full()).fit(stopping)).contains("early_stopping"));
        assert_eq!(bits(&source), before);
    }
}
