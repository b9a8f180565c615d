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

/// P13: and of those whose rows come by groups, label sets or adapters, or may come twice.
#[test]
fn groups_label_sets_bags_and_samples_are_pinned() {
    let labels: Vec<u32> = (0..1000u32).map(|row| row * row % 7 % 4).collect();
    let groups: Vec<u32> = (0..1000u32).map(|row| row * 31 % 173).collect();
    let sets = LabelSets::from_rows(
        (0..1000u32)
            .map(|row| (0..6).filter(|label| row * (label + 3) % 11 < 3).collect::<Vec<u32>>()),
    )
    .expect("small labels");
    let rows = Rows::new(1000).with_labels(&labels).with_groups(&groups).with_label_sets(&sets);
    fn lists<S: Splitter>(scheme: S, rows: &Rows<'_>) -> String {
        let splits = scheme.split(rows).expect("splits");
        ListManifest::new(&splits, scheme.spec(), None).lists_sha256[..16].to_owned()
    }
    let part = HoldOut::new(0.2).with_validation(0.1).with_shuffle(Seed(7));
    let hashes = [
        lists(part.clone(), &rows),
        lists(part.clone().with_groups(GroupUnit::Rows), &rows),
        lists(part.clone().with_groups(GroupUnit::Groups), &rows),
        lists(part.clone().with_stratified().with_groups(GroupUnit::Rows), &rows),
        lists(MultilabelKFold::new(5).with_shuffle(Seed(7)), &rows),
        lists(MultilabelKFold::new(5).with_second_order().with_shuffle(Seed(7)), &rows),
        lists(MultilabelHoldOut::new(0.2).with_shuffle(Seed(7)), &rows),
        lists(Bootstrap::new(3, Seed(7)), &rows),
        lists(ShuffleSplit::new(part, 3, Seed(7)), &rows),
        lists(Nested::new(KFold::new(3), KFold::new(2).with_shuffle(Seed(7))), &rows),
    ];
    assert_eq!(hashes, PINNED_LISTS);
    let train = Train::new((), (0..1000).collect());
    let digest = |drawn: &[u32]| {
        format!(
            "{:016x}",
            drawn
                .iter()
                .fold(0u64, |sum, &row| { (sum ^ u64::from(row)).wrapping_mul(0x100_0000_01b3) })
        )
    };
    let samples = [
        digest(&down_sample(&train, &labels, &Target::Uniform, Seed(7)).expect("draws").places),
        digest(&learning_curve(&train, &labels, &[100], Seed(7)).expect("draws")[0].places),
        digest(&WeightedSampler::balanced(&train, &labels).expect("valid").draw(1000, Seed(7))),
    ];
    assert_eq!(samples, PINNED_SAMPLES);
}
const PINNED_LISTS: [&str; 10] = [
    "ad4eab793b204436",
    "2d124dfa46f0bc4f",
    "0c3c1ef1dfa5822f",
    "47322df69e2eb042",
    "92a1f953dc22ad41",
    "444f0bfb1da1f25e",
    "aa58a17a1e643ba8",
    "4ce613c3437ecefe",
    "939a2c952e16d37e",
    "3dce3fd856c44769",
];
const PINNED_SAMPLES: [&str; 3] = ["196fc1eedd0a2918", "e3897ee8a3a7a693", "9672975d7a37afd2"];

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
