//! Lanczos' method with full reorthogonalization, and the eigenvalues of the small matrix it makes.

use crate::StabilizeError;
use firebrick_core::Seed;

pub(crate) fn norm(vector: &[f64]) -> f64 {
    vector.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// Ritz values with the bounds of their errors, ascending.
pub(crate) fn lanczos(
    dimensions: usize,
    iterations: usize,
    seed: Seed,
    product: impl Fn(&[f64]) -> Result<Vec<f64>, StabilizeError>,
) -> Result<Vec<(f64, f64)>, StabilizeError> {
    let mut stream = seed.stream("lanczos");
    let mut basis: Vec<Vec<f64>> = Vec::new();
    let (mut diagonal, mut beside): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut next: Vec<f64> = (0..dimensions).map(|_| stream.normal()).collect();
    let mut last = norm(&next);
    for _ in 0..iterations.min(dimensions) {
        let unit: Vec<f64> = next.iter().map(|value| value / last).collect();
        next = product(&unit)?;
        diagonal.push(dot(&next, &unit));
        basis.push(unit);
        // Twice, since once leaves what rounding put back.
        for _ in 0..2 {
            for unit in &basis {
                let overlap = dot(&next, unit);
                next.iter_mut().zip(unit).for_each(|(value, unit)| *value -= overlap * unit);
            }
        }
        last = norm(&next);
        let size = diagonal.iter().chain(&beside).fold(0.0, |a: f64, b| a.max(b.abs()));
        if last <= 1e-7 * size || last == 0.0 {
            last = 0.0;
            break;
        }
        beside.push(last);
    }
    beside.truncate(diagonal.len().saturating_sub(1));
    if diagonal.len() == dimensions {
        last = 0.0;
    }
    Ok(tridiagonal(&diagonal, &beside)
        .into_iter()
        .map(|(value, bottom)| (value, (last * bottom).abs()))
        .collect())
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(a, b)| a * b).sum()
}

/// Eigenvalues of a symmetric tridiagonal matrix, ascending, each with the last component of its unit
/// eigenvector: Jacobi's rotations, which are exact to rounding and quick at this size.
fn tridiagonal(diagonal: &[f64], beside: &[f64]) -> Vec<(f64, f64)> {
    let n = diagonal.len();
    let mut a = vec![vec![0.0; n]; n];
    for (i, value) in diagonal.iter().enumerate() {
        a[i][i] = *value;
    }
    for (i, value) in beside.iter().enumerate() {
        (a[i][i + 1], a[i + 1][i]) = (*value, *value);
    }
    let mut bottom = vec![0.0; n];
    if let Some(last) = bottom.last_mut() {
        *last = 1.0;
    }
    for _ in 0..100 {
        let off: f64 =
            (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i][j].powi(2)).sum();
        let whole: f64 = a.iter().flatten().map(|value| value * value).sum();
        if off <= 1e-30 * whole {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                if a[p][q] == 0.0 {
                    continue;
                }
                let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for row in &mut a {
                    (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
                }
                let (above, below) = a.split_at_mut(q);
                for (x, y) in above[p].iter_mut().zip(&mut below[0]) {
                    (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
                }
                (bottom[p], bottom[q]) =
                    (c * bottom[p] - s * bottom[q], s * bottom[p] + c * bottom[q]);
            }
        }
    }
    let mut pairs: Vec<(f64, f64)> = (0..n).map(|i| (a[i][i], bottom[i])).collect();
    pairs.sort_by(|x, y| x.0.total_cmp(&y.0));
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvalues_of_the_second_difference_are_known() {
        // 2 on the diagonal, -1 beside it: 2 - 2 cos(k pi / (n + 1)).
        let n = 12;
        let values = tridiagonal(&vec![2.0; n], &vec![-1.0; n - 1]);
        for (k, (value, _)) in values.iter().enumerate() {
            let angle = std::f64::consts::PI * (k + 1) as f64 / (n + 1) as f64;
            assert!((value - (2.0 - 2.0 * angle.cos())).abs() < 1e-12);
        }
        let bottoms: f64 = values.iter().map(|(_, bottom)| bottom * bottom).sum();
        assert!((bottoms - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_diagonal_matrix_gives_back_its_entries() {
        let entries: Vec<f64> = (0..40).map(|i| f64::from(i) - 10.0).collect();
        let product = |v: &[f64]| Ok(v.iter().zip(&entries).map(|(v, e)| v * e).collect());
        let whole = lanczos(40, 100, Seed(1), product).expect("works");
        for ((value, error), entry) in whole.iter().zip(&entries) {
            assert!((value - entry).abs() < 1e-8 && *error < 1e-6, "{value} {entry} {error}");
        }
        let few = lanczos(40, 15, Seed(1), product).expect("works");
        let (low, bound) = few[0];
        assert!((low + 10.0).abs() <= bound + 1e-9 && low >= -10.0 - 1e-9);
    }
}
