//! The properties of what surrounds a split: threads, repetitions, files, the audit, the seal, re-sampling.

use crate::properties::{folds, within_one};
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
