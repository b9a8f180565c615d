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

/// Three steps on a weight that several cores share, with an odd number of columns.
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
    let layer = LinearConfig::new(523, 613).with_bias(false).init(&device.clone().autodiff());
    let draw = |_| Tensor::random([523, 613], Distribution::Normal(0.0, 1.0), &device);
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

#[test]
fn a_gradient_of_another_shape_leaves_its_parameter() {
    use burn::optim::Optimizer;
    let device = Device::flex();
    for (name, rule) in with_pass() {
        for shape in [[3, 2], [2, 2], [4, 3], [1, 3]] {
            let layer = LinearConfig::new(2, 3).with_bias(false).init(&device.clone().autodiff());
            let before = layer.weight.val().inner();
            let mut grads = GradientsParams::new();
            grads.register(layer.weight.id, Tensor::<2>::ones(shape, &device));
            let after = rule.fused().step(0.1, layer, grads).weight.val().inner();
            after.into_data().assert_eq(&before.to_data(), true);
            let grad = Tensor::<2>::ones(shape, &device);
            let (after, state) = rule.step(0.1, before.clone(), grad, None);
            assert!(state.is_none(), "{name}");
            after.into_data().assert_eq(&before.to_data(), true);
        }
    }
}

/// As when a head of another size was loaded.
#[test]
fn a_parameter_of_a_new_shape_starts_anew() {
    let device = Device::flex().autodiff();
    let layer = |columns: usize, id| {
        let mut layer = LinearConfig::new(2, columns).with_bias(false).init(&device);
        layer.weight.id = id;
        layer
    };
    let step = |optimizer: &mut crate::FusedOptimizer, layer: Linear| {
        let mut grads = GradientsParams::new();
        grads.register(layer.weight.id, layer.weight.val().inner() + 1.0);
        optimizer.step(0.1, layer, grads)
    };
    for card in CARDS {
        let rule = card.create(&Value::Null).expect("defaults are valid");
        let old = layer(3, burn::module::ParamId::new());
        let id = old.weight.id;
        let (mut used, mut new) = (rule.fused(), rule.fused());
        step(&mut used, old);
        let head = layer(5, id);
        let (mut one, mut two) = (head.clone(), head);
        for _ in 0..3 {
            (one, two) = (step(&mut used, one), step(&mut new, two));
        }
        let [one, two] = [one, two].map(|layer| layer.weight.val().inner().into_data());
        assert_eq!(used.steps_of("weight"), Some(3), "{}", card.name);
        one.assert_eq(&two, true);
    }
}
