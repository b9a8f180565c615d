//! burn's L-BFGS as this crate gives it on: minima in closed form, and its record.

use crate::{LBFGS, LBFGSConfig, LineSearchFn};
use burn::module::Param;
use burn::nn::Linear;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};

/// A and b of f(w) = w A w / 2 - b w, whose least value -8.5 lies at A^-1 b = (1, -2, 0.5).
const A: [[f32; 3]; 3] = [[4.0, 1.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, 20.0]];
const B: [[f32; 1]; 3] = [[2.0], [-5.0], [10.0]];

fn start() -> Linear {
    let weight = Param::from_data([[-3.0f32], [4.0], [2.0]], &Device::flex().autodiff());
    Linear { weight, bias: None }
}

fn quadratic(model: Linear) -> (f64, GradientsParams) {
    let device = Device::flex().autodiff();
    let (a, b) = (Tensor::<2>::from_floats(A, &device), Tensor::<2>::from_floats(B, &device));
    let w = model.weight.val();
    let along = a.matmul(w.clone()).mul_scalar(0.5) - b;
    let loss = (w * along).sum();
    let value = loss.clone().into_scalar::<f64>();
    (value, GradientsParams::from_grads(loss.backward(), &model))
}

fn weights(model: &Linear) -> Vec<f32> {
    model.weight.val().into_data().try_into_vec().expect("f32")
}

fn searching() -> LBFGS {
    LBFGSConfig::new().with_line_search_fn(LineSearchFn::StrongWolfe).init()
}

#[test]
fn a_quadratic_is_minimized_to_its_closed_form() {
    let (mut optimizer, mut model, mut loss) = (searching(), start(), f64::NAN);
    for _ in 0..3 {
        (model, loss) = optimizer.step(1.0, model, quadratic);
    }
    assert!((loss + 8.5).abs() < 1e-5, "{loss}");
    for (seen, expected) in weights(&model).iter().zip([1.0, -2.0, 0.5]) {
        assert!((seen - expected).abs() < 1e-3, "{:?}", weights(&model));
    }
    assert!(model.weight.is_require_grad(), "it can be trained on");
}

/// Without a search the first step is min(1, 1 / |g|_1) lr along -g: g = (-10, 14, 30) at the start.
#[test]
fn one_step_without_a_search_by_hand() {
    let mut plain = LBFGSConfig::new().with_max_iter(1).init();
    let (model, _) = plain.step(0.5, start(), quadratic);
    let expected = [-3.0 + 5.0 / 54.0, 4.0 - 7.0 / 54.0, 2.0 - 15.0 / 54.0];
    for (seen, expected) in weights(&model).iter().zip(expected) {
        assert!((seen - expected).abs() < 1e-6, "{seen} for {expected}");
    }
}

#[test]
fn resuming_from_bytes_is_exact() {
    let config = LBFGSConfig::new().with_max_iter(2);
    let mut whole = config.init();
    let (model, _) = whole.step(0.1, start(), quadratic);
    let bytes = whole.into_bytes().expect("bytes");
    let mut resumed = config.init().from_bytes(bytes).expect("loads");
    let (one, _) = whole.step(0.1, model.clone(), quadratic);
    let (two, _) = resumed.step(0.1, model, quadratic);
    assert_eq!(weights(&one), weights(&two));
}
