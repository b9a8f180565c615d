//! The properties of what surrounds a split: threads, repetitions, files, the audit, the seal, re-sampling.

use crate::properties::{check_splits, folds, within_one};
use crate::*;
use firebrick_core::Seed;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn on_threads<T: Send>(threads: usize, run: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads").install(run)
}

/// P13: long enough for every parallel path, the same bytes on 1, 2 and 8 threads.
#[test]
fn threads_do_not_show() {
    let n = (1 << 20) + 77_777;
    let labels: Vec<u32> = (0..n as u32).map(|row| row.wrapping_mul(2_654_435_761) >> 29).collect();
    let groups: Vec<u32> = (0..n as u32).map(|row| row.wrapping_mul(40_503) % 100_003).collect();
    let rows = Rows::new(n).with_labels(&labels).with_groups(&groups);
    let seed = Seed(11);
    let hold_out = HoldOut::new("0.2").with_validation("0.1").with_shuffle(seed);
    let all = || -> Vec<(Vec<u32>, Vec<u32>, Vec<usize>)> {
        let maps = [
            KFold::new(5).with_shuffle(seed).split(&rows),
            KFold::new(300).with_shuffle(seed).split(&rows),
            StratifiedKFold::new(5).with_shuffle(seed).split(&rows),
            GroupKFold::new(5).with_shuffle(seed).split(&rows),
            StratifiedGroupKFold::new(5).with_shuffle(seed).split(&rows),
            hold_out.split(&rows).map(|roles| roles.map().clone()),
            hold_out.clone().with_stratified().split(&rows).map(|roles| roles.map().clone()),
            hold_out.clone().with_groups(GroupUnit::Rows).split(&rows).map(|r| r.map().clone()),
        ];
        let listed = maps.into_iter().map(|map| {
            let map = map.expect("splits");
            (map.fold(1).expect("exists"), map.train(0).expect("exists"), map.sizes())
        });
        listed.collect()
    };
    let one = on_threads(1, all);
    for (scheme, (fold, train, sizes)) in one.iter().enumerate() {
        assert_eq!((fold.len(), train.len()), (sizes[1], n - sizes[0]), "scheme {scheme}");
        assert!(fold.is_sorted() && train.is_sorted());
    }
    // P4, P5 at this size.
    assert!(within_one(&one[0].2) && within_one(&one[1].2) && within_one(&one[2].2));
    assert!(on_threads(2, all) == one && on_threads(8, all) == one);
}

/// P13: the shuffle of ten million rows, by the SHA-256 of its ids, as it is for ever.
#[test]
fn a_map_of_ten_million_rows_saves_and_loads() {
    let n = 10_000_000;
    let map = KFold::new(5).with_shuffle(Seed(7)).split(&Rows::new(n)).expect("splits");
    assert_eq!(map.sizes(), [n / 5; 5]);
    assert_eq!(map.manifest().ids_sha256[..16], *PINNED);
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("folds.map");
    map.save(&path).expect("saves");
    assert!(std::fs::metadata(&path).expect("is there").len() < n as u64 + 1000);
    assert!(FoldMap::load(&path).expect("loads") == map);
}
const PINNED: &str = "9598b2dc47d7b0be";

/// P27: stratified and hold-out assignments of few rows are equally likely, within what they promise.
#[test]
fn stratified_assignments_are_uniform() {
    // Two classes of four rows, two folds of two rows of each: 6 x 6 assignments. Chi-square with 35 degrees of freedom:
    // 1 - 1e-6 quantile 91. For the hold-out the same number of choices of two rows out of four, twice.
    let labels = [0, 1, 0, 1, 0, 1, 0, 1];
    let rows = Rows::new(8).with_labels(&labels);
    for hold_out in [false, true] {
        let mut seen = std::collections::BTreeMap::new();
        for seed in 0..7_200 {
            let ids = if hold_out {
                let scheme = HoldOut::new(4usize).with_stratified().with_shuffle(Seed(seed));
                folds(scheme.split(&rows).expect("splits").map())
            } else {
                folds(
                    &StratifiedKFold::new(2).with_shuffle(Seed(seed)).split(&rows).expect("splits"),
                )
            };
            *seen.entry(ids).or_insert(0.0) += 1.0;
        }
        assert_eq!(seen.len(), 36);
        let chi: f64 = seen.values().map(|count: &f64| (count - 200.0).powi(2) / 200.0).sum();
        assert!(chi < 91.0, "{chi}");
    }
}

/// P15: other seeds give other splits, whatever the scheme.
#[test]
fn other_seeds_give_other_splits() {
    let labels: Vec<u32> = (0..60).map(|row| row % 2).collect();
    let groups: Vec<u32> = (0..60).map(|row| row / 2).collect();
    let target: Vec<f64> = (0..60).map(f64::from).collect();
    let sets = LabelSets::from_rows((0..60u32).map(|row| vec![row % 3])).expect("small");
    let rows = Rows::new(60).with_labels(&labels).with_groups(&groups);
    let rows = rows.with_target(&target).with_label_sets(&sets);
    fn valid<S: Splitter>(scheme: S, rows: &Rows<'_>) -> Vec<Vec<u32>> {
        let splits = scheme.split(rows).expect("splits");
        splits.iter().map(|split| split.valid.to_vec()).collect()
    }
    let of = |seed: u64| {
        let seed = Seed(seed);
        let part = HoldOut::new(0.3).with_shuffle(seed);
        [
            valid(KFold::new(5).with_shuffle(seed), &rows),
            valid(StratifiedKFold::new(5).with_shuffle(seed), &rows),
            valid(GroupKFold::new(5).with_shuffle(seed), &rows),
            valid(StratifiedGroupKFold::new(5).with_shuffle(seed), &rows),
            valid(MultilabelKFold::new(5).with_shuffle(seed), &rows),
            valid(TargetKFold::new(5, seed), &rows),
            valid(part.clone(), &rows),
            valid(part.clone().with_stratified(), &rows),
            valid(part.clone().with_groups(GroupUnit::Rows), &rows),
            valid(part.clone().with_groups(GroupUnit::Groups), &rows),
            valid(part.clone().with_stratified().with_groups(GroupUnit::Rows), &rows),
            valid(MultilabelHoldOut::new(0.3).with_shuffle(seed), &rows),
            valid(ShuffleSplit::new(part, 2, seed), &rows),
            valid(Bootstrap::new(2, seed), &rows),
        ]
    };
    let several: Vec<_> = (0..4).map(of).collect();
    for scheme in 0..several[0].len() {
        let seen: BTreeSet<_> = several.iter().map(|schemes| &schemes[scheme]).collect();
        assert_eq!(seen.len(), 4, "scheme {scheme}");
    }
}

/// Shuffle splits in their four forms: every draw another, of the size asked for, in shares and whole groups.
#[test]
fn shuffle_splits_differ_in_every_form() {
    // 60 groups of five rows of one class; a third of the rows is of class 1.
    let groups: Vec<u32> = (0..300).map(|row| row / 5).collect();
    let labels: Vec<u32> = groups.iter().map(|group| u32::from(group % 3 == 0)).collect();
    let rows = Rows::new(300).with_labels(&labels).with_groups(&groups);
    for (stratified, grouped) in [(false, false), (true, false), (false, true), (true, true)] {
        let scheme = HoldOut::new(0.2).with_shuffle(Seed(0));
        let scheme = if stratified { scheme.with_stratified() } else { scheme };
        let scheme = if grouped { scheme.with_groups(GroupUnit::Rows) } else { scheme };
        let splits = ShuffleSplit::new(scheme, 6, Seed(3)).split(&rows).expect("splits");
        check_splits(&splits, 300, false);
        let drawn: BTreeSet<Vec<u32>> = splits.iter().map(|split| split.valid.to_vec()).collect();
        assert_eq!((splits.count(), drawn.len()), (6, 6));
        for valid in drawn {
            // Stratified whole groups go one by one to where they do least harm: near the size, not at it.
            let slack = if stratified && grouped { 5 } else { 0 };
            assert!(valid.len().abs_diff(60) <= slack, "{stratified} {grouped}: {}", valid.len());
            let ones = valid.iter().filter(|&&row| labels[row as usize] == 1).count();
            assert!(!stratified || ones.abs_diff(20) <= slack, "{grouped}: {ones}");
            let whole = |row: u32| (row / 5 * 5..row / 5 * 5 + 5).all(|row| valid.contains(&row));
            assert!(!grouped || valid.iter().all(|&row| whole(row)));
        }
    }
}

/// P19: a back-test path tests every row once, and every tested block is in one path.
#[test]
fn backtest_paths_take_every_tested_block_once() {
    for (n, blocks, q) in [(29, 6, 2), (40, 7, 3), (11, 5, 1)] {
        let splits = CombinatorialPurged::new(blocks, q).split(&Rows::new(n)).expect("splits");
        let mut taken = BTreeSet::new();
        for path in splits.paths() {
            let mut tested = vec![0; n];
            for (block, &split) in path.iter().enumerate() {
                assert!(taken.insert((block, split)), "block {block} of split {split} again");
                splits.block(block).for_each(|row| tested[row] += 1);
            }
            assert_eq!(tested, vec![1; n]);
        }
        assert_eq!(taken.len(), splits.count() * q);
    }
}

/// P20: predefined folds give back the splits they were read from; rows that are never tested train in each.
#[test]
fn predefined_folds_reproduce_k_fold() {
    let rows = Rows::new(30);
    let map = KFold::new(4).with_shuffle(Seed(5)).split(&rows).expect("splits");
    let given = |never: usize| {
        let fold = |row: usize| map.fold_of(row).filter(|_| row >= never);
        Predefined::new((0..30).map(|row| fold(row).map(|fold| fold as u32)).collect())
    };
    assert!(given(0).split(&rows).expect("splits").iter().eq(map.iter()));
    let kept = given(3).split(&rows).expect("splits");
    check_splits(&kept, 30, false);
    assert_eq!(kept.count(), 4);
    assert!(kept.iter().all(|split| (0..3).all(|row| split.train.contains(row))));
}

/// Adapters in adapters: a repeated scheme outside, a hold-out inside.
#[test]
fn adapters_go_into_each_other() {
    let outer = |times| Repeated::new(KFold::new(3).with_shuffle(Seed(0)), times, Seed(6));
    let inner = HoldOut::validation_only(0.25).with_shuffle(Seed(1));
    let of =
        |times| Nested::new(outer(times), inner.clone()).split(&Rows::new(24)).expect("splits");
    let (few, many) = (of(2), of(4));
    assert_eq!((few.count(), many.count()), (6, 12));
    let mut seen = BTreeSet::new();
    for index in 0..many.count() {
        let train = many.outer(index).expect("exists").train;
        let [split] = &many.inner(index).expect("exists")[..] else { panic!("one hold-out") };
        assert_eq!((split.train.len(), split.valid.len()), (12, 4));
        assert!(split.train.iter().chain(split.valid.iter()).all(|row| train.contains(row)));
        // P14: what a split is does not depend on how many follow.
        let same = index >= 6 || few.inner(index) == many.inner(index);
        assert!(same && seen.insert(split.valid.to_vec()), "split {index}");
    }
}

/// P26: numbers of folds that make no sense, and more rows than a row number can name, for every scheme.
#[test]
fn what_no_scheme_can_do_is_refused_by_each() {
    let (codes, times, target) = ([0, 1, 2, 0, 1, 2], [1, 2, 3, 4, 5, 6], [0.5; 6]);
    let sets = LabelSets::from_rows(vec![vec![0]; 6]).expect("small");
    let rows = Rows::new(6).with_labels(&codes).with_groups(&codes).with_times(&times);
    let rows = rows.with_target(&target).with_label_sets(&sets);
    fn refused<S: Splitter>(scheme: S, rows: &Rows<'_>) -> SplitError {
        scheme.split(rows).map(|_| ()).expect_err("must be refused")
    }
    for k in [0, 1, 7] {
        for error in [
            refused(KFold::new(k), &rows),
            refused(StratifiedKFold::new(k), &rows),
            refused(MultilabelKFold::new(k), &rows),
            refused(TargetKFold::new(k, Seed(0)), &rows),
            refused(PurgedKFold::new(k), &rows),
            refused(CombinatorialPurged::new(k, 1), &rows),
            refused(TimeSeries::new(k), &rows),
        ] {
            assert!(matches!(error, SplitError::BadFolds { n: 6, .. }), "{k}: {error}");
        }
        for error in [
            refused(GroupKFold::new(k), &rows),
            refused(StratifiedGroupKFold::new(k), &rows),
            refused(StratifiedGroupKFold::new(k).with_sklearn_compat(), &rows),
        ] {
            let known =
                matches!(error, SplitError::BadFolds { .. } | SplitError::TooFewGroups { .. });
            assert!(known, "{k}: {error}");
        }
    }
    let many = Rows::new(MAX_ROWS + 1);
    let too_many = SplitError::TooManyRows { n: MAX_ROWS as u64 + 1, max: MAX_ROWS as u64 };
    for error in [
        refused(KFold::new(2), &many),
        refused(HoldOut::new(0.2), &many),
        refused(LeavePOut::one(), &many),
        refused(TimeSeries::new(2), &many),
        refused(Bootstrap::new(1, Seed(0)), &many),
        refused(Predefined::new(vec![]), &many),
    ] {
        assert_eq!(error, too_many);
    }
}

/// Small rows that can repeat, with the split that a seed gives them.
fn cells() -> impl Strategy<Value = (Vec<[u8; 2]>, u64)> {
    (vec([0u8..12, 0u8..12], 8..80), any::<u64>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// P14: asking for more repetitions leaves the first as they were, for every scheme that is shuffled.
    #[test]
    fn repetitions_have_prefixes(n in 6usize..60, seed: u64, few in 1usize..4, more in 0usize..4) {
        fn prefix<S: Splitter + Clone>(scheme: S, rows: &Rows<'_>, seed: Seed, few: usize, more: usize)
        where
            S::Output: PartialEq,
        {
            let of = |times| Repeated::new(scheme.clone(), times, seed).split(rows).expect("splits");
            let (short, long) = (of(few), of(few + more));
            assert!(short.repetitions() == &long.repetitions()[..few]);
        }
        let labels: Vec<u32> = (0..n as u32).map(|row| row % 2).collect();
        let groups: Vec<u32> = (0..n as u32).map(|row| row / 2).collect();
        let rows = Rows::new(n).with_labels(&labels).with_groups(&groups);
        let (zero, seed) = (Seed(0), Seed(seed));
        prefix(KFold::new(3).with_shuffle(zero), &rows, seed, few, more);
        prefix(StratifiedKFold::new(3).with_shuffle(zero), &rows, seed, few, more);
        prefix(GroupKFold::new(3).with_shuffle(zero), &rows, seed, few, more);
        prefix(StratifiedGroupKFold::new(3).with_shuffle(zero), &rows, seed, few, more);
        prefix(HoldOut::new(0.3).with_shuffle(zero), &rows, seed, few, more);
        prefix(HoldOut::new(0.3).with_stratified().with_shuffle(zero), &rows, seed, few, more);
        prefix(HoldOut::new(0.3).with_groups(GroupUnit::Rows).with_shuffle(zero), &rows, seed, few, more);
        prefix(Bootstrap::new(2, zero), &rows, seed, few, more);
    }

    /// P16: unshuffled schemes by group do not care in which order the rows come.
    #[test]
    fn whole_groups_are_equivariant(groups in vec(0u32..9, 12..90), seed: u64, k in 2usize..4) {
        let n = groups.len();
        let labels: Vec<u32> = (0..n as u32).map(|row| row % 3).collect();
        let mut order: Vec<usize> = (0..n).collect();
        Seed(seed).stream("order").shuffle(&mut order);
        let moved = |column: &[u32]| order.iter().map(|&row| column[row]).collect::<Vec<_>>();
        let (other_labels, other_groups) = (moved(&labels), moved(&groups));
        let (a, b) = (Rows::new(n).with_labels(&labels).with_groups(&groups), Rows::new(n).with_labels(&other_labels).with_groups(&other_groups));
        let pairs = [
            (GroupKFold::new(k).split(&a), GroupKFold::new(k).split(&b)),
            (StratifiedGroupKFold::new(k).split(&a), StratifiedGroupKFold::new(k).split(&b)),
            (StratifiedGroupKFold::new(k).with_sklearn_compat().split(&a), StratifiedGroupKFold::new(k).with_sklearn_compat().split(&b)),
        ];
        for (a, b) in pairs {
            let (Ok(a), Ok(b)) = (a, b) else { continue };
            for (place, &row) in order.iter().enumerate() {
                prop_assert_eq!(b.fold_of(place), a.fold_of(row));
            }
        }
    }

    /// P11: in a stratified hold-out every class is within one row of its share, at each of the two stages.
    #[test]
    fn stratified_hold_outs_keep_shares(labels in vec(0u32..5, 12..150), seed: u64, test in 5u64..40, validation in 5u64..40) {
        let n = labels.len();
        let scheme = HoldOut::new((test, 100)).with_validation((validation, 100)).with_stratified();
        let scheme = scheme.with_rare(Rare::Ignore).with_shuffle(Seed(seed));
        let Ok(roles) = scheme.split(&Rows::new(n).with_labels(&labels)) else { return Ok(()) };
        let [_, validation, test] = roles.sizes();
        let of = |part: Vec<u32>, class: u32| part.iter().filter(|&&row| labels[row as usize] == class).count();
        // |count - rows size / all| <= 1, in integers.
        let within = |count: usize, rows: usize, size: usize, all: usize| (count * all).abs_diff(rows * size) <= all;
        for class in 0..5 {
            let rows = labels.iter().filter(|&&label| label == class).count();
            let tested = of(roles.test(), class);
            prop_assert!(within(tested, rows, test, n), "{} of {}", tested, rows);
            let validated = of(roles.validation(), class);
            prop_assert!(within(validated, rows - tested, validation, n - test), "{} of {}", validated, rows - tested);
        }
    }

    /// P18: more purge or embargo around the test blocks only shrinks training and leaves the tests alone.
    #[test]
    fn purging_more_only_shrinks_training(n in 12usize..60, blocks in 3usize..7, q in 1usize..3, purge in 0usize..3, embargo in 0usize..3, more in 0usize..3) {
        let of = |purge, embargo| CombinatorialPurged::new(blocks, q).with_purge(purge).with_embargo(embargo).split(&Rows::new(n));
        let Ok(less) = of(purge, embargo) else { return Ok(()) };
        for wider in [of(purge + more, embargo), of(purge, embargo + more)].into_iter().flatten() {
            for (a, b) in less.iter().zip(wider.iter()) {
                prop_assert_eq!(&a.valid, &b.valid);
                prop_assert!(b.train.iter().all(|row| a.train.contains(row)));
            }
        }
    }

    /// P24: a hash split is a function of the row's identity alone; its share is met within five deviations.
    #[test]
    fn hash_splits_never_move_a_row(seed: u64, percent in 5u64..60, start: u64) {
        let split = HashSplit::new((percent, 100), Seed(seed)).expect("a share");
        let part = |id: u64| split.part(&start.wrapping_add(id).to_le_bytes());
        let test: Vec<bool> = (0..4000).map(|id| part(id) == PartName::Test).collect();
        prop_assert!((0..4000).rev().step_by(3).all(|id| test[id as usize] == (part(id) == PartName::Test)));
        let (n, p) = (4000.0, percent as f64 / 100.0);
        let count = test.iter().filter(|&&test| test).count() as f64;
        prop_assert!((count - n * p).abs() < 5.0 * (n * p * (1.0 - p)).sqrt());
    }

    /// P25: a saved map is the map, and its manifest knows it from any other.
    #[test]
    fn certificates_round_trip(n in 2usize..300, k in 2usize..290, seed: u64, place: usize, bit in 0u8..8) {
        prop_assume!(k <= n);
        let rows: Vec<[u8; 2]> = (0..n as u16).map(u16::to_le_bytes).collect();
        let data = RowHashes::from_bytes(&rows).fingerprint();
        let map = KFold::new(k).with_shuffle(Seed(seed)).split(&Rows::new(n).with_fingerprint(data)).expect("splits");
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("map");
        map.save(&path).expect("saves");
        prop_assert_eq!(&FoldMap::load(&path).expect("loads"), &map);
        let manifest = serde_json::to_string(&map.manifest()).expect("serializes");
        let manifest: Manifest = serde_json::from_str(&manifest).expect("reads back");
        prop_assert!(manifest.check(&map).is_ok() && map.verify(&data).is_ok());
        let mut bytes = std::fs::read(&path).expect("readable");
        let place = place % bytes.len();
        bytes[place] ^= 1 << bit;
        std::fs::write(&path, bytes).expect("writable");
        let damaged = matches!(FoldMap::load(&path), Err(SplitError::MapDamaged { .. }));
        prop_assert!(damaged, "bit {} of byte {}", bit, place);
    }

    /// P33: the audit finds every pair of equal rows, every shared group and every late row across parts, and no other.
    #[test]
    fn every_planted_leak_is_found((rows, seed) in cells(), groups in vec(0u32..20, 80), times in vec(0i64..50, 80)) {
        let n = rows.len();
        let map = KFold::new(2).with_shuffle(Seed(seed)).split(&Rows::new(n)).expect("splits");
        let values: Vec<f32> = rows.iter().flatten().map(|&cell| cell.into()).collect();
        let (groups, times) = (&groups[..n], &times[..n]);
        let audit = Audit::of_fold(&map, 0).with_features(&values, 2).with_rows(&Rows::new(n).with_groups(groups).with_times(times)).with_time_split(3);
        let report = audit.run().expect("runs");
        let (train, valid) = (map.train(0).expect("exists"), map.fold(0).expect("exists"));
        let twins = valid.iter().filter(|&&v| train.iter().any(|&t| rows[t as usize] == rows[v as usize])).count();
        let of = |part: &[u32]| part.iter().map(|&row| groups[row as usize]).collect::<BTreeSet<u32>>();
        let shared = of(&train).intersection(&of(&valid)).count();
        let first = valid.iter().map(|&row| times[row as usize]).min().expect("rows");
        let late = train.iter().filter(|&&row| times[row as usize] + 3 >= first).count();
        for (name, count) in [("exact duplicates", twins), ("groups across parts", shared), ("times across parts", late)] {
            let check = report.check(name).expect("exists");
            prop_assert_eq!(check.count, count, "{}", name);
            prop_assert_eq!(check.verdict, if count > 0 { Verdict::Error } else { Verdict::Clean });
        }
        // What belongs together after the repair stays together.
        let merged = report.fix(Some(groups)).expect("as many");
        for a in 0..n {
            for b in 0..n {
                let across = map.fold_of(a) != map.fold_of(b);
                if groups[a] == groups[b] || across && rows[a] == rows[b] {
                    prop_assert_eq!(merged[a], merged[b]);
                }
            }
        }
    }

    /// P34: whatever seeds are tried afterwards, also after a restart, a second look at an opened row is refused.
    #[test]
    fn an_opened_test_stays_opened(n in 12usize..50, seed: u64, others in vec(any::<u64>(), 3)) {
        let hashes = RowHashes::from_bytes((0..n as u32).map(u32::to_le_bytes));
        let folder = tempfile::tempdir().expect("temporary folder");
        let test = |seed: u64| {
            let roles = HoldOut::new(0.3).with_shuffle(Seed(seed)).split(&Rows::new(n)).expect("splits");
            (roles.test(), roles.divide(&hashes, |_, rows| rows.to_vec()).expect("divides").test)
        };
        let open = |sealed: Sealed<Vec<u32>>, model: &str| {
            let mut ledger = Ledger::open(folder.path().join("ledger"), hashes.fingerprint()).expect("opens");
            let frozen = Frozen::new((), ModelDigest::of_bytes([model]), model);
            sealed.open(&mut ledger, &frozen, |(), rows| Metrics::new().with("rows", rows.len() as f64))
        };
        let (rows, sealed) = test(seed);
        prop_assert!(open(sealed, "a").is_ok_and(|report| report.uses == 1));
        prop_assert!(open(test(seed).1, "a").is_ok_and(|report| report.repetition));
        let refused = matches!(open(test(seed).1, "b"), Err(SplitError::AlreadyOpened { .. }));
        prop_assert!(refused);
        for other in others {
            let (again, sealed) = test(other);
            let moved = rows.iter().filter(|row| !again.contains(row)).count();
            match open(sealed, "b") {
                Err(SplitError::TestRowsReused { count, .. }) => prop_assert_eq!(count, moved),
                Err(SplitError::AlreadyOpened { .. }) => prop_assert_eq!(moved, 0),
                result => prop_assert!(false, "{:?}", result),
            }
        }
    }

    /// P35: re-sampling takes training rows only, and meets its target exactly where it is one of counts.
    #[test]
    fn resamplers_stay_within_training(labels in vec(0u32..3, 20..90), seed: u64, size in 1usize..12) {
        let n = labels.len();
        let roles = HoldOut::new(0.2).with_validation(0.2).with_shuffle(Seed(seed)).split(&Rows::new(n)).expect("splits");
        let hashes = RowHashes::new((0..n as u64).collect());
        let parts = roles.divide(&hashes, |_, rows| rows.to_vec()).expect("divides");
        let train = &parts.train;
        let own: Vec<u32> = train.rows().iter().map(|&row| labels[row as usize]).collect();
        let counts = |places: &[u32]| (0..3).map(|class| places.iter().filter(|&&p| own[p as usize] == class).count()).collect::<Vec<_>>();
        let inside = |rows: &[u32]| rows.iter().all(|row| train.rows().binary_search(row).is_ok());
        let there = counts(&(0..own.len() as u32).collect::<Vec<_>>());
        let even = down_sample(train, &own, &Target::Uniform, Seed(seed)).expect("draws");
        let least = there.iter().copied().filter(|&count| count > 0).min().expect("rows");
        prop_assert!(inside(&even.rows));
        prop_assert!(counts(&even.places).iter().zip(&there).all(|(&got, &had)| got == least.min(had)));
        let wanted: Vec<(u32, usize)> = (0..3).map(|class| (class, there[class as usize] / 2)).filter(|w| w.1 > 0).collect();
        if !wanted.is_empty() {
            let given = down_sample(train, &own, &Target::Counts(wanted.clone()), Seed(seed)).expect("draws");
            prop_assert!(inside(&given.rows) && given.report.distance_after < 1e-12);
            prop_assert!(wanted.iter().all(|&(class, count)| counts(&given.places)[class as usize] == count));
        }
        let size = size.min(own.len());
        let part = &learning_curve(train, &own, &[size], Seed(seed)).expect("draws")[0];
        prop_assert!(inside(&part.rows) && part.rows.len() == size);
        let drawn = WeightedSampler::balanced(train, &own).expect("valid").sample(40, Seed(seed));
        prop_assert!(inside(&drawn.rows) && drawn.rows.len() == 40);
    }
}
