//! Models and data for the tests.

use crate::{Headed, Recipe};
use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, Int, Tensor, TensorReadError, activation::relu};
use firebrick_backend::PathStack;
use firebrick_core::Seed;
use firebrick_regularize::{InvertedDropout, InvertedDropoutConfig, MaskSource};
use firebrick_stabilize::{Scheme, initialize};
use firebrick_train::{Labelled, Learn, Score, TensorBatches};

/// Where the tests train.
pub(crate) fn device() -> Device {
    Device::flex().autodiff()
}

/// The loss of the models here.
pub(crate) fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, targets)
}

/// Three layers with batch norm and seeded dropout.
#[derive(Module, Debug)]
pub(crate) struct Net {
    pub(crate) first: Linear,
    pub(crate) norm: BatchNorm,
    pub(crate) second: Linear,
    pub(crate) dropout: InvertedDropout,
    pub(crate) head: Linear,
}

impl Net {
    pub(crate) fn features(&self, inputs: Tensor<2>) -> Tensor<2> {
        let hidden = relu(self.norm.forward(self.first.forward(inputs)));
        self.dropout.forward(relu(self.second.forward(hidden)))
    }

    pub(crate) fn logits(&self, inputs: Tensor<2>) -> Tensor<2> {
        self.head.forward(self.features(inputs))
    }
}

impl Learn for Net {
    type Batch = Labelled<2>;

    fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
        cross_entropy(self.logits(batch.inputs), batch.targets)
    }

    fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
        Score::classification(self.logits(batch.inputs), batch.targets)
    }
}

impl Headed for Net {
    fn embed(&self, batch: Labelled<2>) -> Labelled<2> {
        Labelled { inputs: self.features(batch.inputs), targets: batch.targets }
    }

    fn head(&self) -> &Linear {
        &self.head
    }

    fn with_head(mut self, head: Linear) -> Self {
        self.head = head;
        self
    }
}

pub(crate) fn net_with(device: &Device, masks: &MaskSource) -> Net {
    let net = Net {
        first: LinearConfig::new(2, 6).init(device),
        norm: BatchNormConfig::new(6).init(device),
        second: LinearConfig::new(6, 5).init(device),
        dropout: InvertedDropoutConfig::new(0.3).init(masks).expect("valid"),
        head: LinearConfig::new(5, 2).init(device),
    };
    initialize(net, Scheme::KaimingNormal, Seed(4))
}

pub(crate) fn net(device: &Device) -> Net {
    net_with(device, &MaskSource::new(Seed(8)))
}

#[derive(Module, Debug)]
pub(crate) struct Block {
    pub(crate) conv: Conv2d,
    pub(crate) norm: BatchNorm,
}

/// A stem, a list of blocks, a head.
#[derive(Module, Debug)]
pub(crate) struct Residual {
    pub(crate) stem: Block,
    pub(crate) blocks: Vec<Block>,
    pub(crate) head: Linear,
}

pub(crate) fn residual(device: &Device, blocks: usize) -> Residual {
    let block = |inputs| Block {
        conv: Conv2dConfig::new([inputs, 3], [3, 3])
            .with_padding(PaddingConfig2d::Same)
            .init(device),
        norm: BatchNormConfig::new(3).init(device),
    };
    let blocks = (0..blocks).map(|_| block(3)).collect();
    let model = Residual { stem: block(1), blocks, head: LinearConfig::new(3, 2).init(device) };
    initialize(model, Scheme::KaimingNormal, Seed(4))
}

/// Two classes on either side of a line, `scale` apart.
pub(crate) fn data(device: &Device, scale: f32) -> TensorBatches<2> {
    let rows: Vec<f32> = (0..40)
        .flat_map(|i| {
            let side = if i % 2 == 0 { scale } else { -scale };
            [side + 0.02 * i as f32, 0.5 * side - 0.01 * i as f32]
        })
        .collect();
    let inputs = Tensor::<1>::from_floats(rows.as_slice(), device).reshape([40, 2]);
    let classes: Vec<i32> = (0..40).map(|i| i % 2).collect();
    let targets = Tensor::from_ints(classes.as_slice(), device);
    TensorBatches::new(Labelled { inputs, targets }, 7, Seed(5)).expect("valid")
}

/// The bits of every parameter and statistic by path, the newest statistics included.
pub(crate) fn bits<M: Module>(model: &M) -> Vec<(String, Vec<u8>)> {
    #[derive(Default)]
    struct Read {
        path: PathStack,
        found: Vec<(String, Vec<u8>)>,
    }
    impl ModuleVisitor for Read {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let data = param.base().into_data();
            self.found.push((self.path.path(), data.as_bytes().to_vec()));
        }
    }
    let mut read = Read::default();
    model.valid().visit(&mut read);
    read.found
}

/// Every recipe but those of adapters, which want a model that has some.
pub(crate) fn recipes() -> Vec<Recipe> {
    vec![
        Recipe::HeadOnly,
        Recipe::LastK { k: 2 },
        Recipe::freeze_first(1),
        Recipe::FreezeFirst { k: 1, redraw: true },
        Recipe::OneGroup { group: None },
        Recipe::full(),
        Recipe::lp_ft(),
        Recipe::Scratch,
        Recipe::fine_tune(),
        Recipe::gradual(),
        Recipe::ChainThaw { later: 0.3 },
        Recipe::Discriminative { ratio: 2.6 },
        Recipe::layer_decay(),
        Recipe::BitFit { norms: true },
        Recipe::Rifle { cycles: 3 },
    ]
}

/// The numbers of a tensor.
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.try_to_vec_as().expect("reads")
}

/// Whether dropout is on.
pub(crate) fn dropout_on(net: &Net) -> bool {
    use crate::group::{Item, places};
    let on = Item::Switch { on: true };
    places(net).iter().any(|place| place.path == "dropout.noise.training" && place.item == on)
}

/// Cases that torch, timm and peft recorded: `tests/references/transfer.py` made them.
pub(crate) mod recorded {
    use burn::tensor::{Device, Int, Tensor, TensorData};
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, Clone, Deserialize)]
    struct Array {
        shape: Vec<usize>,
        data: Vec<f64>,
    }

    #[derive(Debug, Clone, Deserialize)]
    pub(crate) struct Case {
        name: String,
        args: BTreeMap<String, serde_json::Value>,
        inputs: BTreeMap<String, Array>,
        pub(crate) output: Vec<f64>,
        #[serde(default)]
        gradients: BTreeMap<String, Vec<f64>>,
    }

    #[derive(Deserialize)]
    struct File {
        transfer: Vec<Case>,
    }

    /// The cases called `name`; there is one at least.
    pub(crate) fn cases(name: &str) -> Vec<Case> {
        let text = include_str!("../../../tests/references/transfer.json");
        let file: File = serde_json::from_str(text).expect("JSON");
        assert!(file.transfer.len() >= 60);
        let cases: Vec<Case> = file.transfer.into_iter().filter(|case| case.name == name).collect();
        assert!(!cases.is_empty(), "{name}");
        cases
    }

    /// Relative to the larger of 1 and the value: f32 keeps 24 bits, and a case has some tens of operations.
    const TOLERANCE: f64 = 2e-5;

    impl Case {
        pub(crate) fn number(&self, name: &str) -> f64 {
            self.args[name].as_f64().expect("a number")
        }

        pub(crate) fn flag(&self, name: &str) -> bool {
            self.args[name].as_bool().expect("a flag")
        }

        pub(crate) fn has(&self, name: &str) -> bool {
            self.inputs.contains_key(name)
        }

        pub(crate) fn rank(&self, name: &str) -> usize {
            self.inputs[name].shape.len()
        }

        /// An input that requires gradients, on an autodiff device.
        pub(crate) fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
            let Array { shape, data } = self.inputs[name].clone();
            let shape: [usize; D] = shape.try_into().expect("the rank");
            let device = Device::flex().autodiff();
            Tensor::from_data(TensorData::new(data, shape), &device).require_grad()
        }

        pub(crate) fn classes(&self, name: &str) -> Tensor<1, Int> {
            let data = &self.inputs[name].data;
            let data: Vec<i64> = data.iter().map(|value| *value as i64).collect();
            Tensor::from_data(data.as_slice(), &Device::flex().autodiff())
        }

        pub(crate) fn outputs(&self, found: &[f64]) {
            self.close("output", found, &self.output);
        }

        pub(crate) fn gradient(&self, name: &str, found: &[f64]) {
            self.close(name, found, &self.gradients[name]);
        }

        /// Compares the gradients of the scalar `output` for the given inputs.
        pub(crate) fn gradients<const D: usize>(
            &self,
            output: Tensor<1>,
            inputs: &[(&str, &Tensor<D>)],
        ) {
            let gradients = output.backward();
            for (name, input) in inputs {
                let found = input.grad(&gradients).expect("has a gradient");
                self.gradient(name, &super::values(found));
            }
        }

        fn close(&self, what: &str, found: &[f64], expected: &[f64]) {
            assert_eq!(found.len(), expected.len(), "{} {what}", self.name);
            for (found, expected) in found.iter().zip(expected) {
                let bound = TOLERANCE * expected.abs().max(1.0);
                assert!(
                    (found - expected).abs() <= bound,
                    "{} {what}: {found} {expected}",
                    self.name
                );
            }
        }
    }
}
