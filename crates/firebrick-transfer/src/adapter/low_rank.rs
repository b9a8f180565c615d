//! A low-rank change of any weight, with a learned length of each output where wanted.
//!
//! # Formula
//! ```text
//! LoRA     W = W0 + s A B                      A [inputs, r], B [r, outputs]; s = alpha / r, rsLoRA: alpha / sqrt(r)
//! DoRA     W = m V / |V|,   V = W0 + s A B     by output; |V| a constant in the backward pass, m starts at |W0|
//! ```
//! # Reference
//! E. Hu et al., "LoRA", ICLR 2022; D. Kalajdzievski, "A rank stabilization scaling factor", 2023, arXiv 2312.03732;
//! S. Liu et al., "DoRA", ICML 2024.

use super::matrix::Layout;
use burn::module::{Module, Param, Reparameterization};
use burn::tensor::Tensor;

/// What [`AdaptConfig`](super::AdaptConfig) hangs on convolutions, and on every weight under DoRA; linear layers under
/// LoRA have burn's own `LoraAdapter`.
#[derive(Module, Debug)]
pub struct LowRank {
    /// `[inputs, rank]`.
    pub a: Param<Tensor<2>>,
    /// `[rank, outputs]`.
    pub b: Param<Tensor<2>>,
    /// The learned lengths of the outputs, under DoRA.
    pub magnitude: Option<Param<Tensor<1>>>,
    /// What `A B` is multiplied by.
    pub scale: f64,
    #[module(skip)]
    pub(super) layout: Layout,
}

impl LowRank {
    /// The change as a matrix `[inputs, outputs]`.
    #[must_use]
    pub fn delta(&self) -> Tensor<2> {
        self.a.val().matmul(self.b.val()).mul_scalar(self.scale)
    }
}

/// The length of each column, of shape `[1, outputs]`.
pub(super) fn lengths(matrix: Tensor<2>) -> Tensor<2> {
    matrix.square().sum_dim(0).sqrt()
}

impl Reparameterization for LowRank {
    // burn's name, so that one ending finds the factors of both: `lora.b`.
    const NAME: &'static str = "lora";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        let shape = base.dims();
        let changed = self.layout.to_matrix(base) + self.delta();
        let matrix = match &self.magnitude {
            None => changed,
            Some(magnitude) => {
                let fixed = lengths(changed.clone()).detach().clamp_min(1e-12);
                let [_, outputs] = changed.dims();
                changed * (magnitude.val().reshape([1, outputs]) / fixed)
            }
        };
        self.layout.to_weight(matrix, shape)
    }
}
