//! Recurrent nets that neither forget nor explode: where to start them.
//!
//! # Recipe
//! Orthogonal recurrent matrices, Xavier input matrices, biases 0 but the forget gate's, and gradients clipped by
//! [`ClipGlobalNorm`](crate::ClipGlobalNorm) at 1 to 5. (The `clip` of burn's own layers clamps the state, not the
//! gradient.)
//! ```text
//! constant     b_f = 1
//! chrono       b_f = ln(U(1, T - 1)),  b_i = -b_f                    T: the longest dependency, in steps
//! ```
//! burn has two biases a gate that add up; the input side's gets the value, the hidden side's 0. An LSTM whose
//! forget gate is coupled to the input gate has no `b_f`: its `b_i` gets the value with the sign turned.
//!
//! # Reference
//! F. Gers, J. Schmidhuber, F. Cummins, Neural Computation 2000; R. Jozefowicz, W. Zaremba, I. Sutskever, ICML
//! 2015; C. Tallec, Y. Ollivier, "Can recurrent neural networks warp time?", ICLR 2018 (arXiv 1804.11188).

use crate::{Distribution, Fan, Initialize, Scheme, Select, StabilizeError};
use burn::module::Module;
use firebrick_backend::parameters;
use firebrick_core::{Seed, check};
use std::collections::BTreeSet;

/// How the forget gates start.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum ForgetBias {
    /// All with the same bias; 1 as a rule.
    Constant(f64),
    /// Spread, so that the cells' memories cover up to this many steps.
    Chrono {
        /// The longest dependency, in steps; at least 3.
        longest: f64,
    },
}

/// Starts every LSTM and GRU inside `model` by the recipe; all else keeps its weights.
///
/// A GRU has no forget gate: for a model with GRUs alone, and for LSTMs without biases, ask for
/// `ForgetBias::Constant(0.0)`.
///
/// ```
/// use burn::{nn::LstmConfig, tensor::Device};
/// use firebrick_core::Seed;
/// use firebrick_stabilize::{ForgetBias, initialize_recurrent};
///
/// let device = Device::flex().autodiff();
/// let lstm = LstmConfig::new(3, 8, true).init(&device);
/// let lstm = initialize_recurrent(lstm, ForgetBias::Constant(1.0), Seed(1))?;
/// let forget = lstm.forget_gate.expect("not coupled").input_transform.bias.expect("has one");
/// assert_eq!(forget.val().sum().into_scalar::<f32>(), 8.0);
/// # Ok::<(), firebrick_stabilize::StabilizeError>(())
/// ```
///
/// # Errors
/// When there is no such layer, or the bias is not finite or `longest` below 3; when a bias other than 0 is asked for
/// and no layer has a forget gate, or an LSTM has no biases.
pub fn initialize_recurrent<M: Module>(
    model: M,
    forget: ForgetBias,
    seed: Seed,
) -> Result<M, StabilizeError> {
    match forget {
        ForgetBias::Constant(value) => check::finite("forget bias", value)?,
        ForgetBias::Chrono { longest } => check::range("longest", longest, 3.0..)?,
    };
    let list = parameters(&model);
    let has = |path: &str| list.iter().any(|parameter| parameter.path == path);
    let mut rules = Initialize::new(seed);
    let mut touched = Vec::new();
    // LSTMs, by the gate that they alone have, and layers whose forgetting got its bias.
    let (mut cells, mut biased) = (BTreeSet::new(), BTreeSet::new());
    for parameter in &list {
        let path = parameter.path.as_str();
        let Some((gate, part)) = split(path) else { continue };
        let (layer, name) = gate.rsplit_once('.').unwrap_or(("", gate));
        touched.push(path);
        if name == "cell_gate" {
            cells.insert(layer);
        }
        let recurrent = part.starts_with("hidden");
        if part.ends_with("weight") {
            let scheme = if recurrent {
                Scheme::Orthogonal { gain: 1.0 }
            } else {
                let distribution = Distribution::Uniform;
                Scheme::Scaled { gain: 1.0, fan: Fan::Average, distribution }
            };
            rules = rules.at(Select::path(path), scheme);
            continue;
        }
        let join =
            |name: &str| if layer.is_empty() { name.into() } else { format!("{layer}.{name}") };
        let forgets = |gate: &str| has(&format!("{gate}.input_transform.bias"));
        let sign = match name {
            _ if recurrent => 0.0,
            "forget_gate" => 1.0,
            // Without a forget gate of its own the input gate decides alone what is forgotten.
            "input_gate" if !forgets(&join("forget_gate")) => -1.0,
            "input_gate" if matches!(forget, ForgetBias::Chrono { .. }) => -1.0,
            _ => 0.0,
        };
        if sign != 0.0 {
            biased.insert(layer);
        }
        // One draw a layer: the input gate's biases are those of the forget gate, turned.
        let mut stream = seed.stream(&format!("forget bias/{layer}"));
        let values: Vec<f64> = (0..parameter.elements())
            .map(|_| match forget {
                ForgetBias::Constant(value) => value,
                ForgetBias::Chrono { longest } => (1.0 + (longest - 2.0) * stream.uniform()).ln(),
            })
            .map(|value| sign * value)
            .collect();
        rules = rules.values(path, values);
    }
    let refused = |selection: String| {
        let known = list.iter().map(|p| p.path.as_str()).collect::<Vec<_>>().join(", ");
        Err(StabilizeError::NothingSelected { selection, known })
    };
    if touched.is_empty() {
        return refused("an LSTM or GRU".into());
    }
    if forget != ForgetBias::Constant(0.0) {
        let missing = match cells.difference(&biased).next() {
            Some(layer) => Some(format!("the LSTM `{layer}`")),
            None if biased.is_empty() => Some("an LSTM".into()),
            None => None,
        };
        if let Some(missing) = missing {
            let otherwise = "(`ForgetBias::Constant(0.0)` asks for none)";
            return refused(format!("the forget bias of {missing} {otherwise}"));
        }
    }
    let touched: Vec<String> = touched.into_iter().map(str::to_owned).collect();
    rules.only(touched).apply(model)
}

/// The gate's path and what follows it, for the weight or bias of a gate; learned lengths follow their weight.
fn split(path: &str) -> Option<(&str, &str)> {
    let place = path.rfind("_transform.")?;
    let start = path[..place].rfind('.')?;
    let (gate, part) = (&path[..start], &path[start + 1..]);
    let name = gate.rsplit('.').next()?;
    let own = matches!(part.split_once('.'), Some((_, "weight" | "bias")));
    (own && name.ends_with("_gate")).then_some((gate, part))
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::kolmogorov::check_distribution;
    use crate::normalize_weights;
    use burn::nn::{GruConfig, Linear, LinearConfig, Lstm, LstmConfig};
    use burn::tensor::{Device, Tensor};
    use firebrick_backend::testing::devices;

    fn bias(linear: &Linear) -> Vec<f64> {
        linear.bias.as_ref().expect("has one").val().try_to_vec_as().expect("reads")
    }

    #[test]
    fn the_forget_gate_alone_gets_its_bias() {
        for device in devices() {
            let lstm: Lstm = LstmConfig::new(3, 4, true).init(&device);
            let head = LinearConfig::new(4, 2).init(&device);
            let before: Vec<f32> = head.weight.val().try_to_vec_as().expect("reads");
            let (layers, head) =
                initialize_recurrent((vec![lstm], head), ForgetBias::Constant(1.0), Seed(2))
                    .expect("fits");
            let lstm = &layers[0];
            let forget = lstm.forget_gate.as_ref().expect("not coupled");
            assert_eq!(bias(&forget.input_transform), [1.0; 4]);
            assert_eq!(bias(&forget.hidden_transform), [0.0; 4]);
            assert_eq!(bias(&lstm.input_gate.input_transform), [0.0; 4]);
            let w = lstm.cell_gate.hidden_transform.weight.val();
            let product = w.clone().matmul(w.transpose()) - Tensor::eye(4, &device);
            assert!(product.abs().max().into_scalar::<f32>() < 1e-5);
            let after: Vec<f32> = head.weight.val().try_to_vec_as().expect("reads");
            assert_eq!(before, after);
        }
    }

    #[test]
    fn chrono_biases_are_turned_in_the_input_gate() {
        for device in devices() {
            let lstm = LstmConfig::new(2, 64, true).init(&device);
            let lstm = initialize_recurrent(lstm, ForgetBias::Chrono { longest: 200.0 }, Seed(2))
                .expect("fits");
            let forget = bias(&lstm.forget_gate.as_ref().expect("not coupled").input_transform);
            let input = bias(&lstm.input_gate.input_transform);
            assert!(forget.iter().all(|b| (0.0..199f64.ln() + 1e-6).contains(b)));
            assert!(forget.iter().zip(&input).all(|(f, i)| f + i == 0.0));
            // exp(b_f) is uniform on (1, 199): mean 100, deviation 57; five errors of 64.
            let mean = forget.iter().map(|b| b.exp()).sum::<f64>() / 64.0;
            assert!((mean - 100.0).abs() < 5.0 * 57.2 / 8.0, "{mean}");
        }
    }

    #[test]
    fn chrono_biases_follow_their_law() {
        let device = Device::flex();
        let layers: Vec<Lstm> =
            (0..64).map(|_| LstmConfig::new(1, 32, true).init(&device)).collect();
        let chrono = ForgetBias::Chrono { longest: 200.0 };
        let layers = initialize_recurrent(layers, chrono, Seed(3)).expect("fits");
        let biases = layers.iter().flat_map(|lstm| {
            bias(&lstm.forget_gate.as_ref().expect("not coupled").input_transform)
        });
        // exp(b_f) is uniform on (1, 199).
        let times: Vec<f64> = biases.map(f64::exp).collect();
        assert_eq!(times.len(), 2048);
        check_distribution(&times, |time| (time - 1.0) / 198.0);
    }

    #[test]
    fn coupled_gates_and_gru_are_covered() {
        for device in devices() {
            let lstm = LstmConfig::new(2, 3, true).with_input_forget(true).init(&device);
            let lstm =
                initialize_recurrent(lstm, ForgetBias::Constant(1.0), Seed(1)).expect("fits");
            assert_eq!(bias(&lstm.input_gate.input_transform), [-1.0; 3]);
            let gru = GruConfig::new(2, 3, true).init(&device);
            let gru = initialize_recurrent(gru, ForgetBias::Constant(0.0), Seed(1)).expect("fits");
            assert_eq!(bias(&gru.new_gate.input_transform), [0.0; 3]);
        }
    }

    #[test]
    fn a_bias_that_no_forget_gate_takes_is_refused() {
        let device = Device::flex();
        let gru = || GruConfig::new(2, 3, true).init(&device);
        let lstm = |bias: bool| LstmConfig::new(2, 3, bias).init(&device);
        let refused = |error: StabilizeError, start: &str| {
            assert!(error.to_string().starts_with(start), "{error}");
        };
        let chrono = ForgetBias::Chrono { longest: 9.0 };
        for forget in [ForgetBias::Constant(1.0), chrono] {
            let error = initialize_recurrent(gru(), forget, Seed(1)).expect_err("refused");
            refused(
                error,
                "the forget bias of an LSTM (`ForgetBias::Constant(0.0)` asks for none)",
            );
            let both = vec![lstm(true), lstm(false)];
            let error = initialize_recurrent(both, forget, Seed(1)).expect_err("refused");
            refused(error, "the forget bias of the LSTM `1` (`ForgetBias::Constant(0.0)`");
            assert!(initialize_recurrent((lstm(true), gru()), forget, Seed(1)).is_ok());
        }
        assert!(initialize_recurrent(lstm(false), ForgetBias::Constant(0.0), Seed(1)).is_ok());
    }

    #[test]
    fn weights_with_learned_lengths_start_alike() {
        for device in devices() {
            let lstm: Lstm = LstmConfig::new(3, 4, true).init(&device);
            let forget = ForgetBias::Constant(1.0);
            let plain = initialize_recurrent(lstm.clone(), forget, Seed(2)).expect("fits");
            let lstm = normalize_weights(lstm, &Select::layer("Linear")).expect("fits");
            let lstm = initialize_recurrent(lstm, forget, Seed(2)).expect("fits");
            for (plain, lengths) in [
                (&plain.cell_gate.hidden_transform, &lstm.cell_gate.hidden_transform),
                (&plain.cell_gate.input_transform, &lstm.cell_gate.input_transform),
            ] {
                let change = (plain.weight.val() - lengths.weight.val()).abs().max();
                assert!(change.into_scalar::<f32>() < 1e-5);
            }
        }
    }

    #[test]
    fn what_has_no_gates_is_refused() {
        let layer = LinearConfig::new(2, 2).init(&Device::flex());
        let error = initialize_recurrent(layer.clone(), ForgetBias::Constant(1.0), Seed(1))
            .expect_err("refused");
        assert!(error.to_string().starts_with("an LSTM or GRU selects no parameter"));
        let chrono = ForgetBias::Chrono { longest: 2.0 };
        assert!(initialize_recurrent(layer, chrono, Seed(1)).is_err());
    }
}
