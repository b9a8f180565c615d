//! The same program and seed on every back-end: losses and weights after 100 steps.

use crate::net::{Net, data};
use burn::tensor::Device;
use firebrick::backend::testing::devices;
use firebrick::prelude::*;
use firebrick::regularize::L2Config;

/// Loss of every step, and the weights after the last.
pub(crate) fn train(device: &Device) -> (Vec<f64>, Vec<f64>) {
    let device = device.clone().autodiff();
    let train = TensorBatches::new(data(160, &device), 32, Seed(5)).expect("valid");
    let config = FitConfig::new(20).with_progress(false).with_record_every(1);
    let fitted = Fit::new(config, AdamWConfig::new().init().expect("valid"))
        .rate(|step| 0.01 * (1.0 - step as f64 / 200.0))
        .guards((
            SkipNonFiniteConfig::new().init().expect("valid"),
            ClipGlobalNormConfig::new(1.0).init().expect("valid"),
        ))
        .penalty(L2Config::new(1e-3).init().expect("valid"))
        .run(Net::new(&device), &train, None)
        .expect("trains");
    assert_eq!(fitted.steps, 100);
    (fitted.history.series("batch_loss"), fitted.model.weights())
}

/// The largest difference, relative to values of order one.
pub(crate) fn distance(left: &[f64], right: &[f64]) -> f64 {
    assert_eq!(left.len(), right.len());
    left.iter().zip(right).map(|(l, r)| (l - r).abs() / r.abs().max(1.0)).fold(0.0, f64::max)
}

/// How far two back-ends may drift apart in 100 steps at this learning rate.
///
/// Host back-ends sum in another order, which costs one rounding of f32 (6e-8) a step and grows with the
/// steps; a GPU's exponentials and roots are a few roundings off besides.
pub(crate) const HOST_TOLERANCE: f64 = 2e-5;
const GPU_TOLERANCE: f64 = 2e-3;

#[test]
fn back_ends_agree_over_100_steps() {
    let (losses, weights) = train(&Device::flex());
    assert!(losses[99] < 0.5 * losses[0], "the reference learns: {} {}", losses[0], losses[99]);
    for device in devices() {
        let name = format!("{device:?}");
        let tolerance = if name.contains("Flex") || name.contains("NdArray") {
            HOST_TOLERANCE
        } else {
            GPU_TOLERANCE
        };
        let (found, at_end) = train(&device);
        let (loss, weight) = (distance(&found, &losses), distance(&at_end, &weights));
        println!("{name}: losses differ by {loss:.1e}, weights by {weight:.1e}");
        assert!(loss < tolerance && weight < tolerance, "{name}: {loss:e} {weight:e}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    for device in devices().into_iter().filter(|device| *device == Device::flex()) {
        assert_eq!(train(&device), train(&device));
    }
}
