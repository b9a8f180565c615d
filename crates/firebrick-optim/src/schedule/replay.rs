//! Replays a schedule that another library recorded.

use super::{NamedSchedule, ScheduleError, create, create_torch, names, torch_names};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// A recorded schedule.
///
/// `{"name":"onecyclelr","hyper":{"max_lr":0.1,"total_steps":61},"lr":0.1,"lrs":[..]}`: the name is a torch class in
/// lower case, or one of this crate's; `lrs[k]` is the rate that update `k` used. A plateau has `metrics`, and
/// `metrics[k]` was told after update `k`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleCase {
    /// Name of the schedule.
    pub name: String,
    /// Its keywords.
    #[serde(default)]
    pub hyper: Value,
    /// The optimizer's rate before the schedule was attached.
    #[serde(default)]
    pub lr: Option<f64>,
    /// The rate of each update.
    pub lrs: Vec<f64>,
    /// The metric told after each update; null and "NaN" stand for NaN, as JSON has none.
    #[serde(default, deserialize_with = "metrics")]
    pub metrics: Vec<f64>,
}

fn metrics<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
    let values = Option::<Vec<Value>>::deserialize(from)?.unwrap_or_default();
    let number = |value: &Value| match value {
        Value::Null => Ok(f64::NAN),
        Value::Number(number) => Ok(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => text.parse().map_err(|_| {
            serde::de::Error::custom(format!("`metrics` holds {text:?}, which is no number"))
        }),
        other => Err(serde::de::Error::custom(format!("`metrics` holds {other}"))),
    };
    values.iter().map(number).collect()
}

/// The largest absolute difference between the recorded rates and those of this crate.
///
/// NaN when a recorded rate is not finite.
///
/// # Errors
/// When the name or a keyword is unknown, a keyword is missing or has a bad value, or the case is incomplete.
///
/// ```
/// use firebrick_optim::schedule::{ScheduleCase, replay};
/// let case: ScheduleCase = serde_json::from_str(
///     r#"{"name":"steplr","hyper":{"step_size":2,"gamma":0.5},"lr":0.4,"lrs":[0.4,0.4,0.2,0.2,0.1]}"#,
/// )?;
/// assert!(replay(&case)? < 1e-16);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn replay(case: &ScheduleCase) -> Result<f64, ScheduleError> {
    let bad = |expected: String, got: String| ScheduleError::BadCase {
        schedule: case.name.clone(),
        expected,
        got,
    };
    let schedule = named(case)?;
    if case.lrs.is_empty() {
        return Err(bad("at least one rate in `lrs`".into(), "none".into()));
    }
    let rates: Vec<f64> = match schedule {
        NamedSchedule::Function(schedule) => {
            (0..case.lrs.len() as u64).map(|k| schedule.rate(k)).collect()
        }
        NamedSchedule::Plateau(mut plateau) => {
            if case.metrics.len() + 1 < case.lrs.len() {
                let expected = format!("`metrics` for {} rates", case.lrs.len());
                return Err(bad(expected, case.metrics.len().to_string()));
            }
            let first = plateau.rate();
            let later = case.metrics.iter().map(|&metric| plateau.observe(metric));
            std::iter::once(first).chain(later).collect()
        }
    };
    let differences = rates.iter().zip(&case.lrs).map(|(ours, theirs)| (ours - theirs).abs());
    // `f64::max` would drop a NaN, and with it a rate that cannot be compared.
    Ok(differences
        .fold(0.0, |largest, next| if next.is_nan() || next > largest { next } else { largest }))
}

fn named(case: &ScheduleCase) -> Result<NamedSchedule, ScheduleError> {
    let name = case.name.as_str();
    if torch_names().contains(&name) {
        // Both set the optimizer's rate themselves.
        let own_rate = matches!(name, "onecyclelr" | "cycliclr");
        let lr = case.lr.or(own_rate.then_some(0.0)).ok_or_else(|| {
            ScheduleError::MissingKeyword { schedule: name.into(), keyword: "lr".into() }
        })?;
        return create_torch(name, lr, &case.hyper);
    }
    let Some(card) = super::SCHEDULES.iter().find(|card| card.name == name) else {
        let known = torch_names().into_iter().chain(names()).collect();
        return Err(ScheduleError::UnknownName { name: name.into(), known });
    };
    let mut hyper = match &case.hyper {
        Value::Null => Value::Object(Map::new()),
        other => other.clone(),
    };
    if let (Some(lr), Some(map)) = (case.lr, hyper.as_object_mut())
        && card.required.contains(&"initial_lr")
        && !map.contains_key("initial_lr")
    {
        map.insert("initial_lr".into(), lr.into());
    }
    create(name, &hyper)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::refused;
    use serde_json::json;

    fn case(value: Value) -> ScheduleCase {
        serde_json::from_value(value).expect("a case")
    }

    /// Largest difference over the largest rate. A closed form is within a few roundings; torch multiplies along, so its own
    /// result is off by up to about one rounding a step.
    #[test]
    fn recorded_references_agree() {
        let text = include_str!("../../../../tests/references/schedule.json");
        let file: std::collections::BTreeMap<String, Vec<ScheduleCase>> =
            serde_json::from_str(text).expect("a replay file");
        let cases = &file["schedules"];
        assert!(cases.len() >= 58, "{} cases", cases.len());
        for name in torch_names() {
            assert!(cases.iter().any(|case| case.name == name), "{name} has no case");
        }
        for case in cases {
            let label = format!("{} {}", case.name, case.hyper);
            let difference = replay(case).unwrap_or_else(|e| panic!("{label}: {e}"));
            let scale = case.lrs.iter().fold(0.0f64, |scale, &rate| scale.max(rate));
            let bound = f64::EPSILON * (4.0 + case.lrs.len() as f64) * scale;
            assert!(difference <= bound, "{label}: {difference:e}, bound {bound:e}");
        }
    }

    #[test]
    fn the_difference_is_the_largest() {
        let hyper = json!({"gamma": 0.5});
        let exact = case(
            json!({"name": "exponentiallr", "hyper": hyper, "lr": 1.0, "lrs": [1.0, 0.5, 0.25]}),
        );
        assert_eq!(replay(&exact), Ok(0.0));
        let off = case(
            json!({"name": "exponentiallr", "hyper": hyper, "lr": 1.0, "lrs": [1.0, 0.75, 0.125]}),
        );
        assert_eq!(replay(&off), Ok(0.25));
        let mut nan = exact;
        nan.lrs[0] = f64::NAN;
        assert!(replay(&nan).is_ok_and(f64::is_nan));
    }

    #[test]
    fn a_plateau_takes_its_metrics() {
        let value = json!({"name": "reducelronplateau", "hyper": {"patience": 0, "factor": 0.5}, "lr": 1.0,
            "lrs": [1.0, 1.0, 0.5, 0.25], "metrics": [3.0, null, "NaN"]});
        assert_eq!(replay(&case(value.clone())), Ok(0.0));
        let mut short = case(value);
        short.metrics.pop();
        assert!(refused(replay(&short)).contains("needs `metrics` for 4 rates, got 2"));
    }

    #[test]
    fn own_names_take_the_rate_of_the_case() {
        let cosine = json!({"name": "cosine", "hyper": {"num_steps": 2}, "lr": 1.0, "lrs": [1.0, 0.5, 0.0, 0.0]});
        assert!(replay(&case(cosine)).is_ok_and(|difference| difference < 1e-16));
    }

    #[test]
    fn mistakes_are_named() {
        let unknown = replay(&case(json!({"name": "lambdalr", "lr": 1.0, "lrs": [1.0]})));
        assert!(
            refused(unknown)
                .contains("no schedule is called `lambdalr`; there are chainedscheduler")
        );
        let keyword = json!({"name": "steplr", "hyper": {"step_size": 1, "gama": 1}, "lr": 1.0, "lrs": [1.0]});
        assert!(refused(replay(&case(keyword))).contains("`steplr` has no `gama`"));
        let no_lr = json!({"name": "steplr", "hyper": {"step_size": 1}, "lrs": [1.0]});
        assert_eq!(refused(replay(&case(no_lr))), "`steplr` needs `lr`");
        let empty = json!({"name": "steplr", "hyper": {"step_size": 1}, "lr": 1.0, "lrs": []});
        assert!(refused(replay(&case(empty))).contains("at least one rate"));
    }

    #[test]
    fn a_word_that_nothing_reads_is_refused() {
        for (name, list) in [("product", "schedules"), ("chainedscheduler", "schedulers")] {
            let of = |child: Value| {
                let hyper = json!({list: [child]});
                let value = json!({"name": name, "hyper": hyper, "lr": 1.0, "lrs": [1.0]});
                refused(replay(&case(value)))
            };
            let misspelt = json!({"name": "constant", "confg": {"initial_lr": 1.0}});
            let message = of(misspelt);
            assert_eq!(message, "`schedules` has no `confg`; it takes name, config, hyper");
            assert!(of(json!({"name": "constant", "config": {}, "hyper": {}})).contains("one of"));
            assert!(of(json!("constant")).contains("a list of {\"name\", \"config\"}"));
        }
    }
}
