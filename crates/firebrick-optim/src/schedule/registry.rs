//! Every schedule by its name, with its configuration as JSON.

use super::keywords::Keywords;
use super::{
    ConstantConfig, CosineConfig, CyclicConfig, ExponentialConfig, InverseSqrtConfig, LinearConfig,
    LinearWarmupConfig, MultiStepConfig, NoamConfig, OneCycleConfig, Plateau, PlateauConfig,
    PolynomialConfig, Product, RexConfig, Schedule, ScheduleError, SequentialConfig, StepConfig,
    UntunedWarmupConfig, WarmRestartsConfig, WarmupStableDecayConfig,
};
use burn::config::Config;
use serde_json::{Map, Value, json};

/// What a name makes: a function of the step, or the plateau, which needs a metric.
#[derive(Debug)]
pub enum NamedSchedule {
    /// A function of the step.
    Function(Box<dyn Schedule>),
    /// Reduce on plateau.
    Plateau(Plateau),
}

impl NamedSchedule {
    /// The function of the step, unless it is the plateau.
    #[must_use]
    pub fn function(&self) -> Option<&dyn Schedule> {
        match self {
            Self::Function(schedule) => Some(&**schedule),
            Self::Plateau(_) => None,
        }
    }
}

/// One schedule of the registry.
#[derive(Debug, Clone, Copy)]
pub struct ScheduleCard {
    /// Name, in lower case with underscores.
    pub name: &'static str,
    /// The rate as a formula.
    pub formula: &'static str,
    /// What to take it for.
    pub when: &'static str,
    /// Where it comes from.
    pub reference: &'static str,
    /// Keywords without a default.
    pub required: &'static [&'static str],
    /// A complete configuration: the defaults, and values for what has none.
    pub example: fn() -> Value,
    build: fn(&Value) -> Result<NamedSchedule, ScheduleError>,
}

impl ScheduleCard {
    /// Makes the schedule from its configuration.
    ///
    /// # Errors
    /// As [`create`].
    pub fn build(&self, config: &Value) -> Result<NamedSchedule, ScheduleError> {
        (self.build)(config)
    }
}

/// The value of a configuration that can always be written.
fn example(config: impl Config) -> Value {
    serde_json::to_value(config).unwrap_or(Value::Null)
}

macro_rules! card {
    ($name:literal, $config:expr, [$($required:literal),*], $formula:literal, $when:literal, $reference:literal) => {
        ScheduleCard {
            name: $name,
            formula: $formula,
            when: $when,
            reference: $reference,
            required: &[$($required),*],
            example: || example($config),
            build: |hyper| {
                let config = parse($name, &[$($required),*], $config, hyper)?;
                Ok(NamedSchedule::Function(Box::new(config.build()?)))
            },
        }
    };
}

/// Every schedule, in alphabetical order.
pub const SCHEDULES: &[ScheduleCard] = &[
    card!(
        "constant",
        ConstantConfig::new(0.1),
        ["initial_lr"],
        "L",
        "baselines; the rate of a frozen stretch",
        "-"
    ),
    card!(
        "cosine",
        CosineConfig::new(0.1, 100),
        ["initial_lr", "num_steps"],
        "m + (L - m) (1 + cos(pi k / N)) / 2",
        "runs of known length: the usual choice",
        "Loshchilov, Hutter 2017, arXiv 1608.03983"
    ),
    card!(
        "cyclic",
        CyclicConfig::new(0.01, 0.1).with_step_size_up(20),
        ["base_lr", "max_lr"],
        "base + (max - base) tri(k) h(k)",
        "runs of unknown length with a known range of good rates",
        "Smith 2017, arXiv 1506.01186"
    ),
    card!(
        "exponential",
        ExponentialConfig::new(0.1, 0.95),
        ["initial_lr", "gamma"],
        "max(L gamma^k, m)",
        "smooth decay without a known end",
        "-"
    ),
    card!(
        "inverse_sqrt",
        InverseSqrtConfig::new(0.1, 20),
        ["initial_lr", "warmup_steps"],
        "L min((k + 1) / W, sqrt(W / (k + 1)))",
        "transformers, open-ended runs",
        "Vaswani et al. 2017, arXiv 1706.03762"
    ),
    card!(
        "linear",
        LinearConfig::new(0.1, 0.0, 100),
        ["initial_lr", "final_lr", "num_steps"],
        "L0 + (L1 - L0) min(k, N) / N",
        "fine-tuning; as good as the cosine for most budgets",
        "-"
    ),
    card!(
        "linear_warmup",
        LinearWarmupConfig::new(0.1, 20),
        ["initial_lr", "warmup_steps"],
        "L min(1, (k + 1) / W)",
        "the start of another schedule, with large batches and Adam",
        "Goyal et al. 2017, arXiv 1706.02677"
    ),
    card!(
        "multi_step",
        MultiStepConfig::new(0.1, vec![30, 80]),
        ["initial_lr", "milestones"],
        "L gamma^(milestones <= k)",
        "published recipes of convolutional networks",
        "-"
    ),
    card!(
        "noam",
        NoamConfig::new(1.0).with_warmup_steps(20),
        ["factor"],
        "c d^-1/2 min(s^-1/2, s w^-3/2), s = k + 1",
        "the original Transformer",
        "Vaswani et al. 2017, arXiv 1706.03762"
    ),
    card!(
        "one_cycle",
        OneCycleConfig::new(0.1, 100),
        ["max_lr", "num_steps"],
        "L/d up to L by p N - 1, down to L/(d f) by N - 1",
        "short budgets with a large rate",
        "Smith, Topin 2018, arXiv 1708.07120"
    ),
    ScheduleCard {
        name: "plateau",
        formula: "L factor^(reductions)",
        when: "runs of unknown length with a validation metric",
        reference: "-",
        required: &["initial_lr"],
        example: || example(PlateauConfig::new(0.1)),
        build: |hyper| {
            let config = parse("plateau", &["initial_lr"], PlateauConfig::new(0.1), hyper)?;
            Ok(NamedSchedule::Plateau(config.build()?))
        },
    },
    card!(
        "polynomial",
        PolynomialConfig::new(0.1, 100).with_power(2.0),
        ["initial_lr", "num_steps"],
        "m + (L - m) (1 - min(k, N) / N)^q",
        "segmentation recipes",
        "-"
    ),
    ScheduleCard {
        name: "product",
        formula: "S_1(k) S_2(k) ...",
        when: "a rate times factors",
        reference: "-",
        required: &["schedules"],
        example: || {
            json!({"schedules": [
                {"name": "linear_warmup", "config": {"initial_lr": 0.1, "warmup_steps": 20}},
                {"name": "cosine", "config": {"initial_lr": 1.0, "num_steps": 100}}]})
        },
        build: |hyper| {
            let mut words = Keywords::new("product", hyper)?;
            let parts = children("product", &mut words)?;
            words.finish()?;
            let one = ConstantConfig::new(1.0).build()?;
            let product = parts.into_iter().fold(Product::new(one), Product::times);
            Ok(NamedSchedule::Function(Box::new(product)))
        },
    },
    card!(
        "rex",
        RexConfig::new(0.1, 100),
        ["initial_lr", "num_steps"],
        "m + (L - m) (1 - z) / (1 - z / 2), z = k / N",
        "small budgets",
        "Chen, Wolfe, Kyrillidis 2021, arXiv 2107.04197"
    ),
    ScheduleCard {
        name: "sequential",
        formula: "S_i(k - M_i), M_i <= k",
        when: "a warm-up before anything else",
        reference: "-",
        required: &["schedules", "milestones"],
        example: || {
            json!({"milestones": [20], "schedules": [
                {"name": "linear_warmup", "config": {"initial_lr": 0.1, "warmup_steps": 20}},
                {"name": "cosine", "config": {"initial_lr": 0.1, "num_steps": 80}}]})
        },
        build: |hyper| {
            let mut words = Keywords::new("sequential", hyper)?;
            let parts = children("sequential", &mut words)?;
            let milestones = words.wholes("milestones")?;
            words.finish()?;
            let joined = join(parts, milestones, "sequential")?;
            Ok(NamedSchedule::Function(Box::new(joined)))
        },
    },
    card!(
        "step",
        StepConfig::new(0.1, 30),
        ["initial_lr", "step_size"],
        "L gamma^floor(k / s)",
        "published recipes of convolutional networks",
        "-"
    ),
    card!(
        "untuned_warmup",
        UntunedWarmupConfig::new(0.1).with_beta_2(0.9),
        ["initial_lr"],
        "L (1 - exp(-(1 - beta_2) (k + 1)))",
        "Adam without a warm-up to tune",
        "Ma, Yarats 2019, arXiv 1910.04209"
    ),
    card!(
        "warm_restarts",
        WarmRestartsConfig::new(0.1, 10).with_multiplier(2),
        ["initial_lr", "first_period"],
        "m + (L d^i - m) (1 + cos(pi t / T_i)) / 2",
        "anytime results, snapshot ensembles",
        "Loshchilov, Hutter 2017, arXiv 1608.03983"
    ),
    card!(
        "warmup_stable_decay",
        WarmupStableDecayConfig::new(0.1, 100).with_warmup_steps(10).with_decay_steps(20),
        ["initial_lr", "num_steps"],
        "L until N - D, then m + (L - m) c(u)",
        "runs that may be prolonged",
        "Hu et al. 2024, arXiv 2404.06395; Haegele et al. 2024, arXiv 2405.18392"
    ),
];

/// The names that [`create`] knows.
#[must_use]
pub fn names() -> Vec<&'static str> {
    SCHEDULES.iter().map(|card| card.name).collect()
}

/// Makes the schedule called `name` from its configuration as JSON; keywords with a default may be left out.
///
/// # Errors
/// When the name or a keyword is unknown, a keyword is missing, or a value is of the wrong kind or out of range.
///
/// ```
/// use firebrick_optim::schedule::create;
/// let config = serde_json::json!({"initial_lr": 0.1, "num_steps": 50, "min_lr": 0.01});
/// let schedule = create("cosine", &config)?;
/// assert_eq!(schedule.function().map(|cosine| cosine.rate(50)), Some(0.01));
/// # Ok::<(), firebrick_optim::schedule::ScheduleError>(())
/// ```
pub fn create(name: &str, config: &Value) -> Result<NamedSchedule, ScheduleError> {
    let card = SCHEDULES.iter().find(|card| card.name == name);
    card.ok_or_else(|| ScheduleError::UnknownName { name: name.into(), known: names() })?
        .build(config)
}

/// Puts the given values over a complete configuration, one at a time, so that a bad one is named.
fn parse<C: Config>(
    schedule: &'static str,
    required: &[&str],
    complete: C,
    hyper: &Value,
) -> Result<C, ScheduleError> {
    let mut words = Keywords::new(schedule, hyper)?;
    let base = serde_json::to_value(&complete).unwrap_or(Value::Null);
    let mut merged: Map<String, Value> = base.as_object().cloned().unwrap_or_default();
    let mut config = complete;
    let keywords: Vec<String> = merged.keys().cloned().collect();
    for keyword in keywords {
        let Some(value) = words.take(&keyword) else {
            if required.contains(&keyword.as_str()) {
                return Err(ScheduleError::MissingKeyword { schedule: schedule.into(), keyword });
            }
            continue;
        };
        merged.insert(keyword.clone(), value.clone());
        config = serde_json::from_value(Value::Object(merged.clone())).map_err(|error| {
            ScheduleError::BadValue {
                schedule: schedule.into(),
                keyword,
                expected: error.to_string(),
                value: value.to_string(),
            }
        })?;
    }
    words.finish()?;
    Ok(config)
}

fn children(
    parent: &'static str,
    words: &mut Keywords,
) -> Result<Vec<Box<dyn Schedule>>, ScheduleError> {
    words.list("schedules")?.iter().map(|value| child(parent, value, create)).collect()
}

/// A child `{"name": .., "config" or "hyper": {..}}` of a combination, which must be a function of the step.
pub(super) fn child(
    parent: &'static str,
    value: &Value,
    create: impl Fn(&str, &Value) -> Result<NamedSchedule, ScheduleError>,
) -> Result<Box<dyn Schedule>, ScheduleError> {
    let bad = |expected: &str| ScheduleError::BadValue {
        schedule: parent.into(),
        keyword: "schedules".into(),
        expected: expected.into(),
        value: value.to_string(),
    };
    let form = "a list of {\"name\", \"config\"}";
    let mut words = Keywords::new("schedules", value).map_err(|_| bad(form))?;
    let name = words.take("name");
    let name = name.as_ref().and_then(Value::as_str).ok_or_else(|| bad(form))?;
    let config = match (words.take("config"), words.take("hyper")) {
        (Some(_), Some(_)) => return Err(bad("schedules with one of `config` and `hyper`")),
        (config, hyper) => config.or(hyper).unwrap_or(Value::Null),
    };
    words.finish()?;
    match create(name, &config)? {
        NamedSchedule::Function(schedule) => Ok(schedule),
        NamedSchedule::Plateau(_) => Err(bad("functions of the step, not a plateau")),
    }
}

/// The schedules one after another, one milestone between each two.
pub(super) fn join(
    schedules: Vec<Box<dyn Schedule>>,
    milestones: Vec<u64>,
    name: &str,
) -> Result<super::Sequential, ScheduleError> {
    let count = schedules.len();
    let bad = || ScheduleError::BadCase {
        schedule: name.into(),
        expected: format!("{} milestones for {count} schedules", count.saturating_sub(1)),
        got: milestones.len().to_string(),
    };
    if milestones.len() + 1 != count {
        return Err(bad());
    }
    let mut schedules = schedules.into_iter();
    let first = schedules.next().ok_or_else(bad)?;
    let config = milestones
        .iter()
        .zip(schedules)
        .fold(SequentialConfig::new(first), |config, (&at, next)| config.then(at, next));
    Ok(config.build()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Scheduler;
    use crate::schedule::testing::refused;
    use burn::lr_scheduler::{LrScheduler, LrSchedulerRecord};

    fn functions() -> impl Iterator<Item = (&'static ScheduleCard, Box<dyn Schedule>)> {
        SCHEDULES.iter().filter_map(|card| {
            match card.build(&(card.example)()).unwrap_or_else(|e| panic!("{}: {e}", card.name)) {
                NamedSchedule::Function(schedule) => Some((card, schedule)),
                NamedSchedule::Plateau(_) => None,
            }
        })
    }

    #[test]
    fn names_are_sorted_and_unique() {
        assert!(names().windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(functions().count(), SCHEDULES.len() - 1);
    }

    #[test]
    fn battery_every_rate_is_finite_and_pure() {
        for (card, schedule) in functions() {
            let far = [10_000, 1 << 40, u64::MAX - 1, u64::MAX];
            for k in (0..400).chain(far) {
                let rate = schedule.rate(k);
                assert!(rate.is_finite() && rate >= 0.0, "{} at {k}: {rate}", card.name);
                assert_eq!(rate.to_bits(), schedule.rate(k).to_bits());
                let momentum = schedule.momentum(k).unwrap_or(0.0);
                assert!((0.0..1.0).contains(&momentum), "{} at {k}: {momentum}", card.name);
            }
            assert!(schedule.rate(0) > 0.0, "{} wastes its first update", card.name);
        }
    }

    #[test]
    fn battery_resumes_bit_by_bit_from_a_record() {
        for (card, schedule) in functions() {
            let mut whole = Scheduler::new(schedule);
            for _ in 0..33 {
                whole.step();
            }
            let bytes = whole.to_record().into_bytes().expect("serializes");
            let record = LrSchedulerRecord::from_bytes(bytes).expect("reads back");
            let again = create(card.name, &(card.example)()).expect("valid");
            let NamedSchedule::Function(again) = again else { panic!("a function before") };
            let mut resumed = Scheduler::new(again);
            resumed.try_load_record(&record).unwrap_or_else(|e| panic!("{}: {e}", card.name));
            for _ in 0..99 {
                assert_eq!(whole.step().to_bits(), resumed.step().to_bits(), "{}", card.name);
            }
        }
    }

    #[test]
    fn battery_every_configuration_has_its_own_fingerprint() {
        let mut prints: Vec<u64> =
            functions().map(|(_, schedule)| schedule.fingerprint()).collect();
        prints.sort_unstable();
        assert!(prints.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn battery_mistakes_are_named() {
        for card in SCHEDULES {
            let mut config = (card.example)();
            config["learning_rat"] = json!(1.0);
            let message = refused(card.build(&config));
            assert!(message.contains("has no `learning_rat`; it takes "), "{message}");
            for required in card.required {
                let mut config = (card.example)();
                config.as_object_mut().expect("an object").remove(*required);
                let message = refused(card.build(&config));
                assert_eq!(message, format!("`{}` needs `{required}`", card.name));
                config[*required] = json!({"no": "number"});
                let message = refused(card.build(&config));
                assert!(
                    message.starts_with(&format!("`{required}` of `{}`", card.name)),
                    "{message}"
                );
            }
        }
        assert!(
            refused(create("cosin", &json!({})))
                .contains("no schedule is called `cosin`; there are")
        );
    }

    #[test]
    fn defaults_may_be_left_out_and_rates_exceed_one() {
        for card in SCHEDULES {
            let complete = (card.example)();
            let mut short = serde_json::Map::new();
            for required in card.required {
                short.insert((*required).into(), complete[*required].clone());
            }
            for rate in ["initial_lr", "max_lr"] {
                if short.contains_key(rate) {
                    short.insert(rate.into(), json!(50.0));
                }
            }
            card.build(&Value::Object(short)).unwrap_or_else(|e| panic!("{}: {e}", card.name));
        }
    }

    /// torch accepts some of these and fails later.
    #[test]
    fn combinations_that_make_no_sense_are_refused() {
        let plateau = json!({"name": "plateau", "config": {"initial_lr": 0.1}});
        let constant = json!({"name": "constant", "config": {"initial_lr": 0.1}});
        let inside = create("product", &json!({"schedules": [plateau]}));
        assert!(refused(inside).contains("functions of the step, not a plateau"));
        let three = json!({"schedules": [constant, constant, constant], "milestones": [4]});
        let message = refused(create("sequential", &three));
        assert_eq!(message, "the case of `sequential` needs 2 milestones for 3 schedules, got 1");
        let back = json!({"schedules": [constant, constant, constant], "milestones": [4, 4]});
        assert!(refused(create("sequential", &back)).contains("`milestone` must be above"));
        assert!(refused(create("product", &json!({"schedules": []}))).contains("not empty"));
    }

    #[test]
    fn options_read_as_words() {
        let config = json!({"initial_lr": 1.0, "num_steps": 4, "after_end": "Mirror"});
        let schedule = create("cosine", &config).expect("valid");
        assert_eq!(schedule.function().map(|cosine| cosine.rate(8)), Some(1.0));
        let config = json!({"initial_lr": 1.0, "num_steps": 4, "after_end": "Bounce"});
        assert!(refused(create("cosine", &config)).contains("`after_end` of `cosine`"));
    }
}
