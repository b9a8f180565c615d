//! Tells the format of a file by its first bytes, never by its name.

use serde::{Deserialize, Serialize};

/// The format of a file of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Format {
    /// safetensors.
    Safetensors,
    /// PyTorch's zip archive, since 1.6.
    PyTorchZip,
    /// PyTorch's stream of pickles, 0.1.10 to 1.5.
    PyTorchLegacy,
    /// burn's own.
    Burnpack,
}

impl Format {
    /// Whether PyTorch wrote it.
    #[must_use]
    pub fn is_pytorch(self) -> bool {
        matches!(self, Self::PyTorchZip | Self::PyTorchLegacy)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::PyTorchZip => "PyTorch zip",
            Self::PyTorchLegacy => "PyTorch legacy pickle",
            Self::Burnpack => "burnpack",
        }
    }

    /// The format that a file with these first bytes has, or what it looks like instead.
    pub(super) fn detect(head: &[u8]) -> Result<Self, String> {
        if head.starts_with(b"PK\x03\x04") {
            return Ok(Self::PyTorchZip);
        }
        if head.starts_with(b"PK\x05\x06") {
            return Err("it is an empty zip archive".to_owned());
        }
        if head.starts_with(&0x4255_524E_u32.to_le_bytes()) {
            return Ok(Self::Burnpack);
        }
        if head.get(257..262) == Some(b"ustar") {
            return Err("it is a tar archive, PyTorch's format before 0.1.10; load it with an old PyTorch and save \
                        its `state_dict` again"
                .to_owned());
        }
        if head.len() > 8 && head[8] == b'{' {
            return Ok(Self::Safetensors);
        }
        if is_legacy(head) {
            return Ok(Self::PyTorchLegacy);
        }
        Err(hint(head))
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// The magic number 0x1950a86a20f9469cfc6c, as protocols from 2 on and as 0 and 1 write it.
fn is_legacy(head: &[u8]) -> bool {
    const BYTES: &[u8] = &[0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
    const TEXT: &[u8] = b"119547037146038801333356";
    let window = &head[..head.len().min(64)];
    let holds = |magic: &[u8]| window.windows(magic.len()).any(|piece| piece == magic);
    holds(BYTES) || holds(TEXT)
}

fn hint(head: &[u8]) -> String {
    let text = String::from_utf8_lossy(head);
    if text.starts_with("version https://git-lfs") {
        return "it is a Git LFS pointer; fetch the file itself with `git lfs pull`".to_owned();
    }
    if text.trim_start().starts_with('<') {
        return "it is a web page, probably an error page saved under the file's name".to_owned();
    }
    if head.starts_with(&[0x1f, 0x8b]) {
        return "it is compressed with gzip; decompress it first".to_owned();
    }
    if head.starts_with(b"\x89HDF") {
        return "it is HDF5 (Keras); convert it to safetensors first".to_owned();
    }
    if head.first() == Some(&0x80) {
        return "it is a pickle without PyTorch's container, so its tensors are not in it"
            .to_owned();
    }
    let bytes: Vec<String> = head.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("it begins with the bytes {}", bytes.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_content() {
        assert_eq!(Format::detect(b"PK\x03\x04rest"), Ok(Format::PyTorchZip));
        assert_eq!(Format::detect(b"NRUB\x01\x00"), Ok(Format::Burnpack));
        assert_eq!(Format::detect(b"\x10\0\0\0\0\0\0\0{\"a\":1}"), Ok(Format::Safetensors));
        assert_eq!(
            Format::detect(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."),
            Ok(Format::PyTorchLegacy)
        );
        assert_eq!(Format::detect(b"L119547037146038801333356L\n."), Ok(Format::PyTorchLegacy));
        assert!(Format::Burnpack.name() != Format::PyTorchZip.to_string());
    }

    #[test]
    fn what_is_no_checkpoint_is_called_by_its_name() {
        for (head, word) in [
            (&b"version https://git-lfs.github.com/spec/v1"[..], "LFS"),
            (b"<!DOCTYPE html>", "web page"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"\x89HDF\r\n", "HDF5"),
            (b"\x80\x04}.", "pickle"),
            (b"PK\x05\x06", "empty zip"),
            (b"\x01\x02", "01 02"),
            (b"", "bytes"),
        ] {
            let hint = Format::detect(head).expect_err("no checkpoint");
            assert!(hint.contains(word), "{hint}");
        }
    }
}
