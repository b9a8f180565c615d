//! Keywords of the libraries in the fields of this crate's configurations.

use super::{bad, flag, not_offered};
use crate::error::OptimError;
use serde_json::{Map, Value, json};

/// Writes what a keyword means into the fields.
pub(super) fn translate(
    name: &str,
    target: &str,
    (key, value): (&str, &Value),
    hyper: &Map<String, Value>,
    defaults: &Value,
    fields: &mut Map<String, Value>,
) -> Result<(), OptimError> {
    let has = |field: &str| defaults.get(field).is_some();
    let mut set = |field: &str, value: Value| drop(fields.insert(field.into(), value));
    let only = |wanted: Value| {
        if *value == wanted || value.as_f64().is_some() && value.as_f64() == wanted.as_f64() {
            Ok(())
        } else {
            Err(not_offered(name, key, format!("only {wanted} is, not {value}")))
        }
    };
    match (target, key) {
        ("adafactor", "eps") => {
            return spread(name, key, value, &["epsilon", "epsilon_scale"], fields);
        }
        ("adafactor", "beta2_decay") => set("decay", value.clone()),
        ("adafactor", "d") => set("threshold", value.clone()),
        (
            "adafactor",
            "decay_rate" | "clip_threshold" | "eps1" | "eps2" | "scale_parameter" | "relative_step",
        ) => {
            let field = match key {
                "decay_rate" => "decay",
                "clip_threshold" => "threshold",
                "eps1" => "epsilon",
                "eps2" => "epsilon_scale",
                field => field,
            };
            set(field, value.clone());
            original(hyper, fields);
        }
        ("adafactor", "betas") => {
            original(hyper, fields);
            // The cap on the decay rate is not reached before step 5,623 of the usual exponent.
            let plain = value.get(0).is_some_and(Value::is_null);
            let capped = value.get(1).and_then(Value::as_f64).is_none_or(|cap| cap < 0.999);
            return if plain && !capped {
                Ok(())
            } else {
                Err(not_offered(name, key, format!("only [null, 0.999] is, not {value}")))
            };
        }
        ("adafactor", "warmup_init") => return only(json!(false)),
        ("adam" | "adamw", "amsgrad" | "ams_bound") => {
            set("amsgrad", json!(if flag(name, key, value)? { "Raw" } else { "Off" }));
        }
        ("adashift", "reduce_func") if value.is_null() => set("reduce", json!("Element")),
        ("adashift", "keep_num") => set("keep", value.clone()),
        ("mars", "mars_type") => return only(json!("adamw")),
        ("mars", "optimize_1d") => set("correct_vectors", json!(flag(name, key, value)?)),
        ("mars", "betas_1d") => {
            return spread(name, key, value, &["vector_beta_1", "vector_beta_2"], fields);
        }
        ("mars", "weight_decay_1d") => set("vector_weight_decay", value.clone()),
        ("mars", "lr_1d") => {
            let (lr, own) = (hyper.get("lr").and_then(Value::as_f64), value.as_f64());
            let (Some(lr), Some(own)) = (lr.filter(|lr| *lr > 0.0), own) else {
                return Err(bad(name, "`lr_1d` is a number, and needs `lr`"));
            };
            set("vector_lr_factor", json!(own / lr));
        }
        ("soap", "precondition_frequency") | ("shampoo", "precondition_frequency") => {
            set("frequency", value.clone());
        }
        ("soap", "max_precondition_dim") | ("shampoo", "max_preconditioner_dim") => {
            set("max_size", value.clone());
        }
        ("soap", "precondition_1d") => set("precondition_vectors", value.clone()),
        ("soap", "normalize_gradient") => set("normalize", value.clone()),
        ("soap", "merge_dims") => return only(json!(false)),
        ("shampoo", "matrix_eps") => set("epsilon", value.clone()),
        ("shampoo", "preconditioning_compute_steps") => return only(json!(1)),
        ("shampoo", "start_preconditioning_step") => set("start", value.clone()),
        ("shampoo", "use_nesterov") => set("nesterov", value.clone()),
        ("signum", "beta") => set("momentum", value.clone()),
        ("adan", "no_prox" | "weight_decouple") => set("proximal", json!(!flag(name, key, value)?)),
        ("adan", "max_grad_norm") => return only(json!(0.0)),
        ("adopt", "clip_exponent" | "clip_lambda") => set("clip", value.clone()),
        ("adabelief" | "laprop" | "schedulefreeadamw", "ams_bound") => {
            set("amsgrad", value.clone())
        }
        // Heard only where `rectify` or `centered` is on, which is refused.
        ("lamb", "n_sma_threshold" | "degenerated_to_sgd") => {}
        ("laprop", "steps_before_using_centered") => {}
        ("cautiouslion", "cautious") => return only(json!(true)),
        ("muon", "adjust_lr_fn") => match value.as_str() {
            Some("original") => set("scale", json!("Original")),
            Some("match_rms_adamw") => set("scale", json!("MatchRmsAdamW")),
            Some("spectral_unclamped") => set("scale", json!("Spectral")),
            _ => return Err(not_offered(name, key, format!("{value} is not"))),
        },
        ("muon", "ns_steps") => set("steps", value.clone()),
        ("muon", "ns_coefficients") => set("coefficients", value.clone()),
        ("schedulefreesgd", "eps") => {}
        ("schedulefreeadamw", "betas") => {
            return spread(name, key, value, &["beta_1", "beta_2"], fields);
        }
        ("prodigy", "eps") if value.is_null() => {
            return Err(not_offered(name, key, "the arc tangent of null is not, only a number"));
        }
        ("prodigy", "d_coef") => set("d_coefficient", value.clone()),
        ("prodigy", "growth_rate") => set("growth", value.clone()),
        ("prodigy", "beta3") => set("beta_3", value.clone()),
        ("yogi", "initial_accumulator") => set("initial", value.clone()),
        ("asgd", "lambd") => set("lambda", value.clone()),
        ("ademamix", "t_alpha_beta3" | "T_alpha_beta3") => set("warmup", value.clone()),
        ("qhadam", "nus") => return spread(name, key, value, &["nu_1", "nu_2"], fields),
        // Only with `pre_norm` does pytorch_optimizer's clip.
        ("lamb", "max_grad_norm") => {}
        ("lamb", "bias_correction") => set("correct_bias", json!(flag(name, key, value)?)),
        ("lamb", "decoupled_decay") => set("decoupled", json!(flag(name, key, value)?)),
        ("lars", "trust_coeff") => set("trust_coefficient", value.clone()),
        ("lamb", "grad_averaging") => return only(json!(true)),
        ("lamb", "adam" | "pre_norm" | "rectify") => return only(json!(false)),
        (_, "always_adapt") if has("always_adapt") => set(key, value.clone()),
        (_, "betas") if has("beta_1") && has("beta_2") => {
            let three = value.as_array().is_some_and(|list| list.len() == 3) && has("beta_3");
            let names: &[&str] =
                if three { &["beta_1", "beta_2", "beta_3"] } else { &["beta_1", "beta_2"] };
            return spread(name, key, value, names, fields);
        }
        (_, "etas") if has("eta_minus") => {
            return spread(name, key, value, &["eta_minus", "eta_plus"], fields);
        }
        (_, "step_sizes") if has("step_min") => {
            return spread(name, key, value, &["step_min", "step_max"], fields);
        }
        (_, "eps") if has("epsilon") => set("epsilon", value.clone()),
        (_, "initial_accumulator_value") if has("initial") => set("initial", value.clone()),
        (_, "warmup_steps") if has("warmup") => set("warmup", value.clone()),
        (_, "decoupled_weight_decay" | "weight_decouple" | "use_decoupled_weight_decay") => {
            set("decoupled", json!(flag(name, key, value)?));
        }
        (_, field) if has(field) => set(field, value.clone()),
        (
            _,
            "rectify"
            | "ams_bound"
            | "cautious"
            | "degenerated_to_sgd"
            | "stable_adamw"
            | "centered"
            | "adanorm"
            | "adam_debias"
            | "caution"
            | "corrected_weight_decay"
            | "trust_clip"
            | "use_gc",
        ) => {
            return only(json!(false));
        }
        (_, "clipping_threshold") => return Err(not_offered(name, key, "only null is")),
        _ => {
            return Err(OptimError::UnknownKeyword { name: name.into(), keyword: key.into() });
        }
    }
    Ok(())
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

/// Whether null is a value of its own rather than another word for the default.
pub(super) fn null_counts(target: &str, key: &str) -> bool {
    matches!(
        (target, key),
        ("adopt", "clip" | "clip_exponent" | "clip_lambda")
            | ("adashift", "reduce_func")
            | ("prodigy", "eps")
    )
}

/// The keywords of the original Adafactor, in which the rate follows the step unless told otherwise.
pub(super) fn original(hyper: &Map<String, Value>, fields: &mut Map<String, Value>) {
    fields.insert("form".into(), json!("Original"));
    if !hyper.contains_key("relative_step") {
        fields.insert("relative_step".into(), json!(true));
    }
}

/// A number of steps that is written as a float.
pub(super) fn whole(value: &Value) -> Option<Value> {
    let number = value.as_f64().filter(|_| value.is_f64())?;
    let counts = number.fract() == 0.0 && (0.0..9e15).contains(&number);
    counts.then(|| json!(number as u64))
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::keywords::create_from_hyper;
    use crate::keywords::tests::rule_of;

    #[test]
    fn null_is_a_value_where_the_library_means_one() {
        for key in ["clip", "clip_lambda", "clip_exponent"] {
            assert!(rule_of("adopt", json!({key: null})).contains("clip: None"), "{key}");
        }
        assert!(rule_of("adopt", json!({"clip_lambda": 0.5})).contains("clip: Some(0.5)"));
        assert!(rule_of("adashift", json!({"reduce_func": null})).contains("reduce: Element"));
        let error = create_from_hyper("prodigy", &json!({"eps": null})).expect_err("refused");
        assert!(matches!(&error, OptimError::NotOffered { keyword, .. } if keyword == "eps"));
        assert_eq!(
            error.to_string(),
            "`prodigy` is not offered with `eps`: the arc tangent of null is not, only a number"
        );
        // Elsewhere it is another word for the default.
        assert_eq!(rule_of("adam", json!({"eps": null})), rule_of("adam", json!({})));
    }

    #[test]
    fn what_has_no_effect_is_accepted_and_what_it_belongs_to_is_not_offered() {
        for (name, inert, on) in [
            ("adan", json!({"max_grad_norm": 0}), json!({"max_grad_norm": 1.0})),
            ("adabelief", json!({"adanorm": false}), json!({"adanorm": true})),
            (
                "lamb",
                json!({"n_sma_threshold": 5, "degenerated_to_sgd": false, "adam": false}),
                json!({"adam": true}),
            ),
            (
                "laprop",
                json!({"centered": false, "steps_before_using_centered": 10}),
                json!({"centered": true}),
            ),
            ("adafactor", json!({"betas": [null, 0.999]}), json!({"betas": [0.9, 0.999]})),
            ("muon", json!({"adjust_lr_fn": "spectral_unclamped"}), json!({"adjust_lr_fn": "x"})),
            ("nadamw", json!({"caution": false}), json!({"caution": true})),
            (
                "lamb",
                json!({"bias_correction": true, "max_grad_norm": null}),
                json!({"bias_correction": true}),
            ),
        ] {
            rule_of(name, inert);
            let error = create_from_hyper(name, &on).expect_err("refused");
            assert!(matches!(error, OptimError::NotOffered { .. }), "{name} {on}: {error}");
        }
    }

    #[test]
    fn lists_belong_to_rules_that_have_them() {
        for (name, key) in [
            ("sgd", "betas"),
            ("schedulefreesgd", "betas"),
            ("adam", "etas"),
            ("adam", "step_sizes"),
        ] {
            let error = create_from_hyper(name, &json!({key: [0.5, 0.9]})).expect_err("refused");
            let unknown = OptimError::UnknownKeyword { name: name.into(), keyword: key.into() };
            assert_eq!(error, unknown);
        }
    }

    #[test]
    fn a_number_of_steps_may_be_written_as_a_float() {
        assert!(rule_of("ademamix", json!({"t_alpha_beta3": 20.0})).contains("warmup: Some(20)"));
        assert!(create_from_hyper("ademamix", &json!({"t_alpha_beta3": 2.5})).is_err());
    }
}
