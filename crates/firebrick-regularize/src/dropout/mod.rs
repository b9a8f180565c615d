//! Dropout and its kin as burn layers, with masks from a [`MaskSource`](crate::MaskSource).
//!
//! All of them act where their flag is on and the input is on an autodiff device, as burn's own layers do: so
//! `model.valid()` evaluates, `model.train()` goes back and `freeze` switches them off for good. Masks are
//! multiplied, so a NaN or an infinity stays visible rather than being dropped.

mod alpha;
mod block;
mod concrete;
#[cfg(all(test, feature = "flex"))]
mod effects;
mod embedding;
mod gaussian;
mod inverted;
mod monte_carlo;
mod path;
mod recurrent;
mod schedule;
mod spatial;
mod weight;

pub use alpha::{AlphaDropout, AlphaDropoutConfig};
pub use block::{DropBlock, DropBlockConfig};
pub use concrete::{ConcreteDropout, ConcreteDropoutConfig};
pub use embedding::{EmbeddingDropout, EmbeddingDropoutConfig};
pub use gaussian::{GaussianDropout, GaussianDropoutConfig};
pub use inverted::{InvertedDropout, InvertedDropoutConfig};
pub use monte_carlo::{MonteCarlo, MonteCarloConfig, Prediction};
pub use path::{DropPath, DropPathConfig, linear_depth};
pub use recurrent::{
    RegularizedLstm, RegularizedLstmConfig, VariationalDropout, VariationalDropoutConfig, Zoneout,
    ZoneoutConfig,
};
pub use schedule::DropSchedule;
pub use spatial::{Channels, SpatialDropout, SpatialDropoutConfig};
pub use weight::{DropConnect, DropConnectConfig, WeightDrop, WeightDropConfig};

use crate::MaskSource;
use burn::module::{Flag, Module, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use firebrick_core::{ConfigError, check};

/// What every layer of the family has: a probability, a flag and a source of masks.
#[derive(Module, Debug)]
pub(crate) struct Noise {
    prob: f64,
    training: Param<Flag>,
    #[module(skip)]
    masks: MaskSource,
}

impl Noise {
    /// Refuses a probability outside [0, 1) and NaN.
    pub(crate) fn new(field: &str, prob: f64, masks: &MaskSource) -> Result<Self, ConfigError> {
        let prob = check::range(field, prob, 0.0..1.0)?;
        Ok(Self { prob, training: Param::from_bool(true), masks: masks.clone() })
    }

    /// The probability that holds now, `None` where the layer is the identity.
    pub(crate) fn active(&self, device: &Device) -> Option<f64> {
        let prob = self.prob * self.masks.strength();
        (prob > 0.0 && self.trains(device)).then_some(prob)
    }

    pub(crate) fn trains(&self, device: &Device) -> bool {
        self.training.is_enabled() && device.is_autodiff()
    }
}

/// A constant on the plain device that belongs to `device`.
pub(crate) fn constant<const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &Device,
    dtype: DType,
) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), (&device.clone().inner(), dtype))
}

/// `x * mask`, the mask being 1 / keep with probability `keep`, else 0, over the axes of `shape`.
pub(crate) fn masked<const D: usize>(
    input: Tensor<D>,
    shape: [usize; D],
    prob: f64,
    masks: &MaskSource,
) -> Tensor<D> {
    let (device, dtype) = (input.device(), input.dtype());
    let keep = 1.0 - prob;
    let mask = masks.pick(shape.iter().product(), keep, (1.0 / keep) as f32, 0.0);
    input * constant(mask, shape, &device, dtype)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::module::ParamGroup;
    use burn::nn::{EmbeddingConfig, Linear, LinearConfig, LstmConfig};
    use burn::tensor::Int;
    use firebrick_core::Seed;

    type Layer = Box<dyn Fn(Tensor<2>) -> Tensor<2>>;

    /// Every layer that acts on activations, as a function of a table.
    fn layers(masks: &MaskSource, device: &Device) -> Vec<(&'static str, Layer)> {
        let inverted = InvertedDropoutConfig::new(0.5).init(masks).expect("valid");
        let spatial = SpatialDropoutConfig::new(0.5).init(masks).expect("valid");
        let alpha = AlphaDropoutConfig::new(0.5).init(masks).expect("valid");
        let gaussian = GaussianDropoutConfig::new(0.5).init(masks).expect("valid");
        let concrete = ConcreteDropoutConfig::new(10).with_prob(0.5);
        let concrete = concrete.init(masks, device).expect("valid");
        let path = DropPathConfig::new(0.5).init(masks).expect("valid");
        let zoneout = ZoneoutConfig::new(0.5).init(masks).expect("valid");
        let variational = VariationalDropoutConfig::new(0.5).init(masks).expect("valid");
        let block = DropBlockConfig::new(0.5).with_block_size(2).init(masks).expect("valid");
        vec![
            ("inverted", Box::new(move |x: Tensor<2>| inverted.forward(x))),
            ("spatial", Box::new(move |x: Tensor<2>| spatial.forward(x))),
            ("alpha", Box::new(move |x: Tensor<2>| alpha.forward(x))),
            ("Gaussian", Box::new(move |x: Tensor<2>| gaussian.forward(x))),
            ("concrete", Box::new(move |x: Tensor<2>| concrete.forward(x))),
            ("drop path", Box::new(move |x: Tensor<2>| path.forward(x))),
            ("zoneout", Box::new(move |x: Tensor<2>| zoneout.forward(x.zeros_like(), x))),
            (
                "variational",
                Box::new(move |x: Tensor<2>| {
                    let [n, f] = x.dims();
                    variational.forward(x.reshape([n, 1, f])).reshape([n, f])
                }),
            ),
            (
                "DropBlock",
                Box::new(move |x: Tensor<2>| {
                    let [n, f] = x.dims();
                    block.forward(x.reshape([n, 1, 1, f])).reshape([n, f])
                }),
            ),
        ]
    }

    #[test]
    fn every_layer_names_a_probability_outside_its_range() {
        let device = Device::flex();
        let masks = MaskSource::new(Seed(0));
        let linear = || LinearConfig::new(2, 2).init(&device);
        let table = || EmbeddingConfig::new(2, 2).init(&device);
        let lstm = || LstmConfig::new(2, 2, true).init(&device);
        let drop_connect = |prob| DropConnectConfig::new().with_prob(prob);
        let weight_drop = |prob| WeightDropConfig::new().with_prob(prob);
        let embedding = |prob| EmbeddingDropoutConfig::new().with_prob(prob);
        let input = |prob| RegularizedLstmConfig::new().with_input_prob(prob);
        let recurrent = |prob| RegularizedLstmConfig::new().with_recurrent_prob(prob);
        let cell = |prob| RegularizedLstmConfig::new().with_cell_zoneout(prob);
        let hidden = |prob| RegularizedLstmConfig::new().with_hidden_zoneout(prob);
        for prob in [1.0, 1.5, -0.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let refused = [
                ("prob", InvertedDropoutConfig::new(prob).init(&masks).err()),
                ("prob", SpatialDropoutConfig::new(prob).init(&masks).err()),
                ("prob", AlphaDropoutConfig::new(prob).init(&masks).err()),
                ("prob", GaussianDropoutConfig::new(prob).init(&masks).err()),
                ("prob", DropPathConfig::new(prob).init(&masks).err()),
                ("prob", DropBlockConfig::new(prob).init(&masks).err()),
                ("prob", ZoneoutConfig::new(prob).init(&masks).err()),
                ("prob", VariationalDropoutConfig::new(prob).init(&masks).err()),
                ("prob", drop_connect(prob).init(linear(), &masks).err()),
                ("prob", weight_drop(prob).init(ParamGroup::all(), &masks).err()),
                ("prob", embedding(prob).init(table(), &masks).err()),
                ("input_prob", input(prob).init(lstm(), &masks).err()),
                ("recurrent_prob", recurrent(prob).init(lstm(), &masks).err()),
                ("cell_zoneout", cell(prob).init(lstm(), &masks).err()),
                ("hidden_zoneout", hidden(prob).init(lstm(), &masks).err()),
                ("max_prob", linear_depth(prob, 3).err()),
            ];
            for (field, error) in refused {
                let error = error.expect("refused").to_string();
                assert_eq!(error, format!("`{field}` must be in [0, 1), got {prob}"));
            }
            // Its logit is learned, so 0 is outside too.
            let concrete = ConcreteDropoutConfig::new(9).with_prob(prob);
            assert!(concrete.init(&masks, &device).is_err(), "{prob}");
        }
    }

    #[test]
    fn empty_tensors_pass_through_every_layer() {
        let device = Device::flex().autodiff();
        let masks = MaskSource::new(Seed(1));
        for (name, layer) in layers(&masks, &device) {
            assert_eq!(layer(Tensor::<2>::ones([0, 3], &device)).dims(), [0, 3], "{name}");
        }
        let layer = VariationalDropoutConfig::new(0.5).init(&masks).expect("valid");
        for shape in [[2usize, 0, 3], [2, 3, 0]] {
            assert_eq!(layer.forward(Tensor::<3>::ones(shape, &device)).dims(), shape);
        }
        let table = EmbeddingConfig::new(5, 2).init(&device);
        let layer = EmbeddingDropoutConfig::new().init(table, &masks).expect("valid");
        for [n, t] in [[0usize, 4], [2, 0]] {
            let words = Tensor::<2, Int>::zeros([n, t], &device);
            assert_eq!(layer.forward(words).dims(), [n, t, 2]);
        }
        let connect = LinearConfig::new(3, 2).init(&device);
        let connect = DropConnectConfig::new().init(connect, &masks).expect("valid");
        assert_eq!(connect.forward(Tensor::<3>::ones([4, 0, 3], &device)).dims(), [4, 0, 2]);
        let drop = WeightDropConfig::new().init(ParamGroup::all(), &masks).expect("valid");
        assert!(drop.apply(&Vec::<Linear>::new()).is_empty());
    }

    #[test]
    fn every_layer_keeps_half_precision() {
        let device = Device::flex().autodiff();
        let masks = MaskSource::new(Seed(2));
        let read = |tensor: Tensor<2>| tensor.try_to_vec_as::<f32>().expect("reads");
        for dtype in [DType::F16, DType::BF16] {
            for (name, layer) in layers(&masks, &device) {
                let input = Tensor::<2>::ones([4, 6], (&device, dtype)).require_grad();
                let output = layer(input.clone());
                assert_eq!((output.dims(), output.dtype()), ([4, 6], dtype), "{name}");
                let gradient = input.grad(&output.clone().sum().backward()).expect("has one");
                assert_eq!(gradient.dtype(), dtype, "{name}");
                assert!(read(output).into_iter().all(f32::is_finite), "{name} {dtype:?}");
                assert!(read(gradient).into_iter().all(f32::is_finite), "{name} {dtype:?}");
            }
            let ones = |rows: usize, columns: usize| {
                let ones = Tensor::<2>::ones([rows, columns], (&device, dtype));
                Param::from_tensor(ones.require_grad())
            };
            let mut linear = LinearConfig::new(6, 3).with_bias(false).init(&device);
            linear.weight = ones(6, 3);
            let drop = WeightDropConfig::new().init(ParamGroup::all(), &masks).expect("valid");
            let masked = drop.apply(&linear).weight.val();
            assert_eq!(masked.dtype(), dtype);
            assert!(read(masked).into_iter().all(|w| w == 0.0 || w == 2.0));
            let layer = DropConnectConfig::new().init(linear, &masks).expect("valid");
            let output = layer.forward(Tensor::<2>::ones([4, 6], (&device, dtype)));
            assert_eq!((output.dims(), output.dtype()), ([4, 3], dtype));
            // Sums of six weights of 0 or 2.
            let sums: Vec<f32> = (0..=6).map(|count| 2.0 * count as f32).collect();
            assert!(read(output).iter().all(|sum| sums.contains(sum)));
            let mut table = EmbeddingConfig::new(5, 2).init(&device);
            table.weight = ones(5, 2);
            let layer = EmbeddingDropoutConfig::new().with_prob(0.5);
            let layer = layer.init(table, &masks).expect("valid");
            let words = layer.forward(Tensor::<2, Int>::from_ints([[0, 1, 2, 3, 4]], &device));
            assert_eq!(words.dtype(), dtype);
            let words: Vec<f32> = words.try_to_vec_as().expect("reads");
            assert!(words.into_iter().all(|w| w == 0.0 || w == 2.0));
        }
    }
}
