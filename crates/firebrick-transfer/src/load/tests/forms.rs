//! Names and values in unusual forms: enum variants, pruned lists, odd numbers.

use burn::nn::LinearConfig;
use burn::tensor::{Device, Tensor};

use super::super::{Checkpoint, LoadConfig, Problem};
use super::{bits, file, safetensors, saved, values};

#[derive(burn::module::Module, Debug)]
enum Either {
    Plain(burn::nn::Linear),
}

#[derive(burn::module::Module, Debug)]
struct Variant {
    body: Either,
    count: burn::module::Param<Tensor<1, burn::tensor::Int>>,
}

fn variant() -> Variant {
    let device = Device::flex();
    Variant {
        body: Either::Plain(LinearConfig::new(2, 3).init(&device)),
        count: burn::module::Param::initialized(
            burn::module::ParamId::new(),
            Tensor::from_ints([1, 2], &device),
        ),
    }
}

#[test]
fn variants_are_no_part_of_foreign_names_and_kinds_must_agree() {
    let weight = [1., 2., 3., 4., 5., 6.];
    let (_folder, path) = file(&safetensors(
        &[
            ("body.weight", &[3, 2], &weight),
            ("body.bias", &[3], &[0.; 3]),
            ("count", &[2], &[1.; 2]),
        ],
        Some("pt"),
    ));
    let opened = Checkpoint::open(&path).expect("a checkpoint");
    let mut model = variant();
    let before = bits(&model);
    let plan = LoadConfig::new().plan(&opened, &model).expect("a plan");
    assert!(
        matches!(plan.problems(), [Problem::Kind { path, .. }, Problem::Coverage { .. }] if path == "count"),
        "{plan}"
    );
    assert!(plan.apply(&mut model).is_err());
    assert_eq!(bits(&model), before);
    let plan = LoadConfig::new()
        .with_fresh("count")
        .with_min_coverage(0.8)
        .plan(&opened, &model)
        .expect("a plan");
    plan.apply(&mut model).expect("applied");
    assert_eq!(values(&model, "body.Plain.weight"), [1., 3., 5., 2., 4., 6.]);
    // burn's own spelling has the variant in it.
    let (_folder, path) = saved(&model);
    let opened = Checkpoint::open(&path).expect("a checkpoint");
    let mut other = variant();
    LoadConfig::new().plan(&opened, &other).expect("a plan").apply(&mut other).expect("applied");
    assert_eq!(bits(&other), bits(&model));
}

#[test]
fn odd_values_are_named_and_loaded() {
    let weight = |value: f32| vec![value; 16];
    let mut spread = weight(1e7);
    spread[3] = -1e7;
    for (values, words) in [
        (weight(0.0), "all 16 values are 0"),
        (weight(0.25), "all 16 values are 0.25"),
        (spread, "times that of the model's own"),
    ] {
        let (_folder, path) = file(&safetensors(
            &[("0.weight", &[4, 4], &values), ("0.bias", &[4], &[0.; 4])],
            Some("pt"),
        ));
        let opened = Checkpoint::open(&path).expect("a checkpoint");
        let mut model = vec![LinearConfig::new(4, 4).init(&Device::flex())];
        let plan = LoadConfig::new().plan(&opened, &model).expect("a plan");
        let reasons: Vec<&str> =
            plan.suspicions().iter().map(|found| found.reason.as_str()).collect();
        assert!(reasons.len() == 1 && reasons[0].contains(words), "{words}: {reasons:?}");
        plan.apply(&mut model).expect("a warning refuses nothing");
    }
}

#[test]
fn pruned_lists_are_not_shifted_silently() {
    let tensor = |layer: usize| {
        [(format!("layers.{layer}.weight"), vec![4, 4]), (format!("layers.{layer}.bias"), vec![4])]
    };
    let names: Vec<(String, Vec<usize>)> = [0, 3].into_iter().flat_map(tensor).collect();
    let ones = [1.0; 16];
    let tensors: Vec<(&str, &[usize], &[f32])> = names
        .iter()
        .map(|(name, shape)| (name.as_str(), shape.as_slice(), &ones[..shape.iter().product()]))
        .collect();
    let (_folder, path) = file(&safetensors(&tensors, Some("pt")));
    let opened = Checkpoint::open(&path).expect("a checkpoint");
    let mut model = vec![
        LinearConfig::new(4, 4).init(&Device::flex()),
        LinearConfig::new(4, 4).init(&Device::flex()),
    ];
    let plan = LoadConfig::new().with_rename("layers", "").plan(&opened, &model).expect("a plan");
    assert_eq!(plan.problems().len(), 5, "two missing, two unexpected, the coverage: {plan}");
    assert_eq!(plan.suggestions(), ["with_rename(\"3\", \"1\") would match 2 tensors"]);
    let config = LoadConfig::new().with_rename("layers", "").with_rename("3", "1");
    config.plan(&opened, &model).expect("a plan").apply(&mut model).expect("applied");
    assert_eq!(values(&model, "1.bias"), [1.0; 4]);
    // Two tensors under one name are refused, whichever came first.
    let collided = LoadConfig::new().with_rename("layers.0", "1").with_rename("layers.3", "1");
    let plan = collided.plan(&opened, &model).expect("a plan");
    assert!(
        plan.problems()
            .iter()
            .any(|found| matches!(found, Problem::Collision { name, .. } if name == "1.bias"))
    );
}
