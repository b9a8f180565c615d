//! Models and data for the tests.

use crate::{FitConfig, Labelled, Learn, Score, TensorBatches};
use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorReadError, activation::relu};
use firebrick_core::Seed;
use firebrick_regularize::{InvertedDropout, InvertedDropoutConfig, MaskSource};
use firebrick_stabilize::{Scheme, initialize};

/// One layer.
#[derive(Module, Debug)]
pub(crate) struct Net {
    pub(crate) layer: Linear,
}

impl Learn for Net {
    type Batch = Labelled<2>;

    fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
        let logits = self.layer.forward(batch.inputs);
        CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, batch.targets)
    }

    fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
        Score::classification(self.layer.forward(batch.inputs), batch.targets)
    }
}

pub(crate) fn net(device: &Device) -> Net {
    initialize(Net { layer: LinearConfig::new(2, 2).init(device) }, Scheme::LecunNormal, Seed(4))
}

/// Everything that has a state: batch norm and seeded dropout.
#[derive(Module, Debug)]
pub(crate) struct Deep {
    first: Linear,
    norm: BatchNorm,
    dropout: InvertedDropout,
    pub(crate) last: Linear,
}

impl Deep {
    fn forward(&self, inputs: Tensor<2>) -> Tensor<2> {
        let hidden = relu(self.norm.forward(self.first.forward(inputs)));
        self.last.forward(self.dropout.forward(hidden))
    }
}

impl Learn for Deep {
    type Batch = Labelled<2>;

    fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
        let logits = self.forward(batch.inputs);
        CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, batch.targets)
    }

    fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
        Score::classification(self.forward(batch.inputs), batch.targets)
    }
}

pub(crate) fn deep(device: &Device, masks: &MaskSource, width: usize) -> Deep {
    let model = Deep {
        first: LinearConfig::new(2, width).init(device),
        norm: BatchNormConfig::new(width).init(device),
        dropout: InvertedDropoutConfig::new(0.3).init(masks).expect("valid"),
        last: LinearConfig::new(width, 2).init(device),
    };
    initialize(model, Scheme::LecunNormal, Seed(4))
}

/// Two classes on either side of a line, `scale` apart.
pub(crate) fn data(device: &Device, scale: f32) -> TensorBatches<2> {
    let rows: Vec<f32> = (0..40)
        .flat_map(|i| {
            let side = if i % 2 == 0 { scale } else { -scale };
            [side + 0.01 * i as f32, 0.5 * side]
        })
        .collect();
    let inputs = Tensor::<1>::from_floats(rows.as_slice(), device).reshape([40, 2]);
    let classes: Vec<i32> = (0..40).map(|i| i % 2).collect();
    let targets = Tensor::from_ints(classes.as_slice(), device);
    TensorBatches::new(Labelled { inputs, targets }, 7, Seed(5)).expect("valid")
}

pub(crate) fn config(epochs: usize) -> FitConfig {
    FitConfig::new(epochs).with_progress(false)
}

/// The bytes of a model's record, paths and identities aside.
pub(crate) fn weights<M: Module>(model: &M) -> Vec<(String, Vec<u8>)> {
    use burn::module::{ModuleVisitor, Param};
    use firebrick_backend::PathStack;
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
            let data = param.val().into_data();
            self.found.push((self.path.path(), data.as_bytes().to_vec()));
        }
    }
    let mut read = Read::default();
    model.visit(&mut read);
    read.found
}
