//! The properties that hold for every scheme, on random problems, and the uniformity of what is drawn.

use crate::*;
use firebrick_core::Seed;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};

/// A random problem: labels, groups and times of the same rows.
#[derive(Debug, Clone)]
struct Problem {
    labels: Vec<u32>,
    groups: Vec<u32>,
    times: Vec<i64>,
    k: usize,
    seed: Seed,
}

impl Problem {
    fn n(&self) -> usize {
        self.labels.len()
    }
    fn rows(&self) -> Rows<'_> {
        Rows::new(self.n())
            .with_labels(&self.labels)
            .with_groups(&self.groups)
            .with_times(&self.times)
    }
}

fn problem() -> impl Strategy<Value = Problem> {
    (2usize..=500, 1u32..=8, 1u32..=100, 2usize..=12, any::<u64>()).prop_flat_map(
        |(n, classes, groups, k, seed)| {
            (vec(0..classes, n), vec(0..groups, n), vec(-50i64..50, n)).prop_map(
                move |(labels, groups, mut times)| {
                    times.sort_unstable();
                    Problem { labels, groups, times, k, seed: Seed(seed) }
                },
            )
        },
    )
}

fn list(rows: &RowSet) -> Vec<u32> {
    rows.to_vec()
}

/// P1 to P3: disjoint, ascending, in range; for the K-fold family every row is validated on once.
pub(crate) fn check_splits(splits: &impl Splits, n: usize, partition: bool) {
    let mut tested = vec![0usize; n];
    for split in splits.iter() {
        let (train, valid) = (list(&split.train), list(&split.valid));
        assert!(!train.is_empty() && !valid.is_empty());
        for rows in [&train, &valid] {
            assert!(rows.windows(2).all(|pair| pair[0] < pair[1]), "ascending");
            assert!(rows.iter().all(|&row| (row as usize) < n), "in range");
        }
        assert!(train.iter().all(|row| valid.binary_search(row).is_err()), "disjoint");
        if partition {
            assert_eq!(train.len() + valid.len(), n);
        }
        valid.iter().for_each(|&row| tested[row as usize] += 1);
    }
    if partition {
        assert!(tested.iter().all(|&count| count == 1), "every row once");
    }
    assert!(splits.get(splits.count()).is_err());
}

pub(crate) fn within_one(sizes: &[usize]) -> bool {
    sizes.iter().max().zip(sizes.iter().min()).is_some_and(|(max, min)| max - min <= 1)
}

/// Rows of each fold that satisfy `wanted`.
fn counts(map: &FoldMap, wanted: impl Fn(usize) -> bool) -> Vec<usize> {
    let mut counts = vec![0; map.k()];
    for row in (0..map.rows()).filter(|&row| wanted(row)) {
        counts[map.fold_of(row).expect("assigned")] += 1;
    }
    counts
}

pub(crate) fn folds(map: &FoldMap) -> Vec<usize> {
    (0..map.rows()).map(|row| map.fold_of(row).expect("assigned")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// P1-P6, P13, P15, P20: K-fold and its stratified form.
    #[test]
    fn k_folds(p in problem()) {
        let (n, rows) = (p.n(), p.rows());
        for scheme in [KFold::new(p.k), KFold::new(p.k).with_shuffle(p.seed)] {
            let Ok(map) = scheme.split(&rows) else {
                prop_assert!(p.k > n);
                continue;
            };
            check_splits(&map, n, true);
            prop_assert!(within_one(&map.sizes()));
            prop_assert_eq!(&map, &scheme.split(&rows).expect("again"));
        }
        for scheme in [StratifiedKFold::new(p.k), StratifiedKFold::new(p.k).with_shuffle(p.seed)] {
            let Ok(map) = scheme.split(&rows) else { continue };
            check_splits(&map, n, true);
            prop_assert!(within_one(&map.sizes()));
            for class in 0..8 {
                prop_assert!(within_one(&counts(&map, |row| p.labels[row] == class)));
            }
            // P7: another name for each class, the order of first appearance unchanged.
            let renamed: Vec<u32> = p.labels.iter().map(|label| label.wrapping_mul(2_654_435_761) ^ 77).collect();
            let other = scheme.split(&Rows::new(n).with_labels(&renamed)).expect("splits");
            prop_assert_eq!(folds(&map), folds(&other));
        }
        // P6: the closed form is the brute-force round robin over the sorted labels.
        if let Ok(map) = StratifiedKFold::new(p.k).split(&rows) {
            let mut appearance = Vec::new();
            p.labels.iter().for_each(|label| if !appearance.contains(label) { appearance.push(*label) });
            let mut sorted: Vec<u32> = p.labels.clone();
            sorted.sort_by_key(|label| appearance.iter().position(|a| a == label));
            for class in appearance {
                let dealt: Vec<usize> =
                    (0..p.k).map(|fold| (fold..n).step_by(p.k).filter(|&place| sorted[place] == class).count()).collect();
                prop_assert_eq!(counts(&map, |row| p.labels[row] == class), dealt);
            }
        }
        // P20: one class is plain K-fold.
        let one = vec![3; n];
        if let (Ok(a), Ok(b)) = (StratifiedKFold::new(p.k).split(&Rows::new(n).with_labels(&one)), KFold::new(p.k).split(&Rows::new(n))) {
            prop_assert_eq!(folds(&a), folds(&b));
        }
        if n >= 20 && p.k <= 5 {
            let seeds: BTreeSet<Vec<usize>> = (0..4)
                .map(|seed| folds(&KFold::new(p.k).with_shuffle(Seed(seed)).split(&rows).expect("splits")))
                .collect();
            prop_assert_eq!(seeds.len(), 4);
        }
    }

    /// P8-P10, P16, P20: whole groups.
    #[test]
    fn group_folds(p in problem()) {
        let (n, rows) = (p.n(), p.rows());
        let groups: BTreeSet<u32> = p.groups.iter().copied().collect();
        let whole = |map: &FoldMap| {
            let mut home = HashMap::new();
            (0..n).all(|row| *home.entry(p.groups[row]).or_insert(map.fold_of(row)) == map.fold_of(row))
        };
        for scheme in [GroupKFold::new(p.k), GroupKFold::new(p.k).with_shuffle(p.seed)] {
            let Ok(map) = scheme.split(&rows) else {
                prop_assert!(groups.len() < p.k);
                continue;
            };
            check_splits(&map, n, true);
            prop_assert!(whole(&map));
        }
        for scheme in [StratifiedGroupKFold::new(p.k), StratifiedGroupKFold::new(p.k).with_shuffle(p.seed)] {
            match scheme.split(&rows) {
                Ok(map) => {
                    check_splits(&map, n, true);
                    prop_assert!(whole(&map));
                }
                Err(SplitError::TooFewGroups { .. }) => prop_assert!(groups.len() < p.k),
                Err(error) => prop_assert!(matches!(error, SplitError::ClassesTooSmall { .. }), "{error}"),
            }
        }
        if let Ok(map) = StratifiedGroupKFold::new(p.k).with_sklearn_compat().split(&rows) {
            check_splits(&map, n, true);
            prop_assert!(whole(&map));
        }
        // P16: reversing the rows reverses the ids.
        if let Ok(map) = GroupKFold::new(p.k).split(&rows) {
            let reversed: Vec<u32> = p.groups.iter().rev().copied().collect();
            let other = GroupKFold::new(p.k).split(&Rows::new(n).with_groups(&reversed)).expect("splits");
            prop_assert_eq!(folds(&map), folds(&other).into_iter().rev().collect::<Vec<_>>());
        }
        // P20: singletons have the sizes of K-fold; leave one group out is leave p groups out with p = 1.
        let own: Vec<u32> = (0..n as u32).collect();
        if let Ok(map) = GroupKFold::new(p.k).split(&Rows::new(n).with_groups(&own)) {
            let mut sizes = map.sizes();
            sizes.sort_unstable_by(|a, b| b.cmp(a));
            prop_assert_eq!(sizes, KFold::new(p.k).split(&Rows::new(n)).expect("splits").sizes());
        }
        let (one, same) = (LeavePGroupsOut::one().split(&rows), LeavePGroupsOut::new(1).split(&rows));
        prop_assert_eq!(&one, &same);
        if let Ok(splits) = one {
            check_splits(&splits, n, true);
            prop_assert_eq!(splits.count(), groups.len());
        }
    }

    /// P10: the largest fold against the best possible, by brute force.
    #[test]
    fn group_folds_are_nearly_optimal(sizes in vec(1usize..20, 2..8), k in 2usize..4) {
        prop_assume!(sizes.len() >= k);
        let groups: Vec<u32> = sizes.iter().enumerate().flat_map(|(g, &size)| vec![g as u32; size]).collect();
        let map = GroupKFold::new(k).split(&Rows::new(groups.len()).with_groups(&groups)).expect("splits");
        let ours = map.sizes().into_iter().max().expect("folds");
        let best = (0..k.pow(sizes.len() as u32))
            .map(|mut code| {
                let mut loads = vec![0; k];
                for &size in &sizes {
                    loads[code % k] += size;
                    code /= k;
                }
                loads.into_iter().max().expect("folds")
            })
            .min()
            .expect("assignments");
        // (4/3 - 1/(3k)) best, in integers.
        prop_assert!(3 * k * ours <= (4 * k - 1) * best);
        prop_assert!(ours >= best && best >= groups.len().div_ceil(k));
    }

    /// P2, P11, P12: hold-outs meet their sizes whatever the notation.
    #[test]
    fn hold_outs(p in problem(), a in 1u64..60, b in 1u64..40) {
        let (n, rows) = (p.n(), p.rows());
        let texts = [format!("0.{a:02}"), format!("0.{b:02}")];
        let plain = HoldOut::new(texts[0].as_str()).with_validation(texts[1].as_str());
        let float = HoldOut::new(a as f64 / 100.0).with_validation(b as f64 / 100.0);
        let pair = HoldOut::new((a, 100)).with_validation((b, 100));
        let of = |scheme: &HoldOut| scheme.split(&Rows::new(n)).map(|roles| roles.sizes());
        prop_assert_eq!(of(&plain), of(&float));
        prop_assert_eq!(of(&plain), of(&pair));
        for scheme in [plain.clone(), plain.clone().with_shuffle(p.seed), plain.clone().with_stratified().with_rare(Rare::Pool).with_shuffle(p.seed)] {
            let Ok(roles) = scheme.split(&rows) else { continue };
            prop_assert_eq!(Ok(roles.sizes()), of(&plain));
            check_splits(&roles, n, false);
            let mut all = [roles.train(), roles.validation(), roles.test()].concat();
            all.sort_unstable();
            prop_assert!(all.into_iter().eq(0..n as u32));
            prop_assert_eq!(roles.development().len(), n - roles.sizes()[2]);
        }
        for scheme in [plain.clone().with_groups(GroupUnit::Rows), plain.with_groups(GroupUnit::Groups), float.with_stratified().with_groups(GroupUnit::Rows)] {
            let Ok(roles) = scheme.with_shuffle(p.seed).split(&rows) else { continue };
            let part: HashMap<u32, Option<usize>> = (0..n).map(|row| (p.groups[row], roles.map().fold_of(row))).collect();
            prop_assert!((0..n).all(|row| part[&p.groups[row]] == roles.map().fold_of(row)));
            check_splits(&roles, n, false);
            prop_assert!(roles.sizes().iter().all(|&size| size > 0));
        }
    }

    /// P17: time splits look forward, in rows, distinct times, units of time and groups.
    #[test]
    fn time_splits(p in problem(), gap in 0u64..4, test in 1u64..8, train in 1u64..9, step in 1u64..6, size in 1usize..5) {
        // Groups of neighbouring rows, each with times of its own.
        let blocks: Vec<u32> = (0..p.n()).map(|row| (row / size) as u32).collect();
        let spread: Vec<i64> = p.times.iter().zip(&blocks).map(|(time, &block)| time + 1000 * i64::from(block)).collect();
        let distinct: BTreeSet<i64> = p.times.iter().copied().collect();
        let place = |row: usize| distinct.range(..p.times[row]).count() as u64;
        for unit in [TimeUnit::Rows, TimeUnit::Times, TimeUnit::Values, TimeUnit::Groups] {
            let rows = if unit == TimeUnit::Groups { Rows::new(p.n()).with_groups(&blocks).with_times(&spread) } else { p.rows() };
            let rows = &rows;
            let expanding = TimeSeries::new(p.k).with_gap(gap).with_test(test).with_unit(unit).split(rows);
            let sliding = SlidingWindow::new(train, test).with_gap(gap).with_step(step).with_unit(unit).split(rows);
            let mut before = BTreeSet::new();
            for splits in [&expanding, &sliding].into_iter().flatten() {
                check_splits(splits, p.n(), false);
                for split in splits.iter() {
                    let (train, valid) = (list(&split.train), list(&split.valid));
                    let (last, first) = (train[train.len() - 1] as usize, valid[0] as usize);
                    match unit {
                        TimeUnit::Rows => prop_assert!(last as u64 + gap < first as u64),
                        TimeUnit::Values => prop_assert!(p.times[last].abs_diff(p.times[first]) > gap),
                        // Exactly so many places are left out, since windows of these units hold rows at either end.
                        TimeUnit::Times => prop_assert_eq!(place(last) + gap + 1, place(first)),
                        TimeUnit::Groups => {
                            prop_assert_eq!(u64::from(blocks[last]) + gap + 1, u64::from(blocks[first]));
                            let ends = train.iter().map(|&row| spread[row as usize]).max();
                            prop_assert!(ends < valid.iter().map(|&row| spread[row as usize]).min());
                            let (a, b): (BTreeSet<u32>, BTreeSet<u32>) =
                                (train.iter().map(|&row| blocks[row as usize]).collect(), valid.iter().map(|&row| blocks[row as usize]).collect());
                            prop_assert!(a.is_disjoint(&b), "groups stay whole");
                        }
                    }
                }
            }
            if let Ok(splits) = &expanding {
                for split in splits.iter() {
                    let now: BTreeSet<u32> = split.train.iter().collect();
                    prop_assert!(before.is_subset(&now), "expanding windows nest");
                    before = now;
                }
            }
            if let (TimeUnit::Rows, Ok(splits)) = (unit, &sliding) {
                prop_assert!(splits.iter().all(|s| s.train.len() as u64 == train && s.valid.len() as u64 == test));
            }
        }
    }

    /// P18: no training interval meets a test interval; more purge or embargo only shrinks training.
    #[test]
    fn purged_splits(starts in vec(-40i64..40, 4..80), lengths in vec(0i64..6, 80), k in 2usize..5, embargo in 0u64..5) {
        let ends: Vec<i64> = starts.iter().zip(&lengths).map(|(start, length)| start + length).collect();
        let rows = Rows::new(starts.len()).with_times(&starts).with_ends(&ends);
        let (Ok(less), Ok(more)) = (PurgedKFold::new(k).split(&rows), PurgedKFold::new(k).with_embargo(embargo).split(&rows)) else {
            return Ok(());
        };
        check_splits(&less, starts.len(), false);
        check_splits(&more, starts.len(), false);
        let mut tested = vec![0; starts.len()];
        for (a, b) in less.iter().zip(more.iter()) {
            prop_assert_eq!(&a.valid, &b.valid);
            prop_assert!(b.train.iter().all(|row| a.train.contains(row)));
            let last = b.valid.iter().map(|row| ends[row as usize]).max().expect("rows");
            for test in b.valid.iter().map(|row| row as usize) {
                tested[test] += 1;
                for train in b.train.iter().map(|row| row as usize) {
                    prop_assert!(ends[train] < starts[test] || starts[train] > ends[test]);
                    prop_assert!(starts[train] <= last || starts[train].abs_diff(last) > embargo);
                }
            }
        }
        prop_assert!(tested.iter().all(|&count| count == 1));
    }

    /// P18, P19: combinations of blocks.
    #[test]
    fn combinatorial_splits(n in 10usize..60, blocks in 2usize..8, q in 1usize..4, purge in 0usize..3, embargo in 0usize..3) {
        prop_assume!(q < blocks);
        let Ok(splits) = CombinatorialPurged::new(blocks, q).with_purge(purge).with_embargo(embargo).split(&Rows::new(n)) else {
            return Ok(());
        };
        prop_assert_eq!(Some(splits.count() as u128), combinations(blocks as u64, q as u64));
        check_splits(&splits, n, false);
        let mut tested = vec![0u128; n];
        for split in splits.iter() {
            let valid = list(&split.valid);
            valid.iter().for_each(|&row| tested[row as usize] += 1);
            for row in split.train.iter().map(|row| row as usize) {
                let next = valid.iter().map(|&v| v as usize).filter(|&v| v > row).min();
                let previous = valid.iter().map(|&v| v as usize).filter(|&v| v < row).max();
                prop_assert!(next.is_none_or(|v| v - row > purge));
                prop_assert!(previous.is_none_or(|v| row - v > purge + embargo));
            }
        }
        let times = combinations(blocks as u64 - 1, q as u64 - 1).expect("small");
        prop_assert!(tested.iter().all(|&count| count == times));
        let paths = splits.paths();
        prop_assert_eq!(paths.len() as u128, times);
        for path in paths {
            for (block, split) in path.into_iter().enumerate() {
                let valid = splits.get(split).expect("exists").valid;
                prop_assert!(splits.block(block).all(|row| valid.contains(row as u32)));
            }
        }
    }

    /// P14, P21: the bootstrap draws n rows and tests the others.
    #[test]
    fn bootstraps(n in 2usize..60, seed: u64) {
        let rows = Rows::new(n);
        let splits = Bootstrap::new(3, Seed(seed)).split(&rows).expect("splits");
        let more = Bootstrap::new(5, Seed(seed)).split(&rows).expect("splits");
        for index in 0..3 {
            let counts = splits.counts(index).expect("exists");
            prop_assert_eq!(&counts, &more.counts(index).expect("exists"));
            prop_assert_eq!(counts.iter().sum::<u32>() as usize, n);
            let split = splits.get(index).expect("exists");
            let (train, valid) = (list(&split.train), list(&split.valid));
            prop_assert!((0..n).all(|row| (counts[row] == 0) == split.valid.contains(row as u32)));
            // P1 to P3, but for rows that are drawn repeatedly: ascending, in range, disjoint, none forgotten.
            prop_assert!(!train.is_empty() && !valid.is_empty());
            prop_assert!(train.is_sorted() && valid.windows(2).all(|pair| pair[0] < pair[1]));
            let drawn: BTreeSet<u32> = train.iter().copied().collect();
            prop_assert!(valid.iter().all(|row| !drawn.contains(row)));
            prop_assert!(drawn.iter().chain(&valid).copied().collect::<BTreeSet<u32>>().into_iter().eq(0..n as u32));
        }
    }

    /// P22, P23: several labels and continuous targets: exact sizes, one row of a sorted block in a fold.
    #[test]
    fn multilabel_and_target(p in problem(), bits in vec(0u32..256, 500), target in vec(-1e3f64..1e3, 500)) {
        let n = p.n();
        prop_assume!(p.k <= n);
        let sets = LabelSets::from_rows((0..n).map(|row| (0..8).filter(|b| bits[row] >> b & 1 == 1).collect::<Vec<_>>())).expect("small");
        for scheme in [MultilabelKFold::new(p.k), MultilabelKFold::new(p.k).with_second_order().with_shuffle(p.seed)] {
            let map = scheme.split(&Rows::new(n).with_label_sets(&sets)).expect("splits");
            check_splits(&map, n, true);
            prop_assert_eq!(map.sizes(), KFold::new(p.k).split(&Rows::new(n)).expect("splits").sizes());
        }
        let map = TargetKFold::new(p.k, p.seed).split(&Rows::new(n).with_target(&target[..n])).expect("splits");
        check_splits(&map, n, true);
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| target[a].total_cmp(&target[b]));
        for block in order.chunks(p.k) {
            let homes: BTreeSet<_> = block.iter().map(|&row| map.fold_of(row)).collect();
            prop_assert_eq!(homes.len(), block.len());
        }
    }

    /// P26: nothing panics, whatever the numbers.
    #[test]
    fn any_numbers(n in 0usize..40, k: usize, a: u64, b: u64, c: usize, small in 0usize..12, code: u32, seed: u64, time: i64) {
        let labels = vec![code; n];
        let groups: Vec<u32> = (0..n as u32).map(|row| code.wrapping_add(row / 3)).collect();
        let times: Vec<i64> = (0..n as i64).map(|row| time.saturating_add(row * (k as i64 % 7))).collect();
        let target = vec![f64::from_bits(a); n];
        let sets = LabelSets::from_rows(vec![vec![code % 9]; n]).expect("small");
        let rows = Rows::new(n).with_labels(&labels).with_groups(&groups).with_times(&times).with_ends(&times).with_target(&target).with_label_sets(&sets);
        fn run<S: Splitter>(scheme: S, rows: &Rows<'_>) {
            if let Ok(splits) = scheme.split(rows) {
                let _ = splits.iter().take(20).map(|split| split.train.len() + split.valid.len()).sum::<usize>();
                let _ = splits.get(usize::MAX);
            }
            let _ = scheme.spec();
        }
        for k in [k, small] {
            run(KFold::new(k).with_shuffle(Seed(seed)), &rows);
            run(StratifiedKFold::new(k), &rows);
            run(GroupKFold::new(k), &rows);
            run(StratifiedGroupKFold::new(k).with_shuffle(Seed(seed)), &rows);
            run(StratifiedGroupKFold::new(k).with_sklearn_compat(), &rows);
            run(MultilabelKFold::new(k), &rows);
            run(TargetKFold::new(k, Seed(seed)), &rows);
            run(PurgedKFold::new(k).with_embargo(a), &rows);
            run(LeavePOut::new(k), &rows);
            let _ = (Halving::new(k, small, c).with_eta(small).rungs(), hyperband(small, k, c));
            run(LeavePGroupsOut::new(k), &rows);
            run(Bootstrap::new(k.min(50), Seed(seed)), &rows);
            run(CombinatorialPurged::new(k, small).with_purge(c).with_embargo(c), &rows);
            run(Repeated::new(KFold::new(k).with_shuffle(Seed(0)), k.min(9), Seed(seed)), &rows);
            run(Nested::new(KFold::new(k), StratifiedKFold::new(small)), &rows);
            for unit in [TimeUnit::Rows, TimeUnit::Times, TimeUnit::Values, TimeUnit::Groups] {
                run(TimeSeries::new(k).with_gap(a % 9).with_max_train(b).with_unit(unit), &rows);
                run(TimeSeries::new(small).with_test(a).with_gap(b).with_unit(unit).with_interleaved(), &rows);
                run(SlidingWindow::new(a % 13, b % 5).with_step(small as u64).with_unit(unit), &rows);
                run(SlidingWindow::new(a, b).with_keep_partial().with_unit(unit), &rows);
            }
        }
        for size in [Size::Count(c), Size::Count(small), Size::Ratio { num: a, den: b }, f64::from_bits(a).into(), Size::Rest] {
            for scheme in [HoldOut::new(size.clone()), HoldOut::new("0.3").with_validation(size.clone()), HoldOut::new("0.3").with_train(size.clone())] {
                run(scheme.clone().with_shuffle(Seed(seed)), &rows);
                run(scheme.clone().with_stratified().with_rare(Rare::Ignore).with_min_per_class(small), &rows);
                run(scheme.clone().with_groups(GroupUnit::Groups), &rows);
                run(scheme.with_stratified().with_groups(GroupUnit::Rows), &rows);
            }
            run(MultilabelHoldOut::new(size), &rows);
        }
        run(Predefined::new((0..n as u32).map(|row| row.checked_sub(2).map(|r| r ^ code)).collect()), &rows);
        let _ = FeistelFolds::new(a, k, Seed(seed)).map(|folds| folds.fold_of(b));
        let _ = HashSplit::new((a, b), Seed(seed)).map(|split| split.part(&b.to_le_bytes()));
        let _ = quantile_bins(&target, small, c);
    }
}
