//! Every optimizer of the registry inside burn-train's Learner, which clones the model before each step: the weights are
//! those of a loop written by hand, which does not.

use crate::schedules::{Layers, STEPS, by_hand, learned};
use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::tensor::Device;
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
