//! Memory of splitting beyond the input columns, by an allocator that counts: `cargo run --bin split-memory`.
//!
//! `cargo xtask bench split` runs it last. It is a program of its own, so that counting slows no other measurement.

#![allow(clippy::print_stdout, reason = "the table is what the program is for")]

use std::hint::black_box;

use firebrick::core::Seed;
use firebrick::split::{
    FeistelFolds, FoldMap, GroupKFold, HoldOut, KFold, Rows, SplitError, Splits, Splitter,
    StratifiedGroupKFold, StratifiedKFold,
};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// What splitting may take beyond its input, bytes a row.
const LIMIT: f64 = 8.0;

/// The most that was allocated while `run` ran, beyond what was before, in bytes.
fn peak<T>(run: impl FnOnce() -> T) -> usize {
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    black_box(run());
    HEAP.peak_usage().saturating_sub(before)
}

/// Splits and lists every fold, one at a time.
fn folds(scheme: &impl Splitter<Output = FoldMap>, rows: &Rows<'_>) -> Result<(), SplitError> {
    scheme.split(rows)?.iter().for_each(|split| drop(black_box(split)));
    Ok(())
}

/// Bytes a row for each scheme: `n` rows of 10 classes in `n / 10` groups, five folds, all listed.
fn measure(n: usize) -> Result<Vec<(&'static str, f64)>, SplitError> {
    let mut stream = Seed(1).stream("bench");
    let labels: Vec<u32> = (0..n).map(|_| stream.below(10) as u32).collect();
    let groups: Vec<u32> = (0..n).map(|_| stream.below(n as u64 / 10) as u32).collect();
    let rows = Rows::new(n).with_labels(&labels).with_groups(&groups);
    let seed = Seed(7);
    let hold_out = HoldOut::new(0.2).with_validation(0.1).with_stratified().with_shuffle(seed);
    let mut table = Vec::new();
    let mut row = |name, run: &dyn Fn() -> Result<(), SplitError>| {
        let mut result = Ok(());
        let bytes = peak(|| result = run());
        result.map(|()| table.push((name, bytes as f64 / n as f64)))
    };
    row("shuffled k-fold", &|| folds(&KFold::new(5).with_shuffle(seed), &rows))?;
    row("stratified k-fold", &|| folds(&StratifiedKFold::new(5).with_shuffle(seed), &rows))?;
    row("group k-fold", &|| folds(&GroupKFold::new(5), &rows))?;
    row("stratified group k-fold", &|| folds(&StratifiedGroupKFold::new(5), &rows))?;
    row("stratified hold-out", &|| {
        let roles = hold_out.split(&rows)?;
        drop(black_box((roles.train(), roles.validation(), roles.test())));
        Ok(())
    })?;
    Ok(table)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let n = 10_000_000;
    println!(
        "bytes a row beyond the input, {n} rows, 10 classes, {} groups, all folds listed",
        n / 10
    );
    let mut above = Vec::new();
    for (name, bytes) in measure(n)? {
        let verdict = if bytes <= LIMIT { "within" } else { "ABOVE" };
        println!("  {name:26}{bytes:6.2}  {verdict} {LIMIT}");
        if bytes > LIMIT {
            above.push(name);
        }
    }
    let bytes = peak(|| {
        let folds = FeistelFolds::new(1_000_000_000, 5, Seed(7))?;
        Ok::<usize, SplitError>((0..1_000_000).filter_map(|row| folds.fold_of(row)).sum())
    });
    println!("  feistel, 1 billion rows   {bytes} bytes in all");
    // The whole table is there before the exit code says what it holds.
    if above.is_empty() {
        Ok(())
    } else {
        Err(format!("above {LIMIT} bytes a row: {}", above.join(", ")).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_scheme_takes_more_than_eight_bytes_a_row() {
        for (name, bytes) in measure(1_000_000).expect("splits") {
            assert!(bytes <= LIMIT, "{name}: {bytes:.2}");
        }
    }
}
