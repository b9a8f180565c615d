//! What a model came with: which parameters train and which switches are on, so that a thaw restores exactly that.

use crate::group::{Item, places};
use burn::module::Module;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which parameters of a model train and which of its switches are on.
///
/// burn's `unfreeze` turns everything on, also a dropout or a batch norm that was off on purpose, and its records
/// hold neither. Take this before the first freezing, and [`Plan::apply`](crate::Plan::apply) thaws to it. The rate
/// of a dropout is not touched by freezing and needs no restoring.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::{DropoutConfig, LinearConfig};
/// use firebrick_transfer::{Groups, Mode, Plan, Switches};
///
/// let device = burn::tensor::Device::flex().autodiff();
/// let mut model = (LinearConfig::new(2, 2).init(&device), DropoutConfig::new(0.3).init());
/// model.1 = model.1.freeze(); // off on purpose
/// let switches = Switches::of(&model);
/// let model = Plan::new(Groups::propose(&model)?).apply(model.unfreeze(), &switches)?;
/// assert!(model.0.weight.is_require_grad() && !model.1.training.is_enabled());
/// # Ok::<(), firebrick_transfer::TransferError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Switches {
    trains: BTreeMap<String, bool>,
    on: BTreeMap<String, bool>,
}

impl Switches {
    /// Those of `model` as it is configured for training, whether it is in evaluation mode now or not.
    #[must_use]
    pub fn of<M: Module>(model: &M) -> Self {
        let mut switches = Self::default();
        for place in places(&model.valid().train()) {
            match place.item {
                Item::Tensor { trains, .. } => switches.trains.insert(place.path, trains),
                Item::Switch { on } => switches.on.insert(place.path, on),
            };
        }
        switches
    }

    /// Whether the parameter at `path` trained; `None` where there was none.
    #[must_use]
    pub fn trains(&self, path: &str) -> Option<bool> {
        self.trains.get(path).copied()
    }

    /// Whether the switch at `path` was on; `None` where there was none.
    #[must_use]
    pub fn is_on(&self, path: &str) -> Option<bool> {
        self.on.get(path).copied()
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{Net, bits, data, dropout_on, net, values};
    use crate::{Groups, Mode, Plan};
    use burn::optim::GradientsParams;
    use burn::tensor::{Device, Tensor};
    use firebrick_backend::testing::devices;
    use firebrick_optim::registry::CARDS;
    use firebrick_optim::{DecayOn, Elementwise};
    use firebrick_train::{Batches, Learn, Optimize};
    use serde_json::Value;

    /// `rule` with momentum and decay wherever it has them.
    fn strong(card: &firebrick_optim::registry::RuleCard) -> Elementwise {
        let mut config = card.defaults();
        if let Some(fields) = config.as_object_mut() {
            for (name, value) in [("momentum", 0.9), ("weight_decay", 0.1)] {
                if fields.get(name).is_some_and(Value::is_number) {
                    fields.insert(name.into(), value.into());
                }
            }
        }
        card.create(&config).expect("valid").with_decay_on(DecayOn::All)
    }

    fn steps<O: Optimize>(mut net: Net, optimizer: &mut O, count: usize, rate: f64) -> Net {
        let device = net.first.weight.val().device();
        let train = data(&device, 1.0);
        let batches = (1..).flat_map(|epoch| train.epoch(epoch).collect::<Vec<_>>());
        for batch in batches.take(count) {
            let gradients = GradientsParams::from_grads(net.loss(batch).backward(), &net);
            net = optimizer.step(rate, net, gradients);
        }
        net
    }

    fn frozen(net: &Net) -> Plan {
        let groups = Groups::propose(net).expect("has groups");
        Plan::new(groups).with_first(2, Mode::Frozen).expect("there are three")
    }

    /// 5 steps of everything, then 100 with two groups frozen; momentum and decay are at work in both doors.
    fn stays(card: &firebrick_optim::registry::RuleCard, device: &Device) {
        let rule = strong(card);
        let net = net(device);
        let (switches, plan) = (Switches::of(&net), frozen(&net));
        for door in ["fused", "module"] {
            let copy = net.valid().train();
            let rate = card.lr.min(1e-2);
            let (before, after) = if door == "fused" {
                let mut optimizer = plan.optimizer(&copy, &rule).expect("fits");
                let copy = steps(copy, &mut optimizer, 5, rate);
                let copy = plan.apply(copy, &switches).expect("fits");
                (copy.valid(), steps(copy, &mut optimizer, 100, rate))
            } else {
                let mut optimizer = rule.init();
                let copy = steps(copy, &mut optimizer, 5, rate);
                let copy = plan.apply(copy, &switches).expect("fits");
                (copy.valid(), steps(copy, &mut optimizer, 100, rate))
            };
            for ((path, old), (_, new)) in bits(&before).iter().zip(bits(&after)) {
                let same = !path.starts_with("head");
                assert_eq!(*old == new, same, "{}, {door}: {path}", card.name);
            }
            // No dropout: in training mode, two passes are one, and the same as in evaluation mode.
            let inputs = data(device, 1.0).data().inputs.clone();
            let pass = || values(after.features(inputs.clone()));
            assert_eq!(pass(), pass(), "{}", card.name);
            assert_eq!(pass(), values(after.valid().features(inputs.clone().inner())));
            let thawed = Plan::new(plan.groups().clone()).apply(after, &switches).expect("fits");
            assert!(dropout_on(&thawed) && thawed.norm.training.is_enabled());
            let pass = || values(thawed.features(inputs.clone()));
            assert_ne!(pass(), pass(), "dropout is back");
        }
    }

    #[test]
    fn frozen_groups_stay_to_the_bit_under_every_optimizer() {
        let device = Device::flex().autodiff();
        assert!(CARDS.len() > 30);
        for card in CARDS {
            stays(card, &device);
        }
    }

    #[test]
    fn frozen_groups_stay_to_the_bit_on_every_device() {
        for device in devices() {
            let card = firebrick_optim::registry::card("adamw").expect("known");
            stays(card, &device.autodiff());
        }
    }

    #[test]
    fn a_frozen_prefix_has_no_gradient_and_no_graph() {
        let net = net(&Device::flex().autodiff());
        let (switches, plan) = (Switches::of(&net), frozen(&net));
        let net = plan.apply(net, &switches).expect("fits");
        let inputs = data(&Device::flex().autodiff(), 1.0).data().inputs.clone();
        assert!(!net.features(inputs).is_require_grad());
        let batch = data(&Device::flex().autodiff(), 1.0).epoch(1).next().expect("has one");
        let gradients = GradientsParams::from_grads(net.loss(batch).backward(), &net);
        assert_eq!(gradients.len(), 2);
    }

    #[test]
    fn the_rate_of_a_dropout_is_as_it_was_after_a_thaw() {
        let net = net(&Device::flex().autodiff());
        let (switches, plan) = (Switches::of(&net), frozen(&net));
        let all = Plan::new(plan.groups().clone());
        let net = all.apply(plan.apply(net, &switches).expect("fits"), &switches).expect("fits");
        let device = Device::flex().autodiff();
        let ones = Tensor::<2>::ones([100, 100], &device);
        let kept = values(net.dropout.forward(ones).greater_scalar(0.0).float().mean())[0];
        // 10,000 draws with probability 0.7: five deviations are 0.023.
        assert!((kept - 0.7).abs() < 0.023, "{kept}");
    }

    #[test]
    fn what_was_off_on_purpose_stays_off() {
        let mut net = net(&Device::flex().autodiff());
        net.dropout = burn::module::Module::freeze(net.dropout);
        net.second.weight = net.second.weight.set_require_grad(false);
        let (switches, plan) = (Switches::of(&net.valid()), frozen(&net));
        assert_eq!(switches, Switches::of(&net), "evaluation mode does not matter");
        let all = Plan::new(plan.groups().clone());
        let net = all.apply(plan.apply(net, &switches).expect("fits"), &switches).expect("fits");
        assert!(!dropout_on(&net) && net.norm.training.is_enabled());
        assert!(!net.second.weight.is_require_grad() && net.first.weight.is_require_grad());
        let text = serde_json::to_string(&switches).expect("JSON");
        assert_eq!(serde_json::from_str::<Switches>(&text).expect("JSON"), switches);
    }
}
