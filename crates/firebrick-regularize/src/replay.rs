//! Replays recorded cases of other libraries.

use crate::augment::kernel::{self, Size};
use crate::*;
use burn::module::{Module, Param};
use burn::nn::conv::Conv2dConfig;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use firebrick_core::Seed;
use serde_json::Value;
use std::collections::BTreeMap;

/// How far a replayed case is from what was recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct RegularizeReplay {
    /// Largest absolute difference of an element of the output; infinite where one is NaN.
    pub output: f64,
    /// Largest absolute difference of an element of a gradient; `None` when none was recorded.
    pub gradient: Option<f64>,
    /// Largest magnitude among the recorded numbers, at least 1.
    pub scale: f64,
}

/// Runs one recorded case on `device` and compares.
///
/// ```text
/// {"name":"l2","args":{"strength":0.1},"layer":"Linear","inputs":{"weight":{"shape":[1,2],"data":[3,4]}},
///  "output":[1.25],"gradients":{"weight":[0.3,0.4]}}
/// ```
/// `tests/references/regularize.py` writes them and lists the names; weights are in burn's layout.
///
/// # Errors
/// When a field is missing or of the wrong kind, the name is unknown, or the regularizer refuses its input.
///
/// ```
/// let case = serde_json::json!({
///     "name": "l2", "args": {"strength": 0.1}, "layer": "Linear",
///     "inputs": {"weight": {"shape": [1, 2], "data": [3.0, 4.0]}},
///     "output": [1.25], "gradients": {"weight": [0.3, 0.4]},
/// });
/// let replay = firebrick_regularize::replay_case(&case, &burn::tensor::Device::flex())?;
/// assert!(replay.output < 1e-6 && replay.gradient.is_some_and(|far| far < 1e-6));
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
pub fn replay_case(case: &Value, device: &Device) -> Result<RegularizeReplay, RegularizeError> {
    let name = case["name"].as_str().ok_or_else(|| missing("name"))?;
    let case = Case::read(case, device)?;
    let replay = |output: Tensor<1>, wrt: &[&Leaf]| case.compare(output, wrt);
    match name {
        "l2" => case.penalty(&L2Config::new(case.arg("strength")?).init()?),
        "l1" => case.penalty(&L1Config::new(case.arg("strength")?).init()?),
        "elastic_net" => {
            let config = ElasticNetConfig::new(case.arg("strength")?);
            case.penalty(&config.with_l1_ratio(case.arg("l1_ratio")?).init()?)
        }
        "orthogonal" => {
            let off = case.arg("off_diagonal")? != 0.0;
            let gram = if off { Gram::OffDiagonal } else { Gram::Identity };
            case.penalty(&OrthogonalConfig::new(case.arg("strength")?).with_gram(gram).init()?)
        }
        "spectral" => {
            let config = SpectralConfig::new(case.arg("strength")?).with_warmup(2000);
            case.penalty(&config.init(Seed(0))?)
        }
        "max_norm" => case.project(&MaxNormConfig::new().with_max(case.arg("max")?).init()?, 0.0),
        "unit_norm" => case.project(&UnitNormConfig::new().init(), 0.0),
        "proximal_l1" => {
            let rule = ProximalL1Config::new(case.arg("strength")?).init()?;
            case.project(&rule, case.arg("lr")?)
        }
        "group_lasso" => {
            let rule = GroupLassoConfig::new(case.arg("strength")?).init()?;
            case.project(&rule, case.arg("lr")?)
        }
        "label_smoothing" => {
            let logits = case.leaf("logits")?;
            let config = LabelSmoothingConfig::new().with_smoothing(case.arg("smoothing")?);
            let targets = config.init()?.targets(case.labels()?, logits.shape[1])?;
            replay(soft_cross_entropy(logits.matrix(), targets)?, &[&logits])
        }
        "soft_cross_entropy" => {
            let (logits, targets) = (case.leaf("logits")?, case.leaf("targets")?);
            replay(soft_cross_entropy(logits.matrix(), targets.matrix())?, &[&logits])
        }
        "confidence" => {
            let logits = case.leaf("logits")?;
            let config = ConfidencePenaltyConfig::new().with_strength(case.arg("strength")?);
            replay(config.init()?.term(logits.matrix()), &[&logits])
        }
        "r_drop" => {
            let (a, b, t) = (case.leaf("first")?, case.leaf("second")?, case.leaf("targets")?);
            let rdrop = RDropConfig::new().with_alpha(case.arg("alpha")?).init()?;
            let loss = rdrop.loss(a.matrix(), b.matrix(), t.matrix())?;
            replay(loss.cross_entropy + loss.divergence, &[&a, &b])
        }
        "jensen_shannon" => {
            let (a, b, c) = (case.leaf("first")?, case.leaf("second")?, case.leaf("third")?);
            replay(jensen_shannon(a.matrix(), b.matrix(), c.matrix())?, &[&a, &b, &c])
        }
        "fixmatch" => {
            let (weak, strong) = (case.leaf("weak")?, case.leaf("strong")?);
            let found = fixmatch_loss(weak.matrix(), strong.matrix(), case.arg("threshold")?)?;
            replay(found.loss, &[&strong])
        }
        "uda" => {
            let (weak, strong) = (case.leaf("weak")?, case.leaf("strong")?);
            let (tau, threshold) = (case.arg("temperature")?, case.arg("threshold")?);
            let found = uda_loss(weak.matrix(), strong.matrix(), tau, threshold)?;
            replay(found.loss, &[&strong])
        }
        "mean_teacher" => {
            let (student, teacher) = (case.leaf("student")?, case.leaf("teacher")?);
            let found = mean_teacher_loss(student.matrix(), teacher.matrix())?;
            replay(found.loss, &[&student])
        }
        "pi_model" => {
            let (a, b) = (case.leaf("first")?, case.leaf("second")?);
            replay(pi_model_loss(a.matrix(), b.matrix())?.loss, &[&a, &b])
        }
        "temperature" => {
            let logits = case.leaf("logits")?.matrix().inner();
            let found = Temperature::fit(logits, case.labels()?)?;
            case.numbers(&[found.value])
        }
        "calibration_error" => {
            let p = burn::tensor::activation::softmax(case.leaf("logits")?.matrix().inner(), 1);
            let found = Calibration::of(p, case.labels()?, case.arg("bins")? as usize)?;
            case.numbers(&[found.error])
        }
        "activation" => {
            let (dropped, raw) = (case.leaf("dropped")?, case.leaf("raw")?);
            let config = ActivationPenaltyConfig::new().with_alpha(case.arg("alpha")?);
            let penalty = config.with_beta(case.arg("beta")?).init()?;
            replay(penalty.term(dropped.shaped()?, raw.shaped()?), &[&dropped, &raw])
        }
        "jacobian" => {
            let (x, a, b) = (case.leaf("x")?, case.leaf("a")?, case.leaf("b")?);
            let config = JacobianPenaltyConfig::new(case.arg("strength")?, true);
            let config = config.with_projections(x.shape[1]);
            let penalty = config.init(&MaskSource::new(Seed(0)))?;
            let net = |x: Tensor<2>| x.matmul(a.matrix()).tanh().matmul(b.matrix());
            replay(penalty.term(x.matrix(), net)?, &[&a, &b])
        }
        "gradient_penalty" => {
            let (x, a, b) = (case.leaf("x")?, case.leaf("a")?, case.leaf("b")?);
            let r1 = case.arg("r1")? != 0.0;
            let target = if r1 { GradientTarget::Zero } else { GradientTarget::One };
            let penalty = GradientPenaltyConfig::new(true).with_target(target).init()?;
            let net = |x: Tensor<2>| x.matmul(a.matrix()).tanh().matmul(b.matrix());
            replay(penalty.term(x.matrix(), net)?, &[&a, &b])
        }
        _ => case.picture(name),
    }
}

fn missing(field: &str) -> RegularizeError {
    RegularizeError::Case(format!("field `{field}` is missing or of the wrong kind"))
}

/// A recorded case, its numbers read.
struct Case<'a> {
    args: &'a Value,
    layer: Option<&'a str>,
    inputs: BTreeMap<&'a str, (Vec<usize>, Vec<f32>)>,
    output: Vec<f64>,
    gradients: BTreeMap<&'a str, Vec<f64>>,
    device: Device,
}

/// An input as a tensor that gathers a gradient.
struct Leaf {
    name: String,
    shape: Vec<usize>,
    flat: Tensor<1>,
}

impl Leaf {
    fn shaped<const D: usize>(&self) -> Result<Tensor<D>, RegularizeError> {
        let shape: [usize; D] = self.shape.clone().try_into().map_err(|_| missing(&self.name))?;
        Ok(self.flat.clone().reshape(shape))
    }

    /// Rows and everything else.
    fn matrix(&self) -> Tensor<2> {
        let rows = self.shape.first().copied().unwrap_or(1);
        let rest = self.shape.iter().skip(1).product::<usize>();
        self.flat.clone().reshape([rows, rest])
    }
}

fn list(value: &Value, field: &str) -> Result<Vec<f64>, RegularizeError> {
    let numbers = value.as_array().ok_or_else(|| missing(field))?;
    numbers.iter().map(|number| number.as_f64().ok_or_else(|| missing(field))).collect()
}

impl<'a> Case<'a> {
    fn read(case: &'a Value, device: &Device) -> Result<Self, RegularizeError> {
        let mut inputs = BTreeMap::new();
        for (name, input) in case["inputs"].as_object().ok_or_else(|| missing("inputs"))? {
            let shape = list(&input["shape"], name)?.into_iter().map(|n| n as usize);
            let shape: Vec<usize> = shape.collect();
            let data: Vec<f32> =
                list(&input["data"], name)?.into_iter().map(|x| x as f32).collect();
            if shape.iter().product::<usize>() != data.len() {
                return Err(missing(name));
            }
            inputs.insert(name.as_str(), (shape, data));
        }
        let mut gradients = BTreeMap::new();
        for (name, gradient) in case["gradients"].as_object().into_iter().flatten() {
            gradients.insert(name.as_str(), list(gradient, name)?);
        }
        Ok(Self {
            args: &case["args"],
            layer: case["layer"].as_str(),
            inputs,
            output: list(&case["output"], "output")?,
            gradients,
            device: device.clone().autodiff(),
        })
    }

    fn arg(&self, name: &str) -> Result<f64, RegularizeError> {
        self.args[name].as_f64().ok_or_else(|| missing(name))
    }

    fn leaf(&self, name: &str) -> Result<Leaf, RegularizeError> {
        let (shape, data) = self.inputs.get(name).ok_or_else(|| missing(name))?;
        let data = TensorData::new(data.clone(), [data.len()]);
        let flat = Tensor::from_data(data, &self.device).require_grad();
        Ok(Leaf { name: name.to_owned(), shape: shape.clone(), flat })
    }

    fn labels(&self) -> Result<Tensor<1, Int>, RegularizeError> {
        let (_, data) = self.inputs.get("labels").ok_or_else(|| missing("labels"))?;
        let labels: Vec<i64> = data.iter().map(|&label| label as i64).collect();
        let count = labels.len();
        Ok(Tensor::from_data(TensorData::new(labels, [count]), &self.device.clone().inner()))
    }

    fn scale(&self) -> f64 {
        let recorded = self.output.iter().chain(self.gradients.values().flatten());
        recorded.fold(1.0, |top: f64, value| top.max(value.abs()))
    }

    fn numbers(&self, found: &[f64]) -> Result<RegularizeReplay, RegularizeError> {
        Ok(RegularizeReplay {
            output: far(found, &self.output),
            gradient: None,
            scale: self.scale(),
        })
    }

    fn compare(
        &self,
        output: Tensor<1>,
        wrt: &[&Leaf],
    ) -> Result<RegularizeReplay, RegularizeError> {
        let mut replay = self.numbers(&output.try_to_vec_as::<f64>()?)?;
        if self.gradients.is_empty() {
            return Ok(replay);
        }
        let gradients = output.sum().backward();
        for leaf in wrt {
            let Some(expected) = self.gradients.get(leaf.name.as_str()) else { continue };
            let found = match leaf.flat.grad(&gradients) {
                Some(gradient) => gradient.try_to_vec_as::<f64>()?,
                None => vec![0.0; expected.len()],
            };
            replay.gradient = Some(far(&found, expected).max(replay.gradient.unwrap_or(0.0)));
        }
        Ok(replay)
    }

    fn penalty(&self, penalty: &impl Penalty) -> Result<RegularizeReplay, RegularizeError> {
        let (shape, _) = self.inputs.get("weight").ok_or_else(|| missing("weight"))?;
        match *shape.as_slice() {
            [inputs, outputs] if self.layer == Some("Linear") => {
                let mut layer = LinearConfig::new(inputs, outputs).init(&self.device);
                layer.weight = Param::from_tensor(self.weight()?);
                self.penalized(&layer, layer.weight.val(), penalty)
            }
            [outputs, inputs, h, w] => {
                let mut layer = Conv2dConfig::new([inputs, outputs], [h, w]).init(&self.device);
                layer.weight = Param::from_tensor(self.weight()?);
                self.penalized(&layer, layer.weight.val(), penalty)
            }
            _ => Err(missing("layer")),
        }
    }

    fn weight<const D: usize>(&self) -> Result<Tensor<D>, RegularizeError> {
        let (shape, data) = self.inputs.get("weight").ok_or_else(|| missing("weight"))?;
        let data = TensorData::new(data.clone(), shape.clone());
        Ok(Tensor::from_data(data, &self.device).require_grad())
    }

    fn penalized<M: Module, const D: usize>(
        &self,
        model: &M,
        weight: Tensor<D>,
        penalty: &impl Penalty,
    ) -> Result<RegularizeReplay, RegularizeError> {
        let term =
            penalty.term(model).ok_or(RegularizeError::Empty { what: "the penalized model" })?;
        let mut replay = self.numbers(&term.try_to_vec_as::<f64>()?)?;
        let gradient = weight.grad(&term.backward()).ok_or_else(|| missing("weight"))?;
        let expected = self.gradients.get("weight").ok_or_else(|| missing("gradients"))?;
        replay.gradient = Some(far(&gradient.try_to_vec_as::<f64>()?, expected));
        Ok(replay)
    }

    fn project(
        &self,
        rule: &impl Projection,
        lr: f64,
    ) -> Result<RegularizeReplay, RegularizeError> {
        let (shape, _) = self.inputs.get("weight").ok_or_else(|| missing("weight"))?;
        let values = match *shape.as_slice() {
            [inputs, outputs] if self.layer == Some("Linear") => {
                let mut layer: Linear = LinearConfig::new(inputs, outputs).init(&self.device);
                layer.weight = Param::from_tensor(self.weight()?);
                rule.project(layer, lr)?.weight.val().try_to_vec_as::<f64>()?
            }
            [outputs, inputs, h, w] => {
                let mut layer = Conv2dConfig::new([inputs, outputs], [h, w]).init(&self.device);
                layer.weight = Param::from_tensor(self.weight()?);
                rule.project(layer, lr)?.weight.val().try_to_vec_as::<f64>()?
            }
            _ => return Err(missing("layer")),
        };
        self.numbers(&values)
    }

    fn picture(&self, name: &str) -> Result<RegularizeReplay, RegularizeError> {
        let unknown = || RegularizeError::Case(format!("`{name}` is no case that can be replayed"));
        let (shape, data) = self.inputs.get("image").ok_or_else(unknown)?;
        let [c, h, w] = *shape.as_slice() else { return Err(missing("image")) };
        let (size, mut image) = (Size { c, h, w }, data.clone());
        match name {
            "affine" => {
                let (shift, shear) = (
                    [self.arg("right")?, self.arg("down")?],
                    [self.arg("shear_x")?, self.arg("shear_y")?],
                );
                let (degrees, scale) = (self.arg("degrees")?, self.arg("scale")?);
                let inverse = kernel::inverse_affine(degrees, shift, scale, shear);
                kernel::affine(&mut image, size, inverse);
            }
            "brightness" => kernel::brightness(&mut image, self.arg("factor")?),
            "contrast" => kernel::contrast(&mut image, size, self.arg("factor")?),
            "saturation" => kernel::saturation(&mut image, size, self.arg("factor")?),
            "sharpness" => kernel::sharpness(&mut image, size, self.arg("factor")?),
            "solarize" => kernel::solarize(&mut image, self.arg("threshold")?),
            "auto_contrast" => kernel::auto_contrast(&mut image, size),
            "equalize" => kernel::equalize(&mut image, size),
            "posterize" => kernel::posterize(&mut image, self.arg("bits")? as u32),
            "flip_horizontal" => kernel::flip_horizontal(&mut image, size),
            "flip_vertical" => kernel::flip_vertical(&mut image, size),
            _ => return Err(unknown()),
        }
        let found: Vec<f64> = image.into_iter().map(f64::from).collect();
        self.numbers(&found)
    }
}

/// Largest absolute difference; infinite for another number of elements or a NaN.
fn far(found: &[f64], expected: &[f64]) -> f64 {
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |top: f64, d| if d.is_nan() { f64::INFINITY } else { top.max(d) })
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use firebrick_backend::testing::devices;
    use serde_json::json;

    /// Made by torch and torchvision; see tests/references/regularize.py.
    const GOLDEN: &str = include_str!("../../../tests/references/regularize.json");

    #[test]
    fn recorded_cases_are_reproduced() {
        let cases: Vec<Value> = serde_json::from_str(GOLDEN).expect("parses");
        assert!(cases.len() >= 200);
        for device in devices() {
            let mut wrong = Vec::new();
            for (index, case) in cases.iter().enumerate() {
                let name = case["name"].as_str().expect("has one");
                let replay = match replay_case(case, &device) {
                    Ok(replay) => replay,
                    Err(error) => {
                        wrong.push(format!("{index} {name}: {error}"));
                        continue;
                    }
                };
                // Relative to the largest number: a few roundings of f32; a difference quotient of step 0.01 errs by
                // its square and by roundings over the step; bilinear weights by the rounding of coordinates.
                let bound = match name {
                    "jacobian" | "gradient_penalty" => 5e-4,
                    "affine" => 5e-6,
                    _ => 2e-6,
                };
                let worst = replay.output.max(replay.gradient.unwrap_or(0.0));
                if worst.is_nan() || worst > bound * replay.scale {
                    wrong.push(format!("{index} {name} {}: {replay:?}", case["args"]));
                }
            }
            assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let device = Device::flex();
        let message = |case: Value| replay_case(&case, &device).expect_err("refused").to_string();
        assert!(message(json!({})).contains("`name`"));
        let case = json!({"name": "cutout", "inputs": {}, "output": []});
        assert!(message(case).contains("`cutout` is no case"));
        let case = json!({"name": "l2", "args": {}, "inputs": {}, "output": [1]});
        assert!(message(case).contains("`strength`"));
        let case = json!({"name": "l2", "args": {"strength": 1}, "layer": "Linear", "output": [1],
            "inputs": {"weight": {"shape": [2, 2], "data": [1]}}});
        assert!(message(case).contains("`weight`"));
        let case = json!({"name": "l2", "args": {"strength": 2}, "layer": "Linear", "output": [4],
            "inputs": {"weight": {"shape": [1, 1], "data": [3]}}, "gradients": {"weight": [5]}});
        let wrong = replay_case(&case, &device).expect("runs");
        assert_eq!((wrong.output, wrong.gradient, wrong.scale), (5.0, Some(1.0), 5.0));
    }
}
