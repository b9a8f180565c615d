//! Every optimizer of the registry inside burn-train's Learner, which clones the model before each step: the weights are
//! those of a loop written by hand, which does not.

use crate::schedules::{Layers, STEPS, by_hand, learned};
use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use firebrick::backend::testing::devices;
use firebrick::optim::registry::CARDS;
use serde_json::Value;

#[test]
fn the_learner_comes_to_the_weights_of_a_hand_loop() {
    let device = Device::flex().autodiff();
    let model = || Layers::new(2, Vec::new(), &device);
    let start = model().weights();
    for card in CARDS {
        let optimizer = card.create(&Value::Null).expect("defaults are valid");
        let rates = ModuleLrScheduler::new(card.lr);
        let (_, weights) = learned(model(), optimizer.init(), rates);
        let expected = by_hand(model(), optimizer.init(), &[card.lr; STEPS]);
        assert_eq!(weights, expected, "{}: same steps, same bits", card.name);
        assert_ne!(weights, start, "{} has moved", card.name);
    }
}

/// Slots may be empty there, and a moment or its gradient exactly 0.
#[test]
fn a_single_element_steps_alike_on_every_device() {
    let starts = [[0.25f32, 0.0, -0.5], [0.0, 0.0, 0.5]];
    for (card, gradients) in CARDS.iter().flat_map(|card| starts.map(|start| (card, start))) {
        let run = |device: &Device| -> f64 {
            let mut optimizer = card.create(&Value::Null).expect("defaults are valid").fused();
            let start = Tensor::<1>::from_floats([0.5], &device.clone().autodiff());
            let mut model = vec![Param::from_tensor(start.require_grad())];
            for gradient in gradients {
                let mut all = GradientsParams::new();
                all.register(model[0].id, Tensor::<1>::from_floats([gradient], device));
                model = optimizer.step(card.lr, model, all);
            }
            model[0].val().into_scalar::<f64>()
        };
        let expected = run(&Device::flex());
        for device in devices() {
            let found = run(&device);
            // Ten roundings or so a step, and a GPU's roots.
            assert!((found - expected).abs() < 1e-5, "{}: {found} {expected}", card.name);
        }
    }
}
