//! Optimizers by the keywords of PyTorch and of pytorch_optimizer, for recorded cases.

use crate::decay::DecayOn;
use crate::elementwise::Elementwise;
use crate::error::OptimError;
use crate::registry;
use serde_json::{Map, Value, json};

/// Names in other libraries for what is called otherwise here.
const ALIASES: &[(&str, &str)] = &[
    ("sgdw", "sgd"),
    ("sgdp_torch", "sgd"),
    ("signsgd", "signum"),
    ("tiger", "signum"),
    ("schedulefreeradam", ""),
    ("adamatan2", "adam_atan2"),
    ("cadamw", "cautiousadamw"),
    ("clion", "cautiouslion"),
];

/// The optimizer called `name` with hyper-parameters spelt as in `torch.optim` or in pytorch_optimizer; weight decay
/// applies to every parameter, and matrices are laid out as PyTorch has them.
///
/// `lr` may stand among them and is passed over; so are keywords that choose an implementation (`foreach`, `fused`,
/// `capturable`, `differentiable`).
///
/// # Errors
/// When the name or a keyword is not known, a keyword asks for a variant that is not offered, or a value is refused.
///
/// ```
/// use firebrick_optim::registry;
/// use serde_json::json;
///
/// let hyper = json!({"betas": [0.85, 0.97], "eps": 1e-7, "amsgrad": true, "weight_decay": 0.03});
/// assert_eq!(registry::create_from_hyper("adam", &hyper)?.name(), "adam_amsgrad");
/// # Ok::<(), firebrick_optim::OptimError>(())
/// ```
pub fn create_from_hyper(name: &str, hyper: &Value) -> Result<Elementwise, OptimError> {
    let lower = name.to_ascii_lowercase();
    let target =
        ALIASES.iter().find(|(alias, _)| *alias == lower).map_or(lower.as_str(), |(_, name)| name);
    let card = registry::card(target).ok_or_else(|| registry::unknown(name))?;
    let empty = Map::new();
    let hyper = match hyper {
        Value::Object(fields) => fields,
        Value::Null => &empty,
        other => return Err(bad(name, format!("hyper-parameters are an object, not {other}"))),
    };
    let mut fields = Map::new();
    let defaults = card.defaults();
    let mut maximize = false;
    match lower.as_str() {
        "sgdw" => drop(fields.insert("decoupled".into(), json!(true))),
        "tiger" => drop(fields.insert("momentum".into(), json!(0.965))),
        _ => {}
    }
    match target {
        "muon" => drop(fields.insert("fan_out".into(), json!("First"))),
        "lars" | "lamb" => drop(fields.insert("always_adapt".into(), json!(true))),
        _ => {}
    }
    for (key, value) in hyper {
        if value.is_null() && key != "clip" && key != "clip_lambda" {
            continue;
        }
        match key.as_str() {
            "lr" | "foreach" | "fused" | "capturable" | "differentiable" => {}
            "maximize" => maximize = flag(name, key, value)?,
            _ => translate(name, target, key, value, &defaults, &mut fields)?,
        }
    }
    let optimizer = card.create(&Value::Object(fields))?;
    Ok(optimizer.with_decay_on(DecayOn::All).with_maximize(maximize))
}

fn bad(name: &str, reason: impl Into<String>) -> OptimError {
    OptimError::Json { name: name.into(), reason: reason.into() }
}

fn flag(name: &str, key: &str, value: &Value) -> Result<bool, OptimError> {
    value.as_bool().ok_or_else(|| bad(name, format!("`{key}` is true or false, not {value}")))
}

/// Spreads a list over fields.
fn spread(
    name: &str,
    key: &str,
    value: &Value,
    to: &[&str],
    fields: &mut Map<String, Value>,
) -> Result<(), OptimError> {
    let list = value.as_array().filter(|list| list.len() == to.len());
    let list =
        list.ok_or_else(|| bad(name, format!("`{key}` is a list of {}, not {value}", to.len())))?;
    for (field, value) in to.iter().zip(list) {
        if !value.is_null() {
            fields.insert((*field).into(), value.clone());
        }
    }
    Ok(())
}

fn translate(
    name: &str,
    target: &str,
    key: &str,
    value: &Value,
    defaults: &Value,
    fields: &mut Map<String, Value>,
) -> Result<(), OptimError> {
    let has = |field: &str| defaults.get(field).is_some();
    let mut set = |field: &str, value: Value| drop(fields.insert(field.into(), value));
    let only = |wanted: Value| {
        if *value == wanted || value.as_f64().is_some() && value.as_f64() == wanted.as_f64() {
            Ok(())
        } else {
            Err(bad(name, format!("`{key}` = {value} is not offered, only {wanted}")))
        }
    };
    match (target, key) {
        ("adafactor", "eps") => {
            return spread(name, key, value, &["epsilon", "epsilon_scale"], fields);
        }
        ("adafactor", "beta2_decay") => set("decay", value.clone()),
        ("adafactor", "d") => set("threshold", value.clone()),
        ("adam" | "adamw", "amsgrad" | "ams_bound") => {
            set("amsgrad", json!(if flag(name, key, value)? { "Raw" } else { "Off" }));
        }
        ("adan", "no_prox" | "weight_decouple") => set("proximal", json!(!flag(name, key, value)?)),
        ("adopt", "clip_exponent") => set("clip", value.clone()),
        ("muon", "adjust_lr_fn") => match value.as_str() {
            Some("original") => set("scale", json!("Original")),
            Some("match_rms_adamw") => set("scale", json!("MatchRmsAdamW")),
            _ => return Err(bad(name, format!("`{key}` = {value} is not offered"))),
        },
        ("muon", "ns_steps") => set("steps", value.clone()),
        ("muon", "ns_coefficients") => return only(json!([3.4445, -4.775, 2.0315])),
        ("schedulefreesgd" | "schedulefreeadamw", "weight_lr_power") => return only(json!(2.0)),
        ("schedulefreeadamw", "betas") => {
            return spread(name, key, value, &["beta_1", "beta_2"], fields);
        }
        ("prodigy", "d_coef") => set("d_coefficient", value.clone()),
        ("prodigy", "growth_rate") => set("growth", value.clone()),
        ("prodigy", "bias_correction" | "safeguard_warmup") => return only(json!(false)),
        ("yogi", "initial_accumulator") => set("initial", value.clone()),
        ("asgd", "lambd") => set("lambda", value.clone()),
        ("ademamix", "t_alpha_beta3" | "T_alpha_beta3") => set("warmup", value.clone()),
        ("qhadam", "nus") => return spread(name, key, value, &["nu_1", "nu_2"], fields),
        ("lamb", "max_grad_norm" | "grad_averaging" | "adam" | "pre_norm" | "rectify") => {
            let neutral = if key == "grad_averaging" { json!(true) } else { json!(false) };
            return if key == "max_grad_norm" { only(json!(0.0)) } else { only(neutral) };
        }
        (_, "always_adapt") if has("always_adapt") => set(key, value.clone()),
        (_, "betas") => {
            let names: &[&str] =
                if has("beta_3") { &["beta_1", "beta_2", "beta_3"] } else { &["beta_1", "beta_2"] };
            return spread(name, key, value, names, fields);
        }
        (_, "etas") => return spread(name, key, value, &["eta_minus", "eta_plus"], fields),
        (_, "step_sizes") => return spread(name, key, value, &["step_min", "step_max"], fields),
        (_, "eps") if has("epsilon") => set("epsilon", value.clone()),
        (_, "initial_accumulator_value") if has("initial") => set("initial", value.clone()),
        (_, "warmup_steps") if has("warmup") => set("warmup", value.clone()),
        (_, "decoupled_weight_decay" | "weight_decouple") => {
            if has("decoupled") {
                set("decoupled", json!(flag(name, key, value)?));
            } else {
                // Rules without the choice have the decoupled form, but for those of torch's that are coupled.
                let coupled =
                    matches!(target, "adam" | "adagrad" | "rmsprop" | "adadelta" | "asgd");
                return only(json!(!coupled));
            }
        }
        (
            _,
            "fixed_decay" | "rectify" | "ams_bound" | "cautious" | "degenerated_to_sgd"
            | "stable_adamw",
        ) => {
            return only(json!(false));
        }
        (_, field) if has(field) => set(field, value.clone()),
        _ => return Err(bad(name, format!("there is no hyper-parameter `{key}`"))),
    }
    Ok(())
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn keywords_of_torch_are_understood() {
        let ok = |name: &str, hyper: Value| {
            create_from_hyper(name, &hyper).unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        assert_eq!(
            ok("SGD", json!({"momentum": 0.9, "nesterov": true, "foreach": null})).name(),
            "sgd_momentum"
        );
        assert_eq!(
            ok("nadam", json!({"decoupled_weight_decay": true, "weight_decay": 0.1})).decay(),
            crate::Decay::Decoupled(0.1)
        );
        ok("rprop", json!({"etas": [0.4, 1.3], "step_sizes": [1e-5, 10.0]}));
        ok("adafactor", json!({"eps": [null, 1e-3], "beta2_decay": -0.7, "d": 1.5}));
        ok("asgd", json!({"lambd": 1e-3, "t0": 2, "alpha": 0.6}));
        ok("muon", json!({"ns_steps": 4, "adjust_lr_fn": "match_rms_adamw"}));
        ok("qhadam", json!({"nus": [0.7, 1.0]}));
        ok("AdEMAMix", json!({"betas": [0.9, 0.99, 0.999], "alpha": 3.0}));
    }

    #[test]
    fn what_is_not_understood_is_refused_not_passed_over() {
        let refused = |name: &str, hyper: Value| {
            create_from_hyper(name, &hyper).expect_err("refused").to_string()
        };
        assert!(
            refused("adam", json!({"beta": [0.9, 0.99]})).contains("no hyper-parameter `beta`")
        );
        assert!(refused("adam", json!({"betas": [0.9]})).contains("a list of 2"));
        assert!(
            refused("adam", json!({"betas": [0.9, 1.0]}))
                .contains("`beta_2` must be in [0, 1), got 1")
        );
        assert!(refused("lion", json!({"cautious": true})).contains("not offered"));
        assert!(refused("adamm", json!({})).contains("no optimizer is called `adamm`"));
    }
}
