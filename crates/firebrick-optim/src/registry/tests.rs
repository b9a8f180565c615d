//! The battery: what every optimizer must do, run over every card.

use super::*;
use crate::testing;
use crate::{DecayOn, Walk};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsParams, Optimizer};
use burn::tensor::{DType, Device, Distribution, Int, Tensor, TensorData};
use serde_json::json;

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

/// The signatures of `torch.optim` 2.15, in this crate's words; weight decay is the one of its default.
#[test]
fn defaults_are_those_of_pytorch() {
    let adam = json!({"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8, "weight_decay": 0.0});
    let with = |mut base: Value, more: Value| {
        let fields = base.as_object_mut().expect("an object");
        fields.extend(more.as_object().cloned().expect("an object"));
        base
    };
    let (coupled, off) = (json!({"decoupled": false}), json!({"amsgrad": "Off"}));
    for (name, lr, fields) in [
        (
            "sgd",
            1e-3,
            json!({"momentum": 0.0, "dampening": 0.0, "nesterov": false, "weight_decay": 0.0}),
        ),
        ("adam", 1e-3, with(adam.clone(), off.clone())),
        ("adamw", 1e-3, with(with(adam.clone(), off), json!({"weight_decay": 0.01}))),
        ("adamax", 2e-3, adam.clone()),
        ("nadam", 2e-3, with(with(adam.clone(), coupled.clone()), json!({"momentum_decay": 4e-3}))),
        ("radam", 1e-3, with(adam, coupled)),
        (
            "adagrad",
            1e-2,
            json!({"lr_decay": 0.0, "initial": 0.0, "epsilon": 1e-10, "weight_decay": 0.0}),
        ),
        (
            "rmsprop",
            1e-2,
            json!({"alpha": 0.99, "epsilon": 1e-8, "momentum": 0.0, "centered": false}),
        ),
        ("adadelta", 1.0, json!({"rho": 0.9, "epsilon": 1e-6, "weight_decay": 0.0})),
        (
            "rprop",
            1e-2,
            json!({"eta_minus": 0.5, "eta_plus": 1.2, "step_min": 1e-6, "step_max": 50.0}),
        ),
        ("asgd", 1e-2, json!({"lambda": 1e-4, "alpha": 0.75, "t0": 1e6, "weight_decay": 0.0})),
        (
            "adafactor",
            1e-2,
            json!({"decay": -0.8, "epsilon": null, "epsilon_scale": 1e-3, "threshold": 1.0,
            "weight_decay": 0.0}),
        ),
        (
            "muon",
            1e-3,
            json!({"momentum": 0.95, "nesterov": true, "steps": 5, "epsilon": 1e-7, "scale": "Original",
            "weight_decay": 0.1, "coefficients": [3.4445, -4.775, 2.0315]}),
        ),
    ] {
        let card = super::card(name).expect("known");
        assert_eq!(card.lr, lr, "{name}");
        let defaults = card.defaults();
        for (field, value) in fields.as_object().expect("an object") {
            assert_eq!(&defaults[field], value, "{name}: {field}");
        }
    }
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

/// Long enough that rules which wait for gradients have moved.
const STEPS: usize = 13;

#[test]
fn no_gradient_value_panics_and_small_ones_stay_finite() {
    each(|card, optimizer| {
        let ops = optimizer.clone().with_fused_pass(false);
        for (rule, dtype) in [
            (&optimizer, DType::F32),
            (&ops, DType::F32),
            (&optimizer, DType::F64),
            (&optimizer, DType::F16),
            (&optimizer, DType::BF16),
        ] {
            let full = |value: f64| Tensor::<2>::full([2, 3], value, (&Device::flex(), dtype));
            let largest = if dtype == DType::F16 { 1e4 } else { 1e18 };
            for value in [0.0, 1e-45, -1e-38, 1e-20, 1.0, largest, f64::INFINITY, f64::NAN] {
                let (mut p, mut state) = (full(1.0), None);
                for k in 0..STEPS {
                    // One element of another kind, so that not all rows are alike.
                    let g = full(value).slice_assign([0..1, 1..2], full(0.5).slice([0..1, 0..1]));
                    let g = if k == 3 { full(value) } else { g };
                    let (new, next) = rule.step(1e-3, p, g, state.take());
                    (p, state) = (new, next);
                }
                let values: Vec<f64> =
                    p.into_data().convert::<f64>().try_into_vec().expect("numbers");
                assert_eq!(values.len(), 6);
                let fine = value.abs() > largest || value.is_nan();
                let finite = values.iter().all(|v| v.is_finite());
                assert!(fine || finite, "{} {dtype:?} at {value}: {values:?}", card.name);
            }
        }
    });
}

#[test]
fn a_gradient_that_is_not_finite_stays_with_its_parameter() {
    each(|card, optimizer| {
        // Those that share an estimate cannot but pass it on.
        if optimizer.rule().shared().is_some() {
            return;
        }
        let device = Device::flex();
        let layers = |device: &Device| {
            let layer = burn::nn::LinearConfig::new(2, 2).with_bias(false).init(device);
            let other = burn::nn::LinearConfig::new(2, 2).with_bias(false).init(device);
            vec![layer, other]
        };
        for value in [f32::NAN, f32::INFINITY] {
            let mut model = layers(&device);
            let mut fused = optimizer.fused();
            for _ in 0..STEPS {
                let mut grads = burn::optim::GradientsParams::new();
                grads.register(model[0].weight.id, Tensor::<2>::full([2, 2], value, &device));
                grads.register(model[1].weight.id, Tensor::<2>::ones([2, 2], &device));
                model = fused.step(1e-3, model, grads);
            }
            let other = testing::values(&model[1]);
            assert!(other.iter().all(|x| x.is_finite()), "{}: {other:?}", card.name);
        }
    });
}

#[test]
fn every_field_of_every_configuration_is_checked() {
    for card in CARDS {
        let defaults = card.defaults();
        for (field, default) in defaults.as_object().expect("an object") {
            let with = |value: Value| {
                card.create(&Value::Object([(field.clone(), value)].into_iter().collect()))
            };
            let error = with("moon".into()).expect_err("refused").to_string();
            assert!(error.contains(&format!("`{field}`")), "{} {field}: {error}", card.name);
            let mut accepted = 0;
            let reals = [-1e300, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, 1e300].map(Value::from);
            let wholes = [-1, 0, 1, 3].map(Value::from);
            let values = if default.is_u64() { &wholes[..] } else { &reals[..] };
            for value in values {
                // What is accepted runs, whatever comes out.
                let Ok(optimizer) = with(value.clone()) else { continue };
                accepted += 1;
                let p = Tensor::<2>::ones([2, 2], &Device::flex());
                let (p, state) = optimizer.step(1e-3, p.clone(), p, None);
                let _ = optimizer.step(1e-3, p.clone(), p, state);
            }
            if default.is_f64() {
                assert!(accepted > 0 && accepted < 8, "{} {field}: {accepted}", card.name);
            }
        }
    }
}

#[test]
fn the_memory_is_what_the_catalog_says() {
    for card in CARDS {
        let optimizer = card.create(&Value::Null).expect("valid");
        let n = 128;
        let lengths = optimizer.state_lengths(&[n, n]);
        let bytes = 4.0 * lengths.iter().sum::<usize>() as f64 / (n * n) as f64;
        let said: Vec<f64> = card
            .state_bytes
            .split(' ')
            .filter_map(|word| word.trim_matches(',').parse().ok())
            .collect();
        let fits = if card.state_bytes.starts_with("below") {
            bytes < said[0]
        } else {
            said.iter().any(|said| (bytes - said).abs() < 0.01)
        };
        assert!(fits, "{}: {bytes} bytes, the card says {}", card.name, card.state_bytes);
    }
}

#[test]
fn rules_that_need_sums_over_the_tensor_read_it_twice() {
    let twice = CARDS.iter().filter(|card| {
        let optimizer = card.create(&Value::Null).expect("valid");
        optimizer.passes() == 2
    });
    let names: Vec<_> = twice.map(|card| card.name).collect();
    assert_eq!(names, ["lars", "lamb", "stableadamw", "cautiousadamw", "cautiouslion", "mars"]);
}

#[test]
fn each_rule_steps_its_group_alone() {
    use burn::module::ParamGroup;
    each(|card, optimizer| {
        let run = |grouped: bool| {
            let mut model = testing::net(&Device::flex().autodiff());
            let mut fused = if grouped {
                let sgd = crate::SgdConfig::new().build().expect("valid");
                let group = ParamGroup::from_regex("^linear").expect("regex");
                sgd.fused().with_group("linear", group, optimizer.clone())
            } else {
                optimizer.fused()
            };
            for k in 0..3 {
                let grads = testing::grads(&model, k);
                model = fused.step(1e-2, model, grads);
            }
            testing::named(&model)
        };
        // Rules that share an estimate share it with fewer here.
        if optimizer.rule().shared().is_some() {
            return;
        }
        let (alone, whole) = (run(true), run(false));
        for ((path, a), (_, b)) in alone.iter().zip(&whole) {
            assert!(!path.starts_with("linear") || a == b, "{} {path}", card.name);
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

/// A parameter of each rank up to 6, and one without elements.
#[derive(Module, Debug)]
struct Ranks {
    r0: Param<Tensor<0>>,
    r1: Param<Tensor<1>>,
    r2: Param<Tensor<2>>,
    r3: Param<Tensor<3>>,
    r4: Param<Tensor<4>>,
    r5: Param<Tensor<5>>,
    r6: Param<Tensor<6>>,
    empty: Param<Tensor<2>>,
}

impl Ranks {
    fn new(device: &Device) -> Self {
        fn param<const D: usize>(shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
            let values: Vec<f32> = (1..=shape.iter().product()).map(|k: usize| k as f32).collect();
            Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), device))
        }
        Self {
            // burn makes no tensor of rank 0, but gives one.
            r0: Param::from_tensor(Tensor::<1>::ones([1], device).reshape([] as [i32; 0])),
            r1: param([3], device),
            r2: param([2, 3], device),
            r3: param([2, 1, 2], device),
            r4: param([2, 2, 1, 2], device),
            r5: param([1, 2, 1, 2, 1], device),
            r6: param([2, 1, 2, 1, 2, 1], device),
            empty: param([3, 0], device),
        }
    }

    fn shapes(&self) -> Vec<Vec<usize>> {
        firebrick_backend::parameters(self).into_iter().map(|parameter| parameter.shape).collect()
    }
}

/// The same gradient for every element of every parameter.
struct Constant(GradientsParams, f32);

impl ModuleVisitor for Constant {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val().inner();
        self.0.register::<D>(param.id, (value.clone() - value).add_scalar(self.1));
    }
}

#[test]
fn every_rank_takes_every_gradient_through_both_doors() {
    let device = Device::flex().autodiff();
    let shapes = Ranks::new(&device).shapes();
    assert_eq!(shapes.iter().map(Vec::len).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 2]);
    each(|card, optimizer| {
        for value in [0.3, -1e-45, 1e18, f32::INFINITY, f32::NAN] {
            let (mut one, mut two) = (Ranks::new(&device), Ranks::new(&device));
            let (mut fused, mut burn) = (optimizer.fused(), optimizer.init());
            for k in 0..3 {
                let grads = |model: &Ranks| {
                    let mut given =
                        Constant(GradientsParams::new(), if k == 1 { 0.5 } else { value });
                    model.visit(&mut given);
                    given.0
                };
                let (left, right) = (grads(&one), grads(&two));
                (one, two) = (fused.step(1e-3, one, left), burn.step(1e-3, two, right));
            }
            assert_eq!((one.shapes(), two.shapes()), (shapes.clone(), shapes.clone()));
            let bits = |model: &Ranks| -> Vec<u32> {
                testing::values(model).into_iter().map(f32::to_bits).collect()
            };
            // An estimate that is shared in one door is each tensor's own in the other.
            if optimizer.rule().shared().is_none() {
                assert_eq!(bits(&one), bits(&two), "{} at {value}", card.name);
            }
            if value.is_finite() {
                let finite =
                    |model: &Ranks| testing::values(model).iter().all(|value| value.is_finite());
                assert!(finite(&one) && finite(&two), "{} at {value}", card.name);
            }
        }
    });
}

#[test]
fn views_step_as_their_copies_through_both_doors() {
    let device = Device::flex();
    let line = Tensor::<1, Int>::arange(0..60, &device).float() * 0.1 + 0.3;
    let block = line.clone().reshape([3, 4, 5]);
    let grad = block.clone() * -0.2 + 1.0;
    let permuted = |t: &Tensor<3>| t.clone().permute([2, 0, 1]);
    let part = |t: &Tensor<3>| t.clone().slice([1..3, 1..4, 2..5]);
    let spread = line.narrow(0, 0, 5).reshape([1, 1, 5]).expand([3, 4, 5]);
    let copy = |t: &Tensor<3>| {
        let values: Vec<f32> = t.clone().into_data().try_into_vec().expect("f32");
        Tensor::<3>::from_data(TensorData::new(values, t.dims()), &device)
    };
    for (p, g) in [
        (permuted(&block), permuted(&grad)),
        (part(&block), part(&grad)),
        (permuted(&block), copy(&permuted(&grad))),
        (block.clone(), spread),
    ] {
        each(|card, optimizer| {
            let (a, _) = optimizer.step(1e-2, p.clone(), g.clone(), None);
            let (b, _) = optimizer.step(1e-2, copy(&p), copy(&g), None);
            a.into_data().assert_eq(&b.clone().into_data(), true);
            let model = vec![Param::from_tensor(p.clone())];
            let mut grads = GradientsParams::new();
            grads.register(model[0].id, g.clone());
            let model = optimizer.fused().step(1e-2, model, grads);
            let (seen, expected) = (testing::values(&model), b.into_data());
            let expected: Vec<f32> = expected.try_into_vec().expect("f32");
            // What is shared is summed in another order there.
            let shared = optimizer.rule().shared().is_some();
            assert!(shared || seen == expected, "{}: {seen:?}, {expected:?}", card.name);
        });
    }
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
        // An estimate that is shared in one door is each tensor's own in the other.
        assert!(optimizer.rule().shared().is_some() || a == b, "{}", card.name);
        for (a, c) in a.iter().zip(&c) {
            assert!((a - c).abs() <= 4e-6 * a.abs().max(1.0), "{}: {a} {c}", card.name);
        }
    });
}

#[test]
fn saving_and_resuming_is_exact() {
    each(|card, optimizer| {
        for dtype in [DType::F32, DType::F64, DType::BF16] {
            let mut model = testing::net_of(&Device::flex().autodiff(), dtype);
            let mut fused = optimizer.fused();
            for k in 0..STEPS as u64 {
                let grads = testing::grads(&model, k);
                model = fused.step(1e-2, model, grads);
            }
            let bytes = fused.into_bytes().expect("bytes");
            let mut again = optimizer.fused().from_bytes(bytes.clone(), &model).expect("loads");
            let mut burn = optimizer.init_for(&model).from_bytes(bytes).expect("loads");
            let [mut one, mut two, mut three] = [0; 3].map(|_| model.clone());
            for k in 0..3 {
                let [a, b, c] = [0; 3].map(|_| testing::grads(&model, 70 + k));
                (one, two, three) =
                    (fused.step(1e-2, one, a), again.step(1e-2, two, b), burn.step(1e-2, three, c));
                let values = testing::values(&one);
                assert_eq!(values, testing::values(&two), "{} {dtype:?}", card.name);
                // An estimate that is shared in one door is each tensor's own in the other.
                if optimizer.rule().shared().is_none() {
                    assert_eq!(values, testing::values(&three), "{} {dtype:?}", card.name);
                }
            }
        }
    });
}

#[test]
fn every_rank_and_what_is_empty_comes_back_from_a_record() {
    let device = Device::flex().autodiff();
    let grads = |model: &Ranks, k: usize| {
        let mut given = Constant(GradientsParams::new(), 0.3 - 0.1 * k as f32);
        model.visit(&mut given);
        given.0
    };
    each(|card, optimizer| {
        for fused_pass in [true, false] {
            let optimizer = optimizer.clone().with_fused_pass(fused_pass);
            let mut model = Ranks::new(&device);
            let mut fused = optimizer.fused();
            for k in 0..STEPS {
                let grads = grads(&model, k);
                model = fused.step(1e-2, model, grads);
            }
            let load = |bytes| {
                let loaded = optimizer.fused().from_bytes(bytes, &model);
                loaded.unwrap_or_else(|error| panic!("{}: {error}", card.name))
            };
            let bytes = fused.into_bytes().expect("bytes");
            let mut again = load(bytes.clone());
            for path in ["r0", "r6", "empty"] {
                assert_eq!(again.steps_of(path), Some(STEPS as u64), "{} {path}", card.name);
            }
            let mut burn = optimizer.init_for(&model).from_bytes(bytes).expect("loads");
            let mut back = load(burn.into_bytes().expect("bytes"));
            let [mut one, mut two, mut three, mut four] = [0; 4].map(|_| model.clone());
            for k in 0..3 {
                let [a, b, c, d] = [0; 4].map(|_| grads(&model, k));
                one = fused.step(1e-2, one, a);
                two = again.step(1e-2, two, b);
                three = burn.step(1e-2, three, c);
                four = back.step(1e-2, four, d);
                let values = testing::values(&one);
                assert_eq!(values, testing::values(&two), "{}", card.name);
                // An estimate that is shared in one door is each tensor's own in the other.
                if optimizer.rule().shared().is_none() {
                    assert_eq!(values, testing::values(&three), "{}", card.name);
                    assert_eq!(values, testing::values(&four), "{}", card.name);
                }
            }
        }
    });
}

#[test]
fn a_state_follows_its_parameter_into_another_float_type() {
    use DType::{BF16, F16, F32, F64};
    each(|card, optimizer| {
        for (from, to) in [(F32, F64), (F64, F32), (F32, F16), (F64, BF16), (BF16, F64)] {
            let mut model = testing::net_of(&Device::flex().autodiff(), from);
            let mut fused = optimizer.fused();
            for k in 0..STEPS as u64 {
                let grads = testing::grads(&model, k);
                model = fused.step(1e-2, model, grads);
            }
            let bytes = fused.into_bytes().expect("bytes");
            let model = model.map(&mut testing::Cast(to));
            let mut again = optimizer.fused().from_bytes(bytes.clone(), &model).expect("loads");
            let mut burn = optimizer.init_for(&model).from_bytes(bytes).expect("loads");
            let [a, b, c] = [0; 3].map(|_| testing::grads(&model, 70));
            let one = testing::values(&fused.step(1e-2, model.clone(), a));
            let two = testing::values(&again.step(1e-2, model.clone(), b));
            let three = testing::values(&burn.step(1e-2, model, c));
            assert!(one.iter().all(|value| value.is_finite()), "{} {from:?} {to:?}", card.name);
            assert_eq!(one, two, "{} {from:?} {to:?}", card.name);
            // An estimate that is shared in one door is each tensor's own in the other.
            if optimizer.rule().shared().is_none() {
                assert_eq!(one, three, "{} {from:?} {to:?}", card.name);
            }
        }
    });
}

#[test]
fn a_value_of_another_kind_is_named_with_its_field() {
    let error = create("adam", &json!({"epsilon": 1e-9, "beta_1": "x"})).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "the configuration of `adam` does not fit: `beta_1` cannot be \"x\": \
        invalid type: string \"x\", expected f64"
    );
    let error = create_from_hyper("adam", &json!({"betas": [[0.9], 0.99]})).expect_err("refused");
    assert!(error.to_string().contains("`beta_1` cannot be [0.9]: invalid type"), "{error}");
    let error = create("muon", &json!({"scale": "moon"})).expect_err("refused");
    assert!(error.to_string().contains("`scale` cannot be \"moon\": unknown variant"), "{error}");
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
    // The chunks of the pass must not be seen: more elements than one core steps alone, against single ones.
    let device = Device::flex();
    each(|card, optimizer| {
        if !optimizer.is_elementwise() {
            return;
        }
        let n = 300_007;
        let p = Tensor::<1>::random([n], Distribution::Normal(0.0, 1.0), &device);
        let g = Tensor::<1>::random([n], Distribution::Normal(0.0, 1.0), &device);
        let (mut whole, mut state) = (p.clone(), None);
        let mut parts = Vec::new();
        for _ in 0..2 {
            let (new, next) = optimizer.step(1e-2, whole, g.clone(), state.take());
            (whole, state) = (new, next);
        }
        for at in [0usize, 1, 32_767, 32_768, 65_536, 150_527, 150_528, n - 1] {
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
