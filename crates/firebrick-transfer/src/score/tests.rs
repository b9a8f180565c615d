//! Scores against the recorded cases of `tests/references/transfer_scores.py`, their closed forms, and the mistakes of
//! published code.

use super::*;
use crate::probe::{LogisticConfig, LogisticProbe, RidgeProbe};
use firebrick_core::{Philox, Seed};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Reference {
    pool: Vec<Input>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Input {
    columns: usize,
    values: Vec<f64>,
}

#[derive(Deserialize)]
struct Case {
    score: String,
    inputs: BTreeMap<String, usize>,
    args: BTreeMap<String, Value>,
    output: Vec<f64>,
}

fn reference() -> Reference {
    let text = include_str!("../../../../tests/references/transfer_scores.json");
    serde_json::from_str(text).expect("the recorded cases are whole")
}

impl Reference {
    fn features(&self, case: &Case, name: &str) -> Features {
        let input = &self.pool[case.inputs[name]];
        Features::new(input.values.clone(), input.columns).expect("valid")
    }

    fn numbers(&self, case: &Case, name: &str) -> Vec<u32> {
        self.pool[case.inputs[name]].values.iter().map(|value| *value as u32).collect()
    }

    fn labels(&self, case: &Case) -> Labels {
        Labels::new(&self.numbers(case, "labels")).expect("valid")
    }
}

impl Case {
    fn number(&self, name: &str) -> f64 {
        self.args[name].as_f64().expect("a number")
    }
}

/// What the crate gives for a case, and the tolerance, relative to the larger of the value and 1.
///
/// Results are recorded with 13 digits, inputs exactly. Conditioning costs the rest: a covariance of condition 1e4 leaves 1e-9 to a
/// plain inverse; the numeric maximum of the recorded LogME is flat to 1e-10; scikit-learn's iteration ends at a
/// gradient of 1e-12, an error of about 1e-9 in probabilities under a penalty of 0.05.
fn found(reference: &Reference, case: &Case) -> (Vec<f64>, f64) {
    let features = || reference.features(case, "features");
    let labels = || reference.labels(case);
    let pair = || (reference.features(case, "first"), reference.features(case, "second"));
    let one = |value: Result<f64, ScoreError>| vec![value.expect("is defined")];
    let whole = |numbers: &[u32]| numbers.iter().map(|n| f64::from(*n)).collect::<Vec<_>>();
    match case.score.as_str() {
        "log_me" => (one(log_me(&features(), &labels())), 1e-9),
        "h_score" => (one(h_score(&features(), &labels(), Covariance::Empirical)), 1e-9),
        "h_score_shrunk" => (one(h_score(&features(), &labels(), Covariance::LedoitWolf)), 1e-10),
        "trans_rate" => (one(trans_rate(&features(), &labels(), case.number("epsilon"))), 1e-10),
        "gbc" => {
            let shape = match case.args["shape"].as_str() {
                Some("diagonal") => ClassShape::Diagonal,
                _ => ClassShape::Spherical,
            };
            (one(gbc(&features(), &labels(), shape)), 1e-10)
        }
        "leep" => (one(leep(&reference.features(case, "probabilities"), &labels())), 1e-10),
        "nce" => (one(nce(&reference.numbers(case, "predicted"), &labels())), 1e-12),
        "cka" => (one(cka(&pair().0, &pair().1)), 1e-11),
        "frechet" => (one(frechet_distance(&pair().0, &pair().1)), 1e-8),
        "mmd" => {
            let width = case.args["width"].as_f64();
            let mmd = mmd(&pair().0, &pair().1, width, 9, Seed(1)).expect("is defined");
            (vec![mmd.squared, mmd.width], 1e-11)
        }
        "knn" => {
            let k = case.number("k") as usize;
            let knn = knn_leave_one_out(&features(), &labels(), k).expect("is defined");
            (whole(&knn.predicted), 0.0)
        }
        "ridge_error" | "ridge_predicted" | "ridge_head" => {
            let probe = RidgeProbe::fit(&features(), &labels(), &[case.number("lam")]);
            let probe = probe.expect("is defined");
            match case.score.as_str() {
                "ridge_error" => (vec![probe.errors[0].1], 1e-8),
                "ridge_predicted" => (whole(&probe.leave_one_out.predicted), 0.0),
                _ => ([probe.head.weights, probe.head.bias].concat(), 1e-9),
            }
        }
        "logistic" => {
            let config = LogisticConfig {
                l2: case.number("l2"),
                standardise: false,
                tolerance: 1e-12,
                ..Default::default()
            };
            let probe = LogisticProbe::fit(&features(), &labels(), &config).expect("is defined");
            assert!(probe.converged, "{} steps, slope {}", probe.iterations, probe.slope);
            let logits = probe.logits(&features()).expect("fits");
            let rows = logits.chunks_exact(probe.head.names.len()).flat_map(|row| {
                let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = row.iter().map(|logit| (logit - largest).exp()).sum();
                row.iter().map(move |logit| (logit - largest).exp() / sum).collect::<Vec<_>>()
            });
            (rows.collect(), 1e-7)
        }
        "area" => {
            let scores: Vec<f64> = whole(&reference.numbers(case, "scores"));
            (vec![domain::area(&scores, &reference.numbers(case, "truth"))], 1e-12)
        }
        // Looked at by a test of its own.
        "log_me_published_mistake" => (case.output.clone(), 0.0),
        other => panic!("no such score: {other}"),
    }
}

#[test]
fn every_recorded_case_is_met() {
    let reference = reference();
    assert!(reference.cases.len() >= 100, "{}", reference.cases.len());
    for (at, case) in reference.cases.iter().enumerate() {
        let (found, tolerance) = found(&reference, case);
        assert_eq!(found.len(), case.output.len(), "case {at}, {}", case.score);
        for (found, wanted) in found.iter().zip(&case.output) {
            let bound = tolerance * wanted.abs().max(1.0);
            assert!(
                (found - wanted).abs() <= bound,
                "case {at}, {} {:?}: {found} is not {wanted}",
                case.score,
                case.args
            );
        }
    }
}

fn noise(n: usize, d: usize, stream: u64) -> Features {
    let mut draws = Philox::new(9, stream);
    Features::new((0..n * d).map(|_| draws.normal()).collect(), d).expect("finite")
}

fn in_turn(n: usize, classes: u32) -> Labels {
    Labels::new(&(0..n as u32).map(|i| i % classes).collect::<Vec<_>>()).expect("valid")
}

#[test]
fn log_me_has_the_rank_where_published_code_has_the_width() {
    let reference = reference();
    let case = reference
        .cases
        .iter()
        .find(|case| case.score == "log_me_published_mistake")
        .expect("is recorded");
    let value = log_me(&reference.features(case, "features"), &reference.labels(case));
    // More features than samples: the mistake makes an evidence that is above 0 in the mean.
    assert!(case.output[0] > 1.0 && value.expect("is defined") < 0.0);
    // Noise explains nothing, whatever its width: about the evidence of the labels alone, for three classes
    // 1/2 (log 3 - 1 - log 2 pi) = -0.8696 a class.
    let alone = 0.5 * (3f64.ln() - 1.0 - std::f64::consts::TAU.ln());
    for (n, d) in [(200, 20), (50, 200)] {
        let value = log_me(&noise(n, d, n as u64), &in_turn(n, 3)).expect("is defined");
        assert!(value >= alone - 0.01 && value < alone + 0.05, "{n} x {d}: {value}");
    }
}

#[test]
fn log_me_of_a_perfect_fit_is_large_and_finite() {
    let labels = in_turn(12, 3);
    let hot = (0..12).flat_map(|i| (0..3).map(move |c| f64::from(u8::from(i % 3 == c))));
    let features = Features::new(hot.collect(), 3).expect("valid");
    let value = log_me(&features, &labels).expect("is defined");
    assert!(value.is_finite() && value > 5.0, "{value}");
    let zeros = Features::new(vec![0.0; 12], 1).expect("valid");
    let alone = 0.5 * (3f64.ln() - 1.0 - std::f64::consts::TAU.ln());
    assert!((log_me(&zeros, &labels).expect("is defined") - alone).abs() < 1e-12);
}

#[test]
fn the_plain_h_score_is_refused_where_it_is_the_same_for_any_labels() {
    let (features, labels) = (noise(50, 64, 1), in_turn(50, 10));
    let error = h_score(&features, &labels, Covariance::Empirical).expect_err("saturates");
    assert_eq!(
        error.to_string(),
        "`features` must have at least 66 rows, got 50: their rank is 49, so that the plain covariance explains any \
         labels; shrink it by `Covariance::LedoitWolf`"
    );
    // Shrunk, noise gets little of the 9 that the plain score gives any labels.
    let shrunk = h_score(&features, &labels, Covariance::LedoitWolf).expect("is defined");
    assert!((0.0..2.0).contains(&shrunk), "{shrunk}");
    // As many rows as it says are enough, and one fewer are not.
    let plain = |rows| h_score(&noise(rows, 64, 1), &in_turn(rows, 10), Covariance::Empirical);
    assert!(plain(66).is_ok() && plain(65).is_err());
}

#[test]
fn trans_rate_weighs_classes_by_their_share() {
    // Nine samples of a wide class, three of a narrow one: weighing the classes alike gives another number.
    let mut values: Vec<f64> = (0..9).map(|i| f64::from(i) - 4.0).collect();
    values.extend([10.0, 10.1, 10.2]);
    let features = Features::new(values, 1).expect("valid");
    let labels = Labels::new(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1]).expect("valid");
    let centred = features.centred();
    let rate = |rows: std::ops::Range<usize>| {
        let n = rows.len() as f64;
        let square: f64 = rows.map(|row| centred.row(row)[0].powi(2)).sum();
        0.5 * (square / (n * 1e-4)).ln_1p()
    };
    let (whole, wide, narrow) = (rate(0..12), rate(0..9), rate(9..12));
    let value = trans_rate(&features, &labels, 1e-4).expect("is defined");
    assert!((value - (whole - 0.75 * wide - 0.25 * narrow)).abs() < 1e-12);
    assert!((value - (whole - 0.5 * wide - 0.5 * narrow)).abs() > 0.1);
}

#[test]
fn leep_passes_over_a_source_class_that_is_never_predicted() {
    let labels = Labels::new(&[0, 1, 1, 0]).expect("valid");
    let three = Features::new(vec![0.5, 0.5, 0.0, 0.2, 0.8, 0.0, 0.1, 0.9, 0.0, 0.7, 0.3, 0.0], 3)
        .expect("valid");
    let two = Features::new(vec![0.5, 0.5, 0.2, 0.8, 0.1, 0.9, 0.7, 0.3], 2).expect("valid");
    let value = leep(&three, &labels).expect("is defined");
    assert_eq!(value, leep(&two, &labels).expect("is defined"));
    assert!(value.is_finite() && value < 0.0);
    let bad = Features::new(vec![0.6, 0.6, 0.5, 0.5], 2).expect("valid");
    let labels = Labels::new(&[0, 1]).expect("valid");
    assert!(matches!(leep(&bad, &labels), Err(ScoreError::NotProbabilities { row: 0, .. })));
    let bad = Features::new(vec![1.2, -0.2, 0.5, 0.5], 2).expect("valid");
    assert!(matches!(leep(&bad, &labels), Err(ScoreError::NotProbabilities { row: 0, .. })));
}

#[test]
fn scores_move_the_right_way_when_classes_come_apart() {
    let labels = in_turn(60, 3);
    let apart = |signal: f64| {
        let mut values = noise(60, 8, 4).values().to_vec();
        for (row, line) in values.chunks_exact_mut(8).enumerate() {
            line[row % 3] += signal;
        }
        Features::new(values, 8).expect("finite")
    };
    let scores = |signal: f64| {
        let features = apart(signal);
        [
            log_me(&features.centred(), &labels),
            h_score(&features, &labels, Covariance::Empirical),
            h_score(&features, &labels, Covariance::LedoitWolf),
            trans_rate(&features.standardised(), &labels, 1e-4),
            gbc(&features, &labels, ClassShape::Diagonal),
            gbc(&features, &labels, ClassShape::Spherical),
            knn_leave_one_out(&features, &labels, 5).map(|found| found.accuracy),
        ]
        .map(|value| value.expect("is defined"))
    };
    let (near, far) = (scores(0.5), scores(5.0));
    assert!(near.iter().zip(&far).all(|(near, far)| near < far), "{near:?} {far:?}");
}

#[test]
fn what_should_not_matter_does_not() {
    let (features, labels) = (noise(30, 6, 7), in_turn(30, 3));
    // A rotation of two columns and a shift.
    let (sin, cos) = 0.7f64.sin_cos();
    let mut values = features.values().to_vec();
    for line in values.chunks_exact_mut(6) {
        (line[0], line[1]) = (cos * line[0] - sin * line[1] + 3.0, sin * line[0] + cos * line[1]);
    }
    let turned = Features::new(values, 6).expect("finite");
    let close = |a: Result<f64, ScoreError>, b: Result<f64, ScoreError>| {
        let (a, b) = (a.expect("is defined"), b.expect("is defined"));
        assert!((a - b).abs() < 1e-9 * a.abs().max(1.0), "{a} and {b}");
    };
    close(log_me(&features.centred(), &labels), log_me(&turned.centred(), &labels));
    for kind in [Covariance::Empirical, Covariance::LedoitWolf] {
        close(h_score(&features, &labels, kind), h_score(&turned, &labels, kind));
    }
    close(trans_rate(&features, &labels, 1e-4), trans_rate(&turned, &labels, 1e-4));
    close(cka(&features, &turned), Ok(1.0));
    close(frechet_distance(&features, &features), Ok(0.0));
    // Names of classes are names.
    let renamed: Vec<u32> = labels.values().iter().map(|label| 90 - 7 * label).collect();
    let renamed = Labels::new(&renamed).expect("valid");
    close(log_me(&features, &labels), log_me(&features, &renamed));
    close(nce(&labels.values(), &renamed), Ok(0.0));
}

#[test]
fn the_permutation_test_of_equal_samples_is_uniform_and_of_different_ones_small() {
    // 60 pairs of equal distributions: p <= 0.2 has probability 0.2; 24 of 60 or more has 2e-4 under Bin(60, 0.2).
    let low = (0..60u64)
        .filter(|&i| {
            let (a, b) = (noise(12, 3, 100 + 2 * i), noise(12, 3, 101 + 2 * i));
            mmd(&a, &b, None, 49, Seed(i)).expect("is defined").p <= 0.2
        })
        .count();
    assert!(low < 24, "{low}");
    let shifted: Vec<f64> = noise(12, 3, 5).values().iter().map(|x| x + 3.0).collect();
    let shifted = Features::new(shifted, 3).expect("finite");
    assert_eq!(mmd(&noise(12, 3, 6), &shifted, None, 49, Seed(1)).expect("is defined").p, 0.02);
}

#[test]
fn samples_that_cannot_be_told_apart_have_an_area_of_a_half() {
    // 200 rows a side, 5 features: the area's standard deviation is about sqrt(1 / (6 * 40)) a fold, 0.03 over five.
    let found = domain_auc(&noise(200, 5, 1), &noise(200, 5, 2), 5, Seed(3)).expect("is defined");
    assert!((found.auc - 0.5).abs() < 0.12 && found.proxy_a < 0.6, "{found:?}");
}

#[test]
fn inputs_that_do_not_fit_are_refused_by_name() {
    let (features, labels) = (noise(8, 2, 1), in_turn(8, 4));
    let text = |result: Result<f64, ScoreError>| result.expect_err("refused").to_string();
    let short = in_turn(6, 2);
    let wanted = "`labels` must have one entry a row of the features, 8, got 6";
    assert_eq!(text(log_me(&features, &short)), wanted);
    assert_eq!(text(h_score(&features, &short, Covariance::LedoitWolf)), wanted);
    assert_eq!(text(trans_rate(&features, &short, 1e-4)), wanted);
    assert_eq!(text(leep(&features, &short)), wanted);
    assert_eq!(
        text(gbc(&features, &labels, ClassShape::Diagonal)),
        "`labels` must have at least 3 samples of each class, got 2 of class 0"
    );
    assert_eq!(
        text(trans_rate(&features, &labels, f64::NAN)),
        "`epsilon` must be in (0, inf), got NaN"
    );
    assert_eq!(text(nce(&[1], &labels)), "`predicted` must have one entry a label, 8, got 1");
    assert_eq!(
        text(cka(&features, &noise(7, 2, 1))),
        "`second` must have as many rows as the first, 8, got 7"
    );
    assert_eq!(
        text(frechet_distance(&features, &noise(8, 3, 1))),
        "`second` must have as many columns as the first, 2, got 3"
    );
    assert!(knn_leave_one_out(&features, &labels, 0).is_err());
    let lone = Labels::new(&[0, 0, 0, 1, 1, 1, 1, 2]).expect("valid");
    assert_eq!(
        knn_leave_one_out(&features, &lone, 3).expect_err("refused").to_string(),
        "`labels` must have at least 2 samples of each class, got 1 of class 2"
    );
    let flat = Features::new(vec![0.3; 16], 2).expect("valid");
    assert!(text(h_score(&flat, &labels, Covariance::LedoitWolf)).contains("2 constant ones"));
    let constant =
        |field: &str| format!("`{field}` must have a column that varies, got 2 constant");
    assert!(text(cka(&flat, &features)).starts_with(&constant("first")));
    assert!(text(cka(&features, &flat)).starts_with(&constant("second")));
    assert!(mmd(&flat, &flat, None, 9, Seed(1)).is_err());
    assert!(mmd(&features, &flat, Some(0.0), 9, Seed(1)).is_err());
    assert!(mmd(&features, &features, None, 0, Seed(1)).is_err());
    assert!(domain_auc(&features, &features, 20, Seed(1)).is_err());
}
