//! Every line of the table of bad inputs: a typed error, with the numbers in its message, or a warning in the result.

use firebrick_core::Seed;
use firebrick_split::*;

/// The error of a scheme, whose message must hold each of `parts`.
fn refused<S: Splitter>(scheme: &S, rows: &Rows<'_>, parts: &[&str]) -> SplitError {
    let error = scheme.split(rows).map(|_| ()).expect_err("must be refused");
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    error
}

fn warned(splits: &impl Splits, text: &str) {
    let warnings: Vec<String> = splits.warnings().iter().map(ToString::to_string).collect();
    assert!(warnings.iter().any(|warning| warning.contains(text)), "{text:?} in {warnings:?}");
}

#[test]
fn no_rows_and_empty_parts() {
    assert_eq!(refused(&KFold::new(2), &Rows::new(0), &["no rows"]), SplitError::NoRows);
    for (scheme, part) in [
        (HoldOut::new(5usize), PartName::Train),
        (HoldOut::new(0usize), PartName::Test),
        (HoldOut::new(1usize).with_validation(0usize), PartName::Validation),
        (HoldOut::new(2usize).with_validation(3usize), PartName::Train),
        (HoldOut::new(0.5).with_validation("0.01"), PartName::Validation),
    ] {
        let error = refused(&scheme, &Rows::new(5), &["would be empty: 5 rows", &part.to_string()]);
        assert!(matches!(error, SplitError::EmptyPart { part: p, n: 5, .. } if p == part));
    }
    let one = refused(&HoldOut::new(0.5), &Rows::new(1), &["train 0", "test 1"]);
    assert!(matches!(one, SplitError::EmptyPart { part: PartName::Train, .. }));
}

#[test]
fn folds_out_of_range() {
    let labels: Vec<u32> = (0..70_000).map(|row| row % 2).collect();
    for (k, n) in [(0, 10), (1, 10), (11, 10), (usize::MAX, 10), (65_536, 70_000)] {
        let rows = Rows::new(n).with_labels(&labels[..n]).with_groups(&labels[..n]);
        let parts = [format!("got {k} for {n} rows"), "at least 2".into()];
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let target = vec![1.0; n];
        for error in [
            refused(&KFold::new(k), &rows, &parts),
            refused(&StratifiedKFold::new(k).with_shuffle(Seed(1)), &rows, &parts),
            refused(&TargetKFold::new(k, Seed(1)), &rows.with_target(&target), &parts),
        ] {
            assert!(matches!(error, SplitError::BadFolds { .. }));
        }
    }
}

#[test]
fn sizes_that_are_none() {
    let rows = Rows::new(100);
    for bad in [
        "1.0", "0", "0.0", "-0.2", "1.5", "NaN", "inf", "", " ", ".", "-", "1/0", "a", "0,2",
        "1e-1", "200%",
    ] {
        let error = refused(&HoldOut::new(bad), &rows, &["sizes of the parts do not fit"]);
        assert!(matches!(error, SplitError::BadSizes { .. }), "{bad}");
    }
    for bad in [f64::NAN, f64::INFINITY, -0.25, 0.0, 1.0, 7.0] {
        refused(&HoldOut::new(bad), &rows, &["sizes of the parts do not fit"]);
    }
    refused(&HoldOut::new("0.6").with_train("0.5"), &rows, &["0.5 + 0.6", "100 rows"]);
    refused(&HoldOut::new("0.6").with_validation("0.5"), &rows, &["0.5 + 0.6"]);
    refused(&HoldOut::new(60usize).with_train(41usize), &rows, &["41 rows + 60 rows"]);
    refused(&HoldOut::new(101usize), &rows, &["101 rows", "100"]);
    refused(&HoldOut::new(Size::Rest), &rows, &["at most one part can be the rest"]);
    // What others refuse or round wrongly is exact.
    let sizes = |scheme: HoldOut| scheme.split(&rows).expect("fits").sizes();
    assert_eq!(
        sizes(HoldOut::new("0.11").with_validation("0.56").with_train("0.33")),
        [33, 56, 11]
    );
    assert_eq!(sizes(HoldOut::new("0.93").with_train("0.07")), [7, 0, 93]);
    assert_eq!(sizes(HoldOut::new(0.58).with_train(0.42)), [42, 0, 58]);
    assert_eq!(sizes(HoldOut::new(" 0.1 ")), [90, 0, 10]);
    assert_eq!(HoldOut::new("0.28").split(&Rows::new(25)).expect("fits").sizes(), [18, 0, 7]);
}

#[test]
fn columns_of_another_length() {
    let (codes, times, target) = ([0u32; 4], [0i64; 4], [0.0f64; 4]);
    let sets = LabelSets::from_rows(vec![vec![0]; 4]).expect("small");
    let rows = Rows::new(5);
    let message = |column: &str| format!("column `{column}` has 4 values, but there are 5 rows");
    let cases = [
        ("labels", rows.with_labels(&codes)),
        ("groups", rows.with_groups(&codes)),
        ("times", rows.with_times(&times)),
        ("ends", rows.with_ends(&times)),
        ("target", rows.with_target(&target)),
        ("label_sets", rows.with_label_sets(&sets)),
    ];
    for (column, rows) in cases {
        refused(&KFold::new(2), &rows, &[&message(column)]);
        refused(&HoldOut::new(0.5), &rows, &[&message(column)]);
        refused(&TimeSeries::new(2), &rows, &[&message(column)]);
    }
    refused(&StratifiedKFold::new(2), &rows, &["needs the column `labels`", "with_labels"]);
    refused(&GroupKFold::new(2), &rows, &["needs the column `groups`"]);
    refused(&PurgedKFold::new(2), &rows, &["needs the column `times`"]);
    refused(&TargetKFold::new(2, Seed(0)), &rows, &["needs the column `target`"]);
    refused(&MultilabelKFold::new(2), &rows, &["needs the column `label_sets`"]);
}

#[test]
fn classes_smaller_than_the_folds() {
    let labels = [7, 7, 7, 7, 9, 9];
    let rows = Rows::new(6).with_labels(&labels);
    let error = refused(&StratifiedKFold::new(5), &rows, &["7 (4 rows)", "9 (2 rows)", "5 folds"]);
    assert_eq!(error, SplitError::ClassesTooSmall { k: 5, classes: vec![(7, 4), (9, 2)] });
    warned(&StratifiedKFold::new(3).split(&rows).expect("splits"), "[(9, 2)]");
    let own: Vec<u32> = (0..6).collect();
    let singletons = Rows::new(6).with_labels(&own);
    refused(&StratifiedKFold::new(2), &singletons, &["5 (1 rows)"]);
}

#[test]
fn classes_too_small_for_a_hold_out() {
    let labels: Vec<u32> = (0..50).map(|row| u32::from(row == 31)).collect();
    let rows = Rows::new(50).with_labels(&labels);
    let scheme = HoldOut::new(0.2).with_stratified();
    let error = refused(&scheme, &rows, &["fewer than 2 rows", "1 (1 rows)"]);
    assert_eq!(error, SplitError::ClassTooSmall { need: 2, classes: vec![(1, 1)] });
    warned(
        &scheme.clone().with_rare(Rare::Pool).split(&rows).expect("splits"),
        "stratified as one",
    );
    warned(&scheme.clone().with_rare(Rare::Ignore).split(&rows).expect("splits"), "[(1, 1)]");
    let even: Vec<u32> = (0..50).map(|row| row % 5).collect();
    let rows = Rows::new(50).with_labels(&even);
    let few = HoldOut::new(4usize).with_stratified().with_min_per_class(1);
    let error = refused(&few, &rows, &["4 rows", "5 classes"]);
    assert!(matches!(error, SplitError::PartTooSmall { part: PartName::Test, size: 4, .. }));
}

#[test]
fn fewer_groups_than_needed() {
    let groups = [4, 4, 9, 9, 4, 9];
    let rows = Rows::new(6).with_groups(&groups).with_labels(&[0, 1, 0, 1, 0, 1]);
    let few =
        |error: SplitError| assert!(matches!(error, SplitError::TooFewGroups { groups: 2, .. }));
    few(refused(&GroupKFold::new(3), &rows, &["2 groups", "at least 3"]));
    few(refused(&StratifiedGroupKFold::new(3), &rows, &["2 groups", "at least 3"]));
    few(refused(&LeavePGroupsOut::new(2), &rows, &["2 groups", "at least 3"]));
    few(refused(
        &HoldOut::new(1usize).with_validation(1usize).with_groups(GroupUnit::Rows),
        &rows,
        &["at least 3"],
    ));
    let one = Rows::new(3).with_groups(&[5, 5, 5]);
    let error = refused(&LeavePGroupsOut::one(), &one, &["1 groups", "at least 2"]);
    assert!(matches!(error, SplitError::TooFewGroups { groups: 1, need: 2, .. }));
}

#[test]
fn a_group_larger_than_a_fold() {
    let groups: Vec<u32> = (0..100).map(|row| if row < 90 { 3 } else { row }).collect();
    let rows = Rows::new(100).with_groups(&groups);
    warned(&GroupKFold::new(5).split(&rows).expect("splits"), "group 3 holds 90 rows, 90.0 %");
}

#[test]
fn values_that_are_no_numbers() {
    for column in ["labels", "groups", "times"] {
        let error = encode::floats(column, &[1.0, 0.0, f64::NAN]).expect_err("NaN");
        assert_eq!(error, SplitError::NotANumber { column, row: 2 });
        assert!(error.to_string().contains(&format!("row 2 of column `{column}`")));
    }
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let target = [0.5, bad, 0.1];
        let rows = Rows::new(3).with_target(&target);
        refused(&TargetKFold::new(2, Seed(0)), &rows, &["row 1 of column `target`"]);
        assert!(quantile_bins(&target, 2, 1).is_err());
    }
}

#[test]
fn windows_of_nothing() {
    let rows = Rows::new(20);
    let zero = |error: SplitError| assert!(matches!(error, SplitError::ZeroWindow { .. }));
    zero(refused(
        &TimeSeries::new(3).with_max_train(0),
        &rows,
        &["`max_train` must be at least 1"],
    ));
    zero(refused(&TimeSeries::new(3).with_test(0), &rows, &["`test`"]));
    zero(refused(&SlidingWindow::new(0, 2), &rows, &["`train`"]));
    zero(refused(&SlidingWindow::new(2, 0), &rows, &["`test`"]));
    zero(refused(&SlidingWindow::new(2, 2).with_step(0), &rows, &["`step`"]));
}

#[test]
fn windows_that_do_not_fit() {
    let rows = Rows::new(10);
    let parts = ["the windows need 13 rows, but there are 10"];
    let error = refused(&TimeSeries::new(3).with_test(3).with_gap(3), &rows, &parts);
    assert_eq!(error, SplitError::WindowsDoNotFit { need: 13, have: 10, unit: "rows" });
    refused(&SlidingWindow::new(8, 3), &rows, &["need 11 rows, but there are 10"]);
    refused(&SlidingWindow::new(u64::MAX, u64::MAX), &rows, &["but there are 10"]);
    refused(&TimeSeries::new(10), &rows, &["need 11 rows"]);
}

#[test]
fn times_that_fall() {
    let times = [1, 2, 5, 4, 6, 7];
    let rows = Rows::new(6).with_times(&times);
    for error in [
        refused(&TimeSeries::new(2), &rows, &["falls at row 3", "sort the rows"]),
        refused(&SlidingWindow::new(2, 1), &rows, &["falls at row 3"]),
        refused(&CombinatorialPurged::new(3, 1), &rows, &["falls at row 3"]),
    ] {
        assert!(matches!(error, SplitError::Unsorted { row: 3, .. }));
    }
    assert!(TimeSeries::new(2).with_unit(TimeUnit::Times).split(&rows).is_ok());
    let back = rows.with_ends(&[1, 2, 5, 3, 6, 7]);
    refused(&PurgedKFold::new(2), &back, &["row 3 ends at 3, before it begins at 4"]);
    let (groups, mixed) = ([0, 1, 0, 1, 2, 2], [1, 2, 3, 4, 5, 6]);
    let rows = Rows::new(6).with_groups(&groups).with_times(&mixed);
    let scheme = TimeSeries::new(2).with_unit(TimeUnit::Groups);
    refused(&scheme, &rows, &["groups 0 and 1 overlap in time", "with_interleaved"]);
}

#[test]
fn too_many_or_no_choices_to_leave_out() {
    let rows = Rows::new(50);
    refused(&LeavePOut::new(0), &rows, &["`p` must be in [1, 49]", "0"]);
    refused(&LeavePOut::new(50), &rows, &["`p` must be in [1, 49]", "50"]);
    let error = refused(&LeavePOut::new(25), &rows, &["126410606437752 splits", "cap of 100000"]);
    assert_eq!(error, SplitError::TooManySplits { count: 126_410_606_437_752, cap: 100_000 });
    let huge = refused(&LeavePOut::new(2000), &Rows::new(4000), &["cap of 100000"]);
    assert!(matches!(huge, SplitError::TooManySplits { .. }));
    let groups: Vec<u32> = (0..50).collect();
    refused(&LeavePGroupsOut::new(25), &rows.with_groups(&groups), &["126410606437752 splits"]);
    refused(&LeavePGroupsOut::new(0), &rows.with_groups(&groups), &["`p`"]);
    refused(&CombinatorialPurged::new(50, 25), &rows, &["126410606437752 splits"]);
    refused(&CombinatorialPurged::new(5, 5), &rows, &["`q` must be in [1, 4]"]);
}

#[test]
fn predefined_folds_that_are_none() {
    let rows = Rows::new(3);
    let of = |folds: [Option<u32>; 3]| Predefined::new(folds.to_vec());
    assert_eq!(refused(&of([None; 3]), &rows, &["never tested"]), SplitError::NoFolds);
    let error = refused(&of([Some(2); 3]), &rows, &["all 3 rows are in fold 2"]);
    assert_eq!(error, SplitError::OneFold { fold: 2, n: 3 });
    let gaps = of([Some(7), Some(2), Some(7)]).split(&rows).expect("splits");
    warned(&gaps, "fold numbers had gaps");
    refused(&Predefined::new(vec![Some(0); 2]), &rows, &["2 values, but there are 3 rows"]);
}

#[test]
fn seeds_and_columns_that_nobody_uses() {
    // A scheme without randomness takes no seed; repeating one is refused.
    let rows = Rows::new(6);
    let same = Repeated::new(KFold::new(2), 3, Seed(1));
    let error = refused(&same, &rows, &["every repetition would be the same"]);
    assert!(matches!(error, SplitError::NothingRandom { .. }));
    refused(&Repeated::new(KFold::new(2).with_shuffle(Seed(1)), 0, Seed(1)), &rows, &["`times`"]);
    let (groups, times) = ([0, 0, 1, 1, 2, 2], [1, 2, 3, 4, 5, 6]);
    let splits =
        KFold::new(2).split(&rows.with_groups(&groups).with_times(&times)).expect("splits");
    warned(&splits, "k_fold ignores the column `groups`");
    warned(&splits, "k_fold ignores the column `times`");
}

#[test]
fn labels_that_are_never_or_always_set() {
    let sets =
        LabelSets::from_indicators(&[true, false, true, false, true, false], 2).expect("3 x 2");
    let splits =
        MultilabelKFold::new(3).split(&Rows::new(3).with_label_sets(&sets)).expect("splits");
    warned(&splits, "label column 0 is set in 3 of 3 rows");
    warned(&splits, "label column 1 is set in 0 of 3 rows");
}
