//! Splitting against scikit-learn: every fold's training and validation list is made, as scikit-learn makes them.
//!
//! The area's entry is [`run`]; its Python peer is `peers/split.py`. 10 million rows of 10 classes in 1 million
//! groups, five folds; then how the costs grow, the form without memory, and the audit's search for duplicates.

use std::hint::black_box;
use std::time::{Duration, Instant};

use firebrick::core::Seed;
use firebrick::split::{
    Audit, FeistelFolds, FoldMap, GroupKFold, HoldOut, KFold, Rows, SplitError, Splits, Splitter,
    StratifiedGroupKFold, StratifiedKFold,
};

use crate::harness::{BenchError, Case, Harness};

const FOLDS: usize = 5;
const CLASSES: u64 = 10;
const FEATURES: usize = 32;

fn failed(error: SplitError) -> BenchError {
    BenchError::Area(error.to_string())
}

/// Seconds to split and to list every fold, one at a time.
fn folds(scheme: &impl Splitter<Output = FoldMap>, rows: &Rows<'_>) -> Duration {
    let start = Instant::now();
    if let Ok(map) = scheme.split(rows) {
        for split in map.iter() {
            black_box(&split);
        }
    }
    start.elapsed()
}

/// Measures the area: `cargo xtask bench split`.
pub(crate) fn run(bench: &mut Harness) -> Result<(), BenchError> {
    let n = if bench.quick() { 200_000 } else { 10_000_000 };
    let size = if bench.quick() { "200 thousand" } else { "10 million" };
    let mut stream = Seed(1).stream("bench");
    let labels: Vec<u32> = (0..n).map(|_| stream.below(CLASSES) as u32).collect();
    let groups: Vec<u32> = (0..n).map(|_| stream.below(n / 10) as u32).collect();
    let rows = Rows::new(n as usize).with_labels(&labels).with_groups(&groups);
    let bare = Rows::new(n as usize);

    // A scheme that fails would look fast.
    KFold::new(FOLDS).split(&bare).map_err(failed)?;
    StratifiedKFold::new(FOLDS).split(&rows).map_err(failed)?;
    GroupKFold::new(FOLDS).split(&rows).map_err(failed)?;

    let name = |scheme: &str| format!("{scheme}, {size} rows, 5 folds listed");
    let case = |scheme: &str| Case::new(name(scheme), "ms").scale(1e3);
    let shuffled = KFold::new(FOLDS).with_shuffle(Seed(7));
    bench.row(case("shuffled k-fold").ours(|| folds(&shuffled, &bare)).python("scikit-learn"))?;
    let stratified = StratifiedKFold::new(FOLDS).with_shuffle(Seed(7));
    bench
        .row(case("stratified k-fold").ours(|| folds(&stratified, &rows)).python("scikit-learn"))?;
    let group = GroupKFold::new(FOLDS);
    bench.row(case("group k-fold").ours(|| folds(&group, &rows)).python("scikit-learn"))?;
    // scikit-learn's is a Python loop over groups: minutes at this size.
    let both = StratifiedGroupKFold::new(FOLDS);
    bench.row(case("stratified group k-fold").ours(|| folds(&both, &rows)))?;
    let hold_out = HoldOut::new(0.2).with_stratified().with_shuffle(Seed(7));
    bench.row(
        case("stratified hold-out")
            .ours(|| {
                let start = Instant::now();
                if let Ok(roles) = hold_out.split(&rows) {
                    black_box((roles.train(), roles.test()));
                }
                start.elapsed()
            })
            .python("scikit-learn"),
    )?;

    let sizes: &[usize] =
        if bench.quick() { &[10_000, 100_000] } else { &[100_000, 1_000_000, 100_000_000] };
    for &rows in sizes {
        let case =
            Case::new(format!("shuffled k-fold, {rows} rows"), "ns/row").scale(1e9 / rows as f64);
        bench.row(case.ours(|| folds(&shuffled, &Rows::new(rows))))?;
    }
    feistel(bench)?;
    duplicates(bench)
}

/// The fold of every row, computed: no memory at any number of rows.
fn feistel(bench: &mut Harness) -> Result<(), BenchError> {
    let scanned = if bench.quick() { 100_000u64 } else { 10_000_000 };
    let folds = FeistelFolds::new(1_000_000_000, FOLDS, Seed(7)).map_err(failed)?;
    let case = Case::new("feistel, 1 billion rows", "ns/row").scale(1e9 / scanned as f64);
    bench.row(case.ours(|| {
        let start = Instant::now();
        let sum: usize = (0..scanned).filter_map(|row| folds.fold_of(row)).sum();
        black_box(sum);
        start.elapsed()
    }))
}

/// The audit's exact duplicates over rows of 32 floats.
fn duplicates(bench: &mut Harness) -> Result<(), BenchError> {
    let n: usize = if bench.quick() { 50_000 } else { 10_000_000 };
    let name = format!("audit: exact duplicates, {n} rows of {FEATURES} floats");
    if !bench.wants(&name) {
        return Ok(());
    }
    let mut state = 1u64;
    let values: Vec<f32> = (0..n * FEATURES)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32
        })
        .collect();
    let map = KFold::new(FOLDS).with_shuffle(Seed(7)).split(&Rows::new(n)).map_err(failed)?;
    let audit = Audit::of_fold(&map, 0).with_features(&values, FEATURES);
    bench.row(Case::new(name, "s").bytes((n * FEATURES * 4) as f64).ours(|| {
        let start = Instant::now();
        let _ = black_box(audit.exact_duplicates());
        start.elapsed()
    }))
}
