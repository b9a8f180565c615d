//! Where the libraries' classes have other defaults than this crate, and whose keywords they are.

use serde_json::{Map, Value, json};

/// Whose class a name means, where those of the libraries differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// The paper's, or the authors' code.
    Published,
    /// The same, recorded in f64: PyTorch's Adafactor takes the machine epsilon of what it steps.
    Doubles,
    /// pytorch_optimizer's.
    PytorchOptimizer,
    /// timm's.
    Timm,
}

impl Reading {
    /// What the keywords tell.
    pub(super) fn told(target: &str, hyper: &Map<String, Value>) -> Self {
        let has = |keys: &[&str]| keys.iter().any(|key| hyper.contains_key(*key));
        let timm = match target {
            "lamb" => {
                hyper.get("max_grad_norm") == Some(&Value::Null)
                    || has(&["bias_correction", "trust_clip", "caution", "decoupled_decay"])
            }
            "lars" => has(&["trust_coeff", "trust_clip"]),
            _ => false,
        };
        let lamb = [
            "weight_decouple",
            "fixed_decay",
            "max_grad_norm",
            "pre_norm",
            "grad_averaging",
            "rectify",
            "adam",
            "n_sma_threshold",
            "degenerated_to_sgd",
        ];
        match target {
            _ if timm => Self::Timm,
            "lars" => Self::PytorchOptimizer,
            "lamb" if has(&lamb) => Self::PytorchOptimizer,
            _ => Self::Published,
        }
    }

    /// What the keywords may mean besides, where they do not tell.
    pub(super) fn other(self, target: &str, hyper: &Map<String, Value>) -> Option<Self> {
        let coupled = hyper.get("weight_decouple") == Some(&Value::Bool(false));
        match (target, self) {
            ("grams" | "laprop" | "prodigy", Self::Published) if coupled => {
                Some(Self::PytorchOptimizer)
            }
            ("adopt" | "lamb" | "lars", Self::Published) => Some(Self::PytorchOptimizer),
            ("adopt" | "lamb" | "lars", Self::PytorchOptimizer) => Some(Self::Published),
            ("adafactor", Self::Published) => Some(Self::Doubles),
            _ => None,
        }
    }
}

/// Where the libraries' classes have other defaults than this crate.
pub(super) fn library_defaults(
    name: &str,
    target: &str,
    reading: Reading,
    hyper: &Map<String, Value>,
) -> Map<String, Value> {
    use Reading::{Doubles, Published, PytorchOptimizer, Timm};
    let fields = match (name, target, reading) {
        ("tiger", ..) => json!({"momentum": 0.965, "weight_decay": 0.01}),
        (_, "muon", _) => json!({"fan_out": "First"}),
        (_, "adafactor", Doubles) => json!({"epsilon": f64::EPSILON}),
        (_, "adopt", PytorchOptimizer) => json!({"early": true}),
        (_, "lamb", Timm) => json!({"weight_decay": 0.01}),
        (_, "lars", Timm) => json!({"momentum": 0.0}),
        (_, "lamb", PytorchOptimizer) => json!({
            "always_adapt": true, "correct_bias": false, "correct_rate": true, "largest_norm": 10.0, "decoupled": true,
            "ratio_epsilon": hyper.get("eps").and_then(Value::as_f64).unwrap_or(1e-6)
        }),
        (_, "lars", PytorchOptimizer) => json!({"dampen_first": true}),
        (_, "lamb" | "lars", Published) => json!({"always_adapt": true}),
        (_, "ademamix", _) => json!({"decoupled": false}),
        // Lion's own.
        ("lion", "cautiouslion", _) => json!({"beta_1": 0.9, "beta_2": 0.99}),
        (_, "mars", _) => {
            let lr = hyper.get("lr").and_then(Value::as_f64).filter(|lr| *lr > 0.0);
            let factor = lr.map_or(1.0, |lr| 3e-3 / lr);
            json!({"vector_weight_decay": 0.1, "vector_lr_factor": factor})
        }
        (_, "shampoo", _) => json!({
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
    fn what_the_keywords_do_not_tell_is_read_both_ways() {
        use crate::keywords::readings;
        let both = |name: &str, hyper: serde_json::Value| -> Vec<String> {
            let readings = readings(name, &hyper).expect("known");
            readings.iter().map(|rule| format!("{rule:?}")).collect()
        };
        let [published, library] = &both("adopt", json!({}))[..] else { panic!("two") };
        assert!(published.contains("early: false") && library.contains("early: true"));
        let [published, library] = &both("lamb", json!({"betas": [0.9, 0.99]}))[..] else {
            panic!("two")
        };
        assert!(published.contains("correct: true") && library.contains("correct: false"));
        let told = both("lamb", json!({"weight_decouple": true}));
        assert!(told[0].contains("correct: false") && told[1].contains("correct: true"));
        let [library, published] = &both("lars", json!({"dampening": 0.1}))[..] else {
            panic!("two")
        };
        assert!(library.contains("dampen_first: true") && library.contains("Matrices"));
        assert!(published.contains("dampen_first: false") && published.contains("All"));
        // Coupled decay comes after the step there, and does nothing.
        let coupled = json!({"weight_decay": 0.1, "weight_decouple": false});
        for name in ["grams", "laprop", "prodigy"] {
            let [published, library] = &both(name, coupled.clone())[..] else { panic!("two") };
            assert!(
                published.contains("Coupled(0.1)") && library.contains("decay: None"),
                "{name}"
            );
        }
        let [single, double] = &both("adafactor", json!({"eps": [null, 1e-2]}))[..] else {
            panic!("two")
        };
        assert!(single.contains("floor: 1.19") && double.contains("floor: 2.22"), "{double}");
        // timm's keywords are nobody else's, and most names mean one rule.
        assert_eq!(both("lars", json!({"trust_coeff": 0.1})).len(), 1);
        assert_eq!(both("adamw", json!({})).len(), 1);
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
}
