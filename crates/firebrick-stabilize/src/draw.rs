//! Draws whole weights: matrices in unit-major order, brought into burn's layouts.

use firebrick_core::Philox;

/// `rows` by `columns`, row-major, with orthonormal rows or columns, whichever are fewer, times `gain`.
///
/// Gram and Schmidt twice over normal vectors: the diagonal of R is positive, so the draw is uniform over all
/// such matrices (A. Saxe, J. McClelland, S. Ganguli, ICLR 2014; F. Mezzadri, 2007).
pub(crate) fn orthogonal(rows: usize, columns: usize, gain: f64, stream: &mut Philox) -> Vec<f64> {
    let (count, length) = (rows.min(columns), rows.max(columns));
    let mut vectors: Vec<Vec<f64>> = Vec::with_capacity(count);
    while vectors.len() < count {
        let mut vector: Vec<f64> = (0..length).map(|_| stream.normal()).collect();
        let before = norm(&vector);
        for _ in 0..2 {
            for other in &vectors {
                let overlap: f64 = vector.iter().zip(other).map(|(a, b)| a * b).sum();
                vector.iter_mut().zip(other).for_each(|(a, b)| *a -= overlap * b);
            }
        }
        let length = norm(&vector);
        // A draw that lies in the span of the others is drawn again.
        if length > 1e-10 * before {
            vector.iter_mut().for_each(|value| *value /= length);
            vectors.push(vector);
        }
    }
    let mut matrix = vec![0.0; rows * columns];
    for (i, vector) in vectors.iter().enumerate() {
        for (j, value) in vector.iter().enumerate() {
            let place = if rows <= columns { i * columns + j } else { j * columns + i };
            matrix[place] = gain * value;
        }
    }
    matrix
}

fn norm(vector: &[f64]) -> f64 {
    vector.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// Ones on the diagonal times `gain`.
pub(crate) fn identity(rows: usize, columns: usize, gain: f64) -> Vec<f64> {
    let mut matrix = vec![0.0; rows * columns];
    for i in 0..rows.min(columns) {
        matrix[i * columns + i] = gain;
    }
    matrix
}

/// `nonzeros` normal entries in each row, all other entries zero.
pub(crate) fn sparse(
    rows: usize,
    columns: usize,
    nonzeros: usize,
    deviation: f64,
    stream: &mut Philox,
) -> Vec<f64> {
    let mut matrix = vec![0.0; rows * columns];
    let mut places: Vec<usize> = (0..columns).collect();
    for row in matrix.chunks_mut(columns.max(1)) {
        stream.shuffle(&mut places);
        for &place in places.iter().take(nonzeros) {
            row[place] = deviation * stream.normal();
        }
    }
    matrix
}

/// Puts a `[units, inputs]` matrix at the centre of a kernel of `field` elements: `[units, inputs, field]`.
pub(crate) fn at_centre(matrix: &[f64], kernel: &[usize]) -> Vec<f64> {
    let field: usize = kernel.iter().product();
    let centre = kernel.iter().fold(0, |place, &size| place * size + size / 2);
    let mut weight = vec![0.0; matrix.len() * field];
    for (index, value) in matrix.iter().enumerate() {
        weight[index * field + centre] = *value;
    }
    weight
}

/// From `[units, inputs, field]` to burn's storage of a weight of `shape` whose units lie on `axis`.
pub(crate) fn to_storage(unit_major: Vec<f64>, shape: &[usize], axis: usize) -> Vec<f64> {
    if axis == 0 {
        return unit_major;
    }
    let (inputs, units) = (shape[0], shape[1]);
    let field: usize = shape[2..].iter().product();
    let mut weight = Vec::with_capacity(unit_major.len());
    for input in 0..inputs {
        for unit in 0..units {
            let from = (unit * inputs + input) * field;
            weight.extend_from_slice(&unit_major[from..from + field]);
        }
    }
    weight
}

/// Normal, cut at two deviations, with deviation 1 after the cut.
///
/// The cut alone would leave a deviation of 0.8796.
pub(crate) fn truncated_normal(stream: &mut Philox) -> f64 {
    const DEVIATION_AFTER_CUT: f64 = 0.879_625_661_034_239_8;
    loop {
        let value = stream.normal();
        if value.abs() <= 2.0 {
            return value / DEVIATION_AFTER_CUT;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebrick_core::Seed;

    #[test]
    fn orthogonal_rows_or_columns_are_orthonormal() {
        for (rows, columns) in [(5, 9), (9, 5), (7, 7), (1, 4), (4, 1)] {
            let matrix = orthogonal(rows, columns, 2.0, &mut Seed(1).stream("q"));
            let at = |i: usize, k: usize| {
                if rows <= columns { matrix[i * columns + k] } else { matrix[k * columns + i] }
            };
            for i in 0..rows.min(columns) {
                for j in 0..rows.min(columns) {
                    let product: f64 = (0..rows.max(columns)).map(|k| at(i, k) * at(j, k)).sum();
                    let expected = if i == j { 4.0 } else { 0.0 };
                    assert!((product - expected).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn orthogonal_entries_have_the_moments_of_the_uniform_law() {
        // One entry of a uniform unit vector of length n: mean 0, mean square 1 / n, mean fourth 3 / (n (n + 2)).
        let n = 4;
        let count = 20_000;
        let mut stream = Seed(2).stream("q");
        let entries: Vec<f64> =
            (0..count).map(|_| orthogonal(n, n, 1.0, &mut stream)[n * n - 1]).collect();
        let moment = |k: i32| entries.iter().map(|x| x.powi(k)).sum::<f64>() / f64::from(count);
        let bound = |variance: f64| 5.0 * (variance / f64::from(count)).sqrt();
        assert!(moment(1).abs() < bound(0.25));
        assert!((moment(2) - 0.25).abs() < bound(0.125 - 0.0625));
        assert!((moment(4) - 0.125).abs() < bound(0.1));
    }

    #[test]
    fn sparse_rows_have_their_number_of_entries() {
        let matrix = sparse(30, 20, 6, 1.0, &mut Seed(3).stream("s"));
        for row in matrix.chunks(20) {
            assert_eq!(row.iter().filter(|&&value| value != 0.0).count(), 6);
        }
        let full = sparse(2, 3, 10, 1.0, &mut Seed(3).stream("s"));
        assert!(full.iter().all(|&value| value != 0.0));
    }

    #[test]
    fn layouts_and_centres() {
        // Units [1, 2, 3] and [4, 5, 6], stored as burn's Linear [in, out].
        let linear = to_storage(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[3, 2], 1);
        assert_eq!(linear, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        let kernel = at_centre(&[7.0], &[3, 3]);
        assert_eq!(kernel.iter().position(|&value| value == 7.0), Some(4));
        assert_eq!(identity(2, 3, 5.0), [5.0, 0.0, 0.0, 0.0, 5.0, 0.0]);
    }

    #[test]
    fn the_cut_normal_has_deviation_one() {
        let mut stream = Seed(4).stream("t");
        let n = 200_000;
        let draws: Vec<f64> = (0..n).map(|_| truncated_normal(&mut stream)).collect();
        assert!(draws.iter().all(|draw| draw.abs() <= 2.0 / 0.8796));
        let second = draws.iter().map(|draw| draw * draw).sum::<f64>() / f64::from(n);
        assert!((second - 1.0).abs() < 5.0 * (1.4f64 / f64::from(n)).sqrt());
    }
}
