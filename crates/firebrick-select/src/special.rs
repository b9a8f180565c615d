//! Distribution functions and quantiles of the normal, Student's t, F and beta distributions, in f64.
//!
//! Tested to 1e-10 against values of SciPy 1.17 and mpmath with 40 digits. Logarithms and exponentials come
//! from `libm`, so the bits do not depend on the platform. Arguments outside the domain give NaN.

use std::f64::consts::{FRAC_1_SQRT_2, TAU};

/// `ln B(a, b)` for a, b > 0.
fn ln_beta(a: f64, b: f64) -> f64 {
    let (large, small) = if a >= b { (a, b) } else { (b, a) };
    if large < 10.0 {
        return libm::lgamma(a) + libm::lgamma(b) - libm::lgamma(a + b);
    }
    // ln G(large) - ln G(large + small) by Stirling's series: the plain difference would cancel.
    let ratio = -(large + small - 0.5) * libm::log1p(small / large) - small * libm::log(large)
        + small
        + stirling(large)
        - stirling(large + small);
    libm::lgamma(small) + ratio
}

/// `ln G(x) - (x - 1/2) ln x + x - ln(2 pi) / 2` for x >= 10.
fn stirling(x: f64) -> f64 {
    const TERMS: [f64; 7] = [
        1.0 / 12.0,
        -1.0 / 360.0,
        1.0 / 1260.0,
        -1.0 / 1680.0,
        1.0 / 1188.0,
        -691.0 / 360_360.0,
        1.0 / 156.0,
    ];
    let square = 1.0 / (x * x);
    TERMS.iter().rev().fold(0.0, |sum, term| sum * square + term) / x
}

/// The regularized incomplete beta function `I_x(a, b)` with `y = 1 - x` given apart, so that neither loses
/// digits; by Lentz's continued fraction.
fn beta_of(a: f64, b: f64, x: f64, y: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if y <= 0.0 {
        return 1.0;
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta_of(b, a, y, x);
    }
    let log = |x: f64, y: f64| if y < 0.5 { libm::log1p(-y) } else { libm::log(x) };
    let front = libm::exp(a * log(x, y) + b * log(y, x) - ln_beta(a, b)) / a;
    let tiny = 1e-300;
    let guard = |value: f64| if value.abs() < tiny { tiny } else { value };
    let (mut c, mut d) = (1.0, 1.0 / guard(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for step in 1..20_000 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / guard(1.0 + even * d);
        c = guard(1.0 + even / c);
        fraction *= c * d;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / guard(1.0 + odd * d);
        c = guard(1.0 + odd / c);
        fraction *= c * d;
        if (c * d - 1.0).abs() < 1e-16 {
            break;
        }
    }
    front * fraction
}

/// The beta distribution function, the regularized incomplete beta function `I_x(a, b)`.
#[must_use]
pub fn beta_cdf(x: f64, a: f64, b: f64) -> f64 {
    if x.is_nan() || !(a > 0.0 && b > 0.0) || a.is_infinite() || b.is_infinite() {
        return f64::NAN;
    }
    beta_of(a, b, x, 1.0 - x)
}

/// The point below which the beta distribution has probability `p`.
#[must_use]
pub fn beta_quantile(p: f64, a: f64, b: f64) -> f64 {
    if !(0.0..=1.0).contains(&p) || beta_cdf(0.5, a, b).is_nan() {
        return f64::NAN;
    }
    if p == 0.0 || p == 1.0 {
        return p;
    }
    bisect(0.0, 1.0, |x| beta_cdf(x, a, b) < p)
}

/// The probability that Student's t with `df` degrees of freedom exceeds `t`; keeps small tails to full
/// relative accuracy.
#[must_use]
pub fn t_tail(t: f64, df: f64) -> f64 {
    if t.is_nan() || df.is_nan() || df <= 0.0 {
        return f64::NAN;
    }
    if df.is_infinite() {
        return normal_tail(t);
    }
    if t < 0.0 {
        return 1.0 - t_tail(-t, df);
    }
    if t.is_infinite() {
        return 0.0;
    }
    // df / (df + t^2) without overflow for large t.
    let square = (t / df.sqrt()).powi(2);
    let x = 1.0 / (1.0 + square);
    let y = if square.is_infinite() { 1.0 } else { square / (1.0 + square) };
    0.5 * beta_of(0.5 * df, 0.5, x, y)
}

/// Student's t distribution function.
#[must_use]
pub fn t_cdf(t: f64, df: f64) -> f64 {
    t_tail(-t, df)
}

/// The point below which Student's t with `df` degrees of freedom has probability `p`.
///
/// ```
/// let t = firebrick_select::special::t_quantile(0.975, 4.0);
/// assert!((t - 2.776_445_105_197_793).abs() < 1e-10);
/// ```
#[must_use]
pub fn t_quantile(p: f64, df: f64) -> f64 {
    symmetric_quantile(p, |t| t_tail(t, df))
}

/// The probability that a standard normal exceeds `z`.
#[must_use]
pub fn normal_tail(z: f64) -> f64 {
    0.5 * libm::erfc(z * FRAC_1_SQRT_2)
}

/// The standard normal distribution function.
#[must_use]
pub fn normal_cdf(z: f64) -> f64 {
    normal_tail(-z)
}

/// The density of the standard normal.
#[must_use]
pub fn normal_density(z: f64) -> f64 {
    libm::exp(-0.5 * z * z) / TAU.sqrt()
}

/// The point below which a standard normal has probability `p`.
#[must_use]
pub fn normal_quantile(p: f64) -> f64 {
    symmetric_quantile(p, normal_tail)
}

/// The probability that F with `d1` and `d2` degrees of freedom exceeds `f`.
#[must_use]
pub fn f_tail(f: f64, d1: f64, d2: f64) -> f64 {
    if f.is_nan() || !(d1 > 0.0 && d2 > 0.0) || d1.is_infinite() || d2.is_infinite() {
        return f64::NAN;
    }
    if f <= 0.0 {
        return 1.0;
    }
    if f.is_infinite() {
        return 0.0;
    }
    let ratio = d1 * f / d2;
    beta_of(0.5 * d2, 0.5 * d1, 1.0 / (1.0 + ratio), ratio / (1.0 + ratio))
}

/// The quantile of a distribution symmetric about 0 from its upper tail.
fn symmetric_quantile(p: f64, tail: impl Fn(f64) -> f64) -> f64 {
    if !(0.0..=1.0).contains(&p) || tail(1.0).is_nan() {
        return f64::NAN;
    }
    if p == 0.5 {
        return 0.0;
    }
    let outside = p.min(1.0 - p);
    let size = if outside == 0.0 {
        f64::INFINITY
    } else {
        let mut high = 1.0;
        while tail(high) > outside && high < f64::MAX / 2.0 {
            high *= 2.0;
        }
        bisect(0.0, high, |t| tail(t) > outside)
    };
    if p < 0.5 { -size } else { size }
}

/// The point where `below` turns false, to the last bit.
fn bisect(mut low: f64, mut high: f64, below: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..2000 {
        let middle = low + 0.5 * (high - low);
        if middle <= low || middle >= high {
            break;
        }
        if below(middle) { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, wanted: f64) {
        let scale = wanted.abs().max(1e-300);
        assert!((found - wanted).abs() <= 1e-10 * scale, "{found:e} is not {wanted:e}");
    }

    // The tables are printed by tests/references/select_special.py.

    #[test]
    fn tails_and_distribution_functions_match_mpmath() {
        for (t, df, wanted) in [
            (0.1, 1.0, 0.4682744825694464),
            (2.0, 3.0, 0.0696629842794216),
            (2.5, 4.0, 0.03338327240599407),
            (5.0, 4.0, 0.003745216940637262),
            (12.0, 9.0, 3.849943111492826e-07),
            (40.0, 9.0, 9.491499224669913e-12),
            (1.5, 0.5, 0.25395089532405424),
            (3.0, 99.0, 0.0017077539607894337),
            (4.0, 12345.0, 3.1855917486798137e-05),
            (6.0, 1e6, 9.869249061772174e-10),
            (0.001, 5.0, 0.4996203933860988),
        ] {
            close(t_tail(t, df), wanted);
            close(t_cdf(-t, df), wanted);
            close(t_cdf(t, df), 1.0 - wanted);
        }
        for (x, a, b, wanted) in [
            (0.2, 2.0, 3.0, 0.1808),
            (0.5, 0.5, 0.5, 0.5),
            (0.01, 0.5, 20.0, 0.47136993548501555),
            (0.03, 7.0, 200.0, 0.4230142137459402),
            (0.999, 300.0, 2.0, 0.9629191418029293),
            (0.52, 60.0, 50.0, 0.29479228034199),
            (0.1, 40.0, 40.0, 9.864769297129753e-20),
        ] {
            close(beta_cdf(x, a, b), wanted);
        }
        for (f, d1, d2, wanted) in [
            (4.74, 10.0, 5.0, 0.04989578598051562),
            (0.3, 10.0, 5.0, 0.9503032588664884),
            (20.0, 3.0, 17.0, 8.15502767173267e-06),
            (1.0, 7.0, 7.0, 0.5),
            (100.0, 2.0, 2.0, 0.009900990099009901),
        ] {
            close(f_tail(f, d1, d2), wanted);
        }
    }

    #[test]
    fn quantiles_match_mpmath() {
        for (p, df, wanted) in [
            (0.95, 4.0, 2.1318467863266495),
            (0.975, 4.0, 2.7764451051977934),
            (0.95, 9.0, 1.8331129326562365),
            (0.995, 9.0, 3.249835541592126),
            (0.9, 1.5, 2.196398417565538),
            (0.975, 99.0, 1.9842169515864172),
            (0.9999999, 7.0, 19.93390224944619),
            (0.55, 20.0, 0.12726695668460686),
            (0.975, 1e5, 1.9599877075346093),
        ] {
            close(t_quantile(p, df), wanted);
        }
        for (p, wanted) in [
            (0.55, 0.12566134685507416),
            (0.9, 1.2815515655446006),
            (0.975, 1.9599639845400538),
            (0.999, 3.090232306167813),
            (0.9999999, 5.199337582290661),
        ] {
            close(normal_quantile(p), wanted);
            close(normal_cdf(wanted), p);
        }
    }

    #[test]
    fn closed_forms_hold() {
        // Cauchy is t with 1 degree of freedom: quantile tan(pi (p - 1/2)).
        for p in [0.6, 0.9, 0.99, 0.9999] {
            close(t_quantile(p, 1.0), (std::f64::consts::PI * (p - 0.5)).tan());
            // With 2 degrees: (2p - 1) / sqrt(2 p (1 - p)).
            close(t_quantile(p, 2.0), (2.0 * p - 1.0) / (2.0 * p * (1.0 - p)).sqrt());
            close(t_quantile(1.0 - p, 2.0), -t_quantile(p, 2.0));
        }
        close(beta_cdf(0.3, 1.0, 4.0), 1.0 - 0.7f64.powi(4));
        close(beta_quantile(0.2, 3.0, 1.0), 0.2f64.cbrt());
        // F(1, d) is the square of t(d).
        close(f_tail(2.5f64.powi(2), 1.0, 7.0), 2.0 * t_tail(2.5, 7.0));
    }

    #[test]
    fn edges_are_defined() {
        assert_eq!(t_quantile(0.5, 3.0), 0.0);
        assert_eq!(t_quantile(1.0, 3.0), f64::INFINITY);
        assert_eq!(t_quantile(0.0, 3.0), f64::NEG_INFINITY);
        for bad in [f64::NAN, -0.1, 1.1] {
            assert!(t_quantile(bad, 3.0).is_nan() && beta_quantile(bad, 1.0, 1.0).is_nan());
        }
        assert!(t_quantile(0.9, 0.0).is_nan() && t_cdf(1.0, f64::NAN).is_nan());
        assert!(beta_cdf(0.5, -1.0, 1.0).is_nan() && f_tail(1.0, 0.0, 1.0).is_nan());
        assert_eq!((beta_cdf(-1.0, 2.0, 2.0), beta_cdf(2.0, 2.0, 2.0)), (0.0, 1.0));
        assert_eq!(t_tail(f64::INFINITY, 2.0), 0.0);
        close(t_quantile(0.975, f64::INFINITY), normal_quantile(0.975));
        close(t_tail(1e200, 2.0), 0.0);
    }

    #[test]
    fn quantiles_invert_distribution_functions() {
        for df in [1.0, 2.5, 4.0, 30.0, 1e4] {
            for p in [1e-8, 0.01, 0.3, 0.501, 0.9, 0.999] {
                close(t_cdf(t_quantile(p, df), df), p);
                close(beta_cdf(beta_quantile(p, df, 3.0), df, 3.0), p);
            }
        }
    }
}
