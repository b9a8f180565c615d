//! Probes: exactness against refits, convergence, and what is refused. Recorded cases of scikit-learn are met in the
//! tests of the scores.

use super::*;
use firebrick_core::{Philox, Seed};

fn blobs(n: usize, d: usize, classes: usize, signal: f64, stream: u64) -> (Features, Labels) {
    let mut draws = Philox::new(3, stream);
    let mut values = Vec::new();
    let labels: Vec<u32> = (0..n).map(|i| (i % classes) as u32).collect();
    for label in &labels {
        for k in 0..d {
            let mean = if k == *label as usize { signal } else { 0.0 };
            values.push(mean + draws.normal());
        }
    }
    (Features::new(values, d).expect("finite"), Labels::new(&labels).expect("valid"))
}

#[test]
fn leave_one_out_equals_refits_also_with_more_features_than_samples() {
    for (n, d) in [(14, 3), (12, 30)] {
        let (features, labels) = blobs(n, d, 3, 1.0, n as u64);
        let lambda = 0.7;
        let probe = RidgeProbe::fit(&features, &labels, &[lambda]).expect("fits");
        let mut error = 0.0;
        for left in 0..n as u32 {
            let rest: Vec<u32> = (0..n as u32).filter(|row| *row != left).collect();
            let values: Vec<u32> = rest.iter().map(|row| row % 3).collect();
            let inside = features.select(&rest).expect("valid");
            let refit = RidgeProbe::fit(&inside, &Labels::new(&values).expect("valid"), &[lambda]);
            let head = refit.expect("fits").head;
            let one = features.select(&[left]).expect("valid");
            for (class, p) in head.logits(&one).expect("fits").iter().enumerate() {
                error += (p - f64::from(u8::from(left as usize % 3 == class))).powi(2);
            }
            assert_eq!(
                head.predict(&one).expect("fits")[0],
                probe.leave_one_out.predicted[left as usize]
            );
        }
        assert!((error - probe.errors[0].1).abs() < 1e-9 * error, "{n} x {d}");
    }
}

#[test]
fn the_intercept_takes_any_shift_and_the_grid_any_scale() {
    let (features, labels) = blobs(30, 4, 3, 2.0, 1);
    let moved = Features::new(features.values().iter().map(|x| 1000.0 * x + 5e4).collect(), 4);
    let moved = moved.expect("finite");
    let fit = |f: &Features| RidgeProbe::fit(f, &labels, &default_lambdas(f)).expect("fits");
    let (one, other) = (fit(&features), fit(&moved));
    assert_eq!(one.leave_one_out, other.leave_one_out);
    assert!((other.lambda / one.lambda / 1e6 - 1.0).abs() < 1e-6);
    assert_eq!(one.errors.len(), 9);
    let chosen = one.errors.iter().find(|(lambda, _)| *lambda == one.lambda).expect("in the grid");
    assert!(one.errors.iter().all(|(_, error)| error >= &chosen.1));
}

#[test]
fn a_sample_that_determines_its_own_prediction_costs_that_lambda_only() {
    // As many free directions as samples and no shrinkage to speak of: h = 1.
    let (features, labels) = blobs(6, 40, 2, 1.0, 2);
    let probe = RidgeProbe::fit(&features, &labels, &[1e-14, 1.0]).expect("fits");
    assert!(probe.errors[0].1.is_infinite() && probe.lambda == 1.0);
}

#[test]
fn the_logistic_probe_is_at_the_minimum_and_standardising_undoes_scales() {
    let (features, labels) = blobs(60, 5, 3, 1.0, 5);
    let config = LogisticConfig { l2: 0.1, tolerance: 1e-11, ..Default::default() };
    let probe = LogisticProbe::fit(&features, &labels, &config).expect("fits");
    assert!(probe.converged && probe.iterations < 30, "{} {}", probe.iterations, probe.slope);
    // Any other penalty gives a head with a larger loss under this one.
    let plain = LogisticConfig { standardise: false, ..config.clone() };
    let best = LogisticProbe::fit(&features, &labels, &plain).expect("fits");
    let under = |head: &Head| {
        let trial = LogisticProbe { head: head.clone(), ..best.clone() };
        let squares: f64 = head.weights.iter().map(|w| w * w).sum();
        trial.cross_entropy(&features, &labels.values()).expect("fits") / 60.0 + 0.05 * squares
    };
    assert!((under(&best.head) - best.loss).abs() < 1e-12);
    for l2 in [0.05, 0.2] {
        let other = LogisticProbe::fit(&features, &labels, &LogisticConfig { l2, ..plain.clone() });
        assert!(under(&other.expect("fits").head) > best.loss + 1e-6);
    }
    let scaled: Vec<f64> =
        features.values().iter().enumerate().map(|(i, x)| x * 10f64.powi((i % 5) as i32)).collect();
    let scaled = Features::new(scaled, 5).expect("finite");
    let again = LogisticProbe::fit(&scaled, &labels, &config).expect("fits");
    assert!((again.loss - probe.loss).abs() < 1e-10);
    // Separable classes: the penalty keeps it finite.
    let (far, labels) = blobs(20, 2, 2, 50.0, 6);
    let probe = LogisticProbe::fit(&far, &labels, &LogisticConfig::default()).expect("fits");
    assert!(probe.converged && probe.head.weights.iter().all(|w| w.is_finite()));
}

#[test]
fn the_grid_is_searched_by_folds_and_repeats() {
    let (features, labels) = blobs(60, 10, 3, 1.0, 7);
    let config = LogisticConfig::default();
    let fit = |grid: &[f64]| LogisticProbe::fit_grid(&features, &labels, &config, grid, 5, Seed(1));
    let probe = fit(&[1e-6, 1e-1, 1e3]).expect("fits");
    assert_eq!(probe, fit(&[1e-6, 1e-1, 1e3]).expect("fits"));
    assert_eq!(probe.l2, 1e-1);
    assert!(fit(&[]).is_err() && fit(&[0.0]).is_err());
}

#[test]
fn prototypes_are_the_nearest_means() {
    let (features, labels) = blobs(30, 3, 3, 4.0, 8);
    let head = PrototypeProbe::fit(&features, &labels, Metric::Euclidean).expect("fits");
    let means: Vec<Vec<f64>> = (0..3u32)
        .map(|c| {
            features.select(&(0..10).map(|i| 3 * i + c).collect::<Vec<_>>()).expect("valid").means()
        })
        .collect();
    let distance = |row: &[f64], mean: &[f64]| -> f64 {
        row.iter().zip(mean).map(|(a, b)| (a - b) * (a - b)).sum()
    };
    for (row, class) in head.predict(&features).expect("fits").iter().enumerate() {
        let own = distance(features.row(row), &means[*class as usize]);
        assert!(means.iter().all(|mean| own <= distance(features.row(row), mean) + 1e-12));
    }
    let cosine = PrototypeProbe::fit(&features, &labels, Metric::Cosine).expect("fits");
    let norms: Vec<f64> =
        (0..3).map(|c| (0..3).map(|k| cosine.weights[3 * k + c].powi(2)).sum()).collect();
    assert!(norms.iter().all(|norm| (norm - 1.0).abs() < 1e-12) && cosine.bias == [0.0; 3]);
}

#[test]
fn bad_input_is_refused_by_name() {
    let (features, labels) = blobs(6, 2, 2, 1.0, 9);
    let text = |error: ScoreError| error.to_string();
    let ridge =
        |lambdas: &[f64]| RidgeProbe::fit(&features, &labels, lambdas).expect_err("refused");
    assert_eq!(text(ridge(&[1.0, f64::NAN])), "`lambdas[1]` must be in (0, inf), got NaN");
    assert_eq!(text(ridge(&[])), "`lambdas` must be at least one number above 0, got none");
    let config = LogisticConfig { l2: -1.0, ..Default::default() };
    let error = LogisticProbe::fit(&features, &labels, &config).expect_err("refused");
    assert_eq!(text(error), "`l2` must be in (0, inf), got -1");
    let head = PrototypeProbe::fit(&features, &labels, Metric::Euclidean).expect("fits");
    let wide = Features::new(vec![1.0; 6], 3).expect("valid");
    let error = head.predict(&wide).expect_err("refused");
    assert_eq!(text(error), "`features` must have 2 columns, got 3");
    assert!(head.accuracy(&features, &[0]).is_err());
    let two = Features::new(vec![1.0, 2.0], 1).expect("valid");
    let labels = Labels::new(&[0, 1]).expect("valid");
    assert!(RidgeProbe::fit(&two, &labels, &[1.0]).is_err());
}

#[cfg(feature = "flex")]
mod cached {
    use super::*;
    use burn::tensor::{Device, Tensor};
    use std::cell::Cell;

    #[test]
    fn a_head_is_the_layer_that_gives_its_logits() {
        let (features, labels) = blobs(30, 4, 3, 2.0, 10);
        let names: Vec<u32> =
            labels.values().iter().map(|label| [2, 0, 3][*label as usize]).collect();
        let labels = Labels::new(&names).expect("valid");
        let lambdas = default_lambdas(&features);
        for head in [
            RidgeProbe::fit(&features, &labels, &lambdas).expect("fits").head,
            PrototypeProbe::fit(&features, &labels, Metric::Euclidean).expect("fits"),
        ] {
            let wanted = head.logits(&features).expect("fits");
            for device in [Device::flex(), Device::flex().autodiff()] {
                let layer = head.linear(5, &device).expect("fits");
                assert_eq!(layer.weight.val().dims(), [4, 5]);
                assert!(!device.is_autodiff() || layer.weight.is_require_grad());
                let values: Vec<f32> = features.values().iter().map(|x| *x as f32).collect();
                let inputs = Tensor::<1>::from_floats(values.as_slice(), &device).reshape([30, 4]);
                let found: Vec<f64> = layer.forward(inputs).try_to_vec_as().expect("reads");
                for (row, found) in found.chunks_exact(5).enumerate() {
                    // Sums of four products of about 10, in f32.
                    for (found, wanted) in
                        [0, 2, 3].map(|k| found[k]).iter().zip(&wanted[3 * row..])
                    {
                        assert!((found - wanted).abs() < 1e-4 * wanted.abs().max(1.0));
                    }
                    let least =
                        [0, 2, 3].map(|k| found[k]).into_iter().fold(f64::INFINITY, f64::min);
                    assert!(found[1] < least - 1e3 && found[4] < least - 1e3, "{found:?}");
                }
                let weights: Vec<f64> = layer.weight.val().try_to_vec_as().expect("reads");
                assert!(weights.chunks_exact(5).all(|row| row[1] == 0.0 && row[4] == 0.0));
            }
            let error = head.linear(3, &Device::flex()).expect_err("refused");
            assert_eq!(error.to_string(), "`classes` must be above 3, a label of the head, got 3");
            let cut = Head { bias: vec![0.0; 2], ..head };
            assert!(cut.linear(5, &Device::flex()).is_err());
        }
    }

    #[test]
    fn the_backbone_runs_once_over_each_sample() {
        let device = Device::flex();
        let inputs = Tensor::<1, burn::tensor::Int>::arange(0..7, &device).float().reshape([7, 1]);
        let (runs, samples) = (Cell::new(0), Cell::new(0));
        let found = cache(inputs, 3, |batch: Tensor<2>| {
            runs.set(runs.get() + 1);
            samples.set(samples.get() + batch.dims()[0]);
            batch.mul_scalar(2.0)
        });
        assert_eq!(found.expect("reads").values(), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
        assert_eq!((runs.get(), samples.get()), (3, 7));
        let broken = Tensor::<2>::from_floats([[1.0, f32::NAN]], &device);
        let error = features_of(broken).expect_err("refused");
        assert_eq!(error.to_string(), "`features` must be finite, got NaN in row 0, column 1");
    }
}
