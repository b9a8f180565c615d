//! How a model does: over all samples, in evaluation mode.

use crate::event::Event;
use crate::running::Run;
use crate::{Fit, Learn, Measures, Optimize, Outcome, Score, Source, SourceError, TrainError};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{FloatDType, Tensor};
use firebrick_backend::checkpointing::{strategy, with_strategy};
use firebrick_core::{Record, check, names};
use firebrick_regularize::{MaskSource, Penalty, Projection};
use firebrick_stabilize::{Guard, StabilizeError, recalibrate};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// What a training reads: its samples, and those it is judged on.
pub(crate) struct Data<'a, S> {
    pub(crate) train: &'a S,
    pub(crate) validation: Option<&'a S>,
}

/// A model that was judged, with its scores.
#[derive(Debug, Clone)]
pub(crate) struct Judged<M> {
    pub(crate) model: M,
    pub(crate) epoch: usize,
    pub(crate) step: u64,
    /// [`Run::passes`] at the judgement: the model has changed since where it differs, be it in its statistics alone.
    pub(crate) passes: u64,
    pub(crate) train: Option<Score>,
    pub(crate) validation: Option<Score>,
}

/// A batch that is used once, or the first one, which is read anew each time: batches need not be clonable.
type Turn<B> = Option<Rc<Cell<Option<B>>>>;

/// The measures of one judgement.
pub(crate) struct Numbers {
    pub(crate) train: Option<Measures>,
    pub(crate) validation: Option<Measures>,
}

/// Measures `model`, which is in evaluation mode.
pub(crate) fn numbers<M: Learn<Batch = S::Batch>, S: Source>(
    model: &M,
    data: &Data<'_, S>,
    judge_training: bool,
) -> Result<Numbers, TrainError> {
    let train = if judge_training { Some(total(model, data.train)?) } else { None };
    let validation = data.validation.map(|data| total(model, data)).transpose()?;
    // Nothing to judge by would read as a model that broke.
    if let Some(measures) = &validation {
        check::at_least("validation samples", measures.score.samples, 1)?;
    }
    Ok(Numbers { train, validation })
}

pub(crate) fn total<M: Learn<Batch = S::Batch>, S: Source>(
    model: &M,
    data: &S,
) -> Result<Measures, TrainError> {
    let mut sum = Measures::default();
    #[cfg(feature = "metrics")]
    let mut meters = crate::Meters::default();
    for batch in data.read_whole() {
        let batch = batch.map_err(TrainError::Data)?;
        #[cfg(feature = "metrics")]
        let measures = model.meter(batch, &mut meters)?;
        #[cfg(not(feature = "metrics"))]
        let measures = model.measure(batch)?;
        sum = sum + measures;
    }
    #[cfg(feature = "metrics")]
    sum.whole.append(&mut meters.values()?);
    Ok(sum)
}

/// Whether every float of the model is finite, in one read from the device.
pub(crate) fn finite<M: Module>(model: &M) -> Result<bool, TrainError> {
    struct Sum(Option<Tensor<1>>);
    impl ModuleVisitor for Sum {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            // 0 times a number is 0, and NaN for NaN and infinity.
            let value = param.val().inner();
            let zero = value.mul_scalar(0.0).sum().cast(FloatDType::F32);
            self.0 = Some(match self.0.take() {
                Some(sum) => sum.clone() + zero.to_device(&sum.device()),
                None => zero,
            });
        }
    }
    let mut sum = Sum(None);
    model.visit(&mut sum);
    match sum.0 {
        Some(sum) => Ok(sum.try_into_scalar::<f32>()? == 0.0),
        None => Ok(true),
    }
}

impl<O: Optimize, G: Guard, P: Penalty, C: Projection> Fit<O, G, P, C> {
    /// The model that is judged, in evaluation mode: the average where there is one, else the slow weights of
    /// lookahead, else the point that the optimizer evaluates.
    pub(crate) fn evaluated<M, S>(
        &self,
        model: &M,
        data: &Data<'_, S>,
        run: &mut Run<M>,
    ) -> Result<M, TrainError>
    where
        M: Learn<Batch = S::Batch>,
        S: Source,
    {
        // A training that was resumed or went back has another strength, or none yet.
        self.settings.drop_as_in(run.step.saturating_sub(1))?;
        // An evaluation copy has running statistics of its own, which a clone would share.
        let Some(average) = run.average.as_ref().filter(|average| average.counts()) else {
            let model = match &run.lookahead {
                // The slow weights followed the trained ones before the constraint.
                Some(lookahead) => self.constraint.project(lookahead.slow(model), 0.0)?,
                None => self.optimizer.evaluation(model),
            };
            return Ok(model.valid());
        };
        let batches = average.recalibration();
        if batches == 0 || !run.has_buffers {
            return Ok(average.weights());
        }
        let positions = self.positions();
        // Under autodiff in the way of the batches.
        let weights = with_strategy(average.weights().train(), strategy(model));
        let measured = self.recalibrated(&weights, batches, data.train, run.epoch);
        self.seek(&positions);
        measured
    }

    /// `model` with running statistics over training batches from `epoch` on.
    fn recalibrated<M, S>(
        &self,
        model: &M,
        batches: usize,
        train: &S,
        epoch: usize,
    ) -> Result<M, TrainError>
    where
        M: Learn<Batch = S::Batch>,
        S: Source,
    {
        let positions = self.positions();
        let failed: RefCell<Option<SourceError>> = RefCell::new(None);
        let epochs = epoch..epoch.saturating_add(batches);
        let mut read = epochs.flat_map(|epoch| train.read(epoch, 0));
        let size = match read.next() {
            Some(first) => first.map_err(TrainError::Data)?.1,
            None => return Ok(model.valid()),
        };
        // Every batch counts alike, so those of another size are left out.
        let others = read
            .map_while(|batch| batch.map_err(|error| failed.replace(Some(error))).ok())
            .filter(|(_, samples)| *samples == size)
            .map(|(batch, _)| Some(Rc::new(Cell::new(Some(batch)))))
            .take(batches - 1);
        let turns = std::iter::once(None).chain(others);
        let forward = |model: &M, turn: Turn<M::Batch>| {
            let batch = match turn {
                Some(batch) => batch.take(),
                None => {
                    // It is asked for several times, and must meet the same masks each time.
                    self.seek(&positions);
                    let first = train.read(epoch, 0).next();
                    first.and_then(|first| match first {
                        Ok((batch, _)) => Some(batch),
                        Err(error) => {
                            failed.replace(Some(error));
                            None
                        }
                    })
                }
            };
            if let Some(batch) = batch {
                let _ = model.loss(batch);
            }
        };
        let measured = recalibrate(model, turns, forward);
        if let Some(error) = failed.take() {
            return Err(TrainError::Data(error));
        }
        match measured {
            Ok(model) => Ok(model),
            // Weights that broke are for the judgement to find.
            Err(StabilizeError::NotFinite { .. }) => Ok(model.valid()),
            Err(error) => Err(error.into()),
        }
    }

    /// Where the mask sources stand.
    fn positions(&self) -> Vec<u64> {
        self.settings.masks.iter().map(MaskSource::position).collect()
    }

    fn seek(&self, positions: &[u64]) {
        for (masks, position) in self.settings.masks.iter().zip(positions) {
            masks.seek(*position);
        }
    }

    /// The learning rate of step `step`, counted from 0.
    pub(crate) fn rate_of(&self, step: u64, run: &Run<impl Sized>) -> f64 {
        let reset = self.settings.momentum_reset.as_ref();
        let rising = reset.map_or(1.0, |reset| reset.rate_factor(step));
        run.rate_factor * self.settings.rate.at(step) * rising
    }

    /// Judges the model and writes the record.
    pub(crate) fn judge<M, S>(
        &mut self,
        model: &M,
        data: &Data<'_, S>,
        run: &mut Run<M>,
    ) -> Result<(), TrainError>
    where
        M: Learn<Batch = S::Batch>,
        S: Source,
    {
        run.judged_at = Some(run.step);
        let model = self.evaluated(model, data, run)?;
        let Numbers { train, validation } =
            numbers(&model, data, self.settings.config.judge_training)?;
        let mut record = Record::new(run.epoch, run.step);
        let mut add = |name: String, value: f64| record.values.insert(name, value);
        let train_loss = match &train {
            Some(measures) => {
                add(names::TRAIN_ERROR.into(), measures.score.error());
                measures.score.loss()
            }
            None => mean(&run.losses),
        };
        // Where every step of the epoch was undone there is none.
        if train.is_some() || !run.losses.is_empty() {
            add(names::TRAIN_LOSS.into(), train_loss);
        }
        if let Some(measures) = &validation {
            add(names::VALIDATION_LOSS.into(), measures.score.loss());
            add(names::VALIDATION_ERROR.into(), measures.score.error());
        }
        for (prefix, measures) in [("train", &train), ("validation", &validation)] {
            for (name, measures) in
                measures.iter().flat_map(|all| all.sums.keys().map(move |name| (name, all)))
            {
                add(format!("{prefix}_{name}"), measures.mean(name).unwrap_or(f64::NAN));
            }
            for (name, value) in measures.iter().flat_map(|all| &all.whole) {
                add(format!("{prefix}_{name}"), *value);
            }
        }
        if !run.penalties.is_empty() {
            add(names::PENALTY.into(), mean(&run.penalties));
        }
        let rate = self.rate_of(run.step.saturating_sub(1), run);
        self.note(&mut record, rate, run);
        self.write(run, record.clone())?;

        let healthy = finite(&model)?;
        if healthy {
            self.settings.rate.observe(&record)?;
        }
        let verdict = match (&mut run.stopping, &validation) {
            (Some(rule), Some(measures)) if healthy => {
                Some(rule.judge_both(run.epoch, measures.score.loss(), train_loss))
            }
            _ => None,
        };
        let best = healthy && verdict.is_none_or(|verdict| verdict.improved);
        if best || run.best.is_none() {
            run.best = Some(Judged {
                model,
                epoch: run.epoch,
                step: run.step,
                passes: run.passes,
                train: train.map(|measures| measures.score),
                validation: validation.map(|measures| measures.score),
            });
        }
        if !healthy {
            run.end(Outcome::Diverged);
        } else if verdict.is_some_and(|verdict| verdict.stop) {
            run.end(Outcome::EarlyStopped);
        }
        self.tell(&Event::Judged { record: &record, best }, run);
        Ok(())
    }
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
