//! The bottleneck adapter: a small residual layer between those of a frozen model.
//!
//! # Formula
//! ```text
//! y = x + act(x D + d) U + u            D [width, bottleneck], U [bottleneck, width], both near 0 at first
//! ```
//! # Reference
//! N. Houlsby et al., "Parameter-efficient transfer learning for NLP", ICML 2019.

use crate::TransferError;
use burn::config::Config;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::gelu;
use burn::tensor::{Device, Tensor};
use firebrick_core::{Seed, check};
use firebrick_stabilize::{Distribution, Initialize, Scheme};

/// Configuration of [`Bottleneck`].
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `width` | required | at least 1 |
/// | `bottleneck` | 64 | at least 1 |
/// | `deviation` | 1e-3 | above 0; of the initial weights |
#[derive(Config, Debug)]
pub struct BottleneckConfig {
    /// Width of what it stands on.
    pub width: usize,
    /// Width between its two layers.
    #[config(default = 64)]
    pub bottleneck: usize,
    /// Standard deviation of the initial weights; the output is then close to the input. With 0 for both layers
    /// neither would ever get a gradient.
    #[config(default = 1e-3)]
    pub deviation: f64,
}

impl BottleneckConfig {
    /// The layer.
    ///
    /// # Errors
    /// When a value is out of range.
    pub fn init(&self, seed: Seed, device: &Device) -> Result<Bottleneck, TransferError> {
        check::at_least("width", self.width, 1)?;
        check::at_least("bottleneck", self.bottleneck, 1)?;
        let deviation = check::positive("deviation", self.deviation)?;
        let layer = Bottleneck {
            down: LinearConfig::new(self.width, self.bottleneck).init(device),
            up: LinearConfig::new(self.bottleneck, self.width).init(device),
        };
        let scheme = Scheme::Fixed { deviation, distribution: Distribution::Normal };
        Ok(Initialize::new(seed).weights(scheme).apply(layer)?)
    }
}

/// [`x + gelu(x D + d) U + u`](self), for a field behind a frozen layer.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_transfer::BottleneckConfig;
///
/// let device = Device::flex();
/// let layer = BottleneckConfig::new(16).with_bottleneck(4).init(Seed(1), &device)?;
/// let x = Tensor::<3>::ones([2, 5, 16], &device);
/// let away = (layer.forward(x.clone()) - x).abs().max().into_scalar::<f32>();
/// assert!(away < 1e-4);
/// # Ok::<(), firebrick_transfer::TransferError>(())
/// ```
#[derive(Module, Debug)]
pub struct Bottleneck {
    down: Linear,
    up: Linear,
}

impl Bottleneck {
    /// Adapts `[.., width]`.
    #[must_use]
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        input.clone() + self.up.forward(gelu(self.down.forward(input)))
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{bits, cross_entropy, data, device, values};
    use crate::{Groups, Recipe, Tune};
    use burn::tensor::TensorReadError;
    use firebrick_optim::AdamWConfig;
    use firebrick_train::{Labelled, Learn, Score};

    #[test]
    fn it_is_its_formula_with_few_parameters_and_nearly_nothing_at_first() {
        let device = Device::flex();
        let layer = BottleneckConfig::new(6).init(Seed(1), &device).expect("valid");
        assert_eq!(layer.num_params(), 2 * 64 * 6 + 64 + 6);
        let x = Tensor::<2>::from_floats([[1.0, -2.0, 0.5, 3.0, 0.0, -1.0]], &device);
        let away = (layer.forward(x.clone()) - x.clone()).abs().max().into_scalar::<f32>();
        assert!(away > 0.0 && away < 1e-3, "{away}");
        let hidden = gelu(x.clone().matmul(layer.down.weight.val()));
        let expected = values(x.clone() + hidden.matmul(layer.up.weight.val()));
        for (found, expected) in values(layer.forward(x)).iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn bad_sizes_are_refused_by_name() {
        let refused = |config: BottleneckConfig| {
            config.init(Seed(1), &Device::flex()).expect_err("refused").to_string()
        };
        assert!(refused(BottleneckConfig::new(0)).contains("`width`"));
        assert!(refused(BottleneckConfig::new(2).with_bottleneck(0)).contains("`bottleneck`"));
        for deviation in [0.0, -1.0, f64::NAN] {
            let config = BottleneckConfig::new(2).with_deviation(deviation);
            assert!(refused(config).contains("`deviation`"), "{deviation}");
        }
    }

    /// A frozen layer, the adapter behind it, a head.
    #[derive(Module, Debug)]
    struct Adapted {
        body: Linear,
        adapter: Bottleneck,
        head: Linear,
    }

    impl Adapted {
        fn logits(&self, inputs: Tensor<2>) -> Tensor<2> {
            self.head.forward(self.adapter.forward(self.body.forward(inputs)))
        }
    }

    impl Learn for Adapted {
        type Batch = Labelled<2>;

        fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
            cross_entropy(self.logits(batch.inputs), batch.targets)
        }

        fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
            Score::classification(self.logits(batch.inputs), batch.targets)
        }
    }

    #[test]
    fn behind_a_frozen_layer_it_trains_with_the_head_alone() {
        let model = Adapted {
            body: LinearConfig::new(2, 6).init(&device()),
            adapter: BottleneckConfig::new(6).init(Seed(1), &device()).expect("valid"),
            head: LinearConfig::new(6, 2).init(&device()),
        };
        let before = bits(&model);
        let parts = [("body", vec!["body"]), ("top", vec!["adapter", "head"])];
        let tune =
            Tune::new(Recipe::freeze_first(1), 8, AdamWConfig::new().build().expect("valid"))
                .groups(Groups::new(parts).expect("fine"));
        let tuned = tune.run(model, &data(&device(), 1.0), None).expect("trains");
        for ((path, old), (_, new)) in before.iter().zip(bits(&tuned.model)) {
            assert_eq!(*old == new, path.starts_with("body."), "{path}");
        }
    }
}
