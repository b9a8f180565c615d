//! Gradient checkpointing: burn panics where two strategies meet in an operation, so whatever leaves autodiff for a while,
//! or adds a constant, must come back with the strategy of the tensor that it was given.

use crate::*;
use burn::module::{Module, Param, ParamGroup};
use burn::nn::{EmbeddingConfig, Initializer, Linear, LinearConfig, LstmConfig};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Int, Tensor};
use firebrick_backend::testing::devices;
use firebrick_core::Seed;

fn checkpointed() -> impl Iterator<Item = Device> {
    devices().into_iter().map(|device| device.autodiff().gradient_checkpointing())
}

fn masks() -> MaskSource {
    MaskSource::new(Seed(1))
}

/// Meets the tensor with a parameter of its device, and gets its gradient.
fn meets<const D: usize>(output: Tensor<D>, device: &Device) {
    let factor = Tensor::<D>::ones([1; D], (device, output.dtype())).require_grad();
    let loss = (output * factor.clone()).sum();
    assert!(factor.grad(&loss.backward()).is_some());
}

#[test]
fn augmented_and_mixed_batches_meet_the_weights() {
    for device in checkpointed() {
        let images = || Tensor::<4>::full([4, 3, 8, 8], 0.5, &device);
        let steps = vec![Step::preserving(ImageOp::Rotate { degrees: 20.0 })];
        let steps = ImageAugment::new(steps, &masks()).expect("valid");
        let rand = RandAugmentConfig::new().init(&masks()).expect("valid");
        let mix = AugMixConfig::new().init(&masks()).expect("valid");
        let trivial = TrivialAugment::new(&masks());
        for changed in [
            steps.images(images()),
            rand.images(images()),
            mix.images(images()),
            trivial.images(images()),
        ] {
            meets(changed, &device);
        }
        let targets = || Tensor::<2>::eye(4, &device);
        let mixup = MixupConfig::new().init(&masks()).expect("valid");
        let cutmix = CutMixConfig::new().init(&masks()).expect("valid");
        for mixed in [mixup.mix(images(), targets()), cutmix.mix(images(), targets())] {
            let mixed = mixed.expect("four rows");
            meets(mixed.input, &device);
            meets(mixed.targets, &device);
        }
        let table = || Tensor::<2>::eye(4, &device);
        let noise = TableNoiseConfig::new().fit(table(), &masks()).expect("valid");
        let drop = FeatureDropoutConfig::new().fit(table(), &masks()).expect("valid");
        meets(noise.rows(table()).expect("fits"), &device);
        meets(drop.rows(table()).expect("fits"), &device);
        let steps = [
            SequenceOp::TimeMask { max: 2 },
            SequenceOp::Jitter { std: 0.1 },
            SequenceOp::Crop { min_share: 0.5 },
        ];
        let steps = steps.map(|op| (op, LabelEffect::Preserves)).to_vec();
        let sequences = SequenceAugment::new(steps, &masks()).expect("valid");
        meets(sequences.sequences(Tensor::ones([2, 5, 3], &device)), &device);
    }
}

#[test]
fn noise_layers_meet_the_weights() {
    for device in checkpointed() {
        let ones = || Tensor::<2>::ones([4, 6], &device);
        let linear = || LinearConfig::new(6, 6).init(&device);
        let concrete = ConcreteDropoutConfig::new(9).init(&masks(), &device).expect("valid");
        let connect = DropConnectConfig::new().init(linear(), &masks()).expect("valid");
        let zoneout = ZoneoutConfig::new(0.5).init(&masks()).expect("valid");
        for output in [
            InvertedDropoutConfig::new(0.5).init(&masks()).expect("valid").forward(ones()),
            SpatialDropoutConfig::new(0.5).init(&masks()).expect("valid").forward(ones()),
            AlphaDropoutConfig::new(0.5).init(&masks()).expect("valid").forward(ones()),
            GaussianDropoutConfig::new(0.5).init(&masks()).expect("valid").forward(ones()),
            DropPathConfig::new(0.5).init(&masks()).expect("valid").forward(ones()),
            InputNoiseConfig::new(0.5).init(&masks()).expect("valid").forward(ones()),
            concrete.forward(ones()) + concrete.term(linear().weight.val(), 6).unsqueeze(),
            connect.forward(ones()),
            zoneout.forward(ones() * 2.0, ones()),
            WeightDropConfig::new()
                .init(ParamGroup::all(), &masks())
                .expect("valid")
                .apply(&linear())
                .forward(ones()),
            WeightNoiseConfig::new(0.1)
                .init(&masks())
                .expect("valid")
                .apply(&linear())
                .forward(ones()),
        ] {
            meets(output, &device);
        }
        let block = DropBlockConfig::new(0.1).with_block_size(3).init(&masks()).expect("valid");
        meets(block.forward(Tensor::ones([2, 3, 8, 8], &device)), &device);
        let sequence = VariationalDropoutConfig::new(0.5).init(&masks()).expect("valid");
        meets(sequence.forward(Tensor::ones([2, 5, 3], &device)), &device);
        let table = EmbeddingConfig::new(5, 2).init(&device);
        let table = EmbeddingDropoutConfig::new().init(table, &masks()).expect("valid");
        meets(table.forward(Tensor::<2, Int>::from_ints([[0, 1, 4]], &device)), &device);
        let config = RegularizedLstmConfig::new().with_input_prob(0.3).with_recurrent_prob(0.3);
        let config = config.with_cell_zoneout(0.3).with_hidden_zoneout(0.3);
        let lstm = config.init(LstmConfig::new(3, 4, true).init(&device), &masks());
        let (output, _) = lstm.expect("valid").forward(Tensor::ones([2, 5, 3], &device), None);
        meets(output, &device);
        let layer = linear();
        let loss = layer.forward(ones()).sum();
        let mut gradients = GradientsParams::from_grads(loss.backward(), &layer);
        let noise = GradientNoiseConfig::new().init(&masks()).expect("valid");
        noise.add(&layer, &mut gradients, 0);
        let monte = MonteCarloConfig::new().with_passes(2).init().expect("valid");
        assert!(monte.predict(&layer, |layer| layer.forward(ones())).is_ok());
    }
}

#[test]
fn slope_penalties_are_those_without_checkpointing() {
    for device in devices() {
        let run = |device: &Device| {
            let fill = Initializer::Constant { value: 0.3 };
            let linear = |inputs, outputs| {
                LinearConfig::new(inputs, outputs).with_initializer(fill.clone()).init(device)
            };
            let (first, second): (Linear, Linear) = (linear(3, 4), linear(4, 1));
            let net = |x: Tensor<2>| second.forward(first.forward(x).tanh());
            let input = || Tensor::<2>::from_floats([[0.5, -0.2, 1.0], [0.1, 0.4, -0.7]], device);
            let gradient = GradientPenaltyConfig::new(true).init().expect("smooth");
            let jacobian = JacobianPenaltyConfig::new(0.1, true).with_projections(3);
            let jacobian = jacobian.init(&masks()).expect("smooth");
            [gradient.term(input(), net), jacobian.term(input(), net)].map(|term| {
                let term = term.expect("valid");
                let value = term.clone().into_scalar::<f64>();
                let slope = first.weight.val().grad(&term.backward()).expect("has one");
                (value, slope.try_to_vec_as::<f64>().expect("reads"))
            })
        };
        let plain = run(&device.clone().autodiff());
        assert_eq!(run(&device.autodiff().gradient_checkpointing()), plain);
    }
}

#[test]
fn losses_penalties_and_projections_keep_the_strategy() {
    for device in checkpointed() {
        let logits = || Tensor::<2>::eye(4, &device).require_grad();
        let rdrop = RDropConfig::new().init().expect("valid");
        let rdrop = rdrop.loss(logits(), logits() * 2.0, logits()).expect("valid");
        for loss in [
            soft_cross_entropy(logits(), logits()).expect("valid"),
            rdrop.cross_entropy + rdrop.divergence,
            fixmatch_loss(logits(), logits(), 0.0).expect("valid").loss,
            uda_loss(logits(), logits(), 0.4, 0.0).expect("valid").loss,
            mean_teacher_loss(logits(), logits() * 2.0).expect("valid").loss,
            pi_model_loss(logits(), logits() * 2.0).expect("valid").loss,
            jensen_shannon(logits(), logits() * 2.0, logits()).expect("valid"),
            ConfidencePenaltyConfig::new().init().expect("valid").term(logits()),
        ] {
            meets(loss, &device);
        }
        let mut types = vec![DType::F32];
        types.extend(device.supports_dtype(DType::F64).then_some(DType::F64));
        for dtype in types {
            let layer = || {
                let mut layer = LinearConfig::new(3, 2).with_bias(false).init(&device);
                let weight = Tensor::<2>::full([3, 2], 0.5, (&device, dtype)).require_grad();
                layer.weight = Param::from_tensor(weight);
                layer
            };
            let penalties = (
                OrthogonalConfig::new(0.1).init().expect("valid"),
                SpectralConfig::new(0.1).init(Seed(1)).expect("valid"),
                ElasticNetConfig::new(0.1).init().expect("valid"),
            );
            meets(penalties.term(&layer()).expect("a weight"), &device);
            let rules =
                (MaxNormConfig::new().with_max(0.5).init().expect("valid"), NonNegative::new());
            for projected in [
                rules.project(layer(), 0.1).expect("known"),
                model_soup(vec![layer(), layer()]).expect("alike"),
                layer().no_grad(),
            ] {
                meets(projected.forward(Tensor::<2>::ones([1, 3], (&device, dtype))), &device);
            }
        }
    }
}
