//! PyTorch's schedulers by their class names in lower case, with PyTorch's keywords, defaults and values.
//!
//! The rates are those of torch 2.15 where its documentation defines them, computed in closed form. That includes what the
//! schedules of this crate do otherwise: the cosine climbs again after `T_max`, `constantlr` and `linearlr` are factors, the
//! plateau's relative threshold is wrong at negative metrics, an infinite metric can be its best, and a one-cycle
//! with `pct_start` 0 starts below its peak.
//!
//! torch multiplies most of its rates along and so drifts: past `T_max` the cosine by up to 1e-12 (1 + n / 1000) of its
//! largest rate over n updates (periods of 7 to 10,000, as many as 30,000 updates), before it and in all others by no
//! more than 2e-14 (1600 random cases). What torch answers with an exception (a period of 0,
//! one-cycle phases without length, steps past its end) is an error or defined as in [`OneCycle`](super::OneCycle).

use super::keywords::Keywords;
use super::plateau::{PlateauConfig, PlateauMode, PlateauThreshold};
use super::{
    AfterEnd, Anneal, ConstantConfig, Cosine, CyclicConfig, CyclicMode, Exponential, MultiStep,
    NamedSchedule, OneCycleConfig, Plateau, Polynomial, Product, Schedule, ScheduleError, Step,
    WarmRestarts,
};
use firebrick_core::{ConfigError, check};
use serde_json::{Value, json};

type Build = fn(f64, &mut Keywords) -> Result<NamedSchedule, ScheduleError>;

const CARDS: &[(&str, Build)] = &[
    ("chainedscheduler", chained),
    ("constantlr", constant),
    ("cosineannealinglr", cosine),
    ("cosineannealingwarmrestarts", warm_restarts),
    ("cycliclr", cyclic),
    ("exponentiallr", exponential),
    ("linearlr", linear),
    ("multisteplr", multi_step),
    ("onecyclelr", one_cycle),
    ("polynomiallr", polynomial),
    ("reducelronplateau", plateau),
    ("sequentiallr", sequential),
    ("steplr", step),
];

/// The names that [`create_torch`] knows.
#[must_use]
pub fn torch_names() -> Vec<&'static str> {
    CARDS.iter().map(|card| card.0).collect()
}

/// Makes PyTorch's scheduler `name` for an optimizer with the rate `lr`.
///
/// `sequentiallr` and `chainedscheduler` take their children as `{"name": .., "hyper": {..}}` in `schedulers`.
///
/// # Errors
/// When the name or a keyword is unknown, a keyword is missing, or a value is of the wrong kind or out of range.
///
/// ```
/// use firebrick_optim::schedule::create_torch;
/// let schedule = create_torch("steplr", 0.1, &serde_json::json!({"step_size": 30}))?;
/// assert_eq!(schedule.function().map(|steps| steps.rate(30)), Some(0.1 * 0.1));
/// let typo = create_torch("steplr", 0.1, &serde_json::json!({"step_size": 30, "gama": 0.5}));
/// assert!(typo.is_err_and(|e| e.to_string().contains("no `gama`; it takes step_size, gamma")));
/// # Ok::<(), firebrick_optim::schedule::ScheduleError>(())
/// ```
pub fn create_torch(name: &str, lr: f64, hyper: &Value) -> Result<NamedSchedule, ScheduleError> {
    let card = CARDS.iter().find(|card| card.0 == name);
    let Some(&(name, build)) = card else {
        return Err(ScheduleError::UnknownName { name: name.into(), known: torch_names() });
    };
    check::non_negative("lr", lr)?;
    let mut keywords = Keywords::new(name, hyper)?;
    let schedule = build(lr, &mut keywords)?;
    keywords.only("last_epoch", &json!(-1))?;
    // It never changed a rate; older versions wrote "deprecated".
    keywords.take("verbose");
    keywords.finish()?;
    Ok(schedule)
}

fn function(schedule: impl Schedule + 'static) -> Result<NamedSchedule, ScheduleError> {
    Ok(NamedSchedule::Function(Box::new(schedule)))
}

fn at_least_one(field: &str, value: u64) -> Result<u64, ConfigError> {
    if value == 0 { Err(ConfigError::new(field, value, "at least 1")) } else { Ok(value) }
}

fn step(lr: f64, words: &mut Keywords) -> Result<NamedSchedule, ScheduleError> {
    let step_size = at_least_one("step_size", words.whole("step_size", None)?)?;
    let gamma = check::non_negative("gamma", words.real("gamma", Some(0.1))?)?;
    function(Step { initial_lr: lr, step_size, gamma })
}

fn multi_step(lr: f64, words: &mut Keywords) -> Result<NamedSchedule, ScheduleError> {
    let mut milestones = words.wholes("milestones")?;
    milestones.sort_unstable();
    let gamma = check::non_negative("gamma", words.real("gamma", Some(0.1))?)?;
    function(MultiStep { initial_lr: lr, milestones, gamma })
}

fn exponential(lr: f64, words: &mut Keywords) -> Result<NamedSchedule, ScheduleError> {
    let gamma = check::non_negative("gamma", words.real("gamma", None)?)?;
    function(Exponential { initial_lr: lr, gamma, min_lr: 0.0 })
}

fn polynomial(lr: f64, words: &mut Keywords) -> Result<NamedSchedule, ScheduleError> {
    let num_steps = words.whole("total_iters", Some(5))?;
    let power = check::non_negative("power", words.real("power", Some(1.0))?)?;
    if num_steps == 0 {
        return function(Factor { lr, start: 1.0, end: 1.0, after: 1.0, steps: 0 });
    }
    function(Polynomial { initial_lr: lr, num_steps, power, min_lr: 0.0 })
}

fn cosine(lr: f64, words: &mut Keywords) -> Result<NamedSchedule, ScheduleError> {
    let num_steps = at_least_one("T_max", words.whole("T_max", None)?)?;
    let min_lr = check::non_negative("eta_min", words.real("eta_min", Some(0.0))?)?;
    function(Cosine { initial_lr: lr, num_steps, min_lr, after_end: AfterEnd::Mirror })
}

fn warm_restarts(lr: f64, words: &mut Keywords) -> Result<NamedSchedule, ScheduleError> {
    let first_period = at_least_one("T_0", words.whole("T_0", None)?)?;
    let multiplier = at_least_one("T_mult", words.whole("T_mult", Some(1))?)?;
    let min_lr = check::non_negative("eta_min", words.real("eta_min", Some(0.0))?)?;
    function(WarmRestarts { initial_lr: lr, first_period, multiplier, min_lr, cycle_decay: 1.0 })
}

fn one_cycle(_lr: f64, words: &mut Keywords) -> Result<NamedSchedule, ScheduleError> {
    let max_lr = check::non_negative("max_lr", words.real("max_lr", None)?)?;
    let (total, epochs, per_epoch) = (
        words.whole_if_given("total_steps")?,
        words.whole_if_given("epochs")?,
        words.whole_if_given("steps_per_epoch")?,
    );
    let steps = total.or_else(|| epochs?.checked_mul(per_epoch?));
    let steps = steps.ok_or_else(|| ScheduleError::MissingKeyword {
        schedule: "onecyclelr".into(),
        keyword: "total_steps (or epochs and steps_per_epoch)".into(),
    })?;
    let steps = at_least_one("total_steps", steps)?;
    let pct_start = check::range("pct_start", words.real("pct_start", Some(0.3))?, 0.0..=1.0)?;
    let anneal =
        words.word("anneal_strategy", &[("cos", Anneal::Cosine), ("linear", Anneal::Linear)])?;
    words.flag("cycle_momentum", true)?;
    let config = OneCycleConfig::new(max_lr, steps as usize)
        .with_anneal(anneal)
        .with_base_momentum(words.real("base_momentum", Some(0.85))?)
        .with_max_momentum(words.real("max_momentum", Some(0.95))?)
        .with_div_factor(check::positive("div_factor", words.real("div_factor", Some(25.0))?)?)
        .with_final_div_factor(check::positive(
            "final_div_factor",
            words.real("final_div_factor", Some(1e4))?,
        )?)
        .with_three_phase(words.flag("three_phase", false)?);
    function(config.with_peak_at(pct_start * steps as f64 - 1.0, steps))
}

fn cyclic(_lr: f64, words: &mut Keywords) -> Result<NamedSchedule, ScheduleError> {
    let base = check::non_negative("base_lr", words.real("base_lr", None)?)?;
    let max = check::non_negative("max_lr", words.real("max_lr", None)?)?;
    let up = at_least_one("step_size_up", words.whole("step_size_up", Some(2000))?)?;
    let down = words.whole_if_given("step_size_down")?;
    let mode = words.word(
        "mode",
        &[
            ("triangular", CyclicMode::Triangular),
            ("triangular2", CyclicMode::Triangular2),
            ("exp_range", CyclicMode::ExpRange),
        ],
    )?;
    let gamma = check::non_negative("gamma", words.real("gamma", Some(1.0))?)?;
    words.only("scale_fn", &Value::Null)?;
    // Only a custom scale function reads it.
    words.word("scale_mode", &[("cycle", ()), ("iterations", ())])?;
    words.flag("cycle_momentum", true)?;
    let config = CyclicConfig::new(base, max)
        .with_step_size_up(up as usize)
        .with_step_size_down(down.map(|down| down as usize))
        .with_mode(mode)
        .with_gamma(gamma)
        .with_base_momentum(words.real("base_momentum", Some(0.8))?)
        .with_max_momentum(words.real("max_momentum", Some(0.9))?);
    function(config.unchecked())
}

/// `lr f(k)`, where the factor runs from `start` to `end` until update `steps`.
#[derive(Debug, Clone)]
struct Factor {
    lr: f64,
    start: f64,
    end: f64,
    after: f64,
    steps: u64,
}

impl Schedule for Factor {
    fn rate(&self, k: u64) -> f64 {
        if self.steps > 0 && k >= self.steps {
            return self.lr * self.after;
        }
        let share = if self.steps == 0 { 0.0 } else { k as f64 / self.steps as f64 };
        self.lr * (self.start + (self.end - self.start) * share)
    }
}

fn constant(lr: f64, words: &mut Keywords) -> Result<NamedSchedule, ScheduleError> {
    let factor = check::range("factor", words.real("factor", Some(1.0 / 3.0))?, 0.0..=1.0)?;
    let steps = words.whole("total_iters", Some(5))?;
    function(Factor { lr, start: factor, end: factor, after: 1.0, steps })
}

fn linear(lr: f64, words: &mut Keywords) -> Result<NamedSchedule, ScheduleError> {
    use std::ops::Bound::{Excluded, Included};
    let start = words.real("start_factor", Some(1.0 / 3.0))?;
    let start = check::range("start_factor", start, (Excluded(0.0), Included(1.0)))?;
    let end = check::range("end_factor", words.real("end_factor", Some(1.0))?, 0.0..=1.0)?;
    let steps = words.whole("total_iters", Some(5))?;
    function(Factor { lr, start, end, after: end, steps })
}

fn plateau(lr: f64, words: &mut Keywords) -> Result<NamedSchedule, ScheduleError> {
    let mode = words.word("mode", &[("min", PlateauMode::Min), ("max", PlateauMode::Max)])?;
    let factor = check::range("factor", words.real("factor", Some(0.1))?, 0.0..1.0)?;
    let patience = words.whole("patience", Some(10))?;
    let threshold = check::non_negative("threshold", words.real("threshold", Some(1e-4))?)?;
    let relative = PlateauThreshold::RelativeTorch;
    let rule =
        words.word("threshold_mode", &[("rel", relative), ("abs", PlateauThreshold::Absolute)])?;
    let cooldown = words.whole("cooldown", Some(0))?;
    let min_lr = check::non_negative("min_lr", words.real("min_lr", Some(0.0))?)?;
    let min_change = check::non_negative("eps", words.real("eps", Some(1e-8))?)?;
    let config = PlateauConfig::new(lr)
        .with_mode(mode)
        .with_factor(factor)
        .with_patience(patience as usize)
        .with_threshold(threshold)
        .with_threshold_rule(rule)
        .with_cooldown(cooldown as usize)
        .with_min_lr(min_lr)
        .with_min_change(min_change);
    Ok(NamedSchedule::Plateau(Plateau::of_torch(config)))
}

fn children(
    lr: f64,
    words: &mut Keywords,
    name: &'static str,
) -> Result<Vec<Box<dyn Schedule>>, ScheduleError> {
    let list = words.list("schedulers")?;
    list.iter()
        .map(|child| super::registry::child(name, child, |n, h| create_torch(n, lr, h)))
        .collect()
}

fn sequential(lr: f64, words: &mut Keywords) -> Result<NamedSchedule, ScheduleError> {
    let schedules = children(lr, words, "sequentiallr")?;
    super::registry::join(schedules, words.wholes("milestones")?, "sequentiallr").and_then(function)
}

/// Each child multiplies the rate in place, so only those that are factors of it can be chained.
fn chained(lr: f64, words: &mut Keywords) -> Result<NamedSchedule, ScheduleError> {
    const FACTORS: [&str; 6] =
        ["constantlr", "exponentiallr", "linearlr", "multisteplr", "polynomiallr", "steplr"];
    let list = words.list("schedulers")?;
    let mut product = Product::new(ConstantConfig::new(lr).build()?);
    for child in &list {
        let factor = super::registry::child("chainedscheduler", child, |name, hyper| {
            if FACTORS.contains(&name) {
                create_torch(name, 1.0, hyper)
            } else {
                Err(ScheduleError::UnknownName { name: name.into(), known: FACTORS.to_vec() })
            }
        })?;
        product = product.times(factor);
    }
    function(product)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::refused;

    fn rates(name: &str, lr: f64, hyper: Value, steps: u64) -> Vec<f64> {
        let schedule = create_torch(name, lr, &hyper).expect("valid");
        let function = schedule.function().expect("no plateau");
        (0..steps).map(|k| function.rate(k)).collect()
    }

    #[test]
    fn documented_examples() {
        // The tables in the documentation of torch's classes.
        let constant = rates("constantlr", 0.5, json!({"factor": 0.5, "total_iters": 4}), 5);
        assert_eq!(constant, [0.25, 0.25, 0.25, 0.25, 0.5]);
        let linear = rates("linearlr", 0.05, json!({"start_factor": 0.5, "total_iters": 4}), 5);
        let expected = [0.025, 0.03125, 0.0375, 0.04375, 0.05];
        assert!(linear.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-16), "{linear:?}");
        let polynomial = rates("polynomiallr", 0.05, json!({"total_iters": 4}), 6);
        let expected = [0.05, 0.0375, 0.025, 0.0125, 0.0, 0.0];
        assert!(polynomial.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-16));
    }

    #[test]
    fn a_polynomial_of_no_steps_stays_at_its_rate() {
        // torch 2.15's `PolynomialLR(optimizer, total_iters=0, power=2.0)` leaves the rate alone.
        let hyper = json!({"total_iters": 0, "power": 2.0});
        assert_eq!(rates("polynomiallr", 0.3, hyper, 6), [0.3; 6]);
    }

    /// torch 2.15's `ReduceLROnPlateau` told these metrics: infinity in the better direction is the best there can be.
    #[test]
    fn an_infinite_metric_is_the_best_and_nan_is_not() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        let path = |mode: &str, threshold: &str, metrics: &[f64]| {
            let hyper =
                json!({"mode": mode, "threshold_mode": threshold, "factor": 0.5, "patience": 0});
            let schedule = create_torch("reducelronplateau", 1.0, &hyper).expect("valid");
            let NamedSchedule::Plateau(mut plateau) = schedule else { panic!("a plateau") };
            let rates: Vec<f64> = metrics.iter().map(|&metric| plateau.observe(metric)).collect();
            (rates, plateau.best())
        };
        for threshold in ["rel", "abs"] {
            let metrics = [3.0, -inf, 2.0, 1.0, inf, nan, -inf];
            let rates = vec![1.0, 1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125];
            assert_eq!(path("min", threshold, &metrics), (rates, Some(-inf)), "{threshold}");
            let rates = vec![1.0, 0.5, 0.25, 0.125, 0.125, 0.0625, 0.03125];
            assert_eq!(path("max", threshold, &metrics), (rates, Some(inf)), "{threshold}");
            let metrics = [inf, 3.0, inf, 2.0, 4.0];
            let rates = vec![0.5, 0.5, 0.25, 0.25, 0.125];
            assert_eq!(path("min", threshold, &metrics), (rates, Some(2.0)), "{threshold}");
            let rates = vec![1.0, 0.5, 0.25, 0.125, 0.0625];
            assert_eq!(path("max", threshold, &metrics), (rates, Some(inf)), "{threshold}");
            assert_eq!(path("min", threshold, &[nan]), (vec![0.5], None), "{threshold}");
        }
    }

    #[test]
    fn nests() {
        let hyper = json!({"milestones": [2], "schedulers": [
            {"name": "constantlr", "hyper": {"factor": 0.1, "total_iters": 2}},
            {"name": "exponentiallr", "hyper": {"gamma": 0.5}}]});
        assert_eq!(rates("sequentiallr", 1.0, hyper, 5), [0.1, 0.1, 1.0, 0.5, 0.25]);
        let hyper = json!({"schedulers": [
            {"name": "steplr", "hyper": {"step_size": 2, "gamma": 0.5}},
            {"name": "exponentiallr", "hyper": {"gamma": 0.5}}]});
        assert_eq!(rates("chainedscheduler", 8.0, hyper, 4), [8.0, 4.0, 1.0, 0.5]);
        let cosine = json!({"schedulers": [{"name": "cosineannealinglr", "hyper": {"T_max": 3}}]});
        assert!(
            refused(create_torch("chainedscheduler", 1.0, &cosine)).contains("cosineannealinglr")
        );
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            ("lambdalr", json!({}), "no schedule is called `lambdalr`; there are chainedscheduler"),
            ("steplr", json!({}), "`steplr` needs `step_size`"),
            ("steplr", json!({"step_size": 0}), "`step_size` must be at least 1, got 0"),
            (
                "steplr",
                json!({"step_size": 2, "last_epoch": 4}),
                "`last_epoch` of `steplr` must be left at -1",
            ),
            ("onecyclelr", json!({"max_lr": 1.0}), "`onecyclelr` needs `total_steps (or epochs"),
            (
                "onecyclelr",
                json!({"max_lr": 1, "total_steps": 5, "anneal_strategy": "exp"}),
                "\"cos\" or \"linear\"",
            ),
            ("linearlr", json!({"start_factor": 0}), "`start_factor` must be in (0, 1], got 0"),
            ("reducelronplateau", json!({"factor": 1.0}), "`factor` must be in [0, 1), got 1"),
            (
                "cosineannealinglr",
                json!({"T_max": 1.5}),
                "`T_max` of `cosineannealinglr` must be a whole number",
            ),
            ("multisteplr", json!({"milestones": 3}), "a list of whole numbers"),
        ];
        for (name, hyper, expected) in cases {
            let message = refused(create_torch(name, 0.1, &hyper));
            assert!(message.contains(expected), "{name}: {message}");
        }
        assert!(
            refused(create_torch("steplr", f64::NAN, &json!({"step_size": 1}))).contains("`lr`")
        );
    }
}
