//! A deep net of which one thing at a time can be changed.

use burn::module::Module;
use burn::nn::activation::Activation;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{
    BatchNorm, BatchNormConfig, LeakyReluConfig, Linear, LinearConfig, PReluConfig, Relu, Sigmoid,
};
use burn::tensor::{Device, Tensor, TensorReadError};
use firebrick::prelude::{Labelled, Learn, Seed};
use firebrick::stabilize::{Scheme, Watch, initialize};
use firebrick::train::Score;

/// What stands behind each hidden layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Sigmoid,
    Relu,
    /// Leaky with this slope.
    Leaky(f64),
    /// Leaky with a learned slope.
    Learned,
}

impl Kind {
    fn build(self, device: &Device) -> Activation {
        match self {
            Self::Sigmoid => Sigmoid::new().into(),
            Self::Relu => Relu::new().into(),
            Self::Leaky(slope) => {
                Activation::LeakyRelu(LeakyReluConfig::new().with_negative_slope(slope).init())
            }
            Self::Learned => Activation::PRelu(PReluConfig::new().init(device)),
        }
    }
}

/// What a net is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    /// Hidden layers.
    pub(crate) depth: usize,
    /// Units of each.
    pub(crate) width: usize,
    /// burn's own default where none is given: U(-1/sqrt(n), 1/sqrt(n)), a variance of 1/(3n).
    pub(crate) scheme: Option<Scheme>,
    pub(crate) batch_norm: bool,
    pub(crate) residual: bool,
}

impl Plan {
    pub(crate) fn new(kind: Kind, depth: usize, width: usize) -> Self {
        Self { kind, depth, width, scheme: None, batch_norm: false, residual: false }
    }
}

/// Inputs, hidden layers of one width, class logits.
#[derive(Module, Debug)]
pub(crate) struct Net {
    pub(crate) hidden: Vec<Linear>,
    norms: Vec<BatchNorm>,
    activations: Vec<Activation>,
    last: Linear,
    residual: bool,
}

impl Net {
    pub(crate) fn new(
        plan: &Plan,
        inputs: usize,
        classes: usize,
        seed: Seed,
        device: &Device,
    ) -> Self {
        let layer = |index| {
            let before = if index == 0 { inputs } else { plan.width };
            LinearConfig::new(before, plan.width).init(device)
        };
        let norms = if plan.batch_norm { plan.depth } else { 0 };
        let net = Self {
            hidden: (0..plan.depth).map(layer).collect(),
            norms: (0..norms).map(|_| BatchNormConfig::new(plan.width).init(device)).collect(),
            activations: (0..plan.depth).map(|_| plan.kind.build(device)).collect(),
            last: LinearConfig::new(plan.width, classes).init(device),
            residual: plan.residual,
        };
        // burn's default comes from a generator of the process; the same law from the pinned one.
        let default = Scheme::Scaled {
            gain: 1.0 / 3f64.sqrt(),
            fan: firebrick::stabilize::Fan::In,
            distribution: firebrick::stabilize::Distribution::Uniform,
        };
        initialize(net, plan.scheme.unwrap_or(default), seed)
    }

    /// The activation of the hidden layers, one for all but a learned one.
    pub(crate) fn activation(&self) -> Option<&Activation> {
        self.activations.first()
    }

    fn forward(
        &self,
        inputs: Tensor<2>,
        mut see: impl FnMut(usize, Tensor<2>) -> Tensor<2>,
    ) -> Tensor<2> {
        let mut hidden = inputs;
        for (depth, (layer, activation)) in self.hidden.iter().zip(&self.activations).enumerate() {
            let mut next = layer.forward(hidden.clone());
            if let Some(norm) = self.norms.get(depth) {
                next = norm.forward(next);
            }
            next = activation.forward(next);
            if self.residual && depth > 0 {
                next = next + hidden;
            }
            hidden = see(depth, next);
        }
        self.last.forward(hidden)
    }
}

fn loss(logits: Tensor<2>, batch: Labelled<2>) -> Tensor<1> {
    CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, batch.targets)
}

impl Learn for Net {
    type Batch = Labelled<2>;

    fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
        loss(self.forward(batch.inputs.clone(), |_, hidden| hidden), batch)
    }

    fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
        Score::classification(self.forward(batch.inputs, |_, hidden| hidden), batch.targets)
    }

    fn watch(&self, batch: Labelled<2>, watch: &mut Watch) -> Tensor<1> {
        let see = |depth: usize, hidden| watch.see(format!("{depth:02}"), hidden);
        loss(self.forward(batch.inputs.clone(), see), batch)
    }
}
