//! Where the libraries' classes have other defaults than this crate, and whose keywords they are.

use serde_json::{Map, Value, json};

/// Whether the keywords of a rule that libraries understand differently are timm's.
pub(super) fn of_timm(target: &str, hyper: &Map<String, Value>) -> bool {
    let own: &[&str] = match target {
        "lamb" => &["bias_correction", "trust_clip", "caution", "decoupled_decay"],
        "lars" => &["trust_coeff", "trust_clip"],
        _ => return false,
    };
    own.iter().any(|key| hyper.contains_key(*key))
        || target == "lamb" && hyper.get("max_grad_norm") == Some(&Value::Null)
}

/// Where the libraries' classes have other defaults than this crate.
pub(super) fn library_defaults(
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

#[cfg(all(test, feature = "flex"))]
mod tests {
    use crate::keywords::tests::rule_of;
    use serde_json::json;

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
}
