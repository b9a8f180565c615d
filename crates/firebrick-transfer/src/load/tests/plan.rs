//! What a plan says, and that what was said is done.

use burn::nn::{EmbeddingConfig, LinearConfig};
use burn::tensor::{Device, Tensor};
use firebrick_core::Seed;

use super::super::{
    Checkpoint, Class, Head, HeadInit, InputChannels, LoadConfig, LoadError, Positions, Problem,
};
use super::{Bare, Small, bits, file, recorded, references, safetensors, saved, unhex, values};

fn torch() -> (tempfile::TempDir, Checkpoint) {
    let (folder, path) = file(&unhex(&references()["network"]["zip"]));
    let opened = Checkpoint::open(&path).expect("a checkpoint");
    (folder, opened)
}

#[test]
fn a_head_of_another_size_loses_weight_and_bias() {
    let (_folder, opened) = torch();
    let mut model = Small::new(3, 7);
    let refused = LoadConfig::new().plan(&opened, &model).expect("a plan");
    let text = refused.to_string();
    assert!(text.contains("with_head(Head::fresh(\"fc2\"))"), "{text}");
    assert!(matches!(refused.apply(&mut model), Err(LoadError::Refused { .. })));
    let before = (values(&model, "fc2.weight"), values(&model, "fc2.bias"));
    let plan =
        LoadConfig::new().with_head(Head::fresh("fc2")).plan(&opened, &model).expect("a plan");
    assert_eq!(plan.problems(), []);
    assert_eq!((plan.count(Class::Reinitialized), plan.coverage()), (2, 1.0));
    let report = plan.apply(&mut model).expect("applied");
    assert_eq!((report.loaded, report.reinitialized), (10, 2));
    assert_eq!((values(&model, "fc2.weight"), values(&model, "fc2.bias")), before);
    // Of the same size it is dropped as well: other classes may be as many.
    let mut model = Small::new(3, 5);
    let before = values(&model, "fc2.weight");
    let plan =
        LoadConfig::new().with_head(Head::fresh("fc2")).plan(&opened, &model).expect("a plan");
    plan.apply(&mut model).expect("applied");
    assert_eq!(values(&model, "fc2.weight"), before);
}

#[test]
fn fresh_heads_are_what_was_asked_for() {
    let (_folder, opened) = torch();
    let with = |init: HeadInit| {
        let mut model = Small::new(3, 2);
        let head = Head::fresh("fc2").with_init(init);
        let plan = LoadConfig::new().with_head(head).plan(&opened, &model)?;
        plan.apply(&mut model).map(|_| (values(&model, "fc2.weight"), values(&model, "fc2.bias")))
    };
    assert_eq!(with(HeadInit::Zeros).expect("zeros"), (vec![0.0; 8], vec![0.0; 2]));
    let (weight, bias) = with(HeadInit::KaimingUniform(Seed(3))).expect("drawn");
    assert!(
        weight.iter().chain(&bias).all(|value| value.abs() <= 0.5 && *value != 0.0),
        "{weight:?} {bias:?}"
    );
    assert_eq!(with(HeadInit::KaimingUniform(Seed(3))).expect("drawn"), (weight.clone(), bias));
    assert_ne!(with(HeadInit::KaimingUniform(Seed(4))).expect("drawn").0, weight);
    let means = vec![vec![1., 2., 3., 4.], vec![0.5, 0.0, -1.0, 2.0]];
    let (weight, bias) = with(HeadInit::Prototypes(means)).expect("means");
    assert_eq!(weight, [1., 0.5, 2., 0., 3., -1., 4., 2.]);
    assert_eq!(bias, [-15.0, -2.625]);
    for means in [vec![vec![0.0; 4]], vec![vec![0.0; 3]; 2], vec![vec![f32::NAN; 4]; 2]] {
        assert!(matches!(with(HeadInit::Prototypes(means)), Err(LoadError::Refused { .. })));
    }
}

#[test]
fn classes_are_gathered_in_either_layout() {
    let (_folder, opened) = torch();
    let mut whole = Small::new(3, 5);
    LoadConfig::new().plan(&opened, &whole).expect("a plan").apply(&mut whole).expect("applied");
    let (weight, bias) = (values(&whole, "fc2.weight"), values(&whole, "fc2.bias"));
    let (_burn, path) = saved(&whole);
    let burn = Checkpoint::open(path).expect("a checkpoint");
    for (opened, head, rows) in [
        (&opened, Head::classes("fc2", vec![4, 0]), vec![4, 0]),
        (&burn, Head::classes("fc2", vec![4, 0]), vec![4, 0]),
        (&opened, Head::without_first("fc2", 2), vec![2, 3, 4]),
        (&burn, Head::without_first("fc2", 2), vec![2, 3, 4]),
    ] {
        let mut model = Small::new(3, rows.len());
        LoadConfig::new()
            .with_head(head)
            .plan(opened, &model)
            .expect("a plan")
            .apply(&mut model)
            .expect("applied");
        let want: Vec<f64> = (0..4)
            .flat_map(|row| rows.iter().map(move |class| row * 5 + class))
            .map(|at| weight[at])
            .collect();
        assert_eq!(values(&model, "fc2.weight"), want);
        assert_eq!(
            values(&model, "fc2.bias"),
            rows.iter().map(|class| bias[*class]).collect::<Vec<_>>()
        );
    }
}

#[test]
fn first_convolutions_take_other_channels_when_told() {
    let (_folder, opened) = torch();
    let mut model = Small::new(1, 5);
    let refused = LoadConfig::new().plan(&opened, &model).expect("a plan");
    assert!(refused.to_string().contains("with_input_channels(\"conv\", ...)"), "{refused}");
    let config = LoadConfig::new().with_input_channels("conv", InputChannels::Sum);
    let plan = config.plan(&opened, &model).expect("a plan");
    assert!(plan.to_string().contains("channels 3 -> 1 (Sum); norm"), "{plan}");
    plan.apply(&mut model).expect("applied");
    // A grey image gives what it would in three equal channels.
    let mut colour = Small::new(3, 5);
    LoadConfig::new().plan(&opened, &colour).expect("a plan").apply(&mut colour).expect("applied");
    let (grey, _) = recorded(&references()["network"]["inputs"]);
    let grey: Vec<f32> = grey.iter().take(16).map(|value| *value as f32).collect();
    let grey = Tensor::<1>::from_floats(grey.as_slice(), &Device::flex()).reshape([1, 1, 4, 4]);
    let one: Vec<f32> = model.forward(grey.clone()).into_data().iter().collect();
    let three: Vec<f32> = colour.forward(grey.repeat_dim(1, 3)).into_data().iter().collect();
    assert!(one.iter().zip(&three).all(|(a, b)| (a - b).abs() < 1e-5), "{one:?} {three:?}");
}

#[test]
fn new_channels_that_are_all_0_are_suspicious() {
    let (_folder, opened) = torch();
    let reasons = |channels: usize, how: InputChannels| {
        let config = LoadConfig::new().with_input_channels("conv", how);
        let plan = config.plan(&opened, &Small::new(channels, 5)).expect("a plan");
        assert_eq!(plan.problems(), [], "{plan}");
        let at = plan.suspicions().iter().filter(|suspicion| suspicion.path == "conv.weight");
        at.map(|suspicion| suspicion.reason.clone()).collect::<Vec<_>>()
    };
    let found = reasons(5, InputChannels::Fastai);
    assert!(
        matches!(found.as_slice(), [one] if one.starts_with("2 new input channels are all 0")),
        "{found:?}"
    );
    assert!(reasons(5, InputChannels::Timm).is_empty());
    for fewer in [1, 2, 3] {
        assert!(reasons(fewer, InputChannels::Fastai).is_empty(), "{fewer}");
    }
}

#[test]
fn names_rules_rows_ties_shapes_and_positions() {
    let device = Device::flex();
    let qkv: Vec<f32> = (0..18).map(|value| value as f32).collect();
    let table: Vec<f32> = (0..8).map(|value| value as f32).collect();
    let (_folder, path) = file(&safetensors(
        &[
            ("net.in_proj", &[6, 3], &qkv),
            ("net.embed.weight", &[2, 4], &table),
            ("net.point.weight", &[2, 4, 1, 1], &table),
            ("net.point.bias", &[2], &[5.0, 6.0]),
        ],
        Some("pt"),
    ));
    let opened = Checkpoint::open(&path).expect("a checkpoint");
    let mut model = (
        vec![
            LinearConfig::new(3, 2).with_bias(false).init(&device),
            LinearConfig::new(3, 2).with_bias(false).init(&device),
            LinearConfig::new(3, 2).with_bias(false).init(&device),
        ],
        EmbeddingConfig::new(2, 4).init(&device),
        LinearConfig::new(4, 2).with_bias(false).init(&device),
        LinearConfig::new(4, 2).init(&device),
    );
    let config = LoadConfig::new()
        .with_rename("net.embed", "1")
        .with_rename("net.point", "3")
        .with_rows("0.0.weight", "net.in_proj", 0..2)
        .with_rows("0.1.weight", "net.in_proj", 2..4)
        .with_rows("0.2.weight", "net.in_proj", 4..6)
        .with_tied("2.weight", "1.weight")
        .with_reshape("3.weight");
    let plan = config.plan(&opened, &model).expect("a plan");
    assert_eq!(plan.problems(), [], "{plan}");
    let class = |path: &str| plan.entry(path).expect("there").class;
    assert_eq!(
        [class("1.weight"), class("2.weight"), class("3.weight")],
        [Class::Renamed, Class::Tied, Class::Transformed]
    );
    plan.apply(&mut model).expect("applied");
    assert_eq!(values(&model, "0.1.weight"), [6., 9., 7., 10., 8., 11.]);
    assert_eq!(values(&model, "2.weight"), [0., 4., 1., 5., 2., 6., 3., 7.]);
    assert_eq!(values(&model, "3.weight"), [0., 4., 1., 5., 2., 6., 3., 7.]);

    let (_folder, path) = file(&safetensors(&[("table", &[1, 5, 2], &[1.0; 10])], None));
    let opened = Checkpoint::open(&path).expect("a checkpoint");
    let mut positions = Bare::new([10, 2]);
    let config =
        LoadConfig::new().with_name("weight", "table").with_positions("weight", Positions::new(1));
    config.plan(&opened, &positions).expect("a plan").apply(&mut positions).expect("applied");
    assert!(
        values(&positions, "weight").iter().all(|value| (value - 1.0).abs() < 1e-6),
        "constants stay"
    );
}

#[test]
fn tied_tensors_that_differ_are_refused() {
    let device = Device::flex();
    let two = |second: f32| {
        safetensors(
            &[
                ("0.weight", &[2, 2], &[1., 2., 3., 4.]),
                ("1.weight", &[2, 2], &[1., 2., 3., second]),
            ],
            None,
        )
    };
    let model = (Bare::new([2, 2]), EmbeddingConfig::new(2, 2).init(&device));
    for (second, problems) in [(4.0, 0), (5.0, 1)] {
        let (_folder, path) = file(&two(second));
        let opened = Checkpoint::open(&path).expect("a checkpoint");
        let plan = LoadConfig::new()
            .with_tied("1.weight", "0.weight")
            .plan(&opened, &model)
            .expect("a plan");
        assert_eq!(plan.problems().len(), problems, "{plan}");
    }
}

#[test]
fn a_prefix_is_suggested_and_not_applied() {
    let (folder, path) = saved(&vec![Small::new(3, 5)]);
    let opened = Checkpoint::open(&path).expect("a checkpoint");
    let mut model = Small::new(3, 5);
    let before = bits(&model);
    let plan = LoadConfig::new().plan(&opened, &model).expect("a plan");
    assert!(
        plan.suggestions()[0].starts_with("with_rename(\"0\", \"\") would match 1"),
        "{:?}",
        plan.suggestions()
    );
    assert!(plan.apply(&mut model).is_err());
    assert_eq!(bits(&model), before);
    let plan = LoadConfig::new().with_rename("0", "").plan(&opened, &model).expect("a plan");
    plan.apply(&mut model).expect("applied");
    drop(folder);
}

#[test]
fn a_plan_for_another_model_is_refused() {
    let (_folder, opened) = torch();
    let plan = LoadConfig::new().plan(&opened, &Small::new(3, 5)).expect("a plan");
    let mut other = Small::new(3, 6);
    let before = bits(&other);
    assert!(matches!(plan.apply(&mut other), Err(LoadError::OtherModel { .. })));
    assert!(matches!(
        plan.apply(&mut (Small::new(3, 5), Small::new(3, 5))),
        Err(LoadError::OtherModel { .. })
    ));
    assert_eq!(bits(&other), before);
}

#[test]
fn what_is_left_fresh_counts_against_the_floor() {
    let (_folder, opened) = torch();
    let mut model = Small::new(3, 5);
    // 28 x 4 + 16 + 20 + 8 + 25 = 181 elements, 112 of them in the convolution.
    let config = LoadConfig::new().with_fresh("conv");
    let plan = config.plan(&opened, &model).expect("a plan");
    assert!((plan.coverage() - 69.0 / 181.0).abs() < 1e-12, "{}", plan.coverage());
    assert!(matches!(plan.problems(), [Problem::Coverage { .. }]), "{plan}");
    let plan = config.with_min_coverage(0.3).plan(&opened, &model).expect("a plan");
    let report = plan.apply(&mut model).expect("applied");
    assert_eq!(report.elements, 69);
}

#[test]
fn a_pending_update_of_the_statistics_does_not_come_back() {
    use burn::module::Module;
    let (_folder, opened) = torch();
    let (inputs, shape) = recorded(&references()["network"]["inputs"]);
    let device = Device::flex().autodiff();
    let mut model = Small::new(3, 5).train();
    let inputs = Tensor::<4>::from_data(burn::tensor::TensorData::new(inputs, shape), &device);
    drop(model.forward(inputs));
    LoadConfig::new().plan(&opened, &model).expect("a plan").apply(&mut model).expect("applied");
    let loaded = values(&model, "bn.running_mean");
    assert_eq!(values(&model.valid(), "bn.running_mean"), loaded);
}

#[test]
fn what_trains_goes_on_training_and_identities_stay() {
    use burn::module::Module;
    let (_folder, opened) = torch();
    let mut model = Small::new(3, 5).train();
    model.conv = model.conv.no_grad();
    let of = |model: &Small| {
        firebrick_backend::parameters(model)
            .into_iter()
            .map(|found| (found.path, found.id, found.trainable))
            .collect::<Vec<_>>()
    };
    let before = of(&model);
    LoadConfig::new().plan(&opened, &model).expect("a plan").apply(&mut model).expect("applied");
    assert_eq!(of(&model), before);
    assert!(before.iter().any(|(.., trains)| *trains) && before.iter().any(|(.., trains)| !trains));
}

#[test]
fn the_report_names_what_happens() {
    let (_folder, opened) = torch();
    let plan = LoadConfig::new().plan(&opened, &Small::new(3, 5)).expect("a plan");
    let text = plan.to_string();
    for words in [
        "PyTorch zip",
        opened.digest(),
        "Layout::PyTorch, since 1 matrices stand as [out, in]",
        "exact                10",
        "transformed           2",
        "coverage  100.0 %",
        "left aside\n  bn.num_batches_tracked",
    ] {
        assert!(text.contains(words), "`{words}` is not in\n{text}");
    }
    let entry = plan.entry("fc1.weight").expect("there");
    assert_eq!(
        (entry.steps.as_slice(), entry.norm_before),
        (&["transposed".to_owned()][..], entry.norm_after)
    );
    assert!(serde_json::to_string(plan.entries()).expect("JSON").contains("\"digest\""));
}
