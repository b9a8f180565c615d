//! Adapters that learn vectors alone: VeRA and IA3.
//!
//! # Formula
//! ```text
//! VeRA     W = W0 + A diag(d) B diag(b)        A, B random, shared by all layers, never trained; d 0.1, b 0 at first
//! IA3      W = W0 diag(l) or diag(l) W0        by output (keys, values) or by input (second layer of a block); l 1 at first
//! ```
//! # Reference
//! D. Kopiczko, T. Blankevoort, Y. Asano, "VeRA", ICLR 2024; H. Liu et al., "Few-shot parameter-efficient fine-tuning is
//! better and cheaper than in-context learning", NeurIPS 2022.
//!
//! # Differences
//! IA3 by output rescales the activation, a bias included; here the bias of the layer is left as it is.

use super::matrix::Layout;
use burn::module::{Module, Param, Reparameterization};
use burn::tensor::Tensor;
use firebrick_backend::checkpointing::beside;

/// [VeRA](self) on one weight.
#[derive(Module, Debug)]
pub struct Vera {
    /// `[rank]`.
    pub d: Param<Tensor<1>>,
    /// `[outputs]`.
    pub b: Param<Tensor<1>>,
    pub(super) down: Tensor<2>,
    pub(super) up: Tensor<2>,
    #[module(skip)]
    pub(super) layout: Layout,
}

impl Vera {
    /// The change as a matrix `[inputs, outputs]`.
    #[must_use]
    pub fn delta(&self) -> Tensor<2> {
        let (d, b) = (self.d.val(), self.b.val());
        let (rank, outputs) = (d.dims()[0], b.dims()[0]);
        let (down, up) = (beside(self.down.clone(), &d), beside(self.up.clone(), &d));
        (down * d.reshape([1, rank])).matmul(up) * b.reshape([1, outputs])
    }
}

impl Reparameterization for Vera {
    const NAME: &'static str = "vera";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        let shape = base.dims();
        base + self.layout.to_weight(self.delta(), shape)
    }
}

/// [IA3](self) on one weight.
#[derive(Module, Debug)]
pub struct Rescale {
    /// `[outputs]`, or `[inputs]` where inputs are rescaled.
    pub scale: Param<Tensor<1>>,
    pub(super) by_input: bool,
    #[module(skip)]
    pub(super) layout: Layout,
}

impl Rescale {
    /// The factors as a matrix that broadcasts over `[inputs, outputs]`.
    pub(super) fn factors(&self) -> Tensor<2> {
        let scale = self.scale.val();
        let size = scale.dims()[0];
        if self.by_input { scale.reshape([size, 1]) } else { scale.reshape([1, size]) }
    }
}

impl Reparameterization for Rescale {
    const NAME: &'static str = "ia3";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        let shape = base.dims();
        self.layout.to_weight(self.layout.to_matrix(base) * self.factors(), shape)
    }
}
