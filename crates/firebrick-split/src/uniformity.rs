//! What seeds give for ever, and that no assignment is likelier than another.

use crate::properties::{check_splits, folds, within_one};
use crate::*;
use firebrick_core::Seed;
use std::collections::BTreeMap;

/// P5 at scale: sizes of every fold stay exact where ids take two bytes.
#[test]
fn many_folds_take_two_bytes() {
    let labels: Vec<u32> = (0..5000).map(|row| row % 3).collect();
    let map = StratifiedKFold::new(400)
        .with_shuffle(Seed(1))
        .split(&Rows::new(5000).with_labels(&labels))
        .expect("splits");
    assert!(within_one(&map.sizes()));
    check_splits(&map, 5000, true);
}

/// P13: the bytes of each shuffled scheme, as they are for ever.
#[test]
fn shuffled_schemes_are_pinned() {
    let labels: Vec<u32> = (0..1000u32).map(|row| row * row % 7 % 4).collect();
    let groups: Vec<u32> = (0..1000u32).map(|row| row * 31 % 173).collect();
    let target: Vec<f64> = (0..1000u32).map(|row| f64::from(row * 7919 % 1009)).collect();
    let rows = Rows::new(1000).with_labels(&labels).with_groups(&groups).with_target(&target);
    let maps = [
        KFold::new(5).with_shuffle(Seed(7)).split(&rows),
        StratifiedKFold::new(5).with_shuffle(Seed(7)).split(&rows),
        GroupKFold::new(5).with_shuffle(Seed(7)).split(&rows),
        StratifiedGroupKFold::new(5).with_shuffle(Seed(7)).split(&rows),
        TargetKFold::new(5, Seed(7)).split(&rows),
        HoldOut::new(0.2)
            .with_validation(0.1)
            .with_stratified()
            .with_shuffle(Seed(7))
            .split(&rows)
            .map(|r| r.map().clone()),
    ];
    let hashes: Vec<String> = maps
        .into_iter()
        .map(|map| map.expect("splits").manifest().ids_sha256[..16].to_owned())
        .collect();
    // One, two and more threads give the same, since nothing is drawn in parallel.
    assert_eq!(hashes, PINNED);
}
const PINNED: [&str; 6] = [
    "e1b2cec162d64951",
    "6cf54def8600b526",
    "ac90c09011c79e1e",
    "074d700dce71b34d",
    "30921949ef8d5c9d",
    "b44651beb0b89fb7",
];

/// P27: chi-square over all assignments of small n, each equally likely.
#[test]
fn assignments_are_uniform() {
    // (n, k, number of assignments, bound at p = 1e-6): multinomials 90 and 20; the Wilson-Hilferty quantile.
    let bound = |df: f64| df * (1.0 - 2.0 / (9.0 * df) + 4.753 * (2.0 / (9.0 * df)).sqrt()).powi(3);
    for (n, k, all) in [(6, 3, 90usize), (6, 2, 20), (5, 2, 10), (4, 4, 24)] {
        let mut seen: BTreeMap<Vec<usize>, f64> = BTreeMap::new();
        let draws = 200 * all;
        for seed in 0..draws as u64 {
            let map = KFold::new(k).with_shuffle(Seed(seed)).split(&Rows::new(n)).expect("splits");
            *seen.entry(folds(&map)).or_insert(0.0) += 1.0;
        }
        assert_eq!(seen.len(), all);
        let chi: f64 = seen.values().map(|count| (count - 200.0).powi(2) / 200.0).sum();
        assert!(chi < bound(all as f64 - 1.0), "n {n} k {k}: {chi}");
    }
    // Pairs of rows for n = 50, k = 5: together with probability 9/49.
    let mut together = vec![0.0f64; 50 * 49 / 2];
    let draws = 4000;
    for seed in 0..draws {
        let map = KFold::new(5).with_shuffle(Seed(seed)).split(&Rows::new(50)).expect("splits");
        let ids = folds(&map);
        let pairs = (0..50).flat_map(|a| (a + 1..50).map(move |b| (a, b)));
        for (place, (a, b)) in pairs.enumerate() {
            together[place] += f64::from(u8::from(ids[a] == ids[b]));
        }
    }
    let (mean, p) = (draws as f64 * 9.0 / 49.0, 9.0 / 49.0);
    let worst = together
        .iter()
        .map(|count| (count - mean).abs() / (mean * (1.0 - p)).sqrt())
        .fold(0.0, f64::max);
    // 1225 pairs: 5.9 deviations have probability 5e-6 in all.
    assert!(worst < 5.9, "{worst}");
}
