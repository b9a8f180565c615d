//! Against what torch and timm did, as tests/references/transfer_load.py recorded it.

use burn::tensor::{Device, Tensor, TensorData};

use super::super::transform::{InputChannels, Positions, channels, positions};
use super::super::{Checkpoint, Class, Layout, LoadConfig, LoadError};
use super::{Small, bits, file, recorded, references, tensor, unhex, values};

/// Two roundings of the result, in its own precision: ours in f64 and theirs in f32 differ by no more.
fn near(got: &TensorData, want: &serde_json::Value, sums: f64, case: &str) {
    let (expected, shape) = recorded(want);
    assert_eq!(got.shape().to_vec(), shape, "{case}");
    let unit = if want["dtype"] == "float16" { 2f64.powi(-11) } else { 2f64.powi(-24) };
    for (got, want) in got.iter::<f64>().zip(expected) {
        assert!(
            (got - want).abs() <= 2.0 * sums * unit * want.abs().max(1.0),
            "{case}: {got} {want}"
        );
    }
}

#[test]
fn first_convolutions_as_timm_and_fastai() {
    let references = references();
    let cases = references["channels"].as_array().expect("cases");
    assert_eq!(cases.len(), 15);
    for case in cases {
        let form = case["form"].as_str().expect("a form");
        let how = if form == "timm" { InputChannels::Timm } else { InputChannels::Fastai };
        let wanted = case["channels"].as_u64().expect("channels") as usize;
        let weight = tensor(&case["weight"]);
        let got = channels(&weight, wanted, &how).expect("it fits");
        // At most four terms of size up to 3 are added in f32 there.
        near(&got, &case["result"], 12.0, &format!("{form} {wanted}"));
        if wanted == 1 {
            assert_eq!(
                channels(&weight, 1, &InputChannels::Sum).expect("it fits").as_bytes(),
                got.as_bytes()
            );
        }
    }
}

#[test]
fn positions_as_timm() {
    let references = references();
    let cases = references["positions"].as_array().expect("cases");
    assert_eq!(cases.len(), 10);
    let pair =
        |value: &serde_json::Value| [0, 1].map(|at| value[at].as_u64().expect("a size") as usize);
    for (index, case) in cases.iter().enumerate() {
        let how = Positions::new(case["prefix"].as_u64().expect("a prefix") as usize)
            .with_grids(pair(&case["old"]), pair(&case["new"]))
            .with_antialias(case["antialias"].as_bool().expect("a truth value"));
        let (_, shape) = recorded(&case["result"]);
        let got = positions(&tensor(&case["table"]), &shape, how).expect("it fits");
        // Two passes of up to 28 taps; torch computes weights, products and sums in f32.
        near(&got, &case["result"], 64.0, &format!("case {index}"));
    }
}

#[test]
fn every_form_of_file_that_torch_writes_is_read() {
    let references = references();
    let cases = references["files"].as_array().expect("cases");
    assert_eq!(cases.len(), 15);
    for case in cases {
        let name = case["name"].as_str().expect("a name");
        let (_folder, path) = file(&unhex(&case["bytes"]));
        let opened = Checkpoint::open(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let tensors = case["tensors"].as_object().expect("tensors");
        let names: Vec<&str> = opened.names().collect();
        let mut expected: Vec<&str> = tensors.keys().map(String::as_str).collect();
        expected.sort_unstable();
        assert_eq!(names, expected, "{name}");
        for (key, want) in tensors {
            let got = opened.values(key).unwrap_or_else(|error| panic!("{name} {key}: {error}"));
            let (values, shape) = recorded(want);
            assert_eq!(got.shape().to_vec(), shape, "{name} {key}");
            let got: Vec<f64> = match want["dtype"].as_str() {
                Some("bool") => {
                    got.iter::<bool>().map(|value| f64::from(u8::from(value))).collect()
                }
                _ => got.iter::<f64>().collect(),
            };
            assert_eq!(got, values, "{name} {key}");
        }
    }
}

#[test]
fn the_network_gives_torchs_outputs_from_every_container() {
    let references = references();
    let network = &references["network"];
    let (inputs, shape) = recorded(&network["inputs"]);
    let inputs = Tensor::<4>::from_data(TensorData::new(inputs, shape), &Device::flex());
    let (outputs, _) = recorded(&network["outputs"]);
    let outputs: Vec<f32> = outputs.iter().map(|value| *value as f32).collect();
    for form in ["legacy", "zip", "safetensors"] {
        let (_folder, path) = file(&unhex(&network[form]));
        let opened = Checkpoint::open(&path).expect("a checkpoint");
        let mut model = Small::new(3, 5);
        let plan = LoadConfig::new().plan(&opened, &model).expect("a plan");
        assert_eq!(plan.problems(), [], "{form}");
        assert_eq!(plan.layout(), Layout::PyTorch, "{form}: the last matrix is not square");
        assert_eq!(
            (plan.count(Class::Exact), plan.count(Class::Transformed)),
            (10, 2),
            "{form}\n{plan}"
        );
        // Sums of up to 27 products of size one in f32, then a layer norm of four: 1e-5 is a hundred roundings.
        let report = plan
            .apply_with_reference(&mut model, &outputs, 1e-5, |model| {
                model.forward(inputs.clone()).into_data()
            })
            .unwrap_or_else(|error| panic!("{form}: {error}"));
        assert_eq!((report.loaded, report.coverage), (12, 1.0));
    }
}

#[test]
fn a_half_precision_file_is_cast_and_said_so() {
    let (_folder, path) = file(&unhex(&references()["network"]["half"]));
    let opened = Checkpoint::open(&path).expect("a checkpoint");
    let mut model = Small::new(3, 5);
    let plan = LoadConfig::new().plan(&opened, &model).expect("a plan");
    assert!(plan.to_string().contains("transposed or cast only"), "{plan}");
    assert_eq!(plan.entry("bn.gamma").expect("there").steps, ["cast from F16"]);
    plan.apply(&mut model).expect("applied");
    let before = bits(&model);
    assert!(before.iter().all(|(_, _, dtype, _)| dtype == "F32"));
    let strict = LoadConfig::new().with_casting(false).plan(&opened, &model).expect("a plan");
    assert!(matches!(strict.apply(&mut model), Err(LoadError::Refused { .. })));
    assert_eq!(bits(&model), before);
}

#[test]
fn a_wrong_reference_output_puts_the_model_back() {
    let references = references();
    let network = &references["network"];
    let (inputs, shape) = recorded(&network["inputs"]);
    let inputs = Tensor::<4>::from_data(TensorData::new(inputs, shape), &Device::flex());
    let (_folder, path) = file(&unhex(&network["zip"]));
    let opened = Checkpoint::open(&path).expect("a checkpoint");
    let mut model = Small::new(3, 5);
    let before = bits(&model);
    let plan = LoadConfig::new().plan(&opened, &model).expect("a plan");
    for expected in [vec![0.0; 10], vec![f32::NAN; 10], vec![0.0; 3]] {
        let outcome = plan.apply_with_reference(&mut model, &expected, 1e-3, |model| {
            model.forward(inputs.clone()).into_data()
        });
        assert!(matches!(outcome, Err(LoadError::Reference { .. })), "{outcome:?}");
        assert_eq!(bits(&model), before, "running statistics too");
    }
    assert!(
        plan.apply_with_reference(&mut model, &[], f64::NAN, |_| TensorData::from([0f32])).is_err()
    );
    assert_eq!(values(&model, "bn.running_mean"), [0.0; 4]);
}
