//! Replays gradient clipping as torch recorded it.
//!
//! `{"name":"clip_grad_norm","shapes":[[4,3],[3]],"before":[[..],[..]],"max_norm":1.3,"norm_type":"2","norm":29.6,
//! "after":[[..],[..]]}`

use firebrick::stabilize::{StabilizeError, replay_clip};
use serde_json::Value;

use crate::outcome::{Context, Outcome};

/// Relative to the norm or the largest gradient, whichever is larger: torch sums in f32, a few roundings of 6e-8.
const TOLERANCE: f64 = 5e-7;
/// The root of f32's smallest number: the squares of what is smaller are 0 in torch.
const TINY: f64 = 3.8e-23;

/// Runs one case.
pub(crate) fn replay(case: &Value, context: &Context) -> Outcome {
    match replay_clip(case, &context.device) {
        Ok(replay) => {
            let allowed = |of: f64| context.tolerance.unwrap_or(TOLERANCE * of + TINY);
            let norm = replay.norm.filter(|norm| norm.is_finite()).unwrap_or(0.0);
            let norm_diff = replay.norm_diff.unwrap_or(0.0);
            let max_abs_diff = replay.max_abs_diff.max(norm_diff);
            let ok = replay.max_abs_diff <= allowed(largest(case.get("after")))
                && norm_diff <= allowed(norm);
            Outcome::Compared { max_abs_diff, ok }
        }
        Err(error @ StabilizeError::UnknownClip { .. }) => Outcome::Unknown(error.to_string()),
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

/// The largest finite number in nested lists, without its sign.
fn largest(value: Option<&Value>) -> f64 {
    match value {
        Some(Value::Array(list)) => {
            list.iter().map(|value| largest(Some(value))).fold(0.0, f64::max)
        }
        Some(value) => value.as_f64().map_or(0.0, f64::abs),
        None => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::outcome::on_flex;

    #[test]
    fn a_recorded_clip_is_compared_within_the_tolerance() {
        let case = |last: f64| {
            json!({"name": "clip_grad_norm", "shapes": [[2], [1]], "before": [[3.0, -4.0], [12.0]],
                   "max_norm": 1.3, "norm_type": "2", "norm": 13.0, "after": [[0.3, -0.4], [last]]})
        };
        let ok = |outcome| matches!(outcome, Outcome::Compared { ok: true, .. });
        assert!(ok(replay(&case(1.2), &on_flex(None))));
        assert!(!ok(replay(&case(1.2001), &on_flex(None))));
        assert!(ok(replay(&case(1.2001), &on_flex(Some(1e-3)))));
    }

    #[test]
    fn an_unknown_name_is_unknown_and_a_bad_case_fails() {
        let unknown = json!({"name": "by_moon", "shapes": [], "before": [], "after": []});
        assert!(
            matches!(replay(&unknown, &on_flex(None)), Outcome::Unknown(why) if why.contains("by_moon"))
        );
        let bad =
            json!({"name": "clip_grad_norm", "shapes": [[2]], "before": [[1.0]], "after": [[1.0]]});
        assert!(matches!(replay(&bad, &on_flex(None)), Outcome::Failed(_)));
    }
}
