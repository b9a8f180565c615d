//! Dropout for recurrent layers: one mask a sequence, and zoneout.
//!
//! # Formula
//! ```text
//! variational   x'_t = x_t * m / (1 - p)           one m for all steps of a sequence
//! recurrent     h'_{t-1} = h_{t-1} * r / (1 - p)   one r for all steps
//! zoneout       h_t = k h_{t-1} + (1 - k) h~_t     P(k = 1) = z while training
//!               h_t = z h_{t-1} + (1 - z) h~_t     in evaluation: it does mix
//! ```
//! A new mask every step would wash out what the state remembers.
//!
//! # Reference
//! Y. Gal, Z. Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", NIPS
//! 2016; D. Krueger et al., "Zoneout: regularizing RNNs by randomly preserving hidden activations", ICLR 2017.

use super::{Noise, constant, masked};
use crate::MaskSource;
use burn::config::Config;
use burn::module::Module;
use burn::nn::{GateController, Lstm, LstmState};
use burn::tensor::{Device, Tensor};
use firebrick_core::ConfigError;

/// Configuration of [`VariationalDropout`].
#[derive(Config, Debug)]
pub struct VariationalDropoutConfig {
    /// Probability of zeroing a feature, in [0, 1).
    pub prob: f64,
}

impl VariationalDropoutConfig {
    /// Checks the probability and builds the layer.
    ///
    /// # Errors
    /// When `prob` is outside [0, 1) or NaN.
    pub fn init(&self, masks: &MaskSource) -> Result<VariationalDropout, ConfigError> {
        Ok(VariationalDropout { noise: Noise::new("prob", self.prob, masks)? })
    }
}

/// Zeroes features of a sequence `[n, t, f]` while training, the same at every step.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_regularize::{MaskSource, VariationalDropoutConfig};
///
/// let layer = VariationalDropoutConfig::new(0.5).init(&MaskSource::new(Seed(7)))?;
/// let output = layer.forward(Tensor::<3>::ones([2, 5, 3], &Device::flex().autodiff()));
/// let sums: Vec<f32> = output.sum_dim(1).try_to_vec_as().unwrap();
/// assert!(sums.iter().all(|&sum| sum == 0.0 || sum == 10.0));
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Module, Debug)]
pub struct VariationalDropout {
    noise: Noise,
}

impl VariationalDropout {
    /// Applies it to sequences `[n, t, f]`.
    #[must_use]
    pub fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        let Some(prob) = self.noise.active(&input.device()) else { return input };
        let [samples, _, features] = input.dims();
        masked(input, [samples, 1, features], prob, &self.noise.masks)
    }
}

/// Configuration of [`Zoneout`].
#[derive(Config, Debug)]
pub struct ZoneoutConfig {
    /// Probability that a unit keeps its old value, in [0, 1).
    pub prob: f64,
}

impl ZoneoutConfig {
    /// Checks the probability and builds the layer.
    ///
    /// # Errors
    /// When `prob` is outside [0, 1) or NaN.
    pub fn init(&self, masks: &MaskSource) -> Result<Zoneout, ConfigError> {
        Ok(Zoneout { noise: Noise::new("prob", self.prob, masks)? })
    }
}

/// Keeps units of a recurrent state at their old value, at random while training and in part in evaluation.
///
/// Evaluation mixes by the probability times the strength of its [`MaskSource`], which no record of a model holds: where a
/// schedule has set it, save [`MaskSource::strength`] beside the model and set it again before the model evaluates.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_regularize::{MaskSource, ZoneoutConfig};
///
/// let zoneout = ZoneoutConfig::new(0.25).init(&MaskSource::new(Seed(7)))?;
/// let device = Device::flex(); // evaluation
/// let mixed = zoneout.forward(Tensor::<2>::zeros([1, 1], &device), Tensor::ones([1, 1], &device));
/// assert_eq!(mixed.into_scalar::<f32>(), 0.75);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Module, Debug)]
pub struct Zoneout {
    noise: Noise,
}

impl Zoneout {
    /// The state between `previous` and `candidate`, tensors of one shape.
    #[must_use]
    pub fn forward<const D: usize>(&self, previous: Tensor<D>, candidate: Tensor<D>) -> Tensor<D> {
        let device = candidate.device();
        let prob = self.noise.prob * self.noise.masks.strength();
        if prob == 0.0 {
            return candidate;
        }
        if !self.noise.trains(&device) {
            return previous.mul_scalar(prob) + candidate.mul_scalar(1.0 - prob);
        }
        let (shape, dtype) = (candidate.dims(), candidate.dtype());
        let keeps = self.noise.masks.pick(shape.iter().product(), prob, 1.0, 0.0);
        let renews = keeps.iter().map(|keep| 1.0 - keep).collect();
        previous * constant(keeps, shape, &device, dtype)
            + candidate * constant(renews, shape, &device, dtype)
    }
}

/// Configuration of [`RegularizedLstm`]: each part is off at 0.
#[derive(Config, Debug)]
pub struct RegularizedLstmConfig {
    /// Drop probability of input features, one mask a sequence.
    #[config(default = 0.0)]
    pub input_prob: f64,
    /// Drop probability of the recurrent hidden state, one mask a sequence.
    #[config(default = 0.0)]
    pub recurrent_prob: f64,
    /// Zoneout of the cell state; the paper uses 0.5.
    #[config(default = 0.0)]
    pub cell_zoneout: f64,
    /// Zoneout of the hidden state; the paper uses 0.05.
    #[config(default = 0.0)]
    pub hidden_zoneout: f64,
}

impl RegularizedLstmConfig {
    /// Checks the probabilities and builds the layer around `lstm`, whose layout and direction are kept.
    ///
    /// # Errors
    /// When a probability is outside [0, 1) or NaN.
    pub fn init(&self, lstm: Lstm, masks: &MaskSource) -> Result<RegularizedLstm, ConfigError> {
        let zoneout =
            |field, prob| Ok::<_, ConfigError>(Zoneout { noise: Noise::new(field, prob, masks)? });
        Ok(RegularizedLstm {
            lstm,
            input: VariationalDropout { noise: Noise::new("input_prob", self.input_prob, masks)? },
            recurrent: Noise::new("recurrent_prob", self.recurrent_prob, masks)?,
            cell: zoneout("cell_zoneout", self.cell_zoneout)?,
            hidden: zoneout("hidden_zoneout", self.hidden_zoneout)?,
        })
    }
}

/// burn's LSTM with variational dropout on inputs and recurrence and with zoneout on both states.
///
/// It steps the LSTM through time, in the type of the weights, which must be that of the input; weights stay those of
/// the layer inside. Drop its recurrent weights with [`WeightDrop`](crate::WeightDrop).
///
/// ```
/// use burn::nn::LstmConfig;
/// use burn::tensor::{Device, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_regularize::{MaskSource, RegularizedLstmConfig};
///
/// let device = Device::flex().autodiff();
/// let lstm = LstmConfig::new(3, 4, true).init(&device);
/// let config = RegularizedLstmConfig::new().with_recurrent_prob(0.3).with_cell_zoneout(0.5);
/// let layer = config.init(lstm, &MaskSource::new(Seed(7)))?;
/// let (output, state) = layer.forward(Tensor::<3>::ones([2, 5, 3], &device), None);
/// assert_eq!((output.dims(), state.hidden.dims()), ([2, 5, 4], [2, 4]));
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Module, Debug)]
pub struct RegularizedLstm {
    /// The layer inside.
    pub lstm: Lstm,
    input: VariationalDropout,
    recurrent: Noise,
    cell: Zoneout,
    hidden: Zoneout,
}

impl RegularizedLstm {
    /// Runs over the sequence; input, output and state as in burn's `Lstm::forward`.
    #[must_use]
    pub fn forward(
        &self,
        input: Tensor<3>,
        state: Option<LstmState<2>>,
    ) -> (Tensor<3>, LstmState<2>) {
        let time = usize::from(self.lstm.batch_first);
        let input = if self.lstm.batch_first {
            self.input.forward(input)
        } else {
            self.input.forward(input.swap_dims(0, 1)).swap_dims(0, 1)
        };
        let (device, steps) = (input.device(), input.dims()[time]);
        let shape = [input.dims()[1 - time], self.lstm.d_hidden];
        let dtype = input.dtype();
        let mut state = state.unwrap_or_else(|| {
            let zeros = || Tensor::zeros(shape, (&device, dtype));
            LstmState { cell: zeros(), hidden: zeros() }
        });
        let mask = self.recurrent_mask(shape, &device, dtype);
        let mut outputs = Vec::with_capacity(steps);
        // A batch without sequences has no state to step.
        for step in 0..if shape[0] == 0 { 0 } else { steps } {
            let at = if self.lstm.reverse { steps - 1 - step } else { step };
            let hidden = match &mask {
                Some(mask) => state.hidden.clone() * mask.clone(),
                None => state.hidden.clone(),
            };
            let entering = LstmState { cell: state.cell.clone(), hidden };
            let slice = input.clone().narrow(time, at, 1).squeeze_dim(time);
            let candidate = self.step(slice, entering);
            state = LstmState {
                cell: self.cell.forward(state.cell, candidate.cell),
                hidden: self.hidden.forward(state.hidden, candidate.hidden),
            };
            outputs.push(state.hidden.clone());
        }
        if self.lstm.reverse {
            outputs.reverse();
        }
        let output = if outputs.is_empty() {
            let mut empty = [steps, steps, shape[1]];
            empty[1 - time] = shape[0];
            Tensor::zeros(empty, (&device, dtype))
        } else {
            Tensor::stack(outputs, time)
        };
        (output, state)
    }

    /// One step of burn's LSTM, whose own `forward` fills a buffer of the default type: weights of another type panic.
    fn step(&self, input: Tensor<2>, state: LstmState<2>) -> LstmState<2> {
        let lstm = &self.lstm;
        let product =
            |gate: &GateController| gate.gate_product(input.clone(), state.hidden.clone());
        let gate = |gate| lstm.gate_activation.forward(product(gate));
        let enters = gate(&lstm.input_gate);
        let stays = match &lstm.forget_gate {
            Some(forget) if !lstm.input_forget => gate(forget),
            _ => enters.clone().neg().add_scalar(1.0),
        };
        let leaves = gate(&lstm.output_gate);
        let candidate = lstm.cell_activation.forward(product(&lstm.cell_gate));
        let cell = stays * state.cell + enters * candidate;
        let cell = match lstm.clip {
            Some(clip) => cell.clamp(-clip, clip),
            None => cell,
        };
        let hidden = leaves * lstm.hidden_activation.forward(cell.clone());
        LstmState { cell, hidden }
    }

    fn recurrent_mask(
        &self,
        shape: [usize; 2],
        device: &Device,
        dtype: burn::tensor::DType,
    ) -> Option<Tensor<2>> {
        let prob = self.recurrent.active(device)?;
        let keep = 1.0 - prob;
        let mask = self.recurrent.masks.pick(shape[0] * shape[1], keep, (1.0 / keep) as f32, 0.0);
        Some(constant(mask, shape, device, dtype))
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::module::{ModuleMapper, Param};
    use burn::nn::LstmConfig;
    use burn::optim::GradientsParams;
    use burn::tensor::{DType, TensorData};
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;

    fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.try_to_vec_as().expect("reads")
    }

    #[test]
    fn one_mask_holds_over_the_sequence() {
        for device in devices() {
            let (n, t, f) = (1000usize, 3usize, 1000usize);
            let layer = VariationalDropoutConfig::new(0.3).init(&MaskSource::new(Seed(1)));
            let ones = Tensor::<3>::ones([n, t, f], &device.autodiff());
            let output = read(layer.expect("valid").forward(ones));
            for sample in output.chunks(t * f) {
                assert_eq!(sample[..f], sample[f..2 * f]);
                assert_eq!(sample[..f], sample[2 * f..]);
            }
            let dropped = output.iter().filter(|&&u| u == 0.0).count() as f64 / t as f64;
            let total = (n * f) as f64;
            assert!((dropped / total - 0.3).abs() < 5.0 * (0.21 / total).sqrt());
        }
    }

    #[test]
    fn the_gradient_of_a_dropped_feature_is_zero_and_training_comes_back() {
        for device in devices() {
            let device = device.autodiff();
            let layer = VariationalDropoutConfig::new(0.5).init(&MaskSource::new(Seed(3)));
            let layer = layer.expect("valid");
            let input = Tensor::<3>::ones([4, 3, 16], &device).require_grad();
            let output = layer.forward(input.clone());
            let gradient = input.grad(&output.clone().sum().backward()).expect("has one");
            // The input is 1, so the output is the mask.
            let gradient = read(gradient);
            assert_eq!(gradient, read(output));
            assert!(gradient.contains(&0.0) && gradient.contains(&2.0));
            assert_eq!(read(layer.valid().forward(input.clone())), [1.0; 192]);
            let back = read(layer.valid().train().forward(input));
            assert!(back.contains(&0.0) && back.contains(&2.0));
        }
    }

    #[test]
    fn the_recurrent_mask_has_its_share_and_stops_the_gradient() {
        for device in devices() {
            let device = device.autodiff();
            let masks = MaskSource::new(Seed(6));
            let config = RegularizedLstmConfig::new().with_recurrent_prob(0.3);
            let lstm = LstmConfig::new(3, 1000, true).init(&device);
            let wide = config.init(lstm, &masks).expect("valid");
            let n = 1_000_000usize;
            let mask = wide.recurrent_mask([1000, n / 1000], &device, DType::F32);
            let mask = read(mask.expect("trains"));
            let scale = 1.0 / 0.7;
            assert!(mask.iter().all(|&m| m == 0.0 || (m - scale).abs() < 1e-6));
            let dropped = mask.iter().filter(|&&m| m == 0.0).count() as f64 / n as f64;
            assert!((dropped - 0.3).abs() < 5.0 * (0.21 / n as f64).sqrt(), "{dropped}");

            let lstm = LstmConfig::new(3, 6, true).init(&device);
            let layer = config.init(lstm, &masks).expect("valid");
            masks.seek(0);
            let mask = layer.recurrent_mask([4, 6], &device, DType::F32).expect("trains");
            let mask = read(mask);
            assert!(mask.contains(&0.0));
            masks.seek(0);
            let hidden = Tensor::<2>::ones([4, 6], &device).require_grad();
            let state =
                LstmState { cell: Tensor::<2>::zeros([4, 6], &device), hidden: hidden.clone() };
            // After one step the initial state has reached the output through the mask alone.
            let input = Tensor::<3>::ones([4, 1, 3], &device);
            let (output, _) = layer.forward(input, Some(state));
            let gradient = hidden.grad(&output.sum().backward()).expect("has one");
            for (gradient, mask) in read(gradient).into_iter().zip(mask) {
                assert_eq!(gradient == 0.0, mask == 0.0, "{gradient} {mask}");
            }
        }
    }

    #[test]
    fn zoneout_draws_in_training_and_mixes_in_evaluation() {
        for device in devices() {
            let n = 1_000_000usize;
            let layer = ZoneoutConfig::new(0.3).init(&MaskSource::new(Seed(2))).expect("valid");
            let device = device.autodiff();
            let old = Tensor::<1>::zeros([n], &device).require_grad();
            let new = Tensor::<1>::ones([n], &device).require_grad();
            let mixed = layer.forward(old.clone(), new.clone());
            let values = read(mixed.clone());
            assert!(values.iter().all(|&v| v == 0.0 || v == 1.0));
            let kept = values.iter().filter(|&&v| v == 0.0).count() as f64 / n as f64;
            assert!((kept - 0.3).abs() < 5.0 * (0.21 / n as f64).sqrt(), "{kept}");
            let gradients = mixed.sum().backward();
            let (old_grad, new_grad) = (old.grad(&gradients), new.grad(&gradients));
            assert_eq!(read(new_grad.expect("has one")), values);
            let kept = read(old_grad.expect("has one"));
            assert!(kept.iter().zip(&values).all(|(old, new)| old + new == 1.0));
            let evaluated = read(layer.valid().forward(old.clone(), new.clone()));
            assert!(evaluated.iter().all(|&v| (v - 0.7).abs() < 1e-6));
            let back = read(layer.valid().train().forward(old, new));
            assert!(back.iter().all(|&v| v == 0.0 || v == 1.0));
        }
    }

    #[test]
    fn evaluation_of_zoneout_depends_on_the_strength_that_is_saved_beside_the_model() {
        let device = Device::flex();
        let masks = MaskSource::new(Seed(2));
        masks.set_strength(0.5).expect("valid");
        let mixed = |masks: &MaskSource| {
            let layer = ZoneoutConfig::new(0.4).init(masks).expect("valid");
            read(layer.forward(Tensor::<1>::zeros([1], &device), Tensor::ones([1], &device)))[0]
        };
        assert!((mixed(&masks) - 0.8).abs() < 1e-6);
        // A new process begins at full strength.
        let again = MaskSource::new(Seed(2));
        assert!((mixed(&again) - 0.6).abs() < 1e-6);
        again.set_strength(masks.strength()).expect("valid");
        assert_eq!(mixed(&again), mixed(&masks));
    }

    #[test]
    fn everything_off_is_burns_lstm_in_every_layout() {
        let device = Device::flex().autodiff();
        for (batch_first, reverse) in [(true, false), (false, false), (true, true), (false, true)] {
            let config = LstmConfig::new(3, 4, true).with_batch_first(batch_first);
            // Coupled gates and the clip ride along.
            let config = config.with_input_forget(reverse).with_clip(batch_first.then_some(0.05));
            let lstm = config.with_reverse(reverse).init(&device);
            let layer = RegularizedLstmConfig::new();
            let layer = layer.init(lstm.clone(), &MaskSource::new(Seed(0))).expect("valid");
            let input = Tensor::<3>::from_data(
                burn::tensor::TensorData::new(
                    (0..30).map(|i| (i as f32).sin()).collect(),
                    [2, 5, 3],
                ),
                &device,
            );
            let ((ours, our_state), (theirs, their_state)) =
                (layer.forward(input.clone(), None), lstm.forward(input, None));
            for (a, b) in read(ours).iter().zip(read(theirs)) {
                assert!((a - b).abs() < 1e-6);
            }
            for (a, b) in read(our_state.cell).iter().zip(read(their_state.cell)) {
                assert!((a - b).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn an_lstm_of_any_float_type_follows_the_formula() {
        struct Halves(DType);
        impl ModuleMapper for Halves {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                param.map(|old| {
                    let options = (&old.device(), self.0);
                    Tensor::full(old.dims(), 0.5, options).require_grad()
                })
            }
        }
        let (mut cell, mut hidden) = (0.0f64, 0.0f64);
        for x in [1.0, -2.0] {
            let z: f64 = 0.5 * x + 0.5 * hidden;
            let gate = 1.0 / (1.0 + (-z).exp());
            cell = gate * cell + gate * z.tanh();
            hidden = gate * cell.tanh();
        }
        for device in devices() {
            let device = device.autodiff();
            for (dtype, bound) in
                [(DType::F64, 1e-9), (DType::F32, 1e-6), (DType::F16, 2e-3), (DType::BF16, 2e-2)]
            {
                if !device.supports_dtype(dtype) {
                    continue;
                }
                let lstm = LstmConfig::new(1, 1, false).init(&device).map(&mut Halves(dtype));
                let layer = RegularizedLstmConfig::new().init(lstm, &MaskSource::new(Seed(0)));
                let layer = layer.expect("valid");
                let input = TensorData::new(vec![1.0f32, -2.0], [1, 2, 1]);
                let input = Tensor::<3>::from_data(input, (&device, dtype));
                let (output, state) = layer.forward(input, None);
                assert_eq!(output.dtype(), dtype);
                let found = [state.cell.into_scalar::<f64>(), state.hidden.into_scalar()];
                for (found, expected) in found.into_iter().zip([cell, hidden]) {
                    assert!((found - expected).abs() < bound, "{dtype:?}: {found} {expected}");
                }
                let gradients = GradientsParams::from_grads(output.sum().backward(), &layer);
                let weight = layer.lstm.cell_gate.hidden_transform.weight.id;
                assert_eq!(gradients.get::<2>(weight).expect("trains").dtype(), dtype);
            }
        }
    }

    #[test]
    fn noise_acts_in_training_reaches_the_weights_and_leaves_evaluation_alone() {
        let device = Device::flex().autodiff();
        let lstm = LstmConfig::new(3, 4, true).init(&device);
        let config = RegularizedLstmConfig::new().with_input_prob(0.3).with_recurrent_prob(0.3);
        let layer = config.init(lstm.clone(), &MaskSource::new(Seed(4))).expect("valid");
        let input = Tensor::<3>::ones([2, 5, 3], &device);
        let (plain, _) = lstm.forward(input.clone(), None);
        let (noisy, _) = layer.forward(input.clone(), None);
        assert_ne!(read(noisy.clone()), read(plain.clone()));
        let gradients = GradientsParams::from_grads(noisy.sum().backward(), &layer);
        assert!(gradients.get::<2>(layer.lstm.cell_gate.hidden_transform.weight.id).is_some());
        let (evaluated, _) = layer.valid().forward(input.clone().inner(), None);
        for (a, b) in read(evaluated).iter().zip(read(plain)) {
            assert!((a - b).abs() < 1e-6);
        }
        let (back, _) = layer.valid().train().forward(input.clone(), None);
        let (plain, _) = lstm.forward(input, None);
        assert_ne!(read(back), read(plain));
        let (empty, _) = layer.forward(Tensor::<3>::ones([2, 0, 3], &device), None);
        assert_eq!(empty.dims(), [2, 0, 4]);
        let refused = config.with_cell_zoneout(1.0).init(lstm, &MaskSource::new(Seed(4)));
        let message = "`cell_zoneout` must be in [0, 1), got 1";
        assert_eq!(refused.expect_err("refused").to_string(), message);
    }
}
