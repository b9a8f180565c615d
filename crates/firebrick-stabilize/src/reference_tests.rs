//! Against torch and timm: weights in other coordinates, rules per unit, curvature, logits, identity kernels.

use crate::units::values;
use crate::*;
use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::conv::{Conv1dConfig, Conv2dConfig, Conv3dConfig, ConvTranspose2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use firebrick_backend::testing::devices;
use firebrick_core::Seed;
use serde_json::Value;

/// Made by torch 2.15 and timm 1.0.31; see tests/references/stabilize_layers.py.
const GOLDEN: &str = include_str!("../../../tests/references/stabilize_layers.json");

fn cases(name: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(GOLDEN).expect("parses");
    file[name].as_array().expect("a list").clone()
}

fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().expect("a list").iter();
    list.map(|number| number.as_f64().expect("a number")).collect()
}

fn shape(case: &Value) -> Vec<usize> {
    numbers(&case["shape"]).into_iter().map(|size| size as usize).collect()
}

fn tensor<const D: usize>(numbers: Vec<f64>, shape: &[usize], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(numbers, shape.to_vec()), device)
}

/// Checks `found` to a share of the largest of what was recorded.
#[track_caller]
fn close(what: &str, found: &[f64], recorded: &Value, share: f64) {
    let recorded = numbers(recorded);
    assert_eq!(found.len(), recorded.len(), "{what}");
    let largest = recorded.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    for (found, recorded) in found.iter().zip(recorded) {
        let gap = (found - recorded).abs();
        assert!(gap <= share * largest + 1e-30, "{what}: {found} {recorded}");
    }
}

/// The gradients of a reparameterization's own parameters.
struct Own<'a>(&'a Gradients, Vec<f64>);

impl ModuleVisitor for Own<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.1.extend(param.val().grad(self.0).map(values).unwrap_or_default());
    }
}

/// A layer against its recorded case; `swapped` where burn stores the first two axes the other way round than torch.
fn layer<M: Module, const D: usize>(
    case: &Value,
    mut model: M,
    weight: fn(&mut M) -> &mut Param<Tensor<D>>,
    swapped: bool,
) {
    let swap = |tensor: Tensor<D>| if swapped { tensor.swap_dims(0, 1) } else { tensor };
    let device = weight(&mut model).val().device();
    let read = |name: &str| swap(tensor(numbers(&case[name]), &shape(case), &device));
    let write = |tensor: Tensor<D>| values(swap(tensor));
    *weight(&mut model) = Param::from_tensor(read("weight"));
    let slopes = read("slopes");
    let all = Select::path("weight");
    let reparameterized = [
        ("weight_norm", normalize_weights(model.clone(), &all)),
        // As many steps as bring sigma to f32's last digits.
        ("spectral_norm", spectral_norm(model.clone(), &all, 300)),
        ("standardized", standardize_weights(model.clone(), &all, 1e-6)),
    ];
    for (name, made) in reparameterized {
        let mut made = made.expect("fits");
        let weight = weight(&mut made);
        let value = weight.val();
        let recorded = &case[name];
        close(name, &write(value.clone()), &recorded[0], 2e-6);
        let gradients = (value * slopes.clone()).sum().backward();
        let base = weight.base().grad(&gradients).expect("tracked");
        close(name, &write(base), &recorded[1], 2e-5);
        if let Some(norm) = weight.reparameterization::<WeightNorm>() {
            let mut own = Own(&gradients, Vec::new());
            norm.visit(&mut own);
            close(name, &own.1, &recorded[2], 2e-6);
        }
    }
    let id = weight(&mut model).id;
    let agc = AdaptiveClipConfig::new().with_clipping(0.05).init().expect("valid");
    let changed = |guard: &mut dyn FnMut(&mut GradientsParams)| {
        let mut gradients = GradientsParams::new();
        gradients.register::<D>(id, slopes.clone().inner());
        guard(&mut gradients);
        write(gradients.get::<D>(id).expect("present"))
    };
    let clipped = changed(&mut |gradients| {
        agc.clone().before_step(&model, gradients, 0.0);
    });
    close("agc", &clipped, &case["agc"], 1e-6);
    let centred = changed(&mut |gradients| {
        CentralizeGradients.before_step(&model, gradients, 0.0);
    });
    close("centralized", &centred, &case["centralized"], 1e-6);
}

#[test]
fn layers_are_those_of_torch_and_timm() {
    for device in devices() {
        let device = device.autodiff();
        for case in cases("layers") {
            let shape = shape(&case);
            match (case["kind"].as_str(), shape.as_slice()) {
                (Some("linear"), &[units, inputs]) => {
                    let linear = LinearConfig::new(inputs, units).init(&device);
                    layer(&case, linear, |linear| &mut linear.weight, true);
                }
                (Some("conv"), &[units, inputs, height, width]) => {
                    let conv = Conv2dConfig::new([inputs, units], [height, width]);
                    layer(&case, conv.init(&device), |conv| &mut conv.weight, false);
                }
                (_, &[inputs, units, height, width]) => {
                    let conv = ConvTranspose2dConfig::new([inputs, units], [height, width]);
                    layer(&case, conv.init(&device), |conv| &mut conv.weight, false);
                }
                (kind, shape) => panic!("{kind:?} {shape:?}"),
            }
        }
    }
}

#[test]
fn curvature_is_that_of_the_exact_hessian() {
    for device in devices() {
        let device = device.autodiff();
        for case in cases("curvature") {
            let vector = numbers(&case["vector"]);
            let layer = |from: usize, inputs: usize, outputs: usize| -> Linear {
                let middle = from + inputs * outputs;
                let mut layer = LinearConfig::new(inputs, outputs).init(&device);
                let weight = vector[from..middle].to_vec();
                let bias = vector[middle..middle + outputs].to_vec();
                layer.weight = Param::from_tensor(tensor(weight, &[inputs, outputs], &device));
                layer.bias = Some(Param::from_tensor(tensor(bias, &[outputs], &device)));
                layer
            };
            let net = vec![layer(0, 5, 7), layer(42, 7, 3)];
            let inputs: Tensor<2> = tensor(numbers(&case["inputs"]), &[20, 5], &device);
            let targets: Tensor<2> = tensor(numbers(&case["targets"]), &[20, 3], &device);
            let loss = |net: &Vec<Linear>| {
                let outputs = net[1].forward(net[0].forward(inputs.clone()).tanh());
                (outputs - targets.clone()).square().mean()
            };
            let probe = CurvatureConfig::new().with_iterations(40).init().expect("valid");
            let product = probe.product(&net, loss, &numbers(&case["direction"]));
            close("product", &product.expect("smooth"), &case["product"], 1e-3);
            let spectrum = probe.spectrum(&net, loss).expect("smooth");
            let exact = numbers(&case["eigenvalues"]);
            let (low, high) = (exact[0], exact[exact.len() - 1]);
            assert!((spectrum.min - low).abs() < 1e-3 * high, "{} {low}", spectrum.min);
            assert!((spectrum.max - high).abs() < 1e-3 * high, "{} {high}", spectrum.max);
            let below = exact.iter().filter(|&&value| value < -1e-3).count();
            assert!((1..=below).contains(&spectrum.index()), "{} of {below}", spectrum.index());
        }
    }
}

#[test]
fn the_z_loss_and_its_gradient_are_torchs() {
    for device in devices() {
        for case in cases("z_loss") {
            let logits = numbers(&case["logits"]);
            let logits = tensor::<2>(logits, &shape(&case), &device.clone().autodiff());
            let logits = logits.require_grad();
            let loss = z_loss(logits.clone(), 0.01).expect("valid");
            close("loss", &values(loss.clone()), &serde_json::json!([case["loss"]]), 1e-6);
            let gradient = logits.grad(&loss.backward()).expect("tracked");
            close("gradient", &values(gradient), &case["gradient"], 1e-5);
        }
    }
}

#[test]
fn identity_kernels_are_those_of_dirac() {
    let device = Device::flex();
    let rules = Initialize::new(Seed(1)).weights(Scheme::Identity { gain: 1.0 });
    for case in cases("dirac") {
        let found = match *shape(&case) {
            [units, inputs, size] => {
                let conv = Conv1dConfig::new(inputs, units, size).init(&device);
                values(rules.apply(conv).expect("fits").weight.val())
            }
            [units, inputs, height, width] => {
                let conv = Conv2dConfig::new([inputs, units], [height, width]).init(&device);
                values(rules.apply(conv).expect("fits").weight.val())
            }
            [units, inputs, depth, height, width] => {
                let conv = Conv3dConfig::new([inputs, units], [depth, height, width]);
                values(rules.apply(conv.init(&device)).expect("fits").weight.val())
            }
            _ => panic!("{case}"),
        };
        close("dirac", &found, &case["weight"], 0.0);
    }
}
