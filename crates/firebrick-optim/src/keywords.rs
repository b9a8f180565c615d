//! Optimizers by the keywords of PyTorch, pytorch_optimizer and timm, for recorded cases.

use crate::decay::{Decay, DecayOn};
use crate::elementwise::Elementwise;
use crate::error::OptimError;
use crate::registry::{self, RuleCard};
use serde_json::{Map, Value, json};

/// Names in other libraries for what is called otherwise here, without `-` and `_`.
const ALIASES: &[(&str, &str)] = &[
    ("sgdw", "sgd"),
    ("signsgd", "signum"),
    ("tiger", "signum"),
    ("cadamw", "cautiousadamw"),
    ("clion", "cautiouslion"),
];

/// The card of an optimizer under its name here or in another library, in any spelling.
pub(crate) fn card_of(name: &str) -> Option<&'static RuleCard> {
    let plain = registry::plain(name);
    let alias = ALIASES.iter().find(|(alias, _)| *alias == plain);
    registry::card(alias.map_or(plain.as_str(), |(_, name)| *name))
}

/// The optimizer called `name` with hyper-parameters spelt as in `torch.optim`, pytorch_optimizer or timm; weight decay
/// applies to every parameter, and matrices are laid out as PyTorch has them. The name counts in any spelling:
/// `AdamW`, `adam-w`, `schedule_free_sgd`.
///
/// `lr` may stand among them and is passed over; so are keywords that choose an implementation (`foreach`, `fused`,
/// `capturable`, `differentiable`).
///
/// # Errors
/// [`OptimError::UnknownName`] and [`OptimError::UnknownKeyword`] for what nobody has, [`OptimError::NotOffered`] for a
/// variant of another library that is not offered here; else when a value is refused.
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
    let card = card_of(name).ok_or_else(|| registry::unknown(name))?;
    let empty = Map::new();
    let hyper = match hyper {
        Value::Object(fields) => fields,
        Value::Null => &empty,
        other => return Err(bad(name, format!("hyper-parameters are an object, not {other}"))),
    };
    // pytorch_optimizer has a keyword for what has a name of its own here.
    let cautious = card.name == "lion" && hyper.get("cautious") == Some(&Value::Bool(true));
    let card = if cautious { registry::card("cautiouslion").unwrap_or(card) } else { card };
    let target = card.name;
    let timm = of_timm(target, hyper);
    let mut fields = library_defaults(&registry::plain(name), target, timm, hyper);
    let defaults = card.defaults();
    let (mut maximize, mut decoupled, mut fixed) = (false, None, false);
    for (key, value) in hyper {
        if value.is_null() && !null_counts(target, key) {
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
                if target == "adafactor" {
                    original(hyper, &mut fields);
                }
            }
            _ => translate(name, target, (key, value), hyper, &defaults, &mut fields)?,
        }
    }
    if timm && target == "lamb" && hyper.get("max_grad_norm") != Some(&Value::Null) {
        let reason = "only null is; clipping is left to the gradients";
        return Err(not_offered(name, "max_grad_norm", reason));
    }
    for (field, value) in &mut fields {
        let counts = field == "warmup" || defaults.get(field).is_some_and(Value::is_u64);
        if counts && let Some(number) = whole(value) {
            *value = number;
        }
    }
    let mut optimizer = card.create(&Value::Object(fields.clone()))?;
    let strength = optimizer.decay().strength();
    match decoupled {
        // These decay inside their own formulas; coupled decay goes around them.
        Some(false) if matches!(target, "adafactor" | "stableadamw") => {
            fields.insert("weight_decay".into(), json!(0.0));
            let rule = card.create(&Value::Object(fields))?;
            optimizer = rule.with_decay(Decay::Coupled(strength))?;
        }
        Some(false) if target == "mars" && strength == 0.0 => {
            // Without effect on vectors there.
            fields.insert("vector_weight_decay".into(), json!(0.0));
            optimizer = card.create(&Value::Object(fields))?;
        }
        Some(decoupled) => optimizer = with_form(name, optimizer, decoupled)?,
        None => {}
    }
    if fixed {
        let lr = hyper.get("lr").and_then(Value::as_f64);
        optimizer = match (optimizer.decay(), lr) {
            (Decay::Decoupled(weight_decay), Some(base_lr)) => {
                optimizer.with_decay(Decay::Independent { weight_decay, base_lr })?
            }
            (Decay::Decoupled(_), None) => return Err(bad(name, "`fixed_decay` needs `lr`")),
            (Decay::Coupled(_) | Decay::None, _) => optimizer,
            _ => return Err(not_offered(name, "fixed_decay", "only false is")),
        };
    }
    let on = match (target, timm) {
        // timm adapts what decays, which is nothing without a strength.
        ("lars" | "lamb", true) if strength == 0.0 => DecayOn::Nothing,
        // pytorch_optimizer's LARS leaves vectors to plain momentum.
        ("lars", false) => DecayOn::Matrices,
        _ => DecayOn::All,
    };
    Ok(optimizer.with_decay_on(on).with_maximize(maximize))
}

/// Whether null is a value of its own rather than another word for the default.
fn null_counts(target: &str, key: &str) -> bool {
    matches!(
        (target, key),
        ("adopt", "clip" | "clip_exponent" | "clip_lambda")
            | ("adashift", "reduce_func")
            | ("prodigy", "eps")
    )
}

/// Whether the keywords of a rule that libraries understand differently are timm's.
fn of_timm(target: &str, hyper: &Map<String, Value>) -> bool {
    let own: &[&str] = match target {
        "lamb" => &["bias_correction", "trust_clip", "caution", "decoupled_decay"],
        "lars" => &["trust_coeff", "trust_clip"],
        _ => return false,
    };
    own.iter().any(|key| hyper.contains_key(*key))
        || target == "lamb" && hyper.get("max_grad_norm") == Some(&Value::Null)
}

/// The keywords of the original Adafactor, in which the rate follows the step unless told otherwise.
fn original(hyper: &Map<String, Value>, fields: &mut Map<String, Value>) {
    fields.insert("form".into(), json!("Original"));
    if !hyper.contains_key("relative_step") {
        fields.insert("relative_step".into(), json!(true));
    }
}

/// A number of steps that is written as a float.
fn whole(value: &Value) -> Option<Value> {
    let number = value.as_f64().filter(|_| value.is_f64())?;
    let counts = number.fract() == 0.0 && (0.0..9e15).contains(&number);
    counts.then(|| json!(number as u64))
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
        Decay::Inner(_) if strength == 0.0 => Ok(optimizer),
        // pytorch_optimizer's MARS adds it to the gradient that the next step compares with, and to nothing else.
        Decay::Inner(_) => Err(not_offered(name, "weight_decouple", "coupled weight decay is not")),
        _ if decoupled => Ok(optimizer.with_decay(Decay::Decoupled(strength))?),
        _ => Ok(optimizer.with_decay(Decay::Coupled(strength))?),
    }
}

/// Where the libraries' classes have other defaults than this crate.
fn library_defaults(
    name: &str,
    target: &str,
    timm: bool,
    hyper: &Map<String, Value>,
) -> Map<String, Value> {
    // pytorch_optimizer's LAMB is that of the paper's first version; its keywords tell it.
    let own = [
        "weight_decouple",
        "max_grad_norm",
        "pre_norm",
        "grad_averaging",
        "rectify",
        "adam",
        "n_sma_threshold",
        "degenerated_to_sgd",
    ];
    let first_version = own.iter().any(|key| hyper.contains_key(*key));
    let fields = match (name, target) {
        ("sgdw", _) => json!({"decoupled": true}),
        ("tiger", _) => json!({"momentum": 0.965, "weight_decay": 0.01}),
        (_, "muon") => json!({"fan_out": "First"}),
        (_, "lamb") if timm => json!({"weight_decay": 0.01}),
        (_, "lars") if timm => json!({"momentum": 0.0}),
        (_, "lamb") if first_version => json!({
            "always_adapt": true, "correct_bias": false, "largest_norm": 10.0, "decoupled": true
        }),
        (_, "lamb") => json!({"always_adapt": true}),
        (_, "ademamix") => json!({"decoupled": false}),
        // Lion's own.
        ("lion", "cautiouslion") => json!({"beta_1": 0.9, "beta_2": 0.99}),
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

fn not_offered(name: &str, keyword: &str, reason: impl Into<String>) -> OptimError {
    OptimError::NotOffered { name: name.into(), keyword: keyword.into(), reason: reason.into() }
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
        // Heard only where `rectify` or `centered` is on, which is refused.
        ("adabelief" | "lamb", "n_sma_threshold" | "degenerated_to_sgd") => {}
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
        ("schedulefreeadamw", "decoupling_c") => return only(json!(0)),
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
        assert!(refused("adamm", json!({})).contains("no optimizer is called `adamm`"));
    }

    fn rule_of(name: &str, hyper: Value) -> String {
        let rule = create_from_hyper(name, &hyper);
        format!("{:?}", rule.unwrap_or_else(|error| panic!("{name} {hyper}: {error}")))
    }

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
            (
                "adabelief",
                json!({"rectify": false, "n_sma_threshold": 5, "degenerated_to_sgd": true}),
                json!({"rectify": true}),
            ),
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
    fn names_count_in_any_spelling() {
        for (one, other) in [
            ("schedulefreesgd", "schedule_free_sgd"),
            ("adamw", "adam-w"),
            ("adafactor", "ada_factor"),
            ("adamatan2", "Adam_Atan2"),
            ("sgdw", "SGD-W"),
            ("cadamw", "c_adamw"),
        ] {
            assert_eq!(rule_of(one, json!({})), rule_of(other, json!({})), "{other}");
        }
        let hyper = json!({"warmup_steps": 3.0, "eps": 1e-8});
        assert_eq!(rule_of("schedule_free_sgd", hyper.clone()), rule_of("schedulefreesgd", hyper));
        let hyper = json!({"eps": [null, 1e-2], "beta2_decay": -0.7});
        assert_eq!(rule_of("ada_factor", hyper.clone()), rule_of("adafactor", hyper));
        assert!(rule_of("ademamix", json!({"t_alpha_beta3": 20.0})).contains("warmup: Some(20)"));
        assert!(create_from_hyper("ademamix", &json!({"t_alpha_beta3": 2.5})).is_err());
    }

    #[test]
    fn a_cautious_lion_has_the_defaults_of_lion() {
        let cautious = rule_of("Lion", json!({"cautious": true}));
        let own = rule_of("cautiouslion", json!({"beta_1": 0.9, "beta_2": 0.99}));
        assert_eq!(cautious, own);
        assert_eq!(
            rule_of("lion", json!({"cautious": false})),
            rule_of("lion", json!({"cautious": null}))
        );
    }

    #[test]
    fn coupled_decay_goes_around_rules_that_decay_inside() {
        let decay = |name: &str, hyper: Value| {
            create_from_hyper(name, &hyper).map(|optimizer| optimizer.decay())
        };
        for name in ["stableadamw", "adafactor"] {
            let coupled = json!({"weight_decay": 0.1, "weight_decouple": false});
            assert_eq!(decay(name, coupled), Ok(Decay::Coupled(0.1)), "{name}");
            let inner = json!({"weight_decay": 0.1, "weight_decouple": true});
            assert_eq!(decay(name, inner), Ok(Decay::Inner(0.1)), "{name}");
        }
        assert_eq!(decay("mars", json!({"weight_decouple": false})), Ok(Decay::Inner(0.0)));
        let coupled = json!({"weight_decay": 0.1, "weight_decouple": false});
        assert!(matches!(decay("mars", coupled), Err(OptimError::NotOffered { .. })));
    }
}
