//! Replays recorded trajectories of other libraries.

use crate::elementwise::Elementwise;
use crate::error::OptimError;
use crate::keywords;
use burn::optim::Optimizer;
use burn::tensor::{DType, Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One recorded case: a tensor, the gradients it met, and what it was after each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OptimizerCase {
    /// Name of the optimizer: PyTorch's class or the paper's name, in lower case.
    pub name: String,
    /// The learning rate; what `hyper` says, if that is absent.
    #[serde(default)]
    pub lr: Option<f64>,
    /// Hyper-parameters in the keywords of PyTorch or pytorch_optimizer.
    #[serde(default)]
    pub hyper: Value,
    /// Shape of the tensor; a vector if absent.
    #[serde(default)]
    pub shape: Option<Vec<usize>>,
    /// The tensor before the first step, flat or nested.
    pub init: Value,
    /// The gradient of each step.
    pub grads: Vec<Value>,
    /// The tensor after each step.
    pub params: Vec<Value>,
}

impl OptimizerCase {
    fn bad(&self, reason: impl Into<String>) -> OptimError {
        OptimError::Case { name: self.name.clone(), reason: reason.into() }
    }

    fn numbers(&self, what: &str, value: &Value) -> Result<Vec<f64>, OptimError> {
        match value {
            Value::Array(list) => {
                let parts = list.iter().map(|value| self.numbers(what, value));
                Ok(parts.collect::<Result<Vec<_>, _>>()?.concat())
            }
            Value::Null => Ok(vec![f64::NAN]),
            Value::Number(number) => Ok(vec![number.as_f64().unwrap_or(f64::NAN)]),
            other => Err(self.bad(format!("`{what}` holds {other}, which is no number"))),
        }
    }

    /// What f32 may leave between two correct implementations: 2e-7 after one step, 1e-6 after 10, 1e-5 after 1000, for
    /// parameters of size 1; PyTorch runs Muon's iteration in bf16, which leaves 5 % of each step, `0.05 lr s` with the
    /// scale s that `adjust_lr_fn` asks for.
    #[must_use]
    pub fn tolerance(&self) -> f64 {
        let t = self.params.len().max(1) as f64;
        let size = self.params.iter().chain([&self.init]);
        let size = size.flat_map(|value| self.numbers("params", value).unwrap_or_default());
        let size = size
            .filter(|value| value.is_finite())
            .fold(1.0, |largest: f64, value| largest.max(value.abs()));
        let rounding = if t <= 10.0 { 2e-7 * t.powf(0.7) } else { 1e-6 * (t / 10.0).sqrt() } * size;
        if keywords::card_of(&self.name).is_some_and(|card| card.name == "muon") {
            return rounding + 0.05 * self.rate().unwrap_or(1e-3) * t * self.muon_scale();
        }
        rounding
    }

    /// The rate of the case; the optimizer's usual one, if it says none.
    fn rate(&self) -> Option<f64> {
        let usual = || keywords::card_of(&self.name).map(|card| card.lr);
        self.lr.or_else(|| self.hyper.get("lr").and_then(Value::as_f64)).or_else(usual)
    }

    /// The scale of Muon's step for a matrix that is laid out as PyTorch has it.
    fn muon_scale(&self) -> f64 {
        let [out, inputs @ ..] = self.shape.as_deref().unwrap_or_default() else { return 0.0 };
        if inputs.is_empty() {
            // A vector takes AdamW's steps, which PyTorch does not run in bf16.
            return 0.0;
        }
        let inputs: f64 = inputs.iter().map(|&size| size as f64).product();
        let out = *out as f64;
        match self.hyper.get("adjust_lr_fn").and_then(Value::as_str) {
            Some("match_rms_adamw") => 0.2 * out.max(inputs).sqrt(),
            Some("spectral_unclamped") => (out / inputs).sqrt(),
            _ => (out / inputs).max(1.0).sqrt(),
        }
    }
}

/// Runs `case` in f32 on `device` and returns the largest absolute difference from what it recorded; infinity where one
/// of the two is not a number and the other is.
///
/// The libraries' ADOPT, LAMB and LARS differ in their first steps and in what they do to vectors, others in what coupled
/// decay does. Where the keywords do not tell whose a case is, it is run as the published rule and as pytorch_optimizer's,
/// and the nearer counts; so for PyTorch's Adafactor, whose epsilon depends on the type of the tensor that was stepped.
///
/// # Errors
/// When the optimizer or a hyper-parameter is not known, lengths and shapes of the case disagree, or it has nothing to
/// compare.
pub fn replay(case: &OptimizerCase, device: &Device) -> Result<f64, OptimError> {
    replay_with(case, device, true)
}

/// As [`replay`]; without `fused` by tensor operations even where the fused pass could run.
///
/// # Errors
/// As [`replay`].
pub fn replay_with(case: &OptimizerCase, device: &Device, fused: bool) -> Result<f64, OptimError> {
    // A rate changes defaults of some rules, with or without keywords beside it.
    let mut hyper =
        if case.hyper.is_null() { Value::Object(Map::new()) } else { case.hyper.clone() };
    if let (Some(lr), Some(fields)) = (case.lr, hyper.as_object_mut()) {
        fields.insert("lr".into(), lr.into());
    }
    let optimizers = keywords::readings(&case.name, &hyper)?;
    let lr = case.rate().ok_or_else(|| case.bad("there is no `lr`"))?;
    let init = case.numbers("init", &case.init)?;
    let shape = case.shape.clone().unwrap_or_else(|| vec![init.len()]);
    let size = shape.iter().try_fold(1usize, |size, &axis| size.checked_mul(axis));
    if size != Some(init.len()) {
        return Err(
            case.bad(format!("`init` has {} numbers, the shape {shape:?} others", init.len()))
        );
    }
    if case.grads.len() != case.params.len() {
        let (grads, params) = (case.grads.len(), case.params.len());
        return Err(case.bad(format!("there are {grads} `grads` and {params} `params`")));
    }
    let rows = |what: &str, rows: &[Value]| -> Result<Vec<Vec<f64>>, OptimError> {
        let read = |(k, row): (usize, &Value)| {
            let row = case.numbers(what, row)?;
            if row.len() == init.len() {
                Ok(row)
            } else {
                Err(case.bad(format!(
                    "`{what}[{k}]` has {} numbers, `init` {}",
                    row.len(),
                    init.len()
                )))
            }
        };
        rows.iter().enumerate().map(read).collect()
    };
    let (grads, params) = (rows("grads", &case.grads)?, rows("params", &case.params)?);
    if params.is_empty() {
        return Err(case.bad("`params` holds no step to compare"));
    }
    let run = match shape.len() {
        0 | 1 => walk::<1>,
        2 => walk::<2>,
        3 => walk::<3>,
        4 => walk::<4>,
        5 => walk::<5>,
        6 => walk::<6>,
        rank => return Err(case.bad(format!("a tensor of {rank} axes; 6 are the most"))),
    };
    let off = |(&seen, &recorded): (&f64, &f64)| {
        if seen == recorded || seen.is_nan() && recorded.is_nan() {
            return 0.0;
        }
        let off = (seen - recorded).abs();
        if off.is_nan() { f64::INFINITY } else { off }
    };
    let largest = |optimizer: Elementwise| {
        let optimizer = optimizer.with_fused_pass(fused);
        let path = run(&optimizer, lr, device, &shape, &init, &grads);
        path.iter().flatten().zip(params.iter().flatten()).map(off).fold(0.0, f64::max)
    };
    Ok(optimizers.into_iter().map(largest).fold(f64::INFINITY, f64::min))
}

fn sizes<const D: usize>(shape: &[usize]) -> [usize; D] {
    std::array::from_fn(|k| shape.get(k).copied().unwrap_or(1))
}

fn walk<const D: usize>(
    optimizer: &Elementwise,
    lr: f64,
    device: &Device,
    shape: &[usize],
    init: &[f64],
    grads: &[Vec<f64>],
) -> Vec<Vec<f64>> {
    let shape = sizes::<D>(shape);
    let tensor = |values: &[f64]| {
        let data = TensorData::new(values.to_vec(), shape).convert::<f32>();
        Tensor::<D>::from_data(data, (device, DType::F32))
    };
    let (mut param, mut state) = (tensor(init), None);
    let mut path = Vec::with_capacity(grads.len());
    for grad in grads {
        let (new, next) = optimizer.step(lr, param, tensor(grad), state.take());
        (param, state) = (new, next);
        path.push(param.clone().into_data().convert::<f64>().try_into_vec().unwrap_or_default());
    }
    path
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use firebrick_backend::testing::devices;
    use serde_json::json;

    fn case(value: Value) -> OptimizerCase {
        serde_json::from_value(value).expect("a case")
    }

    /// Every device of this build, with the fused pass and by tensor operations.
    fn everywhere() -> Vec<(Device, bool)> {
        let both = |device: Device| [(device.clone(), true), (device, false)];
        devices().into_iter().flat_map(both).collect()
    }

    #[test]
    fn a_case_without_keywords_is_one_with_none() {
        // MARS takes the rate of vectors from its own: 3e-3, whatever that of matrices is.
        let base = json!({"name": "mars", "lr": 0.1, "init": [1.0, -0.5], "grads": [[0.5, 0.1]],
            "params": [[0.0, 0.0]]});
        let with = |hyper: Value| {
            let mut value = base.clone();
            value["hyper"] = hyper;
            replay(&case(value), &Device::flex()).expect("runs")
        };
        let absent = replay(&case(base.clone()), &Device::flex()).expect("runs");
        // p = (1 - 3e-3 0.1) 1 - 3e-3.
        assert!((absent - (1.0 - 3e-4 - 3e-3)).abs() < 1e-6, "{absent}");
        assert_eq!((with(json!({})), with(Value::Null)), (absent, absent));
    }

    #[test]
    fn the_tolerance_of_muon_follows_its_scale() {
        let bound = |shape: [usize; 2], hyper: Value| {
            let zeros = vec![0.0; shape[0] * shape[1]];
            let value = json!({"name": "Muon", "lr": 0.01, "hyper": hyper, "shape": shape, "init": zeros,
                "grads": [zeros], "params": [zeros]});
            case(value).tolerance() - 2e-7
        };
        for (shape, hyper, scale) in [
            ([4, 1], json!({}), 2.0),
            ([1, 4], json!({"adjust_lr_fn": "original"}), 1.0),
            ([1, 4], json!({"adjust_lr_fn": "match_rms_adamw"}), 0.4),
            ([1, 4], json!({"adjust_lr_fn": "spectral_unclamped"}), 0.5),
        ] {
            assert!((bound(shape, hyper) - 0.05 * 0.01 * scale).abs() < 1e-12, "{shape:?}");
        }
    }

    #[test]
    fn a_correct_record_agrees_and_a_wrong_one_does_not() {
        let record = |second: f64| {
            case(json!({
                "name": "sgd", "lr": 0.1, "hyper": {"momentum": 0.9}, "shape": [2, 1], "init": [[1.0], [-0.5]],
                "grads": [[0.5, 0.1], [[-0.25], [0.3]]], "params": [[0.95, -0.51], [0.93, second]]
            }))
        };
        // b = 0.1, then 0.9 * 0.1 + 0.3 = 0.39.
        let right = record(-0.51 - 0.039);
        let off = replay(&right, &Device::flex()).expect("runs");
        assert!(off < right.tolerance(), "{off}");
        assert!(replay(&record(-0.5), &Device::flex()).expect("runs") > 0.04);
    }

    /// The references of this project: `tests/references/optim.py` and `optim_random.py` made them.
    #[test]
    fn recorded_trajectories_of_other_libraries() {
        #[derive(Deserialize)]
        struct File {
            optimizers: Vec<OptimizerCase>,
        }
        let mut wrong = Vec::new();
        for (text, least) in [
            (include_str!("../../../tests/references/optim.json"), 118),
            (include_str!("../../../tests/references/optim_random.json"), 373),
        ] {
            let file: File = serde_json::from_str(text).expect("the file of cases");
            assert!(file.optimizers.len() >= least, "{} cases", file.optimizers.len());
            for (k, case) in file.optimizers.iter().enumerate() {
                let (name, bound) = (&case.name, case.tolerance());
                for (device, fused) in everywhere() {
                    let place = format!("{k} {name} {} on {device:?}, {fused}", case.hyper);
                    match replay_with(case, &device, fused) {
                        Ok(off) if off <= bound => {}
                        Ok(off) => wrong.push(format!("{place}: {off:e} > {bound:e}")),
                        Err(error) => wrong.push(format!("{place}: {error}")),
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let wrong =
            |value: Value| replay(&case(value), &Device::flex()).expect_err("refused").to_string();
        let base = |name: &str, shape: Value, grads: Value, params: Value| json!({"name": name, "lr": 0.1, "shape": shape, "init": [1.0, 2.0], "grads": grads, "params": params});
        assert!(wrong(base("nosuch", json!([2]), json!([]), json!([]))).contains("`nosuch`"));
        assert!(wrong(base("sgd", json!([3]), json!([]), json!([]))).contains("the shape [3]"));
        assert!(
            wrong(base("sgd", json!([2]), json!([[1.0]]), json!([[1.0, 2.0]])))
                .contains("`grads[0]` has 1")
        );
        assert!(
            wrong(base("sgd", json!([2]), json!([["a", 1.0]]), json!([[1.0, 2.0]])))
                .contains("no number")
        );
        assert!(
            wrong(base("sgd", json!([2]), json!([[1.0, 1.0]]), json!([])))
                .contains("1 `grads` and 0 `params`")
        );
    }

    #[test]
    fn a_nan_must_meet_a_nan() {
        let nan = case(
            json!({"name": "sgd", "lr": 0.1, "init": [1.0], "grads": [[null]], "params": [[0.9]]}),
        );
        assert_eq!(replay(&nan, &Device::flex()), Ok(f64::INFINITY));
        let both = case(
            json!({"name": "sgd", "lr": 0.1, "init": [1.0], "grads": [[null]], "params": [[null]]}),
        );
        assert_eq!(replay(&both, &Device::flex()), Ok(0.0));
    }

    #[test]
    fn a_case_that_compares_nothing_or_is_too_large_is_refused() {
        let wrong = |value: Value| replay(&case(value), &Device::flex()).expect_err("refused");
        let of = |init: Value, rows: Value| json!({"name": "sgd", "lr": 0.1, "init": init, "grads": rows, "params": rows});
        let message = wrong(of(json!([1.0]), json!([]))).to_string();
        assert!(message.ends_with("`params` holds no step to compare"), "{message}");
        let empty = case(of(json!([]), json!([[], []])));
        assert_eq!(replay(&empty, &Device::flex()), Ok(0.0), "an empty tensor has its steps");
        let huge = json!({"name": "sgd", "lr": 0.1, "shape": [u32::MAX, u32::MAX, u32::MAX],
            "init": [1.0], "grads": [[1.0]], "params": [[0.9]]});
        assert!(wrong(huge.clone()).to_string().contains("`init` has 1 numbers, the shape"));
        let mut muon = huge;
        muon["name"] = json!("muon");
        assert!(case(muon).tolerance() > 0.0);
    }
}
