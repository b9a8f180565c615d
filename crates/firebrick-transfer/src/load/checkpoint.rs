//! A file of weights, opened and checked, of which no value has been read yet.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use burn::store::burn_pack::Tensor as Packed;
use burn::store::{BurnpackStore, ModuleStore, PytorchStore, SafetensorsStore, bridge};
use burn::tensor::{DType, TensorData};
use sha2::{Digest, Sha256};

use super::error::LoadError;
use super::format::Format;
use super::names::nearest;
use super::pickle;

/// The largest `*.pkl` entry of a zip archive that is looked at; burn's reader has the same limit.
const LARGEST_PICKLE: u64 = 100 << 20;

/// A file of weights: what it holds and where that came from.
///
/// Read through burn-store's readers: safetensors, PyTorch (`.pt`, `.pth`, zip or legacy) and burnpack, told apart by
/// content. Opening reads names, shapes and element types, and the SHA-256 of the whole file.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::store::{ModuleSnapshot, SafetensorsStore};
/// use firebrick_transfer::load::{Checkpoint, Format};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("linear.safetensors");
/// let model = LinearConfig::new(3, 2).init(&burn::tensor::Device::flex());
/// model.save_into(&mut SafetensorsStore::from_file(&path))?;
///
/// let file = Checkpoint::open(&path)?;
/// assert_eq!(file.format(), Format::Safetensors);
/// assert_eq!(file.shape("weight"), Some(vec![3, 2]));
/// # Ok(())
/// # }
/// ```
pub struct Checkpoint {
    path: PathBuf,
    format: Format,
    digest: String,
    bytes: u64,
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, Packed>,
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint")
            .field("path", &self.path)
            .field("format", &self.format)
            .field("digest", &self.digest)
            .field("tensors", &self.tensors.len())
            .finish_non_exhaustive()
    }
}

impl Checkpoint {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// [`LoadError::Io`], [`Empty`](LoadError::Empty), [`UnknownFormat`](LoadError::UnknownFormat),
    /// [`Damaged`](LoadError::Damaged) (truncated, offsets that lie, unsupported element types),
    /// [`PickleCode`](LoadError::PickleCode), [`Expansion`](LoadError::Expansion) and
    /// [`NoTensors`](LoadError::NoTensors).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LoadError> {
        Self::open_allowing(path, &[])
    }

    /// Opens a file whose pickle may also name `globals` (`module.name`), as a whole saved model names its classes.
    ///
    /// They are looked at as data: neither burn's reader nor this crate runs anything.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_allowing(path: impl AsRef<Path>, globals: &[&str]) -> Result<Self, LoadError> {
        let path = path.as_ref().to_path_buf();
        let io = |source| LoadError::Io { path: path.clone(), source };
        let content = std::fs::read(&path).map_err(io)?;
        if content.is_empty() {
            return Err(LoadError::Empty { path });
        }
        let format = Format::detect(&content[..content.len().min(512)])
            .map_err(|hint| LoadError::UnknownFormat { path: path.clone(), hint })?;
        let damaged = |reason: String| LoadError::Damaged { path: path.clone(), reason };
        if format.is_pytorch() {
            let mut names = match format {
                Format::PyTorchZip => zip_globals(&content),
                _ => legacy_globals(&content),
            }
            .map_err(damaged)?;
            names.retain(|name| !pickle::is_allowed(name) && !globals.contains(&name.as_str()));
            names.sort_unstable();
            names.dedup();
            if !names.is_empty() {
                return Err(LoadError::PickleCode { path, names });
            }
        }
        let bytes = content.len() as u64;
        let digest = hex(&Sha256::digest(&content));
        let metadata = match format {
            Format::Safetensors => safetensors_metadata(&content),
            _ => BTreeMap::new(),
        };
        let tensors = read(&path, format, content).map_err(damaged)?;
        let claimed =
            tensors.values().map(|tensor| tensor.byte_len() as u64).fold(0, u64::saturating_add);
        // Tensors that share a storage are claimed once each; archives that PyTorch writes are not compressed.
        let limit = bytes.saturating_mul(16).saturating_add(1 << 20);
        if claimed > limit {
            return Err(LoadError::Expansion { path, file: bytes, claimed, limit });
        }
        if tensors.is_empty() {
            return Err(LoadError::NoTensors { path });
        }
        Ok(Self { path, format, digest, bytes, metadata, tensors })
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its format.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// SHA-256 of the file, in hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Its length in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The text metadata of a safetensors file; empty for the other formats.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The names of its tensors, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of a tensor.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|tensor| tensor.shape.to_vec())
    }

    /// The element type of a tensor.
    #[must_use]
    pub fn dtype(&self, name: &str) -> Option<DType> {
        self.tensors.get(name).map(|tensor| tensor.dtype)
    }

    /// The values of a tensor as the file has them.
    ///
    /// # Errors
    ///
    /// [`LoadError::NoSuchTensor`], or [`LoadError::Damaged`] where the bytes cannot be read.
    pub fn values(&self, name: &str) -> Result<TensorData, LoadError> {
        if !self.tensors.contains_key(name) {
            let nearest = nearest(name, self.names(), 3);
            return Err(LoadError::NoSuchTensor { name: name.to_owned(), nearest });
        }
        self.read(name).map_err(|reason| LoadError::Damaged { path: self.path.clone(), reason })
    }

    /// The values of a tensor, or the reader's words.
    pub(super) fn read(&self, name: &str) -> Result<TensorData, String> {
        let tensor = self.tensors.get(name).ok_or_else(|| format!("no tensor `{name}`"))?;
        guarded(|| bridge::to_data(tensor).map_err(|error| error.to_string()))
    }
}

/// Runs burn's reader; a panic in it becomes an error.
fn guarded<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| cause.downcast_ref::<String>().cloned());
        Err(format!("the reader gave up: {}", text.unwrap_or_else(|| "without a word".to_owned())))
    })
}

fn read(path: &Path, format: Format, content: Vec<u8>) -> Result<BTreeMap<String, Packed>, String> {
    let all = |store: &mut dyn FnMut() -> Result<BTreeMap<String, Packed>, String>| guarded(store);
    match format {
        // From memory: a mapped file that shrinks while it is read would end the process.
        Format::Safetensors => {
            let mut store = SafetensorsStore::from_bytes(Some(content));
            all(&mut || store.get_all_tensors().cloned().map_err(|error| error.to_string()))
        }
        // Renumbering lists would shift the layers of a pruned network without a word.
        Format::PyTorchZip | Format::PyTorchLegacy => {
            let mut store = PytorchStore::from_file(path).map_indices_contiguous(false);
            all(&mut || store.get_all_tensors().cloned().map_err(|error| error.to_string()))
        }
        Format::Burnpack => {
            let mut store = BurnpackStore::from_file(path).auto_extension(false);
            all(&mut || store.get_all_tensors().cloned().map_err(|error| error.to_string()))
        }
    }
}

/// The globals of every pickle in a zip archive.
fn zip_globals(content: &[u8]) -> Result<Vec<String>, String> {
    let text = |error: zip::result::ZipError| error.to_string();
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(content)).map_err(text)?;
    let mut globals = Vec::new();
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(text)?;
        let name = entry.name().map_err(text)?.to_string();
        if !name.ends_with(".pkl") {
            continue;
        }
        let mut bytes = Vec::new();
        let read = entry.take(LARGEST_PICKLE + 1).read_to_end(&mut bytes);
        read.map_err(|error| format!("`{name}`: {error}"))?;
        if bytes.len() as u64 > LARGEST_PICKLE {
            return Err(format!("`{name}` unpacks to more than {LARGEST_PICKLE} bytes"));
        }
        let scan = pickle::scan(&bytes, 0).map_err(|reason| format!("`{name}`: {reason}"))?;
        globals.extend(scan.globals);
    }
    Ok(globals)
}

/// The globals of a legacy file's five pickles: magic number, version, system, object, keys.
fn legacy_globals(content: &[u8]) -> Result<Vec<String>, String> {
    let mut globals = Vec::new();
    let mut at = 0;
    for _ in 0..5 {
        let scan = pickle::scan(content, at)?;
        at = scan.end;
        globals.extend(scan.globals);
    }
    Ok(globals)
}

/// The `__metadata__` of a safetensors header; a header that cannot be read is the reader's to refuse.
fn safetensors_metadata(content: &[u8]) -> BTreeMap<String, String> {
    let length = content.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let end = usize::try_from(length).ok().and_then(|length| length.checked_add(8));
    let header = end.and_then(|end| content.get(8..end));
    let header = header.and_then(|header| serde_json::from_slice::<serde_json::Value>(header).ok());
    let metadata = header.as_ref().and_then(|header| header.get("__metadata__")?.as_object());
    let text = |(key, value): (&String, &serde_json::Value)| {
        Some((key.clone(), value.as_str()?.to_owned()))
    };
    metadata.map(|metadata| metadata.iter().filter_map(text).collect()).unwrap_or_default()
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
