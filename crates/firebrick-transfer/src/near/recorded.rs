//! Losses and penalties against what torch computes.

use super::*;
use crate::testing::recorded::cases;
use crate::testing::values;
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use firebrick_optim::AdamWConfig;
use firebrick_regularize::Penalty;
use std::slice::from_ref;

#[test]
fn distillation_keeps_its_share_at_every_temperature() {
    for case in cases("distillation") {
        let (student, teacher) = (case.tensor::<2>("student"), case.tensor::<2>("teacher"));
        let loss = distillation(student.clone(), teacher.clone(), case.number("temperature"));
        let loss = loss.expect("fits");
        case.outputs(&values(loss.clone()));
        let gradients = loss.backward();
        case.gradient("student", &values(student.grad(&gradients).expect("has one")));
        assert!(teacher.grad(&gradients).is_none(), "the teacher is a constant");
    }
    for case in cases("hinton") {
        let student = case.tensor::<2>("student");
        let (t, alpha) = (case.number("temperature"), case.number("alpha"));
        let loss =
            hinton(student.clone(), case.classes("targets"), case.tensor("teacher"), t, alpha);
        let loss = loss.expect("fits");
        case.outputs(&values(loss.clone()));
        case.gradients(loss, &[("student", &student)]);
    }
    for case in cases("lwf") {
        let (new, old) = (case.tensor::<2>("new"), case.tensor::<2>("old"));
        let (t, weight) = (case.number("temperature"), case.number("weight"));
        let targets = case.classes("targets");
        let loss = lwf(new.clone(), targets, old.clone(), case.tensor("recorded"), t, weight);
        let loss = loss.expect("fits");
        case.outputs(&values(loss.clone()));
        case.gradients(loss, &[("new", &new), ("old", &old)]);
    }
}

#[test]
fn bss_has_the_gradient_of_singular_values() {
    for case in cases("bss") {
        let features = case.tensor::<2>("features");
        let loss = bss(features.clone(), case.number("k") as usize).expect("fits");
        case.outputs(&values(loss.clone()));
        case.gradients(loss, &[("features", &features)]);
    }
    let features = Tensor::<2>::ones([3, 2], &Device::flex());
    assert!(bss(features.clone(), 0).is_err() && bss(features.clone(), 3).is_err());
    assert!(bss(features.clone() * f32::NAN, 1).expect_err("refused").to_string().contains("NaN"));
    assert!(bss(Tensor::<2>::zeros([2, 2], &Device::flex()), 2).is_ok());
}

#[test]
fn co_tuning_teaches_the_old_head_the_relationship() {
    for case in cases("relationship") {
        let classes = case.number("classes") as usize;
        let found = Relationship::of(case.tensor("answers"), case.classes("targets"), classes);
        case.outputs(&found.expect("fits").rows().concat());
    }
    for case in cases("co_tuning") {
        let (classes, targets) = (case.number("classes") as usize, case.classes("targets"));
        let relationship = Relationship::of(case.tensor("answers"), targets.clone(), classes);
        let relationship = relationship.expect("fits");
        let (target, source) = (case.tensor::<2>("target"), case.tensor::<2>("source"));
        let lambda = case.number("lambda");
        let loss =
            co_tuning(target.clone(), source.clone(), targets.clone(), &relationship, lambda);
        let loss = loss.expect("fits");
        case.outputs(&values(loss.clone()));
        case.gradients(loss, &[("target", &target), ("source", &source)]);
        let error = co_tuning(source, target, targets, &relationship, lambda).expect_err("swapped");
        assert!(error.to_string().contains("classes of the target head"), "{error}");
    }
    let device = Device::flex();
    let logits = Tensor::<2>::zeros([2, 3], &device);
    let of = |targets: [i64; 2], classes| {
        Relationship::of(logits.clone(), Tensor::from_ints(targets, &device), classes)
    };
    assert!(of([0, 0], 1).expect_err("one class").to_string().contains("`classes`"));
    assert!(of([0, 0], 2).expect_err("empty").to_string().contains("class 1 has no sample"));
    assert!(of([0, 2], 2).expect_err("outside").to_string().contains("`target`"));
    let nan = logits.clone() * f32::NAN;
    assert!(Relationship::of(nan, Tensor::from_ints([0, 1], &device), 2).is_err());
}

#[test]
fn delta_weighs_channels_by_their_attention() {
    for case in cases("channel_weights") {
        let weights =
            channel_weights(case.tensor("without"), case.number("loss"), case.number("scale"));
        case.outputs(&values(weights.expect("fits")));
    }
    for case in cases("delta") {
        let maps = case.tensor::<4>("maps");
        let loss = delta(from_ref(&maps), &[case.tensor("source")], &[case.tensor("weights")]);
        let loss = loss.expect("fits");
        case.outputs(&values(loss.clone()));
        case.gradients(loss, &[("maps", &maps)]);
    }
    let maps = Tensor::<4>::ones([1, 2, 2, 2], &Device::flex());
    let weights = Tensor::<1>::ones([2], &Device::flex());
    assert!(delta::<4>(&[], &[], &[]).is_err());
    assert!(delta(from_ref(&maps), &[], from_ref(&weights)).is_err());
    assert!(delta(from_ref(&maps), from_ref(&maps), &[weights.clone().narrow(0, 0, 1)]).is_err());
    assert!(delta(from_ref(&maps), &[maps.clone().narrow(1, 0, 1)], &[weights]).is_err());
}

#[derive(Module, Debug)]
struct Two {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
    head: Param<Tensor<2>>,
}

#[test]
fn l2_sp_leaves_out_what_is_new_frozen_or_a_statistic() {
    for case in cases("l2_sp") {
        let model = Two {
            weight: Param::from_tensor(case.tensor("weight")),
            bias: Param::from_tensor(case.tensor("bias")),
            head: Param::from_tensor(case.tensor("head")),
        };
        let source = Two {
            weight: Param::from_tensor(case.tensor("w0")),
            bias: Param::from_tensor(case.tensor("b0")),
            // Of another size: a new head.
            head: Param::from_tensor(Tensor::ones([4, 7], &Device::flex())),
        };
        let config =
            L2SpConfig::new().with_alpha(case.number("alpha")).with_beta(case.number("beta"));
        let penalty = config.init(&Anchor::of(&source)).expect("valid");
        let term = penalty.term(&model).expect("trains");
        case.outputs(&values(term.clone()));
        let gradients = term.backward();
        let gradient =
            |param: &Param<Tensor<2>>| values(param.val().grad(&gradients).expect("has one"));
        case.gradient("weight", &gradient(&model.weight));
        case.gradient("head", &gradient(&model.head));
        case.gradient("bias", &values(model.bias.val().grad(&gradients).expect("has one")));
        assert!(penalty.term(&model.no_grad()).is_none());
    }
    let net = crate::testing::net(&Device::flex().autodiff());
    drop(net.logits(Tensor::ones([4, 2], &Device::flex().autodiff())));
    let penalty = L2SpConfig::new().init(&Anchor::of(&net)).expect("valid");
    assert_eq!(
        values(penalty.term(&net).expect("trains")),
        [0.0],
        "statistics moved and do not count"
    );
    assert!(L2SpConfig::new().with_alpha(f64::NAN).init(&Anchor::of(&net)).is_err());
}

#[test]
fn the_decoupled_form_is_adamw_on_the_distance_to_the_source() {
    for case in cases("decoupled") {
        let (lr, strength) = (case.number("lr"), case.number("strength"));
        let mut model: Param<Tensor<2>> = Param::from_tensor(case.tensor("w"));
        let source: Param<Tensor<2>> = Param::from_tensor(case.tensor("w0"));
        // A module with one parameter, so that it has a path.
        let mut model_of = vec![model.clone()];
        let anchor = Anchor::of(&vec![source]);
        let mut optimizer = AdamWConfig::new().with_weight_decay(0.0).fused().expect("valid");
        let mut path = Vec::new();
        let grads = case.tensor::<3>("grads").inner();
        for step in 0..grads.dims()[0] {
            let grad: Tensor<2> = grads.clone().narrow(0, step, 1).squeeze_dim(0);
            let mut gradients = burn::optim::GradientsParams::new();
            gradients.register::<2>(model_of[0].id, grad);
            model_of = pull(model_of, &anchor, lr * strength).expect("valid");
            model_of = optimizer.step(lr, model_of, gradients);
            path.extend(values(model_of[0].val()));
        }
        model = model_of.remove(0);
        assert!(model.is_require_grad());
        case.outputs(&path);
    }
    let net = crate::testing::net(&Device::flex().autodiff());
    let anchor = Anchor::of(&net);
    assert!(pull(net.clone(), &anchor, 1.5).is_err() && pull(net, &anchor, f64::NAN).is_err());
}

#[test]
fn targets_and_shapes_that_do_not_fit_are_refused() {
    let device = Device::flex();
    let logits = Tensor::<2>::zeros([2, 3], &device);
    let targets = |values: [i64; 2]| Tensor::<1, burn::tensor::Int>::from_ints(values, &device);
    let loss = |targets, t, alpha| hinton(logits.clone(), targets, logits.clone(), t, alpha);
    assert!(loss(targets([0, 1]), 4.0, 0.9).is_ok());
    assert!(
        loss(targets([0, 3]), 4.0, 0.9).expect_err("refused").to_string().contains("in [0, 3)")
    );
    assert!(loss(targets([-1, 0]), 4.0, 0.9).is_err() && loss(targets([0, 1]), 0.0, 0.9).is_err());
    assert!(loss(targets([0, 1]), 4.0, f64::NAN).is_err());
    let short = Tensor::<1, burn::tensor::Int>::from_ints([0], &device);
    assert!(loss(short, 4.0, 0.9).is_err());
    assert!(distillation(logits.clone(), logits.clone().narrow(1, 0, 2), 1.0).is_err());
    assert!(
        distillation(Tensor::zeros([0, 3], &device), Tensor::zeros([0, 3], &device), 1.0).is_err()
    );
}
