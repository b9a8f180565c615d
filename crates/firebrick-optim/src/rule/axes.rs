//! One matrix for each axis of a weight: their products with the weight on its device, their factorizations on the host.
//!
//! Factorizations run in f64 on one thread, so that they are the same on any number of threads.

use burn::tensor::{DType, Device, Tensor, TensorData};
use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::linalg::householder::{
    apply_block_householder_sequence_on_the_left_in_place_scratch as apply_scratch,
    apply_block_householder_sequence_on_the_left_in_place_with_conj as apply,
};
use faer::linalg::matmul::matmul;
use faer::linalg::qr::no_pivoting::factor::{
    qr_in_place, qr_in_place_scratch, recommended_block_size,
};
use faer::{Accum, Conj, Mat, Par};

/// The axes of a shape that have a matrix, as (elements before, size, elements after).
pub(super) fn axes(shape: &[usize], largest: usize, vectors: bool) -> Vec<[usize; 3]> {
    if shape.len() < 2 && !vectors {
        return Vec::new();
    }
    let around = |k: usize| {
        [shape[..k].iter().product(), shape[k], shape[k + 1..].iter().product::<usize>()]
    };
    (0..shape.len()).map(around).filter(|[_, size, _]| (1..=largest).contains(size)).collect()
}

/// Elements of all the matrices.
pub(super) fn area(axes: &[[usize; 3]]) -> usize {
    axes.iter().map(|[_, size, _]| size * size).sum()
}

/// The matrices out of one line.
pub(super) fn split(line: &Tensor<1>, axes: &[[usize; 3]]) -> Vec<Tensor<2>> {
    let mut at = 0;
    let matrix = |&[_, size, _]: &[usize; 3]| {
        let matrix = line.clone().narrow(0, at, size * size).reshape([size, size]);
        at += size * size;
        matrix
    };
    axes.iter().map(matrix).collect()
}

/// The matrices in one line; `empty` where there are none.
pub(super) fn join(matrices: Vec<Tensor<2>>, empty: Tensor<1>) -> Tensor<1> {
    if matrices.is_empty() {
        return empty;
    }
    let line = |matrix: Tensor<2>| {
        let [rows, columns] = matrix.dims();
        matrix.reshape([rows * columns])
    };
    Tensor::cat(matrices.into_iter().map(line).collect(), 0)
}

/// `sum x_i x_j` over everything but the axis.
pub(super) fn gram(x: &Tensor<1>, [before, size, after]: [usize; 3]) -> Tensor<2> {
    let rows = x.clone().reshape([before, size, after]).swap_dims(0, 1);
    let rows = rows.reshape([size, before * after]);
    rows.clone().matmul(rows.transpose())
}

/// Along the axis, `y_j = sum_i m_ij x_i`.
pub(super) fn along(x: Tensor<1>, [before, size, after]: [usize; 3], m: Tensor<2>) -> Tensor<1> {
    let n = before * size * after;
    let m = m.transpose().reshape([1, size, size]).repeat_dim(0, before);
    m.matmul(x.reshape([before, size, after])).reshape([n])
}

/// Takes the entries along the axis in another order.
pub(super) fn ordered(
    x: Tensor<1>,
    [before, size, after]: [usize; 3],
    order: &[usize],
) -> Tensor<1> {
    let order: Vec<i64> = order.iter().map(|&k| k as i64).collect();
    let order = Tensor::from_data(TensorData::new(order, [size]), &x.device());
    x.reshape([before, size, after]).select(1, order).reshape([before * size * after])
}

/// The numbers of a tensor in f64, row by row.
pub(super) fn host<const D: usize>(x: Tensor<D>) -> Vec<f64> {
    x.into_data().convert::<f64>().try_into_vec().unwrap_or_default()
}

/// A square matrix of these numbers, row by row.
pub(super) fn device_matrix(values: Vec<f64>, size: usize, at: (&Device, DType)) -> Tensor<2> {
    let data = TensorData::new(values, [size, size]);
    let data = if at.1 == DType::F64 { data } else { data.convert::<f32>() };
    Tensor::from_data(data, at)
}

/// Eigenvalues in ascending order and eigenvectors, as columns, of a symmetric matrix; nothing where it has none.
pub(super) fn eigen(values: &[f64], size: usize) -> Option<(Vec<f64>, Mat<f64>)> {
    if values.len() != size * size || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    // In a unit of its own, so that neither squares nor roots of tiny numbers vanish.
    let unit = values.iter().fold(0.0f64, |unit, value| unit.max(value.abs()));
    let unit = if unit > 0.0 { unit } else { 1.0 };
    let matrix = Mat::from_fn(size, size, |i, j| {
        (values[i * size + j] / unit + values[j * size + i] / unit) / 2.0
    });
    let (mut s, mut u) = (Diag::zeros(size), Mat::zeros(size, size));
    let need = ComputeEigenvectors::Yes;
    let scratch = self_adjoint_evd_scratch::<f64>(size, need, Par::Seq, Default::default());
    let mut buffer = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut buffer);
    let (matrix, s_mut) = (matrix.as_ref(), s.as_mut());
    self_adjoint_evd(matrix, s_mut, Some(u.as_mut()), Par::Seq, stack, Default::default()).ok()?;
    let s: Vec<f64> = s.column_vector().iter().map(|value| value * unit).collect();
    s.iter().all(|value| value.is_finite()).then_some((s, u))
}

/// `U f(S) U^T` of a symmetric matrix, row by row.
pub(super) fn function(values: &[f64], size: usize, f: impl Fn(f64) -> f64) -> Option<Vec<f64>> {
    let (s, u) = eigen(values, size)?;
    let scaled = Mat::from_fn(size, size, |i, j| u[(i, j)] * f(s[j]));
    let mut whole = Mat::zeros(size, size);
    let (scaled, turned) = (scaled.as_ref(), u.transpose());
    matmul(whole.as_mut(), Accum::Replace, scaled, turned, 1.0, Par::Seq);
    Some((0..size * size).map(|at| whole[(at / size, at % size)]).collect())
}

/// The orthogonal factor of a square matrix, row by row, whose columns are taken in `order`.
pub(super) fn orthogonal(values: &[f64], size: usize, order: &[usize]) -> Option<Vec<f64>> {
    if values.len() != size * size || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let mut a = Mat::from_fn(size, size, |i, j| values[i * size + order[j]]);
    let block = recommended_block_size::<f64>(size, size);
    let mut factor = Mat::zeros(block, size);
    let scratch = qr_in_place_scratch::<f64>(size, size, block, Par::Seq, Default::default());
    let mut buffer = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut buffer);
    qr_in_place(a.as_mut(), factor.as_mut(), Par::Seq, stack, Default::default());
    // Below the diagonal lie the Householder vectors, on and above it R.
    let basis = Mat::from_fn(size, size, |i, j| match i.cmp(&j) {
        std::cmp::Ordering::Greater => a[(i, j)],
        std::cmp::Ordering::Equal => 1.0,
        std::cmp::Ordering::Less => 0.0,
    });
    let mut q = Mat::identity(size, size);
    let mut buffer = MemBuffer::new(apply_scratch::<f64>(size, block, size));
    let stack = MemStack::new(&mut buffer);
    apply(basis.as_ref(), factor.as_ref(), Conj::No, q.as_mut(), Par::Seq, stack);
    let q: Vec<f64> = (0..size * size).map(|at| q[(at / size, at % size)]).collect();
    q.iter().all(|value| value.is_finite()).then_some(q)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    fn random(n: usize, seed: u64) -> Vec<f64> {
        let mut stream = firebrick_core::Seed(seed).stream("axes");
        (0..n).map(|_| stream.normal()).collect()
    }

    /// Row by row.
    fn product(a: &[f64], b: &[f64], n: usize) -> Vec<f64> {
        let at = |i: usize, j: usize| (0..n).map(|k| a[i * n + k] * b[k * n + j]).sum();
        (0..n * n).map(|at_| at(at_ / n, at_ % n)).collect()
    }

    fn turned(a: &[f64], n: usize) -> Vec<f64> {
        (0..n * n).map(|at| a[(at % n) * n + at / n]).collect()
    }

    #[test]
    fn eigenvectors_give_the_matrix_back_at_any_scale() {
        for (n, scale) in [(1, 1.0), (2, 1e-300), (5, 1e-12), (33, 1.0), (70, 1e18)] {
            let a = random(n * n, n as u64);
            let symmetric: Vec<f64> =
                product(&a, &turned(&a, n), n).iter().map(|value| value * scale).collect();
            let (s, u) = eigen(&symmetric, n).expect("symmetric");
            assert!(s.windows(2).all(|pair| pair[0] <= pair[1]), "{s:?}");
            let again = function(&symmetric, n, |s| s).expect("symmetric");
            let u: Vec<f64> = (0..n * n).map(|at| u[(at / n, at % n)]).collect();
            let scaled: Vec<f64> = (0..n * n).map(|at| u[at] * s[at % n]).collect();
            let back = product(&scaled, &turned(&u, n), n);
            let size = symmetric.iter().fold(0.0f64, |size, value| size.max(value.abs()));
            for (seen, expected) in back.iter().chain(&again).zip(symmetric.iter().cycle()) {
                assert!((seen - expected).abs() < 1e-12 * size, "{n}: {seen} {expected}");
            }
        }
        assert!(eigen(&[f64::NAN], 1).is_none() && eigen(&[1.0, 2.0], 2).is_none());
        assert_eq!(eigen(&[0.0; 9], 3).expect("zero").0, [0.0; 3]);
    }

    #[test]
    fn orthogonal_factors_are_orthogonal_and_span_the_first_columns() {
        for n in [1, 2, 7, 40, 90] {
            let a = random(n * n, n as u64);
            let order: Vec<usize> = (0..n).rev().collect();
            let q = orthogonal(&a, n, &order).expect("finite");
            let one = product(&turned(&q, n), &q, n);
            for (at, value) in one.iter().enumerate() {
                let expected = f64::from(u8::from(at / n == at % n));
                assert!((value - expected).abs() < 1e-12, "{n}");
            }
            // R = Q^T A is upper triangular.
            let permuted: Vec<f64> = (0..n * n).map(|at| a[at / n * n + order[at % n]]).collect();
            let r = product(&turned(&q, n), &permuted, n);
            assert!((0..n * n).all(|at| at / n <= at % n || r[at].abs() < 1e-11), "{n}");
        }
        // A matrix without full rank has one too.
        let q = orthogonal(&[0.0; 4], 2, &[0, 1]).expect("zero");
        assert!((q[0] * q[0] + q[2] * q[2] - 1.0).abs() < 1e-15);
    }

    #[test]
    fn products_along_an_axis_are_those_of_the_indices() {
        let device = Device::flex();
        let shape = [2, 3, 2];
        let line = Tensor::<1>::from_data(
            TensorData::from([0.5, 1., 2., -1., 3., 4., 5., -2., 7., 8., 0., 1.]),
            (&device, DType::F64),
        );
        let x = host(line.clone());
        let at = |i: usize, j: usize, k: usize| x[(i * 3 + j) * 2 + k];
        let axes = axes(&shape, 100, false);
        assert_eq!(axes, [[1, 2, 6], [2, 3, 2], [6, 2, 1]]);
        let m = random(9, 3);
        let matrix = device_matrix(m.clone(), 3, (&device, DType::F64));
        let seen = host(along(line.clone(), axes[1], matrix));
        let seen_gram = host(gram(&line, axes[1]));
        for (i, j, k) in (0..12).map(|at| (at / 6, at / 2 % 3, at % 2)) {
            let expected: f64 = (0..3).map(|l| m[l * 3 + j] * at(i, l, k)).sum();
            assert!((seen[(i * 3 + j) * 2 + k] - expected).abs() < 1e-12);
        }
        for (a, b) in (0..9).map(|at| (at / 3, at % 3)) {
            let expected: f64 = (0..4).map(|r| at(r / 2, a, r % 2) * at(r / 2, b, r % 2)).sum();
            assert!((seen_gram[a * 3 + b] - expected).abs() < 1e-12);
        }
        let turned = host(ordered(line, axes[1], &[2, 0, 1]));
        assert_eq!(turned[..2], x[4..6]);
    }
}
