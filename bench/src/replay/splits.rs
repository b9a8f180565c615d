//! Replays splits as scikit-learn lists them, unshuffled, compared exactly.
//!
//! `{"kind":"kfold","n":50,"k":7,"folds":[[[train..],[test..]],..]}`; the other fields stand with [`firebrick::split::replay`].

use firebrick::split::{self, SplitError};
use serde_json::Value;

use crate::outcome::{Context, Outcome};

/// Runs one case.
pub(crate) fn replay(case: &Value, _context: &Context) -> Outcome {
    match split::replay(case) {
        Ok(report) if report.cases > 0 && report.equal == report.cases => {
            Outcome::Compared { max_abs_diff: 0.0, ok: true }
        }
        Ok(report) => Outcome::Failed(report.differences.join("; ")),
        Err(error @ SplitError::UnknownKind { .. }) => Outcome::Unknown(error.to_string()),
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::outcome::on_flex;

    #[test]
    fn equals_scikit_learn() {
        // StratifiedKFold(2).split(zeros(8), [5, 5, 3, 5, 3, 3, 5, 3]) of scikit-learn 1.9.1
        let case = json!({"kind": "stratified_kfold", "n": 8, "k": 2,
            "y": [5, 5, 3, 5, 3, 3, 5, 3],
            "folds": [[[3, 5, 6, 7], [0, 1, 2, 4]], [[0, 1, 2, 4], [3, 5, 6, 7]]]});
        let equal = Outcome::Compared { max_abs_diff: 0.0, ok: true };
        assert_eq!(replay(&case, &on_flex(None)), equal);
    }

    #[test]
    fn a_difference_a_bad_case_and_an_unknown_kind_are_told_apart() {
        let different =
            json!({"kind": "kfold", "n": 4, "k": 2, "folds": [[[2, 3], [0, 1]], [[0, 2], [1, 3]]]});
        let Outcome::Failed(why) = replay(&different, &on_flex(None)) else {
            panic!("the folds differ");
        };
        assert!(why.contains("split 1") && why.contains("[0, 1] instead of [0, 2]"), "{why}");
        for bad in [json!({"kind": "kfold", "n": 4, "k": 2}), json!({"n": 4}), json!([])] {
            assert!(matches!(replay(&bad, &on_flex(None)), Outcome::Failed(_)), "{bad}");
        }
        let unknown = json!({"kind": "by_moon", "n": 4, "folds": []});
        assert!(
            matches!(replay(&unknown, &on_flex(None)), Outcome::Unknown(why) if why.contains("by_moon"))
        );
    }
}
