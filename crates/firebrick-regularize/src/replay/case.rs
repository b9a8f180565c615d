//! A recorded case: its inputs as tensors, and what was recorded.

use crate::{
    L2Convention, LabelSmoothingConfig, LassoGroups, MixPlan, PenaltyScope, RegularizeError,
    UnitAxis,
};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) fn missing(field: &str) -> RegularizeError {
    RegularizeError::Case(format!("field `{field}` is missing or of the wrong kind"))
}

/// A recorded case, its numbers read.
pub(super) struct Case<'a> {
    pub(super) name: &'a str,
    args: &'a Value,
    pub(super) layer: Option<&'a str>,
    pub(super) inputs: BTreeMap<&'a str, (Vec<usize>, Vec<f32>)>,
    pub(super) output: Vec<f64>,
    pub(super) gradients: BTreeMap<&'a str, Vec<f64>>,
    pub(super) device: Device,
}

/// An input as a tensor that gathers a gradient.
pub(super) struct Leaf {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) flat: Tensor<1>,
}

impl Leaf {
    pub(super) fn shaped<const D: usize>(&self) -> Result<Tensor<D>, RegularizeError> {
        let shape: [usize; D] = self.shape.clone().try_into().map_err(|_| missing(&self.name))?;
        Ok(self.flat.clone().reshape(shape))
    }

    /// Rows and everything else.
    pub(super) fn matrix(&self) -> Tensor<2> {
        let rows = self.shape.first().copied().unwrap_or(1);
        let rest = self.shape.iter().skip(1).product::<usize>();
        self.flat.clone().reshape([rows, rest])
    }
}

pub(super) fn list(value: &Value, field: &str) -> Result<Vec<f64>, RegularizeError> {
    let numbers = value.as_array().ok_or_else(|| missing(field))?;
    numbers.iter().map(|number| number.as_f64().ok_or_else(|| missing(field))).collect()
}

impl<'a> Case<'a> {
    pub(super) fn read(
        name: &'a str,
        case: &'a Value,
        device: &Device,
    ) -> Result<Self, RegularizeError> {
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
            name,
            args: &case["args"],
            layer: case["layer"].as_str(),
            inputs,
            output: list(&case["output"], "output")?,
            gradients,
            device: device.clone().autodiff(),
        })
    }

    pub(super) fn arg(&self, name: &str) -> Result<f64, RegularizeError> {
        self.args[name].as_f64().ok_or_else(|| missing(name))
    }

    /// A number that may be absent.
    pub(super) fn arg_or(&self, name: &str, default: f64) -> Result<f64, RegularizeError> {
        if self.args[name].is_null() { Ok(default) } else { self.arg(name) }
    }

    /// What an L2 case calls its factor; half where it says nothing.
    pub(super) fn convention(&self) -> Result<L2Convention, RegularizeError> {
        match (&self.args["convention"], self.args["convention"].as_str()) {
            (Value::Null, _) | (_, Some("half")) => Ok(L2Convention::Half),
            (_, Some("full")) => Ok(L2Convention::Full),
            _ => Err(missing("convention")),
        }
    }

    /// Which parameters are penalized; weights where the case says nothing.
    pub(super) fn scope(&self) -> Result<PenaltyScope, RegularizeError> {
        match (&self.args["scope"], self.args["scope"].as_str()) {
            (Value::Null, _) | (_, Some("weights")) => Ok(PenaltyScope::Weights),
            (_, Some("all")) => Ok(PenaltyScope::All),
            _ => Err(missing("scope")),
        }
    }

    /// What a group is: units, inputs, or the slices along the axis of this number.
    pub(super) fn groups(&self) -> Result<LassoGroups, RegularizeError> {
        let groups = &self.args["groups"];
        match (groups, groups.as_str(), groups.as_u64()) {
            (Value::Null, ..) | (_, Some("units"), _) => Ok(LassoGroups::Units),
            (_, Some("inputs"), _) => Ok(LassoGroups::Inputs),
            (_, None, Some(axis)) => Ok(LassoGroups::Along(axis as usize)),
            _ => Err(missing("groups")),
        }
    }

    /// The axis that counts units; the layer's where the case says nothing.
    pub(super) fn axis(&self) -> Result<UnitAxis, RegularizeError> {
        match (&self.args["axis"], self.args["axis"].as_u64()) {
            (Value::Null, _) => Ok(UnitAxis::ByLayer),
            (_, Some(axis)) => Ok(UnitAxis::At(axis as usize)),
            _ => Err(missing("axis")),
        }
    }

    pub(super) fn leaf(&self, name: &str) -> Result<Leaf, RegularizeError> {
        let (shape, data) = self.inputs.get(name).ok_or_else(|| missing(name))?;
        let data = TensorData::new(data.clone(), [data.len()]);
        let flat = Tensor::from_data(data, (&self.device, DType::F32)).require_grad();
        Ok(Leaf { name: name.to_owned(), shape: shape.clone(), flat })
    }

    /// An input as it is, on the plain device.
    pub(super) fn plain<const D: usize>(&self, name: &str) -> Result<Tensor<D>, RegularizeError> {
        Ok(self.leaf(name)?.shaped::<D>()?.inner())
    }

    /// The recorded shares: one for all rows, or one for each.
    pub(super) fn shares(&self) -> Result<Vec<f64>, RegularizeError> {
        match self.args["lambda"].as_f64() {
            Some(lambda) => Ok(vec![lambda]),
            None => list(&self.args["lambda"], "lambda"),
        }
    }

    /// The recorded partners with these shares; a single one is that of all rows.
    pub(super) fn plan(&self, lambda: Vec<f64>) -> Result<MixPlan, RegularizeError> {
        let partners = list(&self.args["partners"], "partners")?;
        let count = partners.len();
        if partners.iter().any(|at| *at < 0.0 || at.fract() != 0.0 || *at >= count as f64) {
            return Err(missing("partners"));
        }
        let lambda = if let [all] = lambda.as_slice() { vec![*all; count] } else { lambda };
        if lambda.len() != count {
            return Err(missing("lambda"));
        }
        let partners = partners.into_iter().map(|partner| partner as usize).collect();
        Ok(MixPlan { partners, lambda })
    }

    /// The recorded targets, smoothed first where the case says so.
    pub(super) fn targets(&self) -> Result<Tensor<2>, RegularizeError> {
        let smoothing = self.arg_or("smoothing", 0.0)?;
        let smoothing = LabelSmoothingConfig::new().with_smoothing(smoothing).init()?;
        Ok(smoothing.smooth(self.plain::<2>("targets")?))
    }

    pub(super) fn labels(&self) -> Result<Tensor<1, Int>, RegularizeError> {
        let (_, data) = self.inputs.get("labels").ok_or_else(|| missing("labels"))?;
        let labels: Vec<i64> = data.iter().map(|&label| label as i64).collect();
        let count = labels.len();
        Ok(Tensor::from_data(TensorData::new(labels, [count]), &self.device.clone().inner()))
    }
}
