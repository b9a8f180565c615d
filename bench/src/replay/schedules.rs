//! Replays learning-rate schedules as torch or firebrick itself recorded them.
//!
//! `{"name":"steplr","hyper":{"step_size":2},"lr":0.4,"lrs":[0.4,0.4,0.04]}`; `lrs[k]` is the rate of update `k`.

use firebrick::optim::schedule::{self, ScheduleCase, ScheduleError};
use serde_json::Value;

use crate::outcome::{Context, Outcome};

/// Relative to the largest recorded rate, for `updates` of them. torch multiplies its rates along, in f64, which leaves
/// some 2^-53 an update. Its cosine climbs again past `T_max` from a rate that has few right digits, and is off by up
/// to this: measured over periods of 7 to 10,000 and as many as 30,000 updates, 0.98 of it at the worst.
fn tolerance(updates: usize) -> f64 {
    1e-12 * (1.0 + updates as f64 / 1000.0)
}

/// Runs one case.
pub(crate) fn replay(case: &Value, context: &Context) -> Outcome {
    let case: ScheduleCase = match serde_json::from_value(case.clone()) {
        Ok(case) => case,
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    match schedule::replay(&case) {
        Ok(max_abs_diff) => {
            let largest = case.lrs.iter().fold(0.0_f64, |largest, rate| largest.max(rate.abs()));
            let allowed = context.tolerance.unwrap_or(tolerance(case.lrs.len()) * largest);
            Outcome::Compared { max_abs_diff, ok: max_abs_diff <= allowed }
        }
        Err(error @ (ScheduleError::UnknownName { .. } | ScheduleError::UnknownKeyword { .. })) => {
            Outcome::Unknown(error.to_string())
        }
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::outcome::on_flex;

    #[test]
    fn a_recorded_schedule_is_compared_within_the_tolerance() {
        let case = |last: f64| {
            json!({"name": "steplr", "hyper": {"step_size": 2, "gamma": 0.5}, "lr": 0.4,
                   "lrs": [0.4, 0.4, 0.2, 0.2, last]})
        };
        let ok = |outcome| matches!(outcome, Outcome::Compared { ok: true, .. });
        assert!(ok(replay(&case(0.1), &on_flex(None))));
        assert!(!ok(replay(&case(0.1001), &on_flex(None))));
        assert!(ok(replay(&case(0.1001), &on_flex(Some(1e-3)))));
        assert!(!ok(replay(&case(0.1001), &on_flex(Some(1e-5)))));
    }

    #[test]
    fn an_unknown_name_or_keyword_is_unknown_and_a_bad_case_fails() {
        let unknown = json!({"name": "by_moon", "lr": 0.1, "lrs": [0.1]});
        assert!(
            matches!(replay(&unknown, &on_flex(None)), Outcome::Unknown(why) if why.contains("by_moon"))
        );
        let keyword = json!({"name": "steplr", "hyper": {"step_size": 2, "moon": 1}, "lr": 0.1, "lrs": [0.1]});
        assert!(
            matches!(replay(&keyword, &on_flex(None)), Outcome::Unknown(why) if why.contains("`moon`"))
        );
        for bad in [json!({"name": "steplr"}), json!({"name": "steplr", "lr": 0.1, "lrs": [0.1]})] {
            assert!(matches!(replay(&bad, &on_flex(None)), Outcome::Failed(_)), "{bad}");
        }
    }
}
