//! MMD: whether two samples come from one distribution, by a permutation test.

use crate::score::linalg::summed;
use crate::score::{Features, ScoreError};
use firebrick_core::{ConfigError, Seed, check};
use rayon::prelude::*;

/// Rows of both samples together, at most: the kernel matrix has the square of it, 200 MB at this size.
const MAX_ROWS: usize = 5000;

/// The result of [`mmd`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Mmd {
    /// The unbiased estimate of the squared maximum mean discrepancy; below 0 by chance for equal distributions.
    pub squared: f64,
    /// Share of random relabellings with a value as large, itself counted: (1 + hits) / (1 + permutations).
    pub p: f64,
    /// Width of the kernel.
    pub width: f64,
}

/// Squared maximum mean discrepancy under a Gaussian kernel, and its p value under permutation.
///
/// ```text
/// k(x, y) = exp(-|x - y|^2 / (2 width^2))
/// MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)
/// ```
///
/// Without a `width` it is the median distance between different rows of both samples. The value depends on the
/// width, so report `p`.
///
/// # Errors
/// When the columns differ in number, a sample has fewer than 2 rows, both have more than 5,000, `width` is not
/// above 0, `permutations` is 0, or all rows are equal.
///
/// # Source
/// A. Gretton et al., "A Kernel Two-Sample Test", JMLR 13, 2012.
///
/// ```
/// use firebrick_core::Seed;
/// use firebrick_transfer::score::{Features, mmd};
///
/// let low = Features::new((0..20).map(|i| f64::from(i) / 20.0).collect(), 1)?;
/// let high = Features::new((0..20).map(|i| 2.0 + f64::from(i) / 20.0).collect(), 1)?;
/// assert_eq!(mmd(&low, &high, None, 99, Seed(1))?.p, 0.01);
/// # Ok::<(), firebrick_transfer::score::ScoreError>(())
/// ```
pub fn mmd(
    first: &Features,
    second: &Features,
    width: Option<f64>,
    permutations: usize,
    seed: Seed,
) -> Result<Mmd, ScoreError> {
    first.same_columns(second, "second")?;
    check::at_least("permutations", permutations, 1)?;
    let (m, n) = (first.rows(), second.rows());
    for (field, rows) in [("first", m), ("second", n)] {
        if rows < 2 {
            return Err(ScoreError::FewRows {
                field: field.into(),
                found: rows,
                needed: 2,
                why: "the unbiased estimate compares different rows".into(),
            });
        }
    }
    let total = m + n;
    if total > MAX_ROWS {
        let most = format!("at most {MAX_ROWS}; draw fewer");
        return Err(ConfigError::new("rows of both samples", total, most).into());
    }
    let row = |i: usize| if i < m { first.row(i) } else { second.row(i - m) };
    let mut kernel = vec![0.0; total * total];
    kernel.par_chunks_mut(total).enumerate().for_each(|(i, line)| {
        for (j, cell) in line.iter_mut().enumerate() {
            *cell = summed(row(i), row(j), |a, b| (a - b) * (a - b));
        }
    });
    let width = match width {
        Some(width) => check::positive("width", width)?,
        None => median_distance(&kernel, total)?,
    };
    kernel.par_iter_mut().for_each(|cell| *cell = (-*cell / (2.0 * width * width)).exp());
    (0..total).for_each(|i| kernel[i * total + i] = 0.0);
    let whole: f64 = kernel.chunks_exact(total).map(|line| line.iter().sum::<f64>()).sum();
    let statistic = |order: &[u32]| {
        // With a = 1 on the first sample: a'Ka, 1'Ka and 1'K1 give all three sums.
        let mut within = 0.0;
        let mut touching = 0.0;
        let mut inside = vec![0.0f64; total];
        order[..m].iter().for_each(|&i| inside[i as usize] = 1.0);
        for &i in &order[..m] {
            let line = &kernel[i as usize * total..][..total];
            let (mut own, mut all) = (0.0, 0.0);
            for (k, a) in line.iter().zip(&inside) {
                own += k * a;
                all += k;
            }
            within += own;
            touching += all;
        }
        let across = touching - within;
        let other = whole - within - 2.0 * across;
        let (m, n) = (m as f64, n as f64);
        within / (m * (m - 1.0)) + other / (n * (n - 1.0)) - 2.0 * across / (m * n)
    };
    let identity: Vec<u32> = (0..total as u32).collect();
    let squared = statistic(&identity);
    // Sums in another order differ by roundings; a tie counts as a hit.
    let bar = squared - 1e-12 * squared.abs().max(1e-3);
    let hits = (0..permutations as u64)
        .into_par_iter()
        .filter(|&index| {
            let mut order = identity.clone();
            seed.child(index).stream("mmd").shuffle(&mut order);
            statistic(&order) >= bar
        })
        .count();
    Ok(Mmd { squared, p: (1 + hits) as f64 / (1 + permutations) as f64, width })
}

fn median_distance(squares: &[f64], total: usize) -> Result<f64, ScoreError> {
    let pairs = (0..total).flat_map(|i| squares[i * total..i * total + i].iter().copied());
    let mut pairs: Vec<f64> = pairs.collect();
    let middle = pairs.len() / 2;
    let (below, upper, _) = pairs.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = upper.sqrt();
    let median = if total * (total - 1) / 2 % 2 == 1 {
        upper
    } else {
        let lower = below.iter().copied().max_by(f64::total_cmp).unwrap_or(0.0);
        0.5 * (lower.sqrt() + upper)
    };
    if median > 0.0 {
        return Ok(median);
    }
    Err(ConfigError::new("width", "the median distance 0", "given where most rows are equal")
        .into())
}
