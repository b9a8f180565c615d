//! Draws from distributions that the generator does not have itself: Gamma, Beta and Dirichlet.
//!
//! # Reference
//! G. Marsaglia, W. W. Tsang, "A simple method for generating gamma variables", TOMS 2000.

use firebrick_core::Philox;

/// The logarithm of a Gamma(shape, 1) variable: its value underflows for tiny shapes.
fn log_gamma_variable(generator: &mut Philox, shape: f64) -> f64 {
    if shape < 1.0 {
        // Gamma(a) = Gamma(a + 1) U^(1/a).
        let uniform = 1.0 - generator.uniform();
        return log_gamma_variable(generator, shape + 1.0) + libm::log(uniform) / shape;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = generator.normal();
        let v = (1.0 + c * x).powi(3);
        let uniform = 1.0 - generator.uniform();
        if v > 0.0 && libm::log(uniform) < 0.5 * x * x + d - d * v + d * libm::log(v) {
            return libm::log(d * v);
        }
    }
}

/// A Beta(a, b) variable in [0, 1].
pub(crate) fn beta(generator: &mut Philox, a: f64, b: f64) -> f64 {
    let (x, y) = (log_gamma_variable(generator, a), log_gamma_variable(generator, b));
    1.0 / (1.0 + libm::exp(y - x))
}

/// A Dirichlet(alpha, ..., alpha) variable of `count` parts.
pub(crate) fn dirichlet(generator: &mut Philox, alpha: f64, count: usize) -> Vec<f64> {
    let logs: Vec<f64> = (0..count).map(|_| log_gamma_variable(generator, alpha)).collect();
    let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let parts: Vec<f64> = logs.iter().map(|log| libm::exp(log - top)).collect();
    let total: f64 = parts.iter().sum();
    parts.into_iter().map(|part| part / total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebrick_core::Seed;

    #[test]
    fn beta_has_its_mean_and_variance() {
        let n = 200_000;
        for (a, b) in [(0.2, 0.2), (1.0, 1.0), (2.0, 5.0), (0.1, 3.0)] {
            let mut generator = Seed(1).stream("beta");
            let draws: Vec<f64> = (0..n).map(|_| beta(&mut generator, a, b)).collect();
            let mean = draws.iter().sum::<f64>() / f64::from(n);
            let square = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n);
            let fourth = draws.iter().map(|x| (x - mean).powi(4)).sum::<f64>() / f64::from(n);
            let variance = a * b / ((a + b) * (a + b) * (a + b + 1.0));
            // Five standard errors, of the variance by the sample's fourth moment.
            assert!((mean - a / (a + b)).abs() < 5.0 * (variance / f64::from(n)).sqrt());
            let bound = 5.0 * ((fourth - square * square) / f64::from(n)).sqrt();
            assert!((square - variance).abs() < bound, "{a} {b}: {square} {variance}");
        }
    }

    #[test]
    fn dirichlet_sums_to_one_with_equal_means() {
        let mut generator = Seed(2).stream("dirichlet");
        let n = 1_000_000;
        let mut means = [0.0; 3];
        for _ in 0..n {
            let parts = dirichlet(&mut generator, 1.0, 3);
            assert!((parts.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            for (mean, part) in means.iter_mut().zip(parts) {
                *mean += part / f64::from(n);
            }
        }
        // The variance of a part is (1/3)(2/3)/4 = 1/18.
        let bound = 5.0 * (1.0 / 18.0 / f64::from(n)).sqrt();
        assert!(means.iter().all(|mean| (mean - 1.0 / 3.0).abs() < bound), "{means:?}");
    }
}
