//! Effective weights against what peft computes.

use super::low_rank::LowRank;
use super::matrix::Layout;
use super::vera::{Rescale, Vera};
use super::{AdaptConfig, AdapterKind, LoraInit, Scaling};
use crate::Groups;
use crate::testing::recorded::{Case, cases};
use crate::testing::values;
use burn::module::{LoraAdapter, Param, Reparameterization};
use burn::nn::LinearConfig;
use burn::tensor::{Device, Tensor};
use firebrick_core::Seed;

fn factors(case: &Case) -> LowRank {
    let outputs_first = case.rank("base") == 4;
    LowRank {
        a: Param::from_tensor(case.tensor("a")),
        b: Param::from_tensor(case.tensor("b")),
        magnitude: case.has("magnitude").then(|| Param::from_tensor(case.tensor("magnitude"))),
        scale: case.number("scale"),
        layout: if outputs_first { Layout::OutputsFirst } else { Layout::InputsFirst },
    }
}

#[test]
fn low_rank_weights_are_pefts() {
    for case in cases("lora").into_iter().chain(cases("dora")) {
        let adapter = factors(&case);
        match case.rank("base") {
            4 => case.outputs(&values(adapter.apply(case.tensor::<4>("base")))),
            _ => case.outputs(&values(adapter.apply(case.tensor::<2>("base")))),
        }
    }
    for case in cases("lora") {
        let (rank, alpha) = (case.number("rank") as usize, case.number("alpha"));
        let scaling = if case.flag("root") { Scaling::ByRoot } else { Scaling::ByRank };
        let kind = AdapterKind::Lora { rank, alpha, scaling, init: LoraInit::Uniform };
        assert!((kind.scale() - case.number("scale")).abs() < 1e-12);
        if case.rank("base") == 2 {
            let LowRank { a, b, scale, .. } = factors(&case);
            let burns = LoraAdapter { a, b, scale };
            case.outputs(&values(burns.apply(case.tensor::<2>("base"))));
        }
    }
}

#[test]
fn the_length_of_dora_is_a_constant_in_the_backward_pass() {
    for case in cases("lora_gradient").into_iter().chain(cases("dora_gradient")) {
        let adapter = factors(&case);
        let loss = (adapter.apply(case.tensor::<2>("base")) * case.tensor("mix")).sum();
        case.outputs(&values(loss.clone()));
        let gradients = loss.backward();
        case.gradient("a", &values(adapter.a.val().grad(&gradients).expect("has one")));
        case.gradient("b", &values(adapter.b.val().grad(&gradients).expect("has one")));
        if let Some(magnitude) = &adapter.magnitude {
            case.gradient("magnitude", &values(magnitude.val().grad(&gradients).expect("has one")));
        }
    }
}

#[test]
fn vectors_rescale_as_in_peft() {
    for case in cases("vera") {
        let adapter = Vera {
            d: Param::from_tensor(case.tensor("d")),
            b: Param::from_tensor(case.tensor("b")),
            down: case.tensor("down").inner(),
            up: case.tensor("up").inner(),
            layout: Layout::InputsFirst,
        };
        case.outputs(&values(adapter.apply(case.tensor::<2>("base"))));
    }
    for case in cases("ia3") {
        let adapter = Rescale {
            scale: Param::from_tensor(case.tensor("scale")),
            by_input: case.flag("by_input"),
            layout: Layout::InputsFirst,
        };
        case.outputs(&values(adapter.apply(case.tensor::<2>("base"))));
    }
}

#[test]
fn pissa_takes_the_largest_triplets_out_of_the_weight() {
    for case in cases("pissa") {
        let weight = case.tensor::<2>("weight").inner();
        let [inputs, outputs] = weight.dims();
        let device = Device::flex().autodiff();
        let mut layer = LinearConfig::new(inputs, outputs).init(&device);
        layer.weight = Param::from_tensor(Tensor::from_inner(weight));
        let model = (layer, LinearConfig::new(outputs, 2).init(&device));
        let (rank, alpha) = (case.number("rank") as usize, case.number("alpha"));
        let (scaling, init) = (Scaling::ByRank, LoraInit::Pissa);
        let kind = AdapterKind::Lora { rank, alpha, scaling, init };
        let groups = Groups::propose(&model).expect("has groups");
        let model = AdaptConfig::new(kind, Seed(1)).apply(model, &groups).expect("fits");
        let adapter = model.0.weight.adapter().expect("there");
        let mut found = values(model.0.weight.base().inner());
        found.extend(values(adapter.delta()));
        case.outputs(&found);
    }
}
