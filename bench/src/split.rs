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
use rayon::prelude::*;

use crate::harness::{BenchError, Case, Harness};

const FOLDS: usize = 5;
const CLASSES: u64 = 10;
const FEATURES: usize = 32;

fn failed(error: SplitError) -> BenchError {
    BenchError::Area(error.to_string())
}

/// Seconds to split and to list every fold, one at a time, in lists that are used again.
fn folds(scheme: &impl Splitter<Output = FoldMap>, rows: &Rows<'_>) -> Duration {
    let start = Instant::now();
    if let Ok(map) = scheme.split(rows) {
        let (mut train, mut valid) = (Vec::new(), Vec::new());
        for fold in 0..map.k() {
            if map.split_into(fold, &mut train, &mut valid).is_ok() {
                black_box((&train, &valid));
            }
        }
    }
    start.elapsed()
}

/// The same with new lists for every fold, which whoever asks for them may keep.
fn owned_folds(scheme: &impl Splitter<Output = FoldMap>, rows: &Rows<'_>) -> Duration {
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
    let owned = |scheme: &str| Case::new(format!("{}, owned", name(scheme)), "ms").scale(1e3);
    bench.row(
        owned("shuffled k-fold").ours(|| owned_folds(&shuffled, &bare)).python("scikit-learn"),
    )?;
    bench.row(
        owned("stratified k-fold").ours(|| owned_folds(&stratified, &rows)).python("scikit-learn"),
    )?;
    bench.row(owned("group k-fold").ours(|| owned_folds(&group, &rows)).python("scikit-learn"))?;
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

    for (scheme, equal) in [
        ("shuffled k-fold", same_on_threads(&shuffled, &bare)?),
        ("stratified k-fold", same_on_threads(&stratified, &rows)?),
        ("group k-fold", same_on_threads(&group, &rows)?),
    ] {
        if !equal {
            let text = format!("{scheme}: the lists on 1 and on 2 threads are DIFFERENT");
            return Err(BenchError::Area(text));
        }
    }
    bench.note("every list of the first three cases on 1 and on 2 threads: identical");

    let sizes: &[usize] =
        if bench.quick() { &[10_000, 100_000] } else { &[100_000, 1_000_000, 100_000_000] };
    for &n in sizes {
        let name = |scheme: &str| format!("{scheme}, {n} rows");
        let case = |scheme: &str| Case::new(name(scheme), "ns/row").scale(1e9 / n as f64);
        bench.row(case("shuffled k-fold").ours(|| folds(&shuffled, &Rows::new(n))))?;
        if !bench.wants(&name("stratified k-fold")) && !bench.wants(&name("group k-fold")) {
            continue;
        }
        let mut stream = Seed(2).stream("bench");
        let labels: Vec<u32> = (0..n).map(|_| stream.below(CLASSES) as u32).collect();
        let groups: Vec<u32> = (0..n).map(|_| stream.below(n as u64 / 10) as u32).collect();
        let rows = Rows::new(n).with_labels(&labels).with_groups(&groups);
        bench.row(case("stratified k-fold").ours(|| folds(&stratified, &rows)))?;
        bench.row(case("group k-fold").ours(|| folds(&group, &rows)))?;
    }
    feistel(bench)?;
    duplicates(bench)
}

fn on_threads<T: Send>(threads: usize, run: impl FnOnce() -> T + Send) -> Result<T, BenchError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| BenchError::Area(error.to_string()))?;
    Ok(pool.install(run))
}

/// Both lists of every fold.
fn lists(
    scheme: &(impl Splitter<Output = FoldMap> + Sync),
    rows: &Rows<'_>,
) -> Result<Vec<[Vec<u32>; 2]>, SplitError> {
    let map = scheme.split(rows)?;
    let both = |fold| {
        let (mut train, mut valid) = (Vec::new(), Vec::new());
        map.split_into(fold, &mut train, &mut valid)?;
        Ok::<_, SplitError>([train, valid])
    };
    (0..FOLDS).map(both).collect()
}

/// Whether every list is the same on one and on two threads.
fn same_on_threads(
    scheme: &(impl Splitter<Output = FoldMap> + Sync),
    rows: &Rows<'_>,
) -> Result<bool, BenchError> {
    let one = on_threads(1, || lists(scheme, rows))?.map_err(failed)?;
    let two = on_threads(2, || lists(scheme, rows))?.map_err(failed)?;
    Ok(one == two)
}

/// The fold of every row, computed: no memory at any number of rows.
fn feistel(bench: &mut Harness) -> Result<(), BenchError> {
    let scanned = if bench.quick() { 100_000u64 } else { 10_000_000 };
    let all = 1_000_000_000;
    let folds = FeistelFolds::new(all, FOLDS, Seed(7)).map_err(failed)?;
    let name = "feistel, 1 billion rows";
    if !bench.wants(name) {
        return Ok(());
    }
    bench.row(Case::new(name, "ns/row").scale(1e9 / scanned as f64).ours(|| {
        let start = Instant::now();
        let sum: usize = (0..scanned).filter_map(|row| folds.fold_of(row)).sum();
        black_box(sum);
        start.elapsed()
    }))?;
    if !bench.quick() {
        let start = Instant::now();
        let pieces = (0..1000u64).into_par_iter().map(|piece| {
            let mut sizes = vec![0u64; FOLDS];
            for row in piece * (all / 1000)..(piece + 1) * (all / 1000) {
                if let Some(fold) = folds.fold_of(row) {
                    sizes[fold] += 1;
                }
            }
            sizes
        });
        let sizes =
            pieces.reduce(|| vec![0; FOLDS], |a, b| a.iter().zip(&b).map(|(a, b)| a + b).collect());
        if sizes != folds.sizes() {
            let text = format!("feistel: the sizes {sizes:?} that were counted are WRONG");
            return Err(BenchError::Area(text));
        }
        let (seconds, bytes) = (start.elapsed().as_secs_f64(), size_of_val(&folds));
        bench.note(format!(
            "feistel: all 1 billion rows in {seconds:.1} s with a state of {bytes} bytes; sizes {sizes:?} counted: exact"
        ));
    }
    Ok(())
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
