//! Weights of layers as matrices `[inputs, outputs]`, whatever their own layout.

use burn::tensor::Tensor;
use firebrick_stabilize::unit_axis;
use serde::{Deserialize, Serialize};

/// How a weight lies as a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Layout {
    /// `[inputs, outputs]`, as in burn's linear layers.
    InputsFirst,
    /// `[outputs, inputs, field..]`, as in convolutions.
    OutputsFirst,
}

impl Layout {
    /// The layout of a weight in a layer of type `owner`; none of a transposed convolution, which is no matrix.
    pub(crate) fn of(owner: &str, rank: usize) -> Option<Self> {
        match unit_axis(owner, rank)? {
            0 => Some(Self::OutputsFirst),
            _ if rank == 2 => Some(Self::InputsFirst),
            _ => None,
        }
    }

    /// Inputs and outputs.
    pub(crate) fn dims(self, shape: &[usize]) -> [usize; 2] {
        match self {
            Self::InputsFirst => [shape[0], shape[1]],
            Self::OutputsFirst => [shape[1..].iter().product(), shape[0]],
        }
    }

    pub(crate) fn to_matrix<const D: usize>(self, weight: Tensor<D>) -> Tensor<2> {
        let [inputs, outputs] = self.dims(&weight.dims());
        match self {
            Self::InputsFirst => weight.reshape([inputs, outputs]),
            Self::OutputsFirst => weight.reshape([outputs, inputs]).transpose(),
        }
    }

    pub(crate) fn to_weight<const D: usize>(
        self,
        matrix: Tensor<2>,
        shape: [usize; D],
    ) -> Tensor<D> {
        match self {
            Self::InputsFirst => matrix.reshape(shape),
            Self::OutputsFirst => matrix.transpose().reshape(shape),
        }
    }
}
