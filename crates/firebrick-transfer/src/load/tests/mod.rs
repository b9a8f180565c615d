//! Tests of the whole way from a file to a model.

mod bad_input;
mod forms;
mod plan;
mod references;

use std::path::PathBuf;

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{
    BatchNorm, BatchNormConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig, PaddingConfig2d,
};
use burn::store::{ModuleSnapshot, SafetensorsStore};
use burn::tensor::{Device, Tensor, TensorData, activation};

use super::inventory::inventory;

/// The network of tests/references/transfer_load.py: convolution, batch norm, a square and a last matrix, layer norm.
#[derive(Module, Debug)]
pub(super) struct Small {
    pub(super) conv: Conv2d,
    pub(super) bn: BatchNorm,
    pub(super) fc1: Linear,
    pub(super) norm: LayerNorm,
    pub(super) fc2: Linear,
}

impl Small {
    pub(super) fn new(channels: usize, classes: usize) -> Self {
        let device = Device::flex();
        Self {
            conv: Conv2dConfig::new([channels, 4], [3, 3])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(&device),
            bn: BatchNormConfig::new(4).init(&device),
            fc1: LinearConfig::new(4, 4).init(&device),
            norm: LayerNormConfig::new(4).init(&device),
            fc2: LinearConfig::new(4, classes).init(&device),
        }
    }

    pub(super) fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = activation::relu(self.bn.forward(self.conv.forward(images)));
        let x = x.mean_dim(3).mean_dim(2).flatten::<2>(1, 3);
        self.fc2.forward(self.norm.forward(activation::relu(self.fc1.forward(x))))
    }
}

/// A parameter of a user's own, which is no layer's matrix.
#[derive(Module, Debug)]
pub(super) struct Bare {
    pub(super) weight: Param<Tensor<2>>,
}

impl Bare {
    pub(super) fn new(shape: [usize; 2]) -> Self {
        Self { weight: Param::from_tensor(Tensor::zeros(shape, &Device::flex())) }
    }
}

/// Every parameter's path, shape, element type and bits.
pub(super) fn bits<M: Module>(model: &M) -> Vec<(String, Vec<usize>, String, Vec<u8>)> {
    inventory(model)
        .into_iter()
        .map(|slot| {
            (slot.path, slot.shape, format!("{:?}", slot.dtype), slot.data.as_bytes().to_vec())
        })
        .collect()
}

/// A file with these bytes in a folder that lives as long as the first value.
pub(super) fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("weights");
    std::fs::write(&path, bytes).expect("a file");
    (folder, path)
}

/// The model as burn writes it to safetensors.
pub(super) fn saved<M: Module>(model: &M) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("weights.safetensors");
    model.save_into(&mut SafetensorsStore::from_file(&path)).expect("saved");
    (folder, path)
}

/// A safetensors file of f32 tensors, with a text of metadata if given.
pub(super) fn safetensors(tensors: &[(&str, &[usize], &[f32])], format: Option<&str>) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    if let Some(format) = format {
        header.insert("__metadata__".into(), serde_json::json!({ "format": format }));
    }
    let mut data = Vec::new();
    for (name, shape, values) in tensors {
        let from = data.len();
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let entry = serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [from, data.len()] });
        header.insert((*name).to_owned(), entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

/// The recorded references.
pub(super) fn references() -> serde_json::Value {
    let text = include_str!("../../../../../tests/references/transfer_load.json");
    serde_json::from_str(text).expect("the recorded references")
}

/// The bytes behind hexadecimal digits.
pub(super) fn unhex(value: &serde_json::Value) -> Vec<u8> {
    let digits = value.as_str().expect("hexadecimal digits");
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("two digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// A recorded tensor as f64 values and its shape.
pub(super) fn recorded(value: &serde_json::Value) -> (Vec<f64>, Vec<usize>) {
    let list = |key: &str| value[key].as_array().expect("a list").clone();
    let values = list("values").iter().map(|value| value.as_f64().expect("a number")).collect();
    let shape =
        list("shape").iter().map(|value| value.as_u64().expect("a size") as usize).collect();
    (values, shape)
}

/// The values at a path of a model.
pub(super) fn values<M: Module>(model: &M, path: &str) -> Vec<f64> {
    let slot = inventory(model).into_iter().find(|slot| slot.path == path).expect("the path");
    slot.data.iter::<f64>().collect()
}

/// A recorded tensor in the element type in which it was recorded.
pub(super) fn tensor(value: &serde_json::Value) -> TensorData {
    let (values, shape) = recorded(value);
    let data = TensorData::new(values, shape);
    match value["dtype"].as_str() {
        Some("float16") => data.convert_dtype(burn::tensor::DType::F16),
        _ => data.convert_dtype(burn::tensor::DType::F32),
    }
}
