//! Replays optimizers step by step, in f32 on the chosen device, as torch and others recorded them.
//!
//! `{"name":"adam","lr":0.02,"hyper":{"betas":[0.85,0.97]},"shape":[5,3],"init":[..],"grads":[[..],..],"params":[[..],..]}`

use firebrick::optim::{self, OptimError, OptimizerCase};
use serde_json::Value;

use crate::outcome::{Context, Outcome};

/// Runs one case.
pub(crate) fn replay(case: &Value, context: &Context) -> Outcome {
    let case: OptimizerCase = match serde_json::from_value(case.clone()) {
        Ok(case) => case,
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    match optim::replay_with(&case, &context.device, context.fused) {
        Ok(max_abs_diff) => {
            let allowed = context.tolerance.unwrap_or_else(|| case.tolerance());
            Outcome::Compared { max_abs_diff, ok: max_abs_diff <= allowed }
        }
        Err(
            error @ (OptimError::UnknownName { .. }
            | OptimError::UnknownKeyword { .. }
            | OptimError::NotOffered { .. }),
        ) => Outcome::Unknown(error.to_string()),
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::outcome::on_flex;

    #[test]
    fn a_recorded_trajectory_is_compared_within_the_tolerance() {
        // By hand: b_1 = 0.5, p_1 = 1 - 0.05; b_2 = 0.45 - 0.25 = 0.2, p_2 = p_1 - 0.02.
        let case = |last: f64| {
            json!({"name": "sgd", "lr": 0.1, "hyper": {"momentum": 0.9}, "shape": [1],
                   "init": [1.0], "grads": [[0.5], [-0.25]], "params": [[0.95], [last]]})
        };
        let ok = |outcome| matches!(outcome, Outcome::Compared { ok: true, .. });
        assert!(ok(replay(&case(0.93), &on_flex(None))));
        assert!(!ok(replay(&case(0.93001), &on_flex(None))));
        assert!(ok(replay(&case(0.93001), &on_flex(Some(1e-4)))));
    }

    #[test]
    fn an_unknown_name_is_unknown_and_a_bad_case_fails() {
        let case = |name: &str, grads: Value| json!({"name": name, "lr": 0.1, "init": [1.0], "grads": grads, "params": [[0.9]]});
        let unknown = |case: &Value, part: &str| matches!(replay(case, &on_flex(None)), Outcome::Unknown(why) if why.contains(part));
        assert!(unknown(&case("by_moon", json!([[1.0]])), "`by_moon`"));
        let mut keyword = case("sgd", json!([[1.0]]));
        keyword["hyper"] = json!({"moon": 1});
        assert!(unknown(&keyword, "`moon`"));
        let mut variant = case("laprop", json!([[1.0]]));
        variant["hyper"] = json!({"centered": true});
        assert!(unknown(&variant, "`laprop` is not offered with `centered`"));
        for bad in
            [case("sgd", json!([])), case("sgd", json!([[1.0, 2.0]])), json!({"name": "sgd"})]
        {
            assert!(matches!(replay(&bad, &on_flex(None)), Outcome::Failed(_)), "{bad}");
        }
    }
}
