//! Bad input, entry point by entry point: what is out of range, empty, in half precision or without parameters, beyond
//! what the tests beside each item try.

use crate::*;
use burn::module::{Module, Param, ParamGroup};
use burn::nn::{Linear, LinearConfig, LstmConfig};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Int, Tensor};
use firebrick_core::Seed;
use std::fmt::Display;

const HALF: [DType; 2] = [DType::F16, DType::BF16];

fn masks() -> MaskSource {
    MaskSource::new(Seed(1))
}

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.try_to_vec_as().expect("reads")
}

#[test]
fn every_share_outside_its_range_is_named() {
    fn refused<T, E: Display>(result: Result<T, E>, field: &str, value: f64) {
        let message = result.err().map_or_else(String::new, |error| error.to_string());
        let named = message.starts_with(&format!("`{field}` must be in "));
        assert!(named && message.ends_with(&format!("got {value}")), "{field} {value}: {message}");
    }
    let device = Device::flex();
    let two = || Tensor::<2>::zeros([2, 3], &device);
    let table = TrainingTable::of(&[1.0, 2.0, 3.0, 4.0, 5.0], 1, &[0, 1, 2, 3]).expect("valid");
    let image = |op: ImageOp| ImageAugment::new(vec![Step::preserving(op)], &masks());
    for value in [1.5, -0.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        refused(masks().set_strength(value), "strength", value);
        refused(ElasticNetConfig::new(0.1).with_l1_ratio(value).init(), "l1_ratio", value);
        let smoothing = LabelSmoothingConfig::new().with_smoothing(value);
        refused(smoothing.init(), "smoothing", value);
        refused(LabelNoiseConfig::new(value, 3).init(&masks()), "prob", value);
        let drop = FeatureDropoutConfig::new().with_prob(value);
        refused(drop.fit(two(), &masks()), "prob", value);
        let step = Step::preserving(ImageOp::FlipVertical).with_prob(value);
        refused(ImageAugment::new(vec![step], &masks()), "prob", value);
        refused(image(ImageOp::Crop { min_area: value }), "min_area", value);
        let area = ImageOp::Erase { area: (value, 0.5), aspect: (0.5, 2.0) };
        refused(image(area), "area", value);
        let affine =
            |translate| ImageOp::Affine { degrees: 1.0, translate, scale: (1.0, 1.0), shear: 0.0 };
        refused(image(affine(value)), "translate", value);
        let crop = vec![(SequenceOp::Crop { min_share: value }, LabelEffect::Preserves)];
        refused(SequenceAugment::new(crop, &masks()), "min_share", value);
        refused(PseudoReport::of(two(), value, None), "threshold", value);
        refused(pseudo_label_loss(two(), value), "threshold", value);
        refused(fixmatch_loss(two(), two(), value), "threshold", value);
        refused(uda_loss(two(), two(), 0.4, value), "threshold", value);
        let stability = StabilityConfig::new(1).with_threshold(value);
        refused(stability.select(&table, &[1.0; 4], &masks()), "threshold", value);
        refused(LassoPathConfig::new().with_ratio(value).path(&table, &[1.0; 4]), "ratio", value);
    }
    // What has no upper end.
    for value in [-0.1, f64::NAN, f64::INFINITY] {
        refused(OrthogonalConfig::new(value).init(), "strength", value);
        refused(SpectralConfig::new(value).init(Seed(1)), "strength", value);
        refused(ElasticNetConfig::new(value).init(), "strength", value);
        refused(ProximalL1Config::new(value).init(), "strength", value);
        refused(GroupLassoConfig::new(value).init(), "strength", value);
        refused(MaxNormConfig::new().with_max(value).init(), "max", value);
        refused(GradientNoiseConfig::new().with_eta(value).init(&masks()), "eta", value);
        refused(RDropConfig::new().with_alpha(value).init(), "alpha", value);
        refused(AugMixConfig::new().with_alpha(value).init(&masks()), "alpha", value);
        refused(variance_threshold(&table, value), "min", value);
        refused(uda_loss(two(), two(), value, 0.8), "temperature", value);
        let layer = LinearConfig::new(2, 2).init(&device);
        refused(NonNegative::new().project(layer, value), "lr", value);
    }
}

#[test]
fn losses_of_nothing_are_refused_and_everything_else_of_nothing_is_nothing() {
    let device = Device::flex().autodiff();
    for shape in [[0usize, 3], [3, 0]] {
        let none = || Tensor::<2>::zeros(shape, &device);
        let rdrop = RDropConfig::new().init().expect("valid");
        let refused = [
            soft_cross_entropy(none(), none()).err(),
            rdrop.loss(none(), none(), none()).err(),
            jensen_shannon(none(), none(), none()).err(),
            pseudo_label_loss(none(), 0.9).err(),
            fixmatch_loss(none(), none(), 0.9).err(),
            uda_loss(none(), none(), 0.4, 0.9).err(),
            pi_model_loss(none(), none()).err(),
            mean_teacher_loss(none(), none()).err(),
            PseudoReport::of(none(), 0.9, None).err(),
        ];
        for (index, error) in refused.into_iter().enumerate() {
            assert!(matches!(error, Some(RegularizeError::Empty { .. })), "{index}: {error:?}");
        }
        let confidence = ConfidencePenaltyConfig::new().init().expect("valid");
        assert_eq!(read(confidence.term(none())), [0.0]);
        let activity = ActivityPenaltyConfig::new(0.1).init().expect("valid");
        assert_eq!(read(activity.term(none())), [0.0]);
        let warm = Temperature { value: 2.0, at_bound: false };
        assert_eq!(warm.probabilities(none()).dims(), shape);
        let smoothing = LabelSmoothingConfig::new().init().expect("valid");
        assert_eq!(smoothing.smooth(none()).dims(), shape);
        let noise = InputNoiseConfig::new(0.1).init(&masks()).expect("valid");
        assert_eq!(noise.forward(none()).dims(), shape);
        let plan = ManifoldMixupConfig::new(1).init(&masks()).expect("valid").plan(shape[0]);
        assert_eq!(plan.at(0, none()).expect("fits").dims(), shape);
    }
    let members =
        |shape: [usize; 2]| [Tensor::<2>::zeros(shape, &device), Tensor::zeros(shape, &device)];
    assert_eq!(ensemble_probabilities(members([0, 3])).expect("no rows").dims(), [0, 3]);
    let no_class = ensemble_probabilities(members([3, 0])).expect_err("no class");
    assert_eq!(no_class.to_string(), "the set of classes is empty");
    let none = model_soup(vec![Vec::<Linear>::new(); 2]).expect("the same, empty, parameters");
    assert!(none.is_empty());
    let monte = MonteCarloConfig::new().with_passes(2).init().expect("valid");
    let found = monte.predict(&Vec::<Linear>::new(), |_| Tensor::<2>::zeros([0, 3], &device));
    assert_eq!(found.expect("on autodiff").variance.dims(), [0, 3]);
    for batch_first in [true, false] {
        let config = LstmConfig::new(3, 4, true).with_batch_first(batch_first);
        let layer = RegularizedLstmConfig::new().with_recurrent_prob(0.3).with_cell_zoneout(0.3);
        let layer = layer.init(config.init(&device), &masks()).expect("valid");
        let (shape, expected) =
            if batch_first { ([0, 5, 3], [0, 5, 4]) } else { ([5, 0, 3], [5, 0, 4]) };
        let (output, state) = layer.forward(Tensor::<3>::zeros(shape, &device), None);
        assert_eq!((output.dims(), state.hidden.dims()), (expected, [0, 4]));
    }
}

/// A layer whose weight has no elements.
fn hollow(shape: [usize; 2], device: &Device) -> Linear {
    let mut layer = LinearConfig::new(1, 1).with_bias(false).init(device);
    layer.weight = Param::from_tensor(Tensor::<2>::zeros(shape, device).require_grad());
    layer
}

#[test]
fn weights_without_elements_are_left_alone() {
    let device = Device::flex().autodiff();
    for shape in [[0usize, 3], [3, 0], [0, 0]] {
        let layer = || hollow(shape, &device);
        let spectral = SpectralConfig::new(0.1).init(Seed(1)).expect("valid");
        let orthogonal = OrthogonalConfig::new(0.1).init().expect("valid");
        let net = ElasticNetConfig::new(0.1).init().expect("valid");
        assert!((spectral, orthogonal, net).term(&layer()).is_none(), "{shape:?}");
        let rules = (
            MaxNormConfig::new().init().expect("valid"),
            UnitNormConfig::new().init(),
            GroupLassoConfig::new(0.1).init().expect("valid"),
            (ProximalL1Config::new(0.1).init().expect("valid"), NonNegative::new()),
        );
        let projected = rules.project(layer(), 0.1).expect("known layers");
        assert_eq!(projected.weight.val().dims(), shape);
        assert!(projected.weight.is_require_grad());
        let noise = WeightNoiseConfig::new(0.1).init(&masks()).expect("valid");
        assert_eq!(noise.apply(&layer()).weight.val().dims(), shape);
        let drop = WeightDropConfig::new().init(ParamGroup::all(), &masks()).expect("valid");
        assert_eq!(drop.apply(&layer()).weight.val().dims(), shape);
    }
}

#[test]
fn a_model_that_does_not_train_gets_no_penalty_and_keeps_its_weights() {
    let plain = LinearConfig::new(3, 2).init(&Device::flex());
    let frozen = LinearConfig::new(3, 2).init(&Device::flex().autodiff()).no_grad();
    for layer in [plain, frozen] {
        let penalties = (
            SpectralConfig::new(0.1).init(Seed(1)).expect("valid"),
            OrthogonalConfig::new(0.1).init().expect("valid"),
            L2Config::new(0.1).init().expect("valid"),
            ElasticNetConfig::new(0.1).with_scope(PenaltyScope::All).init().expect("valid"),
        );
        assert!(penalties.term(&layer).is_none());
        let weight = read(layer.weight.val());
        let rules =
            (MaxNormConfig::new().with_max(0.01).init().expect("valid"), NonNegative::new());
        assert_eq!(read(rules.project(layer, 0.1).expect("known").weight.val()), weight);
    }
}

#[test]
fn plans_and_shifts_beyond_their_ranges() {
    let device = Device::flex();
    let two = || Tensor::<2>::ones([2, 3], &device);
    for lambda in [-0.1, 1.5, f64::NAN, f64::INFINITY] {
        let plan = MixPlan { partners: vec![1, 0], lambda: vec![1.0, lambda] };
        let message = plan.apply(two()).expect_err("no share").to_string();
        assert!(message.starts_with("`lambda` must be in [0, 1]"), "{message}");
    }
    let images = Tensor::<4>::ones([40, 1, 3, 3], &device);
    for max in [4, usize::MAX] {
        let far = ImageAugment::new(vec![Step::preserving(ImageOp::Shift { max })], &masks());
        let moved = far.expect("any length").images(images.clone());
        assert!(read(moved).contains(&0.0), "{max}");
    }
}

#[test]
fn half_precision_averages_noise_and_predicts() {
    let device = Device::flex().autodiff();
    for dtype in HALF {
        let weights = |value: f32| {
            let mut layer = LinearConfig::new(20, 10).with_bias(false).init(&device);
            let weight = Tensor::<2>::full([20, 10], value, (&device, dtype)).require_grad();
            layer.weight = Param::from_tensor(weight);
            layer
        };
        let soup = model_soup(vec![weights(1.0), weights(4.0)]).expect("alike");
        assert_eq!(soup.weight.val().dtype(), dtype);
        assert_eq!(read(soup.weight.val()), [2.5; 200]);

        let noisy = WeightNoiseConfig::new(0.1).init(&masks()).expect("valid").apply(&weights(0.0));
        assert_eq!(noisy.weight.val().dtype(), dtype);
        assert!(read(noisy.weight.val()).iter().all(|w| w.is_finite() && w.abs() < 1.0));

        let layer = weights(1.0);
        let loss = (layer.weight.val() * 0.0).sum();
        let mut gradients = GradientsParams::from_grads(loss.backward(), &layer);
        let noise = GradientNoiseConfig::new().init(&masks()).expect("valid");
        noise.add(&layer, &mut gradients, 0);
        let gradient = gradients.get::<2>(layer.weight.id).expect("still there");
        assert_eq!(gradient.dtype(), dtype);
        assert!(read(gradient).iter().any(|g| *g != 0.0));

        let logits = || Tensor::<2>::from_floats([[3.0, 0.0], [0.0, 0.0]], &device).cast(dtype);
        let top = 1.0 / (1.0 + (-3f64).exp());
        let mean = ensemble_probabilities([logits(), logits()]).expect("alike");
        assert!((read(mean)[0] - top).abs() < 1e-6, "averaged in single");
        let monte = MonteCarloConfig::new().with_passes(3).init().expect("valid");
        let found = monte.predict(&weights(1.0), |_| logits()).expect("on autodiff");
        assert_eq!(
            (read(found.mean), read(found.variance)),
            (vec![3.0, 0.0, 0.0, 0.0], vec![0.0; 4])
        );
        let labels = || Tensor::<1, Int>::from_ints([1, 0], &Device::flex());
        let fitted = Temperature::fit(logits().inner(), labels()).expect("valid");
        assert!(fitted.value.is_finite());
        let smoothed = LabelSmoothingConfig::new().init().expect("valid").smooth(logits());
        assert_eq!(smoothed.dtype(), dtype);
        let sequence = Tensor::<3>::full([2, 4, 3], 300.0, (&device, dtype));
        let penalty = ActivationPenaltyConfig::new().init().expect("valid");
        // The square of 300 overflows f16.
        assert_eq!(read(penalty.term(sequence.clone(), sequence)), [180_000.0]);
    }
}
