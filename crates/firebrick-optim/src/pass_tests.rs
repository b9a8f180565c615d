//! The fused pass of every rule that has one: the same bits on any number of threads, the numbers of tensor operations.

use crate::registry::CARDS;
use crate::{DecayOn, Elementwise};
use burn::nn::{Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Tensor};
use serde_json::Value;

/// Rules with a pass over host memory, at their defaults.
pub(crate) fn with_pass() -> impl Iterator<Item = (&'static str, Elementwise)> {
    CARDS.iter().filter_map(|card| {
        let rule = card.create(&Value::Null).expect("defaults are valid");
        rule.fuses().then_some((card.name, rule))
    })
}

/// Three steps on a weight of several chunks and an odd number of columns.
fn path(rule: &Elementwise, layer: &Linear, grads: &[Tensor<2>]) -> Vec<f32> {
    let (mut optimizer, mut layer) = (rule.fused(), layer.clone());
    for grad in grads {
        let mut given = GradientsParams::new();
        given.register(layer.weight.id, grad.clone());
        layer = optimizer.step(0.01, layer, given);
    }
    layer.weight.val().into_data().try_into_vec().expect("f32")
}

fn inputs() -> (Linear, Vec<Tensor<2>>) {
    let device = Device::flex();
    device.seed(3);
    let layer = LinearConfig::new(523, 217).with_bias(false).init(&device.clone().autodiff());
    let draw = |_| Tensor::random([523, 217], Distribution::Normal(0.0, 1.0), &device);
    (layer, (0..3).map(draw).collect())
}

#[test]
fn the_same_bits_on_any_number_of_threads() {
    let (layer, grads) = inputs();
    let on = |threads: usize, rule: &Elementwise| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| path(rule, &layer, &grads)).into_iter().map(f32::to_bits).collect()
    };
    for (name, rule) in with_pass() {
        let one: Vec<u32> = on(1, &rule);
        for threads in [2, 5] {
            assert_eq!(one, on(threads, &rule), "{name} on {threads} threads");
        }
    }
}

#[test]
fn rules_that_reduce_give_the_numbers_of_tensor_operations() {
    let (layer, grads) = inputs();
    let mut seen = 0;
    for (name, rule) in with_pass().filter(|(_, rule)| !rule.is_elementwise()) {
        for on in [DecayOn::Weights, DecayOn::Nothing] {
            let rule = rule.clone().with_decay_on(on);
            let pass = path(&rule, &layer, &grads);
            let operations = path(&rule.with_fused_pass(false), &layer, &grads);
            let off = pass.iter().zip(&operations).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // Values below 2 and rates of 0.01: some units in the last place a step.
            assert!(off <= 2e-6, "{name}: {off}");
        }
        seen += 1;
    }
    assert!(seen >= 6, "{seen} rules");
}
