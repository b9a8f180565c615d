//! Replays recorded splits of scikit-learn and compares every list.

use crate::{
    GroupKFold, KFold, LeavePGroupsOut, LeavePOut, Predefined, Rows, SplitError, Splits, Splitter,
    StratifiedGroupKFold, StratifiedKFold, TimeSeries, encode,
};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

/// One recorded problem with the folds that scikit-learn gave, or with its error.
#[derive(Debug, Deserialize)]
struct Case {
    kind: String,
    #[serde(default, deserialize_with = "whole", alias = "n_samples")]
    n: Option<u64>,
    #[serde(default, deserialize_with = "whole", alias = "n_splits")]
    k: Option<u64>,
    #[serde(default, deserialize_with = "whole", alias = "n_groups")]
    p: Option<u64>,
    #[serde(alias = "labels")]
    y: Option<Vec<Value>>,
    #[serde(alias = "groups")]
    g: Option<Vec<Value>>,
    #[serde(default, deserialize_with = "whole")]
    gap: Option<u64>,
    #[serde(default, deserialize_with = "whole", alias = "max_train_size")]
    max_train: Option<u64>,
    #[serde(default, deserialize_with = "whole", alias = "test_size")]
    test: Option<u64>,
    /// Fold of each row for `predefined`, -1 for none.
    test_fold: Option<Vec<Value>>,
    shuffle: Option<bool>,
    #[serde(default, deserialize_with = "folds")]
    folds: Option<Vec<Lists>>,
    /// What scikit-learn says where it refuses the problem.
    error: Option<Value>,
}

/// The training and the test rows of a split.
type Lists = [Vec<u32>; 2];

/// A whole number from 0, also as a float: a table with a missing value makes 5.0 of 5.
fn number(value: &Value) -> Option<u64> {
    let float = || value.as_f64().filter(|number| number.fract() == 0.0);
    value.as_u64().or_else(|| Some(float().filter(|n| (0.0..=2f64.powi(53)).contains(n))? as u64))
}

fn whole<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let value = Option::<Value>::deserialize(from)?;
    let refused = |value| D::Error::custom(format!("{value} is no whole number from 0"));
    value.map(|value| number(&value).ok_or_else(|| refused(value))).transpose()
}

/// `[[train, test], ..]` or `[{"train": .., "test": ..}, ..]`.
fn folds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<Lists>>, D::Error> {
    let Some(list) = Option::<Vec<Value>>::deserialize(from)? else { return Ok(None) };
    let row = |value: &Value| number(value).and_then(|row| u32::try_from(row).ok());
    let part = |fold: &Value, place: usize, name: &str| -> Option<Vec<u32>> {
        fold.get(place).or_else(|| fold.get(name))?.as_array()?.iter().map(row).collect()
    };
    let fold = |fold: &Value| {
        let two = fold.as_array().is_none_or(|parts| parts.len() == 2);
        Some([part(fold, 0, "train")?, part(fold, 1, "test")?]).filter(|_| two)
    };
    let lists = list.iter().enumerate().map(|(split, value)| {
        fold(value)
            .ok_or_else(|| D::Error::custom(format!("fold {split} is no pair of lists of rows")))
    });
    lists.collect::<Result<_, _>>().map(Some)
}

impl Case {
    /// As many as were recorded, or as there are labels or groups.
    fn rows(&self) -> Result<usize, SplitError> {
        let columns = [self.y.as_ref(), self.g.as_ref()].into_iter().flatten().map(Vec::len);
        let given = self.n.map(|n| n as usize);
        let len = given.or_else(|| columns.chain(self.test_fold.as_ref().map(Vec::len)).next());
        len.ok_or_else(|| bad("`n` is missing"))
    }

    fn k(&self) -> Result<usize, SplitError> {
        self.k.map(|k| k as usize).ok_or_else(|| bad("`k` is missing"))
    }

    fn p(&self) -> Result<usize, SplitError> {
        self.p.map(|p| p as usize).ok_or_else(|| bad("`p` is missing"))
    }

    /// The fold of each row: every number but -1 is one, in ascending order.
    fn predefined(&self) -> Result<Vec<Option<u32>>, SplitError> {
        let given = self.test_fold.as_ref().or(self.g.as_ref());
        let given = given.ok_or_else(|| bad("`test_fold` is missing"))?;
        let given = given.iter().map(Value::as_i64).collect::<Option<Vec<i64>>>();
        let given =
            given.ok_or_else(|| bad("`test_fold` holds something other than whole numbers"))?;
        let mut kept: Vec<i64> = given.iter().copied().filter(|&fold| fold != -1).collect();
        kept.sort_unstable();
        kept.dedup();
        let place = |fold: &i64| kept.binary_search(fold).ok().map(|fold| fold as u32);
        Ok(given.iter().map(place).collect())
    }

    /// Whether scikit-learn refused the problem.
    fn refused(&self) -> bool {
        self.error.as_ref().is_some_and(|error| error != &Value::Bool(false))
    }
}

/// What came of replaying recorded splits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplayReport {
    /// Problems replayed.
    pub cases: usize,
    /// Problems in which every list is equal.
    pub equal: usize,
    /// What differs, one line a problem.
    pub differences: Vec<String>,
}

fn bad(reason: impl Into<String>) -> SplitError {
    SplitError::BadCase { reason: reason.into() }
}

/// Replays recorded splits: `{"splits": [case, ..]}`, a list of cases, or one case.
///
/// A case is `{"kind", "n", "k", "y", "g", "gap", "max_train", "test", "p", "folds": [[[train], [test]], ..]}`,
/// unshuffled, with what its kind needs; scikit-learn's own names (`n_splits`, `max_train_size`) serve too, and other
/// fields are not looked at. Kinds: `kfold`, `stratified_kfold`, `group_kfold`, `stratified_group_kfold` (in compat mode,
/// its empty folds included), `time_series` (`max_train` of 0 is no limit, as in scikit-learn), `leave_one_out`,
/// `leave_p_out`, `leave_one_group_out`, `leave_p_groups_out`, `predefined` (with `test_fold`, or as `g`), or the names of
/// scikit-learn's classes. `y` and `g` are numbers, truth values or texts. Lists are compared exactly. A case with an
/// `error` in place of its folds is equal when it is refused here too.
///
/// # Errors
/// [`SplitError::BadCase`] when a case is not of this form or is shuffled, [`SplitError::UnknownKind`] when its kind is none
/// of these. A scheme that refuses a case which scikit-learn splits is a difference.
///
/// ```
/// let case = serde_json::json!({"splits": [
///     {"kind": "kfold", "n": 4, "k": 2, "folds": [[[2, 3], [0, 1]], [[0, 1], [2, 3]]]},
/// ]});
/// let report = firebrick_split::replay(&case)?;
/// assert_eq!((report.cases, report.equal), (1, 1));
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
pub fn replay(recorded: &Value) -> Result<ReplayReport, SplitError> {
    let list = recorded.get("splits").unwrap_or(recorded);
    let one = std::slice::from_ref(list);
    let cases = list.as_array().map_or(one, Vec::as_slice);
    let mut report = ReplayReport::default();
    for (index, value) in cases.iter().enumerate() {
        let case =
            Case::deserialize(value).map_err(|error| bad(format!("case {index}: {error}")))?;
        report.cases += 1;
        let n = case.rows().map_or_else(|_| String::new(), |n| format!(", n {n}"));
        let name = format!("case {index} ({}{n})", case.kind);
        match compare(&case) {
            Err(SplitError::BadCase { reason }) => return Err(bad(format!("{name}: {reason}"))),
            Err(error) => return Err(error),
            Ok(Some(text)) => report.differences.push(format!("{name}: {text}")),
            Ok(None) => report.equal += 1,
        }
    }
    Ok(report)
}

/// What differs from the record.
fn compare(case: &Case) -> Result<Option<String>, SplitError> {
    if case.shuffle == Some(true) {
        return Err(bad(
            "it is shuffled, and the shuffles of another generator cannot be compared",
        ));
    }
    match (run(case), case.refused(), &case.folds) {
        (Err(error @ (SplitError::BadCase { .. } | SplitError::UnknownKind { .. })), ..) => {
            Err(error)
        }
        (Err(_), true, _) => Ok(None),
        (Ok(_), true, _) => Ok(Some("it is split, where an error is recorded".into())),
        (_, false, None) => Err(bad("`folds` is missing")),
        (Err(error), false, Some(_)) => Ok(Some(error.to_string())),
        (Ok(ours), false, Some(theirs)) => Ok(difference(&ours, theirs)),
    }
}

fn difference(ours: &[Lists], theirs: &[Lists]) -> Option<String> {
    if ours.len() > theirs.len() {
        return Some(format!("more splits than the {} recorded", theirs.len()));
    }
    if ours.len() < theirs.len() {
        return Some(format!("{} splits instead of {}", ours.len(), theirs.len()));
    }
    for (split, (a, b)) in ours.iter().zip(theirs).enumerate() {
        for (part, name) in ["train", "test"].into_iter().enumerate() {
            if a[part] != b[part] {
                return Some(format!(
                    "split {split}, {name}: {:?} instead of {:?}",
                    a[part], b[part]
                ));
            }
        }
    }
    None
}

/// Codes in the order in which NumPy sorts the values.
fn codes(name: &'static str, column: Option<&Vec<Value>>) -> Result<Vec<u32>, SplitError> {
    let column = column.ok_or_else(|| bad(format!("`{name}` is missing")))?;
    let flag = |value: &Value| value.as_bool().map(u8::from);
    // Beyond 2^53 neighbouring whole numbers are one float.
    let whole = |value: &Value| {
        let number = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
        number.or_else(|| flag(value).map(i128::from))
    };
    if let Some(numbers) = column.iter().map(whole).collect::<Option<Vec<i128>>>() {
        return Ok(encode::sorted(numbers).codes);
    }
    let float = |value: &Value| value.as_f64().or_else(|| flag(value).map(f64::from));
    if let Some(numbers) = column.iter().map(float).collect::<Option<Vec<f64>>>() {
        return Ok(encode::floats(name, &numbers)?.codes);
    }
    // Among texts NumPy writes the other values as texts.
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(if *flag { "True" } else { "False" }.to_owned()),
        _ => None,
    };
    let texts = column.iter().map(text).collect::<Option<Vec<String>>>();
    let texts = texts
        .ok_or_else(|| bad(format!("`{name}` holds something other than numbers and texts")))?;
    Ok(encode::sorted(texts).codes)
}

fn run(case: &Case) -> Result<Vec<Lists>, SplitError> {
    let (k, p) = (|| case.k(), || case.p());
    let y = || codes("y", case.y.as_ref());
    let g = || codes("g", case.g.as_ref());
    // `StratifiedKFold` and `stratified_kfold` are one name.
    let kind = case.kind.replace(['_', '-'], "").to_lowercase();
    let rows = || case.rows().map(Rows::new);
    match kind.strip_suffix("split").unwrap_or(&kind) {
        "kfold" => lists(case, &KFold::new(k()?), &rows()?),
        "stratifiedkfold" => lists(case, &StratifiedKFold::new(k()?), &rows()?.with_labels(&y()?)),
        "groupkfold" => lists(case, &GroupKFold::new(k()?), &rows()?.with_groups(&g()?)),
        "stratifiedgroupkfold" => {
            let scheme = StratifiedGroupKFold::new(k()?).with_sklearn_compat().with_empty_folds();
            lists(case, &scheme, &rows()?.with_labels(&y()?).with_groups(&g()?))
        }
        "timeseries" => {
            let mut scheme = TimeSeries::new(k()?).with_gap(case.gap.unwrap_or(0));
            if let Some(max_train) = case.max_train.filter(|&places| places > 0) {
                scheme = scheme.with_max_train(max_train);
            }
            if let Some(test) = case.test {
                scheme = scheme.with_test(test);
            }
            lists(case, &scheme, &rows()?)
        }
        "leaveoneout" => lists(case, &LeavePOut::one(), &rows()?),
        "leavepout" => lists(case, &LeavePOut::new(p()?).with_cap(CAP), &rows()?),
        "leaveonegroupout" => lists(case, &LeavePGroupsOut::one(), &rows()?.with_groups(&g()?)),
        "leavepgroupsout" => {
            let scheme = LeavePGroupsOut::new(p()?).with_cap(CAP);
            lists(case, &scheme, &rows()?.with_groups(&g()?))
        }
        "predefined" => match lists(case, &Predefined::new(case.predefined()?), &rows()?) {
            // scikit-learn trains on nothing then.
            Err(SplitError::OneFold { n, .. }) => Ok(vec![[vec![], (0..n as u32).collect()]]),
            other => other,
        },
        _ => Err(SplitError::UnknownKind { kind: case.kind.clone() }),
    }
}

/// Recorded lists are already there, so many splits are no surprise.
const CAP: u128 = u32::MAX as u128;

/// The splits, of which one more than were recorded is enough to tell that there are too many.
fn lists(case: &Case, scheme: &impl Splitter, rows: &Rows<'_>) -> Result<Vec<Lists>, SplitError> {
    let splits = scheme.split(rows)?;
    let recorded = case.folds.as_ref().map_or(0, Vec::len);
    let listed = splits.iter().take(recorded + 1);
    Ok(listed.map(|split| [split.train.into_vec(), split.valid.into_vec()]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn all_recorded_problems_of_scikit_learn_are_equal() {
        let text = include_str!("../../../tests/references/split_sklearn.json");
        let recorded: Value = serde_json::from_str(text).expect("the golden file is JSON");
        let report = replay(&recorded).expect("the golden file has the form");
        assert!(report.differences.is_empty(), "{:#?}", report.differences);
        assert_eq!((report.cases, report.equal), (253, 253));
        let cases = recorded["splits"].as_array().expect("a list");
        assert_eq!(cases.iter().filter(|case| case.get("error").is_some()).count(), 23);
    }

    /// The columns of tests/references/split_large.py.
    fn columns(n: u64) -> (Vec<u64>, Vec<u64>) {
        let mixed = |row: u64| (row * 2_654_435_761 + 12345) % (1 << 32) / 1024;
        let label = |m: u64| if m.is_multiple_of(3) { 0 } else { m % 10 };
        let group = |m: u64| (m % 300) * (m / 300 % 300) / 300;
        (0..n).map(mixed).map(|m| (label(m), group(m))).unzip()
    }

    #[test]
    fn problems_of_thousands_of_rows_have_the_digests_of_scikit_learn() {
        let text = include_str!("../../../tests/references/split_large.json");
        let mut recorded: Vec<Value> = serde_json::from_str(text).expect("a list of problems");
        assert_eq!(recorded.len(), 9);
        for value in &mut recorded {
            let (splits, wanted) = (value["splits"].as_u64(), value["sha256"].clone());
            let (labels, groups) = columns(value["n"].as_u64().expect("a number of rows"));
            (value["y"], value["g"]) = (labels.into(), groups.into());
            // As many as there are; which rows they hold is in the digest only.
            value["folds"] =
                vec![serde_json::json!([[], []]); splits.expect("a count") as usize].into();
            let case = Case::deserialize(&*value).expect("the form");
            let folds = run(&case).expect("splits");
            assert_eq!(Some(folds.len()), case.folds.as_ref().map(Vec::len), "{}", case.kind);
            let mut digest = Sha256::new();
            for rows in folds.as_flattened() {
                digest.update((rows.len() as u32).to_le_bytes());
                rows.iter().for_each(|row| digest.update(row.to_le_bytes()));
            }
            assert_eq!(crate::hex::encode(&digest.finalize()), wanted, "{}", case.kind);
        }
    }

    #[test]
    fn scikit_learns_names_and_habits_are_understood() {
        // scikit-learn 1.9.1: an empty third fold, no limit of training rows, folds that are numbered at will.
        let cases = serde_json::json!([
            {"kind": "StratifiedGroupKFold", "n": 9, "n_splits": 4, "y": [1, 1, 1, 1, 1, 2, 1, 2, 2],
             "groups": [0, 0, 1, 1, 2, 2, 2, 2, 3], "folds": [
                [[0, 1, 4, 5, 6, 7, 8], [2, 3]], [[0, 1, 2, 3, 8], [4, 5, 6, 7]],
                [[0, 1, 2, 3, 4, 5, 6, 7, 8], []], [[2, 3, 4, 5, 6, 7], [0, 1, 8]]]},
            {"kind": "TimeSeriesSplit", "n": 4, "n_splits": 3, "max_train_size": 0,
             "folds": [[[0], [1]], [[0, 1], [2]], [[0, 1, 2], [3]]]},
            {"kind": "PredefinedSplit", "n": 3, "test_fold": [7, -2, -1], "folds": [[[0, 2], [1]], [[1, 2], [0]]]},
        ]);
        let report = replay(&cases).expect("the form");
        assert_eq!(report.equal, 3, "{:?}", report.differences);
    }

    #[test]
    fn whole_numbers_beyond_the_floats_stay_apart() {
        // 2^53 and 2^53 + 1 are one float; 2^64 - 1 fits into no signed number.
        let cases = serde_json::json!([
            {"kind": "leave_one_group_out", "n": 3,
             "g": [9_007_199_254_740_993_i64, 9_007_199_254_740_992_i64, 9_007_199_254_740_993_i64],
             "folds": [[[0, 2], [1]], [[1], [0, 2]]]},
            {"kind": "leave_one_group_out", "n": 2, "g": [u64::MAX, -1], "folds": [[[0], [1]], [[1], [0]]]},
            {"kind": "leave_one_group_out", "n": 2, "g": [1.5, 1], "folds": [[[0], [1]], [[1], [0]]]},
        ]);
        let report = replay(&cases).expect("the form");
        assert_eq!(report.equal, 3, "{:?}", report.differences);
    }

    #[test]
    fn cases_are_read_however_they_are_written() {
        let cases = serde_json::json!([
            // Whole numbers as floats, absent and additional fields, lists by name.
            {"kind": "KFold", "n": 4.0, "k": 2.0, "shuffle": false, "random_state": null, "y": null, "g": null, "p": null,
             "folds": [{"train": [2, 3], "test": [0, 1]}, {"test": [2.0, 3.0], "train": [0, 1]}]},
            {"kind": "time-series", "n": 5, "k": 2, "gap": null, "max_train": null, "test": 1.0, "note": "mine",
             "folds": [[[0, 1, 2], [3]], [[0, 1, 2, 3], [4]]]},
            // As many rows as labels; truth values among numbers are numbers.
            {"kind": "stratified_kfold", "k": 2, "y": [true, 0, 1.0, false],
             "folds": [[[2, 3], [0, 1]], [[0, 1], [2, 3]]]},
            // Numbers among texts are texts: "10" before "9" before "a".
            {"kind": "leave_one_group_out", "n": 3, "g": ["a", 9, 10],
             "folds": [[[0, 1], [2]], [[0, 2], [1]], [[1, 2], [0]]]},
            {"kind": "predefined", "n": 3, "g": [1, 0, -1], "folds": [[[0, 2], [1]], [[1, 2], [0]]]},
            // What scikit-learn refuses is refused.
            {"kind": "kfold", "n": 3, "k": 5, "folds": [], "error": "Cannot have number of splits n_splits=5"},
            {"kind": "group_kfold", "n": 3, "k": 2, "g": [1, 1, 1], "folds": null, "error": true},
        ]);
        let report = replay(&cases).expect("the form");
        assert_eq!((report.cases, report.equal), (7, 7), "{:?}", report.differences);
        let wrong = serde_json::json!({"kind": "kfold", "n": 4, "k": 2, "error": "none here"});
        let report = replay(&wrong).expect("the form");
        assert_eq!(
            report.differences,
            ["case 0 (kfold, n 4): it is split, where an error is recorded"]
        );
    }

    #[test]
    fn differences_and_bad_cases_are_named() {
        let replay_text = |text: &str| replay(&serde_json::from_str(text).expect("JSON"));
        let wrong = replay_text(r#"[{"kind":"kfold","n":2,"k":2,"folds":[[[1],[0]],[[1],[1]]]}]"#)
            .expect("form");
        assert_eq!(wrong.differences, ["case 0 (kfold, n 2): split 1, train: [0] instead of [1]"]);
        let refused = replay_text(r#"{"kind":"kfold","n":2,"k":3,"folds":[]}"#).expect("form");
        assert!(refused.differences[0].contains("got 3 for 2 rows"));
        let unknown = replay_text(r#"{"kind":"other","n":2,"folds":[]}"#);
        assert_eq!(unknown, Err(SplitError::UnknownKind { kind: "other".into() }));
        for text in [
            r#"{"kind":"kfold","n":2,"folds":[]}"#,
            r#"{"kind":"kfold","n":-1,"k":2,"folds":[]}"#,
            r#"{"kind":"group_kfold","n":2,"k":2,"g":[null,1],"folds":[]}"#,
            r#"{"kind":"kfold","n":2,"k":2}"#,
            r#"{"kind":"kfold","n":2,"k":2,"shuffle":true,"folds":[]}"#,
            r#"{"kind":"kfold","n":2.5,"k":2,"folds":[]}"#,
            r#"{"kind":"kfold","k":2,"folds":[]}"#,
            r#"{"kind":"kfold","n":2,"k":2,"folds":[[[0],[1],[]]]}"#,
            r#"{"kind":"kfold","n":2,"k":2,"folds":[[[0],[-1]]]}"#,
            r#"{"kind":"time_series","n":9,"k":2,"gap":-1,"folds":[]}"#,
            r#"{"kind":"predefined","n":2,"test_fold":["a",1],"folds":[]}"#,
            "{}",
            "3",
        ] {
            assert!(matches!(replay_text(text), Err(SplitError::BadCase { .. })), "{text}");
        }
    }
}
