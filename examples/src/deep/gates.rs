//! The step of an LSTM by one product for all of its gates: over hundreds of steps every operation counts.

use burn::nn::{GateController, Lstm, LstmState};
use burn::tensor::Tensor;
use burn::tensor::activation::{sigmoid, tanh};

/// The weights of all gates in one matrix.
#[derive(Debug, Clone)]
pub(crate) struct Gates {
    /// `[inputs + 1 + width, 4 width]`: rows for the inputs, for a one and for the hidden values; columns for the input,
    /// forget, output and cell gate.
    weights: Tensor<2>,
    width: usize,
}

impl Gates {
    /// Those of an LSTM that has biases and a forget gate of its own.
    pub(crate) fn of(lstm: &Lstm) -> Option<Self> {
        let forget = lstm.forget_gate.as_ref()?;
        let columns = |gate: &GateController| {
            let GateController { input_transform: input, hidden_transform: hidden } = gate;
            let bias = input.bias.as_ref()?.val() + hidden.bias.as_ref()?.val();
            Some(Tensor::cat(vec![input.weight.val(), bias.unsqueeze(), hidden.weight.val()], 0))
        };
        let gates = [&lstm.input_gate, forget, &lstm.output_gate, &lstm.cell_gate];
        let weights = gates.into_iter().map(columns).collect::<Option<Vec<_>>>()?;
        Some(Self { weights: Tensor::cat(weights, 1), width: lstm.d_hidden })
    }

    /// The state after one step; the last column of `input`, `[samples, inputs + 1]`, is one.
    pub(crate) fn step(&self, input: Tensor<2>, state: LstmState<2>) -> LstmState<2> {
        let width = self.width;
        let LstmState { cell, hidden } = state;
        let product = Tensor::cat(vec![input, hidden], 1).matmul(self.weights.clone());
        let open = sigmoid(product.clone().narrow(1, 0, 3 * width));
        let gate = |index: usize| open.clone().narrow(1, index * width, width);
        let new = tanh(product.narrow(1, 3 * width, width));
        let cell = gate(1) * cell + gate(0) * new;
        LstmState { hidden: gate(2) * tanh(cell.clone()), cell }
    }
}
