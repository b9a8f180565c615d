//! The file format of adapters: safetensors, with the configuration in its metadata.

use super::state::Values;
use crate::TransferError;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

fn failed(path: &Path, reason: impl std::fmt::Display) -> TransferError {
    TransferError::File { path: path.to_owned(), reason: reason.to_string() }
}

const KEY: &str = "firebrick_adapter";

/// Writes tensors in f32 and a text beside them, whole or not at all.
pub(super) fn write(
    path: &Path,
    text: &str,
    tensors: &BTreeMap<String, Values>,
) -> Result<(), TransferError> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({ KEY: text }));
    let mut data = Vec::new();
    for (name, values) in tensors {
        let start = data.len();
        data.extend(values.values.iter().flat_map(|value| (*value as f32).to_le_bytes()));
        let offsets = [start, data.len()];
        let entry = json!({ "dtype": "F32", "shape": values.shape, "data_offsets": offsets });
        header.insert(name.clone(), entry);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(data);
    let beside = path.with_extension("unfinished");
    std::fs::write(&beside, bytes).map_err(|error| failed(path, error))?;
    std::fs::rename(&beside, path).map_err(|error| failed(path, error))
}

/// Reads what [`write`] wrote.
pub(super) fn read(path: &Path) -> Result<(String, BTreeMap<String, Values>), TransferError> {
    let bytes = std::fs::read(path).map_err(|error| failed(path, error))?;
    let cut = || failed(path, "it is cut off, or no safetensors file");
    let (length, rest) = bytes.split_at_checked(8).ok_or_else(cut)?;
    let length = length.try_into().map(u64::from_le_bytes).map_err(|_| cut())?;
    let length = usize::try_from(length).map_err(|_| cut())?;
    let (header, data) = rest.split_at_checked(length).ok_or_else(cut)?;
    let header: Value = serde_json::from_slice(header).map_err(|error| failed(path, error))?;
    let header = header.as_object().ok_or_else(cut)?;
    let text = header.get("__metadata__").and_then(|entry| entry.get(KEY)).and_then(Value::as_str);
    let text = text.ok_or_else(|| failed(path, "it holds no adapter of firebrick"))?;
    let mut tensors = BTreeMap::new();
    for (name, entry) in header.iter().filter(|(name, _)| *name != "__metadata__") {
        if entry.get("dtype").and_then(Value::as_str) != Some("F32") {
            return Err(failed(path, format_args!("`{name}` is not of type F32")));
        }
        let numbers = |field: &str| -> Option<Vec<usize>> {
            let list = entry.get(field)?.as_array()?;
            list.iter().map(|number| Some(number.as_u64()? as usize)).collect()
        };
        let (shape, offsets) = numbers("shape").zip(numbers("data_offsets")).ok_or_else(cut)?;
        let count = shape.iter().try_fold(1usize, |count, size| count.checked_mul(*size));
        let part = match offsets.as_slice() {
            [start, end] => data.get(*start..*end),
            _ => None,
        };
        let part = part.ok_or_else(cut)?;
        if count.and_then(|count| count.checked_mul(4)) != Some(part.len()) {
            return Err(failed(
                path,
                format_args!("`{name}` has other bytes than its shape asks for"),
            ));
        }
        let number =
            |bytes: &[u8]| bytes.try_into().map_or(f64::NAN, |b| f64::from(f32::from_le_bytes(b)));
        let values = part.chunks_exact(4).map(number).collect();
        tensors.insert(name.clone(), Values { shape, values });
    }
    Ok((text.to_owned(), tensors))
}
