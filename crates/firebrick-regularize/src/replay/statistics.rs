//! Replays what is random: statistics of a draw against those that another library's draw had.

use super::{RegularizeReplay, list, missing};
use crate::*;
use burn::module::{Param, ParamGroup};
use burn::nn::{EmbeddingConfig, Initializer, LinearConfig};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use firebrick_core::Seed;
use serde_json::Value;

/// Both draws err, so five standard errors of the difference of two.
const BOUND: f64 = 5.0 * std::f64::consts::SQRT_2;

/// Draws once more and compares the statistic that is farthest from what was recorded, in standard errors.
pub(super) fn replay(
    name: &str,
    case: &Value,
    device: &Device,
) -> Result<RegularizeReplay, RegularizeError> {
    let seed = Seed(case["seed"].as_u64().unwrap_or(0));
    let shape: Vec<usize> =
        list(&case["shape"], "shape")?.into_iter().map(|side| side as usize).collect();
    let count: usize = shape.iter().product();
    if count == 0 {
        return Err(RegularizeError::Empty { what: "the input" });
    }
    let normal = case["input"].as_str() == Some("normal");
    let input =
        if normal { MaskSource::named(seed, "input").normals(count) } else { vec![1.0; count] };
    let options = (&device.clone().autodiff(), DType::F32);
    let input = Tensor::<1>::from_data(TensorData::new(input, [count]), options);
    let output: Vec<f64> = draw(name, case, input, &shape, seed)?.try_to_vec_as()?;
    let n = output.len() as f64;
    let mean = output.iter().sum::<f64>() / n;
    let recorded = case["statistics"].as_object().ok_or_else(|| missing("statistics"))?;
    let pair = |what: &str| recorded.get(what).map(|pair| list(pair, what)).transpose();
    let kept = pair("kept")?.filter(|pair| pair.len() == 2 && pair[0] > 0.0);
    // A kept unit is divided by the share kept, so the mean errs as the share does.
    let relative = kept.as_ref().map_or(0.0, |pair| pair[1] / pair[0]);
    let mean_error = pair("mean")?.and_then(|pair| pair.get(1).copied()).unwrap_or(relative);
    let mut worst: Option<RegularizeReplay> = None;
    for (what, pair) in recorded {
        let &[expected, error] = list(pair, what)?.as_slice() else { return Err(missing(what)) };
        let found = match what.as_str() {
            "kept" => output.iter().filter(|value| **value != 0.0).count() as f64 / n,
            "mean" => mean,
            "variance" => output.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n,
            _ => return Err(missing(what)),
        };
        let unseen = match (what.as_str(), name) {
            // Blocks are divided by the share that this draw kept, q: the variance is 1 / q - 1, and its spread within one
            // draw does not show how q differs between two.
            ("variance", "drop_block") => BOUND * relative * (1.0 + expected),
            // It is taken about the draw's own mean, whose error enters squared.
            ("variance", _) => (BOUND * mean_error).powi(2),
            _ => 0.0,
        };
        let (output, allowed) = ((found - expected).abs(), BOUND * error + unseen + 1e-6);
        let output = if output.is_nan() { f64::INFINITY } else { output };
        let far = |replay: &RegularizeReplay| replay.output / replay.allowed;
        let replay =
            RegularizeReplay { output, gradient: None, scale: expected.abs().max(1.0), allowed };
        if worst.as_ref().is_none_or(|worst| far(&replay) > far(worst)) {
            worst = Some(replay);
        }
    }
    worst.ok_or_else(|| missing("statistics"))
}

/// The output of one draw. The input is the batch; of embedding dropout and weight-drop, which act on parameters, it is
/// the table and the weight, and of DropConnect what enters a layer of weights 1 with one output.
fn draw(
    name: &str,
    case: &Value,
    input: Tensor<1>,
    shape: &[usize],
    seed: Seed,
) -> Result<Tensor<1>, RegularizeError> {
    let arg = |name: &str| case["args"][name].as_f64().ok_or_else(|| missing(name));
    let masks = MaskSource::new(seed);
    let (prob, device, count) = (arg("prob")?, input.device(), input.dims()[0]);
    let samples = shape.first().copied().unwrap_or(1);
    let width = count / samples;
    let rows = || input.clone().reshape([samples, width]);
    let sequences = || match *shape {
        [n, t, f] => Ok(input.clone().reshape([n, t, f])),
        _ => Err(missing("shape")),
    };
    let images = || match *shape {
        [n, c, h, w] => Ok(input.clone().reshape([n, c, h, w])),
        _ => Err(missing("shape")),
    };
    Ok(match name {
        "inverted" => InvertedDropoutConfig::new(prob).init(&masks)?.forward(input),
        "alpha" => AlphaDropoutConfig::new(prob).init(&masks)?.forward(input),
        "gaussian" => GaussianDropoutConfig::new(prob).init(&masks)?.forward(input),
        "concrete" => {
            let config = ConcreteDropoutConfig::new(1).with_prob(prob);
            config.with_temperature(arg("temperature")?).init(&masks, &device)?.forward(input)
        }
        "zoneout" => ZoneoutConfig::new(prob).init(&masks)?.forward(input.zeros_like(), input),
        "drop_path" => DropPathConfig::new(prob).init(&masks)?.forward(rows()).reshape([count]),
        "variational" => {
            let layer = VariationalDropoutConfig::new(prob).init(&masks)?;
            layer.forward(sequences()?).reshape([count])
        }
        "spatial" => {
            SpatialDropoutConfig::new(prob).init(&masks)?.forward(images()?).reshape([count])
        }
        "drop_block" => {
            let config = DropBlockConfig::new(prob).with_block_size(arg("block_size")? as usize);
            config.init(&masks)?.forward(images()?).reshape([count])
        }
        "embedding" => {
            let mut table = EmbeddingConfig::new(samples, width).init(&device);
            table.weight = Param::from_tensor(rows());
            let layer = EmbeddingDropoutConfig::new().with_prob(prob).init(table, &masks)?;
            // burn's `arange` is wrong from the 65,536th on where a grid of a shader has no more.
            let words: Vec<i64> = (0..samples as i64).collect();
            let words = Tensor::<2, Int>::from_data(TensorData::new(words, [1, samples]), &device);
            layer.forward(words).reshape([count])
        }
        "drop_connect" => {
            let linear = LinearConfig::new(width, 1).with_bias(false);
            let linear = linear.with_initializer(Initializer::Ones).init(&device);
            let layer = DropConnectConfig::new().with_prob(prob).init(linear, &masks)?;
            layer.forward(rows()).reshape([samples])
        }
        "weight_drop" => {
            let mut linear = LinearConfig::new(samples, width).with_bias(false).init(&device);
            linear.weight = Param::from_tensor(rows());
            let layer = WeightDropConfig::new().with_prob(prob).init(ParamGroup::all(), &masks)?;
            layer.apply(&linear).weight.val().reshape([count])
        }
        _ => return Err(RegularizeError::UnknownCase { name: name.to_owned() }),
    })
}
