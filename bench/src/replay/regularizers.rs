//! Replays penalties, constraints, losses, mixing, augmentation and dropout as torch, torchvision and timm recorded
//! them.
//!
//! `{"name":"l2","args":{"strength":0.1},"layer":"Linear","inputs":{"weight":{"shape":[1,2],"data":[3,4]}},
//! "output":[1.25],"gradients":{"weight":[0.3,0.4]}}`; the other forms stand with
//! [`firebrick::regularize::replay_case`].

use firebrick::regularize::{RegularizeError, replay_case};
use serde_json::Value;

use crate::outcome::{Context, Outcome};

/// Runs one case.
pub(crate) fn replay(case: &Value, context: &Context) -> Outcome {
    match replay_case(case, &context.device) {
        Ok(replay) => {
            let max_abs_diff = replay.max_abs_diff();
            let allowed = context.tolerance.unwrap_or(replay.allowed);
            Outcome::Compared { max_abs_diff, ok: max_abs_diff <= allowed }
        }
        Err(
            error @ (RegularizeError::UnknownCase { .. } | RegularizeError::UnknownArgument { .. }),
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
    fn a_penalty_and_its_gradient_are_compared() {
        let case = |gradient: f64| {
            json!({"name": "l2", "args": {"strength": 0.5}, "layer": "Linear", "output": [6.25],
                   "inputs": {"weight": {"shape": [1, 2], "data": [3, 4]}},
                   "gradients": {"weight": [1.5, gradient]}})
        };
        let ok = |outcome| matches!(outcome, Outcome::Compared { ok: true, .. });
        assert!(ok(replay(&case(2.0), &on_flex(None))));
        assert!(!ok(replay(&case(2.001), &on_flex(None))));
        assert!(ok(replay(&case(2.001), &on_flex(Some(1e-2)))));
    }

    #[test]
    fn statistics_are_compared_in_standard_errors() {
        let case = |kept: f64| {
            json!({"name": "inverted", "args": {"prob": 0.25}, "shape": [1000, 100],
                   "input": "ones", "statistics": {"kept": [kept, 1.37e-3]}})
        };
        let ok = |outcome| matches!(outcome, Outcome::Compared { ok: true, .. });
        assert!(ok(replay(&case(0.75), &on_flex(None))));
        assert!(!ok(replay(&case(0.77), &on_flex(None))));
    }

    #[test]
    fn an_unknown_name_is_unknown_and_a_bad_case_fails() {
        for unknown in [
            json!({"name": "by_moon", "args": {}, "inputs": {}, "output": []}),
            json!({"name": "by_moon", "shape": [3], "statistics": {}}),
            json!({"name": "l2", "args": {"strength": 1, "phase": "full"}, "inputs": {}, "output": []}),
        ] {
            assert!(matches!(replay(&unknown, &on_flex(None)), Outcome::Unknown(_)), "{unknown}");
        }
        for bad in [json!({}), json!({"name": "l2"}), json!([])] {
            assert!(matches!(replay(&bad, &on_flex(None)), Outcome::Failed(_)), "{bad}");
        }
    }
}
