//! Optimizers by the keywords of PyTorch and of pytorch_optimizer, for recorded cases.

use crate::decay::{Decay, DecayOn};
use crate::elementwise::Elementwise;
use crate::error::OptimError;
use crate::registry;
use serde_json::{Map, Value, json};

/// Names in other libraries for what is called otherwise here.
const ALIASES: &[(&str, &str)] = &[
    ("sgdw", "sgd"),
    ("signsgd", "signum"),
    ("tiger", "signum"),
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
    let mut fields = library_defaults(&lower, target, hyper);
    let defaults = card.defaults();
    let (mut maximize, mut decoupled, mut fixed) = (false, None, false);
    for (key, value) in hyper {
        if value.is_null() && key != "clip" && key != "clip_lambda" {
            continue;
        }
        match key.as_str() {
            "lr" | "foreach" | "fused" | "capturable" | "differentiable" | "kahan_sum"
            | "data_format" | "momentum_dtype" => {}
            "maximize" => maximize = flag(name, key, value)?,
            "fixed_decay" => fixed = flag(name, key, value)?,
            "decoupled_weight_decay" | "weight_decouple" | "use_decoupled_weight_decay"
                if target != "adan" && defaults.get("decoupled").is_none() =>
            {
                decoupled = Some(flag(name, key, value)?);
            }
            _ => translate(name, target, (key, value), hyper, &defaults, &mut fields)?,
        }
    }
    let mut optimizer = card.create(&Value::Object(fields))?;
    if let Some(decoupled) = decoupled {
        optimizer = with_form(name, optimizer, decoupled)?;
    }
    if fixed {
        let lr = hyper.get("lr").and_then(Value::as_f64);
        optimizer = match (optimizer.decay(), lr) {
            (Decay::Decoupled(weight_decay), Some(base_lr)) => {
                optimizer.with_decay(Decay::Independent { weight_decay, base_lr })?
            }
            (Decay::Coupled(_) | Decay::None, _) => optimizer,
            _ => return Err(bad(name, "`fixed_decay` = true is not offered")),
        };
    }
    // pytorch_optimizer's LARS leaves vectors to plain momentum.
    let on = if target == "lars" { DecayOn::Matrices } else { DecayOn::All };
    Ok(optimizer.with_decay_on(on).with_maximize(maximize))
}

/// The rule with its weight decay in the other form.
fn with_form(
    name: &str,
    optimizer: Elementwise,
    decoupled: bool,
) -> Result<Elementwise, OptimError> {
    let strength = optimizer.decay().strength();
    match optimizer.decay() {
        // These have the decoupled form in their own formulas.
        Decay::Inner(_) | Decay::Late(_) if decoupled => Ok(optimizer),
        Decay::Inner(_) => Err(bad(name, "coupled weight decay is not offered")),
        _ if decoupled => Ok(optimizer.with_decay(Decay::Decoupled(strength))?),
        _ => Ok(optimizer.with_decay(Decay::Coupled(strength))?),
    }
}

/// Where the libraries' classes have other defaults than this crate.
fn library_defaults(name: &str, target: &str, hyper: &Map<String, Value>) -> Map<String, Value> {
    // pytorch_optimizer's LAMB is that of the paper's first version; its keywords tell it.
    let own = ["weight_decouple", "max_grad_norm", "pre_norm", "grad_averaging", "rectify", "adam"];
    let first_version = own.iter().any(|key| hyper.contains_key(*key));
    let fields = match (name, target) {
        ("sgdw", _) => json!({"decoupled": true}),
        ("tiger", _) => json!({"momentum": 0.965, "weight_decay": 0.01}),
        (_, "muon") => json!({"fan_out": "First"}),
        (_, "lamb") if first_version => json!({
            "always_adapt": true, "correct_bias": false, "largest_norm": 10.0, "decoupled": true
        }),
        (_, "lamb") => json!({"always_adapt": true}),
        (_, "ademamix") => json!({"decoupled": false}),
        (_, "mars") => {
            let lr = hyper.get("lr").and_then(Value::as_f64).filter(|lr| *lr > 0.0);
            let factor = lr.map_or(1.0, |lr| 3e-3 / lr);
            json!({"vector_weight_decay": 0.1, "vector_lr_factor": factor})
        }
        (_, "shampoo") => json!({
            "graft": "None", "beta_1": 0.0, "beta_2": 1.0, "epsilon": 1e-6, "frequency": 1,
            "precondition_vectors": true, "decoupled": false
        }),
        _ => json!({}),
    };
    fields.as_object().cloned().unwrap_or_default()
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
            Err(bad(name, format!("`{key}` = {value} is not offered, only {wanted}")))
        }
    };
    match (target, key) {
        ("adafactor", "eps") => {
            return spread(name, key, value, &["epsilon", "epsilon_scale"], fields);
        }
        ("adafactor", "beta2_decay") => set("decay", value.clone()),
        ("adafactor", "d") => set("threshold", value.clone()),
        // The keywords of the original, in which the rate follows the step unless told otherwise.
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
            set("form", json!("Original"));
            if !hyper.contains_key("relative_step") {
                set("relative_step", json!(true));
            }
        }
        ("adafactor", "warmup_init") => return only(json!(false)),
        ("adam" | "adamw", "amsgrad" | "ams_bound") => {
            set("amsgrad", json!(if flag(name, key, value)? { "Raw" } else { "Off" }));
        }
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
        ("adopt", "clip_exponent") => set("clip", value.clone()),
        ("muon", "adjust_lr_fn") => match value.as_str() {
            Some("original") => set("scale", json!("Original")),
            Some("match_rms_adamw") => set("scale", json!("MatchRmsAdamW")),
            _ => return Err(bad(name, format!("`{key}` = {value} is not offered"))),
        },
        ("muon", "ns_steps") => set("steps", value.clone()),
        ("muon", "ns_coefficients") => set("coefficients", value.clone()),
        ("schedulefreesgd", "eps") => {}
        ("schedulefreeadamw", "decoupling_c") => return only(json!(0)),
        ("schedulefreeadamw", "betas") => {
            return spread(name, key, value, &["beta_1", "beta_2"], fields);
        }
        ("prodigy", "d_coef") => set("d_coefficient", value.clone()),
        ("prodigy", "growth_rate") => set("growth", value.clone()),
        ("prodigy", "beta3") => set("beta_3", value.clone()),
        ("yogi", "initial_accumulator") => set("initial", value.clone()),
        ("asgd", "lambd") => set("lambda", value.clone()),
        ("ademamix", "t_alpha_beta3" | "T_alpha_beta3") => set("warmup", value.clone()),
        ("qhadam", "nus") => return spread(name, key, value, &["nu_1", "nu_2"], fields),
        // Only with `pre_norm` does it clip.
        ("lamb", "max_grad_norm") => {}
        ("lamb", "grad_averaging") => return only(json!(true)),
        ("lamb", "adam" | "pre_norm" | "rectify") => return only(json!(false)),
        (_, "always_adapt") if has("always_adapt") => set(key, value.clone()),
        (_, "betas") => {
            let three = value.as_array().is_some_and(|list| list.len() == 3) && has("beta_3");
            let names: &[&str] =
                if three { &["beta_1", "beta_2", "beta_3"] } else { &["beta_1", "beta_2"] };
            return spread(name, key, value, names, fields);
        }
        (_, "etas") => return spread(name, key, value, &["eta_minus", "eta_plus"], fields),
        (_, "step_sizes") => return spread(name, key, value, &["step_min", "step_max"], fields),
        (_, "eps") if has("epsilon") => set("epsilon", value.clone()),
        (_, "initial_accumulator_value") if has("initial") => set("initial", value.clone()),
        (_, "warmup_steps") if has("warmup") => set("warmup", value.clone()),
        (_, "decoupled_weight_decay" | "weight_decouple" | "use_decoupled_weight_decay") => {
            set("decoupled", json!(flag(name, key, value)?));
        }
        (_, field) if has(field) => set(field, value.clone()),
        (
            _,
            "rectify" | "ams_bound" | "cautious" | "degenerated_to_sgd" | "stable_adamw"
            | "centered" | "adanorm" | "adam_debias",
        ) => {
            return only(json!(false));
        }
        _ => {
            return Err(OptimError::UnknownKeyword { name: name.into(), keyword: key.into() });
        }
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
            refused("adam", json!({"beta": [0.9, 0.99]})).contains("has no hyper-parameter `beta`")
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
