//! A floor under what a model keeps of its source task: when it is tuned, or while it is.
//!
//! # Rule
//! ```text
//! w = (1 - a) w0 + a w1     for a = 1, 1 - 1/n, 1 - 2/n, ..., 0, until score(w) >= floor
//! ```
//! # Reference
//! M. Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022 (the weights between).

use crate::TransferError;
use crate::near::{Anchor, wise_ft};
use burn::config::Config;
use burn::module::Module;
use burn::optim::GradientsParams;
use firebrick_core::{ConfigError, Record, check};
use firebrick_stabilize::{Guard, GuardStateError, Verdict};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A model that keeps enough of its source task.
#[derive(Debug)]
#[non_exhaustive]
pub struct Held<M> {
    /// The model.
    pub model: M,
    /// How far it lies from the source to the tuned model: 1 is the tuned one itself.
    pub alpha: f64,
    /// Its score on the source data.
    pub score: f64,
}

/// The model nearest to `tuned` on the way from `source` (WiSE-FT) whose score on source data, by `judge`, is at least
/// `floor`; tried in `steps` equal steps from the tuned model on.
///
/// For after each phase, or at the end; [`FloorGuard`] does it within a phase.
///
/// # Errors
/// When not even the source reaches the floor, `judge` fails or gives NaN, or as [`wise_ft`].
pub fn hold_floor<M: Module>(
    source: &Anchor,
    tuned: M,
    floor: f64,
    steps: usize,
    mut judge: impl FnMut(&M) -> Result<f64, TransferError>,
) -> Result<Held<M>, TransferError> {
    check::finite("floor", floor)?;
    check::at_least("steps", steps, 1)?;
    let mut last = f64::NAN;
    for step in 0..=steps {
        let alpha = 1.0 - step as f64 / steps as f64;
        let model = wise_ft(source, tuned.clone(), alpha)?;
        let score = judge(&model)?;
        if score.is_nan() {
            return Err(TransferError::NotFinite { what: "the score".into(), value: score });
        }
        if score >= floor {
            return Ok(Held { model, alpha, score });
        }
        last = score;
    }
    let expected = format!("at most {last}, what the source itself scores");
    Err(ConfigError::new("floor", floor, expected).into())
}

/// Configuration of [`FloorGuard`].
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `floor` | required | at most what the source itself scores |
/// | `every` | required | at least 1 |
/// | `steps` | 10 | at least 1 |
#[derive(Config, Debug)]
pub struct FloorConfig {
    /// The score on source data that the model must keep.
    pub floor: f64,
    /// After every how many steps it is judged; those of an epoch for the ends of epochs.
    pub every: usize,
    /// In how many equal steps the way to the source is tried.
    #[config(default = 10)]
    pub steps: usize,
}

impl FloorConfig {
    /// The guard that holds models of the kind of `source` to the floor by `judge`, which gets them in evaluation mode,
    /// on the device without autodiff.
    ///
    /// # Errors
    /// When a value is out of range, the source itself does not reach the floor or cannot be judged, or has adapters.
    ///
    /// ```
    /// use burn::module::Module;
    /// use burn::nn::LinearConfig;
    /// use burn::tensor::{Device, Distribution, Tensor};
    /// use firebrick_optim::AdamWConfig;
    /// use firebrick_train::Score;
    /// use firebrick_transfer::{FloorConfig, Recipe, Tune};
    ///
    /// let device = Device::flex();
    /// let source = LinearConfig::new(4, 3).init(&device.clone().autodiff());
    /// // Stands for held-out data of the source task.
    /// let inputs = Tensor::<2>::random([50, 4], Distribution::Default, &device);
    /// let classes = source.valid().forward(inputs.clone()).argmax(1).squeeze_dim::<1>(1);
    ///
    /// let guard = FloorConfig::new(0.9, 20).init(&source, move |model| {
    ///     let score = Score::classification(model.forward(inputs.clone()), classes.clone())?;
    ///     Ok(1.0 - score.error())
    /// })?;
    /// let tune = Tune::new(Recipe::full(), 5, AdamWConfig::new().build()?).guards(guard);
    /// # let _ = tune;
    /// # Ok::<(), firebrick_transfer::TransferError>(())
    /// ```
    pub fn init<S: Module>(
        &self,
        source: &S,
        mut judge: impl FnMut(&S) -> Result<f64, TransferError> + Send + 'static,
    ) -> Result<FloorGuard<S>, TransferError> {
        check::at_least("every", self.every, 1)?;
        check::at_least("steps", self.steps, 1)?;
        // A copy of its own: clones share running statistics.
        let (anchor, copy) = (Anchor::of(source), source.valid());
        hold_floor(&anchor, copy.clone(), self.floor, 1, &mut judge)?;
        let (config, judge) = (self.clone(), Arc::new(Mutex::new(judge)));
        Ok(FloorGuard { config, anchor, copy, judge, seen: Record::default(), due: false })
    }
}

type Judge<S> = dyn FnMut(&S) -> Result<f64, TransferError> + Send;

/// Holds a model to its floor while it trains, as [`hold_floor`] does: where it is judged and scores below, it goes
/// back towards the source as far as it must, and trains on from there. One that stays above trains as without.
///
/// Put it first in a chain, so that it counts every step, also those that are skipped. It holds the weights that are
/// trained, not an average of them. Each record of the history has the last `source_score`, and as `source_alpha` how
/// far on the way from the source to the trained weights that was: 1 is all the way. Where the model cannot be judged,
/// or the source's weights score below the floor too under the running statistics of now, `source_score` is NaN and
/// the next step ends the training.
///
/// In [`Tune`](crate::Tune) it counts anew in each phase. Not for [`run_cached`](crate::Tune::run_cached), which trains
/// heads apart from their model.
#[derive(Clone)]
pub struct FloorGuard<S> {
    config: FloorConfig,
    anchor: Anchor,
    /// Takes the weights to be judged: a guard meets models whose type it does not know.
    copy: S,
    judge: Arc<Mutex<Judge<S>>>,
    /// How many steps began, and what was measured last.
    seen: Record,
    /// Whether the model is to be judged once a step is taken.
    due: bool,
}

impl<S> fmt::Debug for FloorGuard<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FloorGuard")
            .field("config", &self.config)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

impl<S: Module> FloorGuard<S> {
    fn held<M: Module>(&self, model: &M) -> Result<Held<M>, TransferError> {
        let mut judge = self.judge.lock().unwrap_or_else(PoisonError::into_inner);
        let judge = &mut *judge;
        let FloorConfig { floor, steps, .. } = self.config;
        hold_floor(&self.anchor, model.clone(), floor, steps, |model| {
            let copy = self.copy.valid().try_load_record(model.valid().into_record());
            let expected = "the kind of model that the floor was made for";
            judge(&copy.map_err(|error| ConfigError::new("model", error, expected))?)
        })
    }
}

impl<S: Module> Guard for FloorGuard<S> {
    fn before_step<M: Module>(&mut self, _: &M, _: &mut GradientsParams, _: f64) -> Verdict {
        if self.seen.get(SCORE).is_some_and(f64::is_nan) {
            return Verdict::Stop;
        }
        self.seen.step += 1;
        self.due |= self.seen.step.is_multiple_of(self.config.every as u64);
        Verdict::Proceed
    }

    fn revise<M: Module>(&mut self, model: M) -> M {
        if !std::mem::take(&mut self.due) {
            return model;
        }
        let (score, alpha, model) = match self.held(&model) {
            // To the bit, and with what else the model has.
            Ok(held) if held.alpha == 1.0 => (held.score, 1.0, model),
            Ok(held) => (held.score, held.alpha, held.model),
            Err(_) => (f64::NAN, f64::NAN, model),
        };
        self.seen.values.insert(SCORE.into(), score);
        self.seen.values.insert(ALPHA.into(), alpha);
        model
    }

    fn record(&self, record: &mut Record) {
        record.values.extend(self.seen.values.clone());
    }

    fn state(&self) -> Result<Vec<u8>, GuardStateError> {
        let memory = (format!("{:?}", self.config), &self.seen, self.due);
        serde_json::to_vec(&memory).map_err(GuardStateError::new)
    }

    fn take_over<M: Module>(&mut self, state: &[u8], _: &M) -> Result<(), GuardStateError> {
        let (saved, seen, due): (String, Record, bool) =
            serde_json::from_slice(state).map_err(GuardStateError::new)?;
        let now = format!("{:?}", self.config);
        if saved != now {
            return Err(GuardStateError::new(format!("it is that of {saved}, not of {now}")));
        }
        (self.seen, self.due) = (seen, due);
        Ok(())
    }
}

/// The names of what goes into the history.
const SCORE: &str = "source_score";
const ALPHA: &str = "source_alpha";

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{Net, data, device, net, values};
    use crate::{Recipe, Tune};
    use burn::module::Param;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::{Device, Tensor, TensorReadError};
    use firebrick_core::Seed;
    use firebrick_optim::{AdamWConfig, SgdConfig};
    use firebrick_train::{Fit, FitConfig, Fitted, Labelled, Learn, Outcome, Score, TensorBatches};

    #[test]
    fn a_floor_mixes_no_more_of_the_source_in_than_it_must() {
        let device = Device::flex();
        let one = |value: f32| {
            let mut linear = burn::nn::LinearConfig::new(1, 1).with_bias(false).init(&device);
            linear.weight = Param::from_tensor(Tensor::from_floats([[value]], &device));
            linear
        };
        let source = Anchor::of(&one(0.0));
        // The score falls from 1 at the source to 0 at the tuned model.
        let judge = |model: &burn::nn::Linear| Ok(1.0 - values(model.weight.val())[0]);
        let hold = |floor| hold_floor(&source, one(1.0), floor, 10, judge);
        assert_eq!(hold(0.0).expect("holds").alpha, 1.0);
        let held = hold(0.65).expect("holds");
        assert!((held.alpha - 0.3).abs() < 1e-9 && held.score >= 0.65);
        assert_eq!(hold(1.0).expect("holds").alpha, 0.0);
        assert!(hold(1.5).expect_err("refused").to_string().contains("at most 1"));
        assert!(hold(f64::NAN).is_err());
        assert!(hold_floor(&source, one(1.0), 0.5, 0, judge).is_err());
    }

    /// One weight, which a step at rate r raises by r.
    #[derive(Module, Debug)]
    struct Rising {
        layer: Linear,
    }

    impl Learn for Rising {
        type Batch = Labelled<2>;

        fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
            self.layer.forward(batch.inputs).mean().neg()
        }

        fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
            Score::classification(self.layer.forward(batch.inputs), batch.targets)
        }
    }

    fn rising(value: f32) -> Rising {
        let mut layer = LinearConfig::new(1, 1).with_bias(false).init(&device());
        layer.weight = Param::from_tensor(Tensor::from_floats([[value]], &device()));
        Rising { layer }
    }

    fn weight(model: &Rising) -> f64 {
        values(model.layer.weight.val())[0]
    }

    /// Two epochs of two steps at rate 1/4.
    fn trained(guard: FloorGuard<Rising>) -> Fitted<Rising> {
        let inputs = Tensor::ones([4, 1], &device());
        let targets = Tensor::zeros([4], &device());
        let data = TensorBatches::new(Labelled { inputs, targets }, 2, Seed(1)).expect("valid");
        Fit::new(FitConfig::new(2).with_progress(false), SgdConfig::new().fused().expect("valid"))
            .rate(|_| 0.25)
            .guards((guard,))
            .run(rising(0.0), &data, None)
            .expect("trains")
    }

    /// Scores 1 at the source, and less by as much as the weight rises.
    fn falling(model: &Rising) -> Result<f64, TransferError> {
        Ok(1.0 - weight(model))
    }

    #[test]
    fn a_floor_holds_at_the_ends_of_epochs() {
        let config = FloorConfig::new(0.6, 2).with_steps(4);
        let fitted = trained(config.init(&rising(0.0), falling).expect("valid"));
        // 0, 1/4, 1/2, of which 3/4 are left: 3/8. Then 5/8, 7/8, of which 1/4 is left: 7/32.
        assert_eq!(fitted.history.series(ALPHA), [0.75, 0.25]);
        assert_eq!(fitted.history.series(SCORE), [0.625, 0.78125]);
        assert_eq!((weight(&fitted.model), fitted.outcome), (0.21875, Outcome::Finished));
        let deep = FloorConfig::new(-1.0, 2).init(&rising(0.0), falling).expect("valid");
        let fitted = trained(deep);
        assert_eq!(fitted.history.series(ALPHA), [1.0, 1.0]);
        assert_eq!(weight(&fitted.model), 1.0);
    }

    #[test]
    fn what_cannot_be_judged_ends_the_training() {
        let mut calls = 0;
        let judge = move |_: &Rising| {
            calls += 1;
            Ok(if calls == 1 { 1.0 } else { f64::NAN })
        };
        let fitted = trained(FloorConfig::new(0.5, 2).init(&rising(0.0), judge).expect("valid"));
        assert_eq!((fitted.outcome, fitted.steps), (Outcome::Stopped, 2));
        assert!(fitted.history.last(SCORE).expect("recorded").is_nan());
        // A model of another kind.
        let mut guard = FloorConfig::new(0.5, 1).init(&rising(0.0), falling).expect("valid");
        let other = net(&device());
        let verdict = |guard: &mut FloorGuard<Rising>| {
            guard.before_step(&other, &mut GradientsParams::new(), 0.0)
        };
        assert_eq!(verdict(&mut guard), Verdict::Proceed);
        drop(guard.revise(other.clone()));
        assert_eq!(verdict(&mut guard), Verdict::Stop);
    }

    #[test]
    fn a_bad_floor_is_refused_before_any_work() {
        let refused = |config: FloorConfig| {
            config.init(&rising(0.0), falling).expect_err("refused").to_string()
        };
        assert!(refused(FloorConfig::new(1.5, 2)).contains("at most 1, what the source itself"));
        assert!(refused(FloorConfig::new(f64::NAN, 2)).contains("`floor`"));
        assert_eq!(refused(FloorConfig::new(0.5, 0)), "`every` must be at least 1, got 0");
        let none = FloorConfig::new(0.5, 1).with_steps(0);
        assert_eq!(refused(none), "`steps` must be at least 1, got 0");
    }

    #[test]
    fn the_state_goes_on_between_two_judgements() {
        let config = FloorConfig::new(0.6, 2).with_steps(4);
        let guard = |config: &FloorConfig| config.init(&rising(0.0), falling).expect("valid");
        let step = |guard: &mut FloorGuard<Rising>, value: f32| {
            let model = rising(value);
            let verdict = guard.before_step(&model, &mut GradientsParams::new(), 0.0);
            assert_eq!(verdict, Verdict::Proceed);
            weight(&guard.revise(model))
        };
        let (mut first, mut second) = (guard(&config), guard(&config));
        assert_eq!(step(&mut first, 0.5), 0.5);
        second.take_over(&first.state().expect("writes"), &rising(0.5)).expect("fits");
        assert_eq!(step(&mut second, 0.5), 0.375);
        let state = second.state().expect("writes");
        let mut other = guard(&config.clone().with_steps(5));
        let error = other.take_over(&state, &rising(0.5)).expect_err("refused").to_string();
        assert!(error.contains("steps: 4") && error.contains("steps: 5"), "{error}");
        assert!(other.take_over(&[], &rising(0.5)).is_err());
    }

    #[test]
    fn a_phase_of_a_recipe_keeps_its_floor() {
        let train = data(&device(), 1.0);
        let tune = Tune::new(Recipe::full(), 4, AdamWConfig::new().build().expect("valid"));
        let free = tune.run(net(&device()), &train, None).expect("trains").model;
        let start = values(net(&device()).first.weight.val());
        let moved = move |model: &Net| {
            let now = values(model.first.weight.val());
            now.iter().zip(&start).map(|(now, start)| (now - start).abs()).sum::<f64>()
        };
        let (far, judge) = (moved(&free), moved.clone());
        // 6 steps an epoch.
        let guard = FloorConfig::new(-0.5 * far, 6)
            .init(&net(&device()), move |model| Ok(-judge(model)))
            .expect("valid");
        let held = tune.guards(guard).run(net(&device()), &train, None).expect("trains");
        let near = moved(&held.model);
        assert!(near > 0.0 && near <= 0.5 * far, "{near} {far}");
        assert!(held.history.series(ALPHA).iter().any(|alpha| *alpha < 1.0));
    }
}
