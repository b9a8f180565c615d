//! Dense linear algebra in f64 on one thread, so that no result depends on how many there are.

use crate::score::ScoreError;
use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::linalg::matmul::matmul;
use faer::linalg::svd::{ComputeSvdVectors, svd, svd_scratch};
use faer::{Accum, Mat, MatRef, Par};

/// `F = U diag(s) V'` with min(n, d) singular values, descending.
pub(crate) struct Svd {
    /// `[n, k]`.
    pub(crate) u: Mat<f64>,
    pub(crate) s: Vec<f64>,
    /// `[d, k]`.
    pub(crate) v: Mat<f64>,
}

impl Svd {
    pub(crate) fn new(matrix: MatRef<'_, f64>) -> Result<Self, ScoreError> {
        let (n, d) = matrix.shape();
        let k = n.min(d);
        let (mut u, mut v, mut s) = (Mat::zeros(n, k), Mat::zeros(d, k), Diag::zeros(k));
        let thin = ComputeSvdVectors::Thin;
        let need = svd_scratch::<f64>(n, d, thin, thin, Par::Seq, Default::default());
        let mut memory = MemBuffer::new(need);
        svd(
            matrix,
            s.as_mut(),
            Some(u.as_mut()),
            Some(v.as_mut()),
            Par::Seq,
            MemStack::new(&mut memory),
            Default::default(),
        )
        .map_err(|_| ScoreError::NoConvergence {
            what: "singular value decomposition",
            rows: n,
            columns: d,
        })?;
        // Rounding can leave the smallest ones below 0 by an ulp.
        let s = s.column_vector().iter().map(|value| value.max(0.0)).collect();
        Ok(Self { u, s, v })
    }

    /// Number of singular values that stand out of the rounding noise of the largest.
    pub(crate) fn rank(&self) -> usize {
        let largest = self.s.first().copied().unwrap_or(0.0);
        let cut = largest * f64::EPSILON * self.u.nrows().max(self.v.nrows()) as f64;
        self.s.iter().filter(|value| **value > cut).count()
    }
}

/// Eigenvalues, ascending, and eigenvectors in columns, of a symmetric matrix.
pub(crate) fn eigen(matrix: MatRef<'_, f64>) -> Result<(Vec<f64>, Mat<f64>), ScoreError> {
    let n = matrix.nrows();
    let (mut u, mut s) = (Mat::zeros(n, n), Diag::zeros(n));
    let yes = ComputeEigenvectors::Yes;
    let need = self_adjoint_evd_scratch::<f64>(n, yes, Par::Seq, Default::default());
    let mut memory = MemBuffer::new(need);
    self_adjoint_evd(
        matrix,
        s.as_mut(),
        Some(u.as_mut()),
        Par::Seq,
        MemStack::new(&mut memory),
        Default::default(),
    )
    .map_err(|_| ScoreError::NoConvergence {
        what: "eigenvalue decomposition",
        rows: n,
        columns: n,
    })?;
    Ok((s.column_vector().iter().copied().collect(), u))
}

/// `a b`.
pub(crate) fn product(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    let mut out = Mat::zeros(a.nrows(), b.ncols());
    matmul(out.as_mut(), Accum::Replace, a, b, 1.0, Par::Seq);
    out
}

/// Partial sums that [`summed`] keeps: as many as a vector register or two hold.
const LANES: usize = 8;

/// `sum_k of(a_k, b_k)`, in an order that depends on the length alone, so that equal rows give equal sums.
pub(crate) fn summed(a: &[f64], b: &[f64], of: impl Fn(f64, f64) -> f64) -> f64 {
    let (heads, tails) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = heads.remainder().iter().zip(tails.remainder());
    let rest: f64 = rest.map(|(a, b)| of(*a, *b)).sum();
    let mut sums = [0.0; LANES];
    for (a, b) in heads.zip(tails) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += of(*a, *b);
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// The smaller of `F'F` and `FF'`: both have the same eigenvalues but for zeros.
pub(crate) fn small_gram(matrix: MatRef<'_, f64>) -> Mat<f64> {
    let (n, d) = matrix.shape();
    let other = matrix.transpose();
    if n < d { product(matrix, other) } else { product(other, matrix) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_whole_at_every_length() {
        for length in [0, 1, 7, 8, 9, 64, 100] {
            let a: Vec<f64> = (0..length).map(|i| f64::from(i) - 3.0).collect();
            let b: Vec<f64> = (0..length).map(|i| f64::from(2 * i % 7)).collect();
            let plain: f64 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
            assert_eq!(summed(&a, &b, |a, b| a * b), plain, "whole numbers add up exactly");
        }
    }

    #[test]
    fn decompositions_give_the_matrix_back_in_either_shape() {
        let tall = Mat::from_fn(7, 3, |i, j| ((3 * i + 5 * j) % 7) as f64 - 2.5);
        for matrix in [tall.clone(), tall.transpose().to_owned()] {
            let svd = Svd::new(matrix.as_ref()).expect("converges");
            let scaled = Mat::from_fn(matrix.nrows(), 3, |i, j| svd.u[(i, j)] * svd.s[j]);
            let back = product(scaled.as_ref(), svd.v.transpose());
            assert!((&back - &matrix).norm_max() < 1e-13);
            assert!(svd.s.is_sorted_by(|a, b| a >= b) && svd.rank() == 3);
            let (values, _) = eigen(small_gram(matrix.as_ref()).as_ref()).expect("converges");
            for (value, s) in values.iter().rev().zip(&svd.s) {
                assert!((value - s * s).abs() < 1e-12);
            }
        }
        let flat = Mat::from_fn(4, 3, |i, _| i as f64 + 1.0);
        assert_eq!(Svd::new(flat.as_ref()).expect("converges").rank(), 1);
    }
}
