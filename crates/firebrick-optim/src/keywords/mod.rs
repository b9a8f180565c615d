//! Optimizers by the keywords of PyTorch, pytorch_optimizer and timm, for recorded cases.

mod defaults;
mod names;
mod translate;

pub(crate) use names::card_of;

use crate::decay::{Decay, DecayOn};
use crate::elementwise::Elementwise;
use crate::error::OptimError;
use crate::registry;
use defaults::{Reading, library_defaults};
use serde_json::{Map, Value, json};
use translate::{null_counts, original, translate, whole};

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
    let case = Case::of(name, hyper)?;
    case.read(Reading::told(case.card.name, &case.hyper))
}

/// All that the keywords may mean, the likeliest first: where the libraries give one name to rules that differ, and
/// the keywords do not tell whose it is.
///
/// # Errors
/// As [`create_from_hyper`].
pub(crate) fn readings(name: &str, hyper: &Value) -> Result<Vec<Elementwise>, OptimError> {
    let case = Case::of(name, hyper)?;
    let told = Reading::told(case.card.name, &case.hyper);
    let mut readings = vec![case.read(told)?];
    readings
        .extend(told.other(case.card.name, &case.hyper).and_then(|other| case.read(other).ok()));
    Ok(readings)
}

/// A name with its keywords.
struct Case<'a> {
    name: &'a str,
    card: &'static registry::RuleCard,
    hyper: Map<String, Value>,
}

impl<'a> Case<'a> {
    fn of(name: &'a str, hyper: &Value) -> Result<Self, OptimError> {
        let card = card_of(name).ok_or_else(|| registry::unknown(name))?;
        let hyper = match hyper {
            Value::Object(fields) => fields.clone(),
            Value::Null => Map::new(),
            other => return Err(bad(name, format!("hyper-parameters are an object, not {other}"))),
        };
        // pytorch_optimizer has a keyword for what has a name of its own here.
        let cautious = card.name == "lion" && hyper.get("cautious") == Some(&Value::Bool(true));
        let card = if cautious { registry::card("cautiouslion").unwrap_or(card) } else { card };
        Ok(Self { name, card, hyper })
    }

    /// The optimizer, the keywords read as a library means them.
    fn read(&self, reading: Reading) -> Result<Elementwise, OptimError> {
        let Self { name, card, hyper } = self;
        let (name, target, timm) = (*name, card.name, reading == Reading::Timm);
        let mut fields = library_defaults(&registry::plain(name), target, reading, hyper);
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
                // Of decoupled decay alone.
                (Decay::Inner(_), _) if target == "lamb" => optimizer,
                _ => return Err(not_offered(name, "fixed_decay", "only false is")),
            };
        }
        // pytorch_optimizer adds coupled decay to a gradient that has been used by then.
        if reading == Reading::PytorchOptimizer && matches!(target, "grams" | "laprop" | "prodigy")
        {
            optimizer = optimizer.with_decay(Decay::None)?;
        }
        let on = match (target, timm) {
            // timm adapts what decays, which is nothing without a strength.
            ("lars" | "lamb", true) if strength == 0.0 => DecayOn::Nothing,
            // pytorch_optimizer's LARS leaves vectors to plain momentum.
            ("lars", false) if reading == Reading::PytorchOptimizer => DecayOn::Matrices,
            _ => DecayOn::All,
        };
        Ok(optimizer.with_decay_on(on).with_maximize(maximize))
    }
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

fn bad(name: &str, reason: impl Into<String>) -> OptimError {
    OptimError::Json { name: name.into(), reason: reason.into() }
}

fn not_offered(name: &str, keyword: &str, reason: impl Into<String>) -> OptimError {
    OptimError::NotOffered { name: name.into(), keyword: keyword.into(), reason: reason.into() }
}

fn flag(name: &str, key: &str, value: &Value) -> Result<bool, OptimError> {
    value.as_bool().ok_or_else(|| bad(name, format!("`{key}` is true or false, not {value}")))
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

    /// What the keywords make, as text.
    pub(super) fn rule_of(name: &str, hyper: Value) -> String {
        let rule = create_from_hyper(name, &hyper);
        format!("{:?}", rule.unwrap_or_else(|error| panic!("{name} {hyper}: {error}")))
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
