//! The battery: what every optimizer must do, run over every card.

use super::*;
use crate::testing;
use crate::{DecayOn, Walk};
use burn::optim::Optimizer;
use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};

fn each(check: impl Fn(&RuleCard, Elementwise)) {
    for card in CARDS {
        let optimizer = card.create(&Value::Null).expect("defaults are valid");
        check(card, optimizer);
    }
}

#[test]
fn names_are_unique_and_configurations_survive_json() {
    for card in CARDS {
        assert_eq!(super::card(card.name).expect("known").title, card.title);
        let defaults = card.defaults();
        assert!(defaults.as_object().is_some_and(|fields| !fields.is_empty()), "{}", card.name);
        let text = defaults.to_string();
        let back: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            card.create(&back).expect("valid").name(),
            card.create(&Value::Null).expect("valid").name()
        );
        let error = card.create(&serde_json::json!({"no_such_field": 1})).expect_err("refused");
        assert!(error.to_string().contains("no field `no_such_field`"), "{error}");
        assert!(catalog().contains(card.formula));
    }
    assert!(create("nothing", &Value::Null).expect_err("refused").to_string().contains("adamw"));
}

#[test]
fn every_rule_descends_a_parabola() {
    each(|card, optimizer| {
        let f = |x: &[f64]| 0.5 * x[0] * x[0] + 2.0 * x[1] * x[1];
        let mut walk = Walk::new(&optimizer, &[1.0, -0.5]);
        let rate = if card.name == "adadelta" { 10.0 } else { card.lr.clamp(1e-2, 0.1) };
        let before = f(walk.point());
        for _ in 0..100 {
            let x = walk.point().to_vec();
            walk.step(rate, &[x[0], 4.0 * x[1]]);
        }
        let after = f(walk.point());
        assert!(after < 0.95 * before, "{}: {before} to {after}", card.name);
    });
}

#[test]
fn no_gradient_value_panics_and_small_ones_stay_finite() {
    let device = Device::flex();
    each(|card, optimizer| {
        let line = |value: f32| Tensor::<2>::full([2, 3], value, &device);
        for value in [0.0, 1e-45, -1e-38, 1e-20, 1.0, 1e18, f32::INFINITY, f32::NAN] {
            let (mut p, mut state) = (line(1.0), None);
            for _ in 0..3 {
                let (new, next) = optimizer.step(1e-3, p, line(value), state.take());
                (p, state) = (new, next);
            }
            let values: Vec<f32> = p.into_data().try_into_vec().expect("f32");
            assert_eq!(values.len(), 6);
            if value.abs() <= 1e18 {
                assert!(
                    values.iter().all(|v| v.is_finite()),
                    "{} at {value}: {values:?}",
                    card.name
                );
            }
        }
    });
}

#[test]
fn every_shape_is_kept() {
    let device = Device::flex();
    fn shape<const D: usize>(optimizer: &Elementwise, dims: [usize; D], device: &Device) {
        let p = Tensor::<D>::ones(dims, device);
        let (mut p, mut state) = (p.clone(), None);
        for _ in 0..2 {
            let (new, next) = optimizer.step(1e-3, p.clone(), p.ones_like(), state.take());
            (p, state) = (new, next);
            assert_eq!(p.dims(), dims, "{}", optimizer.name());
        }
    }
    each(|_, optimizer| {
        let scalar = Tensor::<1>::ones([1], &device).reshape::<0, _>([] as [i32; 0]);
        let (scalar, _) = optimizer.step(1e-3, scalar.clone(), scalar, None);
        assert!(scalar.dims().is_empty(), "{}", optimizer.name());
        shape(&optimizer, [0], &device);
        shape(&optimizer, [1], &device);
        shape(&optimizer, [3, 0], &device);
        shape(&optimizer, [3, 2], &device);
        shape(&optimizer, [1, 5], &device);
        shape(&optimizer, [2, 3, 4], &device);
        shape(&optimizer, [2, 3, 2, 2], &device);
        shape(&optimizer, [1, 2, 1, 2, 1], &device);
        shape(&optimizer, [2, 1, 2, 1, 2, 1], &device);
    });
}

#[test]
fn views_with_strides_step_as_their_copies() {
    let device = Device::flex();
    each(|card, optimizer| {
        let p = Tensor::<2>::from_data([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], &device);
        let g = p.clone() * 0.1 - 0.25;
        let (a, _) = optimizer.step(1e-2, p.clone().transpose(), g.clone().transpose(), None);
        let copy = |t: Tensor<2>| {
            let values: Vec<f32> = t.clone().into_data().try_into_vec().expect("f32");
            Tensor::<2>::from_data(TensorData::new(values, t.dims()), &device)
        };
        let (b, _) = optimizer.step(1e-2, copy(p.transpose()), copy(g.transpose()), None);
        a.into_data().assert_eq(&b.into_data(), true);
        let _ = card;
    });
}

#[test]
fn tensor_operations_and_both_doors_agree() {
    each(|card, optimizer| {
        let device = Device::flex();
        let optimizer = optimizer.with_decay_on(DecayOn::All);
        let mut models = [0; 3].map(|_| testing::net(&device.clone().autodiff()));
        let mut fused = optimizer.fused();
        let mut burn = optimizer.init();
        let mut ops = optimizer.clone().with_fused_pass(false).fused();
        for k in 0..4 {
            let [a, b, c] = models.each_ref().map(|model| testing::grads(model, k));
            let [x, y, z] = models;
            models = [fused.step(1e-2, x, a), burn.step(1e-2, y, b), ops.step(1e-2, z, c)];
        }
        let [a, b, c] = models.each_ref().map(testing::values);
        assert_eq!(a, b, "{}", card.name);
        for (a, c) in a.iter().zip(&c) {
            assert!((a - c).abs() <= 4e-6 * a.abs().max(1.0), "{}: {a} {c}", card.name);
        }
    });
}

#[test]
fn saving_and_resuming_is_exact() {
    each(|card, optimizer| {
        let mut model = testing::net(&Device::flex().autodiff());
        let mut fused = optimizer.fused();
        for k in 0..2 {
            let grads = testing::grads(&model, k);
            model = fused.step(1e-2, model, grads);
        }
        let bytes = fused.into_bytes().expect("bytes");
        let mut again = optimizer.fused().from_bytes(bytes.clone(), &model).expect("loads");
        let mut burn = optimizer.init_for(&model).from_bytes(bytes).expect("loads");
        let grads = [0; 3].map(|_| testing::grads(&model, 7));
        let [a, b, c] = grads;
        let one = testing::values(&fused.step(1e-2, model.clone(), a));
        assert_eq!(one, testing::values(&again.step(1e-2, model.clone(), b)), "{}", card.name);
        let last = testing::values(&burn.step(1e-2, model, c));
        let same = one.iter().zip(&last).all(|(a, b)| a == b);
        // Rules that ask whether a vector decays see its role through one door and its rank through the other.
        assert!(same, "{}", card.name);
    });
}

#[test]
fn half_precision_parameters_keep_their_type() {
    each(|card, optimizer| {
        for dtype in [DType::F16, DType::BF16] {
            let p = Tensor::<2>::ones([2, 2], (&Device::flex(), dtype));
            let (mut p, mut state) = (p.clone(), None);
            for _ in 0..3 {
                let g = p.ones_like() * 0.5;
                let (new, next) = optimizer.step(1e-2, p, g, state.take());
                (p, state) = (new, next);
            }
            assert_eq!(p.dtype(), dtype, "{}", card.name);
            let values: Vec<f32> = p.into_data().convert::<f32>().try_into_vec().expect("f32");
            assert!(values.iter().all(|v| v.is_finite()), "{}", card.name);
        }
    });
}

#[test]
fn maximizing_climbs() {
    each(|card, optimizer| {
        let mut down = Walk::new(&optimizer.clone().without_decay(), &[1.0]);
        let mut up = Walk::new(&optimizer.without_decay().with_maximize(true), &[1.0]);
        for _ in 0..3 {
            down.step(1e-2, &[0.3]);
            up.step(1e-2, &[-0.3]);
        }
        assert!((down.point()[0] - up.point()[0]).abs() < 1e-12, "{}", card.name);
    });
}

#[test]
fn a_large_tensor_in_many_chunks_steps_as_small_ones() {
    // The chunks of the pass must not be seen: 100,003 elements against single ones.
    let device = Device::flex();
    each(|card, optimizer| {
        if !optimizer.is_elementwise() {
            return;
        }
        let n = 100_003;
        let p = Tensor::<1>::random([n], Distribution::Normal(0.0, 1.0), &device);
        let g = Tensor::<1>::random([n], Distribution::Normal(0.0, 1.0), &device);
        let (mut whole, mut state) = (p.clone(), None);
        let mut parts = Vec::new();
        for _ in 0..2 {
            let (new, next) = optimizer.step(1e-2, whole, g.clone(), state.take());
            (whole, state) = (new, next);
        }
        for at in [0usize, 1, 32_767, 32_768, 65_535, 65_536, 99_999, n - 1] {
            let (mut one, mut state) = (p.clone().narrow(0, at, 1), None);
            for _ in 0..2 {
                let (new, next) =
                    optimizer.step(1e-2, one, g.clone().narrow(0, at, 1), state.take());
                (one, state) = (new, next);
            }
            parts.push((
                one.into_scalar::<f32>(),
                whole.clone().narrow(0, at, 1).into_scalar::<f32>(),
            ));
        }
        assert!(parts.iter().all(|(a, b)| a == b), "{}: {parts:?}", card.name);
    });
}
