//! What must not depend on the device: masks, changes of images, mixing, penalties and projections, against flex.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::optim::SgdConfig;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use firebrick::backend::testing::devices;
use firebrick::core::names;
use firebrick::prelude::*;
use firebrick::regularize::*;

/// Pixels in [0, 1], none of them at a step of a change with steps.
fn images(n: usize, c: usize, h: usize, w: usize, device: &Device) -> Tensor<4> {
    let count = n * c * h * w;
    let mut generator = Seed(3).stream("pixels");
    let values: Vec<f32> = (0..count).map(|_| generator.uniform() as f32).collect();
    Tensor::from_data(TensorData::new(values, [n, c, h, w]), device)
}

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_to_vec_as().expect("reads")
}

/// Share of the values that differ by more than `bound`.
fn apart(found: &[f32], expected: &[f32], bound: f32) -> f64 {
    assert_eq!(found.len(), expected.len());
    let far = found
        .iter()
        .zip(expected)
        .filter(|(a, b)| (*a - *b).abs().is_nan() || (*a - *b).abs() > bound);
    far.count() as f64 / found.len().max(1) as f64
}

#[test]
fn images_change_alike_on_every_device() {
    let smooth = [
        ImageOp::Shift { max: 3 },
        ImageOp::Crop { min_area: 0.5 },
        ImageOp::FlipHorizontal,
        ImageOp::FlipVertical,
        ImageOp::Rotate { degrees: 45.0 },
        ImageOp::Affine { degrees: 30.0, translate: 0.2, scale: (0.7, 1.3), shear: 15.0 },
        ImageOp::Elastic { alpha: 4.0, sigma: 1.5 },
        ImageOp::Erase { area: (0.05, 0.3), aspect: (0.5, 2.0) },
        ImageOp::Cutout { size: 3 },
        ImageOp::Brightness { max: 0.5 },
        ImageOp::Contrast { max: 0.5 },
        ImageOp::Noise { std: 0.1 },
    ];
    for device in devices() {
        for (c, h, w) in [(3, 9, 7), (1, 8, 8), (4, 5, 12)] {
            for op in &smooth {
                let run = |device: &Device| {
                    let steps = vec![Step::preserving(op.clone()).with_prob(0.8)];
                    let augment = ImageAugment::new(steps, &MaskSource::new(Seed(5)));
                    read(augment.expect("valid").images(images(13, c, h, w, device)))
                };
                let (found, expected) = (run(&device), run(&Device::flex()));
                // Coordinates of a dozen pixels are rounded to 1e-6, and slopes are at most 1 a pixel.
                assert_eq!(apart(&found, &expected, 1e-5), 0.0, "{device:?} {op:?}");
            }
        }
    }
}

#[test]
fn policies_give_the_same_images_on_every_device() {
    let run = |device: &Device| {
        let masks = MaskSource::new(Seed(6));
        let rand = RandAugmentConfig::new().with_magnitude(20).init(&masks).expect("valid");
        let mix = AugMixConfig::new().init(&masks).expect("valid");
        let batch = || images(64, 3, 16, 16, device);
        let all = [
            rand.images(batch()),
            TrivialAugment::new(&masks).images(batch()),
            mix.images(batch()),
        ];
        all.map(read)
    };
    for device in devices() {
        for (found, expected) in run(&device).iter().zip(&run(&Device::flex())) {
            // Posterize, solarize and equalize have steps: a value that another change has rounded the other way may
            // fall on the other side of one.
            let far = apart(found, expected, 1e-4);
            assert!(far < 2e-3, "{device:?}: {far}");
        }
    }
}

#[test]
fn half_precision_and_tracked_images_keep_type_and_place() {
    let steps = vec![Step::preserving(ImageOp::Rotate { degrees: 20.0 })];
    let augment = ImageAugment::new(steps, &MaskSource::new(Seed(5))).expect("valid");
    for device in devices() {
        let tracked = augment.images(images(4, 1, 6, 6, &device.clone().autodiff()));
        assert!(tracked.device().is_autodiff());
        for dtype in [DType::F16, DType::BF16] {
            if !device.supports_dtype(dtype) {
                continue;
            }
            let half = augment.images(images(4, 1, 6, 6, &device).cast(dtype));
            assert_eq!((half.dtype(), half.dims()), (dtype, [4, 1, 6, 6]));
            assert!(read(half).iter().all(|v| (0.0..=1.0).contains(v)));
        }
    }
}

#[test]
fn tables_and_sequences_change_alike_on_every_device() {
    let run = |device: &Device| {
        let masks = MaskSource::new(Seed(7));
        let table = images(40, 1, 1, 6, device).reshape([40, 6]);
        let noise = TableNoiseConfig::new().fit(table.clone(), &masks).expect("valid");
        let config = FeatureDropoutConfig::new().with_prob(0.4);
        let drop = config.fit(table.clone(), &masks).expect("valid");
        let steps = [
            SequenceOp::TimeMask { max: 4 },
            SequenceOp::Jitter { std: 0.1 },
            SequenceOp::Crop { min_share: 0.5 },
        ];
        let steps = steps.map(|op| (op, LabelEffect::Preserves)).to_vec();
        let sequences = SequenceAugment::new(steps, &masks).expect("valid");
        let series = images(20, 1, 9, 3, device).reshape([20, 9, 3]);
        [
            read(noise.rows(table.clone()).expect("fits")),
            read(drop.rows(table).expect("fits")),
            read(sequences.sequences(series)),
        ]
    };
    for device in devices() {
        for (found, expected) in run(&device).iter().zip(&run(&Device::flex())) {
            assert_eq!(apart(found, expected, 1e-6), 0.0, "{device:?}");
        }
    }
}

#[test]
fn batches_mix_alike_on_every_device_tracked_or_not() {
    let run = |device: &Device, per_sample: bool| {
        let masks = MaskSource::new(Seed(8));
        let mixup = MixupConfig::new().with_alpha(0.5).with_per_sample(per_sample);
        let cutmix = CutMixConfig::new().with_per_sample(per_sample);
        let labels = Tensor::<1, Int>::arange(0..7, device);
        let targets = one_hot(labels, 7).expect("inside");
        let batch = images(7, 2, 5, 6, device);
        let mixed = mixup.init(&masks).expect("valid").mix(batch.clone(), targets.clone());
        let cut = cutmix.init(&masks).expect("valid").mix(batch, targets);
        let (mixed, cut) = (mixed.expect("same rows"), cut.expect("same rows"));
        [read(mixed.input), read(mixed.targets), read(cut.input), read(cut.targets)]
    };
    for device in devices() {
        for per_sample in [false, true] {
            let expected = run(&Device::flex(), per_sample);
            for device in [device.clone(), device.clone().autodiff()] {
                for (found, expected) in run(&device, per_sample).iter().zip(&expected) {
                    assert_eq!(apart(found, expected, 1e-6), 0.0, "{device:?}");
                }
            }
        }
    }
}

#[test]
fn masks_are_the_same_on_every_device() {
    let run = |device: &Device| {
        let masks = MaskSource::new(Seed(9));
        let device = device.clone().autodiff();
        let ones = || Tensor::<4>::ones([8, 4, 6, 6], &device);
        let config = InvertedDropoutConfig::new(0.3);
        let inverted = config.init(&masks).expect("valid").forward(ones());
        let config = SpatialDropoutConfig::new(0.3);
        let spatial = config.init(&masks).expect("valid").forward(ones());
        let config = DropBlockConfig::new(0.2).with_block_size(3);
        let block = config.init(&masks).expect("valid").forward(ones());
        let path = DropPathConfig::new(0.3).init(&masks).expect("valid").forward(ones());
        let alpha = AlphaDropoutConfig::new(0.2).init(&masks).expect("valid").forward(ones());
        let config = GaussianDropoutConfig::new(0.3);
        let gaussian = config.init(&masks).expect("valid").forward(ones());
        [inverted, spatial, block, path, alpha, gaussian].map(read)
    };
    for device in devices() {
        for (found, expected) in run(&device).iter().zip(&run(&Device::flex())) {
            assert_eq!(apart(found, expected, 1e-6), 0.0, "{device:?}");
        }
    }
}

#[derive(Module, Debug)]
struct Net {
    linear: Linear,
    conv: Conv2d,
}

impl Net {
    /// The same weights on every device.
    fn new(device: &Device) -> Self {
        let net = Self {
            linear: LinearConfig::new(40, 30).init(device),
            conv: Conv2dConfig::new([4, 9], [3, 3]).init(device),
        };
        firebrick::stabilize::initialize(net, firebrick::stabilize::Scheme::KaimingNormal, Seed(2))
    }

    fn weights(&self) -> Vec<f32> {
        [read(self.linear.weight.val()), read(self.conv.weight.val())].concat()
    }
}

#[test]
fn penalties_and_projections_are_the_same_on_every_device() {
    let run = |device: &Device| {
        let device = device.clone().autodiff();
        let net = || Net::new(&device);
        let term = |term: Option<Tensor<1>>| read(term.expect("has weights"));
        let penalties = [
            term(L2Config::new(0.1).init().expect("valid").term(&net())),
            term(L1Config::new(0.1).init().expect("valid").term(&net())),
            term(OrthogonalConfig::new(0.1).init().expect("valid").term(&net())),
            term(SpectralConfig::new(0.1).init(Seed(4)).expect("valid").term(&net())),
        ];
        let project = |net: Result<Net, RegularizeError>| net.expect("known layers").weights();
        let inputs = GroupLassoConfig::new(3.0).with_groups(LassoGroups::Inputs);
        let projections = [
            project(MaxNormConfig::new().with_max(1.0).init().expect("valid").project(net(), 0.1)),
            project(UnitNormConfig::new().init().project(net(), 0.1)),
            project(NonNegative::new().project(net(), 0.1)),
            project(ProximalL1Config::new(0.5).init().expect("valid").project(net(), 0.1)),
            project(GroupLassoConfig::new(2.0).init().expect("valid").project(net(), 0.1)),
            project(inputs.init().expect("valid").project(net(), 0.1)),
        ];
        (penalties, projections)
    };
    let expected = run(&Device::flex());
    assert!(expected.1[3].iter().filter(|w| **w == 0.0).count() > 50, "true zeros");
    for device in devices() {
        let found = run(&device);
        for (found, expected) in found.0.iter().zip(&expected.0) {
            // A sum of 1500 terms in another order, and 15 power iterations.
            assert!(
                (found[0] / expected[0] - 1.0).abs() < 1e-4,
                "{device:?}: {found:?} {expected:?}"
            );
        }
        for (found, expected) in found.1.iter().zip(&expected.1) {
            assert_eq!(apart(found, expected, 1e-5), 0.0, "{device:?}");
        }
    }
}

#[test]
fn recorded_cases_replay_on_every_device() {
    let files = [
        include_str!("../references/regularize.json"),
        include_str!("../references/regularize_keras.json"),
        include_str!("../references/regularize_random.json"),
    ]
    .map(|text| serde_json::from_str::<serde_json::Value>(text).expect("parses"));
    for device in devices() {
        let gpu = !["Flex", "NdArray"].iter().any(|host| format!("{device:?}").contains(host));
        let mut wrong = Vec::new();
        for (kind, list) in files.iter().flat_map(|file| file.as_object().expect("lists")) {
            for case in list.as_array().expect("a list") {
                let replay = replay_case(case, &device).expect("runs");
                // A GPU's exponentials and sums are a few roundings farther off.
                let allowed = replay.allowed * if gpu { 50.0 } else { 1.0 };
                if replay.max_abs_diff().is_nan() || replay.max_abs_diff() > allowed {
                    wrong.push(format!("{kind} {} {replay:?}", case["name"]));
                }
            }
        }
        assert!(wrong.is_empty(), "{device:?}: {}", wrong.join("\n"));
    }
}

#[test]
fn half_precision_gives_defined_losses_and_gradients() {
    for device in devices() {
        for dtype in [DType::F16, DType::BF16] {
            if !device.supports_dtype(dtype) {
                continue;
            }
            let device = device.clone().autodiff();
            // Sums over this many numbers would overflow in half precision.
            let leaf = || {
                let values = images(300, 1, 1, 300, &device).reshape([300, 300]).mul_scalar(8.0);
                values.cast(dtype).require_grad()
            };
            let masks = MaskSource::new(Seed(3));
            let targets = || one_hot(Tensor::<1, Int>::arange(0..300, &device), 300);
            let rdrop = RDropConfig::new().init().expect("valid");
            let activity = ActivityPenaltyConfig::new(0.1).init().expect("valid");
            let confidence = ConfidencePenaltyConfig::new().init().expect("valid");
            type Loss<'a> = Box<dyn Fn(Tensor<2>) -> Tensor<1> + 'a>;
            let losses: Vec<(&str, Loss<'_>)> = vec![
                (
                    "cross entropy",
                    Box::new(|x| {
                        soft_cross_entropy(x, targets().expect("inside")).expect("same shape")
                    }),
                ),
                (
                    "R-Drop",
                    Box::new(|x| {
                        let targets = targets().expect("inside");
                        rdrop.loss(x.clone(), x, targets).expect("same shape").cross_entropy
                    }),
                ),
                ("FixMatch", Box::new(|x| fixmatch_loss(x.clone(), x, 0.0).expect("valid").loss)),
                (
                    "UDA",
                    Box::new(|x| {
                        uda_loss(x.clone().mul_scalar(2.0), x, 0.4, 0.0).expect("valid").loss
                    }),
                ),
                (
                    "Pi-model",
                    Box::new(|x| {
                        pi_model_loss(x.clone(), x.mul_scalar(2.0)).expect("same shape").loss
                    }),
                ),
                (
                    "mean teacher",
                    Box::new(|x| {
                        mean_teacher_loss(x.clone(), x.mul_scalar(2.0)).expect("same shape").loss
                    }),
                ),
                ("activity", Box::new(|x| activity.term(x))),
                ("confidence", Box::new(|x| confidence.term(x))),
                (
                    "Jensen-Shannon",
                    Box::new(|x| {
                        let other = x.clone().mul_scalar(2.0);
                        jensen_shannon(x.clone(), other, x).expect("same shape")
                    }),
                ),
                (
                    "dropout",
                    Box::new(|x| {
                        let layer = InvertedDropoutConfig::new(0.3).init(&masks).expect("valid");
                        activity.term(layer.forward(x))
                    }),
                ),
                (
                    "mixup",
                    Box::new(|x| {
                        let mixup = MixupConfig::new().init(&masks).expect("valid");
                        activity.term(mixup.plan(300).apply(x).expect("same rows"))
                    }),
                ),
            ];
            for (name, loss) in losses {
                let x = leaf();
                let value = loss(x.clone());
                let gradients = value.clone().backward();
                let value: f32 = read(value)[0];
                assert!(value.is_finite(), "{name} {dtype:?}: {value}");
                let gradient = x.grad(&gradients).expect("reaches the leaf");
                assert_eq!(gradient.dtype(), dtype, "{name}");
                assert!(read(gradient).iter().all(|g| g.is_finite()), "{name} {dtype:?}");
            }
        }
    }
}

/// A penalty, and half its strength times the sum of squares of the weights of a net by hand.
fn decay(strength: f64, net: &crate::net::Net) -> (L2, f64) {
    let squares: f64 = net.weights().iter().map(|weight| weight * weight).sum();
    (L2Config::new(strength).init().expect("valid"), strength / 2.0 * squares)
}

#[test]
fn a_penalty_is_reported_apart_so_that_losses_stay_comparable() {
    for device in devices() {
        let device = device.autodiff();
        // At rate 0 the weights stay, so both runs judge the same ones.
        let run = |strength: f64, accumulation: usize| {
            let config = FitConfig::new(2).with_accumulation(accumulation).with_progress(false);
            let train = TensorBatches::new(crate::net::data(24, &device), 6, Seed(5));
            let held_out = TensorBatches::new(crate::net::data(30, &device), 30, Seed(5));
            let net = crate::net::Net::new(&device);
            let (penalty, expected) = decay(strength, &net);
            let fitted = Fit::new(config, SgdConfig::new().init())
                .rate(|_| 0.0)
                .penalty(penalty)
                .run(net, &train.expect("valid"), Some(&held_out.expect("valid")))
                .expect("trains");
            (fitted.history, expected)
        };
        for accumulation in [1, 2, 4] {
            let ((free, _), (held, expected)) = (run(0.0, accumulation), run(0.3, accumulation));
            for name in [names::TRAIN_LOSS, names::VALIDATION_LOSS, names::VALIDATION_ERROR] {
                let series = held.series(name);
                assert_eq!(series.len(), 2, "{name}");
                assert_eq!(series, free.series(name), "{name}");
            }
            assert!(free.series(names::PENALTY).is_empty());
            let found = held.series(names::PENALTY);
            assert_eq!(found.len(), 2);
            // The sum of 352 squares in f32.
            assert!(found.iter().all(|term| (term / expected - 1.0).abs() < 1e-5), "{found:?}");
        }
    }
}

#[test]
fn a_penalty_counts_once_a_step_however_many_batches_make_it() {
    for device in devices() {
        let device = device.autodiff();
        let (rate, strength) = (0.5, 0.3);
        let start = crate::net::Net::new(&device).weights();
        for accumulation in [1, 2, 4] {
            let step = |strength: f64| {
                let config = FitConfig::new(1).with_max_steps(Some(1)).with_progress(false);
                let config = config.with_accumulation(accumulation);
                let train = TensorBatches::new(crate::net::data(24, &device), 6, Seed(5));
                let net = crate::net::Net::new(&device);
                let (penalty, _) = decay(strength, &net);
                let fitted = Fit::new(config, SgdConfig::new().init())
                    .rate(move |_| rate)
                    .penalty(penalty)
                    .run(net, &train.expect("valid"), None)
                    .expect("trains");
                assert_eq!(fitted.steps, 1);
                fitted.model.weights()
            };
            let (free, held) = (step(0.0), step(strength));
            assert_ne!(free, start, "the data pull too");
            for ((free, held), start) in free.iter().zip(&held).zip(&start) {
                let by = rate * strength * start;
                // Three roundings of a weight of up to 3 in f32.
                assert!((free - held - by).abs() < 1e-6, "{accumulation}: {free} {held} {start}");
            }
        }
    }
}
