//! Replays a recorded clipping case of another library.

use crate::{ClipGlobalNormConfig, ClipValueConfig, Guard, NonFinite, NormType, StabilizeError};
use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::Value;

/// How far a replayed case is from what was recorded.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ClipReplay {
    /// Largest absolute difference of a clipped gradient's element.
    ///
    /// Two NaN, or two infinities of one sign, are equal; a NaN against a number is infinitely far.
    pub max_abs_diff: f64,
    /// Absolute difference of the norm, where the case has one.
    pub norm_diff: Option<f64>,
    /// The norm before clipping, for `clip_grad_norm`.
    pub norm: Option<f64>,
}

/// Runs one recorded clipping case on `device` and compares.
///
/// Gradients that are not finite are clipped as PyTorch does, see [`NonFinite::Torch`]. Two forms are known. Numbers that JSON cannot write are the texts `"inf"`, `"-inf"` and `"nan"`.
/// ```text
/// {"name":"clip_grad_norm","shapes":[[2],[1]],"before":[[3,-4],[12]],"max_norm":1.3,"norm_type":"2",
///  "norm":13,"after":[[0.3,-0.4],[1.2]]}                              norm_type is "1", "2" or "inf"
/// {"name":"clip_grad_value","shapes":[[2]],"before":[[3,-4]],"max_value":2,"after":[[2,-2]]}
/// ```
///
/// # Errors
/// When a field is missing or of the wrong kind, a shape does not match its values, the bound is refused, or the
/// name is unknown.
///
/// ```
/// let case = serde_json::json!({
///     "name": "clip_grad_norm", "shapes": [[2], [1]], "before": [[3.0, -4.0], [12.0]],
///     "max_norm": 1.3, "norm_type": "2", "norm": 13.0, "after": [[0.3, -0.4], [1.2]],
/// });
/// let replay = firebrick_stabilize::replay_clip(&case, &burn::tensor::Device::flex())?;
/// assert!(replay.max_abs_diff < 1e-6);
/// # Ok::<(), firebrick_stabilize::StabilizeError>(())
/// ```
pub fn replay_clip(case: &Value, device: &Device) -> Result<ClipReplay, StabilizeError> {
    let name = field(case, "name")?.as_str().unwrap_or_default();
    if !["clip_grad_norm", "clip_grad_norm_", "clip_grad_value", "clip_grad_value_"].contains(&name)
    {
        return Err(StabilizeError::UnknownClip { name: name.into() });
    }
    let before = lists(case, "before")?;
    let after = lists(case, "after")?;
    let sizes = shapes(case)?;
    for (what, lists) in [("before", &before), ("after", &after)] {
        let found: Vec<usize> = lists.iter().map(Vec::len).collect();
        if found != sizes {
            let message = format!("`{what}` has {found:?} values, `shapes` {sizes:?}");
            return Err(StabilizeError::Case(message));
        }
    }
    let model: Vec<Param<Tensor<1>>> =
        sizes.iter().map(|&size| Param::from_tensor(Tensor::zeros([size], device))).collect();
    let mut gradients = GradientsParams::new();
    for (param, values) in model.iter().zip(&before) {
        let data = TensorData::new(values.clone(), [values.len()]);
        gradients.register::<1>(param.id, Tensor::from_data(data, device));
    }
    let mut replay = ClipReplay { max_abs_diff: 0.0, norm_diff: None, norm: None };
    if name.starts_with("clip_grad_norm") {
        let config = ClipGlobalNormConfig::new(number(field(case, "max_norm")?)?)
            .with_norm_type(norm_type(case)?)
            .with_non_finite(NonFinite::Torch);
        let norm = config.init()?.clip(&model, &mut gradients);
        replay.norm = Some(norm);
        if let Some(recorded) = case.get("norm") {
            replay.norm_diff = Some(difference(norm, number(recorded)?));
        }
    } else {
        let bound = number(field(case, "max_value").or_else(|_| field(case, "clip_value"))?)?;
        ClipValueConfig::new(bound).init()?.before_step(&model, &mut gradients, 0.0);
    }
    for (param, recorded) in model.iter().zip(&after) {
        let values: Vec<f64> = gradients
            .get::<1>(param.id)
            .and_then(|gradient| gradient.try_to_vec_as().ok())
            .unwrap_or_else(|| vec![f64::NAN; recorded.len()]);
        for (value, recorded) in values.into_iter().zip(recorded) {
            replay.max_abs_diff = replay.max_abs_diff.max(difference(value, *recorded));
        }
    }
    Ok(replay)
}

fn difference(left: f64, right: f64) -> f64 {
    if left == right || left.is_nan() && right.is_nan() {
        return 0.0;
    }
    let difference = (left - right).abs();
    if difference.is_nan() { f64::INFINITY } else { difference }
}

fn field<'a>(case: &'a Value, name: &str) -> Result<&'a Value, StabilizeError> {
    case.get(name).ok_or_else(|| StabilizeError::Case(format!("field `{name}` is missing")))
}

fn number(value: &Value) -> Result<f64, StabilizeError> {
    let parsed = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    parsed.ok_or_else(|| StabilizeError::Case(format!("{value} is not a number")))
}

fn norm_type(case: &Value) -> Result<NormType, StabilizeError> {
    let value = case.get("norm_type").map_or(Ok(2.0), number)?;
    match value {
        1.0 => Ok(NormType::One),
        2.0 => Ok(NormType::Two),
        f64::INFINITY => Ok(NormType::Infinity),
        _ => Err(StabilizeError::Case(format!("`norm_type` must be 1, 2 or inf, got {value}"))),
    }
}

fn array<'a>(value: &'a Value, name: &str) -> Result<&'a Vec<Value>, StabilizeError> {
    value
        .as_array()
        .ok_or_else(|| StabilizeError::Case(format!("`{name}` must be a list of lists")))
}

fn lists(case: &Value, name: &str) -> Result<Vec<Vec<f64>>, StabilizeError> {
    array(field(case, name)?, name)?
        .iter()
        .map(|list| array(list, name)?.iter().map(number).collect())
        .collect()
}

/// The number of elements of each shape.
fn shapes(case: &Value) -> Result<Vec<usize>, StabilizeError> {
    let bad = || StabilizeError::Case("`shapes` must hold whole numbers".into());
    array(field(case, "shapes")?, "shapes")?
        .iter()
        .map(|shape| {
            let sizes = array(shape, "shapes")?.iter();
            let size = |value: &Value| value.as_u64().and_then(|size| usize::try_from(size).ok());
            sizes.map(|value| size(value).ok_or_else(bad)).product()
        })
        .collect()
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use firebrick_backend::testing::devices;
    use serde_json::json;

    /// Made by torch 2.15; see tests/references/stabilize_clip.py.
    const GOLDEN: &str = include_str!("../../../tests/references/stabilize_clip.json");

    #[test]
    fn torchs_cases_are_reproduced() {
        let file: Value = serde_json::from_str(GOLDEN).expect("parses");
        let cases = file["clips"].as_array().expect("a list");
        assert!(cases.len() >= 150);
        for device in devices() {
            for (index, case) in cases.iter().enumerate() {
                let replay = replay_clip(case, &device).expect("is known");
                let values = lists(case, "after").expect("has them").into_iter().flatten();
                let largest = values
                    .filter(|value| value.is_finite())
                    .fold(0.0, |largest: f64, value| largest.max(value.abs()));
                let norm = replay.norm.filter(|norm| norm.is_finite()).unwrap_or(0.0);
                // Torch sums in f32: a few roundings of 6e-8 relative to the norm; and squares below f32's smallest
                // number, 1.4e-45, are 0 there.
                let tiny = 1.4e-45f64.sqrt();
                assert!(replay.max_abs_diff <= 5e-7 * largest + tiny, "{index}: {replay:?}");
                let norm_diff = replay.norm_diff.unwrap_or(0.0);
                assert!(norm_diff <= 5e-7 * norm + tiny, "{index}: {replay:?}");
            }
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let device = &Device::flex();
        let message = |case: Value| replay_clip(&case, device).expect_err("refused").to_string();
        assert!(message(json!({})).ends_with("field `name` is missing"));
        assert!(message(json!({"name": "agc"})).contains("`agc` is none of"));
        let mut case = json!({"name": "clip_grad_norm", "shapes": [[2, 2]], "before": [[1, 2]],
            "max_norm": 1, "norm_type": "3", "norm": 2.2, "after": [[1, 2]]});
        assert!(message(case.clone()).contains("`before` has [2] values, `shapes` [4]"));
        case["shapes"] = json!([[2]]);
        assert!(message(case.clone()).contains("`norm_type` must be 1, 2 or inf, got 3"));
        case["norm_type"] = json!("inf");
        case["max_norm"] = json!(-1);
        assert!(message(case.clone()).contains("`max_norm`"));
        case["max_norm"] = json!("5");
        case["norm"] = json!("nan");
        let replay = replay_clip(&case, device).expect("runs");
        assert_eq!((replay.norm_diff, replay.norm), (Some(f64::INFINITY), Some(2.0)));
    }
}
