//! What a step allocates, counted by the allocator itself.

use crate::pass_tests::with_pass;
use burn::nn::{Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// 4 MiB of parameters: far above what the other tests allocate at the same time within one step.
const SIDE: usize = 1024;
const BYTES: usize = SIDE * SIDE * 4;

/// The least that one of several steps allocates; other tests, in their own threads, only add to it, so a count
/// above `enough` is taken again while they may still be running.
fn least(enough: usize, mut step: impl FnMut()) -> usize {
    let mut least = usize::MAX;
    for attempt in 0..1000 {
        let region = Region::new(ALLOCATOR);
        step();
        least = least.min(region.change().bytes_allocated);
        if attempt >= 5 {
            if least < enough {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
    least
}

fn layer() -> (Linear, Tensor<2>) {
    let device = Device::flex().autodiff();
    let layer = LinearConfig::new(SIDE, SIDE).with_bias(false).init(&device);
    let grad = Tensor::<2>::full([SIDE, SIDE], 0.25, &Device::flex());
    (layer, grad)
}

fn grads(layer: &Linear, grad: &Tensor<2>) -> GradientsParams {
    let mut grads = GradientsParams::new();
    // The clone that stays outside makes the gradient shared.
    grads.register(layer.weight.id, grad.clone());
    grads
}

#[test]
fn every_elementwise_rule_has_a_pass() {
    for card in crate::registry::CARDS {
        let rule = card.create(&serde_json::Value::Null).expect("defaults are valid");
        assert!(rule.fuses() || !rule.is_elementwise(), "{}", card.name);
    }
}

#[test]
fn after_the_first_step_nothing_that_grows_with_the_parameters() {
    for (name, rule) in with_pass() {
        let (layer, grad) = layer();
        let mut fused = rule.fused();
        let mut model = Some(layer.clone());
        let mut burn = rule.init();
        let mut other = Some(layer);
        let mut step = |through_burn: bool| {
            let (model, optimizer) =
                if through_burn { (&mut other, true) } else { (&mut model, false) };
            if let Some(layer) = model.take() {
                let grads = grads(&layer, &grad);
                *model = Some(if optimizer {
                    burn.step(1e-3, layer, grads)
                } else {
                    fused.step(1e-3, layer, grads)
                });
            }
        };
        step(false);
        step(true);
        let enough = BYTES / 8;
        let (fused, burn) = (least(enough, || step(false)), least(enough, || step(true)));
        assert!(fused < enough, "{name}: {fused} bytes");
        assert!(burn < enough, "{name} through burn: {burn} bytes");
    }
}

/// As in burn-train's Learner: a clone of the model lives through the step.
#[test]
fn a_shared_parameter_costs_one_buffer_through_both_doors() {
    for (name, config) in
        [("sgd", json!({"momentum": 0.9})), ("adam", json!({})), ("adan", json!({}))]
    {
        let rule = crate::registry::create(name, &config).expect("valid");
        let (layer, grad) = layer();
        let (mut fused, mut burn) = (rule.fused(), rule.init());
        let mut model = Some(layer);
        for through_burn in [false, true] {
            let bytes = least(BYTES + BYTES / 8, || {
                if let Some(layer) = model.take() {
                    let alive = layer.clone();
                    let grads = grads(&layer, &grad);
                    model = Some(if through_burn {
                        burn.step(1e-3, layer, grads)
                    } else {
                        fused.step(1e-3, layer, grads)
                    });
                    drop(alive);
                }
            });
            let one = BYTES..BYTES + BYTES / 8;
            assert!(one.contains(&bytes), "{name}, {through_burn}: {bytes} bytes of {BYTES}");
        }
    }
}
