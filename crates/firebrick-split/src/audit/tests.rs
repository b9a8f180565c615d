//! Planted leaks are found, clean data raise no alarm.

use super::*;
use crate::{HoldOut, KFold, Rows, Splitter};

/// Independent normal features, `columns` of them.
fn noise(n: usize, columns: usize, seed: u64) -> Vec<f32> {
    let mut stream = Seed(seed).stream("audit-test");
    (0..n * columns).map(|_| stream.normal() as f32).collect()
}

fn roles(n: usize, seed: u64) -> Roles {
    HoldOut::new(0.25)
        .with_validation(0.15)
        .with_shuffle(Seed(seed))
        .split(&Rows::new(n))
        .expect("splits")
}

fn verdict(report: &AuditReport, name: &str) -> (Verdict, usize) {
    report.check(name).map(|check| (check.verdict, check.count)).expect("the check exists")
}

#[test]
fn clean_data_raise_no_alarm() {
    for seed in 0..20 {
        let (n, columns) = (400, 10);
        let values = noise(n, columns, seed);
        let mut stream = Seed(seed).stream("labels");
        let labels: Vec<u32> = (0..n).map(|_| stream.below(3) as u32).collect();
        let roles = roles(n, seed);
        let report = Audit::of_roles(&roles)
            .with_features(&values, columns)
            .with_rows(&Rows::new(n).with_labels(&labels))
            .with_seed(Seed(seed))
            .run()
            .expect("runs");
        assert_eq!(report.verdict(), Verdict::Clean, "{report}");
        assert!(report.pairs.is_empty());
    }
}

#[test]
fn every_planted_duplicate_is_found_and_mended() {
    let (n, columns) = (600, 12);
    let mut values = noise(n, columns, 1);
    let roles = roles(n, 1);
    let (train, test) = (roles.train(), roles.test());
    for i in 0..30 {
        let (from, to) = (train[i] as usize * columns, test[2 * i] as usize * columns);
        values.copy_within(from..from + columns, to);
        // Half of them differ a little.
        if i % 2 == 1 {
            values[to] += 0.01;
        }
    }
    let labels: Vec<u32> = (0..n as u32).map(|row| row % 2).collect();
    let audit = Audit::of_roles(&roles)
        .with_features(&values, columns)
        .with_rows(&Rows::new(n).with_labels(&labels));
    let report = audit.run().expect("runs");
    assert_eq!(verdict(&report, "exact duplicates"), (Verdict::Error, 15));
    assert_eq!(report.check("exact duplicates").expect("exists").examples.len(), 10);
    // Near duplicates count the equal ones too.
    assert_eq!(verdict(&report, "near duplicates"), (Verdict::Warning, 30), "{report}");
    let conflicts = (0..15).filter(|i| train[2 * i] % 2 != test[4 * i] % 2).count();
    assert_eq!(verdict(&report, "conflicting labels").1, 2 * conflicts);
    let groups = report.fix(None).expect("as many rows");
    for i in 0..30 {
        assert_eq!(groups[train[i] as usize], groups[test[2 * i] as usize]);
    }
    let folds =
        crate::GroupKFold::new(4).split(&Rows::new(n).with_groups(&groups)).expect("splits");
    for fold in 0..4 {
        let again =
            Audit::of_fold(&folds, fold).with_features(&values, columns).run().expect("runs");
        assert_eq!(verdict(&again, "exact duplicates").1 + verdict(&again, "near duplicates").1, 0);
    }
}

#[test]
fn fix_merges_given_groups() {
    let report = AuditReport { rows: 6, checks: vec![], pairs: vec![(1, 4), (0, 5)] };
    assert_eq!(report.fix(Some(&[9, 9, 8, 8, 7, 6])).expect("six"), [0, 0, 2, 2, 0, 0]);
    assert!(report.fix(Some(&[1])).is_err());
}

#[test]
fn texts_are_compared_by_their_words() {
    let long = |middle: &str| {
        format!(
            "the kiln was lined with {middle} bricks before the fire was lit and the door was closed for the night by the two of them"
        )
    };
    let texts = [
        long("new"),
        long("new"),
        "something else entirely stands here".into(),
        long("old"),
        "short".into(),
        "Short ".into(),
    ];
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let folds = KFold::new(2).split(&Rows::new(6)).expect("splits"); // 0, 1, 2 against 3, 4, 5
    let report = Audit::of_fold(&folds, 1).with_texts(&texts).run().expect("runs");
    assert_eq!(verdict(&report, "exact duplicates").1, 0);
    assert_eq!(verdict(&report, "near duplicates").1, 0, "{report}");
    let near = [
        "a b c d e f g h i j k l m n o p q r s t u v w x y z",
        "1 2 3",
        "4 5 6",
        "A b c d e f g h i j k l m n o p q r s t u v w x y",
        "7",
        "1 2 3",
    ];
    let report = Audit::of_fold(&folds, 1).with_texts(&near).run().expect("runs");
    assert_eq!(verdict(&report, "exact duplicates"), (Verdict::Error, 1));
    assert_eq!(report.pairs, [(0, 3), (1, 5)]);
}

#[test]
fn rows_of_values_and_texts_are_equal_in_both() {
    let folds = KFold::new(2).split(&Rows::new(4)).expect("splits"); // 0, 1 against 2, 3
    let values = [1.0, 2.0, 1.0, 2.0];
    let audit = Audit::of_fold(&folds, 1).with_features(&values, 1);
    assert_eq!(verdict(&audit.run().expect("runs"), "exact duplicates"), (Verdict::Error, 2));
    let audit = audit.with_texts(&["a", "b", "other", "b"]);
    assert_eq!(verdict(&audit.run().expect("runs"), "exact duplicates"), (Verdict::Error, 1));
}

#[test]
fn a_clean_table_with_categories_raises_no_alarm() {
    for seed in 0..10 {
        for columns in [4, 10] {
            let n = 600;
            let values = noise(n, columns, 100 + seed);
            let mut stream = Seed(seed).stream("categories");
            let texts: Vec<&str> =
                (0..n).map(|_| ["red", "green", "blue"][stream.below(3) as usize]).collect();
            let labels: Vec<u32> = (0..n).map(|_| stream.below(3) as u32).collect();
            let report = Audit::of_roles(&roles(n, seed))
                .with_features(&values, columns)
                .with_texts(&texts)
                .with_rows(&Rows::new(n).with_labels(&labels))
                .run()
                .expect("runs");
            assert_eq!(report.verdict(), Verdict::Clean, "{report}");
            assert!(report.pairs.is_empty());
            let left_out = |name: &str| report.check(name).expect("exists").not_checked.clone();
            assert!(left_out("near duplicates").contains("differ"), "{report}");
            assert!(left_out("single feature").contains("the texts"), "{report}");
            assert!(left_out("adversarial validation").contains("the texts"), "{report}");
        }
    }
}

#[test]
fn near_rows_agree_in_numbers_and_texts() {
    let (n, columns) = (400, 10);
    let mut values = noise(n, columns, 5);
    let roles = roles(n, 5);
    let (train, validation, test) = (roles.train(), roles.validation(), roles.test());
    let mut texts = vec!["red"; n];
    // Near a training row, near one of another text, near a row of the validation part.
    let planted = [(train[0], test[0]), (train[1], test[1]), (validation[0], test[2])];
    for (from, to) in planted.map(|(from, to)| (from as usize * columns, to as usize * columns)) {
        values.copy_within(from..from + columns, to);
        values[to] += 0.01;
    }
    texts[test[1] as usize] = "blue";
    let audit = Audit::of_roles(&roles).with_features(&values, columns).with_texts(&texts);
    let report = audit.run().expect("runs");
    assert_eq!(verdict(&report, "exact duplicates"), (Verdict::Clean, 0));
    assert_eq!(verdict(&report, "near duplicates"), (Verdict::Warning, 2), "{report}");
    let mut pairs = [planted[0], planted[2]].map(|(a, b)| (a.min(b), a.max(b)));
    pairs.sort_unstable();
    assert_eq!(report.pairs, pairs);
    assert!(report.to_string().contains("nearly equals validation row"), "{report}");

    // Few columns: texts are compared, of rows with equal numbers.
    let folds = KFold::new(2).split(&Rows::new(4)).expect("splits"); // 0, 1 against 2, 3
    let texts = ["a b c d e f g h i j k l", "a", "A b c d e f g h i j k l", "a"];
    let audit = Audit::of_fold(&folds, 1).with_texts(&texts);
    let report = audit.clone().with_features(&[1.0, 2.0, 1.0, 3.0], 1).run().expect("runs");
    assert_eq!(report.pairs, [(0, 2)], "{report}");
    assert_eq!(audit.run().expect("runs").pairs, [(0, 2), (1, 3)]);
}

#[test]
fn test_rows_that_repeat_validation_rows_are_found() {
    let roles = Roles::from_numbers(&[0, 0, 1, 2, 2, 1]).expect("valid");
    let report = Audit::of_roles(&roles)
        .with_features(&[1.0, 2.0, 3.0, 3.0, 1.0, 3.0], 1)
        .exact_duplicates()
        .expect("runs");
    // Row 4 repeats training row 0, row 3 the validation rows 2 and 5.
    assert_eq!(verdict(&report, "exact duplicates"), (Verdict::Error, 2));
    let examples = &report.check("exact duplicates").expect("exists").examples;
    assert!(examples.contains(&"test row 3 equals validation row 2".to_owned()), "{examples:?}");
    let groups = report.fix(None).expect("as many");
    assert_eq!((groups[2], groups[3], groups[5]), (2, 2, 2));
}

#[test]
fn examples_speak_the_words_of_the_caller() {
    let folds = KFold::new(2).split(&Rows::new(4)).expect("splits"); // 0, 1 against 2, 3
    let (labels, groups, times) = ([0, 0, 1, 0], [0, 1, 1, 2], [5, 7, 6, 8]);
    let rows = Rows::new(4).with_labels(&labels).with_groups(&groups).with_times(&times);
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<String>>();
    let (label_names, group_names) = (words("cat dog"), words("ann bob eve"));
    let written = words("mon wed tue thu");
    let audit = Audit::of_fold(&folds, 1).with_rows(&rows).with_features(&[1.0, 2.0, 1.0, 4.0], 1);
    let named = audit.clone().with_names(&label_names, &group_names, &written);
    let examples = |audit: &Audit<'_>, name: &str| {
        audit.run().expect("runs").check(name).expect("exists").examples.clone()
    };
    for (check, numbers, names) in [
        ("groups across parts", "group 1 is in", "group \"bob\" is in"),
        ("labels never trained on", "label 1 occurs", "label \"dog\" occurs"),
        ("conflicting labels", "labels 0 and 1", "labels \"cat\" and \"dog\""),
        (
            "times across parts",
            "at 7, held-out rows from 6 to 8",
            "at wed, held-out rows from tue to thu",
        ),
    ] {
        let (plain, named) = (examples(&audit, check), examples(&named, check));
        assert!(plain[0].contains(numbers) && named[0].contains(names), "{plain:?} {named:?}");
    }
}

#[test]
fn groups_and_times_across_parts_are_found() {
    let folds = KFold::new(2).split(&Rows::new(6)).expect("splits");
    let groups = [1, 2, 3, 3, 4, 2];
    let times = [1, 2, 9, 4, 5, 6];
    let audit =
        Audit::of_fold(&folds, 1).with_rows(&Rows::new(6).with_groups(&groups).with_times(&times));
    let report = audit.run().expect("runs");
    assert_eq!(verdict(&report, "groups across parts"), (Verdict::Error, 2));
    assert_eq!(verdict(&report, "times across parts"), (Verdict::Clean, 0));
    let by_time = audit.clone().with_time_split(0).run().expect("runs");
    assert_eq!(verdict(&by_time, "times across parts"), (Verdict::Error, 1));
    let horizon = audit.with_time_split(2).run().expect("runs");
    assert_eq!(verdict(&horizon, "times across parts"), (Verdict::Error, 2));
    let inside = [1, 5, 9, 4, 5, 6];
    let report =
        Audit::of_fold(&folds, 1).with_rows(&Rows::new(6).with_times(&inside)).run().expect("runs");
    assert_eq!(verdict(&report, "times across parts"), (Verdict::Warning, 1));
    assert_eq!(verdict(&report, "near duplicates").0, Verdict::Skipped);
    assert!(report.to_string().contains("no groups were given"));
}

#[test]
fn a_feature_that_is_the_label_and_a_shift_are_found() {
    let (n, columns) = (1000, 8);
    let mut values = noise(n, columns, 4);
    let labels: Vec<u32> = (0..n as u32).map(|row| row * 7 % 11 % 2).collect();
    let roles = roles(n, 4);
    for row in 0..n {
        values[row * columns + 3] = labels[row] as f32 + 0.1 * values[row * columns + 3];
    }
    let report = Audit::of_roles(&roles)
        .with_features(&values, columns)
        .with_rows(&Rows::new(n).with_labels(&labels))
        .run()
        .expect("runs");
    let check = report.check("single feature").expect("exists");
    assert_eq!((check.verdict, check.count), (Verdict::Warning, 1));
    assert!(check.examples[0].starts_with("column 3 "));
    assert_eq!(verdict(&report, "adversarial validation").0, Verdict::Clean, "{report}");
    // A shift in the mean of one feature, then in the variance of another.
    for (column, scale, shift) in [(0, 1.0, 1.0), (1, 3.0, 0.0)] {
        let mut drifted = values.clone();
        for row in roles.test().into_iter().chain(roles.validation()) {
            let value = &mut drifted[row as usize * columns + column];
            *value = *value * scale + shift;
        }
        let report = Audit::of_roles(&roles).with_features(&drifted, columns).run().expect("runs");
        assert_eq!(verdict(&report, "adversarial validation").0, Verdict::Warning, "{report}");
    }
}

#[test]
fn sorted_labels_and_new_labels_are_found() {
    let labels: Vec<u32> = (0..200).map(|row| row / 50).collect();
    let folds = KFold::new(4).split(&Rows::new(200)).expect("splits");
    let report = Audit::of_fold(&folds, 3)
        .with_rows(&Rows::new(200).with_labels(&labels))
        .run()
        .expect("runs");
    assert_eq!(verdict(&report, "order dependence").0, Verdict::Warning);
    assert_eq!(verdict(&report, "labels never trained on"), (Verdict::Warning, 50));
}

#[test]
fn columns_that_do_not_fit_are_refused() {
    let folds = KFold::new(2).split(&Rows::new(4)).expect("splits");
    let audit = Audit::of_fold(&folds, 0);
    assert!(audit.clone().with_features(&[1.0; 7], 2).run().is_err());
    assert!(audit.clone().with_features(&[], 0).run().is_err());
    assert!(audit.clone().with_rows(&Rows::new(4).with_labels(&[1])).run().is_err());
    assert!(audit.clone().with_rows(&Rows::new(3)).run().is_err());
    assert!(matches!(Audit::of_fold(&folds, 9).run(), Err(SplitError::NoSuchPart { .. })));
    let nan = [f32::NAN; 40];
    assert!(audit.with_features(&nan, 10).run().is_ok());
}

#[test]
fn a_feature_that_is_the_continuous_target_is_found() {
    let (n, columns) = (600, 5);
    let mut values = noise(n, columns, 6);
    let roles = roles(n, 6);
    let target: Vec<f64> = noise(n, 1, 7).into_iter().map(f64::from).collect();
    let of = |values: &[f32]| {
        let rows = Rows::new(n).with_target(&target);
        let audit = Audit::of_roles(&roles).with_features(values, columns).with_rows(&rows);
        audit.run().expect("runs")
    };
    assert_eq!(of(&values).verdict(), Verdict::Clean, "{}", of(&values));
    // The target in another unit with some noise.
    for row in 0..n {
        let noise = 0.05 * values[row * columns + 1];
        values[row * columns + 1] = 7.0 - 2.0 * target[row] as f32 + noise;
    }
    let report = of(&values);
    assert_eq!(verdict(&report, "single feature"), (Verdict::Warning, 1), "{report}");
    let check = report.check("single feature").expect("exists");
    assert!(check.examples[0].starts_with("column 1 alone removes 9"), "{check:?}");
    let missing = vec![f64::NAN; n];
    let rows = Rows::new(n).with_target(&missing);
    let audit = Audit::of_roles(&roles).with_features(&values, columns).with_rows(&rows);
    let report = audit.run().expect("runs");
    assert_eq!(verdict(&report, "single feature"), (Verdict::Clean, 0));
    assert_eq!(verdict(&report, "order dependence").0, Verdict::Skipped);
}

#[test]
fn the_order_of_rows_is_judged_by_its_own_deviation() {
    let n = 400;
    let folds = KFold::new(4).split(&Rows::new(n)).expect("splits");
    let order = |rows: &Rows<'_>| {
        let report = Audit::of_fold(&folds, 0).with_rows(rows).run().expect("runs");
        report.check("order dependence").cloned().expect("exists")
    };
    // One class in ten, in runs of four: twice as far from chance as for independent pairs.
    let few: Vec<u32> = (0..n as u32).map(|row| u32::from(row % 40 < 4)).collect();
    assert_eq!(order(&Rows::new(n).with_labels(&few)).verdict, Verdict::Warning);
    // Nearly as many classes as rows: one agreement is no news, however unlikely.
    let many: Vec<u32> = (0..n as u32).map(|row| row.saturating_sub(1)).collect();
    assert_eq!(order(&Rows::new(n).with_labels(&many)).verdict, Verdict::Clean);
    let rising: Vec<f64> = (0..n).map(|row| (row as f64 / 8.0).sin()).collect();
    let check = order(&Rows::new(n).with_target(&rising));
    assert!(check.verdict == Verdict::Warning && check.examples[0].contains("by 0.9"), "{check:?}");
    let mut stream = Seed(3).stream("order");
    let random: Vec<f64> = (0..n).map(|_| stream.normal()).collect();
    assert_eq!(order(&Rows::new(n).with_target(&random)).verdict, Verdict::Clean);
    // In a random order the excess has deviation 1, for even and for skewed classes; 300 orders, five standard errors.
    for rare in [2, 10] {
        let mut labels: Vec<u32> = (0..n as u32).map(|row| u32::from(row % rare == 0)).collect();
        let squares: f64 = (0..300)
            .map(|_| {
                stream.shuffle(&mut labels);
                columns::excess(&labels).expect("two classes").powi(2)
            })
            .sum();
        let spread = (squares / 300.0).sqrt();
        assert!((spread - 1.0).abs() < 5.0 / 600f64.sqrt(), "{rare}: {spread}");
    }
}
