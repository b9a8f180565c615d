//! The test of Kolmogorov and Smirnov, for draws that must follow a distribution exactly.

/// Checks that the largest distance between the cumulative function of `sample` and `cumulative`, which is cut to
/// [0, 1], is below 2.6 / sqrt(n).
///
/// A sample of the distribution fails that with probability 2 exp(-2 * 2.6^2) = 2.7e-6, so all checks of this crate
/// together, fewer than 50 a back-end, raise a false alarm in less than 2e-4 of all choices of their seeds.
#[track_caller]
pub(crate) fn check_distribution(sample: &[f64], cumulative: impl Fn(f64) -> f64) {
    let mut sample = sample.to_vec();
    sample.sort_by(f64::total_cmp);
    let n = sample.len() as f64;
    let gaps = sample.iter().enumerate().map(|(i, &x)| {
        let expected = cumulative(x).clamp(0.0, 1.0);
        (expected - i as f64 / n).abs().max(((i + 1) as f64 / n - expected).abs())
    });
    let gap = gaps.fold(0.0, f64::max);
    assert!(gap < 2.6 / n.sqrt(), "the distance is {gap}, {} / sqrt(n)", gap * n.sqrt());
}
