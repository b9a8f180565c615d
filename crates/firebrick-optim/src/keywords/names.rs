//! The names of optimizers, also those that they have in other libraries.

use crate::registry::{self, RuleCard};

/// Names in other libraries for what is called otherwise here, without `-` and `_`.
const ALIASES: &[(&str, &str)] = &[
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

#[cfg(all(test, feature = "flex"))]
mod tests {
    use crate::keywords::tests::rule_of;
    use serde_json::json;

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
    }
}
